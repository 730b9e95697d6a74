//! What a region is to remember of regions that were taken out, and whether one that has come back is empty.

use std::collections::BTreeSet;

use super::known::Gathered;
use crate::feed::{Shard, tombstones_prefix};
use crate::model::{Region, SystemTable, TableName, Time};
use crate::ops::patient::{or_nothing, patiently};
use crate::settle::{CollectRules, has_gone};
use crate::stores::{Query, RegionStore, Scope, StoreError, Tables};
use crate::topology::{Marks, TableFilter, is_barred};

/// What region `own` remembers from now on. Whoever has told of links was known; whoever another region counts as gone has to come
/// back empty for this one too, so that a region that joins later knows what was collected before.
pub(super) fn remembered(own: &Region, gathered: &Gathered, rules: CollectRules, now: Time, decides: bool) -> Marks {
    let (regions, all) = (&gathered.known.regions, &gathered.marks);
    let Some(before) = all.get(own) else { return Marks::default() };
    let mut next = before.clone();
    for (gone, since) in all.values().flat_map(|marks| &marks.gone) {
        let at = next.gone.entry(gone.clone()).or_insert(*since);
        *at = (*since).max(*at);
    }
    // Of one that is in the configuration, only that it has to come back empty is of interest.
    next.gone.retain(|region, _| region != own && (!regions.contains(region) || is_barred(region, all)));
    for region in still_count(&next, gathered, rules) {
        next.out.entry(region).or_insert(now);
    }
    for region in next.out.keys().filter(|region| decides && !regions.contains(*region)) {
        let seen = gathered.seen(region);
        // Whoever cannot be asked has not said that it knows.
        let out = all.iter().filter_map(|(of, marks)| Some((of.clone(), (*marks.out.get(region)?).max(seen))));
        if has_gone(regions, &out.collect(), &gathered.repaired, rules, now) {
            next.gone.insert(region.clone(), now);
        }
    }
    let count = still_count(&next, gathered, rules);
    next.out.retain(|region, _| count.contains(region));
    next
}

/// The regions that were taken out and count, by what the own region remembers. One that is gone counts again where it was heard of
/// since: it has come back meanwhile, and was taken out once more.
pub(super) fn still_count(own: &Marks, gathered: &Gathered, rules: CollectRules) -> BTreeSet<Region> {
    let noticed =
        gathered.marks.values().chain([own]).flat_map(|marks| marks.out.keys()).chain(gathered.strangers.keys());
    let counts = |region: &&Region| {
        let gone = own.gone.get(*region).is_some_and(|gone| gathered.seen(region) + rules.margin() <= *gone);
        !gone && !gathered.known.regions.contains(*region)
    };
    noticed.filter(counts).cloned().collect()
}

/// Whether a region holds no row of the replicated tables, and no tombstone.
///
/// # Errors
/// Whatever a store goes on answering.
pub(super) async fn is_empty(store: &RegionStore, replicated: &TableFilter) -> Result<bool, StoreError> {
    for account in store.accounts() {
        let tables = account.tables.as_ref();
        let names: Vec<TableName> = patiently(|| tables.tables()).await?;
        for table in names.iter().filter(|table| replicated.matches(table)) {
            if holds(tables, table, Query::new(Scope::Table)).await? {
                return Ok(false);
            }
        }
        for shard in Shard::all() {
            let tombstones = Query::prefix(shard.partition(), tombstones_prefix());
            if holds(tables, &SystemTable::Feed.name(), tombstones).await? {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Whether a range holds a row.
async fn holds(tables: &dyn Tables, table: &TableName, query: Query) -> Result<bool, StoreError> {
    let mut query = Query { top: Some(1), ..query };
    loop {
        let page = or_nothing(patiently(|| tables.query(table, &query)).await)?;
        query.continuation = page.continuation;
        if !page.rows.is_empty() {
            return Ok(true);
        }
        if query.continuation.is_none() {
            return Ok(false);
        }
    }
}
