//! Filling a region's cache from its tables, page by page.
//!
//! Every row goes through the same refresh as a change does, so it never replaces anything newer: it may run beside the daemon,
//! beside another of its kind, and again after it was cut off. A page is put into the cache while it is fresh, or read once
//! more: what was deleted meanwhile left a mark, and marks do not stay for ever.
//!
//! The store of a region decides among its own versions (R10), so a row may sink while its page is on its way, and the refresh of
//! what stands then may come first. Therefore every page is looked at again afterwards, and what is lower by then or gone
//! becomes a hint, which the line settles as it settles all that the cache holds above what stands.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, info};

use crate::cache::{CacheRecord, Finding, MARK_TTL, Refresh, refresh_for};
use crate::feed::Hint;
use crate::model::{Region, Row, RowId, SystemTable, TableName, Time};
use crate::replicator::{CacheSetup, hint_cache, read_selected};
use crate::resolve::from_the_future;
use crate::runtime::Runtime;
use crate::stores::{CacheError, Operation, Page, Query, RegionStore, Scope, StoreError, Tables};
use crate::telemetry::metrics::{self, CacheOutcome};
use crate::topology::TableFilter;

/// The property that a look back reads, beside the keys.
const VERSION: &str = "RelayVersion";
/// Most rows of one request to the cache.
const CHUNK: usize = 100;
/// Most rows of a page, which is what is held in memory: Azure's own limit.
const PAGE: u32 = 1_000;
/// A page is put into the cache within this time, or read once more.
const FRESH: Duration = Duration::from_secs(MARK_TTL.as_secs() / 2);
/// How long one request to the cache may take.
const CACHE_PATIENCE: Duration = Duration::from_secs(10);
/// How often something is tried before the warming is given up, and the first pause, which doubles.
const TRIES: u32 = 7;
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// What it takes to warm a cache.
#[derive(Debug, Clone)]
pub struct Warming {
    /// The region whose tables are read.
    pub region: RegionStore,
    /// Its cache.
    pub cache: CacheSetup,
    /// The tables that are replicated.
    pub tables: TableFilter,
    /// Only this one of them.
    pub only: Option<TableName>,
    /// Most rows a second.
    pub rate: u32,
    /// How far ahead of the storage clock a version may lie.
    pub max_clock_skew: Duration,
    /// Clock and chance.
    pub runtime: Runtime,
}

/// What was done of one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WarmedTable {
    /// Which.
    pub table: TableName,
    /// Rows that were read.
    pub rows: u64,
    /// What became of those that were sent to the cache.
    pub outcomes: BTreeMap<CacheOutcome, u64>,
    /// Rows that were not: without a version, nobody would ever refresh them; with one from the future, nobody could.
    pub left_out: u64,
}

/// What was done, so far or in all.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Warmed {
    /// The version of this form.
    pub schema: u32,
    /// The region whose cache it is.
    pub region: Region,
    /// By table.
    pub tables: Vec<WarmedTable>,
    /// Rows that were read, of all tables.
    pub rows: u64,
    /// How long it took.
    pub seconds: f64,
}

/// Why a warming ended early. What is in the cache stays there, and another one puts in what is missing.
#[derive(Debug, thiserror::Error)]
pub enum WarmError {
    /// A table cannot be read.
    #[error("{table} of {region} cannot be read: {error}; run it again, what is in the cache stays")]
    Table {
        /// Whose.
        region: Region,
        /// Which.
        table: String,
        /// Why not.
        error: StoreError,
    },
    /// The cache cannot be written.
    #[error("the cache of {region} takes nothing: {error}; run it again, what is in the cache stays")]
    Cache {
        /// Whose.
        region: Region,
        /// Why not.
        error: CacheError,
    },
    /// The table is not replicated, or not there.
    #[error("{region} has no table {table} that is replicated; there are: {known}")]
    NoTable {
        /// Whose.
        region: Region,
        /// What was asked for.
        table: TableName,
        /// Those that there are.
        known: String,
    },
}

/// Keeps to a rate.
#[derive(Debug)]
struct Pace {
    rate: u32,
    next: Instant,
}

impl Pace {
    async fn wait(&mut self, rows: usize) {
        sleep_until(self.next).await;
        let now = Instant::now();
        self.next = self.next.max(now) + Duration::from_secs_f64(rows as f64 / f64::from(self.rate.max(1)));
    }
}

