//! The queue form: messages become records with their tombstones.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::health::Backoff;
use super::over::{bring_home, routes_of};
use super::quarantine::{Quarantine, check};
use super::single::{Single, Unsettled, raise};
use super::tombstones::Tombstones;
use crate::feed::{Malformed, Reason, Shard, decode_message, decode_record, encode_numbered, split};
use crate::model::{Change, ClosedList, RowId, SystemTable, Tombstone};
use crate::planted::{Bug, planted};
use crate::runtime::Runtime;
use crate::stores::{ErrorKind, Message, Operation, Queue, RegionStore, Remedy, StoreError, Tables};
use crate::telemetry::{Event, Spell};
use crate::topology::TableFilter;

/// Azure: at most 32 messages a receive.
const MESSAGES: u8 = 32;
/// How long a received message is hidden from a second daemon.
const HIDDEN: Duration = Duration::from_secs(60);
/// How many numbers are tried for a record, and how often a tombstone that others keep raising: as many as the messages
/// that a writer may send for the rows of one transaction.
const ATTEMPTS: usize = 100;

/// Reads the queue of one account.
#[derive(Debug)]
pub(super) struct QueueReader {
    pub tables: Arc<dyn Tables>,
    pub queue: Arc<dyn Queue>,
    pub region: RegionStore,
    pub single: Single,
    pub tombstones: Tombstones,
    pub quarantine: Arc<Quarantine>,
    pub filter: TableFilter,
    pub max_clock_skew: Duration,
    /// Half a settle window: older routes say nothing, and nothing is written by an older look.
    pub routes_stale: Duration,
    pub poll_busy: Duration,
    pub poll_idle: Duration,
    pub backoff: Backoff,
    pub runtime: Runtime,
}

