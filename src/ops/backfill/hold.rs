//! Who holds a table's backfill, and writes its ledger: one at a time.
//!
//! A hold is a lease in the head, by the storage clock of the region that is copied from. It is renewed by whatever is written, and
//! by [`renew`](Hold::renew) where nothing is. Every write is one transaction of the head, on its ETag, and a range: one whose hold was
//! taken over writes nothing any more, however long it was stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::error::BackfillError;
use super::ledger::{BackfillState, Head, PARTITION, Range, heads_of, ranges_of};
use crate::model::{Etag, PartitionKey, Region, Row, RowKey, SystemTable, TableName, Time};
use crate::ops::patient::{or_nothing, patiently};
use crate::replicator::create_missing;
use crate::runtime::Runtime;
use crate::stores::limits::MAX_OPERATIONS;
use crate::stores::{Condition, ErrorKind, Operation, Query, RegionStore, Remedy, StoreError};

/// For how long a table is held from each write on, and how long it may go without one.
pub(super) const LEASE: Duration = Duration::from_secs(15);
pub(super) const RENEW: Duration = Duration::from_secs(4);
/// Between two looks at a hold that is about to run out.
const LOOK: Duration = Duration::from_secs(1);
/// How often a write is tried, most of a minute in all, and the pause before the next try, which grows.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(250);
/// How often somebody tries to write between two writes of whoever is at work.
const BETWEEN: u32 = 50;

/// The ledgers of a pair of regions, for one who may hold some of them.
#[derive(Debug)]
pub(super) struct Hold {
    pub store: RegionStore,
    pub from: Region,
    pub to: Region,
    /// How others see who holds it.
    pub owner: String,
    pub runtime: Runtime,
    /// Cancelled once somebody has paused it.
    pub paused: CancellationToken,
    held: Mutex<BTreeMap<TableName, Held>>,
}

/// A table that is held.
#[derive(Debug)]
struct Held {
    head: Head,
    etag: Etag,
    written: Instant,
}

impl Hold {
    /// One that holds nothing yet. The ledger stands in `store`.
    pub fn new(store: RegionStore, to: Region, owner: String, runtime: Runtime) -> Self {
        let (from, paused, held) = (store.region().clone(), CancellationToken::new(), Mutex::default());
        Self { store, from, to, owner, runtime, paused, held }
    }

    /// The storage clock.
    pub fn now(&self) -> Time {
        self.store.home().clock().at(self.runtime.instant()).unwrap_or_else(|| self.runtime.now())
    }

    /// What it holds.
    pub async fn heads_held(&self) -> BTreeMap<TableName, Head> {
        self.held.lock().await.iter().map(|(table, held)| (table.clone(), held.head.clone())).collect()
    }

    /// All heads of the pair. Where a start was cut off before all of its tables were noted, it has not begun.
    pub async fn heads(&self) -> Result<Vec<(Head, Etag)>, BackfillError> {
        let mut heads = self.all_heads().await?;
        let begun: BTreeSet<Time> = heads.iter().filter(|(head, _)| !head.noted).map(|(head, _)| head.began).collect();
        heads.retain(|(head, _)| begun.contains(&head.began));
        Ok(heads)
    }

    async fn all_heads(&self) -> Result<Vec<(Head, Etag)>, BackfillError> {
        let rows = self.read(&heads_of(&self.from, &self.to)).await?;
        Ok(rows.into_iter().filter_map(|row| Some((Head::decode(&row.body)?, row.etag))).collect())
    }

    /// Writes down which tables are begun together, before any of them is held: whoever goes on with it leaves none of them out.
    pub async fn note(&self, heads: Vec<Head>) -> Result<Vec<(Head, Etag)>, BackfillError> {
        let created = patiently(|| create_missing(&self.store)).await;
        created.map_err(|error| self.failed(error))?;
        let mut noted = Vec::new();
        for some in heads.chunks(MAX_OPERATIONS) {
            noted.extend(self.note_together(some).await?);
        }
        Ok(noted)
    }

