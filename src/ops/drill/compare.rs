//! All rows of all replicated tables, compared between all regions.
//!
//! Side by side in the order of keys: what is held in memory is a page of each account and the rows that differ. Applications
//! go on writing meanwhile, so a row that differs is a suspect and no more: it is looked at again once the links have passed the
//! comparison. Equal is then what has everywhere what was seen anywhere, or something newer, and where the same version says the same.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::try_join_all;
use futures::stream::{StreamExt, TryStreamExt, iter};
use serde::Serialize;
use tokio::time::sleep;

use crate::model::{Region, Row, RowBody, RowId, TableName, Version};
use crate::ops::patient::patiently;
use crate::ops::stand::{Stand, stand};
use crate::ops::verify::{Join, Span};
use crate::resolve::Content;
use crate::stores::{RegionStore, StoreError};
use crate::topology::TableFilter;

/// Most rows that are looked at again; beyond them there are at least so many.
const MOST: usize = 10_000;
/// Most differences that are named.
pub(super) const NAMED: usize = 20;
/// How often a suspect is looked at again, and the pause between two looks.
const LOOKS: usize = 5;
const PAUSE: Duration = Duration::from_secs(1);
/// How many rows are read at a time.
const SIDE_BY_SIDE: usize = 16;

/// What was compared, and what differs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// By table.
    pub tables: Vec<ComparedTable>,
    /// The rows that differ, the first of them.
    pub named: Vec<Difference>,
    /// There may be more differences: too many rows differed to look at all of them again.
    pub at_least: bool,
}

/// What was compared of one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ComparedTable {
    /// Which.
    pub table: String,
    /// Distinct rows.
    pub rows: u64,
    /// Those that are not the same in all regions.
    pub differences: u64,
}

/// A row that is not the same in all regions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Its table.
    pub table: String,
    /// Its partition.
    pub partition: String,
    /// Its key.
    pub row: String,
    /// What each region holds.
    pub held: BTreeMap<Region, Held>,
}

/// What a region holds of a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Held {
    /// The version; none where there is neither a row nor a tombstone.
    pub version: Option<String>,
    /// Whether there is no row.
    pub absent: bool,
}

impl Comparison {
    /// How many rows differ.
    pub fn differences(&self) -> u64 {
        self.tables.iter().map(|table| table.differences).sum()
    }

    /// How many distinct rows were compared.
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|table| table.rows).sum()
    }
}

/// A row that differed when it was compared, and the highest version that was seen of it.
#[derive(Debug, Clone)]
pub(super) struct Suspect {
    id: RowId,
    highest: Version,
}

/// Compares page by page; the suspects are still to be [judged](judge).
pub(super) async fn compare(
    regions: &[RegionStore],
    filter: &TableFilter,
    tell: &mut (dyn FnMut(&TableName, u64) + Send),
) -> Result<(Comparison, Vec<Suspect>), StoreError> {
    let (mut comparison, mut suspects) = (Comparison::default(), Vec::new());
    for table in tables(regions, filter).await? {
        let mut join = Join::new(regions, &table, &Span::Table, true);
        let mut rows = 0;
        while let Some((key, found)) = join.next().await? {
            rows += 1;
            if rows % 10_000 == 0 {
                tell(&table, rows);
            }
            let versions = found.iter().zip(regions).filter_map(|(row, at)| Some(row.as_ref()?.version(at.region())));
            let Some(highest) = versions.max() else { continue };
            if all_equal(regions, &found) {
                continue;
            }
            if suspects.len() < MOST {
                suspects.push(Suspect { id: RowId::new(table.clone(), key.0, key.1), highest });
            } else {
                comparison.at_least = true;
            }
        }
        tell(&table, rows);
        comparison.tables.push(ComparedTable { table: table.as_str().to_owned(), rows, differences: 0 });
    }
    Ok((comparison, suspects))
}

