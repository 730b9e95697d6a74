//! Reading what every region has of a row, all of them side by side. A part that cannot be read keeps none of the others from
//! being shown.

use std::time::Duration;

use super::super::regions::{self, PATIENCE, Unreachable};
use super::picture::{Cache, Column, Conflict, Held, Link, Open, Picture, Stands, Waits};
use crate::feed::{
    Entry, Shard, Source, decode_hint, decode_message, decode_record, decode_tombstone, hint_keys, record_prefix,
    tombstone_key,
};
use crate::model::{Addressee, Change, ClosedList, Region, Row, RowBody, RowId, SystemTable, TableName, Time, Version};
use crate::replicator::{self, CacheSetup};
use crate::settle::LinkStatus;
use crate::stores::{ErrorKind, Query, RegionStore, Scope, StoreError};
use crate::writer::read_routed;

/// Most rows of a shard, of the quarantine or of the journal that are looked through.
const MOST: usize = 100_000;
/// Conflicts that are shown of each region.
const CONFLICTS: usize = 10;

/// A region to ask.
#[derive(Debug)]
pub(super) struct Site {
    pub store: RegionStore,
    pub cache: Option<CacheSetup>,
}

/// What every region has of the row.
pub(super) async fn gather(sites: &[Site], id: &RowId, at: Time, replicated: bool) -> Picture {
    let names: Vec<&Region> = sites.iter().map(|site| site.store.region()).collect();
    let columns = futures::future::join_all(sites.iter().map(|site| column(site, id, &names))).await;
    let (mut regions, mut unreachable) = (Vec::new(), Vec::new());
    for (site, column) in sites.iter().zip(columns) {
        match column {
            Ok(column) => regions.push(column),
            Err(error) => unreachable.push(Unreachable { region: site.store.region().clone(), error }),
        }
    }
    Picture { id: id.clone(), at, replicated, regions, unreachable }
}

async fn column(site: &Site, id: &RowId, names: &[&Region]) -> Result<Column, String> {
    let Site { store, cache } = site;
    let (stands, hints, links, quarantine, conflicts, cache) = tokio::join!(
        within(stands(store, id)),
        within(hints(store, id, names)),
        within(links(store)),
        within(quarantine(store, id)),
        within(conflicts(store, id)),
        cached(cache.as_ref(), id),
    );
    let (row, tombstone, records) = stands?;
    let mut unread = Vec::new();
    Ok(Column {
        region: store.region().clone(),
        account: store.holding(&id.table, &id.partition).account().clone(),
        row,
        tombstone,
        records,
        hints: or_said("hints", hints, &mut unread),
        quarantine: or_said("quarantine", quarantine, &mut unread),
        conflicts: or_said("conflicts", conflicts, &mut unread),
        links: or_said("links", links, &mut unread),
        cache,
        unread,
    })
}

async fn within<T>(answer: impl Future<Output = Result<T, StoreError>>) -> Result<T, String> {
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(no_answer(PATIENCE)),
    }
}

fn no_answer(within: Duration) -> String {
    format!("no answer within {} s", within.as_secs())
}

fn or_said<T>(what: &str, read: Result<Vec<T>, String>, unread: &mut Vec<String>) -> Vec<T> {
    read.unwrap_or_else(|error| {
        unread.push(format!("{what}: {error}"));
        Vec::new()
    })
}

type Standing = (Option<Stands>, Option<Version>, Vec<Open>);

/// The row first, then what announces it: a change that ends in between is in both, or was delivered.
async fn stands(store: &RegionStore, id: &RowId) -> Result<Standing, StoreError> {
    let tables = store.holding(&id.table, &id.partition);
    let row = read_routed(store, id).await?;
    let stands = row.map(|row| Stands {
        version: row.version(store.region()),
        implicit: row.body.version().is_none(),
        written: row.timestamp,
    });
    let (feed, shard) = (SystemTable::Feed.name(), Shard::of(&id.table, &id.partition).partition());
    let tombstone = none_where_no_table(tables.get(&feed, &shard, &tombstone_key(id)).await)?;
    let tombstone = tombstone.and_then(|row| decode_tombstone(&row).ok()).map(|tombstone| tombstone.version);
    let rows =
        regions::rows_of(tables.as_ref(), SystemTable::Feed, Query::prefix(shard, record_prefix()), MOST).await?.0;
    let mut records: Vec<Open> = rows.iter().filter_map(|row| open(row, id)).collect();
    records.sort_by_key(|record| record.announced);
    Ok((stands, tombstone, records))
}

fn open(row: &Row, id: &RowId) -> Option<Open> {
    let record = decode_record(row).ok()?;
    let deletes = names(&record.change, id)?;
    Some(Open { version: record.change.version, deletes, announced: record.inserted })
}

/// Whether a change names the row, and if so whether it deletes it.
fn names(change: &Change, id: &RowId) -> Option<bool> {
    change.rows().find(|(named, _)| named == id).map(|(_, deletes)| deletes)
}

async fn hints(store: &RegionStore, id: &RowId, names: &[&Region]) -> Result<Vec<Waits>, StoreError> {
    let mut hints = Vec::new();
    let others =
        names.iter().filter(|region| **region != store.region()).map(|region| Addressee::Region((*region).clone()));
    for to in others.chain([Addressee::Cache(store.region().clone())]) {
        let to = to.to_string();
        let (partition, key) = hint_keys(&to, id);
        let row = none_where_no_table(store.home().get(&SystemTable::Backlog.name(), &partition, &key).await)?;
        if let Some(hint) = row.and_then(|row| decode_hint(&row).ok()) {
            hints.push(Waits { destination: to, version: hint.version, since: hint.since });
        }
    }
    Ok(hints)
}

