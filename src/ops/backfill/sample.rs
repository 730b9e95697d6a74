//! Samples of a table: where its rows stand, about how many there are, and how large.
//!
//! No store counts rows, and none reads backwards. So a bounded number of short pages is read: from the first key on, then
//! towards the last one, then in the middle of whatever seems to hold most rows. A partition that fills a page is measured the
//! same way by its row keys. A small table is read whole by the first page.

use std::sync::Arc;

use std::collections::BTreeSet;

use futures::future::{BoxFuture, try_join_all};

use super::spread::{Sample, Spread};
use crate::model::{PartitionKey, RowKey, TableName};
use crate::ops::patient::{or_nothing, patiently};
use crate::replicator::VERSION_ALONE;
use crate::stores::{Page, Query, RegionStore, Scope, StoreError, Tables};

/// Rows of the first page, of the others, and of those that tell how large rows are.
const FIRST: u16 = 1_000;
const ROWS: u16 = 100;
const WHOLE: u16 = 20;
/// Most pages in the middle of the table, and of a partition; most steps towards the last key.
const MIDDLES: usize = 96;
const MIDDLES_OF_ROWS: usize = 12;
const STEPS: usize = 24;
/// Most partitions whose rows are measured; what others hold is taken for the mean of these.
const MEASURED: usize = 4;
/// Ranges that a table is cut into at most.
const RANGES: f64 = 64.0;
/// The least character that a key may hold.
const LEAST: &str = " ";
/// More than the characters in a row that no key may hold.
const FORBIDDEN: u32 = 40;

/// A part of a table, by its partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stretch {
    /// The first partition; none is the first of all.
    pub from: Option<PartitionKey>,
    /// The partition to stop before; none is behind the last one.
    pub until: Option<PartitionKey>,
    /// How many rows it has, probably.
    pub rows: u64,
}

/// What is known of a table.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sampled {
    /// In order, without gaps.
    pub stretches: Vec<Stretch>,
    /// Whether all rows were counted.
    pub counted: bool,
    /// Bytes of a row, in the mean.
    pub row_bytes: f64,
    /// Rows of a partition, in the mean.
    pub partition_rows: f64,
    /// How many of those that were seen carry no version.
    pub unversioned: f64,
    /// What this took.
    pub requests: u64,
}

impl Sampled {
    pub fn rows(&self) -> u64 {
        self.stretches.iter().map(|stretch| stretch.rows).sum()
    }
}

/// Which keys are looked at.
#[derive(Debug, Clone, Copy)]
enum Axis<'a> {
    Partitions,
    Rows(&'a PartitionKey),
}

impl Axis<'_> {
    fn scope(self, from: &str) -> Scope {
        let from = Some(from).filter(|from| !from.is_empty());
        match self {
            Self::Partitions if from.is_none() => Scope::Table,
            Self::Partitions => Scope::Partitions { from: from.map(PartitionKey::new), until: None },
            Self::Rows(partition) => {
                Scope::Partition { partition: partition.clone(), from: from.map(RowKey::new), through: None }
            }
        }
    }

    fn middles(self) -> usize {
        match self {
            Self::Partitions => MIDDLES,
            Self::Rows(_) => MIDDLES_OF_ROWS,
        }
    }
}

/// Takes samples of one table.
#[derive(Debug)]
pub(super) struct Sampler<'a> {
    store: &'a RegionStore,
    table: &'a TableName,
    /// Rows that a range has at least, where there are more.
    range_rows: f64,
    requests: u64,
    seen: u64,
    unversioned: u64,
    measured: Vec<f64>,
}

/// A short page: keys with the rows that each has on it, and whether nothing comes behind it.
type Counted = (Vec<(String, u64)>, bool);

impl<'a> Sampler<'a> {
    /// Ranges are to have `range_rows` at least, where there are more.
    pub fn new(store: &'a RegionStore, table: &'a TableName, range_rows: u64) -> Self {
        let range_rows = range_rows as f64;
        Self { store, table, range_rows, requests: 0, seen: 0, unversioned: 0, measured: Vec::new() }
    }

    /// Takes them.
    ///
    /// # Errors
    /// What the store goes on answering.
    pub async fn take(mut self) -> Result<Sampled, StoreError> {
        let spread = self.explore(Axis::Partitions).await?;
        let stretches = stretches(&spread, self.range_rows);
        Ok(Sampled {
            counted: spread.gaps().iter().all(|gap| gap.counted) && self.measured.is_empty(),
            row_bytes: self.row_bytes(&stretches).await?,
            partition_rows: spread.rows_of_key(),
            unversioned: self.unversioned as f64 / self.seen.max(1) as f64,
            requests: self.requests,
            stretches,
        })
    }

