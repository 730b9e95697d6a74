//! What rows that differ are known to wait for: an open announcement, a hint, an entry in quarantine.
//!
//! All regions are asked: what a third one wrote may have come to one of the two and not to the other. It is found out before the
//! rows are looked at, so that what ends meanwhile has been delivered by the time of the look.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use tokio::time::timeout;

use super::report::Waits;
use crate::feed::{Entry, Shard, decode_record, hint_keys, record_prefix};
use crate::model::{AccountName, Addressee, PartitionKey, Region, RowId, RowKey, SystemTable};
use crate::ops::patient::{or_nothing, patiently};
use crate::resolve::Sight;
use crate::stores::{Query, RegionStore, Scope, StoreError};

/// How many records and entries are read at a time: they may be large.
const RECORDS: u16 = 200;
const ENTRIES: u16 = 50;
/// Most pages of one shard's records, and of one region's quarantine. What lies behind is not known to wait.
const PAGES: usize = 100;
/// How long a region that is not one of the two is asked.
const OTHERS_WITHIN: Duration = Duration::from_secs(30);

/// What is known of one row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Named {
    announced: bool,
    hinted: bool,
    /// The versions of it that lie in quarantine.
    quarantined: BTreeSet<String>,
}

impl Named {
    /// What it waits for, where these stand.
    pub fn waits(&self, here: &Sight, there: &Sight) -> Option<Waits> {
        let lies = |sight: &Sight| sight.newest().is_some_and(|version| self.quarantined.contains(version.as_str()));
        match self {
            _ if lies(here) || lies(there) => Some(Waits::Quarantined),
            Self { hinted: true, .. } => Some(Waits::Hinted),
            Self { announced: true, .. } => Some(Waits::Announced),
            _ => None,
        }
    }
}

/// By row; only rows of which something is known.
pub(super) type Names = BTreeMap<RowId, Named>;

/// The rows of `ids` that an open announcement, a hint for a region or for a cache, or an entry in quarantine names, in any of these
/// regions. `None` where there is too much of that to read it.
///
/// # Errors
/// Where any of them goes on failing.
pub(in crate::ops) async fn named_anywhere(
    regions: &[RegionStore],
    ids: &BTreeSet<&RowId>,
) -> Result<Option<BTreeSet<RowId>>, StoreError> {
    let all: Vec<&Region> = regions.iter().map(RegionStore::region).collect();
    let asked = Asked { pair: &all, caches: true, ids };
    let asked = try_join_all(regions.iter().map(|store| of_region(store, asked))).await?;
    let whole = asked.iter().all(|found| found.whole);
    Ok(whole.then(|| asked.into_iter().flat_map(|found| found.names.into_keys()).collect()))
}

/// What is asked of a region.
#[derive(Debug, Clone, Copy)]
struct Asked<'a> {
    /// What waits for these.
    pair: &'a [&'a Region],
    /// What waits for its own cache, too.
    caches: bool,
    ids: &'a BTreeSet<&'a RowId>,
}

/// What it knows.
#[derive(Debug)]
struct Found {
    names: Names,
    /// Nothing is left unread.
    whole: bool,
}

/// What is known of `ids` in all regions, and which of those that are not of the `pair` did not answer.
///
/// # Errors
/// Where one of the pair goes on failing.
pub(super) async fn names(
    regions: &[RegionStore],
    pair: &[&Region],
    ids: &BTreeSet<&RowId>,
) -> Result<(Names, Vec<Region>), StoreError> {
    let (mut all, mut unasked) = (Names::new(), Vec::new());
    let asked = regions.iter().map(|store| async move {
        let asked = of_region(store, Asked { pair, caches: false, ids });
        let asked = async { asked.await.map(|found| found.names) };
        match pair.contains(&store.region()) {
            true => asked.await.map(Some),
            false => Ok(timeout(OTHERS_WITHIN, asked).await.ok().and_then(Result::ok)),
        }
    });
    for (store, names) in regions.iter().zip(join_all(asked).await) {
        match names? {
            Some(names) => names.into_iter().for_each(|(id, named)| add(&mut all, id, named)),
            None => unasked.push(store.region().clone()),
        }
    }
    Ok((all, unasked))
}

fn add(all: &mut Names, id: RowId, named: Named) {
    let known = all.entry(id).or_default();
    known.announced |= named.announced;
    known.hinted |= named.hinted;
    known.quarantined.extend(named.quarantined);
}

