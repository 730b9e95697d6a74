//! Which account of a region holds a row: by its table and its partition key, and by nothing else.
//!
//! A region has routes, each of which takes some partitions to some of its accounts, and a *spread*: the accounts that share whatever no
//! route takes. Of several routes that take a partition the most specific one counts: what it says of the partition decides
//! first (the whole key before a prefix before a pattern, and of two of a kind the one with more characters), then whether it
//! names the table. Two that could take one partition with the same right are refused, so that nothing depends on an order
//! that nobody wrote down.
//!
//! All rows of a partition have one home, with their records and their tombstones. That is why a row's own properties do not decide where
//! that is: whoever looks for a row has its keys and no more. A route that goes by the age of rows names a [cold place](ageing) beside it.

mod ageing;
mod partitions;
mod published;
mod rendezvous;

use std::cmp::Reverse;
use std::collections::BTreeSet;

use crate::closed_list;
use crate::model::{AccountName, PartitionKey, TableName};

pub use ageing::Ageing;
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
    /// When rows go there, where they do not from the first: then these accounts are their cold places and not their homes.
    pub ageing: Option<Ageing>,
}

/// The rules of a region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routes {
    /// The most specific first, so that the first one that matches counts.
    routes: Vec<Route>,
    /// Those that lead to cold places, in the same order.
    aged: Vec<Route>,
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
    /// Whether it takes this one.
    pub fn take(&self, table: &TableName) -> bool {
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
        self.ageing.is_some() == other.ageing.is_some()
            && self.rank() == other.rank()
            && self.tables.meet(&other.tables)
            && self.partitions.meet(&other.partitions)
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
        let (aged, routes) = routes.into_iter().partition(|route| route.ageing.is_some());
        Ok(Self { routes, aged, spread: spread.into_iter().collect() })
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

    /// Where rows of a partition may be once they are old; `None` where that is nowhere but at home.
    pub fn cold_place(&self, table: &TableName, partition: &PartitionKey) -> Option<Place<'_>> {
        let route = self.aged.iter().find(|route| route.takes(table, partition))?;
        let account = highest(&route.accounts, table, partition);
        (account != self.place(table, partition).account).then_some(Place { account, route: Some(route) })
    }

    /// What says when rows of a partition are old; `None` where they have no cold place.
    pub fn ageing(&self, table: &TableName, partition: &PartitionKey) -> Option<&Ageing> {
        self.cold_place(table, partition)?.route?.ageing.as_ref()
    }

    /// The home of a partition, and the cold place of its rows.
    pub fn places(&self, table: &TableName, partition: &PartitionKey) -> (&AccountName, Option<&AccountName>) {
        (self.place(table, partition).account, self.cold_place(table, partition).map(|place| place.account))
    }

    /// The home that rows of a partition had by `before`, where it is another one now.
    pub fn left_home<'a>(
        &self,
        before: &'a Self,
        table: &TableName,
        partition: &PartitionKey,
    ) -> Option<&'a AccountName> {
        let was = before.place(table, partition).account;
        (was != self.place(table, partition).account).then_some(was)
    }

    /// The cold place that they had by `before`, where it is neither of their places now.
    pub fn left_cold<'a>(
        &self,
        before: &'a Self,
        table: &TableName,
        partition: &PartitionKey,
    ) -> Option<&'a AccountName> {
        let was = before.cold_place(table, partition)?.account;
        let (home, cold) = self.places(table, partition);
        (was != home && Some(was) != cold).then_some(was)
    }

    /// The routes that lead to homes, the most specific first.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// The routes that lead to cold places, the most specific first.
    pub fn aged(&self) -> &[Route] {
        &self.aged
    }

    fn all(&self) -> impl Iterator<Item = &Route> {
        self.routes.iter().chain(&self.aged)
    }

    /// Who shares what no route takes, by name.
    pub fn spread(&self) -> &[AccountName] {
        &self.spread
    }

    /// The accounts that may be the home of rows of this table.
    pub fn homes_of(&self, table: &TableName) -> BTreeSet<&AccountName> {
        let mut homes = BTreeSet::new();
        for route in self.routes.iter().filter(|route| route.tables.take(table)) {
            homes.extend(&route.accounts);
            // Nothing is left for those behind it.
            if matches!(route.partitions, Partitions::Every) {
                return homes;
            }
        }
        homes.extend(&self.spread);
        homes
    }

    /// Every account that they name.
    pub fn accounts(&self) -> BTreeSet<&AccountName> {
        self.all().flat_map(|route| &route.accounts).chain(&self.spread).collect()
    }

    /// Whether these take every partition where `other` takes it: they differ in what they call things, and in when rows are old, if at
    /// all.
    pub fn lead_as(&self, other: &Self) -> bool {
        let bare = |route: &Route| {
            (route.tables.clone(), route.partitions.clone(), route.accounts.clone(), route.ageing.is_some())
        };
        let all = |routes: &Self| -> Vec<_> { routes.all().map(bare).collect() };
        let (ours, theirs) = (all(self), all(other));
        // Routes of one rank take different partitions, so that their order says nothing.
        self.spread == other.spread && ours.len() == theirs.len() && ours.iter().all(|route| theirs.contains(route))
    }
}

#[cfg(test)]
mod tests;