impl QueueReader {
    /// Reads until it is stopped. A message under way then comes back when its time is up.
    pub async fn run(mut self: Box<Self>, stop: CancellationToken) {
        let (mut wait, spell) = (self.poll_busy, Spell::default());
        loop {
            let result = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                result = self.round() => result,
            };
            wait = match result {
                Ok(messages) => {
                    self.backoff.reset();
                    if let Some(past) = spell.worked() {
                        let (after, failures) = (past.after, past.failures);
                        info!(event = Event::QueueRecovered.as_str(), account = %self.tables.account(), ?after, failures,
                            "recovered after {after:.1?}: the queue of changes can be read again");
                    }
                    if messages > 0 { self.poll_busy } else { (wait * 2).min(self.poll_idle) }
                }
                Err(error) => {
                    if spell.failed() {
                        warn!(event = Event::QueueFailing.as_str(), account = %self.tables.account(), %error,
                            "the queue of changes fails; trying again");
                    }
                    self.backoff.next(&self.runtime, error.retry_after)
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Receives once; says how many messages there were.
    async fn round(&mut self) -> Result<usize, StoreError> {
        let messages = self.queue.receive(MESSAGES, HIDDEN).await?;
        for message in &messages {
            if planted(Bug::MessageFirst) {
                self.queue.delete(message).await?;
            }
            match self.take(message).await {
                Ok(()) => self.queue.delete(message).await?,
                // Others keep writing these rows: the message comes back.
                Err(Unsettled::LookAgain) => {}
                Err(Unsettled::Failed(error)) => return Err(error),
            }
        }
        Ok(messages.len())
    }

    async fn take(&self, message: &Message) -> Result<(), Unsettled> {
        let now = self.tables.clock().at(self.runtime.instant()).unwrap_or_else(|| self.runtime.now());
        let checked = decode_message(&message.text).and_then(|change| {
            check(&change, &self.filter, now, self.max_clock_skew)?;
            Ok(change)
        });
        let checked = match checked {
            Ok(change) => match self.bring_home(&change).await {
                Ok(()) => Ok(change),
                Err(error) if error.remedy() == Remedy::GiveUp => Err(never_home(&error)),
                Err(error) => return Err(error.into()),
            },
            malformed => malformed,
        };
        match checked {
            Ok(change) => self.announce(&change).await,
            Err(why) => Ok(self.quarantine.message(self.tables.account(), &message.text, &why).await?),
        }
    }

    /// The records, with their tombstones beside them, then the deletes enforced here (R5): a delete that comes by queue
    /// has been done already, so a row that stands again at an older version is one that must go.
    async fn announce(&self, change: &Change) -> Result<(), Unsettled> {
        let unencodable = |error: crate::feed::EncodeError| StoreError::new(ErrorKind::Invalid, error.to_string());
        let parts = split(change).map_err(unencodable)?;
        for (number, part) in parts.iter().enumerate() {
            self.insert(part, number, parts.len()).await?;
        }
        for (id, _) in change.rows().filter(|(_, delete)| *delete) {
            self.single.enforce_delete(&id, &change.version).await?;
        }
        Ok(())
    }

    /// What was written in the account of this queue and belongs into another one, by a writer that goes by old routes: it is told by the queue
    /// of the same account. While rows move, or where it is their cold place, a copy may lie there.
    async fn bring_home(&self, change: &Change) -> Result<(), StoreError> {
        routes_of(&self.region, self.runtime.instant(), self.routes_stale)?;
        if self.region.published().is_some_and(|published| published.moving.is_some()) {
            return Ok(());
        }
        if self.region.is_cold_place(self.tables.account(), &change.table, &change.partition) {
            return Ok(());
        }
        let puts: Vec<RowId> = change.rows().filter(|(_, delete)| !delete).map(|(id, _)| id).collect();
        bring_home(&self.region, (&self.tables, &puts.iter().collect::<Vec<_>>()), self.routes_stale, true).await
    }

    /// Inserts one part's record, with tombstones beside it. A record that stands already under its number is its own,
    /// where the message came twice, or that of another change of this version, as where a writer sends a transaction in
    /// several messages: then the part takes the next number that is free, `parts` further on.
    async fn insert(&self, part: &Change, mut number: usize, parts: usize) -> Result<(), Unsettled> {
        let shard = Shard::of(&part.table, &part.partition).partition();
        // The rows' account, which need not be the one whose queue the message came by.
        let tables = self.region.holding(&part.table, &part.partition);
        let mut announced = false;
        for _ in 0..ATTEMPTS {
            let record = encode_numbered(part, number);
            let key = record.row().clone();
            let record = (!announced).then_some(Operation::Insert(record));
            let deleted: Vec<RowId> = part.rows().filter(|(_, delete)| *delete).map(|(id, _)| id).collect();
            let there = self.tombstones.of_rows(&deleted.iter().collect::<Vec<_>>()).await?;
            let raises = deleted.into_iter().filter_map(|id| {
                let tomb = there.get(&id);
                raise(&Tombstone { id: id.clone(), version: part.version.clone() }, tomb)
            });
            let operations: Vec<Operation> = record.into_iter().chain(raises).collect();
            if operations.is_empty() {
                return Ok(());
            }
            match tables.transact(&SystemTable::Feed.name(), &shard, &operations).await {
                Ok(_) => return Ok(()),
                Err(failure) if failure.error.kind == ErrorKind::AlreadyExists && failure.index == Some(0) => {
                    match tables.get(&SystemTable::Feed.name(), &shard, &key).await? {
                        Some(row) if decode_record(&row).is_ok_and(|stands| stands.change == *part) => announced = true,
                        Some(_) => number += parts,
                        // It has ended meanwhile: its number is free again.
                        None => {}
                    }
                }
                Err(failure) => match Unsettled::from(failure) {
                    Unsettled::LookAgain => {}
                    failed => return Err(failed),
                },
            }
        }
        Err(Unsettled::LookAgain)
    }
}

fn never_home(error: &StoreError) -> Malformed {
    Malformed::new(
        Reason::Refused,
        format!("a row of it lies where no route leads, and is refused where they lead: {error}"),
    )
}
