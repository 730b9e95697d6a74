//! Tombstones as whoever collects them meets them: shard by shard, a page at a time.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::quarantine::Quarantine;
use super::removal::{removal, remove};
use super::rows::read_selected;
use super::sight::VERSION_ALONE;
use crate::feed::{Malformed, Shard, decode_tombstone, tombstones_prefix};
use crate::model::{Row, RowId, SystemTable, Tombstone, Version};
use crate::planted::{Bug, planted};
use crate::resolve::Freshness;
use crate::runtime::Runtime;
use crate::stores::limits::MAX_OPERATIONS;
use crate::stores::{Account, Condition, Continuation, ErrorKind, Operation, Query, RegionStore, StoreError, Tables};

/// A tombstone as it stands.
#[derive(Debug, Clone)]
pub(crate) struct Grave {
    /// What it says.
    pub tombstone: Tombstone,
    /// The row of the feed.
    pub row: Row,
}

/// A page of the tombstones of one shard.
#[derive(Debug)]
pub(crate) struct GravePage {
    /// When its reading began.
    pub began: Instant,
    pub graves: Vec<Grave>,
    /// Rows under the key of a tombstone that are none, or stand where nobody looks for them.
    pub malformed: Vec<(Row, Malformed)>,
    pub continuation: Option<Continuation>,
}

/// The tombstones of a region.
#[derive(Debug)]
pub(crate) struct Graves {
    quarantine: Quarantine,
    fresh: Freshness,
}

impl Graves {
    /// Those of `store`; what is decided on a look is not done later than by `fresh`.
    pub(crate) fn new(store: RegionStore, fresh: Freshness, runtime: Runtime) -> Self {
        Self { quarantine: Quarantine::new(store, Vec::new(), runtime), fresh }
    }

    /// Reads a page of an account's shard.
    pub(crate) async fn page(
        &self,
        account: &Account,
        shard: Shard,
        (top, continuation): (u16, Option<Continuation>),
    ) -> Result<GravePage, StoreError> {
        let query = Query { top: Some(top), continuation, ..Query::prefix(shard.partition(), tombstones_prefix()) };
        let began = Instant::now();
        let page = match account.tables.query(&SystemTable::Feed.name(), &query).await {
            Err(error) if error.kind == ErrorKind::NoTable => Default::default(),
            page => page?,
        };
        let (mut graves, mut malformed) = (Vec::new(), Vec::new());
        for row in page.rows {
            // The range ends in a key that is no tombstone's.
            if !row.body.row().as_str().starts_with(tombstones_prefix()) {
                continue;
            }
            match decode_tombstone(&row) {
                Ok(tombstone) => graves.push(Grave { tombstone, row }),
                Err(why) => malformed.push((row, why)),
            }
        }
        Ok(GravePage { began, graves, malformed, continuation: page.continuation })
    }

    /// The versions of those of these rows that stand in a region.
    pub(crate) async fn rows_of(region: &RegionStore, ids: &[&RowId]) -> Result<BTreeMap<RowId, Version>, StoreError> {
        let rows = read_selected(region, ids, Some(&VERSION_ALONE)).await?;
        Ok(rows.into_iter().map(|(id, row)| (id, row.version(region.region()))).collect())
    }

    /// Deletes tombstones of one shard, each as it was read, while the look that began at `began` is fresh (R9); says how many are
    /// gone. One that was raised meanwhile stays.
    pub(crate) async fn remove(
        &self,
        account: &Account,
        graves: &[&Grave],
        began: Instant,
    ) -> Result<usize, StoreError> {
        let (tables, feed, mut gone) = (account.tables.as_ref(), SystemTable::Feed.name(), 0);
        for together in graves.chunks(MAX_OPERATIONS) {
            let deletes: Vec<Operation> = together.iter().map(|grave| delete(&grave.row)).collect();
            if !self.fresh.allows(began, Instant::now()) {
                return Ok(gone);
            }
            match tables.transact(&feed, together[0].row.body.partition(), &deletes).await {
                Ok(_) => gone += deletes.len(),
                Err(failure) if is_gone(&failure.error) => gone += self.remove_each(tables, &deletes, began).await?,
                Err(failure) => return Err(failure.error),
            }
        }
        Ok(gone)
    }

