//! The same on stores that are processes of their own, spoken to over HTTP: what is measured of this one is the client.

#[allow(dead_code, reason = "the servers of the integration tests, of which this needs a part")]
#[path = "../../tests/support/mod.rs"]
mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tablerelay::feed::encode_change;
use tablerelay::model::*;
use tablerelay::replicator::{Replicator, Settings, Setup, create_missing};
use tablerelay::runtime::Runtime;
use tablerelay::stores::azure::{AccountTarget, AzureTables, HttpOptions};
use tablerelay::stores::{Account, Operation, RegionStore, Tables};
use tablerelay::topology::TableFilter;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::support::azurite::Azurite;
use self::support::process::Process;
use self::support::relay::PROGRAM;
use crate::process::cpu_seconds;
use crate::world::{body, table};

/// What the stores are.
#[derive(Clone, Copy)]
pub enum Kind {
    /// The emulator of Azure Storage: at one core it does some thousand rows a second.
    Azurite,
    /// The memory store, served by this program: fast enough to leave the client as what is measured.
    Served,
}

/// A store, for as long as it runs.
struct Store {
    connection_string: String,
    _process: Box<dyn std::any::Any>,
}

impl Kind {
    fn start(self) -> Store {
        match self {
            Self::Azurite => {
                let azurite = Azurite::start();
                Store { connection_string: azurite.account().connection_string(), _process: Box::new(azurite) }
            }
            Self::Served => {
                let arguments = ["store", "serve", "--listen", "127.0.0.1:0"];
                let process = Process::start(Path::new(PROGRAM), &arguments, &[], &std::env::temp_dir());
                let is_one = |line: &str| line.starts_with("DefaultEndpointsProtocol=").then(|| line.to_owned());
                let connection_string = process.wait_for("a connection string", is_one);
                Store { connection_string, _process: Box::new(process) }
            }
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Azurite => "two Azurites",
            Self::Served => "two memory stores in processes of their own",
        }
    }

    /// Enough of them for some seconds.
    fn transactions(self) -> usize {
        match self {
            Self::Azurite => 60,
            Self::Served => 600,
        }
    }
}

pub fn run(kind: Kind) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(rate(kind));
}

async fn rate(kind: Kind) {
    let (near, far) = (kind.start(), kind.start());
    let (transactions, rows) = (kind.transactions(), kind.transactions() * 100);
    let (from, to) = (region("west", &near).await, region("north", &far).await);
    let runtime = Runtime::system();
    let mut clock = HybridClock::new(from.region().clone(), runtime.writer_id(), Duration::from_secs(60));
    let mut version = || clock.issue(runtime.now(), None).expect("a version");

    let bare = version();
    let began = Instant::now();
    for n in 0..transactions {
        write(to.home(), &format!("bare{n}"), &bare).await;
    }
    let bare = rows as f64 / began.elapsed().as_secs_f64();

    for n in 0..transactions {
        let (partition, version) = (format!("tx{n}"), version());
        announce(from.home(), &partition, &version).await;
        write(from.home(), &partition, &version).await;
    }
    let (began, cpu) = (Instant::now(), cpu_seconds());
    let stop = CancellationToken::new();
    let replicator = Replicator::new(Setup {
        local: from.clone(),
        destinations: vec![to.clone()],
        cache: None,
        tables: TableFilter::Every,
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
    println!("throughput between {}, transactions of 100 rows into fresh partitions", kind.name());
    println!("  a bare loop                {bare:>9.0} rows/s");
    println!("  the line, records ended    {rate:>9.0} rows/s   ratio {:.2} (bound 0.6)", rate / bare);
    println!("  client CPU of a changed row{cpu:>9.1} µs\n");
}

fn keys() -> impl Iterator<Item = String> {
    (0..100).map(|row| format!("r{row:03}"))
}

async fn region(name: &str, store: &Store) -> RegionStore {
    let region = Region::new(name).expect("a region");
    let account = AccountName::new("one").expect("an account");
    let target = AccountTarget::from_connection_string(&store.connection_string).expect("a target");
    let options = HttpOptions::default();
    let tables = AzureTables::connect(region.clone(), account, &target, &options, Runtime::system());
    let tables: Arc<dyn Tables> = tables.expect("a client");
    tables.create_table(&table()).await.expect("the data table");
    let store = RegionStore::new(region, vec![Account { tables, queue: None }]);
    create_missing(&store).await.expect("system tables");
    store
}

async fn announce(tables: &Arc<dyn Tables>, partition: &str, version: &Version) {
    let change = Change {
        table: table(),
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

async fn write(tables: &Arc<dyn Tables>, partition: &str, version: &Version) {
    let rows: Vec<Operation> = keys().map(|row| Operation::Insert(body(partition, &row, version))).collect();
    tables.transact(&table(), &partition.into(), &rows).await.expect("written");
}