    fn explore<'b>(&'b mut self, axis: Axis<'b>) -> BoxFuture<'b, Result<Spread, StoreError>> {
        Box::pin(async move {
            let (mut spread, mut tried) = (Spread::default(), BTreeSet::new());
            let first = self.sample(axis, "", FIRST).await?;
            let ended = first.until.is_none();
            spread.add("", first);
            if ended {
                return Ok(spread);
            }
            self.climb(axis, &mut spread).await?;
            for _ in 0..axis.middles() {
                let few = (spread.rows() / RANGES).max(self.range_rows);
                let Some(middle) = spread.middle(few, &tried) else { break };
                let sample = self.sample(axis, &middle, ROWS).await?;
                // Where nothing stands in between, that is known from now on.
                match sample.counts.first().map(|(key, _)| key.clone()) {
                    Some(key) if key > middle => {
                        spread.add(&middle, Sample { counts: Vec::new(), until: Some(key.clone()) });
                        spread.add(&key, sample);
                    }
                    Some(_) => spread.add(&middle, sample),
                    None => spread.set_end(middle.clone()),
                }
                tried.insert(middle);
            }
            Ok(spread)
        })
    }

    /// Goes towards the last key: character by character the greatest that there is.
    async fn climb(&mut self, axis: Axis<'_>, spread: &mut Spread) -> Result<(), StoreError> {
        let (mut prefix, mut steps) = (String::new(), 0);
        while let Some(mut greatest) = spread.last().and_then(|last| last.chars().nth(prefix.chars().count())) {
            let (mut nothing, mut risen): (Option<char>, bool) = (None, false);
            while let Some(c) = upwards(greatest, nothing, risen) {
                if steps == STEPS {
                    return Ok(());
                }
                steps += 1;
                let key = format!("{prefix}{c}");
                let sample = self.sample(axis, &key, ROWS).await?;
                match sample.counts.first().map(|(key, _)| key.clone()) {
                    Some(found) => {
                        (greatest, risen) = (found.chars().nth(prefix.chars().count()).unwrap_or(c), true);
                        spread.add(&found, sample);
                    }
                    None => nothing = Some(c),
                }
            }
            if let Some(c) = nothing {
                spread.set_end(format!("{prefix}{c}"));
            }
            prefix.push(greatest);
        }
        Ok(())
    }

    /// What stands from a key on.
    async fn sample(&mut self, axis: Axis<'_>, from: &str, rows: u16) -> Result<Sample, StoreError> {
        let (mut counts, ended) = self.page(axis, from, rows).await?;
        if ended {
            return Ok(Sample { counts, until: None });
        }
        // The last one is not counted to its end.
        let last = counts.pop();
        if let (true, Some((key, seen))) = (counts.is_empty(), last.clone()) {
            let rows = self.rows_of(&key, seen).await?;
            let (behind, _) = self.page(axis, &format!("{key}{LEAST}"), 1).await?;
            return Ok(Sample { counts: vec![(key, rows)], until: behind.into_iter().next().map(|(key, _)| key) });
        }
        Ok(Sample { counts, until: last.map(|(key, _)| key) })
    }

    /// How many rows a partition holds that has filled a page.
    async fn rows_of(&mut self, partition: &str, seen: u64) -> Result<u64, StoreError> {
        if self.measured.len() < MEASURED {
            let partition = PartitionKey::new(partition);
            let rows = self.explore(Axis::Rows(&partition)).await?.rows();
            self.measured.push(rows);
            return Ok((rows as u64).max(seen));
        }
        let mean = self.measured.iter().sum::<f64>() / self.measured.len() as f64;
        Ok((mean as u64).max(seen))
    }

    /// A page of keys, of all accounts together as far as all of them have come.
    async fn page(&mut self, axis: Axis<'_>, from: &str, rows: u16) -> Result<Counted, StoreError> {
        let accounts: Vec<Arc<dyn Tables>> = match axis {
            Axis::Partitions => self.store.accounts().iter().map(|account| account.tables.clone()).collect(),
            Axis::Rows(partition) => vec![self.store.holding(self.table, partition)],
        };
        let select = Some(VERSION_ALONE.map(str::to_owned).to_vec());
        let query = Query { top: Some(rows), select, ..Query::new(axis.scope(from)) };
        self.requests += accounts.len() as u64;
        let pages = try_join_all(accounts.iter().map(|tables| first_rows(tables.as_ref(), self.table, query.clone())));
        let (mut keys, mut reached) = (Vec::new(), None::<String>);
        for page in pages.await? {
            let key = |row: &crate::model::Row| match axis {
                Axis::Partitions => row.body.partition().as_str().to_owned(),
                Axis::Rows(_) => row.body.row().as_str().to_owned(),
            };
            self.seen += page.rows.len() as u64;
            self.unversioned += page.rows.iter().filter(|row| row.body.version().is_none()).count() as u64;
            if let (Some(_), Some(last)) = (&page.continuation, page.rows.last()) {
                reached = Some(reached.map_or(key(last), |reached| reached.min(key(last))));
            }
            keys.extend(page.rows.iter().map(key));
        }
        keys.sort();
        keys.retain(|key| reached.as_ref().is_none_or(|reached| key <= reached));
        let mut counts: Vec<(String, u64)> = Vec::new();
        for key in keys {
            match counts.last_mut() {
                Some((last, rows)) if *last == key => *rows += 1,
                _ => counts.push((key, 1)),
            }
        }
        Ok((counts, reached.is_none()))
    }

