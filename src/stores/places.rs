//! Where a row may be beside its home: where other routes have it while rows move, and in its cold place once it is old.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::{RegionStore, StoreError, Tables};
use crate::model::{AccountName, PartitionKey, TableName};
use crate::topology::{Ageing, MoveState, PublishedRoutes};

/// The account where a row was, and the one where it is, while rows move.
#[derive(Debug, Clone)]
pub struct Passage {
    /// Where it was.
    pub from: Arc<dyn Tables>,
    /// Where it is.
    pub to: Arc<dyn Tables>,
    /// How long after its look began something may be written: half a settle window.
    pub fresh: Duration,
    /// Where it was is where it is written still: what is there counts, whatever a copy of it says.
    pub mirrors: Option<Mirrors>,
}

/// Routes by which rows are copied to where they are not written yet: those of this epoch, in this region.
#[derive(Debug, Clone)]
pub struct Mirrors {
    /// The region, where they are published.
    pub region: RegionStore,
    /// Their epoch.
    pub epoch: u64,
}

impl Mirrors {
    /// Whether they are in force. What was read before that at the new place of a row, if it is no copy, was written by nobody
    /// who follows the routes.
    ///
    /// # Errors
    /// Whatever the store answers.
    pub async fn are_in_force(&self) -> Result<bool, StoreError> {
        Ok(self.region.read_routes().await?.published.is_some_and(|published| published.epoch == self.epoch))
    }
}

/// The home of a row, and its cold place. Whatever stands at home counts.
#[derive(Debug, Clone)]
pub struct Tiering {
    /// Where it is written, with its records and its tombstone.
    pub home: Arc<dyn Tables>,
    /// Where it may be once it is old, if its home does not have it.
    pub cold: Arc<dyn Tables>,
    /// The region of both.
    pub region: RegionStore,
    /// How long after its look began something may be written: half a settle window.
    pub fresh: Duration,
}

impl RegionStore {
    /// Whether rows of the region are at other places than a writer may put them that goes by older routes.
    pub fn reads_through(&self) -> bool {
        let moving =
            |published: &PublishedRoutes| published.moving.as_ref().is_some_and(|it| it.state == MoveState::Reading);
        self.published().as_deref().is_some_and(moving)
    }

    /// Whether old rows of the region have cold places.
    pub fn has_cold_places(&self) -> bool {
        let has = |published: &PublishedRoutes| {
            let other = published.moving.as_ref().filter(|moving| moving.state == MoveState::Reading);
            std::iter::once(&published.rules).chain(other.map(|moving| &moving.rules)).any(|it| !it.aged().is_empty())
        };
        self.published().as_deref().is_some_and(has)
    }

    /// Whether a row of this partition that is not at its home may be in another account, from where whoever looks for it brings it home.
    pub fn may_be_elsewhere(&self, table: &TableName, partition: &PartitionKey) -> bool {
        self.reads_through() && self.passage(table, partition).is_some()
            || self.has_cold_places() && !self.tierings(table, partition).is_empty()
    }

    /// How rows of this partition come from where they were to where they are, if they have moved and some may not have come.
    pub fn passage(&self, table: &TableName, partition: &PartitionKey) -> Option<Passage> {
        let published = self.published()?;
        let moving = published.moving.as_ref().filter(|moving| moving.state == MoveState::Reading)?;
        let from = published.rules.left_home(&moving.rules, table, partition)?;
        let (from, to) = (self.tables_named(from), self.tables_named(published.rules.place(table, partition).account));
        Some(Passage { from, to, fresh: published.hold / 2, mirrors: None })
    }

    /// Where else a row of this partition may be: where other routes have it, and where it is cold.
    pub fn other_places(&self, table: &TableName, partition: &PartitionKey) -> Vec<Arc<dyn Tables>> {
        let Some(published) = self.published() else { return Vec::new() };
        let (home, cold) = published.rules.places(table, partition);
        let other = published.moving.as_ref().map(|moving| moving.rules.places(table, partition));
        let (other_home, other_cold) = other.unzip();
        let mut seen = BTreeSet::from([home]);
        // Where rows are written by other routes is asked before any place that holds what is old.
        let others = other_home.into_iter().chain(cold).chain(other_cold.flatten());
        others.filter(|account| seen.insert(account)).map(|account| self.tables_named(account)).collect()
    }

    /// Where rows of this partition are written by other routes, while rows move.
    pub fn other_home(&self, table: &TableName, partition: &PartitionKey) -> Option<Arc<dyn Tables>> {
        let published = self.published()?;
        let other = published.rules.left_home(&published.moving.as_ref()?.rules, table, partition)?;
        Some(self.tables_named(other))
    }

    /// The home and the cold place of rows of this partition, by the routes in force; `None` where there is no cold place, or none is known.
    pub fn tiering(&self, table: &TableName, partition: &PartitionKey) -> Option<Tiering> {
        let published = self.published()?;
        let (home, cold) = published.rules.places(table, partition);
        let (home, cold) = (self.tables_named(home), self.tables_named(cold?));
        Some(Tiering { home, cold, region: self.clone(), fresh: published.hold / 2 })
    }

    /// What says when a row of this partition is old; `None` where it has no cold place.
    pub fn ageing(&self, table: &TableName, partition: &PartitionKey) -> Option<Ageing> {
        self.published()?.rules.ageing(table, partition).cloned()
    }

    /// Whether rows of this partition are kept in this account once they are old, or were before they moved.
    pub fn is_cold_place(&self, account: &AccountName, table: &TableName, partition: &PartitionKey) -> bool {
        self.tierings(table, partition).iter().any(|tiering| tiering.cold.account() == account)
    }

    /// The home of rows of this partition with each of their cold places: that by the routes in force, and while rows move, the one that
    /// they had before.
    pub fn tierings(&self, table: &TableName, partition: &PartitionKey) -> Vec<Tiering> {
        let before = || {
            let published = self.published()?;
            let moving = published.moving.as_ref().filter(|moving| moving.state == MoveState::Reading)?;
            let cold = published.rules.left_cold(&moving.rules, table, partition)?;
            let (home, cold) = (published.rules.place(table, partition).account, self.tables_named(cold));
            let home = self.tables_named(home);
            Some(Tiering { home, cold, region: self.clone(), fresh: published.hold / 2 })
        };
        self.tiering(table, partition).into_iter().chain(before()).collect()
    }
}
