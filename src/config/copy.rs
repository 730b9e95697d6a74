//! `[copy.NAME]`: destinations that are no regions, and what of the tables goes to each.

use std::collections::{BTreeMap, BTreeSet};

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::kinds::Names;
use super::region::{Places, Reads, Variable, accounts};
use super::section::Section;
use super::settings::{AccountSettings, CopySettings, RegionSettings};
use crate::model::{AccountName, ClosedList, Region, TableName, Version};
use crate::topology::{CopiedTable, CopyRule, Deletes, PartitionPattern, Properties, TableFilter};

/// Reads every `[copy.NAME]`, beside these regions and of the tables that are replicated.
pub(super) fn copies(
    root: &Section<'_>,
    regions: &BTreeMap<Region, RegionSettings>,
    replicated: &TableFilter,
    variable: &Variable<'_>,
    places: &mut Places,
) -> BTreeMap<Region, CopySettings> {
    let mut copies = BTreeMap::new();
    for (name, section) in root.named("copy") {
        let name = Region::new(name).map_err(|err| section.problem("", err.to_string())).ok();
        if let Some(name) = name.as_ref().filter(|name| regions.contains_key(*name)) {
            section
                .problem("", format!("has the name of region.{name}; a copy and a region should have different ones"));
        }
        copies.extend(name.zip(copy(section, replicated, variable, places)));
    }
    copies
}

fn copy(
    section: Section<'_>,
    replicated: &TableFilter,
    variable: &Variable<'_>,
    places: &mut Places,
) -> Option<CopySettings> {
    let tables = tables(&section, replicated);
    let every = copied(&section, &CopiedTable::default());
    let mut named = Some(BTreeMap::new());
    for (name, of_table) in section.named("table") {
        let table = table(&of_table, "", name, replicated);
        if let (Some(table), Some(tables)) = (&table, &tables)
            && replicated.matches(table)
            && !tables.matches(table)
        {
            of_table.problem(
                "",
                format!("{name} is not among the tables of {}; name it there, or take this out", section.path()),
            );
        }
        match (table.zip(copied(&of_table, every.as_ref().unwrap_or(&CopiedTable::default()))), &mut named) {
            (Some((table, copied)), Some(named)) => drop(named.insert(table, copied)),
            (None, named) => *named = None,
            (Some(_), None) => {}
        }
        of_table.finish();
    }
    let accounts = accounts(&section, variable, places, Reads::Nothing);
    section.finish();
    Some(CopySettings { rule: CopyRule { tables: tables?, every: every?, named: named? }, accounts: accounts? })
}

/// `tables`: all that are replicated where nothing is said.
fn tables(section: &Section<'_>, replicated: &TableFilter) -> Option<TableFilter> {
    let Some(Names(names)) = section.get::<Names>("tables") else {
        return (!section.has("tables")).then(|| replicated.clone());
    };
    if names.iter().any(|name| name == "*") {
        if names.len() > 1 {
            section.problem("tables", "\"*\" is every table; there should be no other one beside it");
        }
        return Some(replicated.clone());
    }
    let tables: Option<BTreeSet<TableName>> =
        names.iter().map(|name| table(section, "tables", name, replicated)).collect();
    tables.map(TableFilter::Named)
}

/// A table by its name, which is to be replicated.
fn table(section: &Section<'_>, key: &str, name: &str, replicated: &TableFilter) -> Option<TableName> {
    let table = TableName::new(name).map_err(|err| section.problem(key, err.to_string())).ok()?;
    replicated.check(&table).map_err(|err| section.problem(key, err.to_string())).ok()?;
    Some(table)
}

/// What of a table goes there; what is not said is as in `usual`.
fn copied(section: &Section<'_>, usual: &CopiedTable) -> Option<CopiedTable> {
    let partitions = partitions(section);
    let only = section.get::<Names>("properties").map(|names| properties(section, "properties", names));
    let without = section.get::<Names>("without").map(|names| properties(section, "without", names));
    let deletes = section.or::<Deletes>("deletes", usual.deletes);
    if section.has("properties") && section.has("without") {
        section.problem("without", "should not be beside properties, which says what is brought");
        return None;
    }
    let properties = match (only, without) {
        (Some(only), _) => Some(Properties::Only(only?)),
        (None, Some(without)) => Some(Properties::Without(without?)),
        (None, None) => (!section.has("properties") && !section.has("without")).then(|| usual.properties.clone()),
    };
    let partitions = match partitions {
        None => (!section.has("partitions")).then(|| usual.partitions.clone()),
        partitions => partitions,
    };
    Some(CopiedTable { partitions: partitions?, properties: properties?, deletes })
}