    /// How large rows are here and there.
    async fn row_bytes(&mut self, stretches: &[Stretch]) -> Result<f64, StoreError> {
        let (mut rows, mut bytes) = (0, 0);
        for stretch in stretches.iter().step_by((stretches.len() / 4).max(1)) {
            let scope = match &stretch.from {
                None => Scope::Table,
                from => Scope::Partitions { from: from.clone(), until: None },
            };
            let query = Query { top: Some(WHOLE), ..Query::new(scope) };
            self.requests += self.store.accounts().len() as u64;
            let accounts = self.store.accounts().iter();
            let pages = accounts.map(|account| first_rows(account.tables.as_ref(), self.table, query.clone()));
            for row in try_join_all(pages).await?.into_iter().flat_map(|page| page.rows) {
                (rows, bytes) = (rows + 1, bytes + row.body.json().len());
            }
        }
        Ok(bytes as f64 / f64::from(rows.max(1)))
    }
}

/// A character above the greatest that there is, and below the least at which nothing stands. The next one first, since most often
/// nothing is there; where something was, the middle of what is left.
fn upwards(greatest: char, nothing: Option<char>, risen: bool) -> Option<char> {
    let ceiling = nothing.unwrap_or(if greatest < '~' { '~' } else { '\u{ffff}' });
    let (at, ceiling) = (u32::from(greatest), u32::from(ceiling));
    let first = if risen { at + (ceiling.saturating_sub(at) / 2).max(1) } else { at + 1 };
    // Some characters no key may hold, and nobody may be asked for.
    let may_be = |c: &char| PartitionKey::new(c.to_string()).check().is_ok();
    let below = |c: &char| nothing.is_none_or(|nothing| *c < nothing);
    let upwards = (first..first + FORBIDDEN).filter_map(char::from_u32).find(may_be);
    let downwards = || (at + 1..first).rev().filter_map(char::from_u32).find(may_be);
    upwards.filter(below).or_else(downwards)
}

/// The first page that has rows, or the last one.
async fn first_rows(tables: &dyn Tables, table: &TableName, mut query: Query) -> Result<Page, StoreError> {
    loop {
        let page = or_nothing(patiently(|| tables.query(table, &query)).await)?;
        if !page.rows.is_empty() || page.continuation.is_none() {
            return Ok(page);
        }
        query.continuation = page.continuation;
    }
}

