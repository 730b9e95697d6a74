//! The rows of a table in several regions, side by side in the order of their keys.
//!
//! What is held in memory is a page of each account. A region's rows come from all of its accounts, each in its own order, and
//! are merged; a row counts in the account that the routes lead to, where an application reads it.
//!
//! How Azure orders keys beyond ASCII could not be checked. Where it is another order than ours, a row that stands in both
//! regions may be met apart, which makes a suspect of it and no more.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::future::join_all;
use tokio::time::Instant;

use crate::model::{AccountName, PartitionKey, Row, RowKey, TableName};
use crate::ops::patient::{or_nothing, patiently};
use crate::replicator::VERSION_ALONE;
use crate::stores::{Continuation, Query, RegionStore, Scope, StoreError, Tables};

/// Most rows of a page: Azure's own limit.
const PAGE: u16 = 1_000;
/// The first page of rows that are read whole is small: how large they are is not known yet.
const FIRST_PAGE: u16 = 100;
/// Bytes of a page where rows are compared whole.
const PAGE_BYTES: usize = 4 * 1_024 * 1_024;
/// The least character that a key may hold.
const LEAST: &str = " ";

/// Where a row stands in its table.
pub(in crate::ops) type Key = (PartitionKey, RowKey);

/// Which rows of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::ops) enum Span {
    /// All.
    Table,
    /// Those behind this one.
    After(Key),
    /// Those of some partitions.
    Between {
        /// The first partition; none is the first of all.
        from: Option<PartitionKey>,
        /// The partition to stop before; none is behind the last one.
        until: Option<PartitionKey>,
        /// Those behind this row alone, which is one of these.
        after: Option<Key>,
    },
    /// Those of a partition.
    Partition(PartitionKey),
    /// One row.
    Row(Key),
}

impl Span {
    /// The ranges that it is made of, in the order of keys. They may hold more than the span, in front of it.
    fn scopes(&self) -> VecDeque<Scope> {
        let partition = |partition: &PartitionKey, from: Option<&RowKey>, through: Option<&RowKey>| Scope::Partition {
            partition: partition.clone(),
            from: from.cloned(),
            through: through.cloned(),
        };
        match self {
            Self::Table => [Scope::Table].into(),
            Self::Partition(key) => [partition(key, None, None)].into(),
            Self::Row((key, row)) => [partition(key, Some(row), Some(row))].into(),
            Self::Between { from, until, after: None } => match (from, until) {
                (None, None) => [Scope::Table].into(),
                _ => [Scope::Partitions { from: from.clone(), until: until.clone() }].into(),
            },
            Self::After((key, row)) | Self::Between { after: Some((key, row)), .. } => {
                let behind = PartitionKey::new(format!("{key}{LEAST}"));
                let until = match self {
                    Self::Between { until, .. } => until.clone(),
                    _ => None,
                };
                match behind.check() {
                    Ok(()) => {
                        let others = Scope::Partitions { from: Some(behind), until };
                        [partition(key, Some(row), None), others].into()
                    }
                    // The longest key that there may be has none behind it that could be asked for.
                    Err(_) => [Scope::Partitions { from: Some(key.clone()), until }].into(),
                }
            }
        }
    }

    fn holds(&self, key: (&PartitionKey, &RowKey)) -> bool {
        match self {
            Self::After(last) => key > (&last.0, &last.1),
            // Whatever order the server has, it is that row alone that is left out, and nothing that nobody has read.
            Self::Between { after: Some(last), .. } => key != (&last.0, &last.1),
            _ => true,
        }
    }
}

/// How much is read of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ops) enum Read {
    /// Their versions.
    Versions,
    /// Everything, so many bytes at a time at most, as far as the last page tells how large they are.
    Whole {
        /// Bytes of a page.
        bytes: usize,
    },
}

/// A row as it was met.
#[derive(Debug)]
pub(in crate::ops) struct Met {
    /// The row.
    pub row: Row,
    /// The account that it stands in.
    pub account: AccountName,
    /// Whether its cold place has one of its keys, too.
    pub doubled: bool,
}