fn partitions(section: &Section<'_>) -> Option<Vec<PartitionPattern>> {
    let Names(patterns) = section.get::<Names>("partitions")?;
    if patterns.iter().any(|pattern| pattern == "*") {
        if patterns.len() > 1 {
            section.problem("partitions", "\"*\" is every partition; there should be no other pattern beside it");
        }
        return Some(Vec::new());
    }
    Some(patterns.into_iter().map(PartitionPattern::new).collect())
}

fn properties(section: &Section<'_>, key: &str, Names(names): Names) -> Option<BTreeSet<String>> {
    const ALWAYS: [&str; 4] = ["PartitionKey", "RowKey", "Timestamp", Version::PROPERTY];
    if let Some(name) = names.iter().find(|name| ALWAYS.contains(&name.as_str())) {
        section.problem(key, format!("{name} is part of every row; take it out"));
        return None;
    }
    if let Some(name) = names.iter().find(|name| name.contains(['@', '.', '*'])) {
        section.problem(key, format!("{name:?} is no property's name; a type goes with its property"));
        return None;
    }
    Some(names.into_iter().collect())
}

/// A list as the file has it: a dollar alone would begin a variable.
fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    names.into_iter().map(|name| name.replace('$', "$$")).collect()
}

/// What of a table goes there, as keys of the file.
struct Written<'a>(&'a CopiedTable);

impl Written<'_> {
    fn write<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let CopiedTable { partitions, properties, deletes } = self.0;
        let partitions = match partitions.is_empty() {
            true => vec!["*".to_owned()],
            false => list(partitions.iter().map(PartitionPattern::as_str)),
        };
        map.serialize_entry("partitions", &partitions)?;
        match properties {
            Properties::Every => {}
            Properties::Only(names) => map.serialize_entry("properties", &list(names.iter().map(String::as_str)))?,
            Properties::Without(names) => map.serialize_entry("without", &list(names.iter().map(String::as_str)))?,
        }
        map.serialize_entry("deletes", deletes.as_str())
    }
}

impl Serialize for Written<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        self.write(&mut map)?;
        map.end()
    }
}

/// The filter among the keys of a copy.
pub(super) fn written<S: Serializer>(rule: &CopyRule, serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(None)?;
    let tables: Vec<&str> = match &rule.tables {
        TableFilter::Every => vec!["*"],
        TableFilter::Named(tables) => tables.iter().map(TableName::as_str).collect(),
    };
    map.serialize_entry("tables", &tables)?;
    Written(&rule.every).write(&mut map)?;
    if !rule.named.is_empty() {
        let named: BTreeMap<&str, Written<'_>> =
            rule.named.iter().map(|(table, copied)| (table.as_str(), Written(copied))).collect();
        map.serialize_entry("table", &named)?;
    }
    map.end()
}

