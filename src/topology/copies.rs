//! Copies: destinations that are no regions, and what of the tables goes to each of them.
//!
//! A filter knows a row by its table and its partition alone, so that whether a change is for a copy is known before its row was
//! read, and stays so as long as the filter does. What of a row is brought is another thing: a *projection* of it.

use std::collections::{BTreeMap, BTreeSet};

use super::TableFilter;
use crate::closed_list;
use crate::model::{PartitionKey, RowBody, TableName};
use crate::topology::PartitionPattern;

closed_list! {
    /// What becomes of a row of a copy that is deleted in the regions.
    pub enum Deletes {
        Keep = "keep", "the row stays as it was before it was deleted", "none";
        Apply = "apply", "the row is deleted there too", "none";
    }
}

/// Which properties of a row are brought. Keys and version always are, and a property's type goes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Properties {
    /// All.
    Every,
    /// These alone.
    Only(BTreeSet<String>),
    /// All but these.
    Without(BTreeSet<String>),
}

/// What of one table goes to a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopiedTable {
    /// The partitions that go there; all where there is no pattern.
    pub partitions: Vec<PartitionPattern>,
    /// What of their rows.
    pub properties: Properties,
    /// What becomes of deleted rows.
    pub deletes: Deletes,
}

impl Default for CopiedTable {
    /// All of it, and nothing that was deleted is lost: who has meant a backup finds out too late that deletes were applied to it.
    fn default() -> Self {
        Self { partitions: Vec::new(), properties: Properties::Every, deletes: Deletes::Keep }
    }
}

/// What goes to a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyRule {
    /// The tables that go there.
    pub tables: TableFilter,
    /// What of each that has nothing of its own.
    pub every: CopiedTable,
    /// By table.
    pub named: BTreeMap<TableName, CopiedTable>,
}

impl CopyRule {
    /// What of a table goes there, if it does.
    pub fn of(&self, table: &TableName) -> &CopiedTable {
        self.named.get(table).unwrap_or(&self.every)
    }

    /// Whether the rows of this partition go there.
    pub fn takes(&self, table: &TableName, partition: &PartitionKey) -> bool {
        let patterns = &self.of(table).partitions;
        self.tables.matches(table)
            && (patterns.is_empty() || patterns.iter().any(|pattern| pattern.fits(partition.as_str())))
    }

    /// What is brought of a row of this table.
    pub fn project(&self, table: &TableName, body: &RowBody) -> RowBody {
        match &self.of(table).properties {
            Properties::Every => body.clone(),
            Properties::Only(names) => body.with_properties(|name| names.contains(name)),
            Properties::Without(names) => body.with_properties(|name| !names.contains(name)),
        }
    }

    /// Whether rows of this table are brought whole.
    pub fn is_whole(&self, table: &TableName) -> bool {
        self.of(table).properties == Properties::Every
    }

    /// Whether a row of this table stays there that is deleted in the regions.
    pub fn keeps_deleted(&self, table: &TableName) -> bool {
        self.of(table).deletes == Deletes::Keep
    }

    /// Whether some of its rows are deleted there when they are in the regions.
    pub fn applies_deletes(&self) -> bool {
        let named = self.named.values().any(|table| table.deletes == Deletes::Apply);
        let others = match &self.tables {
            TableFilter::Every => true,
            TableFilter::Named(tables) => tables.iter().any(|table| !self.named.contains_key(table)),
        };
        named || others && self.every.deletes == Deletes::Apply
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Region, Time, Version, WriterId};
    use proptest::prelude::*;

    fn table(name: &str) -> TableName {
        TableName::new(name).unwrap()
    }

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn patterns(texts: &[&str]) -> Vec<PartitionPattern> {
        texts.iter().map(|text| PartitionPattern::new(*text)).collect()
    }

    fn rule(tables: TableFilter, every: CopiedTable) -> CopyRule {
        CopyRule { tables, every, named: BTreeMap::new() }
    }

