//! Regions with one account and with several on real servers: what is written in either is in the other, and every row is in the account that
//! `route` names.

mod rebalance;
mod tiers;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tablerelay::model::{AccountName, PartitionKey, Region, Row, RowBody, RowId, SystemTable, TableName};
use tablerelay::replicator::create_missing;
use tablerelay::runtime::Runtime;
use tablerelay::stores::azure::{AccountTarget, AzureTables, HttpOptions};
use tablerelay::stores::{Account, Condition, ErrorKind, Query, RegionStore, Retrying, Scope, Tables};
use tablerelay::writer::{Writer, WriterOptions};

use crate::support::azurite::{Azurite, TestAccount};
use crate::support::eventually;
use crate::support::relay::{Config, Daemon};

pub(super) const WINDOW: Duration = Duration::from_secs(10);
const REPLICATION: &str = "[table.\"*\"]\n[replication]\nsettle_window = \"10s\"\nmax_clock_skew = \"10s\"\npoll_busy = \"100ms\"\npoll_idle = \"3s\"\n";

const TIERS: &str = "[tiers]\nevery = \"1s\"\n";

/// A region of several accounts of an Azurite.
pub(super) struct Land {
    pub region: Region,
    pub accounts: BTreeMap<String, TestAccount>,
}

impl Land {
    pub fn new(region: &str, accounts: &[&str]) -> Self {
        let accounts = accounts.iter().map(|name| ((*name).to_owned(), Azurite::shared().account())).collect();
        Self { region: Region::new(region).expect("a region's name"), accounts }
    }

    /// Its part of a configuration, with `more` among its own keys.
    pub fn described(&self, more: &str) -> String {
        self.described_without("", more)
    }

    /// The same before it had one of its accounts.
    pub fn described_without(&self, missing: &str, more: &str) -> String {
        let region = &self.region;
        let account = |(name, account): (&String, &TestAccount)| {
            format!("[region.{region}.account.{name}]\nconnection_string = \"{}\"\n", account.connection_string())
        };
        let accounts: String = self.accounts.iter().filter(|(name, _)| *name != missing).map(account).collect();
        format!("[region.{region}]\nrole = \"writer\"\n{more}{accounts}")
    }

    /// Our own way into these accounts of it.
    pub fn store(&self) -> RegionStore {
        let account = |(name, account): (&String, &TestAccount)| -> Account {
            let target = AccountTarget::from_connection_string(&account.connection_string()).expect("Azurite's own");
            let (name, runtime) = (AccountName::new(name).expect("an account's name"), Runtime::system());
            let options = HttpOptions { total_timeout: WINDOW / 2, ..HttpOptions::default() };
            let tables = AzureTables::connect(self.region.clone(), name, &target, &options, runtime.clone());
            Account { tables: Retrying::new(tables.expect("a client"), runtime), queue: None }
        };
        RegionStore::new(self.region.clone(), self.accounts.iter().map(account).collect())
    }

    pub fn writer(&self) -> Writer {
        let options = WriterOptions { settle_window: WINDOW, max_clock_skew: WINDOW, ..WriterOptions::default() };
        Writer::new(self.store(), options, Runtime::system())
    }
}

pub(super) fn configuration(lands: &[String]) -> Config {
    Config::new(&format!("{REPLICATION}{TIERS}{}", lands.concat()))
}

pub(super) fn table(name: &str) -> TableName {
    TableName::new(name).expect("a table")
}

pub(super) fn id(table_name: &str, partition: &str, row: &str) -> RowId {
    RowId::new(table(table_name), partition.into(), row.into())
}

pub(super) fn body(id: &RowId, text: &str) -> RowBody {
    RowBody::builder(&id.partition, &id.row).string("Text", text).finish()
}