/// Its accounts, which have no queue.
pub(super) fn written_accounts<S: Serializer>(
    accounts: &BTreeMap<AccountName, AccountSettings>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(accounts.iter().map(|(name, account)| (name, &account.access)))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{Environment, Settings, read};
    use crate::model::{PartitionKey, Region, RowBody, TableName};

    const WEST: &str = "
[table.orders]
[table.stock]
[region.west]
role = \"writer\"
[region.west.account.west1]
connection_string = \"UseDevelopmentStorage=true\"
";

    fn settings(copy: &str, variables: &[(&str, &str)]) -> Result<Settings, String> {
        read(Path::new("relay.toml"), &format!("{WEST}{copy}"), &Environment::of(variables.iter().copied()))
            .map_err(|err| err.to_string())
    }

    fn backup(keys: &str) -> String {
        format!(
            "[copy.backup]\n{keys}\n[copy.backup.account.b]\ntable_endpoint = \"https://b.example\"\ncredential = \"managed-identity\"\n"
        )
    }

    fn table(name: &str) -> TableName {
        TableName::new(name).unwrap()
    }

    #[test]
    fn a_copy_goes_by_its_keys_and_comes_out_as_it_went_in() {
        let keys = "tables = [\"Orders\", \"stock\"]\npartitions = [\"tenant-$$*\", \"p\"]\nwithout = [\"Secret\"]
[copy.backup.table.stock]\npartitions = \"*\"\nproperties = [\"N\"]\ndeletes = \"apply\"";
        let said = settings(&backup(keys), &[]).unwrap();
        let rule = |said: &Settings| said.copies[&Region::new("backup").unwrap()].rule.clone();
        let of = rule(&said);
        let takes = |name: &str, partition: &str| of.takes(&table(name), &PartitionKey::from(partition));
        assert!(takes("orders", "tenant-$1") && takes("orders", "p") && takes("stock", "q") && !takes("orders", "q"));
        assert!(of.keeps_deleted(&table("orders")) && !of.keeps_deleted(&table("stock")));
        let body = RowBody::builder(&"p".into(), &"r".into()).string("N", "n").string("Secret", "s").finish();
        assert_eq!(of.project(&table("orders"), &body).string("Secret"), None);
        let printed = said.to_toml().unwrap();
        let whole =
            printed.replace("connection_string = \"***\"", "connection_string = \"UseDevelopmentStorage=true\"");
        let again =
            read(Path::new("relay.toml"), &whole, &Environment::default()).unwrap_or_else(|err| panic!("{err}"));
        assert_eq!((again.to_toml().unwrap(), rule(&again)), (printed, of));
    }

    #[test]
    fn without_keys_every_row_goes_there_whole_and_stays() {
        let said = settings(&backup(""), &[]).unwrap();
        let rule = &said.copies[&Region::new("backup").unwrap()].rule;
        assert_eq!(rule.tables, said.tables);
        assert!(rule.takes(&table("stock"), &"p".into()) && rule.is_whole(&table("stock")) && !rule.applies_deletes());
        assert!(settings("", &[]).unwrap().copies.is_empty());
    }

    #[test]
    fn the_environment_overrides_a_copy_and_makes_one() {
        let variables = [
            ("TABLERELAY__COPY__BACKUP__DELETES", "apply"),
            ("TABLERELAY__COPY__BACKUP__TABLE__STOCK__PARTITIONS", "a*, b"),
            ("TABLERELAY__COPY__REPORT_1__ACCOUNT__R__TABLE_ENDPOINT", "https://r.example"),
            ("TABLERELAY__COPY__REPORT_1__ACCOUNT__R__CREDENTIAL", "managed-identity"),
        ];
        let said = settings(&backup("deletes = \"keep\""), &variables).unwrap_or_else(|err| panic!("{err}"));
        let rule = &said.copies[&Region::new("backup").unwrap()].rule;
        assert!(!rule.keeps_deleted(&table("stock")) && rule.takes(&table("stock"), &"ab".into()));
        assert!(!rule.takes(&table("stock"), &"c".into()) && rule.takes(&table("orders"), &"c".into()));
        assert!(said.copies.contains_key(&Region::new("report-1").unwrap()));
    }

    #[test]
    fn what_is_wrong_with_a_copy_is_named_by_its_key() {
        for (keys, key, words) in [
            ("tables = [\"carts\"]", "copy.backup.tables", "configuration names orders, stock"),
            ("tables = [\"no-table\"]", "copy.backup.tables", "no-table"),
            ("tables = [\"RelayFeed\"]", "copy.backup.tables", "tablerelay's own"),
            ("tables = []", "copy.backup.tables", "neither it nor a name"),
            ("tables = [\"*\", \"orders\"]", "copy.backup.tables", "no other one beside it"),
            ("partitions = [\"*\", \"p\"]", "copy.backup.partitions", "every partition"),
            ("partitions = 7", "copy.backup.partitions", "a list of names"),
            ("properties = [\"A\"]\nwithout = [\"B\"]", "copy.backup.without", "beside properties"),
            ("without = [\"RowKey\"]", "copy.backup.without", "part of every row"),
            ("properties = [\"A@odata.type\"]", "copy.backup.properties", "goes with its property"),
            ("deletes = \"drop\"", "copy.backup.deletes", "\"keep\" and \"apply\""),
            ("delete = \"keep\"", "copy.backup.delete", "did you mean deletes?"),
            ("[copy.backup.table.carts]", "copy.backup.table.carts", "is not replicated"),
            (
                "tables = [\"orders\"]\n[copy.backup.table.stock]",
                "copy.backup.table.stock",
                "not among the tables of copy.backup",
            ),
            ("[copy.backup.table.stock]\ntables = [\"stock\"]", "copy.backup.table.stock.tables", "no such key"),
            ("role = \"writer\"", "copy.backup.role", "no such key"),
        ] {
            let said = settings(&backup(keys), &[]).unwrap_err();
            assert!(said.contains(&format!("{key}: ")) && said.contains(words), "{keys}: {said}");
        }
        let said = settings("[copy.west]\n[copy.west.account.a]\ntable_endpoint = \"https://b.example\"\ncredential = \"managed-identity\"\n", &[]).unwrap_err();
        assert!(said.contains("copy.west: has the name of region.west"), "{said}");
        let said = settings("[copy.backup]\n", &[]).unwrap_err();
        assert!(said.contains("copy.backup: has no account"), "{said}");
        let said = settings(
            &backup("").replace(
                "table_endpoint = \"https://b.example\"\ncredential = \"managed-identity\"",
                "connection_string = \"UseDevelopmentStorage=true\"",
            ),
            &[],
        )
        .unwrap_err();
        assert!(
            said.contains("copy.backup.account.b: is the same storage account as region.west.account.west1"),
            "{said}"
        );
    }
}