    async fn note_together(&self, heads: &[Head]) -> Result<Vec<(Head, Etag)>, BackfillError> {
        let (control, partition) = (SystemTable::Control.name(), PARTITION.into());
        let mut tries = 0;
        loop {
            tries += 1;
            let there = self.all_heads().await?;
            let of = |head: &Head| there.iter().find(|(there, _)| there.key() == head.key());
            // Where the answer to the first try was lost, they may stand there.
            let stand = heads.iter().map(|head| of(head).filter(|(there, _)| there == head).cloned());
            if let Some(noted) = stand.collect() {
                return Ok(noted);
            }
            let write = |head: &Head| match of(head) {
                Some((_, etag)) => Operation::Replace(head.encode(), Condition::Matches(etag.clone())),
                None => Operation::Insert(head.encode()),
            };
            let operations: Vec<Operation> = heads.iter().map(write).collect();
            let error = match self.store.home().transact(&control, &partition, &operations).await {
                Ok(_) if tries < TRIES => continue,
                Ok(_) => StoreError::new(ErrorKind::Precondition, "somebody else begins as well"),
                Err(failure) => failure.error,
            };
            if tries == TRIES || !matches!(error.remedy(), Remedy::ReadBack | Remedy::SlowDown) {
                return Err(self.failed(error));
            }
            sleep(error.retry_after.unwrap_or_default().max(PAUSE * tries)).await;
        }
    }

    /// All ranges of a table, in order.
    pub async fn ranges(&self, table: &TableName) -> Result<Vec<Range>, BackfillError> {
        let rows = self.read(&ranges_of(&self.from, &self.to, table)).await?;
        let mut ranges: Vec<Range> = rows.iter().filter_map(|row| Range::decode(&row.body)).collect();
        ranges.sort_by_key(|range| range.number);
        Ok(ranges)
    }

    async fn read(&self, prefix: &str) -> Result<Vec<Row>, BackfillError> {
        let (home, table) = (self.store.home(), SystemTable::Control.name());
        let (mut query, mut rows) = (Query::prefix(PartitionKey::from(PARTITION), prefix), Vec::new());
        loop {
            let page = patiently(|| async { or_nothing(home.query(&table, &query).await) }).await;
            let page = page.map_err(|error| self.failed(error))?;
            rows.extend(page.rows);
            query.continuation = page.continuation;
            if query.continuation.is_none() {
                return Ok(rows);
            }
        }
    }

    async fn head(&self, key: &RowKey) -> Result<Option<(Head, Etag)>, StoreError> {
        let (home, table) = (self.store.home(), SystemTable::Control.name());
        let row = patiently(|| async { or_nothing(home.get(&table, &PARTITION.into(), key).await) }).await?;
        Ok(row.and_then(|row| Some((Head::decode(&row.body)?, row.etag))))
    }

    /// Takes a table that nobody holds: with `head`, which differs from what is there at most in what this run asks for. One who was
    /// killed holds it for a while yet: that is waited for.
    pub async fn take(&self, head: Head, there: (Head, Etag)) -> Result<(), BackfillError> {
        let (_, etag) = self.until_free(there).await?;
        let owner = Some((self.owner.clone(), self.now() + LEASE));
        let head = Head { owner, paused: false, noted: false, ..head };
        let write = Operation::Replace(head.encode(), Condition::Matches(etag));
        let written = self.store.home().write(&SystemTable::Control.name(), &write).await;
        let etag = match written {
            Ok(Some(etag)) => etag,
            Ok(None) => return Err(self.failed(StoreError::new(ErrorKind::Unexpected, "no ETag was answered"))),
            // Another one was faster; or it was written, and the answer was lost.
            Err(error) if matches!(error.remedy(), Remedy::StartOver | Remedy::ReadBack) => {
                match self.head(&head.key()).await.map_err(|error| self.failed(error))? {
                    Some((stands, etag)) if stands == head => etag,
                    Some((Head { owner: Some((owner, _)), .. }, _)) => return Err(self.taken(&head.table, owner)),
                    _ => return Err(self.failed(error)),
                }
            }
            Err(error) => return Err(self.failed(error)),
        };
        let held = Held { head, etag, written: self.runtime.instant() };
        self.held.lock().await.insert(held.head.table.clone(), held);
        Ok(())
    }

