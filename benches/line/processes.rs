//! The same on stores that are processes of their own, spoken to over HTTP: what is measured of this one is the client.

#[allow(dead_code, reason = "the servers of the integration tests, of which this needs a part")]
#[path = "../../tests/support/mod.rs"]
pub mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tablerelay::feed::encode_change;
use tablerelay::model::*;
use tablerelay::replicator::{Replicator, Settings, Setup, create_missing};
use tablerelay::runtime::Runtime;
use tablerelay::stores::azure::{AccountTarget, AzureTables, HttpOptions};
use tablerelay::stores::{Account, Operation, RegionStore, Tables};
use tablerelay::topology::{FileRoles, TableFilter};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::support::azurite::Azurite;
use self::support::process::Process;
use self::support::relay::PROGRAM;
use crate::process::cpu_seconds;
use crate::world::body;

/// What the stores are.
#[derive(Clone, Copy)]
pub enum Kind {
    /// The emulator of Azure Storage: at one core it does some thousand rows a second.
    Azurite,
    /// The memory store, served by this program: fast enough to leave the client as what is measured.
    Served,
}

/// A store, for as long as it runs.
pub struct Store {
    pub connection_string: String,
    server: Server,
}

enum Server {
    Azurite(Azurite),
    Served(Process),
}

impl Store {
    /// It stops answering, and keeps its connections.
    pub fn freeze(&self) {
        match &self.server {
            Server::Azurite(azurite) => azurite.freeze(),
            Server::Served(process) => process.signal("STOP"),
        }
    }

    /// It goes on where it stood.
    pub fn thaw(&self) {
        match &self.server {
            Server::Azurite(azurite) => azurite.thaw(),
            Server::Served(process) => process.signal("CONT"),
        }
    }
}

impl Kind {
    pub fn start(self) -> Store {
        match self {
            Self::Azurite => {
                let azurite = Azurite::start();
                let connection_string = azurite.account().connection_string();
                Store { connection_string, server: Server::Azurite(azurite) }
            }
            Self::Served => {
                let arguments = ["store", "serve", "--listen", "127.0.0.1:0"];
                let process = Process::start(Path::new(PROGRAM), &arguments, &[], &std::env::temp_dir());
                let is_one = |line: &str| line.starts_with("DefaultEndpointsProtocol=").then(|| line.to_owned());
                let connection_string = process.wait_for("a connection string", is_one);
                Store { connection_string, server: Server::Served(process) }
            }
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Azurite => "Azurites",
            Self::Served => "memory stores in processes of their own",
        }
    }

    /// Enough of them for a second or more. Azurite searches a whole table for every query of a range, and sorts a row into
    /// all the others at every insert: the fuller the table, the less its rate says of who uses it.
    fn transactions(self) -> usize {
        match self {
            Self::Azurite => 100,
            Self::Served => 600,
        }
    }
}

/// One rate varies by a third between rounds, on a machine whose cores the client and both stores share.
const ROUNDS: usize = 5;

pub fn run(kind: Kind) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(rates(kind));
}

/// Rows a second and what they cost.
struct Round {
    bare: f64,
    line: f64,
    /// CPU of this process, in µs a row.
    cpu: f64,
}

