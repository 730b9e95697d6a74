//! Which tables are replicated.

use std::collections::BTreeSet;

use crate::model::TableName;

/// Which tables are replicated: those that are named, or every one. System tables never are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TableFilter {
    /// Every table but the system ones.
    Every,
    /// These, compared without case.
    Named(BTreeSet<TableName>),
}

impl TableFilter {
    /// These tables.
    pub fn named(tables: impl IntoIterator<Item = TableName>) -> Self {
        Self::Named(tables.into_iter().collect())
    }

    /// Whether this table is replicated.
    pub fn matches(&self, table: &TableName) -> bool {
        !table.is_system()
            && match self {
                Self::Every => true,
                Self::Named(tables) => tables.contains(table),
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SystemTable;

    #[test]
    fn named_tables_match_in_any_case_and_system_tables_never() {
        let table = |name| TableName::new(name).unwrap();
        let named = TableFilter::named([table("orders"), table("RelayFeed")]);
        assert!(named.matches(&table("Orders")));
        assert!(!named.matches(&table("carts")));
        assert!(TableFilter::Every.matches(&table("carts")));
        for system in SystemTable::ALL {
            assert!(!named.matches(&system.name()) && !TableFilter::Every.matches(&system.name()));
        }
    }
}
