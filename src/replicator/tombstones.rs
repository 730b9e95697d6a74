//! Looking for tombstones, many rows at a time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::Instant;

use super::gather::gather_all;
use super::over::bring_over;
use crate::feed::{Shard, decode_tombstone, tombstone_key, tombstone_prefix, tombstones_prefix};
use crate::model::{AccountName, Etag, PartitionKey, Row, RowId, RowKey, SystemTable, TableName, Time, Version};
use crate::stores::{Query, RegionStore, StoreError, Tables};

/// A tombstone as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tomb {
    /// The version of the delete; `None` where the row cannot be read, so that any delete may replace it.
    pub version: Option<Version>,
    /// For raising it.
    pub etag: Etag,
    /// When it was raised, by the storage server's clock.
    pub raised: Time,
}

impl Tomb {
    fn of(row: &Row) -> Self {
        let version = decode_tombstone(row).ok().map(|tombstone| tombstone.version);
        Self { version, etag: row.etag.clone(), raised: row.timestamp }
    }
}

/// Rows for which two point reads cost no more than one range.
const FEW_ROWS: usize = 2;
/// How long a shard that held many tombstones is not asked for all of them again.
const REMEMBER_MANY: Duration = Duration::from_secs(60);

/// A shard of an account.
type Place = (AccountName, Shard);

/// Looks for tombstones in a region.
///
/// While a shard holds few, one bounded query of its `t:` range answers the looks of a whole batch; then one range per
/// data partition, since the keys of its tombstones share a prefix; else point reads.
#[derive(Debug)]
pub(super) struct Tombstones {
    store: RegionStore,
    scan: u16,
    many: Mutex<BTreeMap<Place, Instant>>,
}

impl Tombstones {
    pub fn new(store: RegionStore, scan: u16) -> Self {
        Self { store, scan, many: Mutex::default() }
    }

    /// The tombstone of one row.
    pub async fn of_row(&self, id: &RowId) -> Result<Option<Tomb>, StoreError> {
        bring_over(&self.store, &[id]).await?;
        let tables = self.store.holding(&id.table, &id.partition);
        let shard = Shard::of(&id.table, &id.partition).partition();
        Ok(tables.get(&SystemTable::Feed.name(), &shard, &tombstone_key(id)).await?.as_ref().map(Tomb::of))
    }

    /// The tombstones of many rows: an entry for every one that stands.
    pub async fn of_rows(&self, ids: &[&RowId]) -> Result<BTreeMap<RowId, Tomb>, StoreError> {
        bring_over(&self.store, ids).await?;
        let mut groups: BTreeMap<Place, (Arc<dyn Tables>, Vec<&RowId>)> = BTreeMap::new();
        // The rows of a partition follow each other more often than not, and share its place.
        let mut last: Option<(&RowId, Place)> = None;
        for id in ids.iter().copied() {
            let place = match last.take() {
                Some((of, place)) if of.partition == id.partition && of.table == id.table => place,
                _ => {
                    let tables = self.store.holding(&id.table, &id.partition);
                    let place = (tables.account().clone(), Shard::of(&id.table, &id.partition));
                    groups.entry(place.clone()).or_insert_with(|| (tables, Vec::new()));
                    place
                }
            };
            if let Some((_, ids)) = groups.get_mut(&place) {
                ids.push(id);
            }
            last = Some((id, place));
        }
        let mut looks: Vec<BoxFuture<'_, _>> = Vec::new();
        for (place, (tables, ids)) in groups {
            looks.push(Box::pin(self.of_shard(place, tables, ids)));
        }
        Ok(gather_all(looks).await?.into_iter().flatten().collect())
    }

    async fn of_shard(
        &self,
        place: Place,
        tables: Arc<dyn Tables>,
        ids: Vec<&RowId>,
    ) -> Result<Vec<(RowId, Tomb)>, StoreError> {
        let tables = tables.as_ref();
        if ids.len() > FEW_ROWS && !self.holds_many(&place) {
            let query = Query { top: Some(self.scan), ..Query::prefix(place.1.partition(), tombstones_prefix()) };
            let page = tables.query(&SystemTable::Feed.name(), &query).await?;
            if page.continuation.is_none() {
                return Ok(matching(page.rows, &ids));
            }
            self.remember_many(place.clone());
        }
        let mut partitions: BTreeMap<(&TableName, &PartitionKey), Vec<&RowId>> = BTreeMap::new();
        for id in ids.iter().copied() {
            partitions.entry((&id.table, &id.partition)).or_default().push(id);
        }
        let shard = place.1;
        let mut looks: Vec<BoxFuture<'_, _>> = Vec::new();
        for (of, ids) in partitions {
            looks.push(Box::pin(self.of_partition(tables, shard, of, ids)));
        }
        let rows = gather_all(looks).await?.into_iter().flatten().collect();
        Ok(matching(rows, &ids))
    }

    async fn of_partition(
        &self,
        tables: &dyn Tables,
        shard: Shard,
        (table, partition): (&TableName, &PartitionKey),
        ids: Vec<&RowId>,
    ) -> Result<Vec<Row>, StoreError> {
        let feed = SystemTable::Feed.name();
        if ids.len() > FEW_ROWS {
            let query = Query::prefix(shard.partition(), &tombstone_prefix(table, partition));
            let page = tables.query(&feed, &Query { top: Some(self.scan), ..query }).await?;
            if page.continuation.is_none() {
                return Ok(page.rows);
            }
        }
        let home = shard.partition();
        let (feed, home) = (&feed, &home);
        let mut points: Vec<BoxFuture<'_, _>> = Vec::new();
        for id in ids {
            points.push(Box::pin(async move { tables.get(feed, home, &tombstone_key(id)).await }));
        }
        Ok(gather_all(points).await?.into_iter().flatten().collect())
    }

    fn holds_many(&self, place: &Place) -> bool {
        self.lock().get(place).is_some_and(|until| Instant::now() < *until)
    }

    fn remember_many(&self, place: Place) {
        self.lock().insert(place, Instant::now() + REMEMBER_MANY);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Place, Instant>> {
        self.many.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Most batches meet no tombstone at all, and ask for no keys then.
fn matching(rows: Vec<Row>, ids: &[&RowId]) -> Vec<(RowId, Tomb)> {
    if rows.is_empty() {
        return Vec::new();
    }
    let by_key: BTreeMap<RowKey, &RowId> = ids.iter().map(|id| (tombstone_key(id), *id)).collect();
    let known = rows.iter().filter_map(|row| Some(((*by_key.get(row.body.row())?).clone(), Tomb::of(row))));
    known.collect()
}
