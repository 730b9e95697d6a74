//! Moving rows to the accounts that the routes of the configuration lead to, while everybody reads and writes.
//!
//! What is published of the region's routes says how far it is, so whoever is killed goes on from there:
//!
//! 1. *filling*: the old routes are in force. Rows and tombstones are copied to where the new ones lead, again until a pass over
//!    them finds little. Readers are told of the new places; none is left that was not when the next step begins.
//! 2. *reading*: the new routes are in force, and the old ones are told of. What is still written by the old ones is brought over by whoever
//!    reads it ([`Passage`](crate::stores::Passage)), and by passes of this command. The last one begins when nobody goes by the old routes any more: writers
//!    may for `hold`, daemons for half a settle window, and what they have under way lands within the other half.
//! 3. What lies in accounts that the routes do not lead to is deleted, each on its ETag, after it was seen that its place has the same or something
//!    newer. Then the new routes stand alone.
//!
//! With the old routes wanted back while it fills, it is published first that rows are going to be where they are; then comes 3.
//!
//! Every step may be done twice, and by two commands at once: each change of what is published is on its ETag.

mod clean;
mod error;
mod pass;
mod strays;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::{BoxFuture, try_join_all};
use serde::Serialize;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

pub use self::error::RebalanceError;
use self::pass::{Bringing, Counted};
use super::patient::{or_nothing, patiently};
use crate::closed_list;
use crate::feed::{AccountShard, Shard};
use crate::model::{PartitionKey, Region, SystemTable, TableName};
use crate::planted::{Bug, planted};
use crate::replicator::{create_missing, endpoints};
use crate::runtime::Runtime;
use crate::stores::{DATE_RESOLUTION, Query, RegionStore, RoutesCopy, Scope, StoreError};
use crate::topology::{Member, MoveState, MovingRows, PublishedRoutes, Routes, TableFilter};

/// Passes of which the last may find more than a few rows: writers are faster than it is, and the next step brings the rest.
const MOST_PASSES: u32 = 10;
/// So few rows are left to the next step.
const FEW: u64 = 100;
/// How often a step that others undo is tried.
const ROUNDS: u32 = 20;
/// The longest sleep before somebody is asked whether to stop.
const NAP: Duration = Duration::from_millis(200);

closed_list! {
    /// What a rebalance is at.
    pub enum RebalanceStep {
        Copying = "copying", "rows are copied to their new accounts; the old routes are in force", "none";
        Switched = "switched", "the new routes are in force, and what is written by the old ones is brought over", "none";
        Deleting = "deleting", "what lies where no route leads is deleted, once its place was seen to have it", "none";
    }
}

/// Moves the rows of a region to where its configuration wants them.
#[derive(Debug)]
pub struct Rebalance {
    /// The region, made with the routes that are wanted.
    pub store: RegionStore,
    /// The tables that are replicated.
    pub tables: TableFilter,
    /// How much of what an account bears is taken at the most, of a hundred.
    pub share_percent: u8,
    /// What that is, in rows a second.
    pub account_rows: u32,
    /// The settle window of the configuration.
    pub settle_window: Duration,
    /// How long a daemon counts as there.
    pub lease: Duration,
    /// Clock and chance.
    pub runtime: Runtime,
}

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Rebalanced {
    /// The version of this form.
    pub schema: u32,
    /// The region.
    pub region: String,
    /// The epoch of the routes in force now.
    pub epoch: u64,
    /// Rows and tombstones that were brought over, those of every pass.
    pub brought: u64,
    /// Rows and tombstones that were deleted where no route leads.
    pub deleted: u64,
    /// Rows that lie where no route leads and never did while rows moved, and that their place knows nothing of: they are left alone.
    pub left: u64,
    /// Passes over the region's rows.
    pub passes: u32,
    /// How long it took.
    pub seconds: f64,
}

/// Takes in how far it is.
pub type TellRebalance<'a> = dyn FnMut(RebalanceStep, u64) + Send + 'a;