async fn links(store: &RegionStore) -> Result<Vec<Link>, StoreError> {
    let links = match replicator::read_links(store).await {
        Err(error) if error.kind == ErrorKind::NoTable => Vec::new(),
        links => links?,
    };
    let own = links.into_iter().filter(|link| link.source == *store.region());
    let link = |LinkStatus { destination, state, last_error, published, .. }| Link {
        destination,
        state,
        last_error,
        published,
    };
    Ok(own.map(link).collect())
}

async fn quarantine(store: &RegionStore, id: &RowId) -> Result<Vec<Held>, StoreError> {
    let rows = regions::rows(store, SystemTable::Quarantine, Query::new(Scope::Table), MOST).await?.0;
    let entries = rows.iter().filter_map(|row| Entry::decode(row).ok()).filter(|entry| holds(entry, id));
    let held = |entry: Entry| Held {
        id: entry.id,
        reason: entry.reason.as_str(),
        remedy: entry.reason.remedy(),
        destination: entry.destination,
        version: entry.version.as_deref().and_then(|text| Version::parse(text).ok()),
        at: Some(entry.at),
    };
    Ok(entries.map(held).collect())
}

/// Whether an entry is about the row. What cannot be read of it is asked for the keys as JSON writes them.
fn holds(entry: &Entry, id: &RowId) -> bool {
    let same = |named: &Option<String>, own: &str| named.as_deref().is_none_or(|named| named == own);
    let table = entry.table.as_deref().is_none_or(|table| table.eq_ignore_ascii_case(id.table.as_str()));
    if !table || !same(&entry.partition, id.partition.as_str()) {
        return false;
    }
    if let Some(row) = &entry.row {
        return row == id.row.as_str();
    }
    match entry.source {
        Source::Message => match decode_message(&entry.whole) {
            Ok(change) => names(&change, id).is_some(),
            Err(_) => mentions(&entry.whole, id),
        },
        Source::Record | Source::Row | Source::Hint => mentions(&entry.whole, id),
    }
}

/// Whether the properties of an entry's JSON hold the row's key, as a string or in a list.
fn mentions(whole: &str, id: &RowId) -> bool {
    let listed = serde_json::to_string(id.row.as_str()).unwrap_or_default();
    match RowBody::parse(whole) {
        Ok(body) => {
            let list = |name| body.string(name).is_some_and(|keys| in_list(&keys, id.row.as_str(), &listed));
            list("Puts") || list("Deletes") || body.string("Row").as_deref() == Some(id.row.as_str())
        }
        Err(_) => whole.contains(&listed) || whole.contains(&listed.replace('"', "\\\"")),
    }
}

fn in_list(keys: &str, key: &str, listed: &str) -> bool {
    match serde_json::from_str::<Vec<String>>(keys) {
        Ok(keys) => keys.iter().any(|listed| listed == key),
        Err(_) => keys.contains(listed),
    }
}

/// Entries of the journal by the properties that are promised; whatever else they have is for `conflicts show`.
async fn conflicts(store: &RegionStore, id: &RowId) -> Result<Vec<Conflict>, StoreError> {
    let partition = Shard::of(&id.table, &id.partition).partition();
    let scope = Scope::Partition { partition, from: None, through: None };
    let rows = regions::rows(store, SystemTable::Conflicts, Query::new(scope), MOST).await?.0;
    let of_row = |row: &&Row| {
        let body = &row.body;
        let table =
            body.string("Table").is_some_and(|table| TableName::new(&table).is_ok_and(|table| table == id.table));
        let is = |name, key: &str| body.string(name).as_deref() == Some(key);
        table && is("Partition", id.partition.as_str()) && is("Row", id.row.as_str())
    };
    let conflict = |row: &Row| {
        let text = |name| row.body.string(name);
        let (winner, loser) = (text("Winner").unwrap_or_default(), text("Loser").unwrap_or_default());
        Conflict { winner, loser, destination: text("Destination"), at: text("At") }
    };
    let mut conflicts: Vec<Conflict> = rows.iter().filter(of_row).map(conflict).collect();
    conflicts.sort_by(|a, b| (&b.at, &b.winner).cmp(&(&a.at, &a.winner)));
    conflicts.truncate(CONFLICTS);
    Ok(conflicts)
}

async fn cached(setup: Option<&CacheSetup>, id: &RowId) -> Cache {
    let Some(setup) = setup else { return Cache::None };
    match tokio::time::timeout(PATIENCE, setup.cache.get(&setup.keys.key(id))).await {
        Ok(Ok(Some(held))) => Cache::Entry { version: held.version, deleted: held.entry.is_none() },
        Ok(Ok(None)) => Cache::Absent,
        Ok(Err(error)) => Cache::Unreachable { error: error.to_string() },
        Err(_) => Cache::Unreachable { error: no_answer(PATIENCE) },
    }
}

fn none_where_no_table<T>(read: Result<Option<T>, StoreError>) -> Result<Option<T>, StoreError> {
    match read {
        Err(error) if error.kind == ErrorKind::NoTable => Ok(None),
        read => read,
    }
}
