//! All that the regions hold, read at one time.

use std::collections::{BTreeMap, BTreeSet};

use tablerelay::feed::{Entry, Reason, decode_record, decode_tombstone, is_record_key};
use tablerelay::model::{Row, RowId, SystemTable, TableName, Version};
use tablerelay::stores::{ErrorKind, Query, Scope, Tables};

use super::book::Book;
use super::values::properties;
use crate::support::deployment::{Cached, Site};

/// One region.
pub struct Region {
    name: String,
    version_of: tablerelay::model::Region,
    rows: BTreeMap<RowId, Row>,
    records: Vec<Row>,
    tombstones: BTreeMap<RowId, Version>,
    quarantine: Vec<Row>,
    conflicts: Vec<Row>,
    cache: BTreeMap<RowId, Cached>,
}

/// Something that is not as it should be.
#[derive(Debug)]
pub struct Fault {
    /// The row that it is about, where it is about one.
    pub row: Option<RowId>,
    pub what: String,
}

impl Fault {
    fn of(row: &RowId, what: String) -> Self {
        Self { row: Some(row.clone()), what }
    }
}

/// Every row of a table; none where there is no such table.
async fn all(tables: &dyn Tables, table: &TableName) -> Vec<Row> {
    let (mut query, mut rows) = (Query::new(Scope::Table), Vec::new());
    loop {
        match tables.query(table, &query).await {
            Ok(page) => {
                rows.extend(page.rows);
                query.continuation = page.continuation;
                if query.continuation.is_none() {
                    return rows;
                }
            }
            Err(err) if err.kind == ErrorKind::NoTable => return rows,
            Err(err) => panic!("{table} in {} cannot be read: {err}", tables.region()),
        }
    }
}

/// How many records stand in a region's feed: what to wait for, before anything dearer is asked.
pub async fn open_records(site: &Site) -> usize {
    let feed = all(site.store.home().as_ref(), &SystemTable::Feed.name()).await;
    feed.iter().filter(|row| is_record_key(row.body.row())).count()
}

impl Region {
    /// Reads a region: its tables, its feed, its quarantine, its journal, and of its cache the keys of `known` rows.
    pub async fn read(site: &Site, known: &BTreeSet<&RowId>) -> Self {
        let tables = site.store.home().as_ref();
        let mut rows = BTreeMap::new();
        let names = tables.tables().await.expect("tables can be listed");
        for table in names.iter().filter(|table| !table.is_system()) {
            for row in all(tables, table).await {
                let id = RowId::new(table.clone(), row.body.partition().clone(), row.body.row().clone());
                rows.insert(id, row);
            }
        }
        let feed = all(tables, &SystemTable::Feed.name()).await;
        let (records, others): (Vec<_>, Vec<_>) = feed.into_iter().partition(|row| is_record_key(row.body.row()));
        let tombstones = others.iter().map(|row| decode_tombstone(row).expect("only tombstones stand beside records"));
        let tombstones = tombstones.map(|tombstone| (tombstone.id, tombstone.version)).collect();
        let quarantine = all(tables, &SystemTable::Quarantine.name()).await;
        let conflicts = all(tables, &SystemTable::Conflicts.name()).await;
        let ids: Vec<_> = known.iter().map(|id| (*id).clone()).collect();
        let cached = site.cached(&ids).await;
        let cache = ids.into_iter().zip(cached).filter_map(|(id, cached)| Some((id, cached?))).collect();
        let name = site.region.to_string();
        let version_of = site.region.clone();
        Self { name, version_of, rows, records, tombstones, quarantine, conflicts, cache }
    }

    /// What lies in quarantine, as far as it can be read.
    pub fn quarantined(&self) -> Vec<Entry> {
        let entries = self.quarantine.iter().map(|row| Entry::decode(row).expect("quarantine holds entries"));
        entries.collect()
    }

    fn version(&self, row: &Row) -> Version {
        row.version(&self.version_of)
    }