    #[test]
    fn a_row_goes_where_its_table_and_one_of_the_patterns_say() {
        let tenants = CopiedTable { partitions: patterns(&["tenant-a*", "shared"]), ..CopiedTable::default() };
        let mut rule = rule(TableFilter::named([table("orders"), table("stock")]), tenants);
        rule.named.insert(table("stock"), CopiedTable { partitions: vec![], ..CopiedTable::default() });
        let takes = |name: &str, partition: &str| rule.takes(&table(name), &partition.into());
        assert!(takes("Orders", "tenant-a7") && takes("orders", "shared") && takes("stock", "tenant-b"));
        assert!(!takes("orders", "tenant-b") && !takes("orders", "Shared") && !takes("carts", "shared"));
        assert!(!takes("RelayFeed", "shared"));
    }

    #[test]
    fn deletes_are_applied_where_any_table_says_so() {
        let apply = || CopiedTable { deletes: Deletes::Apply, ..CopiedTable::default() };
        let mut kept = rule(TableFilter::named([table("orders")]), CopiedTable::default());
        assert!(!kept.applies_deletes() && kept.keeps_deleted(&table("orders")));
        kept.named.insert(table("orders"), apply());
        assert!(kept.applies_deletes() && !kept.keeps_deleted(&table("Orders")));
        let mut applied = rule(TableFilter::named([table("orders")]), apply());
        assert!(applied.applies_deletes());
        applied.named.insert(table("orders"), CopiedTable::default());
        assert!(!applied.applies_deletes(), "no table is left that goes by what all have in common");
        assert!(rule(TableFilter::Every, apply()).applies_deletes());
    }

    #[test]
    fn a_projection_keeps_keys_version_and_the_type_of_what_is_brought() {
        let json = r#"{"PartitionKey":"p","RowKey":"r","RelayVersion":"x","A@odata.type":"Edm.Int64","A":"7","B":1.5,"C":"c"}"#;
        let body = RowBody::parse(json).unwrap();
        let project = |properties| {
            let rule = rule(TableFilter::Every, CopiedTable { properties, ..CopiedTable::default() });
            rule.project(&table("orders"), &body).json().to_string()
        };
        let keys = r#"{"PartitionKey":"p","RowKey":"r","RelayVersion":"x""#;
        assert_eq!(project(Properties::Only(names(&["A"]))), format!(r#"{keys},"A@odata.type":"Edm.Int64","A":"7"}}"#));
        let rest = project(Properties::Without(names(&["A", "C"])));
        assert_eq!(rest, format!(r#"{keys},"B@odata.type":"Edm.Double","B":1.5}}"#));
        assert_eq!(project(Properties::Only(names(&["c"]))), format!("{keys}}}"), "names are compared with their case");
        assert_eq!(project(Properties::Every), *body.json().to_string());
    }

    proptest! {
        /// Whatever is brought: twice is once, what is let through and what is left out make the row, and nobody's version changes.
        #[test]
        fn a_projection_is_a_part_of_the_row(all in prop::collection::btree_set("[A-F]", 0..6),
                                             some in prop::collection::btree_set("[A-F]", 0..6)) {
            let version = Version::new(Time::from_ticks(7), &Region::new("west").unwrap(), WriterId(1));
            let mut body = RowBody::builder(&"p".into(), &"r".into());
            for name in &all {
                body = body.int64(name, 7);
            }
            let body = body.finish().stamped(&version);
            let project = |properties: Properties, body: &RowBody| {
                rule(TableFilter::Every, CopiedTable { properties, ..CopiedTable::default() }).project(&table("orders"), body)
            };
            let brought = project(Properties::Only(some.clone()), &body);
            let left = project(Properties::Without(some.clone()), &body);
            prop_assert_eq!(&project(Properties::Only(some.clone()), &brought), &brought);
            prop_assert_eq!(brought.version(), Some(&version));
            let has = |body: &RowBody, name: &String| body.string(name).is_some();
            let typed = |body: &RowBody, name: &String| body.string(&format!("{name}@odata.type")).is_some();
            for name in &all {
                prop_assert_eq!(has(&brought, name), some.contains(name));
                prop_assert_eq!(has(&left, name), !some.contains(name));
                prop_assert_eq!(typed(&brought, name), has(&brought, name));
                prop_assert_eq!(typed(&left, name), has(&left, name));
            }
        }
    }
}