impl Warming {
    /// Goes through the tables; tells how far it is after every request to the cache.
    ///
    /// # Errors
    /// [`WarmError`], once something has failed for good.
    pub async fn run(&self, tell: &mut (dyn FnMut(&Warmed) + Send)) -> Result<Warmed, WarmError> {
        let (began, start) = (self.storage_now(), self.runtime.instant());
        let region = self.region.region().clone();
        let mut warmed = Warmed { schema: 1, region, tables: Vec::new(), rows: 0, seconds: 0.0 };
        let mut pace = Pace { rate: self.rate, next: start };
        for (table, accounts) in self.tables_to_read().await? {
            warmed.tables.push(WarmedTable { table, rows: 0, outcomes: BTreeMap::new(), left_out: 0 });
            for account in accounts {
                self.table(&account, &mut warmed, &mut pace, start, tell).await?;
            }
        }
        if self.only.is_none() {
            self.note(began).await?;
        }
        Ok(warmed)
    }

    fn storage_now(&self) -> Time {
        self.region.home().clock().at(self.runtime.instant()).unwrap_or_else(|| self.runtime.now())
    }

    async fn tables_to_read(&self) -> Result<BTreeMap<TableName, Vec<Arc<dyn Tables>>>, WarmError> {
        let mut all: BTreeMap<TableName, Vec<Arc<dyn Tables>>> = BTreeMap::new();
        for account in self.region.accounts() {
            let tables = self.patiently(|| account.tables.tables()).await;
            let tables = tables.map_err(|error| self.unread("the list of tables", error))?;
            for table in tables.into_iter().filter(|table| self.tables.matches(table)) {
                all.entry(table).or_default().push(account.tables.clone());
            }
        }
        let Some(only) = &self.only else { return Ok(all) };
        match all.remove_entry(only) {
            Some(found) => Ok([found].into_iter().collect()),
            None => {
                let known: Vec<&str> = all.keys().map(TableName::as_str).collect();
                let (region, known) = (self.region.region().clone(), known.join(", "));
                Err(WarmError::NoTable { region, table: only.clone(), known })
            }
        }
    }

    /// Puts the rows that an account has of the last table into the cache.
    async fn table(
        &self,
        account: &Arc<dyn Tables>,
        warmed: &mut Warmed,
        pace: &mut Pace,
        start: Instant,
        tell: &mut (dyn FnMut(&Warmed) + Send),
    ) -> Result<(), WarmError> {
        let Some(table) = warmed.tables.last().map(|last| last.table.clone()) else { return Ok(()) };
        // A page that takes longer than a quarter of its time at this rate is too long.
        let top = (u64::from(self.rate) * FRESH.as_secs() / 4).clamp(1, PAGE.into());
        let mut query = Query { top: u16::try_from(top).ok(), ..Query::new(Scope::Table) };
        loop {
            let read = self.runtime.instant();
            let page = self.patiently(|| account.query(&table, &query)).await;
            let page = page.map_err(|error| self.unread(table.as_str(), error))?;
            let now = account.clock().at(read).unwrap_or_else(|| self.runtime.now());
            let (refreshes, left_out) = self.refreshes(account, &table, &page, now).await?;
            let mut outcomes = BTreeMap::new();
            let mut sent = 0;
            for chunk in refreshes.chunks(CHUNK) {
                pace.wait(chunk.len()).await;
                if read.elapsed() > FRESH {
                    break;
                }
                self.send(chunk, &mut outcomes).await?;
                sent += chunk.len();
                warmed.seconds = start.elapsed().as_secs_f64();
                tell(warmed);
            }
            self.look_back(account, &table, &query, &page).await?;
            if sent < refreshes.len() {
                debug!(%table, "a page was too old to be put into the cache; it is read again");
                continue;
            }
            let rows = page.rows.len() as u64;
            warmed.rows += rows;
            if let Some(last) = warmed.tables.last_mut() {
                last.rows += rows;
                last.left_out += left_out;
                outcomes.into_iter().for_each(|(outcome, keys)| *last.outcomes.entry(outcome).or_default() += keys);
            }
            warmed.seconds = start.elapsed().as_secs_f64();
            tell(warmed);
            query.continuation = page.continuation;
            if query.continuation.is_none() {
                return Ok(());
            }
        }
    }

