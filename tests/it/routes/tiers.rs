//! Orders that go to an archive once they were placed a day ago, on real servers: they are found, changed, deleted and compared as all
//! others, and they come home when the file names no archive any more.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tablerelay::model::{RowBody, RowId};
use tablerelay::stores::{Condition, RegionStore};
use tablerelay::writer::read_routed;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Land, are_published, configuration, id, prepare, route, standing, verified};
use crate::support::eventually;
use crate::support::relay::Daemon;

const ROWS: usize = 24;
const ARCHIVE: &str = "[region.north.route.old]\ntables = [\"orders\"]\ndate = \"Placed\"\nolder_than = \"1d\"\naccounts = [\"n3\"]\ntier = \"archive\"\n";

fn nth(n: usize) -> RowId {
    id("orders", &format!("customer-{}", n / 2), &format!("r{n}"))
}

/// An order of two days ago, or of now.
fn order(n: usize, text: &str, old: bool) -> RowBody {
    let placed = OffsetDateTime::now_utc() - time::Duration::days(if old { 2 } else { 0 });
    let (id, placed) = (nth(n), placed.replace_nanosecond(0).expect("whole seconds").format(&Rfc3339).expect("a time"));
    let row = json!({"PartitionKey": id.partition.as_str(), "RowKey": id.row.as_str(), "Text": text,
        "Placed@odata.type": "Edm.DateTime", "Placed": placed});
    RowBody::parse(&row.to_string()).expect("a row")
}

/// How many orders each account has.
async fn spread(store: &RegionStore) -> BTreeMap<String, usize> {
    let mut all = BTreeMap::new();
    for (_, account, _) in standing(store, "orders").await {
        *all.entry(account).or_default() += 1;
    }
    all
}

async fn said(store: &RegionStore, n: usize) -> Option<String> {
    read_routed(store, &nth(n)).await.expect("it answers")?.body.string("Text")
}

/// Waits until the archive has so many orders, and the homes so many.
async fn are_in_place(store: &RegionStore, archive: usize, homes: usize) {
    eventually(&format!("{archive} orders are in the archive and {homes} at home"), || async {
        let spread = spread(store).await;
        let cold = spread.get("n3").copied().unwrap_or_default();
        (cold, spread.values().sum::<usize>() - cold) == (archive, homes)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_orders_go_to_an_archive_and_are_found_changed_and_deleted_there_as_ever() {
    let (west, north) = (Land::new("west", &["w1"]), Land::new("north", &["n1", "n2", "n3"]));
    let config = configuration(&[west.described(""), north.described(ARCHIVE)]);
    let (here, there) = (west.store(), north.store());
    prepare(&here).await;
    prepare(&there).await;
    let daemons = ["west", "north"].map(|region| Daemon::start(&config, region, "info", &[]));
    are_published(&there).await;
    let (in_west, in_north) = (west.writer(), north.writer());
    for n in 0..ROWS {
        let (id, writer) = (nth(n), if n % 3 == 0 { &in_north } else { &in_west });
        writer.insert_or_replace(&id.table, &order(n, "first", n % 4 != 0), None).await.expect("written");
    }
    are_in_place(&there, ROWS * 3 / 4, ROWS / 4).await;
    there.follow_routes().await.expect("it answers");
    for n in 0..ROWS {
        assert_eq!(said(&there, n).await.as_deref(), Some("first"), "{n}");
    }
    verified(&config, "west", "north").await;
    let told = route(&config, "north", "orders", "customer-1");
    assert_eq!((&told["cold"]["account"], &told["cold"]["tier"]), (&json!("n3"), &json!("archive")), "{told}");
    assert_ne!(told["account"], "n3", "who writes does so at home");

    // Changed and deleted from both sides; what is placed anew comes home.
    for (n, writer) in [(1, &in_west), (2, &in_north)] {
        let id = nth(n);
        writer.insert_or_replace(&id.table, &order(n, "again", false), None).await.expect("written");
    }
    for (n, writer) in [(5, &in_west), (6, &in_north)] {
        let id = nth(n);
        writer.delete(&id.table, &id.partition, &id.row, Condition::Present, None).await.expect("deleted");
    }
    are_in_place(&there, ROWS * 3 / 4 - 4, ROWS / 4 + 2).await;
    for (n, text) in [(1, Some("again")), (2, Some("again")), (3, Some("first")), (5, None), (6, None)] {
        assert_eq!(said(&there, n).await.as_deref(), text, "{n}");
    }
    verified(&config, "north", "west").await;
    verified(&config, "west", "north").await;
    let inspected = config.run(&["inspect", "--table", "orders", "--partition", "customer-1", "--row", "r3"], &[]);
    assert!(inspected.code == Some(0) && !inspected.out.contains("absent"), "{}", inspected.out);
    let cold = json!(ROWS * 3 / 4 - 4);
    eventually("the last pass has met what is cold", || async {
        let status = reqwest::get(format!("{}/status", daemons[1].url)).await.expect("it is up");
        let tiers = status.json::<Value>().await.expect("JSON")["tiers"].take();
        (&tiers["region"], &tiers["cold"]) == (&json!("north"), &cold)
    })
    .await;
    let metrics =
        reqwest::get(format!("{}/metrics", daemons[1].url)).await.expect("it is up").text().await.expect("text");
    assert!(metrics.contains("tablerelay_rows_demoted_total{account=\"n3\"}"), "{metrics}");

    // No archive any more: a rebalance has everything come home.
    drop(daemons);
    let config = configuration(&[west.described(""), north.described("spread = [\"n1\", \"n2\"]\n")]);
    let daemons = ["west", "north"].map(|region| Daemon::start(&config, region, "info", &[]));
    daemons[1].event("routes-pending");
    eventually("all rows are home", || async {
        let ended = config.run(&["rebalance", "--region", "north", "--share", "100"], &[]);
        println!("{}{}", ended.out, ended.err);
        ended.code == Some(0)
    })
    .await;
    are_in_place(&there, 0, ROWS - 2).await;
    verified(&config, "west", "north").await;
    drop(daemons);
}
