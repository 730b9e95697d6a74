//! Copying the tables of a region that holds data already to another one, while both are in use.
//!
//! A table is cut into ranges of partitions by [samples](sample). Each range is [copied](copy) page by page through the line's own
//! delivery, then [compared](check), and has a row in the [ledger] that says how far it is. Ranges are [worked](work) on side by side,
//! at no more than a set share of what the accounts bear. Whoever is killed leaves a ledger that says what is there, and another
//! one goes on with it once the [hold] has run out.

mod check;
mod copy;
mod error;
mod hold;
mod ledger;
mod plan;
mod report;
mod sample;
mod spread;
mod stamp;
#[cfg(test)]
mod tests;
mod work;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use tokio_util::sync::CancellationToken;

use self::hold::{Hold, LEASE};
use self::ledger::{Counts, Head, Range};
use self::sample::{Sampled, Sampler};
use self::work::Work;
use super::patient::patiently;
use super::verify::{Repair, Verify};
use crate::model::{Etag, Region, TableName, Time};
use crate::replicator::{self, CopySetup, Mender, Setup, create_missing};
use crate::resolve::Freshness;
use crate::runtime::Runtime;
use crate::stores::{Pacer, RegionStore};
use crate::topology::{FileRoles, TableFilter};

pub use self::error::BackfillError;
pub use self::ledger::{BackfillState, Copied};
pub use self::report::{BackfillProgress, Backfilled, BackfilledTable, Planned, PlannedTable};

/// Ranges that are worked on at a time.
const WORKERS: usize = 8;
/// How long a pause may take to be heard, beyond a lease.
const HEARD_WITHIN: Duration = Duration::from_secs(60);

/// What it takes to copy tables of a region to another one.
#[derive(Debug, Clone)]
pub struct Backfill {
    /// Every region: rows that differ may wait in a third one.
    pub regions: Vec<RegionStore>,
    /// The copies, which are no regions and may be copied to.
    pub copies: Vec<CopySetup>,
    /// The region that is copied from.
    pub from: Region,
    /// The region or copy that is copied to.
    pub to: Region,
    /// The tables that are replicated.
    pub tables: TableFilter,
    /// Only this one of them.
    pub only: Option<TableName>,
    /// How much of what an account bears is taken at the most, of a hundred.
    pub share_percent: u8,
    /// What that is, in rows a second.
    pub account_rows: u32,
    /// Whether rows without a version are given theirs where they are copied from.
    pub stamp: bool,
    /// How many rows a range has at least, where a table has more.
    pub range_rows: u64,
    /// How others see who is at work on it: no two at a time have the same.
    pub owner: String,
    /// The roles that the configuration gives.
    pub roles: FileRoles,
    /// How the line is tuned: how long a look is fresh, and what it takes to deliver.
    pub line: replicator::Settings,
    /// Clock and chance.
    pub runtime: Runtime,
}

/// Takes in how far it is.
pub type TellBackfill<'a> = dyn FnMut(BackfillProgress<'_>) + Send + 'a;

/// The two regions, asked no more than their share, and who keeps to that.
struct Pair {
    from: RegionStore,
    to: RegionStore,
    pacers: Vec<Arc<Pacer>>,
}

impl Backfill {
    /// How many rows a range usually has at least.
    pub const RANGE_ROWS: u64 = 5_000;
    /// What Azure allows an account, in rows a second, where nobody has agreed on more.
    pub const ACCOUNT_ROWS: u32 = Pacer::USUAL_ROWS;

    /// What it will take. Nothing is written.
    ///
    /// # Errors
    /// [`BackfillError`]
    pub async fn plan(&self, tell: &mut TellBackfill<'_>) -> Result<Planned, BackfillError> {
        let pair = self.pair()?;
        let mut planned = Planned {
            schema: 1,
            from: self.from.clone(),
            to: self.to.clone(),
            share_percent: self.share_percent,
            tables: Vec::new(),
            sampled_by: 0,
        };
        let (mut rate, accounts) = (f64::INFINITY, pair.from.accounts().len().min(pair.to.accounts().len()));
        for pacer in &pair.pacers {
            rate = rate.min(pacer.rows_per_second());
        }
        for table in self.tables_to_copy(&pair.from).await? {
            tell(BackfillProgress::Sampling(&table));
            let began = self.runtime.instant();
            let sampled = self.sample(&pair.from, &table).await?;
            let answer = began.elapsed() / u32::try_from(sampled.requests.max(1)).unwrap_or(u32::MAX);
            planned.sampled_by += sampled.requests;
            planned.tables.push(PlannedTable::new(&table, &sampled, (rate, accounts), answer));
        }
        Ok(planned)
    }