/// Cuts a table where samples were taken, into parts of about as many rows.
fn stretches(spread: &Spread, range_rows: f64) -> Vec<Stretch> {
    let gaps = spread.gaps();
    let enough = (spread.rows() / RANGES).max(range_rows);
    let (mut stretches, mut from, mut rows) = (Vec::new(), None::<PartitionKey>, 0.0);
    for gap in &gaps {
        rows += gap.rows;
        if let (Some(until), true) = (&gap.until, rows >= enough) {
            let until = PartitionKey::new(until.as_str());
            stretches.push(Stretch { from: from.replace(until.clone()), until: Some(until), rows: rows as u64 });
            rows = 0.0;
        }
    }
    stretches.push(Stretch { from, until: None, rows: rows as u64 });
    stretches
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{AccountName, Region, RowBody, Time};
    use crate::runtime::Runtime;
    use crate::stores::memory::MemoryTables;
    use crate::stores::{Account, Operation};

    /// A region of accounts that hold rows with these keys.
    async fn region(accounts: usize, keys: impl Iterator<Item = (String, String)>) -> RegionStore {
        let runtime = Runtime::simulated(Time::from_unix_seconds(1_000), 1);
        let region = Region::new("west").unwrap();
        let account = |n: usize| -> Account {
            let name = AccountName::new(&format!("a{n}")).unwrap();
            let tables: Arc<dyn Tables> = MemoryTables::new(region.clone(), name, runtime.clone());
            Account { tables, queue: None }
        };
        let store = RegionStore::new(region.clone(), (0..accounts).map(account).collect());
        for account in store.accounts() {
            account.tables.create_table(&table()).await.unwrap();
        }
        for (partition, row) in keys {
            let (partition, row) = (partition.as_str().into(), row.as_str().into());
            let body = RowBody::builder(&partition, &row).string("A", "some text").finish();
            store.holding(&table(), &partition).write(&table(), &Operation::Insert(body)).await.unwrap();
        }
        store
    }

    fn table() -> TableName {
        TableName::new("orders").unwrap()
    }

    async fn rows_in(store: &RegionStore, stretch: &Stretch) -> usize {
        let scope = Scope::Partitions { from: stretch.from.clone(), until: stretch.until.clone() };
        let mut rows = 0;
        for account in store.accounts() {
            let mut query = Query::new(scope.clone());
            loop {
                let page = account.tables.query(&table(), &query).await.unwrap();
                rows += page.rows.len();
                query.continuation = page.continuation;
                if query.continuation.is_none() {
                    break;
                }
            }
        }
        rows
    }

    /// A number that looks drawn at random.
    fn scattered(n: usize) -> u64 {
        (n as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    /// Whatever the keys are: few requests, every row in one range, no range with much more than its part, and an estimate that is of
    /// some use.
    async fn holds_for(name: &str, accounts: usize, rows: usize, key: impl Fn(usize) -> (String, String)) {
        let store = region(accounts, (0..rows).map(key)).await;
        let sampled = Sampler::new(&store, &table(), 2_000).take().await.unwrap();
        let mut counts = Vec::new();
        for stretch in &sampled.stretches {
            counts.push(rows_in(&store, stretch).await);
        }
        let (most, told) = (*counts.iter().max().unwrap(), sampled.rows());
        println!("{name}: {} ranges, {told} rows told, at most {most}, {} requests", counts.len(), sampled.requests);
        assert_eq!(counts.iter().sum::<usize>(), rows, "{name}: every row is in a range, and in one");
        assert!(counts.len() >= rows / 6_000 && most <= rows / 2, "{name}: {counts:?}");
        assert!((rows as u64 * 2 / 5..=rows as u64 * 5 / 2).contains(&told), "{name}: {told}");
        assert!(sampled.requests <= 300 * accounts as u64, "{name}: {} requests", sampled.requests);
        assert!(
            (sampled.row_bytes - 70.0).abs() < 30.0 && sampled.unversioned == 1.0 && !sampled.counted,
            "{sampled:?}"
        );
    }

    #[tokio::test]
    async fn few_requests_find_ranges_of_about_the_same_size_whatever_the_keys_are() {
        const ROWS: usize = 12_000;
        let numbers = |n: usize| (format!("order-{n:08}"), String::new());
        holds_for("numbers", 1, ROWS, numbers).await;
        holds_for("numbers in three accounts", 3, ROWS, numbers).await;
        holds_for("hex", 1, ROWS, |n| (format!("{:016x}", scattered(n)), "r".to_owned())).await;
        holds_for("ten a partition", 1, ROWS, |n| (format!("{:08x}", scattered(n / 10) >> 32), format!("{n}"))).await;
        // One tenant has most of it.
        let tenant = |n: usize| match n % 10 {
            0 => format!("tenant-{}-{:04}", scattered(n) % 26, n),
            _ => format!("tenant-acme-{:012}", scattered(n) >> 24),
        };
        holds_for("tenants", 1, ROWS, |n| (tenant(n), format!("{n}"))).await;
        let name = |n: usize| {
            let letter = |shift: u32| char::from(b'a' + (scattered(n) >> shift) as u8 % 26);
            format!("{}{}{}.{n}@example.com", letter(10), letter(20), letter(30))
        };
        holds_for("names", 1, ROWS, |n| (name(n), "profile".to_owned())).await;
        // Partitions that fill pages.
        holds_for("large partitions", 1, ROWS, |n| (format!("day-{:03}", n / 1_500), format!("{n:09}"))).await;
    }

    #[tokio::test]
    async fn a_small_table_is_counted_by_one_page_and_a_single_partition_is_one_range() {
        let store = region(1, (0..900).map(|n| (format!("p{n}"), String::new()))).await;
        let sampled = Sampler::new(&store, &table(), 5_000).take().await.unwrap();
        assert_eq!((sampled.rows(), sampled.counted, sampled.stretches.len(), sampled.requests), (900, true, 1, 2));
        let store = region(1, (0..20_000).map(|n| ("all".to_owned(), format!("{n:06}")))).await;
        let sampled = Sampler::new(&store, &table(), 5_000).take().await.unwrap();
        assert_eq!(sampled.stretches.len(), 1);
        assert!((10_000..40_000).contains(&sampled.rows()) && !sampled.counted, "{sampled:?}");
        let store = region(2, std::iter::empty()).await;
        let sampled = Sampler::new(&store, &table(), 5_000).take().await.unwrap();
        assert_eq!((sampled.rows(), sampled.counted, sampled.stretches.len()), (0, true, 1));
    }
}
