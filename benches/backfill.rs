//! How fast tables are copied to another region, and in how much memory. `cargo bench --bench backfill`
//!
//! The command is a process of its own, and so is each of two stores, memory stores spoken to over HTTP. Its rate is a ratio to a bare
//! loop of 100-row transactions into the same store in the same run, because a clock alone says more of the machine than of the
//! program. `-- --rows 100000` is another size than a million; `-- --wide` has one row in each partition, where no two go together.

#[allow(dead_code, reason = "the servers of the integration tests, of which this needs a part")]
#[path = "../tests/support/mod.rs"]
mod support;

#[allow(dead_code, reason = "what processes have used, of which this needs a part")]
#[path = "line/process.rs"]
mod process;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tablerelay::model::*;
use tablerelay::runtime::Runtime;
use tablerelay::stores::azure::{AccountTarget, AzureTables, HttpOptions};
use tablerelay::stores::{Operation, Query, Scope, Tables};
use tokio::task::JoinSet;
use tokio::time::Instant;

use support::process::Process;
use support::relay::{Config, PROGRAM, region};

/// Rows of a transaction, and of a partition.
const TOGETHER: usize = 100;
/// Rows of the bare loop, at the most.
const BARE: usize = 200_000;
/// How often the memory of the command is looked at.
const SAMPLE: Duration = Duration::from_millis(50);

/// A store that is a process of its own.
struct Store {
    connection_string: String,
    tables: Arc<AzureTables>,
    _process: Process,
}