async fn rates(kind: Kind) {
    let stores = (kind.start(), kind.start());
    let mut rounds = Vec::new();
    for n in 0..ROUNDS {
        rounds.push(round(&stores, n, kind.transactions()).await);
    }
    println!("throughput between two {}, transactions of 100 rows into fresh partitions", kind.name());
    for Round { bare, line, cpu } in &rounds {
        let ratio = line / bare;
        println!(
            "  bare loop {bare:>7.0} rows/s   line {line:>7.0} rows/s   ratio {ratio:.2}   client CPU {cpu:.1} µs a row"
        );
    }
    let median = |of: fn(&Round) -> f64| {
        let mut all: Vec<f64> = rounds.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    let (ratio, cpu) = (median(|round| round.line / round.bare), median(|round| round.cpu));
    println!("  median of the ratios {ratio:.2} (bound 0.6), of the client CPU of a changed row {cpu:.1} µs\n");
}

/// A bare loop, then a line that finds its source loaded, into a fresh table each.
async fn round((near, far): &(Store, Store), n: usize, transactions: usize) -> Round {
    let rows = transactions * 100;
    let [for_bare, for_line] =
        ["bare", "line"].map(|name| TableName::new(&format!("{name}{n}")).expect("a table name"));
    let (from, to) = (region("west", near, &for_line).await, region("north", far, &for_line).await);
    to.home().create_table(&for_bare).await.expect("the data table of the bare loop");
    let runtime = Runtime::system();
    let mut clock = HybridClock::new(from.region().clone(), runtime.writer_id(), Duration::from_secs(60));
    let mut version = || clock.issue(runtime.now(), None).expect("a version");

    let bare = version();
    let began = Instant::now();
    for n in 0..transactions {
        write(to.home(), &for_bare, &format!("tx{n}"), &bare).await;
    }
    let bare = rows as f64 / began.elapsed().as_secs_f64();

    for n in 0..transactions {
        let (partition, version) = (format!("tx{n}"), version());
        announce(from.home(), &for_line, &partition, &version).await;
        write(from.home(), &for_line, &partition, &version).await;
    }
    let (began, cpu) = (Instant::now(), cpu_seconds());
    let stop = CancellationToken::new();
    let replicator = Replicator::new(Setup {
        local: from.clone(),
        copies: vec![],
        destinations: vec![to.clone()],
        cache: None,
        tables: TableFilter::Every,
        roles: FileRoles::multi_active([&from, &to].map(|region| region.region().clone())),
        reading: None,
        settings: Settings::default(),
        runtime: runtime.clone(),
    });
    let (board, stopped) = (replicator.status(), stop.clone());
    #[expect(clippy::disallowed_methods, reason = "a benchmark is its own supervisor")]
    let line = tokio::spawn(async move { replicator.run(stopped).await });
    let open = || board.snapshot().feed_records.values().sum::<usize>();
    while !board.snapshot().ready || open() > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let rate = rows as f64 / began.elapsed().as_secs_f64();
    let cpu = (cpu_seconds() - cpu) / rows as f64 * 1e6;
    stop.cancel();
    line.await.expect("the line ended").expect("the line ran until it was stopped");
    Round { bare, line: rate, cpu }
}

fn keys() -> impl Iterator<Item = String> {
    (0..100).map(|row| format!("r{row:03}"))
}

pub async fn region(name: &str, store: &Store, table: &TableName) -> RegionStore {
    let region = Region::new(name).expect("a region");
    let account = AccountName::new("one").expect("an account");
    let target = AccountTarget::from_connection_string(&store.connection_string).expect("a target");
    let options = HttpOptions::default();
    let tables = AzureTables::connect(region.clone(), account, &target, &options, Runtime::system());
    let tables: Arc<dyn Tables> = tables.expect("a client");
    tables.create_table(table).await.expect("the data table");
    let store = RegionStore::new(region, vec![Account { tables, queue: None }]);
    create_missing(&store).await.expect("system tables");
    store
}

async fn announce(tables: &Arc<dyn Tables>, table: &TableName, partition: &str, version: &Version) {
    let change = Change {
        table: table.clone(),
        partition: partition.into(),
        puts: keys().map(RowKey::new).collect(),
        deletes: vec![],
        version: version.clone(),
        base: None,
    };
    for record in encode_change(&change).expect("a record") {
        tables.write(&SystemTable::Feed.name(), &Operation::Insert(record)).await.expect("announced");
    }
}

async fn write(tables: &Arc<dyn Tables>, table: &TableName, partition: &str, version: &Version) {
    let rows: Vec<Operation> = keys().map(|row| Operation::Insert(body(partition, &row, version))).collect();
    tables.transact(table, &partition.into(), &rows).await.expect("written");
}
