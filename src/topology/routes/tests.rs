use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::model::{Region, RowBody};

fn account(name: &str) -> AccountName {
    AccountName::new(name).unwrap()
}

fn accounts(count: usize) -> Vec<AccountName> {
    (1..=count).map(|n| account(&format!("west{n}"))).collect()
}

fn table(name: &str) -> TableName {
    TableName::new(name).unwrap()
}

fn route(name: &str, tables: &[&str], partitions: Partitions, to: &[&str]) -> Route {
    let tables = match tables {
        ["*"] => RoutedTables::Every,
        names => RoutedTables::Named(names.iter().map(|name| table(name)).collect()),
    };
    Route {
        name: name.to_owned(),
        tables,
        partitions,
        accounts: to.iter().map(|name| account(name)).collect(),
        tier: None,
        ageing: None,
    }
}

/// The same for rows that are older than an hour.
fn aged(route: Route) -> Route {
    Route { ageing: Some(Ageing { date: "Placed".to_owned(), after: Duration::from_secs(3_600) }), ..route }
}

fn exactly(of: &str) -> Partitions {
    Partitions::Exactly(of.to_owned())
}

fn prefix(of: &str) -> Partitions {
    Partitions::Prefix(of.to_owned())
}

fn pattern(of: &str) -> Partitions {
    Partitions::Pattern(of.to_owned())
}

fn place<'a>(routes: &'a Routes, of: &str, partition: &str) -> (&'a str, Option<&'a str>) {
    let place = routes.place(&table(of), &PartitionKey::from(partition));
    (place.account.as_str(), place.route.map(|route| route.name.as_str()))
}

fn shop() -> Routes {
    let routes = vec![
        route("archive", &["oldorders"], Partitions::Every, &["cold"]),
        route("tenants", &["*"], prefix("tenant-"), &["west2", "west3"]),
        route("big", &["*"], prefix("tenant-9"), &["big"]),
        route("europe", &["*"], pattern("*-eu"), &["eu"]),
        route("europes-test", &["*"], pattern("*-test-eu"), &["cold"]),
        route("acme", &["*"], exactly("tenant-9-eu"), &["acme"]),
        route("acme-stock", &["Stock"], exactly("tenant-9-eu"), &["west1"]),
    ];
    Routes::new(routes, [account("west1")]).unwrap()
}

#[test]
fn the_homes_of_a_table_are_all_accounts_that_any_of_its_partitions_may_be_in() {
    let homes = |of: &str| shop().homes_of(&table(of)).into_iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        homes("oldorders"),
        ["acme", "big", "cold", "eu", "west2", "west3"],
        "nothing of it is left to the spread"
    );
    assert_eq!(homes("orders"), ["acme", "big", "cold", "eu", "west1", "west2", "west3"]);
    for partition in 0..200 {
        for of in ["orders", "oldorders", "others"] {
            for key in [format!("tenant-{partition}"), format!("{partition}"), format!("{partition}-eu")] {
                let home = place(&shop(), of, &key).0.to_owned();
                assert!(homes(of).contains(&home), "{of} {key}");
            }
        }
    }
}

#[test]
fn the_most_specific_route_counts() {
    let shop = shop();
    assert_eq!(place(&shop, "orders", "customer-1"), ("west1", None));
    assert_eq!(place(&shop, "OldOrders", "customer-1"), ("cold", Some("archive")));
    // What is said of the partition goes before what is said of the table.
    assert_eq!(place(&shop, "oldorders", "tenant-99"), ("big", Some("big")));
    assert_eq!(place(&shop, "orders", "tenant-1").1, Some("tenants"));
    assert_eq!(place(&shop, "orders", "tenant-1-eu").1, Some("tenants"));
    assert_eq!(place(&shop, "orders", "7-eu"), ("eu", Some("europe")));
    assert_eq!(place(&shop, "orders", "7-test-eu"), ("cold", Some("europes-test")));
    assert_eq!(place(&shop, "orders", "tenant-9-eu"), ("acme", Some("acme")));
    assert_eq!(place(&shop, "stock", "tenant-9-eu"), ("west1", Some("acme-stock")));
    assert_eq!(place(&shop, "stock", "Tenant-9-eu").1, Some("europe"), "keys are compared with their case");
}

