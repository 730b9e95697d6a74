//! Regions on real servers, one configuration of all of them, and our own way into their stores.

use std::sync::Arc;
use std::time::Duration;

use tablerelay::model::{AccountName, Region, RowId};
use tablerelay::runtime::Runtime;
use tablerelay::stores::azure::{AccountTarget, AzureQueue, AzureTables, HttpOptions};
use tablerelay::stores::{Account, CHANGES_QUEUE, Queue, RegionStore, Retrying, Tables};

use super::azurite::TestAccount;
use super::redis::{Redis, connect};
use super::relay::{Config, Daemon, region};

/// A region: an account of an Azurite, a Redis, and a store of ours to write and look with.
pub struct Site {
    pub region: Region,
    pub account: TestAccount,
    pub store: RegionStore,
    pub redis: Redis,
}

/// What a cache holds of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cached {
    pub version: String,
    /// `None` for a mark.
    pub entry: Option<String>,
}

impl Site {
    /// A region that has `account` of an Azurite, and a Redis of its own.
    pub fn new(name: &str, account: TestAccount) -> Self {
        Self::with(name, account, Redis::start())
    }

    /// A region that has `account` of an Azurite, and this Redis.
    pub fn with(name: &str, account: TestAccount, redis: Redis) -> Self {
        let region = Region::new(name).expect("a region's name");
        let store = store(&region, &account);
        Self { region, account, store, redis }
    }

    /// What the cache holds of these rows.
    pub async fn cached(&self, rows: &[RowId]) -> Vec<Option<Cached>> {
        let mut connection = connect(&self.redis.url()).await.expect("Redis runs");
        let mut cached = Vec::new();
        for some in rows.chunks(200) {
            let mut pipeline = redis::pipe();
            for id in some {
                pipeline.hmget(key(id), &["v", "e"]);
            }
            let found: Vec<(Option<String>, Option<String>)> =
                pipeline.query_async(&mut connection).await.expect("Redis answers");
            cached.extend(found.into_iter().map(|(version, entry)| Some(Cached { version: version?, entry })));
        }
        cached
    }
}

/// One configuration of all regions, every one a writer, every table replicated.
pub fn configuration(sites: &[Site], replication: &str) -> Config {
    let tables = |site: &Site| {
        let name = site.region.as_str();
        let region = region(name, "writer", &site.account.connection_string());
        format!("{region}[region.{name}.cache]\nurl = \"{}\"\n", site.redis.url())
    };
    let regions: String = sites.iter().map(tables).collect();
    Config::new(&format!("[table.\"*\"]\n[replication]\n{replication}{regions}"))
}

/// What a daemon warned of: for the report of a test that fails.
pub fn warnings(daemon: &Daemon) -> String {
    let said = daemon.said();
    let bad = |line: &&str| ["\"WARN\"", "\"ERROR\""].iter().any(|level| line.contains(level));
    said.lines().filter(bad).collect::<Vec<_>>().join("\n")
}

fn store(region: &Region, account: &TestAccount) -> RegionStore {
    let target = AccountTarget::from_connection_string(&account.connection_string()).expect("Azurite's own");
    // Half of the shortest settle window that a test has.
    let options = HttpOptions { total_timeout: Duration::from_secs(7), ..HttpOptions::default() };
    let name = AccountName::new("one").expect("an account's name");
    let runtime = Runtime::system();
    let tables = AzureTables::connect(region.clone(), name, &target, &options, runtime.clone()).expect("a client");
    let queue = AzureQueue::connect(&target, CHANGES_QUEUE, &options, runtime.clone()).expect("a client");
    let (tables, queue): (Arc<dyn Tables>, Arc<dyn Queue>) = (tables, queue);
    RegionStore::new(region.clone(), vec![Account { tables: Retrying::new(tables, runtime), queue: Some(queue) }])
}

/// The key of a row in a cache, by the words of the documentation and not by the program's.
fn key(id: &RowId) -> String {
    let encoded = |part: &str| {
        let kept = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        let encoded = |byte: u8| if kept(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
        part.bytes().map(encoded).collect::<String>()
    };
    [encoded(id.table.lower()), encoded(id.partition.as_str()), encoded(id.row.as_str())].join(":")
}
