//! The mover: rows that have grown old are demoted to their cold places.
//!
//! Each region moves its own, by the first of its daemons. A pass reads the versions and dates of all rows, a page of each account at a time:
//! of those at home, each that is old by its route and that nobody has written for a settle window is [demoted](crate::stores::Tiering::demote); of
//! those that stand in both places, the cold copy goes if it is [stale](crate::stores::Tiering::drop_stale). What a route says of dates may change at any
//! time; a row that is in its cold place stays there until somebody writes it.
//!
//! While the rows of the region move to where other routes lead, nothing is demoted: a pass asks for the routes as often as everybody who
//! writes by them.

mod report;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{self, StreamExt, TryStreamExt};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::report::{keep_demotion, read_demotion};
use super::patient::patiently;
use super::rebalance::tables_of;
use super::scrub::until_anothers;
use super::verify::{Met, Read, RegionRows, Span};
use crate::model::{AccountName, ClosedList, Row, RowId, TableName, Time};
use crate::planted::{Bug, planted};
use crate::replicator::StatusBoard;
use crate::runtime::Runtime;
use crate::stores::{DATE_RESOLUTION, RegionStore, Remedy, StoreError};
use crate::telemetry::{Event, metrics};
use crate::topology::{Ageing, PublishedRoutes, TableFilter};
use crate::writer::Demoted;

pub use self::report::{Demotion, Demotions};

/// How often is looked whether a pass is due.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Rows that are moved at a time.
const IN_FLIGHT: usize = 32;
/// Rows that are put together before they are moved.
const TOGETHER: usize = 256;

/// Moves the old rows of a region to their cold places.
#[derive(Debug)]
pub struct Mover {
    /// The region whose rows these are.
    pub store: RegionStore,
    /// The tables that are replicated.
    pub tables: TableFilter,
    /// From the beginning of a pass to that of the next.
    pub every: Duration,
    /// How many rows are gone through in a second at most; as fast as it goes without.
    pub rows_per_second: Option<NonZeroU32>,
    /// The settle window of the configuration.
    pub settle_window: Duration,
    /// Where it leaves what it has done.
    pub demotions: Arc<Demotions>,
    /// Clock and chance.
    pub runtime: Runtime,
}

/// What became of a row that was to be demoted, and its cold place.
type Went = (RowId, AccountName, Result<Demoted, StoreError>);

/// What is to be done of what a pass has met.
#[derive(Debug, Default)]
struct Work {
    due: Vec<RowId>,
    doubled: Vec<RowId>,
}

impl Mover {
    /// Goes on until it is stopped. What fails is logged and tried again.
    ///
    /// # Errors
    /// None.
    pub async fn run(self, board: Arc<StatusBoard>, stop: CancellationToken) -> Result<(), Infallible> {
        let mut failing = false;
        loop {
            let turn = async {
                tokio::time::sleep(self.every.min(LOOK_EVERY)).await;
                self.turn(&board, &mut failing).await;
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                () = turn => {}
            }
        }
    }

    async fn turn(&self, board: &StatusBoard, failing: &mut bool) {
        let done = tokio::select! {
            biased;
            () = until_anothers(board) => return,
            done = self.work(board.is_first()) => done,
        };
        let region = self.store.region();
        match done {
            Ok(None) => {}
            Ok(Some(Demotion { demoted, stale, cold, .. })) => {
                *failing = false;
                if demoted + stale > 0 {
                    info!(event = Event::RowsDemoted.as_str(), %region, demoted, stale, cold, "old rows were moved to their cold places");
                }
            }
            Err(error) => {
                if !std::mem::replace(failing, true) {
                    warn!(event = Event::RowsNotDemoted.as_str(), %region, %error,
                        "old rows could not be moved to their cold places; it is tried again");
                }
            }
        }
    }

    /// A pass, where one is due; whoever is not the first daemon only learns what was done.
    async fn work(&self, first: bool) -> Result<Option<Demotion>, StoreError> {
        if !self.store.has_cold_places() {
            return Ok(None);
        }
        let last = read_demotion(&self.store).await?;
        if let Some(last) = &last {
            self.demotions.note(last.clone());
        }
        let began = self.now();
        if !first || last.is_some_and(|last| began < last.began + self.every) || !self.is_known_to_all() {
            return Ok(None);
        }
        let Some(demotion) = self.pass().await? else { return Ok(None) };
        keep_demotion(&self.store, &demotion).await?;
        self.demotions.note(demotion.clone());
        Ok(Some(demotion))
    }

    /// Goes through all rows that have cold places once; `None` where their routes have changed meanwhile, or are about to.
    ///
    /// # Errors
    /// What an account goes on answering. What was moved by then is moved.
    pub async fn pass(&self) -> Result<Option<Demotion>, StoreError> {
        let (since, began) = (Instant::now(), self.now());
        let Some(routes) = self.steady(None) else { return Ok(None) };
        let mut done = Demotion::new(self.store.region(), began);
        for table in tables_of(&self.store, &self.tables).await? {
            let dates = dates(&routes, &table);
            if dates.is_empty() {
                continue;
            }
            let mut rows = RegionRows::new(&self.store, &table, &Span::Table, Read::Versions).besides(dates);
            let mut work = Work::default();
            while let Some(met) = rows.next_met().await? {
                done.rows += 1;
                self.sort(&table, met, &routes, &mut work, &mut done);
                if work.due.len() + work.doubled.len() >= TOGETHER
                    && !self.move_rows(&routes, &mut work, &mut done).await?
                {
                    return Ok(None);
                }
                if let Some(rate) = self.rows_per_second.filter(|_| rows.is_dry()) {
                    sleep_until(since + Duration::from_secs_f64(done.rows as f64 / f64::from(rate.get()))).await;
                }
            }
            if !self.move_rows(&routes, &mut work, &mut done).await? {
                return Ok(None);
            }
        }
        done.ended = self.now();
        Ok(Some(done))
    }