impl Rebalance {
    /// Moves rows until they are where the configuration wants them; from wherever one was that did not come to an end.
    ///
    /// # Errors
    /// [`RebalanceError`]; what was done stays done, and the next one goes on.
    pub async fn run(
        &self,
        stop: &CancellationToken,
        tell: &mut TellRebalance<'_>,
    ) -> Result<Rebalanced, RebalanceError> {
        let began = Instant::now();
        let mut done = Rebalanced { schema: 1, region: self.store.region().to_string(), ..Rebalanced::default() };
        for _ in 0..ROUNDS {
            let (copy, published) = self.published().await?;
            let wanted = self.store.configured();
            match &published.moving {
                None if published.rules.lead_as(wanted) => {
                    done.epoch = published.epoch;
                    done.seconds = began.elapsed().as_secs_f64();
                    return Ok(done);
                }
                None => self.begin(&copy, &published, stop).await?,
                // The configuration was put back: what was copied for nothing is deleted, once nobody copies any more.
                Some(MovingRows { state: MoveState::Filling, rules }) if published.rules.lead_as(wanted) => {
                    match rules.lead_as(wanted) || planted(Bug::GivenUpUnsaid) {
                        true => self.end(&copy, &published, &mut done, (stop, tell)).await?,
                        false => self.give_up(&copy, &published, rules).await?,
                    }
                }
                // It is another one by now: what was copied for nothing is deleted in the end. Who has copied himself was overtaken.
                Some(MovingRows { state: MoveState::Filling, rules }) if !rules.lead_as(wanted) => {
                    if done.passes > 0 {
                        return Err(RebalanceError::Overtaken);
                    }
                    self.begin(&copy, &published, stop).await?;
                }
                Some(MovingRows { state: MoveState::Filling, rules }) => {
                    self.fill(&published, rules, &mut done, (stop, tell)).await?;
                    self.switch(&copy, &published, rules).await?;
                }
                Some(MovingRows { state: MoveState::Reading, .. }) => {
                    self.end(&copy, &published, &mut done, (stop, tell)).await?;
                }
            }
        }
        Err(RebalanceError::Overtaken)
    }

    async fn published(&self) -> Result<(RoutesCopy, PublishedRoutes), RebalanceError> {
        let began = Instant::now();
        let copy = patiently(|| self.store.read_routes()).await.map_err(|error| self.failed(error))?;
        let published = copy.published.clone().ok_or_else(|| RebalanceError::Unpublished(self.region()))?;
        self.store.go_by(Some(published.clone()), began);
        Ok((copy, published))
    }

    fn region(&self) -> Region {
        self.store.region().clone()
    }

    fn failed(&self, error: StoreError) -> RebalanceError {
        RebalanceError::Store { region: self.region(), error }
    }

    /// Publishes that rows are going to move, once every daemon of the region knows all accounts, and nothing lies where they are going to be.
    async fn begin(
        &self,
        copy: &RoutesCopy,
        published: &PublishedRoutes,
        stop: &CancellationToken,
    ) -> Result<(), RebalanceError> {
        let wanted = self.store.configured();
        self.are_here([&published.rules])?;
        self.are_carried(wanted).await?;
        patiently(|| create_missing(&self.store)).await.map_err(|error| self.failed(error))?;
        if published.moving.is_none() {
            self.bringing(published, (&published.rules, wanted))?.no_strays(stop).await?;
        }
        let mut next = PublishedRoutes { epoch: published.epoch + 1, ..published.clone() };
        next.endpoints.extend(endpoints(&self.store));
        next.moving = Some(MovingRows { state: MoveState::Filling, rules: wanted.clone() });
        self.publish(copy, &next).await
    }

    /// Publishes that rows are going to be where they are. Another command that still copies them elsewhere gets no further: else it might
    /// have the new routes come into force while this one deletes there.
    async fn give_up(
        &self,
        copy: &RoutesCopy,
        published: &PublishedRoutes,
        rules: &Routes,
    ) -> Result<(), RebalanceError> {
        // Afterwards nobody knows any more where they were copied to.
        self.are_here([rules])?;
        let moving = MovingRows { state: MoveState::Filling, rules: published.rules.clone() };
        let next = PublishedRoutes { epoch: published.epoch + 1, moving: Some(moving), ..published.clone() };
        self.publish(copy, &next).await
    }

