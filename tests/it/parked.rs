//! A real server that hangs: its link is parked, the feed drains on, and what it missed is there once it goes on.

use tablerelay::feed::is_record_key;
use tablerelay::model::{Row, RowBody, RowId, SystemTable, TableName};
use tablerelay::replicator::create_missing;
use tablerelay::runtime::Runtime;
use tablerelay::stores::{Query, RegionStore, Scope};
use tablerelay::writer::{Writer, WriterOptions};

use crate::support::azurite::Azurite;
use crate::support::deployment::{Site, configuration};
use crate::support::eventually;
use crate::support::relay::Daemon;

const REPLICATION: &str = "settle_window = \"15s\"\nmax_clock_skew = \"15s\"\npark_after = \"2s\"\n";
const ROWS: usize = 120;

fn table() -> TableName {
    TableName::new("orders").expect("a table")
}

/// All rows of a table, by their keys.
async fn rows(store: &RegionStore, table: &TableName) -> Vec<Row> {
    let (mut query, mut rows) = (Query::new(Scope::Table), Vec::new());
    loop {
        let page = store.home().query(table, &query).await.expect("the server answers");
        rows.extend(page.rows);
        query.continuation = page.continuation;
        if query.continuation.is_none() {
            return rows;
        }
    }
}

async fn bodies(store: &RegionStore) -> Vec<RowBody> {
    rows(store, &table()).await.into_iter().map(|row| row.body).collect()
}

async fn open_records(store: &RegionStore) -> usize {
    let feed = rows(store, &SystemTable::Feed.name()).await;
    feed.iter().filter(|row| is_record_key(row.body.row())).count()
}

async fn hints(store: &RegionStore) -> usize {
    rows(store, &SystemTable::Backlog.name()).await.len()
}

/// Puts every row once more, spread over partitions.
async fn write(writer: &Writer, round: usize) {
    for n in 0..ROWS {
        let id = RowId::new(table(), format!("p{}", n % 12).as_str().into(), format!("r{n}").as_str().into());
        let body = RowBody::builder(&id.partition, &id.row).string("Round", &round.to_string()).finish();
        writer.insert_or_replace(&table(), &body, None).await.expect("the region takes it");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_is_parked_and_has_everything_once_it_goes_on() {
    let frozen = Azurite::start();
    let names = ["east", "north", "west"];
    let accounts = [Azurite::shared().account(), frozen.account(), Azurite::shared().account()];
    let sites: Vec<Site> = names.into_iter().zip(accounts).map(|(name, account)| Site::new(name, account)).collect();
    for site in &sites {
        create_missing(&site.store).await.expect("Azurite creates tables");
        site.store.home().create_table(&table()).await.expect("Azurite creates tables");
    }
    let config = configuration(&sites, REPLICATION);
    let daemon = Daemon::start(&config, "east", "info", &[]);
    let (here, there) = (&sites[0].store, &sites[1].store);
    let writer = Writer::new(here.clone(), WriterOptions::default(), Runtime::system());
    write(&writer, 1).await;
    eventually("the first round is there", || async { bodies(there).await == bodies(here).await }).await;

    frozen.freeze();
    write(&writer, 2).await;
    let parked = daemon.event("link-parked");
    assert_eq!(parked["destination"], "north", "{parked}");
    let why = parked["why"].as_str().unwrap_or_default();
    assert!(parked["failures"].as_u64() > Some(0) && why.contains("it has taken nothing"), "{parked}");
    write(&writer, 3).await;
    eventually("the feed drains on", || async { open_records(here).await == 0 }).await;
    assert_eq!(hints(here).await, ROWS, "one hint per distinct row");
    let third = &sites[2].store;
    eventually("the other destination has it all", || async { bodies(third).await == bodies(here).await }).await;
    // It is published every few seconds.
    let status = || config.run(&["status", "--output", "json"], &[]).out;
    eventually("the status says so", || async { status().contains("\"parked\"") }).await;

    frozen.thaw();
    eventually("the backlog is empty", || async { hints(here).await == 0 }).await;
    assert_eq!(bodies(there).await, bodies(here).await);
    let flowing = daemon.event("link-flowing");
    assert_eq!(flowing["destination"], "north", "{flowing}");
    daemon.signal("TERM");
    assert_eq!(daemon.ended(), 0);
}