#[test]
fn two_routes_that_could_take_the_same_with_the_same_right_are_refused() {
    let clash = |one: Route, other: Route| Routes::new(vec![one, other], accounts(1)).err();
    let clashed = Some(RoutesError::Clash("a".to_owned(), "b".to_owned()));
    let (a, b) = ("a", "b");
    let every = || Partitions::Every;
    assert_eq!(clash(route(b, &["orders", "stock"], every(), &["x"]), route(a, &["Stock"], every(), &["y"])), clashed);
    assert_eq!(clash(route(a, &["*"], exactly("p"), &["x"]), route(b, &["*"], exactly("p"), &["y"])), clashed);
    assert_eq!(clash(route(a, &["*"], prefix("p"), &["x"]), route(b, &["*"], prefix("p"), &["y"])), clashed);
    assert_eq!(clash(route(a, &["*"], pattern("a*"), &["x"]), route(b, &["*"], pattern("*b"), &["y"])), clashed);
    for (one, other) in [
        (route(a, &["orders"], every(), &["x"]), route(b, &["stock"], every(), &["y"])),
        (route(a, &["orders"], exactly("p"), &["x"]), route(b, &["*"], exactly("p"), &["y"])),
        (route(a, &["*"], exactly("p"), &["x"]), route(b, &["*"], exactly("q"), &["y"])),
        (route(a, &["*"], prefix("p"), &["x"]), route(b, &["*"], prefix("pp"), &["y"])),
        (route(a, &["*"], prefix("pp"), &["x"]), route(b, &["*"], prefix("qq"), &["y"])),
        (route(a, &["*"], pattern("*a"), &["x"]), route(b, &["*"], pattern("*b"), &["y"])),
        (route(a, &["*"], pattern("a*"), &["x"]), route(b, &["*"], pattern("*bc"), &["y"])),
    ] {
        assert_eq!(clash(one, other), None);
    }
    assert_eq!(Routes::new(Vec::new(), []), Err(RoutesError::NoSpread));
    assert_eq!(
        Routes::new(vec![route(a, &["*"], prefix("p"), &[])], accounts(1)),
        Err(RoutesError::NoAccount("a".to_owned()))
    );
}

/// Orders go to the cold once they are old, and those of tenants to an archive of their own, where acme's are from the first.
fn ageing() -> Routes {
    let routes = vec![
        aged(route("old", &["orders"], Partitions::Every, &["cold"])),
        aged(route("old-tenants", &["*"], prefix("tenant-"), &["archive"])),
        route("acme", &["*"], exactly("tenant-acme"), &["archive"]),
    ];
    Routes::new(routes, accounts(2)).unwrap()
}

#[test]
fn a_cold_place_stands_beside_the_home_and_changes_nothing_of_it() {
    let (ageing, plain) = (ageing(), Routes::spread_over(accounts(2)).unwrap());
    let cold = |table_of: &str, partition: &str| {
        let place = ageing.cold_place(&table(table_of), &PartitionKey::from(partition));
        place.map(|place| (place.account.as_str(), place.route.unwrap().name.as_str()))
    };
    assert_eq!(cold("Orders", "p"), Some(("cold", "old")));
    assert_eq!(cold("orders", "tenant-1"), Some(("archive", "old-tenants")));
    assert_eq!(cold("stock", "tenant-1"), Some(("archive", "old-tenants")));
    assert_eq!((cold("stock", "p"), cold("orders", "tenant-acme")), (None, None));
    assert_eq!(place(&ageing, "orders", "p"), place(&plain, "orders", "p"));
    assert!(ageing.accounts().contains(&account("cold")));
    assert!(!ageing.lead_as(&plain) && !plain.lead_as(&ageing));
    let mut later = ageing.clone();
    later.aged[0].ageing = Some(Ageing { date: "Sent".to_owned(), after: Duration::from_secs(1) });
    assert!(ageing.lead_as(&later), "when rows are old moves none to another place");
    let clash =
        vec![aged(route("a", &["*"], Partitions::Every, &["x"])), aged(route("b", &["*"], Partitions::Every, &["y"]))];
    assert_eq!(Routes::new(clash, accounts(1)), Err(RoutesError::Clash("a".to_owned(), "b".to_owned())));
}

#[test]
fn rows_leave_the_home_that_they_had_and_a_cold_place_that_is_none_any_more() {
    let (orders, p) = (table("orders"), PartitionKey::from("p"));
    let left = |before: &Routes, now: &Routes| {
        let text = |account: &AccountName| account.as_str().to_owned();
        (now.left_home(before, &orders, &p).map(text), now.left_cold(before, &orders, &p).map(text))
    };
    let (with, without) = (ageing(), Routes::spread_over(accounts(2)).unwrap());
    assert_eq!(left(&with, &with), (None, None));
    assert_eq!(left(&without, &with), (None, None), "nothing has to leave where a cold place is new");
    assert_eq!(left(&with, &without), (None, Some("cold".to_owned())));
    let west1 = aged(route("old", &["orders"], Partitions::Every, &["west1"]));
    // Its home is where it was cold, and it is cold where its home was.
    let swapped = Routes::new(vec![west1], [account("cold")]).unwrap();
    assert_eq!(left(&with, &swapped), (Some(place(&with, "orders", "p").0.to_owned()), None));
}