    /// Copies until little is left, and for as long as a reader may not know of the new places.
    async fn fill(
        &self,
        published: &PublishedRoutes,
        next: &Routes,
        done: &mut Rebalanced,
        (stop, tell): (&CancellationToken, &mut TellRebalance<'_>),
    ) -> Result<(), RebalanceError> {
        let bringing = self.bringing(published, (&published.rules, next))?;
        self.spread(published).await?;
        let known_from = Instant::now();
        self.create_tables(next).await?;
        let mut told = |rows| tell(RebalanceStep::Copying, rows);
        for _ in 0..MOST_PASSES {
            let counted = self.pass(&bringing, done, (stop, &mut told)).await?;
            if counted.brought <= FEW {
                break;
            }
        }
        self.nap(known_from + published.hold, stop).await?;
        // Whatever has come since, so that little has to be brought over by those who read it.
        self.pass(&bringing, done, (stop, &mut told)).await.map(drop)
    }

    /// Every account has the tables whose rows it may hold soon, those of which it gets none yet, too: applications write there next.
    async fn create_tables(&self, next: &Routes) -> Result<(), RebalanceError> {
        for table in tables_of(&self.store, &self.tables).await.map_err(|error| self.failed(error))? {
            for tables in next.homes_of(&table).into_iter().filter_map(|account| self.store.account(account)) {
                patiently(|| tables.create_table(&table)).await.map_err(|error| self.failed(error))?;
            }
        }
        Ok(())
    }

    async fn switch(
        &self,
        copy: &RoutesCopy,
        published: &PublishedRoutes,
        next: &Routes,
    ) -> Result<(), RebalanceError> {
        self.are_carried(next).await?;
        let moving = MovingRows { state: MoveState::Reading, rules: published.rules.clone() };
        let epoch = published.epoch + 1;
        self.publish(copy, &PublishedRoutes { epoch, rules: next.clone(), moving: Some(moving), ..published.clone() })
            .await
    }

    /// Brings over what comes late, deletes what lies where no route leads, and publishes that no rows move.
    async fn end(
        &self,
        copy: &RoutesCopy,
        published: &PublishedRoutes,
        done: &mut Rebalanced,
        (stop, tell): (&CancellationToken, &mut TellRebalance<'_>),
    ) -> Result<(), RebalanceError> {
        self.spread(published).await?;
        let known_from = Instant::now();
        let (before, first) = match &published.moving {
            Some(MovingRows { state: MoveState::Reading, rules }) => (rules, RebalanceStep::Switched),
            // Given up while it filled: nothing was ever written by the others.
            _ => (&published.rules, RebalanceStep::Deleting),
        };
        let bringing = self.bringing(published, (before, &published.rules))?;
        let mut told = |rows| tell(first, rows);
        self.pass(&bringing, done, (stop, &mut told)).await?;
        self.nap(known_from + published.hold + self.settle_window, stop).await?;
        let (mut open, mut step) = (1, first);
        for round in 0.. {
            // Once nobody writes by the old routes, one pass finds what is left, and the next one nothing.
            let mut told = |rows| tell(step, rows);
            let Counted { brought, astray, .. } = self.pass(&bringing, done, (stop, &mut told)).await?;
            // What another command or a daemon has brought since lies where it was, too.
            if brought == 0 && open == 0 && (astray == 0 || planted(Bug::BroughtByAnother)) {
                break;
            }
            if round == ROUNDS {
                return Err(RebalanceError::StillWritten);
            }
            if brought > 0 {
                // What it was brought from lies there still.
                open = 1;
            } else {
                step = RebalanceStep::Deleting;
                let mut told = |rows| tell(step, rows);
                let cleaned = bringing.clean(stop, &mut told).await?;
                (done.deleted, done.left, open) = (done.deleted + cleaned.deleted, cleaned.left, cleaned.open);
            }
        }
        let epoch = published.epoch + 1;
        self.publish(copy, &PublishedRoutes { epoch, moving: None, ..published.clone() }).await
    }

    async fn pass(
        &self,
        bringing: &Bringing<'_>,
        done: &mut Rebalanced,
        (stop, tell): (&CancellationToken, &mut (dyn FnMut(u64) + Send)),
    ) -> Result<Counted, RebalanceError> {
        let counted = bringing.pass(stop, tell).await?;
        (done.passes, done.brought) = (done.passes + 1, done.brought + counted.brought);
        Ok(counted)
    }

    /// The configuration has every account that these routes name.
    fn are_here<'r>(&self, rules: impl IntoIterator<Item = &'r Routes>) -> Result<(), RebalanceError> {
        let mut named = rules.into_iter().flat_map(Routes::accounts);
        let gone = named.find(|account| self.store.account(account).is_none());
        gone.map_or(Ok(()), |account| Err(RebalanceError::AccountGone(account.clone())))
    }

    fn bringing<'a>(
        &'a self,
        published: &PublishedRoutes,
        (was, is): (&'a Routes, &'a Routes),
    ) -> Result<Bringing<'a>, RebalanceError> {
        self.are_here([was, is])?;
        let (paced, _) = self.store.paced((self.share_percent, self.account_rows), &self.runtime);
        let fresh = published.hold.min(self.settle_window) / 2;
        Ok(Bringing {
            store: self.store.clone(),
            places: paced.by(is),
            was,
            tables: &self.tables,
            fresh,
            settles: self.settle_window * 3 / 2 + DATE_RESOLUTION,
            mirrors: published.moving.as_ref().is_some_and(|moving| moving.state == MoveState::Filling),
            epoch: published.epoch,
        })
    }

    /// On the ETag of what was read: where another command was faster, this one goes on from what that one has done.
    async fn publish(&self, copy: &RoutesCopy, next: &PublishedRoutes) -> Result<(), RebalanceError> {
        let done = self.store.replace_routes(copy, next).await.map_err(|error| self.failed(error))?;
        if done { self.spread(next).await } else { Ok(()) }
    }

    /// Every account has it: whoever knows but one of them, too.
    async fn spread(&self, published: &PublishedRoutes) -> Result<(), RebalanceError> {
        patiently(|| self.store.spread_routes(published)).await.map_err(|error| self.failed(error))
    }

    /// Every shard of every account has a daemon. One that runs with an older file knows nothing of a new account.
    async fn are_carried(&self, rules: &Routes) -> Result<(), RebalanceError> {
        let (home, control) = (self.store.home(), SystemTable::Control.name());
        let scope = Scope::Partition { partition: PartitionKey::from(Member::PARTITION), from: None, through: None };
        let (mut query, mut members) = (Query::new(scope), Vec::new());
        loop {
            let page = patiently(|| async { or_nothing(home.query(&control, &query).await) }).await;
            let page = page.map_err(|error| self.failed(error))?;
            members.extend(page.rows.iter().filter_map(|row| Member::decode(row).ok()));
            query.continuation = page.continuation;
            if query.continuation.is_none() {
                break;
            }
        }
        let now = home.clock().at(self.runtime.instant()).unwrap_or_else(|| self.runtime.now());
        let there = members.iter().filter(|member| !member.left && now < member.renewed + self.lease);
        let claimed: BTreeSet<&AccountShard> = there.flat_map(|member| &member.claims).collect();
        for account in rules.accounts() {
            let shards = Shard::all().map(|shard| AccountShard { account: account.clone(), shard });
            let carried = shards.filter(|shard| claimed.contains(shard)).count();
            if carried < Shard::COUNT {
                return Err(RebalanceError::NotCarried { account: account.clone(), carried });
            }
        }
        Ok(())
    }

    async fn nap(&self, until: Instant, stop: &CancellationToken) -> Result<(), RebalanceError> {
        while Instant::now() < until {
            if stop.is_cancelled() {
                return Err(RebalanceError::Stopped);
            }
            sleep(NAP.min(until.saturating_duration_since(Instant::now()))).await;
        }
        Ok(())
    }
}

/// The replicated tables that any account has.
pub(super) async fn tables_of(store: &RegionStore, filter: &TableFilter) -> Result<BTreeSet<TableName>, StoreError> {
    let mut lists: Vec<BoxFuture<'_, Result<Vec<TableName>, StoreError>>> = Vec::new();
    for account in store.accounts() {
        lists.push(Box::pin(patiently(|| account.tables.tables())));
    }
    let lists = try_join_all(lists).await?;
    Ok(lists.into_iter().flatten().filter(|table| filter.matches(table)).collect())
}
