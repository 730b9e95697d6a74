//! Two daemons of one region on a real server: they share its shards, and each goes on with what the other leaves.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use tablerelay::model::{Row, SystemTable};
use tokio::time::Instant;

use crate::azure_tables::body;
use crate::daemon::{Regions, get, orders, rows};
use crate::support::eventually;
use crate::support::relay::Daemon;

/// How long the shards of a daemon that was killed may wait, with the lease that is the default.
const AFTER_A_KILL: Duration = Duration::from_secs(15);
/// And those of one that was asked to end.
const AFTER_THE_END: Duration = Duration::from_secs(6);
/// So many partitions reach all shards, and so many rows go into each.
const PARTITIONS: usize = 48;

async fn status(daemon: &Daemon) -> Value {
    serde_json::from_str(&get(daemon, "/status").await.1).expect("status is JSON")
}

/// The shards that a daemon carries.
async fn shards(daemon: &Daemon) -> BTreeSet<String> {
    let status = status(daemon).await;
    let shards = status["shards"].as_object().expect("an object").values();
    shards.flat_map(|shards| shards.as_array().expect("a list")).map(|shard| shard.to_string()).collect()
}

async fn all_are_at(daemon: &Daemon) {
    eventually("one daemon has all shards", || async { shards(daemon).await.len() == 16 }).await;
}

async fn shared(one: &Daemon, two: &Daemon) {
    eventually("two daemons have eight shards each", || async {
        let (one, two) = (shards(one).await, shards(two).await);
        one.len() == 8 && two.len() == 8 && one.is_disjoint(&two)
    })
    .await;
}

async fn write(regions: &Regions, round: usize) {
    for n in 0..PARTITIONS {
        let row = body(&format!("p{n}"), &format!("r{round}"), r#","N":1"#);
        regions.writer.insert(&orders(), &row, None).await.unwrap();
    }
}

async fn arrived(regions: &Regions) {
    let bodies = |rows: Vec<Row>| rows.into_iter().map(|row| row.body.json().to_string()).collect::<BTreeSet<_>>();
    let here = bodies(rows(&regions.west, &orders()).await);
    eventually("north is equal", || async { bodies(rows(&regions.north, &orders()).await) == here }).await;
}

/// The Last Sync Time that the region publishes of its link.
fn last_sync(regions: &Regions) -> String {
    let ended = regions.config.run(&["status", "--output", "json"], &[]);
    let status: Value = serde_json::from_str(&ended.out).unwrap_or_default();
    status["links"][0]["last_sync"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn two_daemons_share_the_shards_and_each_takes_what_the_other_leaves() {
    let regions = Regions::new("").await.prepared().await;
    let first = Daemon::start(&regions.config, "west", "info", &[]);
    first.event("daemon-ready");
    all_are_at(&first).await;

    let second = Daemon::start(&regions.config, "west", "info", &[]);
    second.event("daemon-ready");
    shared(&first, &second).await;
    let (one, two) = (status(&first).await, status(&second).await);
    let others = two["others"].as_object().expect("an object");
    assert_eq!(others.keys().collect::<Vec<_>>(), [one["daemon"].as_str().expect("a name")], "{two}");
    assert_eq!(get(&second, "/readyz").await.0, 200);
    write(&regions, 0).await;
    arrived(&regions).await;

    // One that is asked to end hands over.
    let asked = Instant::now();
    second.signal("TERM");
    write(&regions, 1).await;
    all_are_at(&first).await;
    println!("handed over within {:.1?}", asked.elapsed());
    assert!(asked.elapsed() < AFTER_THE_END, "{:?}", asked.elapsed());
    assert_eq!(second.ended(), 0, "{}", second.said());
    assert!(!second.said().contains("shutdown-late"), "{}", second.said());
    arrived(&regions).await;

    // One that is killed is found gone. It is the first of the two, so that everything that only one does moves too.
    let third = Daemon::start(&regions.config, "west", "info", &[]);
    shared(&first, &third).await;
    let killed = Instant::now();
    first.signal("KILL");
    write(&regions, 2).await;
    all_are_at(&third).await;
    println!("taken over within {:.1?}", killed.elapsed());
    assert!(killed.elapsed() < AFTER_A_KILL, "{:?}", killed.elapsed());
    assert_eq!(first.ended(), 137);
    arrived(&regions).await;

    // The region's truth goes on too, and what the dead one left is cleared away.
    let last = rows(&regions.west, &orders()).await.into_iter().map(|row| row.timestamp).max().expect("rows");
    eventually("Last Sync Time passes the last write", || async { last_sync(&regions) > last.to_string() }).await;
    eventually("one row of a daemon is left", || async {
        let control = rows(&regions.west, &SystemTable::Control.name()).await;
        control.iter().filter(|row| row.body.partition().as_str() == "daemon").count() == 1
    })
    .await;
    third.signal("TERM");
    assert_eq!(third.ended(), 0, "{}", third.said());
}

#[tokio::test]
async fn a_lease_has_bounds() {
    let regions = Regions::new("").await;
    let checked = regions.config.run(&["config", "check"], &[("TABLERELAY__REPLICATION__LEASE", "1s")]);
    assert_eq!(checked.code, Some(2), "{}", checked.err);
    assert!(
        checked.err.contains("replication.lease") && checked.err.contains("from \"2s\" to \"1m\""),
        "{}",
        checked.err
    );
}