    /// One of them is no more as it was read.
    async fn remove_each(
        &self,
        tables: &dyn Tables,
        deletes: &[Operation],
        began: Instant,
    ) -> Result<usize, StoreError> {
        let mut gone = 0;
        for delete in deletes.iter().take_while(|_| self.fresh.allows(began, Instant::now())) {
            match tables.write(&SystemTable::Feed.name(), delete).await {
                Ok(_) => gone += 1,
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(gone)
    }

    /// Puts what is no tombstone into quarantine, and takes it out of the feed as it was read.
    pub(crate) async fn put_aside(&self, account: &Account, row: &Row, why: &Malformed) -> Result<(), StoreError> {
        let tables = account.tables.as_ref();
        self.quarantine.record(tables.account(), row, why).await?;
        remove(tables, &SystemTable::Feed.name(), row.body.partition(), &[removal(row)]).await
    }
}

fn is_gone(error: &StoreError) -> bool {
    matches!(error.kind, ErrorKind::NotFound | ErrorKind::Precondition)
}

fn delete(row: &Row) -> Operation {
    if planted(Bug::CollectedBlindly) {
        let (partition, row) = (row.body.partition().clone(), row.body.row().clone());
        return Operation::Delete { partition, row, condition: Condition::Present };
    }
    removal(row)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::feed::encode_tombstone;
    use crate::model::{AccountName, Region, RowId, TableName, Time, WriterId};
    use crate::stores::memory::MemoryTables;

    const WINDOW: Duration = Duration::from_secs(60);

    fn tombstone(n: usize, seconds: i64) -> Tombstone {
        let id = RowId::new(TableName::new("orders").unwrap(), "p".into(), format!("r{n}").as_str().into());
        Tombstone { id, version: Version::new(Time::from_unix_seconds(seconds), &region(), WriterId(1)) }
    }

    fn region() -> Region {
        Region::new("west").unwrap()
    }

    /// Three tombstones, and what collects them.
    async fn world() -> (Account, Graves) {
        let runtime = Runtime::simulated(Time::from_unix_seconds(1_000), 1);
        let tables = MemoryTables::new(region(), AccountName::new("one").unwrap(), runtime.clone());
        tables.create_table(&SystemTable::Feed.name()).await.unwrap();
        for n in 0..3 {
            let body = encode_tombstone(&tombstone(n, 5));
            tables.write(&SystemTable::Feed.name(), &Operation::Insert(body)).await.unwrap();
        }
        let account = Account { tables, queue: None };
        let store = RegionStore::new(region(), vec![account.clone()]);
        (account, Graves::new(store, Freshness::new(WINDOW), runtime))
    }

    async fn page(account: &Account, graves: &Graves) -> GravePage {
        let of = &tombstone(0, 5).id;
        graves.page(account, Shard::of(&of.table, &of.partition), (1_000, None)).await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_raised_since_it_was_read_stays_and_the_others_of_its_transaction_go() {
        let (account, graves) = world().await;
        let read = page(&account, &graves).await;
        let raised = Operation::InsertOrReplace(encode_tombstone(&tombstone(1, 9)));
        account.tables.write(&SystemTable::Feed.name(), &raised).await.unwrap();
        let all: Vec<&Grave> = read.graves.iter().collect();
        assert_eq!((all.len(), graves.remove(&account, &all, read.began).await.unwrap()), (3, 2));
        let left: Vec<Tombstone> =
            page(&account, &graves).await.graves.into_iter().map(|left| left.tombstone).collect();
        assert_eq!(left, [tombstone(1, 9)]);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_goes_on_a_look_that_is_older_than_half_a_window() {
        let (account, graves) = world().await;
        let read = page(&account, &graves).await;
        tokio::time::advance(WINDOW / 2).await;
        let all: Vec<&Grave> = read.graves.iter().collect();
        assert_eq!(graves.remove(&account, &all, read.began).await.unwrap(), 0);
        assert_eq!(page(&account, &graves).await.graves.len(), 3);
    }
}
