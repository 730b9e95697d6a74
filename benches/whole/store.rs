//! Stores that are processes of their own, spoken to over HTTP.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tablerelay::model::*;
use tablerelay::runtime::Runtime;
use tablerelay::stores::azure::{AccountTarget, AzureTables, HttpOptions};
use tablerelay::stores::{Account, Operation, Query, RegionStore, Retrying, Scope, Tables};
use tokio::task::JoinSet;

use super::support::azurite::Azurite;
use super::support::process::Process;
use super::support::relay::PROGRAM;

/// Rows of a transaction, and of a partition.
pub const TOGETHER: usize = 100;
/// Transactions under way while a table is filled.
const FILLERS: usize = 8;

/// A store that is a process of its own.
pub struct Store {
    pub region: Region,
    pub connection_string: String,
    pub tables: Arc<AzureTables>,
    /// Where a memory store is asked for its counts.
    control: Option<String>,
    _server: Server,
}

enum Server {
    Azurite { _azurite: Azurite },
    Served { _process: Process },
}

impl Store {
    /// The memory store, served by this program: fast enough to leave the command as what is measured.
    pub fn start(name: &str) -> Self {
        let arguments = ["store", "serve", "--listen", "127.0.0.1:0"];
        let process = Process::start(Path::new(PROGRAM), &arguments, &[], &std::env::temp_dir());
        let is_one = |line: &str| line.starts_with("DefaultEndpointsProtocol=").then(|| line.to_owned());
        let connection_string = process.wait_for("a connection string", is_one);
        let table = connection_string.split(';').find_map(|part| part.strip_prefix("TableEndpoint="));
        let (address, account) = table.and_then(|url| url.rsplit_once('/')).expect("an account behind an address");
        let control = Some(format!("{address}/_control/{account}"));
        Self::at(name, connection_string, control, Server::Served { _process: process })
    }

    /// The emulator of Azure Storage: at one core it does some thousand rows a second.
    pub fn azurite(name: &str) -> Self {
        let azurite = Azurite::start();
        let connection_string = azurite.account().connection_string();
        Self::at(name, connection_string, None, Server::Azurite { _azurite: azurite })
    }

    fn at(name: &str, connection_string: String, control: Option<String>, server: Server) -> Self {
        let target = AccountTarget::from_connection_string(&connection_string).expect("a target");
        let (region, account) = (Region::new(name).expect("a region"), AccountName::new("one").expect("an account"));
        let options = HttpOptions { total_timeout: Duration::from_secs(25), ..HttpOptions::default() };
        let tables = AzureTables::connect(region.clone(), account, &target, &options, Runtime::system());
        Self { region, connection_string, tables: tables.expect("a client"), control, _server: server }
    }

    /// The store as writers know it.
    pub fn region_store(&self) -> RegionStore {
        let tables = Retrying::new(self.tables.clone() as Arc<dyn Tables>, Runtime::system());
        RegionStore::new(self.region.clone(), vec![Account { tables, queue: None }])
    }

    /// Whether it says what it was asked: a memory store does.
    pub fn counts(&self) -> bool {
        self.control.is_some()
    }

    /// How many requests of each kind a memory store has answered.
    pub async fn requests(&self) -> BTreeMap<String, u64> {
        let control = self.control.as_ref().expect("a memory store counts");
        let told: Value = reqwest::get(control).await.expect("it answers").json().await.expect("JSON");
        serde_json::from_value(told["requests"].clone()).expect("counts by kind")
    }

    /// Writes rows of partition by partition, so many transactions at a time.
    pub async fn fill(&self, table: &TableName, parts: impl Iterator<Item = (PartitionKey, Vec<Operation>)>) {
        self.tables.create_table(table).await.expect("the data table");
        let mut writes = JoinSet::new();
        for (partition, rows) in parts {
            let (tables, table) = (self.tables.clone(), table.clone());
            writes.spawn(async move { write(&tables, &table, &partition, &rows).await });
            if writes.len() >= FILLERS {
                writes.join_next().await.expect("one is under way").expect("it does not panic");
            }
        }
        while let Some(written) = writes.join_next().await {
            written.expect("it does not panic");
        }
    }

    /// Every row of a table, page by page.
    pub async fn read(&self, table: &TableName, scope: Scope, mut take: impl FnMut(RowBody)) {
        let mut query = Query::new(scope);
        loop {
            let page = self.tables.query(table, &query).await.expect("the store answers");
            page.rows.into_iter().for_each(|row| take(row.body));
            query.continuation = page.continuation;
            if query.continuation.is_none() {
                return;
            }
        }
    }
}

/// Writes rows of one partition.
pub async fn write(tables: &AzureTables, table: &TableName, partition: &PartitionKey, rows: &[Operation]) {
    match rows {
        [one] => drop(tables.write(table, one).await.expect("written")),
        many => drop(tables.transact(table, partition, many).await.expect("written")),
    }
}

pub fn table(name: &str) -> TableName {
    TableName::new(name).expect("a table name")
}

/// The partition of a hundred rows.
pub fn partition(n: usize) -> PartitionKey {
    PartitionKey::new(format!("order-{n:09}"))
}