/// Looks at suspects again, a few times, and notes those that differ all the while.
pub(super) async fn judge(
    regions: &[RegionStore],
    mut suspects: Vec<Suspect>,
    comparison: &mut Comparison,
) -> Result<(), StoreError> {
    let mut differ = Vec::new();
    for look in 0..LOOKS {
        if look > 0 {
            sleep(PAUSE).await;
        }
        let looked = suspects.iter().map(|suspect| async move {
            let stands = try_join_all(regions.iter().map(|store| patiently(move || stand(store, &suspect.id)))).await?;
            Ok::<_, StoreError>((!is_equal(suspect, &stands)).then(|| (suspect.clone(), stands)))
        });
        // Collected first: a stream of closures over borrowed rows is no future that may change its thread.
        let looked: Vec<_> = looked.collect();
        let found: Vec<Option<(Suspect, Vec<Option<Stand>>)>> =
            iter(looked).buffered(SIDE_BY_SIDE).try_collect().await?;
        differ = found.into_iter().flatten().collect();
        if differ.is_empty() {
            break;
        }
        suspects = differ.iter().map(|(suspect, _)| suspect.clone()).collect();
    }
    for (Suspect { id, .. }, stands) in differ {
        if let Some(table) = comparison.tables.iter_mut().find(|table| table.table == id.table.as_str()) {
            table.differences += 1;
        }
        if comparison.named.len() < NAMED {
            comparison.named.push(difference(&id, regions, &stands));
        }
    }
    Ok(())
}

fn difference(id: &RowId, regions: &[RegionStore], stands: &[Option<Stand>]) -> Difference {
    let held = |stand: &Option<Stand>| Held {
        version: stand.as_ref().map(|stand| stand.version.as_str().to_owned()),
        absent: stand.as_ref().is_none_or(|stand| stand.row.is_none()),
    };
    Difference {
        table: id.table.as_str().to_owned(),
        partition: id.partition.as_str().to_owned(),
        row: id.row.as_str().to_owned(),
        held: regions.iter().zip(stands).map(|(store, stand)| (store.region().clone(), held(stand))).collect(),
    }
}

/// Whether every region has what was seen, or something newer, and what has the same version says the same. A row that is gone
/// everywhere, and its tombstones with it, is equal too.
fn is_equal(suspect: &Suspect, stands: &[Option<Stand>]) -> bool {
    let there: Vec<&Stand> = stands.iter().flatten().collect();
    if there.iter().all(|stand| stand.row.is_none()) {
        return true;
    }
    let have_it = there.len() == stands.len() && there.iter().all(|stand| stand.version >= suspect.highest);
    have_it
        && there.iter().all(|one| there.iter().all(|other| one.version != other.version || say_the_same(one, other)))
}

fn say_the_same(one: &Stand, other: &Stand) -> bool {
    match (&one.row, &other.row) {
        (Some(this), Some(that)) => same(this, that),
        (None, None) => true,
        _ => false,
    }
}

/// Whether two rows of one version say the same, whether they carry it or had it given by their region, and in whatever order
/// their properties come.
fn same(one: &RowBody, other: &RowBody) -> bool {
    one.json() == other.json() || Content::of(one) == Content::of(other)
}

/// Whether every region has the row, of one version that says the same.
fn all_equal(regions: &[RegionStore], found: &[Option<Row>]) -> bool {
    let versions = found.iter().zip(regions).map(|(row, store)| Some(row.as_ref()?.version(store.region())));
    let versions: Vec<_> = versions.collect();
    let one = versions.first().is_some_and(|first| first.is_some() && versions.iter().all(|other| other == first));
    let pairs = || found.iter().flatten().zip(found.iter().flatten().skip(1));
    one && pairs().all(|(one, other)| same(&one.body, &other.body))
}

