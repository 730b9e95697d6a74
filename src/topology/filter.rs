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

    /// # Errors
    /// [`NotReplicated`] where this table is not, so that no other region ever gets what is written to it.
    pub fn check(&self, table: &TableName) -> Result<(), NotReplicated> {
        if self.matches(table) {
            return Ok(());
        }
        let why = match self {
            Self::Named(tables) if !table.is_system() => {
                let names: Vec<_> = tables.iter().map(TableName::as_str).collect();
                format!("the configuration names {}", names.join(", "))
            }
            _ => "it is one of tablerelay's own".to_owned(),
        };
        Err(NotReplicated { table: table.clone(), why })
    }
}

/// A table that is not replicated, where one that is was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("table {table} is not replicated: {why}")]
pub struct NotReplicated {
    table: TableName,
    why: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SystemTable;

    #[test]
    fn what_is_not_replicated_is_refused_with_what_is() {
        let table = |name| TableName::new(name).unwrap();
        let named = TableFilter::named([table("orders"), table("stock")]);
        assert_eq!(named.check(&table("Orders")), Ok(()));
        let refused = named.check(&table("carts")).unwrap_err().to_string();
        assert_eq!(refused, "table carts is not replicated: the configuration names orders, stock");
        let refused = TableFilter::Every.check(&SystemTable::Feed.name()).unwrap_err().to_string();
        assert_eq!(refused, "table RelayFeed is not replicated: it is one of tablerelay's own");
    }

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
