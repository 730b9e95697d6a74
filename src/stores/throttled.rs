//! Asks an account no more than it bears. Goes around [`Metered`](super::Metered) and inside [`Retrying`](super::Retrying), so
//! that every try passes here and what is held back is not counted as sent.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use tracing::{info, warn};

use super::{
    ErrorKind, Message, Operation, Page, Query, Queue, Scope, StorageClock, StoreError, Tables, TransactionError,
};
use crate::model::{AccountName, ClosedList, Etag, PartitionKey, Region, Row, RowKey, TableName, Time};
use crate::planted::{Bug, planted};
use crate::runtime::Runtime;
use crate::telemetry::{Event, metrics};
use crate::throttle::{Reply, Target, Throttle, Trouble, Turn};

/// Where every request to one account passes, whoever sends it: the rule of [`throttle`](crate::throttle), with a clock.
#[derive(Debug)]
pub struct Gate {
    region: Region,
    account: AccountName,
    runtime: Runtime,
    throttle: Mutex<Throttle>,
    told: Mutex<Option<Instant>>,
}

/// An account that asked for less, for whoever watches.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct ThrottledAccount {
    /// Its region.
    pub region: Region,
    /// Its name.
    pub account: AccountName,
    /// Since when, by this daemon's clock.
    pub since: Time,
    /// Whether nothing but probes is sent.
    pub shut: bool,
    /// Rows a second that it is asked at most, where it is limited as a whole.
    pub rows_per_second: Option<u64>,
    /// Partitions that asked for less, as far as they are remembered.
    pub partitions: usize,
    /// How often it has asked for less since then.
    pub throttled: u64,
    /// Requests that were not sent since then.
    pub held_back: u64,
}

impl Gate {
    fn new(region: Region, account: AccountName, runtime: Runtime, patience: Duration) -> Arc<Self> {
        let throttle = Mutex::new(Throttle::new(patience));
        Arc::new(Self { region, account, runtime, throttle, told: Mutex::default() })
    }

    /// Whether something that failed may be asked again at once.
    pub fn spares_a_repeat(&self) -> bool {
        self.throttle().spares_a_repeat(self.runtime.instant())
    }

    /// How the account is, where it is in trouble. One line when that begins, one when it is over.
    pub fn tell(&self) -> Option<ThrottledAccount> {
        let now = self.runtime.instant();
        let trouble = self.throttle().trouble(now);
        let before = std::mem::replace(
            &mut *self.told.lock().unwrap_or_else(PoisonError::into_inner),
            trouble.map(|trouble| trouble.since),
        );
        let (region, account) = (&self.region, &self.account);
        metrics::account_throttled(region, account, trouble.is_some());
        match (before, trouble) {
            (None, Some(trouble)) => warn!(
                event = Event::AccountThrottled.as_str(), %region, %account, shut = trouble.shut,
                partitions = trouble.partitions, "the account asks for less; it is asked less until it bears more again"
            ),
            (Some(since), None) => {
                let after = now - since;
                info!(event = Event::AccountUnthrottled.as_str(), %region, %account, ?after,
                    "recovered after {after:.1?}: the account bears what it bore before");
            }
            _ => {}
        }
        trouble.map(|trouble| self.told_of(&trouble, now))
    }

    fn told_of(&self, trouble: &Trouble, now: Instant) -> ThrottledAccount {
        ThrottledAccount {
            region: self.region.clone(),
            account: self.account.clone(),
            since: self.runtime.now() - (now - trouble.since),
            shut: trouble.shut,
            rows_per_second: trouble.rows_per_second.map(|rows| rows as u64),
            partitions: trouble.partitions,
            throttled: trouble.throttled,
            held_back: trouble.held_back,
        }
    }

    /// Lets a request pass when it is its turn, and takes in how it ended.
    async fn pass<T, E: From<StoreError>>(
        &self,
        target: Target<'_>,
        request: impl Future<Output = Result<T, E>>,
        error: impl Fn(&mut E) -> &mut StoreError,
    ) -> Result<T, E> {
        let admitted = self.runtime.instant();
        let turn = self.throttle().admit(&target, admitted, |most| self.runtime.jitter(most));
        match turn {
            Turn::Go => {}
            Turn::Wait(wait) => {
                tokio::time::sleep(wait).await;
                let now = self.runtime.instant();
                let still = self.throttle().still(&target, admitted, now);
                still.map_err(|again| self.held_back(again))?;
            }
            Turn::HeldBack(again) => return Err(self.held_back(again).into()),
        }
        let sent = self.runtime.instant();
        let mut result = request.await;
        if planted(Bug::RetryAfterIgnored)
            && let Err(failure) = &mut result
        {
            error(failure).retry_after = None;
        }
        let reply = match &mut result {
            Ok(_) => Reply::Answered,
            Err(failure) => reply(error(failure)),
        };
        let now = self.runtime.instant();
        self.throttle().ended(&target, sent, reply, now, |most| self.runtime.jitter(most));
        result
    }