    /// Copies from the beginning. A backfill of one of the tables that is not done is gone on with by [`resume`](Self::resume); it
    /// is begun anew where that is asked for by `again`.
    ///
    /// # Errors
    /// [`BackfillError`]. What was copied by then stands in the ledger.
    pub async fn start(
        &self,
        again: bool,
        stop: &CancellationToken,
        tell: &mut TellBackfill<'_>,
    ) -> Result<Backfilled, BackfillError> {
        let (pair, hold) = (self.pair()?, self.hold()?);
        let tables = self.tables_to_copy(&pair.from).await?;
        let begun = hold.heads().await?;
        for table in &tables {
            let Some((head, _)) = begun.iter().find(|(head, _)| head.table == *table) else { continue };
            match head.state(hold.now()) {
                BackfillState::Done => {}
                BackfillState::Running => {
                    let owner = head.owner.clone().map(|(owner, _)| owner).unwrap_or_default();
                    return Err(BackfillError::Held { table: table.clone(), to: self.to.clone(), owner });
                }
                state if !again => {
                    let (table, from, to) = (table.clone(), self.from.clone(), self.to.clone());
                    return Err(BackfillError::Unfinished { table, from, to, state });
                }
                _ => {}
            }
        }
        let began = hold.now();
        let heads = tables.iter().map(|table| self.first_head(table, began)).collect();
        for noted in hold.note(heads).await? {
            if let Err(error) = hold.take(noted.0.clone(), noted).await {
                return let_go(&hold, &[], Err(error)).await;
            }
        }
        self.work(pair, hold, tables, stop, tell).await
    }

    /// Goes on with every backfill of this pair that is not done.
    ///
    /// # Errors
    /// [`BackfillError`]. What was copied by then stands in the ledger.
    pub async fn resume(
        &self,
        stop: &CancellationToken,
        tell: &mut TellBackfill<'_>,
    ) -> Result<Backfilled, BackfillError> {
        let (pair, hold) = (self.pair()?, self.hold()?);
        let there = self.unfinished(&hold).await?;
        let tables: Vec<TableName> = there.iter().map(|(head, _)| head.table.clone()).collect();
        for (head, etag) in there {
            if head.state(hold.now()) == BackfillState::Running {
                tell(BackfillProgress::Waiting(&head.table));
            }
            let taken = hold.take(Head { stamp: self.stamp || head.stamp, ..head.clone() }, (head, etag));
            let taken = tokio::select! {
                biased;
                () = stop.cancelled() => Err(BackfillError::Stopped),
                taken = taken => taken,
            };
            if let Err(error) = taken {
                return let_go(&hold, &[], Err(error)).await;
            }
        }
        self.work(pair, hold, tables, stop, tell).await
    }

    /// Asks whoever is at work on it to end, and waits until that is so.
    ///
    /// # Errors
    /// [`BackfillError`]
    pub async fn pause(&self) -> Result<Backfilled, BackfillError> {
        let hold = self.hold()?;
        let mut asked = Vec::new();
        for (head, etag) in self.unfinished(&hold).await? {
            let key = head.key();
            if hold.ask_to_pause((head, etag)).await? {
                asked.push(key);
            }
        }
        for key in asked {
            hold.until_let_go(&key, LEASE + HEARD_WITHIN).await?;
        }
        self.status().await
    }

    /// How far it is, by the ledger.
    ///
    /// # Errors
    /// [`BackfillError`]
    pub async fn status(&self) -> Result<Backfilled, BackfillError> {
        let hold = self.hold()?;
        let (mut tables, mut rate) = (Vec::new(), 0);
        for (head, _) in hold.heads().await?.into_iter().filter(|(head, _)| self.is_asked_for(&head.table)) {
            let ranges = hold.ranges(&head.table).await?;
            let table = BackfilledTable::new(&head, &ranges.iter().collect::<Vec<_>>(), hold.now());
            // The rate is that of all tables that are worked on together.
            rate = rate.max(if table.state == BackfillState::Running { head.rate } else { 0 });
            tables.push(table);
        }
        if tables.is_empty() {
            return Err(self.none());
        }
        Ok(Backfilled::new((&self.from, &self.to), tables, rate as f64))
    }