    /// Rows of a page that are lower or gone by now become hints.
    async fn look_back(
        &self,
        account: &Arc<dyn Tables>,
        table: &TableName,
        query: &Query,
        page: &Page,
    ) -> Result<(), WarmError> {
        let key = |row: &Row| (row.body.partition().clone(), row.body.row().clone());
        let mut put: BTreeMap<_, &Row> = page.rows.iter().map(|row| (key(row), row)).collect();
        let mut again =
            Query { select: Some(["PartitionKey", "RowKey", VERSION].map(str::to_owned).into()), ..query.clone() };
        // It may be cut elsewhere this time, but not for ever.
        let mut rows = 0;
        while !put.is_empty() && rows < 2 * page.rows.len() + 1 {
            let now = self.patiently(|| account.query(table, &again)).await;
            let now = now.map_err(|error| self.unread(table.as_str(), error))?;
            rows += now.rows.len().max(1);
            for row in &now.rows {
                if put.get(&key(row)).is_some_and(|put| put.body.version() <= row.body.version()) {
                    put.remove(&key(row));
                }
            }
            again.continuation = now.continuation;
            if again.continuation.is_none() {
                break;
            }
        }
        let hint = |row: &Row| {
            let id = RowId::new(table.clone(), row.body.partition().clone(), row.body.row().clone());
            Some(Hint { id, version: row.body.version()?.clone(), since: row.timestamp })
        };
        let hints: Vec<Hint> = put.into_values().filter_map(hint).collect();
        if hints.is_empty() {
            return Ok(());
        }
        let kept = self.patiently(|| hint_cache(&self.region, hints.clone())).await;
        kept.map_err(|error| self.unread(SystemTable::Backlog.name().as_str(), error))
    }

    /// The refreshes that a page asks for, and how many of its rows are left out: of those that stand where no route leads, which are copies of
    /// what has moved, or is cold, or was deleted, all but those that have yet to be brought over.
    async fn refreshes(
        &self,
        account: &Arc<dyn Tables>,
        table: &TableName,
        page: &Page,
        now: Time,
    ) -> Result<(Vec<Refresh>, u64), WarmError> {
        let id = |row: &Row| RowId::new(table.clone(), row.body.partition().clone(), row.body.row().clone());
        let is_home = |row: &Row| self.region.holding(table, row.body.partition()).account() == account.account();
        let (mut rows, elsewhere): (Vec<&Row>, Vec<&Row>) = page.rows.iter().partition(|row| is_home(row));
        let comes = |row: &&Row| {
            self.region.passage(table, row.body.partition()).is_some_and(|it| it.from.account() == account.account())
        };
        let coming: Vec<RowId> = elsewhere.into_iter().filter(comes).map(id).collect();
        let ids: Vec<&RowId> = coming.iter().collect();
        let brought = match ids.is_empty() {
            true => BTreeMap::new(),
            false => self
                .patiently(|| read_selected(&self.region, &ids, None))
                .await
                .map_err(|error| self.unread(table.as_str(), error))?,
        };
        rows.extend(brought.values());
        let refresh = |row: &Row| {
            let version = row.body.version()?;
            let known = !from_the_future(version, now, self.max_clock_skew);
            known.then(|| refresh_for(&self.cache.keys, &id(row), Finding::Row(&row.body, version)))
        };
        let refreshes: Vec<Refresh> = rows.into_iter().filter_map(refresh).collect();
        let left_out = page.rows.len().saturating_sub(refreshes.len());
        Ok((refreshes, left_out as u64))
    }

    async fn send(&self, chunk: &[Refresh], outcomes: &mut BTreeMap<CacheOutcome, u64>) -> Result<(), WarmError> {
        let region = self.region.region();
        let late = || CacheError(format!("no answer within {CACHE_PATIENCE:?}"));
        let refresh =
            || async { timeout(CACHE_PATIENCE, self.cache.cache.refresh(chunk)).await.unwrap_or_else(|_| Err(late())) };
        let sent = self.patiently(refresh).await.map_err(|error| WarmError::Cache { region: region.clone(), error })?;
        for outcome in sent {
            let outcome = CacheOutcome::from(outcome);
            metrics::cache_refresh(region, outcome, 1);
            *outcomes.entry(outcome).or_default() += 1;
        }
        Ok(())
    }

    /// Everything that was lost before `began` is back.
    async fn note(&self, began: Time) -> Result<(), WarmError> {
        let record = CacheRecord { warmed: Some(began), ..CacheRecord::default() };
        let row = Operation::InsertOrMerge(record.encode(self.region.region()));
        let table = SystemTable::Control.name();
        let noted = self.patiently(|| self.region.home().write(&table, &row)).await;
        noted.map(drop).map_err(|error| self.unread(table.as_str(), error))
    }

    fn unread(&self, table: &str, error: StoreError) -> WarmError {
        WarmError::Table { region: self.region.region().clone(), table: table.to_owned(), error }
    }

    /// Tries until it works, a few times. All that is tried here may be done twice.
    async fn patiently<T, E: Display, F: Future<Output = Result<T, E>>>(&self, what: impl Fn() -> F) -> Result<T, E> {
        let mut tries = 0;
        loop {
            tries += 1;
            match what().await {
                Err(error) if tries < TRIES => {
                    info!(region = %self.region.region(), %error, "the cache is not being warmed for now; trying again");
                    let pause = FIRST_PAUSE * 2u32.pow(tries - 1);
                    sleep(pause / 2 + self.runtime.jitter(pause / 2)).await;
                }
                result => return result,
            }
        }
    }
}
