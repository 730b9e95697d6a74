//! A region on the memory store, with a look into its feed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use crate::feed::{Record, decode_record, decode_tombstone, encode_tombstone, is_record_key};
use crate::model::{
    AccountName, PartitionKey, Region, Row, RowBody, RowId, RowKey, SystemTable, TableName, Time, Tombstone, Version,
    WriterId,
};
use crate::runtime::Runtime;
use crate::stores::memory::{Fault, Faults, MemoryTables, Request};
use crate::stores::{Account, Operation, RegionStore, Tables};
use crate::writer::{Writer, WriterOptions};

/// Which requests meet a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// Writes to the feed.
    Feed,
    /// Reads of the feed.
    FeedRead,
    /// Writes to the data table.
    Data,
}

pub struct Bench {
    pub tables: Arc<MemoryTables>,
    pub writer: Writer,
    pub runtime: Runtime,
    pub orders: TableName,
}

impl Bench {
    /// A region `west` with the table `orders` and an empty feed. Needs a paused runtime.
    pub async fn new() -> Self {
        Self::with(WriterOptions::default(), 7).await
    }

    pub async fn with(options: WriterOptions, seed: u64) -> Self {
        let bench = Self::build(options, seed).await;
        bench.tables.create_table(&SystemTable::Feed.name()).await.unwrap();
        bench
    }

    /// As [`new`](Self::new), before a daemon has created the system tables.
    pub async fn without_feed() -> Self {
        Self::build(WriterOptions::default(), 7).await
    }

    async fn build(options: WriterOptions, seed: u64) -> Self {
        let runtime = Runtime::simulated(Time::from_unix_seconds(1_800_000_000), seed);
        let region = Region::new("west").unwrap();
        let tables = MemoryTables::new(region.clone(), AccountName::new("west1").unwrap(), runtime.clone());
        let orders = TableName::new("orders").unwrap();
        tables.create_table(&orders).await.unwrap();
        let account = Account { tables: tables.clone(), queue: None };
        let writer = Writer::new(RegionStore::new(region, vec![account]), options, runtime.clone());
        Self { tables, writer, runtime, orders }
    }

    /// Another writer to the same region, whose clock is wrong by so many milliseconds.
    pub fn writer_with_skew(&self, millis: i64) -> Writer {
        let region = Region::new("west").unwrap();
        let account = Account { tables: self.tables.clone(), queue: None };
        let runtime = self.runtime.skewed(millis * 10_000);
        Writer::new(RegionStore::new(region, vec![account]), WriterOptions::default(), runtime)
    }

    pub fn faults(&self) -> Faults {
        self.tables.faults()
    }

    /// The next request of this sort meets `fault`.
    pub fn fault_once(&self, at: At, fault: Fault) {
        self.fault_times(at, 1, fault);
    }

    /// The next so many requests of this sort meet `fault`.
    pub fn fault_times(&self, at: At, times: usize, fault: Fault) {
        let left = AtomicUsize::new(times);
        self.faults().set_rule(move |request| {
            let met = place(request) == Some(at) && left.fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1)).is_ok();
            met.then(|| fault.clone())
        });
    }

    /// The row of the data table in partition `p`, by its key.
    pub fn row(&self, key: &str) -> Option<Row> {
        self.tables.snapshot(&self.orders).into_iter().find(|row| row.body.row().as_str() == key)
    }

    pub fn version_of(&self, key: &str) -> Option<Version> {
        self.row(key).and_then(|row| row.body.version().cloned())
    }

    pub fn records(&self) -> Vec<Record> {
        let rows = self.tables.snapshot(&SystemTable::Feed.name());
        rows.iter().filter(|row| is_record_key(row.body.row())).map(|row| decode_record(row).unwrap()).collect()
    }

    pub fn tombstones(&self) -> Vec<Tombstone> {
        let rows = self.tables.snapshot(&SystemTable::Feed.name());
        rows.iter().filter(|row| !is_record_key(row.body.row())).map(|row| decode_tombstone(row).unwrap()).collect()
    }

    /// Puts a row there as another region would have delivered it.
    pub async fn delivered(&self, key: &str, version: &Version) -> Row {
        let row = body(key).stamped(version);
        self.tables.write(&self.orders, &Operation::InsertOrReplace(row)).await.unwrap();
        self.row(key).unwrap()
    }

    /// Puts a tombstone there as another region would have delivered it.
    pub async fn tombstone(&self, key: &str, version: &Version) {
        let id = RowId::new(self.orders.clone(), partition(), key.into());
        let row = encode_tombstone(&Tombstone { id, version: version.clone() });
        self.tables.write(&SystemTable::Feed.name(), &Operation::InsertOrReplace(row)).await.unwrap();
    }

    /// A version of region `north` so far ahead of this clock.
    pub fn ahead(&self, by: Duration) -> Version {
        Version::new(self.runtime.now() + by, &Region::new("north").unwrap(), WriterId(9))
    }
}

fn place(request: &Request<'_>) -> Option<At> {
    let feed = request.table.is_some_and(TableName::is_system);
    match (feed, request.operations.is_empty()) {
        (true, false) => Some(At::Feed),
        (true, true) => Some(At::FeedRead),
        (false, false) => Some(At::Data),
        (false, true) => None,
    }
}

pub fn partition() -> PartitionKey {
    "p".into()
}

pub fn body(key: &str) -> RowBody {
    RowBody::builder(&partition(), &RowKey::from(key)).string("Name", "value").finish()
}

pub fn delete(key: &str) -> Operation {
    Operation::Delete { partition: partition(), row: key.into(), condition: crate::stores::Condition::Present }
}