/// The rows of one account's table.
#[derive(Debug)]
struct Cursor {
    tables: Arc<dyn Tables>,
    rows: VecDeque<Row>,
    /// What is still to be read: the first one from `continuation` on.
    scopes: VecDeque<Scope>,
    continuation: Option<Continuation>,
    top: u16,
    /// When the reading of what is in memory began.
    began: Instant,
}

/// The rows of a region's table, merged from all of its accounts.
#[derive(Debug)]
pub(in crate::ops) struct RegionRows {
    store: RegionStore,
    table: TableName,
    span: Span,
    read: Read,
    /// Properties that are read beside the version.
    besides: Vec<String>,
    most: u16,
    cursors: Vec<Cursor>,
    misplaced: u64,
    /// When the oldest reading began of what was taken.
    oldest: Option<Instant>,
}

impl RegionRows {
    /// Those of `span`, in pages.
    pub fn new(store: &RegionStore, table: &TableName, span: &Span, read: Read) -> Self {
        let cursor = |tables: &Arc<dyn Tables>| Cursor {
            tables: tables.clone(),
            rows: VecDeque::new(),
            scopes: span.scopes(),
            continuation: None,
            top: if read == Read::Versions { PAGE } else { FIRST_PAGE },
            began: Instant::now(),
        };
        let cursors = store.accounts().iter().map(|account| cursor(&account.tables)).collect();
        let (store, table, span) = (store.clone(), table.clone(), span.clone());
        Self { store, table, span, read, besides: Vec::new(), most: PAGE, cursors, misplaced: 0, oldest: None }
    }

    /// Reads these properties beside versions.
    pub fn besides(self, besides: Vec<String>) -> Self {
        Self { besides, ..self }
    }

    /// Pages have no more than so many rows from now on.
    pub fn set_most(&mut self, most: u16) {
        self.most = most.clamp(1, PAGE);
    }

    /// When the oldest reading began of what was taken since this was asked last.
    pub fn began(&mut self) -> Option<Instant> {
        self.oldest.take()
    }

    /// Rows that were met in an account that the routes do not lead to: nobody reads them.
    pub fn misplaced(&self) -> u64 {
        self.misplaced
    }

    /// Whether the next row takes a request.
    pub fn is_dry(&self) -> bool {
        self.cursors.iter().any(|cursor| cursor.rows.is_empty() && !cursor.scopes.is_empty())
    }

    /// The next row.
    ///
    /// # Errors
    /// Whatever a store goes on answering.
    pub async fn next(&mut self) -> Result<Option<Row>, StoreError> {
        Ok(self.next_met().await?.map(|met| met.row))
    }

    /// The next row, and where it stands.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub async fn next_met(&mut self) -> Result<Option<Met>, StoreError> {
        if self.is_dry() {
            self.fill().await?;
        }
        let Some((partition, row)) = self.first() else { return Ok(None) };
        let key = (partition.clone(), row.clone());
        Ok(self.take(&key))
    }

    /// Reads on where nothing is left in memory.
    async fn fill(&mut self) -> Result<(), StoreError> {
        let Self { store, table, span, read, besides, most, cursors, misplaced, .. } = self;
        let select = (*read == Read::Versions).then(|| {
            let version = VERSION_ALONE.map(str::to_owned).into_iter();
            version.chain(besides.iter().cloned()).collect::<Vec<String>>()
        });
        let (store, table, span, page) = (&*store, &*table, &*span, (*read, *most, select.as_deref()));
        let filled = join_all(cursors.iter_mut().map(|cursor| cursor.fill(store, table, span, page))).await;
        for strangers in filled {
            *misplaced += strangers?;
        }
        Ok(())
    }

    fn first(&self) -> Option<(&PartitionKey, &RowKey)> {
        self.cursors.iter().filter_map(Cursor::first).min()
    }

    fn take(&mut self, key: &Key) -> Option<Met> {
        let Self { store, table, cursors, oldest, .. } = self;
        let mut taken: Option<Met> = None;
        for at in cursors.iter_mut().filter(|cursor| cursor.first() == Some((&key.0, &key.1))) {
            *oldest = Some(oldest.map_or(at.began, |oldest| oldest.min(at.began)));
            let Some(row) = at.rows.pop_front() else { continue };
            let (account, doubled) = (at.tables.account().clone(), taken.is_some());
            // Two accounts have it where it is in its cold place, too: what stands at home counts.
            taken = match taken {
                Some(met) if *store.holding(table, &key.0).account() != account => Some(Met { doubled, ..met }),
                _ => Some(Met { row, account, doubled }),
            };
        }
        taken
    }
}