    /// Works on tables that are held.
    async fn work(
        &self,
        pair: Pair,
        hold: Hold,
        tables: Vec<TableName>,
        stop: &CancellationToken,
        tell: &mut TellBackfill<'_>,
    ) -> Result<Backfilled, BackfillError> {
        for store in [&pair.from, &pair.to] {
            let created = patiently(|| create_missing(store)).await;
            created
                .map_err(|error| BackfillError::Region { region: store.region().clone(), error: Box::new(error) })?;
        }
        let mut ranges = Vec::new();
        for table in &tables {
            let laid = tokio::select! {
                biased;
                () = stop.cancelled() => Err(BackfillError::Stopped),
                laid = self.ranges_of(&pair.from, &hold, table, tell) => laid,
            };
            match laid {
                Ok(of_table) => ranges.extend(of_table),
                Err(error) => return let_go(&hold, &[], Err(error)).await,
            }
        }
        let work = self.prepared(pair, hold, stop).await?;
        work.fill(ranges);
        let asked = async {
            work.hold.paused.cancelled().await;
            work.stop.cancel();
            std::future::pending::<()>().await;
        };
        let done = tokio::select! {
            biased;
            done = work.run(tell) => done,
            () = asked => Ok(()),
        };
        let through = work.through();
        let done = match done {
            // Who has paused it knows why it ends.
            Err(BackfillError::Stopped) if work.hold.paused.is_cancelled() => Ok(()),
            Ok(()) if stop.is_cancelled() && through.len() < tables.len() => Err(BackfillError::Stopped),
            done => done,
        };
        let_go(&work.hold, &through, done).await?;
        self.status().await
    }

    /// The ranges of a table: those in the ledger, or new ones.
    async fn ranges_of(
        &self,
        from: &RegionStore,
        hold: &Hold,
        table: &TableName,
        tell: &mut TellBackfill<'_>,
    ) -> Result<Vec<Range>, BackfillError> {
        if let Some(laid) = hold.heads_held().await.get(table).and_then(|head| head.ranges) {
            let ranges = hold.ranges(table).await?;
            if ranges.len() == laid as usize {
                return Ok(ranges);
            }
        }
        tell(BackfillProgress::Sampling(table));
        let sampling = self.sample(from, table);
        let renewing = async {
            loop {
                tokio::time::sleep(hold::RENEW).await;
                if let Err(error) = hold.renew(0).await {
                    return error;
                }
            }
        };
        let sampled = tokio::select! {
            biased;
            sampled = sampling => sampled?,
            lost = renewing => return Err(lost),
        };
        let ranges = ranges(table, sampled);
        hold.lay(&ranges, table).await?;
        Ok(ranges)
    }

    async fn prepared(&self, pair: Pair, hold: Hold, stop: &CancellationToken) -> Result<Arc<Work>, BackfillError> {
        let of = |store: &RegionStore| match store.region() {
            region if *region == self.from => pair.from.clone(),
            region if *region == self.to => pair.to.clone(),
            _ => store.clone(),
        };
        let regions: Vec<RegionStore> = self.regions.iter().map(of).collect();
        let copy = |copy: &CopySetup| CopySetup { store: of(&copy.store), rule: copy.rule.clone() };
        let copies: Vec<CopySetup> = self.copies.iter().map(copy).collect();
        let setup = Setup {
            local: pair.from.clone(),
            destinations: regions.iter().filter(|store| *store.region() != self.from).cloned().collect(),
            copies: copies.clone(),
            cache: None,
            tables: self.tables.clone(),
            roles: self.roles.clone(),
            reading: None,
            settings: self.line.clone(),
            runtime: self.runtime.clone(),
        };
        let pair_of = (&self.from, &self.to);
        let (tables, roles) = (self.tables.clone(), self.roles.clone());
        let verify = Verify::of(regions, pair_of, tables, roles, self.line.clone(), self.runtime.clone());
        let verify = Verify { repair: Repair::Yes, content: self.copy().is_some(), copies, ..verify };
        Ok(Arc::new(Work {
            mender: Mender::new(setup, &self.to).ok_or_else(|| self.unknown(&self.to))?,
            links: self.destination()?.clone(),
            heads: hold.heads_held().await,
            fresh: Freshness::new(self.line.settle_window),
            window: self.line.settle_window,
            stop: stop.child_token(),
            from: pair.from,
            to: pair.to,
            pacers: pair.pacers,
            board: Default::default(),
            queue: Default::default(),
            more: Default::default(),
            verify,
            hold,
        }))
    }

    async fn sample(&self, from: &RegionStore, table: &TableName) -> Result<Sampled, BackfillError> {
        let sampled = Sampler::new(from, table, self.range_rows).take().await;
        sampled.map_err(|error| {
            let (region, table) = (self.from.clone(), table.as_str().to_owned());
            BackfillError::Read { region, table, error: Box::new(error) }
        })
    }

    fn first_head(&self, table: &TableName, began: Time) -> Head {
        Head {
            table: table.clone(),
            from: self.from.clone(),
            to: self.to.clone(),
            paused: false,
            done: false,
            owner: None,
            noted: true,
            ranges: None,
            stamp: self.stamp,
            began,
            ended: None,
            rate: 0,
        }
    }