    fn held_back(&self, again: Duration) -> StoreError {
        metrics::held_back(&self.region, &self.account);
        StoreError::held_back(again)
    }

    fn throttle(&self) -> MutexGuard<'_, Throttle> {
        self.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn reply(error: &StoreError) -> Reply {
    match error.kind {
        ErrorKind::Throttled => Reply::Throttled(error.retry_after),
        ErrorKind::Server | ErrorKind::Unreachable => Reply::Failed,
        _ => Reply::Answered,
    }
}

fn itself(error: &mut StoreError) -> &mut StoreError {
    error
}

/// A [`Tables`] that is asked no more than it bears: see [`throttle`](crate::throttle).
#[derive(Debug)]
pub struct Throttled {
    inner: Arc<dyn Tables>,
    gate: Arc<Gate>,
}

impl Throttled {
    /// A gate for the account of `inner`. A request waits for its turn no longer than `patience`; beyond that it fails at once.
    pub fn new(inner: Arc<dyn Tables>, runtime: Runtime, patience: Duration) -> Arc<Self> {
        let gate = Gate::new(inner.region().clone(), inner.account().clone(), runtime, patience);
        Arc::new(Self { inner, gate })
    }
}

#[async_trait]
impl Tables for Throttled {
    fn region(&self) -> &Region {
        self.inner.region()
    }

    fn account(&self) -> &AccountName {
        self.inner.account()
    }

    fn clock(&self) -> &StorageClock {
        self.inner.clock()
    }

    fn endpoint(&self) -> Option<&str> {
        self.inner.endpoint()
    }

    fn gate(&self) -> Option<&Arc<Gate>> {
        Some(&self.gate)
    }

    async fn get(&self, table: &TableName, partition: &PartitionKey, row: &RowKey) -> Result<Option<Row>, StoreError> {
        let target = Target { partition: Some((table, partition)), rows: 1 };
        self.gate.pass(target, self.inner.get(table, partition, row), itself).await
    }

    async fn query(&self, table: &TableName, query: &Query) -> Result<Page, StoreError> {
        let partition = match &query.scope {
            Scope::Partition { partition, .. } => Some((table, partition)),
            Scope::Table | Scope::Partitions { .. } => None,
        };
        self.gate.pass(Target { partition, rows: 1 }, self.inner.query(table, query), itself).await
    }

    async fn write(&self, table: &TableName, operation: &Operation) -> Result<Option<Etag>, StoreError> {
        let target = Target { partition: Some((table, operation.partition())), rows: 1 };
        self.gate.pass(target, self.inner.write(table, operation), itself).await
    }

    async fn transact(
        &self,
        table: &TableName,
        partition: &PartitionKey,
        operations: &[Operation],
    ) -> Result<Vec<Option<Etag>>, TransactionError> {
        let target = Target { partition: Some((table, partition)), rows: operations.len() };
        let request = self.inner.transact(table, partition, operations);
        self.gate.pass(target, request, |failure: &mut TransactionError| &mut failure.error).await
    }

    async fn create_table(&self, table: &TableName) -> Result<bool, StoreError> {
        self.gate.pass(Target { partition: None, rows: 1 }, self.inner.create_table(table), itself).await
    }

    async fn delete_table(&self, table: &TableName) -> Result<bool, StoreError> {
        self.gate.pass(Target { partition: None, rows: 1 }, self.inner.delete_table(table), itself).await
    }

    async fn tables(&self) -> Result<Vec<TableName>, StoreError> {
        self.gate.pass(Target { partition: None, rows: 1 }, self.inner.tables(), itself).await
    }
}

/// The queue of an account, whose requests pass the gate of its tables: it is one account.
#[derive(Debug)]
pub struct ThrottledQueue {
    inner: Arc<dyn Queue>,
    gate: Arc<Gate>,
}

impl ThrottledQueue {
    /// A queue of the account that `tables` belongs to.
    pub fn beside(tables: &Throttled, inner: Arc<dyn Queue>) -> Arc<Self> {
        Arc::new(Self { inner, gate: tables.gate.clone() })
    }
}

/// What a request to the queue is to the account.
const ONE: Target<'static> = Target { partition: None, rows: 1 };

#[async_trait]
impl Queue for ThrottledQueue {
    async fn create(&self) -> Result<(), StoreError> {
        self.gate.pass(ONE, self.inner.create(), itself).await
    }

    async fn receive(&self, max: u8, hidden: Duration) -> Result<Vec<Message>, StoreError> {
        self.gate.pass(ONE, self.inner.receive(max, hidden), itself).await
    }

    async fn delete(&self, message: &Message) -> Result<(), StoreError> {
        self.gate.pass(ONE, self.inner.delete(message), itself).await
    }

    async fn send(&self, text: &str) -> Result<(), StoreError> {
        self.gate.pass(ONE, self.inner.send(text), itself).await
    }
}
