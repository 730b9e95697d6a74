//! `[region.NAME.route.NAME]`: which account of a region holds which rows.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::duration;
use super::kinds::Names;
use super::section::Section;
use crate::model::{AccountName, ClosedList, TableName, Version};
use crate::topology::{Ageing, Partitions, PublishedRoutes, Route, RoutedTables, Routes, RoutesError, Tier};

/// The longest name of a route.
const LONGEST_NAME: usize = 60;

/// Reads `route` and `spread` of a region that has these accounts; nothing where something is wrong.
pub(super) fn routes(region: &Section<'_>, accounts: &BTreeSet<AccountName>) -> Option<Routes> {
    let (mut routes, mut complete, mut paths) = (Vec::new(), true, BTreeMap::new());
    for (name, section) in region.named("route") {
        if !is_name(name) {
            section.problem("", format!("a route's name should be 1 to {LONGEST_NAME} of a-z, A-Z, 0-9, - and _"));
        }
        let route = route(&section, name, accounts);
        complete &= route.is_some();
        routes.extend(route);
        paths.insert(name, section);
    }
    let spread = spread(region, accounts, &routes);
    let checked = complete.then(|| Routes::new(routes, spread?).map_err(|error| tell(region, &paths, &error)).ok());
    paths.into_values().for_each(Section::finish);
    let routes = checked??;
    if PublishedRoutes::units(&routes) > PublishedRoutes::MOST_UNITS {
        let most = PublishedRoutes::MOST_UNITS;
        region.problem("route", format!("the region has too many routes: as text they may have {most} characters"));
    }
    Some(routes)
}

/// Who shares what no route takes. Where the file does not say, these are all accounts but those that are cold places alone.
fn spread(region: &Section<'_>, accounts: &BTreeSet<AccountName>, routes: &[Route]) -> Option<Vec<AccountName>> {
    match region.get::<Names>("spread") {
        Some(names) => named_accounts(region, "spread", &names, accounts),
        None if region.has("spread") || accounts.is_empty() => None,
        None => {
            let cold = |account: &&AccountName| {
                routes.iter().any(|route| route.ageing.is_some() && route.accounts.contains(account))
            };
            Some(accounts.iter().filter(|account| !cold(account)).cloned().collect())
        }
    }
}

/// Of two routes that clash, either may be the wrong one: both are named.
fn tell(region: &Section<'_>, paths: &BTreeMap<&str, Section<'_>>, error: &RoutesError) {
    if let RoutesError::Clash(one, other) = error
        && let [Some(one), Some(other)] = [one, other].map(|name| paths.get(name.as_str()))
    {
        other.problem(
            "",
            format!(
                "and {} could take the same partition, and neither is more specific; what a route says of partitions \
                 counts first (partition, then the longer partition_prefix, then the longer partition_pattern), then \
                 whether it names tables",
                one.path()
            ),
        );
    } else {
        region.problem("route", error.to_string());
    }
}