impl Cursor {
    fn first(&self) -> Option<(&PartitionKey, &RowKey)> {
        self.rows.front().map(|row| (row.body.partition(), row.body.row()))
    }

    /// Says how many rows it has met that belong to another account.
    async fn fill(
        &mut self,
        store: &RegionStore,
        table: &TableName,
        span: &Span,
        (read, most, select): (Read, u16, Option<&[String]>),
    ) -> Result<u64, StoreError> {
        let mut strangers = 0;
        while self.rows.is_empty()
            && let Some(scope) = self.scopes.front()
        {
            let query = Query {
                scope: scope.clone(),
                top: Some(self.top.min(most)),
                select: select.map(<[String]>::to_vec),
                continuation: self.continuation.take(),
            };
            self.began = Instant::now();
            let page = or_nothing(patiently(|| self.tables.query(table, &query)).await)?;
            self.continuation = page.continuation;
            if self.continuation.is_none() {
                self.scopes.pop_front();
            }
            if let Read::Whole { bytes: most } = read
                && !page.rows.is_empty()
            {
                let bytes = page.rows.iter().map(|row| row.body.json().len()).sum::<usize>() / page.rows.len();
                self.top = u16::try_from(most / bytes.max(1)).unwrap_or(PAGE).clamp(1, PAGE);
            }
            let in_span = |row: &Row| span.holds((row.body.partition(), row.body.row()));
            self.rows = page.rows.into_iter().filter(in_span).collect();
            if store.accounts().len() > 1 {
                strangers += self.drop_strangers(store, table);
            }
        }
        Ok(strangers)
    }

    fn drop_strangers(&mut self, store: &RegionStore, table: &TableName) -> u64 {
        let (before, own) = (self.rows.len(), self.tables.account().clone());
        // The rows of a partition follow each other, and share its account.
        let mut last: Option<(PartitionKey, bool)> = None;
        self.rows.retain(|row| {
            let partition = row.body.partition();
            match &last {
                Some((of, ours)) if of == partition => *ours,
                _ => {
                    let cold = || store.tiering(table, partition).is_some_and(|tiering| *tiering.cold.account() == own);
                    let ours = *store.holding(table, partition).account() == own || cold();
                    last = Some((partition.clone(), ours));
                    ours
                }
            }
        });
        (before - self.rows.len()) as u64
    }
}

/// The rows of several regions, side by side.
#[derive(Debug)]
pub(in crate::ops) struct Join(Vec<RegionRows>);

impl Join {
    /// Of one table; `whole` says whether more than versions is read.
    pub fn new<'a>(
        regions: impl IntoIterator<Item = &'a RegionStore>,
        table: &TableName,
        span: &Span,
        whole: bool,
    ) -> Self {
        let read = if whole { Read::Whole { bytes: PAGE_BYTES } } else { Read::Versions };
        Self(regions.into_iter().map(|store| RegionRows::new(store, table, span, read)).collect())
    }

    /// The next key that stands anywhere, and the row of each region that has it.
    ///
    /// # Errors
    /// Whatever a store goes on answering.
    pub async fn next(&mut self) -> Result<Option<(Key, Vec<Option<Row>>)>, StoreError> {
        if self.0.iter().any(RegionRows::is_dry) {
            join_all(self.0.iter_mut().map(RegionRows::fill)).await.into_iter().collect::<Result<(), _>>()?;
        }
        let least = self.0.iter().filter_map(RegionRows::first).min();
        let Some(least) = least.map(|(partition, row)| (partition.clone(), row.clone())) else { return Ok(None) };
        let rows = self.0.iter_mut().map(|region| Some(region.take(&least)?.row)).collect();
        Ok(Some((least, rows)))
    }

    /// For each region, how many rows were met where no route leads.
    pub fn misplaced(&self) -> Vec<u64> {
        self.0.iter().map(RegionRows::misplaced).collect()
    }
}