    /// Waits until a hold has run out; one that is renewed meanwhile is none of somebody who was killed.
    async fn until_free(&self, mut there: (Head, Etag)) -> Result<(Head, Etag), BackfillError> {
        let first = there.0.owner.clone();
        while there.0.state(self.now()) == BackfillState::Running {
            if there.0.owner != first {
                let owner = there.0.owner.map(|(owner, _)| owner).unwrap_or_default();
                return Err(self.taken(&there.0.table, owner));
            }
            sleep(LOOK).await;
            let again = self.head(&there.0.key()).await.map_err(|error| self.failed(error))?;
            there = again.unwrap_or(there);
        }
        Ok(there)
    }

    /// Writes the ranges of a table that is held, in the place of those that there are.
    pub async fn lay(&self, ranges: &[Range], table: &TableName) -> Result<(), BackfillError> {
        let old = self.read(&ranges_of(&self.from, &self.to, table)).await?;
        let removal = |row: &Row| {
            let condition = Condition::Present;
            Operation::Delete { partition: PARTITION.into(), row: row.body.row().clone(), condition }
        };
        let now = self.now();
        for old in old.chunks(MAX_OPERATIONS - 1) {
            self.write(table, |_| old.iter().map(removal).collect()).await?;
        }
        for some in ranges.chunks(MAX_OPERATIONS - 1) {
            let write = |head: &mut Head| {
                some.iter().map(|range| Operation::InsertOrReplace(range.encode(head, now))).collect()
            };
            self.write(table, write).await?;
        }
        let count = u32::try_from(ranges.len()).unwrap_or(u32::MAX);
        self.write(table, |head| {
            head.ranges = Some(count);
            Vec::new()
        })
        .await
    }

    /// Writes how far a range is, and at which rate all of it goes on.
    pub async fn save(&self, range: &Range, rate: u64) -> Result<(), BackfillError> {
        let now = self.now();
        self.write(&range.table, |head| {
            head.rate = rate;
            vec![Operation::InsertOrReplace(range.encode(head, now))]
        })
        .await
    }

    /// Renews the hold of every table of which nothing was written for a while.
    pub async fn renew(&self, rate: u64) -> Result<(), BackfillError> {
        let due = |held: &Held| self.runtime.instant().saturating_duration_since(held.written) >= RENEW;
        let tables: Vec<TableName> =
            self.held.lock().await.iter().filter(|(_, held)| due(held)).map(|(table, _)| table.clone()).collect();
        for table in tables {
            self.write(&table, |head| {
                head.rate = rate;
                Vec::new()
            })
            .await?;
        }
        Ok(())
    }

    /// Lets go of all tables; those that are done are told so.
    pub async fn let_go(&self, done: &[TableName]) -> Result<(), BackfillError> {
        let tables: Vec<TableName> = self.held.lock().await.keys().cloned().collect();
        for table in tables {
            let now = self.now();
            self.write(&table, |head| {
                head.owner = None;
                if done.contains(&head.table) {
                    (head.done, head.paused, head.ended) = (true, false, Some(now));
                }
                Vec::new()
            })
            .await?;
            self.held.lock().await.remove(&table);
        }
        Ok(())
    }