fn is_name(name: &str) -> bool {
    (1..=LONGEST_NAME).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

fn route(section: &Section<'_>, name: &str, known: &BTreeSet<AccountName>) -> Option<Route> {
    let tables = tables(section);
    let partitions = partitions(section);
    let accounts = section.required::<Names>("accounts");
    let accounts = accounts.and_then(|names| named_accounts(section, "accounts", &names, known));
    let tier = section.get::<Tier>("tier");
    let ageing = ageing(section);
    let (tables, partitions, ageing) = (tables?, partitions?, ageing?);
    if ageing.is_none() && tables == RoutedTables::Every && partitions == Partitions::Every {
        section.problem("", "should say which rows it is for: tables, partition, partition_prefix or partition_pattern; for what no route takes there is spread");
        return None;
    }
    Some(Route { name: name.to_owned(), tables, partitions, accounts: accounts?, tier, ageing })
}

/// `None` where something is wrong.
fn ageing(section: &Section<'_>) -> Option<Option<Ageing>> {
    let (date, after) = (section.get::<String>("date"), section.get::<Duration>("older_than"));
    match (section.has("date"), section.has("older_than")) {
        (false, false) => return Some(None),
        (true, false) => section.problem("older_than", "is missing beside date: how long ago that is where a row is old"),
        (false, true) => section.problem(
            "date",
            "is missing beside older_than: the property that holds a row's date, or \"Timestamp\" for when it was written last",
        ),
        (true, true) => {}
    }
    let (date, after) = (date?, after?);
    let is_name = |name: &str| !name.is_empty() && name.encode_utf16().count() <= 255 && !name.contains('@');
    if !is_name(&date) || ["PartitionKey", "RowKey", Version::PROPERTY].contains(&date.as_str()) {
        section.problem("date", "should be the name of a property of type Edm.DateTime, or \"Timestamp\"");
        return None;
    }
    if after.as_secs() == 0 || after.subsec_nanos() != 0 {
        section.problem("older_than", "should be whole seconds, and at least one");
        return None;
    }
    Some(Some(Ageing { date, after }))
}

fn tables(section: &Section<'_>) -> Option<RoutedTables> {
    let Some(Names(names)) = section.get::<Names>("tables") else {
        return (!section.has("tables")).then_some(RoutedTables::Every);
    };
    if names.iter().any(|name| name == "*") {
        if names.len() > 1 {
            section.problem("tables", "\"*\" is every table; there should be no other one beside it");
        }
        return Some(RoutedTables::Every);
    }
    let mut tables = BTreeSet::new();
    for name in &names {
        match TableName::new(name) {
            Ok(table) if table.is_system() => {
                section.problem("tables", format!("{name} is reserved; routes are for tables that are replicated"));
                return None;
            }
            Ok(table) => drop(tables.insert(table)),
            Err(error) => {
                section.problem("tables", error.to_string());
                return None;
            }
        }
    }
    Some(RoutedTables::Named(tables))
}

fn partitions(section: &Section<'_>) -> Option<Partitions> {
    let exactly = section.get::<String>("partition").map(Partitions::Exactly);
    let prefix = section.get::<String>("partition_prefix").map(Partitions::Prefix);
    let pattern = section.get::<String>("partition_pattern").map(Partitions::Pattern);
    let keys = ["partition", "partition_prefix", "partition_pattern"];
    let given: Vec<_> = keys.into_iter().filter(|key| section.has(key)).collect();
    if let [first, second, ..] = given.as_slice() {
        section.problem(second, format!("should not be beside {first}: a route says one thing of partitions"));
        return None;
    }
    if let Some(Partitions::Pattern(pattern)) = &pattern
        && !pattern.contains('*')
    {
        section
            .problem("partition_pattern", "has no *, which stands for any characters; for one key there is partition");
        return None;
    }
    match (given.is_empty(), exactly.or(prefix).or(pattern)) {
        (true, _) => Some(Partitions::Every),
        (false, partitions) => partitions,
    }
}

fn named_accounts(
    section: &Section<'_>,
    key: &str,
    Names(names): &Names,
    known: &BTreeSet<AccountName>,
) -> Option<Vec<AccountName>> {
    let mut accounts = Vec::new();
    for name in names {
        let Some(account) = known.iter().find(|account| account.as_str() == name) else {
            let all: Vec<_> = known.iter().map(AccountName::as_str).collect();
            section.problem(key, format!("names {name:?}, but the region's accounts are {}", all.join(", ")));
            return None;
        };
        accounts.push(account.clone());
    }
    Some(accounts)
}

/// A route as the file has it.
#[derive(Serialize)]
struct Written<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    tables: Option<Vec<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    partition: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    partition_prefix: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    partition_pattern: Option<String>,
    accounts: &'a [AccountName],
    #[serde(skip_serializing_if = "Option::is_none")]
    tier: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    date: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    older_than: Option<String>,
}

impl<'a> Written<'a> {
    fn of(route: &'a Route) -> Self {
        let Route { tables, partitions, accounts, tier, ageing, .. } = route;
        let tables = match tables {
            RoutedTables::Every => None,
            RoutedTables::Named(tables) => Some(tables.iter().map(TableName::as_str).collect()),
        };
        let tier = tier.map(Tier::as_str);
        // A dollar alone would begin a variable.
        let text = |of: &String| Some(of.replace('$', "$$"));
        let (partition, partition_prefix, partition_pattern) = match partitions {
            Partitions::Every => (None, None, None),
            Partitions::Exactly(of) => (text(of), None, None),
            Partitions::Prefix(of) => (None, text(of), None),
            Partitions::Pattern(of) => (None, None, text(of)),
        };
        let date = ageing.as_ref().and_then(|ageing| text(&ageing.date));
        let older_than = ageing.as_ref().map(|ageing| duration::render(ageing.after));
        Self { tables, partition, partition_prefix, partition_pattern, accounts, tier, date, older_than }
    }
}