/// The replicated tables of all regions.
async fn tables(regions: &[RegionStore], filter: &TableFilter) -> Result<BTreeSet<TableName>, StoreError> {
    let accounts = regions.iter().flat_map(RegionStore::accounts);
    let lists = try_join_all(accounts.map(|account| patiently(move || account.tables.tables()))).await?;
    Ok(lists.into_iter().flatten().filter(|table| filter.matches(table)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AccountName, Time, WriterId};
    use crate::runtime::Runtime;
    use crate::stores::memory::MemoryTables;
    use crate::stores::{Account, Operation};

    fn version(tick: i64) -> Version {
        Version::new(Time::from_ticks(tick), &Region::new("west").unwrap(), WriterId(1))
    }

    fn row(key: &str, text: &str, tick: i64) -> RowBody {
        RowBody::builder(&"p".into(), &key.into()).string("A", text).string("B", "b").finish().stamped(&version(tick))
    }

    async fn region(name: &str, accounts: usize, rows: &[RowBody]) -> RegionStore {
        let (region, runtime) = (Region::new(name).unwrap(), Runtime::simulated(Time::EPOCH, 7));
        let account = |n: usize| -> Account {
            let name = AccountName::new(&format!("one{n}")).unwrap();
            Account { tables: MemoryTables::new(region.clone(), name, runtime.clone()), queue: None }
        };
        let store = RegionStore::new(region.clone(), (0..accounts).map(account).collect());
        let table = TableName::new("orders").unwrap();
        for account in store.accounts() {
            account.tables.create_table(&table).await.unwrap();
        }
        for body in rows {
            let write = Operation::InsertOrReplace(body.clone());
            store.holding(&table, body.partition()).write(&table, &write).await.unwrap();
        }
        store
    }

    async fn compared(regions: &[RegionStore]) -> Comparison {
        let (mut comparison, suspects) = compare(regions, &TableFilter::Every, &mut |_, _| {}).await.unwrap();
        judge(regions, suspects, &mut comparison).await.unwrap();
        comparison
    }

    #[tokio::test(start_paused = true)]
    async fn regions_of_other_accounts_and_more_than_a_page_are_equal_and_every_difference_is_found() {
        let row_of = |n: usize| {
            let partition = format!("p{}", n % 37);
            let body = RowBody::builder(&partition.as_str().into(), &format!("r{n}").as_str().into());
            body.string("A", "a").finish().stamped(&version(n as i64))
        };
        let rows: Vec<RowBody> = (0..2_500).map(row_of).collect();
        let (west, north) = (region("west", 1, &rows).await, region("north", 3, &rows).await);
        let regions = [west, north];
        let equal = compared(&regions).await;
        assert_eq!((equal.rows(), equal.differences(), equal.named.len()), (2_500, 0, 0), "{equal:?}");

        let table = TableName::new("orders").unwrap();
        let spoil = [
            RowBody::builder(&"p1".into(), &"r1".into()).string("A", "b").finish().stamped(&version(1)),
            RowBody::builder(&"p2".into(), &"r2".into()).string("A", "a").finish().stamped(&version(1)),
            RowBody::builder(&"new".into(), &"r".into()).string("A", "a").finish().stamped(&version(1)),
        ];
        for body in spoil {
            let write = Operation::InsertOrReplace(body.clone());
            regions[1].holding(&table, body.partition()).write(&table, &write).await.unwrap();
        }
        let differ = compared(&regions).await;
        assert_eq!((differ.rows(), differ.differences()), (2_501, 3), "{differ:?}");
        let named: Vec<&str> = differ.named.iter().map(|row| row.row.as_str()).collect();
        assert_eq!(named, ["r", "r1", "r2"]);
        assert!(differ.named[0].held[&Region::new("west").unwrap()].absent, "{differ:?}");
    }

    #[test]
    fn what_moved_on_since_is_equal_and_what_lags_or_says_something_else_is_not() {
        let id = RowId::new(TableName::new("orders").unwrap(), "p".into(), "r".into());
        let suspect = Suspect { id, highest: version(5) };
        let row = |tick, text| Some(Stand { version: version(tick), row: Some(row("r", text, tick)) });
        let gone = |tick| Some(Stand { version: version(tick), row: None });
        for (stands, equal) in [
            (vec![row(5, "a"), row(5, "a")], true),
            (vec![row(6, "b"), row(5, "a"), row(7, "c")], true),
            (vec![row(6, "b"), row(4, "a")], false),
            (vec![row(5, "a"), row(5, "b")], false),
            (vec![gone(6), row(5, "a")], true),
            (vec![gone(5), row(5, "a")], false),
            (vec![None, row(5, "a")], false),
            (vec![None, gone(6)], true),
            (vec![None, None], true),
        ] {
            assert_eq!(is_equal(&suspect, &stands), equal, "{stands:?}");
        }
        let body = |json: &str| RowBody::parse(json).unwrap();
        let one = body(r#"{"PartitionKey":"p","RowKey":"r","A":"a","B":1}"#);
        let other = body(r#"{"PartitionKey":"p","RowKey":"r","B":1,"A":"a"}"#).stamped(&version(1));
        assert!(same(&one, &other), "one carries its version, the other does not, and the order differs");
    }
}
