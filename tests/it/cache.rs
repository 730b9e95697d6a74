//! A real Redis that hangs, dies, comes back empty and is flushed, while tables go on as ever; and its warming.

use std::time::Duration;

use tablerelay::feed::{hint_consumer, is_record_key};
use tablerelay::model::{Row, RowBody, RowId, SystemTable, TableName};
use tablerelay::replicator::create_missing;
use tablerelay::runtime::Runtime;
use tablerelay::stores::{Query, RegionStore, Scope};
use tablerelay::writer::{Writer, WriterOptions};
use tokio::time::Instant;

use crate::support::azurite::Azurite;
use crate::support::deployment::{Site, configuration};
use crate::support::eventually;
use crate::support::relay::Daemon;

const REPLICATION: &str = "settle_window = \"15s\"\nmax_clock_skew = \"15s\"\npark_after = \"2s\"\n";
const ROWS: usize = 60;

fn table() -> TableName {
    TableName::new("orders").expect("a table")
}

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

/// Who hints wait for, a word each.
async fn hints(store: &RegionStore) -> Vec<String> {
    let hints = rows(store, &SystemTable::Backlog.name()).await;
    hints.iter().map(|hint| hint_consumer(hint.body.partition()).to_owned()).collect()
}

/// Whether the cache of a site holds every row at the version at which it stands.
async fn holds_what_stands(site: &Site) -> bool {
    let bodies = bodies(&site.store).await;
    let ids = bodies.iter().map(|body| RowId::new(table(), body.partition().clone(), body.row().clone()));
    let held = site.cached(&ids.collect::<Vec<_>>()).await;
    bodies.iter().zip(held).all(|(body, held)| {
        held.is_some_and(|held| held.entry.is_some() && body.version().is_some_and(|v| v.as_str() == held.version))
    })
}

/// Puts every row once more.
async fn write(writer: &Writer, round: usize) {
    for n in 0..ROWS {
        let id = RowId::new(table(), format!("p{}", n % 12).as_str().into(), format!("r{n}").as_str().into());
        let body = RowBody::builder(&id.partition, &id.row).string("Round", &round.to_string()).finish();
        writer.insert_or_replace(&table(), &body, None).await.expect("the region takes it");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_hangs_dies_or_is_flushed_holds_up_nothing_and_is_filled_again() {
    let accounts = [Azurite::shared().account(), Azurite::shared().account()];
    let names = ["east", "north"];
    let sites: Vec<Site> = names.into_iter().zip(accounts).map(|(name, account)| Site::new(name, account)).collect();
    for site in &sites {
        create_missing(&site.store).await.expect("Azurite creates tables");
        site.store.home().create_table(&table()).await.expect("Azurite creates tables");
    }
    let config = configuration(&sites, REPLICATION);
    let daemons = names.map(|name| Daemon::start(&config, name, "info", &[]));
    let writer = Writer::new(sites[0].store.clone(), WriterOptions::default(), Runtime::system());
    let equal = |sites: &[Site]| {
        let (here, there) = (sites[0].store.clone(), sites[1].store.clone());
        async move { bodies(&there).await == bodies(&here).await }
    };
    write(&writer, 1).await;
    eventually("the first round is there", || equal(&sites)).await;
    for site in &sites {
        eventually("it is in the caches", || holds_what_stands(site)).await;
    }

    // It hangs, in the region that is written in, and in the one that the changes come to.
    sites.iter().for_each(|site| site.redis.freeze());
    write(&writer, 2).await;
    let began = Instant::now();
    eventually("tables are as quick as ever", || equal(&sites)).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    for daemon in &daemons {
        daemon.event("cache-parked");
    }
    write(&writer, 3).await;
    for (site, name) in sites.iter().zip(["cache@east", "cache@north"]) {
        eventually("the feed drains on", || async { open_records(&site.store).await == 0 }).await;
        let all = || async { hints(&site.store).await == vec![name; ROWS] };
        eventually("there is one hint per distinct row, for the cache alone", all).await;
    }
    sites.iter().for_each(|site| site.redis.thaw());
    for site in &sites {
        eventually("the hints are drained", || async { hints(&site.store).await.is_empty() }).await;
        assert!(holds_what_stands(site).await, "{} holds what stands", site.region);
    }

    // It dies, and comes back empty: what was written meanwhile is in it, and that it was emptied is noticed.
    sites[0].redis.stop();
    write(&writer, 4).await;
    eventually("tables are as quick as ever", || equal(&sites)).await;
    eventually("the feed drains on", || async { open_records(&sites[0].store).await == 0 }).await;
    sites[0].redis.start_again();
    eventually("the hints are drained", || async { hints(&sites[0].store).await.is_empty() }).await;
    assert!(holds_what_stands(&sites[0]).await);
    let lost = daemons[0].event("cache-lost");
    assert_eq!((&lost["loss"], &lost["region"]), (&"emptied".into(), &"east".into()), "{lost}");
    assert!(lost["message"].as_str().is_some_and(|message| message.contains("cache warm --region east")), "{lost}");

    // It is flushed, that is noticed, and it is filled by hand.
    let _: String = sites[1].redis.command(&["FLUSHALL"]).await;
    let lost = daemons[1].event("cache-lost");
    assert_eq!((&lost["loss"], &lost["region"]), (&"emptied".into(), &"north".into()), "{lost}");
    assert!(!holds_what_stands(&sites[1]).await);
    let warmed = config.run(&["cache", "warm", "--region", "north", "--rate", "5000", "--output", "json"], &[]);
    let summary: serde_json::Value = serde_json::from_str(&warmed.out).expect("it is JSON");
    assert_eq!((&summary["schema"], &summary["rows"]), (&1.into(), &ROWS.into()), "{summary}");
    assert_eq!(summary["tables"][0]["outcomes"]["stored"], ROWS, "{summary}");
    assert!(holds_what_stands(&sites[1]).await, "{} holds what stands", sites[1].region);
    for daemon in &daemons {
        daemon.signal("TERM");
        assert_eq!(daemon.ended(), 0);
    }
}

#[tokio::test]
async fn a_cache_that_its_readers_fill_is_not_warmed() {
    let account = Azurite::shared().account();
    let site = Site::new("east", account);
    let region = crate::support::relay::region("east", "writer", &site.account.connection_string());
    let cache = format!("[region.east.cache]\nurl = \"{}\"\nmode = \"refresh-existing\"\n", site.redis.url());
    let config = crate::support::relay::Config::new(&format!("[table.orders]\n{region}{cache}"));
    let refused = config.run(&["cache", "warm", "--region", "east"], &[]);
    assert_eq!(refused.code, Some(1), "{}", refused.err);
    assert!(refused.err.contains("refresh-existing") && refused.err.contains("write-through"), "{}", refused.err);
    let unknown = config.run(&["cache", "warm", "--region", "west"], &[]);
    assert_eq!(unknown.code, Some(2), "{}", unknown.err);
}