    fn is_asked_for(&self, table: &TableName) -> bool {
        self.only.as_ref().is_none_or(|only| only == table)
    }

    /// Heads of this pair that are asked for and not done, with their ETags.
    async fn unfinished(&self, hold: &Hold) -> Result<Vec<(Head, Etag)>, BackfillError> {
        let mut there = hold.heads().await?;
        there.retain(|(head, _)| self.is_asked_for(&head.table));
        if there.is_empty() {
            return Err(self.none());
        }
        there.retain(|(head, _)| !head.done);
        match there.is_empty() {
            true => Err(BackfillError::Done { what: self.what(), from: self.from.clone(), to: self.to.clone() }),
            false => Ok(there),
        }
    }

    fn none(&self) -> BackfillError {
        BackfillError::NoLedger { what: self.what(), from: self.from.clone(), to: self.to.clone() }
    }

    fn what(&self) -> String {
        self.only.as_ref().map_or_else(|| "any table".to_owned(), |only| only.as_str().to_owned())
    }

    fn unknown(&self, region: &Region) -> BackfillError {
        let copies = self.copies.iter().map(|copy| &copy.store).filter(|_| *region == self.to);
        let known: Vec<&str> = self.regions.iter().chain(copies).map(|store| store.region().as_str()).collect();
        let known = known.join(", ");
        BackfillError::NoRegion { region: region.clone(), known }
    }

    fn store(&self, region: &Region) -> Result<&RegionStore, BackfillError> {
        let store = self.regions.iter().find(|store| store.region() == region);
        store.ok_or_else(|| self.unknown(region))
    }

    /// The copy that is copied to, where it is one.
    fn copy(&self) -> Option<&CopySetup> {
        self.copies.iter().find(|copy| *copy.store.region() == self.to)
    }

    fn destination(&self) -> Result<&RegionStore, BackfillError> {
        self.copy().map_or_else(|| self.store(&self.to), |copy| Ok(&copy.store))
    }

    fn pair(&self) -> Result<Pair, BackfillError> {
        let (from, to) = (self.store(&self.from)?, self.destination()?);
        if self.from == self.to {
            return Err(BackfillError::SameRegion { region: self.from.clone() });
        }
        let share = (self.share_percent, self.account_rows);
        let (from, mut pacers) = from.paced(share, &self.runtime);
        let (to, others) = to.paced(share, &self.runtime);
        pacers.extend(others);
        Ok(Pair { from, to, pacers })
    }

    fn hold(&self) -> Result<Hold, BackfillError> {
        self.pair()?;
        let store = self.store(&self.from)?.clone();
        Ok(Hold::new(store, self.to.clone(), self.owner.clone(), self.runtime.clone()))
    }

    /// The replicated tables that the region has.
    async fn tables_to_copy(&self, from: &RegionStore) -> Result<Vec<TableName>, BackfillError> {
        let lists = try_join_all(from.accounts().iter().map(|account| patiently(|| account.tables.tables())));
        let lists = lists.await.map_err(|error| BackfillError::Read {
            region: self.from.clone(),
            table: "the list of tables".to_owned(),
            error: Box::new(error),
        })?;
        let goes = |table: &TableName| self.copy().is_none_or(|copy| copy.rule.tables.matches(table));
        let there: BTreeSet<TableName> =
            lists.into_iter().flatten().filter(|table| self.tables.matches(table) && goes(table)).collect();
        match &self.only {
            None => Ok(there.into_iter().collect()),
            Some(only) if there.contains(only) => Ok(vec![only.clone()]),
            Some(only) => {
                let known = there.iter().map(TableName::as_str).collect::<Vec<_>>().join(", ");
                Err(BackfillError::NoTable { region: self.from.clone(), table: only.clone(), known })
            }
        }
    }
}

/// Lets go of what is held, whatever has happened; what has happened is what is told.
async fn let_go<T>(hold: &Hold, done: &[TableName], ended: Result<T, BackfillError>) -> Result<T, BackfillError> {
    match (hold.let_go(done).await, ended) {
        (_, Err(error)) => Err(error),
        (let_go, Ok(ended)) => let_go.map(|()| ended),
    }
}

fn ranges(table: &TableName, sampled: Sampled) -> Vec<Range> {
    let range = |(number, stretch): (u32, sample::Stretch)| Range {
        table: table.clone(),
        number,
        from: stretch.from,
        until: stretch.until,
        estimate: stretch.rows,
        copy: Copied::Pending,
        after: None,
        counts: Counts::default(),
        last_error: None,
        began: None,
        copied: None,
        verified: None,
    };
    (0..).zip(sampled.stretches).map(range).collect()
}
