//! A queue in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::errors;
use super::faults::{Faults, Request, RequestKind};
use super::wire::Wire;
use crate::runtime::Runtime;
use crate::stores::{Message, Queue, StoreError, limits};

/// How long a message is kept.
const TIME_TO_LIVE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// A queue of messages in memory, with Azure's limits: a message is at most 64 KiB, is hidden for whole seconds from one
/// to seven days, and is gone after seven days.
#[derive(Debug)]
pub struct MemoryQueue {
    name: String,
    wire: Wire,
    messages: Messages,
}

/// What a queue holds; nothing before it is created.
pub(super) type Messages = Arc<Mutex<Option<State>>>;

#[derive(Debug, Default)]
pub(super) struct State {
    sent: u64,
    messages: BTreeMap<u64, Stored>,
    /// The messages by the time from which they can be received, then by age.
    visible: BTreeSet<(Instant, u64)>,
}

#[derive(Debug)]
struct Stored {
    text: String,
    dequeue_count: u32,
    visible_at: Instant,
    expires_at: Instant,
}

impl MemoryQueue {
    /// A queue that is to be created yet, with faults of its own.
    pub fn new(name: &str, runtime: Runtime) -> Arc<Self> {
        Self::beside(name, runtime, Faults::new(), Messages::default())
    }

    /// The queue of an account that holds these messages, by the line that `faults` belong to.
    pub(super) fn beside(name: &str, runtime: Runtime, faults: Faults, messages: Messages) -> Arc<Self> {
        Arc::new(Self { name: name.to_owned(), wire: Wire::new(runtime, faults), messages })
    }

    /// The queue's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The handle to what goes wrong with requests to this queue.
    pub fn faults(&self) -> Faults {
        self.wire.faults.clone()
    }

    /// How many messages it holds, hidden ones included, past latency and faults.
    pub fn len(&self) -> usize {
        self.lock().as_ref().map_or(0, |state| state.messages.len())
    }

    /// Whether it holds no message.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Option<State>> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, act: impl FnOnce(&mut State, Instant) -> T) -> Result<T, StoreError> {
        let now = self.wire.runtime.instant();
        self.lock().as_mut().map(|state| act(state, now)).ok_or_else(errors::no_queue)
    }
}

#[async_trait]
impl Queue for MemoryQueue {
    async fn create(&self) -> Result<(), StoreError> {
        let effect = |_| {
            self.lock().get_or_insert_default();
            Ok(())
        };
        self.wire.carry(&Request::new(RequestKind::CreateQueue), effect).await
    }

    async fn receive(&self, max: u8, hidden: Duration) -> Result<Vec<Message>, StoreError> {
        let effect = |_| {
            let seconds = limits::check_receive(max, hidden).map_err(errors::refused)?;
            let hidden = Duration::from_secs(seconds.into());
            self.with(|state, now| state.receive(max, hidden, now))
        };
        self.wire.carry(&Request::new(RequestKind::Receive), effect).await
    }

    async fn delete(&self, message: &Message) -> Result<(), StoreError> {
        let effect = |_| self.with(|state, _| state.delete(message));
        self.wire.carry(&Request::new(RequestKind::DeleteMessage), effect).await
    }

    async fn send(&self, text: &str) -> Result<(), StoreError> {
        let effect = |_| {
            limits::check_message(text).map_err(errors::refused)?;
            self.with(|state, now| state.send(text, now))
        };
        self.wire.carry(&Request::new(RequestKind::Send), effect).await
    }
}

impl State {
    fn send(&mut self, text: &str, now: Instant) {
        let number = self.sent;
        self.sent += 1;
        let stored =
            Stored { text: text.to_owned(), dequeue_count: 0, visible_at: now, expires_at: now + TIME_TO_LIVE };
        self.messages.insert(number, stored);
        self.visible.insert((now, number));
    }

    fn receive(&mut self, max: u8, hidden: Duration, now: Instant) -> Vec<Message> {
        let mut received = Vec::new();
        while received.len() < usize::from(max) {
            let Some(&(visible_at, number)) = self.visible.first().filter(|(at, _)| *at <= now) else { break };
            self.visible.remove(&(visible_at, number));
            let Some(stored) = self.messages.get_mut(&number) else { continue };
            if stored.expires_at <= now {
                self.messages.remove(&number);
                continue;
            }
            stored.dequeue_count += 1;
            stored.visible_at = now + hidden;
            self.visible.insert((stored.visible_at, number));
            received.push(Message {
                id: id(number),
                pop_receipt: receipt(number, stored),
                text: stored.text.clone(),
                dequeue_count: stored.dequeue_count,
            });
        }
        received
    }

    /// A stale receipt deletes nothing, which is no error: the message will come back.
    fn delete(&mut self, message: &Message) {
        let number = message.pop_receipt.split_once('-').and_then(|(number, _)| number.parse().ok());
        let Some((number, stored)) = number.and_then(|number| Some((number, self.messages.get(&number)?))) else {
            return;
        };
        if id(number) == message.id && receipt(number, stored) == message.pop_receipt {
            self.visible.remove(&(stored.visible_at, number));
            self.messages.remove(&number);
        }
    }
}

fn id(number: u64) -> String {
    uuid::Uuid::from_u128(u128::from(number)).to_string()
}

/// Each receiving makes a new one.
fn receipt(number: u64, stored: &Stored) -> String {
    format!("{number}-{}", stored.dequeue_count)
}