    /// Puts a row with those that it belongs to.
    fn sort(&self, table: &TableName, met: Met, routes: &PublishedRoutes, work: &mut Work, done: &mut Demotion) {
        let Met { row, account, doubled } = met;
        let partition = row.body.partition();
        let (home, Some(_)) = routes.rules.places(table, partition) else { return };
        let id = || RowId::new(table.clone(), partition.clone(), row.body.row().clone());
        if account != *home {
            done.cold += 1;
            return;
        }
        if ageing(routes, table, &row).is_some_and(|ageing| ageing.date_of(&row).is_none()) {
            done.undated += 1;
        }
        if self.is_due(routes, table, &row) {
            work.due.push(id());
        } else if doubled {
            work.doubled.push(id());
        }
    }

    /// Whether a row that stands at home is to go: it is old, and whoever has looked at it before it was written last can write no more.
    fn is_due(&self, routes: &PublishedRoutes, table: &TableName, row: &Row) -> bool {
        let now = self.now();
        let settled = now.since(row.timestamp) > self.settle_window + DATE_RESOLUTION || planted(Bug::DemotedTooSoon);
        settled && ageing(routes, table, row).is_some_and(|ageing| ageing.is_old(row, now))
    }

    /// Says whether the routes are still those that this was begun by.
    async fn move_rows(
        &self,
        routes: &PublishedRoutes,
        work: &mut Work,
        done: &mut Demotion,
    ) -> Result<bool, StoreError> {
        let Work { due, doubled } = std::mem::take(work);
        if self.steady(Some(routes.epoch)).is_none() {
            return Ok(false);
        }
        let mut demotions: Vec<BoxFuture<'_, Went>> = Vec::new();
        for id in due {
            let Some(tiering) = self.store.tiering(&id.table, &id.partition) else { continue };
            demotions.push(Box::pin(async move {
                let due = |row: &Row| self.is_due(routes, &id.table, row);
                let demoted = patiently(|| tiering.demote(&id, due)).await;
                (id, tiering.cold.account().clone(), demoted)
            }));
        }
        let mut demoted = stream::iter(demotions).buffer_unordered(IN_FLIGHT);
        while let Some((id, account, demoted)) = demoted.next().await {
            match demoted {
                Ok(Demoted::Demoted) => {
                    done.demoted += 1;
                    metrics::rows_demoted(&account, 1);
                }
                Ok(Demoted::Stays) => {}
                // It stays at home, which does no harm, and keeps no other from going.
                Err(error) if error.remedy() == Remedy::GiveUp => {
                    if done.refused == 0 {
                        warn!(event = Event::RowsNotDemoted.as_str(), region = %self.store.region(), row = %id, %error,
                            "a row is refused by its cold place, and stays at home; this is the first of this pass");
                    }
                    done.refused += 1;
                }
                Err(error) => return Err(error),
            }
        }
        let mut drops: Vec<BoxFuture<'_, Result<bool, StoreError>>> = Vec::new();
        for id in doubled {
            let Some(tiering) = self.store.tiering(&id.table, &id.partition) else { continue };
            drops.push(Box::pin(async move { patiently(|| tiering.drop_stale(&id)).await }));
        }
        let dropped: Vec<bool> = stream::iter(drops).buffer_unordered(IN_FLIGHT).try_collect().await?;
        done.stale += dropped.into_iter().filter(|dropped| *dropped).count() as u64;
        Ok(true)
    }

    /// Whether every writer goes by the routes in force: who goes by older ones may take a row for young, and leave it untouched.
    fn is_known_to_all(&self) -> bool {
        let hold = self.store.published().map_or(self.settle_window, |published| published.hold);
        self.store.routes_since().is_some_and(|since| since.elapsed() >= hold)
    }

    /// The routes in force, where they were read of late, no rows move, and they are those of this epoch.
    fn steady(&self, epoch: Option<u64>) -> Option<Arc<PublishedRoutes>> {
        let heard = self.store.routes_heard().is_some_and(|heard| heard.elapsed() <= self.settle_window / 2);
        let routes = self.store.published().filter(|_| heard)?;
        (routes.moving.is_none() && epoch.is_none_or(|epoch| routes.epoch == epoch)).then_some(routes)
    }

    fn now(&self) -> Time {
        self.store.home().clock().at(self.runtime.instant()).unwrap_or_else(|| self.runtime.now())
    }
}

/// What says when a row is old.
fn ageing<'a>(routes: &'a PublishedRoutes, table: &TableName, row: &Row) -> Option<&'a Ageing> {
    routes.rules.ageing(table, row.body.partition())
}

/// The properties that dates of this table may stand in; none where no route goes by the age of its rows.
fn dates(routes: &PublishedRoutes, table: &TableName) -> Vec<String> {
    let of = routes.rules.aged().iter().filter(|route| route.tables.take(table));
    let mut dates: Vec<String> = of.filter_map(|route| Some(route.ageing.as_ref()?.date.clone())).collect();
    dates.sort();
    dates.dedup();
    dates
}