pub(super) async fn rows(tables: &Arc<dyn Tables>, table: &TableName) -> Vec<Row> {
    let (mut query, mut rows) = (Query::new(Scope::Table), Vec::new());
    loop {
        let page = match tables.query(table, &query).await {
            Err(error) if error.kind == ErrorKind::NoTable => return rows,
            page => page.expect("Azurite answers"),
        };
        rows.extend(page.rows);
        query.continuation = page.continuation;
        if query.continuation.is_none() {
            return rows;
        }
    }
}

/// What stands of a table, in every account: by key, the account and the version.
pub(super) async fn standing(store: &RegionStore, name: &str) -> Vec<(RowId, String, String)> {
    let mut all = Vec::new();
    for account in store.accounts() {
        for row in rows(&account.tables, &table(name)).await {
            let id = RowId::new(table(name), row.body.partition().clone(), row.body.row().clone());
            all.push((id, account.tables.account().to_string(), row.version(store.region()).to_string()));
        }
    }
    all.sort();
    all
}

/// What `route` says of a partition of a region.
pub(super) fn route(config: &Config, region: &str, table: &str, partition: &str) -> Value {
    let arguments = ["route", "--region", region, "--table", table, "--partition", partition, "--output", "json"];
    let ended = config.run(&arguments, &[]);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    serde_json::from_str(&ended.out).expect("JSON")
}

pub(super) async fn verified(config: &Config, from: &str, to: &str) {
    eventually("the regions are equal", || async {
        let ended = config.run(&["verify", "--from", from, "--to", to, "--content"], &[]);
        if ended.code != Some(0) {
            println!("{}{}", ended.out, ended.err);
        }
        ended.code == Some(0)
    })
    .await;
}