fn published(rules: Routes) -> PublishedRoutes {
    PublishedRoutes {
        region: Region::new("west").unwrap(),
        epoch: 7,
        home: account("west1"),
        hold: Duration::from_secs(60),
        endpoints: BTreeMap::from([(account("west1"), "https://west1.example".to_owned())]),
        rules,
        moving: None,
    }
}

#[test]
fn what_is_published_reads_back() {
    let mut rules = shop();
    rules.routes[0].tier = Some(Tier::Archive);
    let published = published(rules);
    assert_eq!(PublishedRoutes::decode(&published.encode()), Ok(published.clone()));
    let moving = MovingRows { state: MoveState::Reading, rules: Routes::spread_over(accounts(3)).unwrap() };
    let on_the_way = PublishedRoutes { moving: Some(moving), ..published.clone() };
    assert_eq!(PublishedRoutes::decode(&on_the_way.encode()), Ok(on_the_way));
    let ageing = PublishedRoutes { rules: ageing(), ..published.clone() };
    assert_eq!(PublishedRoutes::decode(&ageing.encode()), Ok(ageing.clone()));
    for (from, to) in [(",\"date\":\"Placed\"", ""), ("\"aged\":", "\"other\":[],\"routes\":")] {
        let json = ageing.encode().string("Routes").unwrap().replacen("\"routes\":[],", "", 1).replacen(from, to, 1);
        let body = RowBody::builder(&PartitionKey::from(PublishedRoutes::PARTITION), &PublishedRoutes::current());
        assert!(PublishedRoutes::decode(&body.string("Routes", &json).finish()).is_err(), "{json}");
    }
    let json = published.encode().string("Routes").unwrap();
    for (from, to) in
        [("\"schema\":1", "\"schema\":2"), ("\"home\"", "\"Home\""), ("\"tier\":\"archive\"", "\"tier\":\"warm\"")]
    {
        let body = RowBody::builder(&PartitionKey::from(PublishedRoutes::PARTITION), &PublishedRoutes::current());
        let other = body.string("Routes", &json.replacen(from, to, 1)).finish();
        assert!(json.contains(from) && PublishedRoutes::decode(&other).is_err(), "{from}");
    }
}

#[test]
fn what_things_are_called_leads_nobody_elsewhere() {
    let (shop, mut renamed) = (shop(), shop());
    renamed.routes[3].name = "zzz".to_owned();
    renamed.routes[3].tier = Some(Tier::Hot);
    assert!(shop.lead_as(&renamed));
    renamed.routes[3].accounts = vec![account("west1")];
    assert!(!shop.lead_as(&renamed));
    assert!(!shop.lead_as(&Routes::new(shop.routes.clone(), accounts(2)).unwrap()));
}

proptest! {
    /// So every language can be held to the same file: a partition's account depends on names and keys alone.
    #[test]
    fn an_account_more_takes_its_share_and_moves_nothing_else(count in 1usize..9, seed in 0u32..1_000) {
        let (before, after) = (Routes::spread_over(accounts(count)).unwrap(), Routes::spread_over(accounts(count + 1)).unwrap());
        let (orders, newest) = (table("orders"), account(&format!("west{}", count + 1)));
        let mut moved = 0;
        for n in 0..400 {
            let partition = PartitionKey::new(format!("customer-{seed}-{n}"));
            let (was, is) = (before.place(&orders, &partition).account, after.place(&orders, &partition).account);
            prop_assert_eq!(is, after.place(&table("ORDERS"), &partition).account);
            if was != is {
                prop_assert_eq!(is, &newest);
                moved += 1;
            }
        }
        // Four standard deviations of a share of 1/N.
        let share = 1.0 / (count as f64 + 1.0);
        let off = (f64::from(moved) - 400.0 * share).abs();
        prop_assert!(off < 4.5 * (400.0 * share * (1.0 - share)).sqrt(), "{} of 400 moved to one of {}", moved, count + 1);
    }

    #[test]
    fn every_partition_has_a_place_and_the_order_of_the_rules_says_nothing(
        key in "[a-z0-9-]{0,12}", turn in 0usize..7,
    ) {
        let shop = shop();
        let mut turned = shop.routes.clone();
        turned.rotate_left(turn);
        let turned = Routes::new(turned, [account("west1")]).unwrap();
        for name in ["orders", "oldorders", "stock"] {
            prop_assert_eq!(place(&shop, name, &key), place(&turned, name, &key));
        }
    }
}
