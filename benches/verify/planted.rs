//! Rows that are made to differ, in each of the ways there are.

use tablerelay::feed::encode_tombstone;
use tablerelay::model::*;
use tablerelay::resolve::Difference;
use tablerelay::stores::{Condition, Operation, Tables};

use crate::whole::store::{Store, TOGETHER, partition, table};

const WEST: usize = 0;
const NORTH: usize = 1;

/// A row that differs in this way.
#[derive(Debug, Clone, Copy)]
pub struct Planted {
    pub kind: Difference,
}

/// Versions of long ago.
pub fn version(side: usize, tick: i64) -> Version {
    let region = Region::new(["west", "north"][side]).expect("a region");
    let time = Time::from_ticks(Time::from_unix_seconds(1_700_000_000).ticks() + tick);
    Version::new(time, &region, WriterId(1))
}

pub fn key(n: usize) -> (PartitionKey, RowKey) {
    (partition(n / TOGETHER), format!("r{:03}", n % TOGETHER).as_str().into())
}

/// The number of a row that has this key.
pub fn number(row: &RowBody) -> usize {
    let digits = |text: &str, prefix: &str| text.strip_prefix(prefix).and_then(|text| text.parse::<usize>().ok());
    let partition = digits(row.partition().as_str(), "order-").expect("a partition of ours");
    partition * TOGETHER + digits(row.row().as_str(), "r").expect("a row of ours")
}

pub fn body(n: usize, text: &str, version: &Version) -> RowBody {
    let (partition, row) = key(n);
    let body = RowBody::builder(&partition, &row).string("A", text).string("Value", &"x".repeat(100));
    body.finish().stamped(version)
}

async fn put(store: &Store, n: usize, text: &str, version: &Version) {
    let write = Operation::InsertOrReplace(body(n, text, version));
    store.tables.write(&table("orders"), &write).await.expect("written");
}

async fn remove(store: &Store, n: usize) {
    let (partition, row) = key(n);
    let gone = Operation::Delete { partition, row, condition: Condition::Present };
    store.tables.write(&table("orders"), &gone).await.expect("deleted");
}

async fn bury(store: &Store, n: usize, version: &Version) {
    remove(store, n).await;
    let (partition, row) = key(n);
    let tombstone = Tombstone { id: RowId::new(table("orders"), partition, row), version: version.clone() };
    let write = Operation::InsertOrReplace(encode_tombstone(&tombstone));
    store.tables.write(&SystemTable::Feed.name(), &write).await.expect("written");
}

impl Planted {
    pub fn nth(n: usize) -> Self {
        let kinds = Difference::ALL;
        Self { kind: kinds[n % kinds.len()] }
    }

    /// Both sides have the row with the same version now.
    pub async fn plant(&self, [west, north]: &[Store; 2], n: usize) {
        let new = version(WEST, 6);
        match self.kind {
            Difference::Missing => remove(north, n).await,
            Difference::Stale => put(west, n, "b", &new).await,
            Difference::Extra => remove(west, n).await,
            Difference::Newer => put(north, n, "b", &version(NORTH, 6)).await,
            Difference::Content => put(north, n, "b", &version(WEST, 5)).await,
            Difference::DeletedHere => bury(west, n, &new).await,
            Difference::DeletedThere => bury(north, n, &version(NORTH, 6)).await,
        }
    }

    /// What should be there once it is mended.
    pub fn left(&self) -> Option<(&'static str, Version)> {
        match self.kind {
            Difference::Missing | Difference::Extra | Difference::Content => Some(("a", version(WEST, 5))),
            Difference::Stale => Some(("b", version(WEST, 6))),
            Difference::Newer => Some(("b", version(NORTH, 6))),
            Difference::DeletedHere | Difference::DeletedThere => None,
        }
    }
}
