//! What readers of a table may count on.

use std::collections::BTreeMap;
use std::time::Duration;

use super::TableName;

/// What readers of a table may count on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Consistency {
    /// Every region has every change at some time.
    #[default]
    Eventual,
    /// A region that is further behind than this is not offered to readers while a fresher one is.
    Bounded {
        /// How far behind a region may be.
        max_staleness: Duration,
    },
    /// A write of a [`Writer`](crate::writer::Writer) returns once so many destinations have it, or says that they have not.
    Synchronous {
        /// How many destinations, beside the region that was written to.
        copies: u32,
        /// How long it waits for them.
        within: Duration,
    },
}

/// The consistency of every table: that of its own name, or else that of all others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TableConsistency {
    /// For every table that has none of its own.
    pub every: Consistency,
    /// By table.
    pub named: BTreeMap<TableName, Consistency>,
}

impl TableConsistency {
    /// That of one table.
    pub fn of(&self, table: &TableName) -> Consistency {
        self.named.get(table).copied().unwrap_or(self.every)
    }

    /// The strictest limit of all bounded tables: a region has one door for its readers, whichever tables they read.
    pub fn max_staleness(&self) -> Option<Duration> {
        let all = self.named.values().chain(std::iter::once(&self.every));
        let limits = all.filter_map(|consistency| match consistency {
            Consistency::Bounded { max_staleness } => Some(*max_staleness),
            Consistency::Eventual | Consistency::Synchronous { .. } => None,
        });
        limits.min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strictest_limit_is_that_of_the_region() {
        let table = |name| TableName::new(name).unwrap();
        let bounded = |seconds| Consistency::Bounded { max_staleness: Duration::from_secs(seconds) };
        let mut tables = TableConsistency::default();
        assert_eq!(tables.max_staleness(), None);
        tables.named = [(table("orders"), bounded(30)), (table("carts"), bounded(90))].into();
        assert_eq!(tables.max_staleness(), Some(Duration::from_secs(30)));
        assert_eq!((tables.of(&table("Orders")), tables.of(&table("stock"))), (bounded(30), Consistency::Eventual));
        tables.every = bounded(5);
        assert_eq!((tables.of(&table("stock")), tables.max_staleness()), (bounded(5), Some(Duration::from_secs(5))));
    }
}
