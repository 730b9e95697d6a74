//! How fast tables are copied to another region, and in how much memory. `cargo bench --bench backfill`
//!
//! The command is a process of its own, and so is each of two stores, memory stores spoken to over HTTP. Its rate is a ratio to a bare
//! loop of 100-row transactions into the same store in the same run, because a clock alone says more of the machine than of the
//! program. `-- --rows 100000` is another size than a million; `-- --wide` has one row in each partition, where no two go together.
//! `-- --live` copies while daemons run and writers change and delete 30 % of the rows, and kills the command ten times; with
//! `--azurite` the stores are Azurites and the rows a tenth.

#[path = "backfill/live.rs"]
mod live;
#[allow(dead_code, reason = "what several benches share, of which each needs a part")]
#[path = "whole/mod.rs"]
mod whole;

use tablerelay::model::*;
use tablerelay::stores::{Operation, Scope, Tables};
use tokio::time::Instant;

use whole::command::{self, Ran};
use whole::store::{Store, TOGETHER, partition, table, write};

/// Rows of the bare loop, at the most.
const BARE: usize = 200_000;
/// As fast as it goes: a share of what Azure allows is another limit than the program's.
const FAST: [&str; 4] = ["--share", "100", "--account-rows", "10000000"];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |argument: &str| arguments.iter().any(|given| given == argument);
    // `cargo test --benches` runs this too, with `--test`.
    if has("--test") {
        return;
    }
    let azurite = has("--azurite");
    let rows = whole::rows_asked_for(&arguments, if azurite { 100_000 } else { 1_000_000 });
    match has("--live") {
        true => whole::block_on(live::run(rows, azurite)),
        false => whole::block_on(run(rows, has("--wide"))),
    }
}

async fn run(rows: usize, wide: bool) {
    let (near, far) = (Store::start("west"), Store::start("north"));
    near.fill(&table("orders"), (0..rows / TOGETHER).flat_map(|n| hundred(n, wide))).await;
    let before = bare(&far, rows, "before", wide).await;
    let config = whole::configuration(&near, &far, "");
    let asked = [near.requests().await, far.requests().await];
    let ran = copy(&config).await;
    let asked = [(&near, &asked[0]), (&far, &asked[1])];
    let mut requests = Vec::new();
    for (store, before) in asked {
        let sum = store.requests().await.values().sum::<u64>() - before.values().sum::<u64>();
        requests.push(sum as f64 / rows as f64 * 1_000.0);
    }
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
    println!("  its CPU                      {:>9.1} µs a row", ran.used.cpu / rows as f64 * 1e6);
    println!(
        "  requests a thousand rows     {:>9.1} to where it is copied from, {:.1} to where to",
        requests[0], requests[1]
    );
    println!("  its resident memory          {:>9.1} MiB at most (bound 128)", ran.used.resident);
    let of = &ran.told["tables"][0];
    println!(
        "  {} rows told, {} written, {} errors, {} ranges\n",
        of["rows"], of["written"], of["errors"], of["ranges"]
    );
    assert!(ran.status.success(), "it ended with {}", ran.status);
    assert_eq!((of["rows"].as_u64(), of["state"].as_str()), (Some(rows as u64), Some("done")), "{:#}", ran.told);
}

/// A hundred rows of some 200 bytes, by partition.
fn hundred(n: usize, wide: bool) -> Vec<(PartitionKey, Vec<Operation>)> {
    let filler = "x".repeat(100);
    let row = |partition: &PartitionKey, row: usize| {
        Operation::Insert(
            RowBody::builder(partition, &format!("r{row:03}").as_str().into()).string("Value", &filler).finish(),
        )
    };
    match wide {
        false => vec![(partition(n), (0..TOGETHER).map(|r| row(&partition(n), r)).collect())],
        true => (n * TOGETHER..(n + 1) * TOGETHER).map(|n| (partition(n), vec![row(&partition(n), 0)])).collect(),
    }
}

/// Rows a second of one transaction, or row, after the other.
async fn bare(store: &Store, rows: usize, name: &str, wide: bool) -> f64 {
    let (table, rows) = (table(name), rows.min(BARE) / 2);
    store.tables.create_table(&table).await.expect("a table");
    let began = Instant::now();
    for (partition, rows) in (0..rows / TOGETHER).flat_map(|n| hundred(n, wide)) {
        write(&store.tables, &table, &partition, &rows).await;
    }
    rows as f64 / began.elapsed().as_secs_f64()
}

async fn copy(config: &whole::support::relay::Config) -> Ran {
    let arguments = [&["backfill", "start", "--from", "west", "--to", "north"], &FAST[..]].concat();
    command::run(config, &arguments).await
}

/// Seconds from the first range's beginning until all were copied, and until all were verified, by the ledger.
async fn spans(store: &Store) -> (f64, f64) {
    let mut ranges = Vec::new();
    let scope = Scope::Partition { partition: "backfill".into(), from: None, through: None };
    store.read(&SystemTable::Control.name(), scope, |row| ranges.push(row)).await;
    let times = |name: &str| -> Vec<f64> {
        let texts = ranges.iter().filter_map(|row| (row.string("Copy").is_some()).then(|| row.string(name))?);
        texts.map(|text| Time::parse(&text).expect("a time").unix_seconds()).collect()
    };
    let began = times("Began").into_iter().fold(f64::INFINITY, f64::min);
    let last = |name: &str| times(name).into_iter().fold(0.0, f64::max) - began;
    (last("Copied"), last("Verified"))
}
