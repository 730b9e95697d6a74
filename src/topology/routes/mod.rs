//! Which account of a region holds a row: by its table and its partition key, and by nothing else.
//!
//! A region has routes, each of which takes some partitions to some of its accounts, and a *spread*: the accounts that share whatever no
//! route takes. Of several routes that take a partition the most specific one counts: what it says of the partition decides
//! first (the whole key before a prefix before a pattern, and of two of a kind the one with more characters), then whether it
//! names the table. Two that could take one partition with the same right are refused, so that nothing depends on an order
//! that nobody wrote down.
//!
//! All rows of a partition have one home, with their records and their tombstones. That is why a row's own properties decide
//! nothing here: whoever looks for a row has its keys and no more.

mod partitions;
mod published;
mod rendezvous;

use std::cmp::Reverse;
use std::collections::BTreeSet;

use crate::closed_list;
use crate::model::{AccountName, PartitionKey, TableName};

pub use partitions::Partitions;
pub use published::{MoveState, MovingRows, PublishedRoutes, RoutesRowError};
pub use rendezvous::highest;

closed_list! {
    /// What an account is for. It is told to people and programs that ask for a route, and decides nothing.
    pub enum Tier {
        Hot = "hot", "rows in daily use", "none";
        Cold = "cold", "rows that are seldom asked for", "none";
        Archive = "archive", "rows that are kept because they must be", "none";
    }
}

/// Which tables a route takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoutedTables {
    /// Every table.
    Every,
    /// These, compared without case.
    Named(BTreeSet<TableName>),
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Its name in the configuration.
    pub name: String,
    /// The tables that it takes.
    pub tables: RoutedTables,
    /// The partitions of these that it takes.
    pub partitions: Partitions,
    /// The accounts that hold them: one, or several that share them by rendezvous hashing.
    pub accounts: Vec<AccountName>,
    /// What these accounts are for.
    pub tier: Option<Tier>,
}

/// The rules of a region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routes {
    /// The most specific first, so that the first one that matches counts.
    routes: Vec<Route>,
    /// Who shares what no route takes.
    spread: Vec<AccountName>,
}

/// Where a partition belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// The account that holds it.
    pub account: &'a AccountName,
    /// The route that says so; `None` where it is the spread.
    pub route: Option<&'a Route>,
}

/// Rules that are none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RoutesError {
    /// Nothing is left for what no route takes.
    #[error("no account is named for what no route takes")]
    NoSpread,
    /// A route leads nowhere.
    #[error("route {0} names no account")]
    NoAccount(String),
    /// Two routes take the same with the same right.
    #[error("routes {0} and {1} could take the same partition, and neither is more specific")]
    Clash(String, String),
}

impl RoutedTables {
    fn take(&self, table: &TableName) -> bool {
        match self {
            Self::Every => true,
            Self::Named(tables) => tables.contains(table),
        }
    }

    fn are_named(&self) -> bool {
        matches!(self, Self::Named(_))
    }

    fn meet(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Named(ours), Self::Named(theirs)) => !ours.is_disjoint(theirs),
            _ => true,
        }
    }
}

impl Route {
    fn takes(&self, table: &TableName, partition: &PartitionKey) -> bool {
        self.tables.take(table) && self.partitions.take(partition)
    }

    /// What is higher counts before what is lower.
    fn rank(&self) -> ((u8, usize), bool) {
        (self.partitions.rank(), self.tables.are_named())
    }

    fn clashes_with(&self, other: &Self) -> bool {
        self.rank() == other.rank() && self.tables.meet(&other.tables) && self.partitions.meet(&other.partitions)
    }
}

impl Routes {
    /// These rules, whatever their order.
    ///
    /// # Errors
    /// [`RoutesError`] where they would not say of every partition where it belongs, or would say two things of one.
    pub fn new(mut routes: Vec<Route>, spread: impl IntoIterator<Item = AccountName>) -> Result<Self, RoutesError> {
        let spread: BTreeSet<_> = spread.into_iter().collect();
        if spread.is_empty() {
            return Err(RoutesError::NoSpread);
        }
        for route in &mut routes {
            route.accounts.sort();
            route.accounts.dedup();
            if route.accounts.is_empty() {
                return Err(RoutesError::NoAccount(route.name.clone()));
            }
        }
        routes.sort_by(|a, b| a.name.cmp(&b.name));
        for (n, route) in routes.iter().enumerate() {
            if let Some(other) = routes[..n].iter().find(|other| other.clashes_with(route)) {
                return Err(RoutesError::Clash(other.name.clone(), route.name.clone()));
            }
        }
        routes.sort_by_key(|route| Reverse(route.rank()));
        Ok(Self { routes, spread: spread.into_iter().collect() })
    }

    /// No routes: these accounts share everything.
    ///
    /// # Errors
    /// [`RoutesError::NoSpread`] where there is none.
    pub fn spread_over(accounts: impl IntoIterator<Item = AccountName>) -> Result<Self, RoutesError> {
        Self::new(Vec::new(), accounts)
    }

    /// Where a partition belongs.
    pub fn place(&self, table: &TableName, partition: &PartitionKey) -> Place<'_> {
        let route = self.routes.iter().find(|route| route.takes(table, partition));
        let accounts = route.map_or(&self.spread, |route| &route.accounts);
        Place { account: highest(accounts, table, partition), route }
    }

    /// The routes, the most specific first.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// Who shares what no route takes, by name.
    pub fn spread(&self) -> &[AccountName] {
        &self.spread
    }

    /// Every account that they name.
    pub fn accounts(&self) -> BTreeSet<&AccountName> {
        self.routes.iter().flat_map(|route| &route.accounts).chain(&self.spread).collect()
    }

    /// Whether these take every partition where `other` takes it: they differ in what they call things, if at all.
    pub fn lead_as(&self, other: &Self) -> bool {
        let bare = |route: &Route| (route.tables.clone(), route.partitions.clone(), route.accounts.clone());
        let all = |routes: &Self| -> Vec<_> { routes.routes.iter().map(bare).collect() };
        let (ours, theirs) = (all(self), all(other));
        // Routes of one rank take different partitions, so that their order says nothing.
        self.spread == other.spread && ours.len() == theirs.len() && ours.iter().all(|route| theirs.contains(route))
    }
}

#[cfg(test)]
mod tests;
