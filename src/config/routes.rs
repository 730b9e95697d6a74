//! `[region.NAME.route.NAME]`: which account of a region holds which rows.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::kinds::Names;
use super::section::Section;
use crate::model::{AccountName, ClosedList, TableName};
use crate::topology::{Partitions, PublishedRoutes, Route, RoutedTables, Routes, RoutesError, Tier};

/// The longest name of a route.
const LONGEST_NAME: usize = 60;

/// Reads `route` and `spread` of a region that has these accounts; nothing where something is wrong.
pub(super) fn routes(region: &Section<'_>, accounts: &BTreeSet<AccountName>) -> Option<Routes> {
    let spread = match region.get::<Names>("spread") {
        Some(names) => named_accounts(region, "spread", &names, accounts),
        None if region.has("spread") => None,
        None => Some(accounts.iter().cloned().collect()),
    };
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
    let checked = complete.then(|| Routes::new(routes, spread?).map_err(|error| tell(region, &paths, &error)).ok());
    paths.into_values().for_each(Section::finish);
    let routes = checked??;
    if PublishedRoutes::units(&routes) > PublishedRoutes::MOST_UNITS {
        let most = PublishedRoutes::MOST_UNITS;
        region.problem("route", format!("the region has too many routes: as text they may have {most} characters"));
    }
    Some(routes)
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
    } else if *error != RoutesError::NoSpread || region.has("spread") {
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
    let (tables, partitions) = (tables?, partitions?);
    if tables == RoutedTables::Every && partitions == Partitions::Every {
        section.problem("", "should say which rows it is for: tables, partition, partition_prefix or partition_pattern; for what no route takes there is spread");
        return None;
    }
    Some(Route { name: name.to_owned(), tables, partitions, accounts: accounts?, tier })
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
}

impl<'a> Written<'a> {
    fn of(route: &'a Route) -> Self {
        let Route { tables, partitions, accounts, tier, .. } = route;
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
        Self { tables, partition, partition_prefix, partition_pattern, accounts, tier }
    }
}

/// `spread` and `route` among the keys of a region.
pub(super) fn written<S: Serializer>(routes: &Routes, serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(None)?;
    map.serialize_entry("spread", routes.spread())?;
    let named: BTreeMap<_, _> = routes.routes().iter().map(|route| (route.name.as_str(), Written::of(route))).collect();
    if !named.is_empty() {
        map.serialize_entry("route", &named)?;
    }
    map.end()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{Environment, Settings, read};
    use crate::model::{PartitionKey, Region, TableName};
    use crate::topology::Place;

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
";

    #[test]
    fn routes_lead_where_the_file_says_and_come_out_as_they_went_in() {
        let said = settings(ROUTES, &[]).unwrap();
        assert_eq!(account(&said, "orders", "p"), ("west1".to_owned(), None));
        assert_eq!(account(&said, "stock", "p"), to("west2", "stock"));
        assert_eq!(account(&said, "stock", "acme"), to("west3", "acme"));
        assert_eq!(account(&said, "orders", "tenant-$1").1, Some("Big_tenants".to_owned()));
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
    fn more_routes_than_can_be_published_are_refused() {
        let many: String = (0..300)
            .map(|n| format!("[region.west.route.r{n}]\npartition = \"tenant-{n}\"\naccounts = [\"west1\"]\n"))
            .collect();
        assert!(settings(&many, &[]).unwrap_err().contains("region.west.route: the region has too many routes"));
    }
}
