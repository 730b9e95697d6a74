//! `rebalance` as somebody types it, on real servers: a fifth account is added under constant writes and reads, the command is killed
//! where it copies and where the new routes have just come into force, and goes on.

use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use tablerelay::model::RowId;
use tablerelay::stores::{Condition, RegionStore};
use tablerelay::topology::MoveState;
use tablerelay::writer::{Writer, read_routed};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Land, WINDOW, are_published, body, configuration, id, prepare, route, standing, verified};
use crate::support::eventually;
use crate::support::process::Process;
use crate::support::relay::{Config, Daemon, PROGRAM};

/// Rows of everybody who writes.
const ROWS: usize = 120;
const WRITERS: usize = 2;

fn nth(writer: usize, n: usize) -> RowId {
    id("orders", &format!("customer-{writer}-{}", n / 2), &format!("r{n}"))
}

/// What is known to stand: the rows that were written, and are not being written.
type Known = Mutex<std::collections::BTreeMap<RowId, u64>>;

/// Puts its rows over and over, and deletes some of them. A row that is known was there all the time that it was.
async fn write(writer: Writer, part: usize, known: Arc<Known>, over: Arc<AtomicBool>) {
    let (mut step, mut pace) = (0, tokio::time::interval(Duration::from_millis(50)));
    while !over.load(Ordering::Relaxed) {
        for n in 0..ROWS {
            let id = nth(part, n);
            step += 1;
            known.lock().unwrap().remove(&id);
            // A machine that is busy with other tests may be too slow for one try: the next one takes a new version.
            if step % 7 == 3 {
                while writer.delete(&id.table, &id.partition, &id.row, Condition::Present, None).await.is_err() {}
            } else {
                let body = body(&id, &format!("{step}"));
                while writer.insert_or_replace(&id.table, &body, None).await.is_err() {}
                known.lock().unwrap().insert(id, step);
            }
            pace.tick().await;
        }
    }
}

/// Reads by the published routes; returns what it missed, and how many reads could have missed something.
async fn read(store: RegionStore, known: Arc<Known>, over: Arc<AtomicBool>) -> (Vec<String>, usize) {
    let (mut missed, mut reads, mut heard) = (Vec::new(), 0, None::<Instant>);
    let mut pace = tokio::time::interval(Duration::from_millis(20));
    for n in (0..ROWS).cycle() {
        if over.load(Ordering::Relaxed) {
            break;
        }
        if heard.is_none_or(|heard| heard.elapsed() > WINDOW / 2) {
            let began = Instant::now();
            if store.follow_routes().await.is_err() {
                continue;
            }
            heard = Some(began);
        }
        let id = nth(n % WRITERS, n);
        let before = known.lock().unwrap().get(&id).copied();
        let Ok(found) = read_routed(&store, &id).await else { continue };
        let after = known.lock().unwrap().get(&id).copied();
        if before.is_some() && before == after {
            reads += 1;
            if found.is_none() {
                missed.push(format!("{id} by epoch {:?}", store.routes_epoch()));
            }
        }
        pace.tick().await;
    }
    (missed, reads)
}

async fn state(store: &RegionStore) -> Option<MoveState> {
    store.follow_routes().await.ok()?;
    store.published()?.moving.as_ref().map(|moving| moving.state)
}

/// The command, and what it says.
fn begin(config: &Config, said: &Path) -> Process {
    let path = config.path();
    let environment = [("TABLERELAY_CONFIG", path.to_str().expect("a path"))];
    let script = r#"exec "$0" rebalance --region north --share 100 >"$1" 2>&1"#;
    let arguments = ["-c", script, PROGRAM, said.to_str().expect("a path")];
    Process::start(Path::new("/bin/sh"), &arguments, &environment, &std::env::temp_dir())
}

/// Waits longer than a server may be slow for.
async fn patiently<F: Future<Output = bool>>(what: &str, said: impl Fn() -> String, condition: impl Fn() -> F) {
    let deadline = Instant::now() + Duration::from_secs(240);
    let mut pace = tokio::time::interval(Duration::from_millis(50));
    while !condition().await {
        assert!(Instant::now() < deadline, "not in time: {what}; {}", said());
        pace.tick().await;
    }
}

/// Kills the command where rows are in this state. One that a slow server has ended is begun again.
async fn killed_while(state_is: MoveState, config: &Config, store: &RegionStore) {
    let log = config.path().with_extension("log");
    let said = || std::fs::read_to_string(&log).unwrap_or_default();
    let commands = Mutex::new(vec![begin(config, &log)]);
    patiently(&format!("rows are {state_is}"), said, || async {
        if said().contains("tablerelay: ") {
            commands.lock().unwrap().push(begin(config, &log));
        }
        state(store).await == Some(state_is)
    })
    .await;
    if let Some(command) = commands.lock().unwrap().last() {
        command.signal("KILL");
    }
}