/// `spread` and `route` among the keys of a region.
pub(super) fn written<S: Serializer>(routes: &Routes, serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(None)?;
    map.serialize_entry("spread", routes.spread())?;
    let all = routes.routes().iter().chain(routes.aged());
    let named: BTreeMap<_, _> = all.map(|route| (route.name.as_str(), Written::of(route))).collect();
    if !named.is_empty() {
        map.serialize_entry("route", &named)?;
    }
    map.end()
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::super::{Environment, Settings, read};
    use crate::model::{PartitionKey, Region, TableName};
    use crate::topology::{Ageing, Place};

    const WEST: &str = "
[table.orders]
[region.west]
role = \"writer\"
[region.west.account.west1]
connection_string = \"UseDevelopmentStorage=true\"
[region.west.account.west2]
table_endpoint = \"https://west2.example\"
credential = \"managed-identity\"
[region.west.account.west3]
table_endpoint = \"https://west3.example\"
credential = \"managed-identity\"
";

    fn settings(routes: &str, variables: &[(&str, &str)]) -> Result<Settings, String> {
        let text = WEST.replace("role = \"writer\"", &format!("role = \"writer\"\n{routes}"));
        read(Path::new("relay.toml"), &text, &Environment::of(variables.iter().copied())).map_err(|err| err.to_string())
    }

    fn account(settings: &Settings, table: &str, partition: &str) -> (String, Option<String>) {
        let routes = &settings.regions[&Region::new("west").unwrap()].routes;
        let (table, partition) = (TableName::new(table).unwrap(), PartitionKey::from(partition));
        let Place { account, route } = routes.place(&table, &partition);
        (account.to_string(), route.map(|route| route.name.clone()))
    }

    fn to(account: &str, route: &str) -> (String, Option<String>) {
        (account.to_owned(), Some(route.to_owned()))
    }

    const ROUTES: &str = "spread = [\"west1\"]
[region.west.route.stock]
tables = [\"Stock\", \"carts\"]
accounts = [\"west2\"]
tier = \"cold\"
[region.west.route.Big_tenants]
partition_prefix = \"tenant-$$\"
accounts = [\"west2\", \"west3\"]
[region.west.route.acme]
tables = \"*\"
partition = \"acme\"
accounts = \"west3\"
[region.west.route.old]
tables = \"orders\"
date = \"Placed\"
older_than = \"90d\"
accounts = \"west3\"
";

    #[test]
    fn routes_lead_where_the_file_says_and_come_out_as_they_went_in() {
        let said = settings(ROUTES, &[]).unwrap();
        assert_eq!(account(&said, "orders", "p"), ("west1".to_owned(), None));
        assert_eq!(account(&said, "stock", "p"), to("west2", "stock"));
        assert_eq!(account(&said, "stock", "acme"), to("west3", "acme"));
        assert_eq!(account(&said, "orders", "tenant-$1").1, Some("Big_tenants".to_owned()));
        let cold = |table: &str, partition: &str| {
            let routes = &said.regions[&Region::new("west").unwrap()].routes;
            let place = routes.cold_place(&TableName::new(table).unwrap(), &PartitionKey::from(partition));
            place.map(|place| (place.account.to_string(), place.route.unwrap().ageing.clone().unwrap()))
        };
        let ageing = Ageing { date: "Placed".to_owned(), after: Duration::from_secs(90 * 24 * 3_600) };
        assert_eq!(cold("Orders", "p"), Some(("west3".to_owned(), ageing)));
        assert_eq!((cold("stock", "p"), cold("orders", "acme")), (None, None));
        let printed = said.to_toml().unwrap();
        let written =
            printed.replace("connection_string = \"***\"", "connection_string = \"UseDevelopmentStorage=true\"");
        let again = read(Path::new("relay.toml"), &written, &Environment::default()).unwrap();
        assert_eq!(again.to_toml().unwrap(), printed);
        let routes = |settings: &Settings| settings.regions[&Region::new("west").unwrap()].routes.clone();
        assert_eq!(routes(&said), routes(&again));
    }

    #[test]
    fn the_environment_may_name_accounts_and_make_routes() {
        let variables = [
            ("TABLERELAY__REGION__WEST__ROUTE__ACME__ACCOUNTS", "west1, west2"),
            ("TABLERELAY__REGION__WEST__ROUTE__NEW_ONE__TABLES", "orders"),
            ("TABLERELAY__REGION__WEST__ROUTE__NEW_ONE__ACCOUNTS", "west3"),
            ("TABLERELAY__REGION__WEST__SPREAD", "west2"),
        ];
        let said = settings(ROUTES, &variables).unwrap();
        assert_eq!(account(&said, "orders", "p"), to("west3", "new-one"));
        assert_eq!(account(&said, "other", "p").0, "west2");
        assert_ne!(account(&said, "other", "acme").0, "west3");
    }

    #[test]
    fn what_is_wrong_with_a_route_is_named_by_its_key() {
        let route = |keys: &str| format!("[region.west.route.a]\n{keys}\n");
        for (keys, key, words) in [
            (route("tables = [\"orders\"]"), "region.west.route.a.accounts", "is missing"),
            (route("accounts = [\"west1\"]"), "region.west.route.a", "should say which rows"),
            (route("tables = []\naccounts = [\"west1\"]"), "region.west.route.a.tables", "list of names"),
            (route("tables = [1]\naccounts = [\"west1\"]"), "region.west.route.a.tables", "list of names"),
            (route("tables = [\"no-table\"]\naccounts = [\"west1\"]"), "region.west.route.a.tables", "no-table"),
            (route("tables = [\"RelayFeed\"]\naccounts = [\"west1\"]"), "region.west.route.a.tables", "reserved"),
            (
                route("tables = [\"*\", \"x1y\"]\npartition = \"p\"\naccounts = \"west1\""),
                "region.west.route.a.tables",
                "no other",
            ),
            (
                route("tables = [\"orders\"]\naccounts = [\"west9\"]"),
                "region.west.route.a.accounts",
                "west1, west2, west3",
            ),
            (
                route("partition = \"p\"\npartition_prefix = \"p\"\naccounts = [\"west1\"]"),
                "region.west.route.a.partition_prefix",
                "beside partition",
            ),
            (
                route("partition_pattern = \"p\"\naccounts = [\"west1\"]"),
                "region.west.route.a.partition_pattern",
                "has no *",
            ),
            (
                route("tables = [\"orders\"]\naccounts = [\"west1\"]\ntier = \"warm\""),
                "region.west.route.a.tier",
                "\"archive\"",
            ),
            (
                route("tables = [\"orders\"]\naccounts = [\"west1\"]\norder = 1"),
                "region.west.route.a.order",
                "no such key",
            ),
            ("spread = [\"nobody\"]\n".to_owned(), "region.west.spread", "nobody"),
            ("spread = 1\n".to_owned(), "region.west.spread", "list of names"),
            (
                "[region.west.route.\"a b\"]\ntables = [\"orders\"]\naccounts = [\"west1\"]\n".to_owned(),
                "region.west.route.\"a b\"",
                "a route's name",
            ),
        ] {
            let said = settings(&keys, &[]).unwrap_err();
            assert!(said.contains(&format!("{key}: ")) && said.contains(words), "{keys}: {said}");
        }
        let clash = "[region.west.route.one]\npartition_pattern = \"a*\"\naccounts = [\"west1\"]
[region.west.route.two]\npartition_pattern = \"*b\"\naccounts = [\"west2\"]\n";
        let said = settings(clash, &[]).unwrap_err();
        assert!(said.contains("region.west.route.two: and region.west.route.one could take the same"), "{said}");
    }

    #[test]
    fn what_is_wrong_with_a_route_by_age_is_named_by_its_key() {
        let route = |keys: &str| format!("[region.west.route.a]\n{keys}\n");
        for (keys, key, words) in [
            (
                route("date = \"Placed\"\naccounts = [\"west1\"]"),
                "region.west.route.a.older_than",
                "is missing beside date",
            ),
            (route("older_than = \"1d\"\naccounts = [\"west1\"]"), "region.west.route.a.date", "is missing beside"),
            (
                route("date = \"RowKey\"\nolder_than = \"1d\"\naccounts = [\"west1\"]"),
                "region.west.route.a.date",
                "Edm.DateTime",
            ),
            (
                route("date = \"Placed\"\nolder_than = \"1500ms\"\naccounts = [\"west1\"]"),
                "region.west.route.a.older_than",
                "whole seconds",
            ),
            (
                route("date = \"Placed\"\nolder_than = \"1d\"\naccounts = [\"west1\", \"west2\", \"west3\"]"),
                "region.west.route",
                "no account is named for what no route takes",
            ),
        ] {
            let said = settings(&keys, &[]).unwrap_err();
            assert!(said.contains(&format!("{key}: ")) && said.contains(words), "{keys}: {said}");
        }
    }

    #[test]
    fn more_routes_than_can_be_published_are_refused() {
        let many: String = (0..300)
            .map(|n| format!("[region.west.route.r{n}]\npartition = \"tenant-{n}\"\naccounts = [\"west1\"]\n"))
            .collect();
        assert!(settings(&many, &[]).unwrap_err().contains("region.west.route: the region has too many routes"));
    }
}