/// How the command ended, and what it used.
struct Ran {
    took: Duration,
    resident: f64,
    cpu: f64,
    told: Value,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --benches` runs this too, with `--test`.
    if arguments.iter().any(|argument| argument == "--test") {
        return;
    }
    let given = arguments.iter().position(|argument| argument == "--rows").and_then(|at| arguments.get(at + 1));
    let rows = given.map_or(1_000_000, |rows| rows.parse().expect("--rows should be a number"));
    let wide = arguments.iter().any(|argument| argument == "--wide");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(run(rows, wide));
}

async fn run(rows: usize, wide: bool) {
    let (near, far) = (Store::start("west"), Store::start("north"));
    fill(&near, rows, wide).await;
    let before = bare(&far, rows, "before", wide).await;
    let regions = [("west", &near), ("north", &far)];
    let regions: String =
        regions.iter().map(|(name, store)| region(name, "writer", &store.connection_string)).collect();
    let config = Config::new(&format!("[table.orders]\n{regions}"));
    let ran = copy(&config);
    let bare = (before + bare(&far, rows, "after", wide).await) / 2.0;
    let (copied, compared) = spans(&near).await;
    let rate = |seconds: f64| rows as f64 / seconds;
    let kind = if wide { "a row in each partition" } else { "a hundred rows in each partition" };
    println!("{rows} rows copied between two memory stores in processes of their own, {kind}");
    println!("  a bare loop                  {bare:>9.0} rows/s");
    println!(
        "  copied                       {:>9.0} rows/s   ratio {:.2} (bound 0.7)",
        rate(copied),
        rate(copied) / bare
    );
    println!("  copied and compared          {:>9.0} rows/s   ratio {:.2}", rate(compared), rate(compared) / bare);
    println!("  the command from end to end  {:>9.1} s", ran.took.as_secs_f64());
    println!("  its CPU                      {:>9.1} µs a row", ran.cpu / rows as f64 * 1e6);
    println!("  its resident memory          {:>9.1} MiB at most (bound 128)", ran.resident);
    let of = &ran.told["tables"][0];
    println!(
        "  {} rows told, {} written, {} errors, {} ranges\n",
        of["rows"], of["written"], of["errors"], of["ranges"]
    );
    assert_eq!((of["rows"].as_u64(), of["state"].as_str()), (Some(rows as u64), Some("done")), "{:#}", ran.told);
}

impl Store {
    fn start(name: &str) -> Self {
        let arguments = ["store", "serve", "--listen", "127.0.0.1:0"];
        let process = Process::start(Path::new(PROGRAM), &arguments, &[], &std::env::temp_dir());
        let is_one = |line: &str| line.starts_with("DefaultEndpointsProtocol=").then(|| line.to_owned());
        let connection_string = process.wait_for("a connection string", is_one);
        let target = AccountTarget::from_connection_string(&connection_string).expect("a target");
        let (name, account) = (Region::new(name).expect("a region"), AccountName::new("one").expect("an account"));
        let tables = AzureTables::connect(name, account, &target, &HttpOptions::default(), Runtime::system());
        Self { connection_string, tables: tables.expect("a client"), _process: process }
    }
}

fn table(name: &str) -> TableName {
    TableName::new(name).expect("a table name")
}

/// Rows of some 200 bytes, `n` hundreds from the first on.
fn hundred(n: usize, wide: bool) -> Vec<(PartitionKey, Vec<Operation>)> {
    let filler = "x".repeat(100);
    let row = |partition: &PartitionKey, row: usize| {
        Operation::Insert(
            RowBody::builder(partition, &format!("r{row:03}").as_str().into()).string("Value", &filler).finish(),
        )
    };
    let partition = |n: usize| PartitionKey::new(format!("order-{n:09}"));
    match wide {
        false => vec![(partition(n), (0..TOGETHER).map(|r| row(&partition(n), r)).collect())],
        true => (n * TOGETHER..(n + 1) * TOGETHER).map(|n| (partition(n), vec![row(&partition(n), 0)])).collect(),
    }
}

async fn write(tables: &AzureTables, table: &TableName, n: usize, wide: bool) {
    for (partition, rows) in hundred(n, wide) {
        match rows.as_slice() {
            [one] => drop(tables.write(table, one).await.expect("written")),
            many => drop(tables.transact(table, &partition, many).await.expect("written")),
        }
    }
}

/// Rows that were there before, without versions.
async fn fill(store: &Store, rows: usize, wide: bool) {
    let orders = table("orders");
    store.tables.create_table(&orders).await.expect("the data table");
    let mut writes = JoinSet::new();
    for n in 0..rows / TOGETHER {
        let (tables, orders) = (store.tables.clone(), orders.clone());
        writes.spawn(async move { write(&tables, &orders, n, wide).await });
        if writes.len() >= 8 {
            writes.join_next().await;
        }
    }
    while writes.join_next().await.is_some() {}
}

/// Rows a second of one transaction, or row, after the other.
async fn bare(store: &Store, rows: usize, name: &str, wide: bool) -> f64 {
    let (table, rows) = (table(name), rows.min(BARE) / 2);
    store.tables.create_table(&table).await.expect("a table");
    let began = Instant::now();
    for n in 0..rows / TOGETHER {
        write(&store.tables, &table, n, wide).await;
    }
    rows as f64 / began.elapsed().as_secs_f64()
}

fn copy(config: &Config) -> Ran {
    // As fast as it goes: a share of what Azure allows is another limit than the program's.
    let rate = ["--share", "100", "--account-rows", "10000000"];
    let arguments = [&["backfill", "start", "--from", "west", "--to", "north", "--output", "json"], &rate[..]].concat();
    let began = Instant::now();
    let mut command = Command::new(PROGRAM);
    command.args(arguments).env("TABLERELAY_CONFIG", config.path()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let pid = child.id().to_string();
    let (mut resident, mut cpu) = (0.0_f64, 0.0_f64);
    while child.try_wait().expect("it is ours").is_none() {
        resident = resident.max(process::resident_mib_of(&pid));
        cpu = cpu.max(process::cpu_seconds_of(&pid));
        std::thread::sleep(SAMPLE);
    }
    let took = began.elapsed();
    let output = child.wait_with_output().expect("it has ended");
    assert!(output.status.success(), "it ended with {}", output.status);
    Ran { took, resident, cpu, told: serde_json::from_slice(&output.stdout).expect("JSON") }
}

/// Seconds from the first range's beginning until all were copied, and until all were verified, by the ledger.
async fn spans(store: &Store) -> (f64, f64) {
    let query = Query::new(Scope::Partition { partition: "backfill".into(), from: None, through: None });
    let page = store.tables.query(&SystemTable::Control.name(), &query).await.expect("the ledger");
    let times = |name: &str| -> Vec<f64> {
        let texts =
            page.rows.iter().filter_map(|row| (row.body.string("Copy").is_some()).then(|| row.body.string(name))?);
        texts.map(|text| Time::parse(&text).expect("a time").unix_seconds()).collect()
    };
    let began = times("Began").into_iter().fold(f64::INFINITY, f64::min);
    let last = |name: &str| times(name).into_iter().fold(0.0, f64::max) - began;
    (last("Copied"), last("Verified"))
}