const ROUTES: &str = "spread = [\"n1\", \"n2\", \"n3\", \"n4\"]
[region.north.route.stock]
tables = [\"stock\"]
accounts = [\"n-stock\"]
tier = \"cold\"
[region.north.route.tenants]
partition_prefix = \"tenant-\"
accounts = [\"n-big\"]
";
const ACCOUNTS: [&str; 6] = ["n-big", "n-stock", "n1", "n2", "n3", "n4"];

/// Where a partition of north is by the words of the documentation: nothing of it is the program's.
fn expected(table: &str, partition: &str) -> &'static str {
    match (table, partition) {
        (_, partition) if partition.starts_with("tenant-") => "n-big",
        ("stock", _) => "n-stock",
        _ => "",
    }
}

/// A row of the test: half of them in either table, a third of a tenant.
fn nth(n: usize) -> RowId {
    let partition = if n % 3 == 2 { format!("tenant-{n}") } else { format!("customer-{n}") };
    id(["orders", "stock"][n % 2], &partition, "r")
}

/// Makes what daemons and applications make before anybody writes.
async fn prepare(store: &RegionStore) {
    create_missing(store).await.expect("Azurite creates tables");
    for (account, name) in store.accounts().iter().flat_map(|account| ["orders", "stock"].map(|name| (account, name))) {
        account.tables.create_table(&table(name)).await.expect("Azurite creates tables");
    }
}

/// Whoever knows one account of the region finds its routes there.
async fn are_published(store: &RegionStore) {
    eventually("every account has the routes", || async {
        let (control, partition) = (SystemTable::Control.name(), PartitionKey::from("routes"));
        let key = "current".into();
        let copies = store.accounts().iter().map(|account| account.tables.get(&control, &partition, &key));
        futures::future::join_all(copies).await.into_iter().all(|copy| copy.expect("Azurite answers").is_some())
    })
    .await;
}

/// Every row stands once, in the account that `route` names; returns how many are in each.
async fn where_route_says(config: &Config, store: &RegionStore, name: &str) -> BTreeMap<String, usize> {
    let mut used = BTreeMap::new();
    for (id, account, _) in standing(store, name).await {
        let told = route(config, store.region().as_str(), name, id.partition.as_str());
        assert_eq!((&told["schema"], told["account"].as_str()), (&1.into(), Some(account.as_str())), "{id}");
        let known = expected(name, id.partition.as_str());
        assert!(if known.is_empty() { account.len() == 2 } else { known == account }, "{id} is in {account}");
        *used.entry(account).or_default() += 1;
    }
    used
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_with_one_account_and_one_with_several_hold_the_same_and_every_row_where_route_says() {
    let (west, north) = (Land::new("west", &["w1"]), Land::new("north", &ACCOUNTS));
    let config = configuration(&[west.described(""), north.described(ROUTES)]);
    let (here, there) = (west.store(), north.store());
    prepare(&here).await;
    prepare(&there).await;
    let daemons = ["west", "north"].map(|region| Daemon::start(&config, region, "info", &[]));
    are_published(&there).await;

    let (in_west, in_north) = (west.writer(), north.writer());
    for n in 0..60 {
        let (id, writer) = (nth(n), if n % 4 < 2 { &in_west } else { &in_north });
        writer.insert_or_replace(&id.table, &body(&id, "first"), None).await.expect("written");
    }
    verified(&config, "west", "north").await;
    for n in (0..60).step_by(5) {
        // Each from the other side than it came from.
        let (id, writer) = (nth(n), if n % 4 < 2 { &in_north } else { &in_west });
        writer.delete(&id.table, &id.partition, &id.row, Condition::Present, None).await.expect("deleted");
    }
    verified(&config, "west", "north").await;
    verified(&config, "north", "west").await;

    let mut used = BTreeMap::new();
    for name in ["orders", "stock"] {
        let bare = |rows: Vec<(RowId, String, String)>| -> Vec<_> {
            rows.into_iter().map(|(id, _, version)| (id, version)).collect()
        };
        let (ours, theirs) = (bare(standing(&here, name).await), bare(standing(&there, name).await));
        assert_eq!((&ours, ours.len()), (&theirs, 24), "a row stands in one account of the region, and in no other");
        used.extend(where_route_says(&config, &there, name).await);
    }
    assert_eq!(used.keys().map(String::as_str).collect::<Vec<_>>(), ACCOUNTS, "every account holds something");
    let told = route(&config, "north", "Stock", "customer-1");
    assert_eq!((&told["route"], &told["tier"], &told["epoch"]), (&"stock".into(), &"cold".into(), &1.into()));
    let endpoint = told["endpoint"].as_str().expect("an address");
    let account = north.accounts["n-stock"].connection_string();
    assert!(endpoint.starts_with("http") && account.contains(endpoint) && !endpoint.contains("sig"), "{endpoint}");
    drop(daemons);
}

#[test]
fn what_has_no_route_is_told_as_such() {
    let (west, north) = (Land::new("west", &["w1"]), Land::new("north", &["n1"]));
    let text = [west.described(""), north.described("")].concat();
    let config = Config::new(&format!("[table.orders]\n{text}"));
    let asked = |arguments: &[&str]| config.run(&[&["route"], arguments].concat(), &[]);
    for (arguments, words) in [
        (
            &["--region", "east", "--table", "orders", "--partition", "p"][..],
            "there is no region east; the configuration has north, west",
        ),
        (&["--region", "west", "--table", "carts", "--partition", "p"], "table carts is not replicated"),
        (&["--region", "west", "--table", "RelayFeed", "--partition", "00"], "one of tablerelay's own"),
        (&["--region", "west", "--table", "orders", "--partition", "a/b"], "a/b"),
        (&["--region", "west", "--table", "orders"], "--partition"),
    ] {
        let ended = asked(arguments);
        assert_eq!((ended.code, ended.err.contains(words)), (Some(2), true), "{arguments:?}: {}", ended.err);
    }
    // Before any daemon has run, the configuration is gone by.
    let ended = asked(&["--region", "west", "--table", "orders", "--partition", ""]);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(ended.out.contains("account   w1") && ended.out.contains("not published yet"), "{}", ended.out);
}