    /// Writes the head of a table that is held, and what `change` makes of it and wants written beside it.
    async fn write(
        &self,
        table: &TableName,
        change: impl Fn(&mut Head) -> Vec<Operation>,
    ) -> Result<(), BackfillError> {
        let mut held = self.held.lock().await;
        let Some(held) = held.get_mut(table) else {
            return Err(BackfillError::Lost { table: table.clone(), owner: "another one".to_owned() });
        };
        let mut tries = 0;
        loop {
            tries += 1;
            let mut head = held.head.clone();
            head.owner = Some((self.owner.clone(), self.now() + LEASE));
            let beside = change(&mut head);
            let matches = Condition::Matches(held.etag.clone());
            let operations: Vec<Operation> =
                [Operation::Replace(head.encode(), matches)].into_iter().chain(beside).collect();
            let (control, partition) = (SystemTable::Control.name(), PARTITION.into());
            let error = match self.store.home().transact(&control, &partition, &operations).await {
                Ok(etags) => {
                    let Some(etag) = etags.into_iter().next().flatten() else {
                        return Err(self.failed(StoreError::new(ErrorKind::Unexpected, "no ETag was answered")));
                    };
                    *held = Held { head, etag, written: self.runtime.instant() };
                    return Ok(());
                }
                Err(failure) => failure.error,
            };
            if tries == TRIES || !matches!(error.remedy(), Remedy::StartOver | Remedy::ReadBack | Remedy::SlowDown) {
                return Err(self.failed(error));
            }
            if error.remedy() != Remedy::StartOver {
                sleep(error.retry_after.unwrap_or_default().max(PAUSE * tries)).await;
            }
            self.read_back(held).await?;
        }
    }

    /// What stands of a head that could not be written: still ours, perhaps paused.
    async fn read_back(&self, held: &mut Held) -> Result<(), BackfillError> {
        let table = held.head.table.clone();
        let lost = |owner: Option<(String, Time)>| {
            let owner = owner.map_or_else(|| "another one".to_owned(), |(owner, _)| owner);
            BackfillError::Lost { table: table.clone(), owner }
        };
        let there = self.head(&held.head.key()).await.map_err(|error| self.failed(error))?;
        let Some((head, etag)) = there else { return Err(lost(None)) };
        match &head.owner {
            Some((owner, _)) if *owner == self.owner => {}
            _ => return Err(lost(head.owner)),
        }
        if head.paused {
            self.paused.cancel();
        }
        (held.head.paused, held.etag) = (head.paused, etag);
        Ok(())
    }

    /// Asks whoever is at work on a table to pause. Says whether somebody is.
    pub async fn ask_to_pause(&self, mut there: (Head, Etag)) -> Result<bool, BackfillError> {
        for _ in 0..BETWEEN {
            let head = Head { paused: true, ..there.0.clone() };
            let write = Operation::Replace(head.encode(), Condition::Matches(there.1.clone()));
            match self.store.home().write(&SystemTable::Control.name(), &write).await {
                Ok(_) => return Ok(head.state(self.now()) == BackfillState::Running),
                // Whoever is at work writes often.
                Err(error) if matches!(error.remedy(), Remedy::StartOver | Remedy::ReadBack | Remedy::SlowDown) => {
                    sleep(error.retry_after.unwrap_or(self.runtime.jitter(PAUSE))).await;
                }
                Err(error) => return Err(self.failed(error)),
            }
            let again = self.head(&there.0.key()).await.map_err(|error| self.failed(error))?;
            there = again.unwrap_or(there);
        }
        let owner = there.0.owner.map(|(owner, _)| owner).unwrap_or_default();
        Err(BackfillError::NotHeard { table: there.0.table, owner })
    }

    /// Waits until nobody is at work on a table any more.
    pub async fn until_let_go(&self, key: &RowKey, within: Duration) -> Result<(), BackfillError> {
        let deadline = self.runtime.instant() + within;
        loop {
            let there = self.head(key).await.map_err(|error| self.failed(error))?;
            let Some((head, _)) = there else { return Ok(()) };
            if head.state(self.now()) != BackfillState::Running {
                return Ok(());
            }
            if self.runtime.instant() >= deadline {
                let owner = head.owner.map(|(owner, _)| owner).unwrap_or_default();
                return Err(BackfillError::NotHeard { table: head.table, owner });
            }
            sleep(LOOK).await;
        }
    }

    fn taken(&self, table: &TableName, owner: String) -> BackfillError {
        BackfillError::Held { table: table.clone(), to: self.to.clone(), owner }
    }

    pub fn failed(&self, error: StoreError) -> BackfillError {
        BackfillError::Ledger { region: self.from.clone(), error: Box::new(error) }
    }
}