async fn of_region(store: &RegionStore, Asked { pair, caches, ids }: Asked<'_>) -> Result<Found, StoreError> {
    let others = pair.iter().filter(|to| **to != store.region()).map(|to| to.to_string());
    let cache = caches.then(|| Addressee::Cache(store.region().clone()).to_string());
    let consumers: Vec<String> = others.chain(cache).collect();
    let mut shards: BTreeMap<(AccountName, Shard), BTreeSet<&RowId>> = BTreeMap::new();
    let mut hints: BTreeMap<PartitionKey, BTreeMap<RowKey, &RowId>> = BTreeMap::new();
    for id in ids.iter().copied() {
        let account = store.holding(&id.table, &id.partition).account().clone();
        shards.entry((account, Shard::of(&id.table, &id.partition))).or_default().insert(id);
        for to in &consumers {
            let (partition, row) = hint_keys(to, id);
            hints.entry(partition).or_default().insert(row, id);
        }
    }
    let mut all = Names::new();
    let mut whole = true;
    let announced = try_join_all(shards.iter().map(|((_, shard), ids)| announced(store, *shard, ids))).await?;
    for id in announced.into_iter().flat_map(|(found, all)| {
        whole &= all;
        found
    }) {
        add(&mut all, id, Named { announced: true, ..Named::default() });
    }
    let hinted = try_join_all(hints.into_iter().map(|(partition, ids)| hinted(store, partition, ids))).await?;
    for id in hinted.into_iter().flatten() {
        add(&mut all, id, Named { hinted: true, ..Named::default() });
    }
    let (quarantined, read) = quarantined(store, pair, ids).await?;
    for (id, version) in quarantined {
        add(&mut all, id, Named { quarantined: [version].into(), ..Named::default() });
    }
    Ok(Found { names: all, whole: whole && read })
}

/// Rows of one shard that an open record names, and whether all records were read.
async fn announced(
    store: &RegionStore,
    shard: Shard,
    ids: &BTreeSet<&RowId>,
) -> Result<(Vec<RowId>, bool), StoreError> {
    let Some(first) = ids.first() else { return Ok((Vec::new(), true)) };
    let tables = store.holding(&first.table, &first.partition);
    let mut query = Query { top: Some(RECORDS), ..Query::prefix(shard.partition(), record_prefix()) };
    let mut found = Vec::new();
    for _ in 0..PAGES {
        let page = or_nothing(patiently(|| async { tables.query(&SystemTable::Feed.name(), &query).await }).await)?;
        let records = page.rows.iter().filter_map(|row| decode_record(row).ok());
        let named = records.flat_map(|record| record.change.rows().map(|(id, _)| id).collect::<Vec<_>>());
        found.extend(named.filter(|id| ids.contains(id)));
        query.continuation = page.continuation;
        if query.continuation.is_none() {
            return Ok((found, true));
        }
    }
    Ok((found, false))
}

/// Rows that hints of one partition of the backlog name. Read page by page while that costs less than to ask for each.
async fn hinted(
    store: &RegionStore,
    partition: PartitionKey,
    mut ids: BTreeMap<RowKey, &RowId>,
) -> Result<Vec<RowId>, StoreError> {
    let (home, table) = (store.home(), SystemTable::Backlog.name());
    let select = Some(vec!["PartitionKey".to_owned(), "RowKey".to_owned()]);
    let scope = Scope::Partition { partition: partition.clone(), from: None, through: None };
    let mut query = Query { select, ..Query::new(scope) };
    let mut found = Vec::new();
    for _ in 0..ids.len() {
        let page = or_nothing(patiently(|| async { home.query(&table, &query).await }).await)?;
        found.extend(page.rows.iter().filter_map(|row| ids.remove(row.body.row())).cloned());
        query.continuation = page.continuation;
        if query.continuation.is_none() || ids.is_empty() {
            return Ok(found);
        }
    }
    for (row, id) in ids {
        let hint = or_nothing(patiently(|| async { home.get(&table, &partition, &row).await }).await)?;
        found.extend(hint.map(|_| id.clone()));
    }
    Ok(found)
}

/// Rows of which a version lies in quarantine, for one of the pair or for everybody, and whether all of it was read.
async fn quarantined(
    store: &RegionStore,
    pair: &[&Region],
    ids: &BTreeSet<&RowId>,
) -> Result<(Vec<(RowId, String)>, bool), StoreError> {
    let mut query = Query { top: Some(ENTRIES), ..Query::new(Scope::Table) };
    let mut found = Vec::new();
    for _ in 0..PAGES {
        let table = SystemTable::Quarantine.name();
        let page = or_nothing(patiently(|| async { store.home().query(&table, &query).await }).await)?;
        let entries = page.rows.iter().filter_map(|row| Entry::decode(row).ok());
        let ours = entries.filter(|entry| entry.destination.as_ref().is_none_or(|to| pair.contains(&to)));
        for entry in ours {
            let Some(version) = entry.version.clone() else { continue };
            let rows = match entry.row_id() {
                Some(id) => vec![id],
                None => entry.change().map(|change| change.rows().map(|(id, _)| id).collect()).unwrap_or_default(),
            };
            found.extend(rows.into_iter().filter(|id| ids.contains(id)).map(|id| (id, version.clone())));
        }
        query.continuation = page.continuation;
        if query.continuation.is_none() {
            return Ok((found, true));
        }
    }
    Ok((found, false))
}