/// Runs it until it has come to its end: where a server is too slow for it, it says so, and goes on the next time.
fn finished(config: &Config) -> Value {
    for _ in 0..5 {
        let ended = config.run(&["rebalance", "--region", "north", "--share", "100", "--output", "json"], &[]);
        println!("{}{}", ended.out, ended.err);
        if ended.code == Some(0) {
            return serde_json::from_str(&ended.out).expect("JSON");
        }
    }
    panic!("it does not come to its end");
}

/// Daemons of both regions with the new file, which carry every account once the leases of the old ones are over.
async fn started_anew(config: &Config) -> [Daemon; 2] {
    let daemons = ["west", "north"].map(|region| Daemon::start(config, region, "info", &[]));
    daemons[1].event("routes-pending");
    let carried = |shards: &serde_json::Map<String, Value>| -> usize {
        shards.values().filter_map(Value::as_array).map(Vec::len).sum()
    };
    patiently(
        "all accounts are carried",
        || daemons[1].said(),
        || async {
            let reply = reqwest::get(format!("{}/status", daemons[1].url)).await.expect("it is up").text().await;
            let status: Value = serde_json::from_str(&reply.expect("text")).expect("JSON");
            status["shards"].as_object().is_some_and(|shards| carried(shards) == 80)
        },
    )
    .await;
    daemons
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fifth_account_is_added_under_constant_writes_and_no_read_misses_a_row() {
    let (west, north) = (Land::new("west", &["w1"]), Land::new("north", &["n1", "n2", "n3", "n4", "n5"]));
    let before = configuration(&[west.described(""), north.described_without("n5", "")]);
    let config = configuration(&[west.described(""), north.described("")]);
    let (here, there) = (west.store(), north.store());
    prepare(&here).await;
    prepare(&there).await;
    let daemons = ["west", "north"].map(|region| Daemon::start(&before, region, "info", &[]));
    eventually("the routes are published", || async {
        there.follow_routes().await.expect("it answers");
        there.published().is_some()
    })
    .await;
    patiently("it is refused while a daemon has the old file", String::new, || async {
        let refused = config.run(&["rebalance", "--region", "north"], &[]);
        refused.code == Some(1) && refused.err.contains("0 of 16 shards of account n5")
    })
    .await;

    let (known, over) = (Arc::<Known>::default(), Arc::<AtomicBool>::default());
    let (mut writers, mut readers) = (JoinSet::new(), JoinSet::new());
    for n in 0..WRITERS {
        writers.spawn(write(north.writer(), n, known.clone(), over.clone()));
    }
    readers.spawn(read(north.store(), known.clone(), over.clone()));
    drop(daemons);
    let daemons = started_anew(&config).await;
    killed_while(MoveState::Filling, &config, &there).await;
    let status = async || {
        let reply = reqwest::get(format!("{}/status", daemons[1].url)).await.expect("it is up").text().await;
        serde_json::from_str::<Value>(&reply.expect("text")).expect("JSON")
    };
    patiently("the daemon says that rows are on their way", String::new, || async {
        status().await["routes"]["moving"] == "filling"
    })
    .await;
    killed_while(MoveState::Reading, &config, &there).await;
    let done = finished(&config);
    assert_eq!((&done["schema"], &done["left"]), (&1.into(), &0.into()), "{done:#}");

    over.store(true, Ordering::Relaxed);
    while let Some(ended) = writers.join_next().await {
        ended.expect("it goes on to its end");
    }
    let (missed, reads) = readers.join_next().await.expect("there is one").expect("it goes on to its end");
    assert!(missed.is_empty() && reads > 100, "of {reads} reads missed {missed:?}");
    are_published(&there).await;
    verified(&config, "north", "west").await;
    verified(&config, "west", "north").await;
    let rows = standing(&there, "orders").await;
    let held: Vec<&RowId> = rows.iter().map(|(id, ..)| id).collect();
    let expected: Vec<RowId> = known.lock().unwrap().keys().cloned().collect();
    assert_eq!(held, expected.iter().collect::<Vec<_>>(), "every row that was not deleted stands once");
    let on_the_new_one = rows.iter().filter(|(_, account, _)| account == "n5").count();
    assert!(on_the_new_one * 12 > rows.len(), "{on_the_new_one} of {} are in the new account", rows.len());
    for (id, account, _) in rows.iter().step_by(9) {
        assert_eq!(route(&config, "north", "orders", id.partition.as_str())["account"], **account, "{id}");
    }
    drop(daemons);
}