    /// What its cache holds of a row that is not what its table holds.
    fn stale(&self, id: &RowId) -> Option<String> {
        let cached = self.cache.get(id);
        let Some(row) = self.rows.get(id) else {
            let entry = cached.filter(|cached| cached.entry.is_some());
            return entry.map(|entry| format!("the cache of {} holds a row that is gone: {entry:?}", self.name));
        };
        let Some(Cached { version, entry: Some(entry) }) = cached else {
            return Some(format!("the cache of {} should hold the row, not {cached:?}", self.name));
        };
        let same = *version == self.version(row).as_str() && **entry == **row.body.json();
        (!same).then(|| format!("the cache of {} is stale: {cached:?}", self.name))
    }

    /// Everything known of one row.
    fn tell(&self, id: &RowId) -> String {
        let names = |row: &&Row| {
            let record = decode_record(row).map(|record| record.change);
            record.is_ok_and(|change| change.rows().any(|(named, _)| named == *id))
        };
        let records: Vec<_> = self.records.iter().filter(names).map(|row| row.body.row().as_str()).collect();
        let mentions = |rows: &[Row]| {
            let (partition, row) = (id.partition.as_str(), id.row.as_str());
            let of = |entry: &&Row| {
                let text = |name: &str| entry.body.string(name).unwrap_or_default();
                text("Partition") == partition && text("Row") == row
            };
            rows.iter().filter(of).map(|entry| entry.body.json().to_string()).collect::<Vec<_>>()
        };
        format!(
            "  {}: row {:?}\n    tombstone {:?}, records {records:?}, cache {:?}\n    conflicts {:#?}",
            self.name,
            self.rows.get(id).map(|row| (self.version(row), row.timestamp, short(row.body.json()))),
            self.tombstones.get(id),
            self.cache.get(id).map(|cached| (&cached.version, cached.entry.as_deref().map(short))),
            mentions(&self.conflicts),
        )
    }
}

/// Everything that is wrong.
pub fn faults(regions: &[Region], book: &Book) -> Vec<Fault> {
    let mut faults = Vec::new();
    for region in regions {
        for record in &region.records {
            let what = format!("a record is left in {}: {}", region.name, record.body.json());
            faults.push(Fault { row: None, what });
        }
    }
    let ids: BTreeSet<_> = regions.iter().flat_map(|region| region.rows.keys()).chain(book.rows()).collect();
    for id in ids {
        let first = regions[0].rows.get(id);
        for other in &regions[1..] {
            if other.rows.get(id).map(|row| &row.body) != first.map(|row| &row.body) {
                faults.push(Fault::of(id, format!("{} and {} differ", regions[0].name, other.name)));
            }
        }
        let found = first.and_then(|row| Some((row.body.version()?, properties(&row.body))));
        if first.is_some() && found.is_none() {
            faults.push(Fault::of(id, "it carries no version".to_owned()));
        }
        faults.extend(book.wrong(id, found).map(|what| Fault::of(id, what)));
        faults.extend(regions.iter().filter_map(|region| Some(Fault::of(id, region.stale(id)?))));
    }
    faults
}

/// A text for people: the first faults, and everything known of their rows.
pub fn report(faults: &[Fault], regions: &[Region], book: &Book) -> String {
    let mut text = format!("{} faults", faults.len());
    let mut rows = Vec::new();
    for fault in faults.iter().take(20) {
        let row = fault.row.as_ref().map(|row| format!("{row}: ")).unwrap_or_default();
        text += &format!("\n- {row}{}", fault.what);
        rows.extend(fault.row.as_ref());
    }
    rows.dedup();
    for id in rows.into_iter().take(8) {
        text += &format!("\n{id}, written as {:?} {:?}", book.own.get(id), book.contested.get(id));
        regions.iter().for_each(|region| text += &format!("\n{}", region.tell(id)));
    }
    text
}

/// What lies in quarantine beside what was planted there: one reason for each entry that should be.
pub fn unexpected_quarantine(regions: &[Region], planted: &[&[Reason]]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (region, planted) in regions.iter().zip(planted) {
        let found: Vec<_> = region.quarantined().iter().map(|entry| entry.reason).collect();
        if found != *planted {
            let what = format!("quarantine of {} should hold {planted:?}: {:#?}", region.name, region.quarantined());
            faults.push(Fault { row: None, what });
        }
    }
    faults
}

fn short(text: &str) -> String {
    text.chars().take(240).collect()
}
