//! `inspect` and `status` as somebody types them at night, on real servers: a row on its way, a region that hangs, one that
//! cannot be reached though nothing happens.

use serde_json::Value;
use tablerelay::model::{RowBody, RowId, TableName};
use tablerelay::replicator::{create_missing, read_links};
use tablerelay::runtime::Runtime;
use tablerelay::settle::LinkState;
use tablerelay::writer::{Writer, WriterOptions};

use crate::support::azurite::Azurite;
use crate::support::deployment::{Site, configuration};
use crate::support::eventually;
use crate::support::relay::{Config, Daemon, Ended};

const REPLICATION: &str = "settle_window = \"15s\"\nmax_clock_skew = \"15s\"\npark_after = \"2s\"\n";

fn id(row: &str) -> RowId {
    RowId::new(TableName::new("orders").expect("a table"), "it's ünlike".into(), row.into())
}

async fn sites(accounts: [Azurite; 2]) -> (Vec<Site>, [Azurite; 2]) {
    let names = ["north", "west"].into_iter().zip(&accounts);
    let sites: Vec<Site> = names.map(|(name, azurite)| Site::new(name, azurite.account())).collect();
    for site in &sites {
        create_missing(&site.store).await.expect("Azurite creates tables");
        site.store.home().create_table(&id("").table).await.expect("Azurite creates tables");
    }
    (sites, accounts)
}

async fn write(site: &Site, row: &str, text: &str) {
    let id = id(row);
    let body = RowBody::builder(&id.partition, &id.row).string("Text", text).finish();
    let writer = Writer::new(site.store.clone(), WriterOptions::default(), Runtime::system());
    writer.insert_or_replace(&id.table, &body, None).await.expect("the region takes it");
}

fn asked(config: &Config, row: &str, more: &[&str]) -> Ended {
    let (id, mut arguments) = (id(row), vec!["inspect", "--table", "orders"]);
    arguments.extend(["--partition", id.partition.as_str(), "--row", id.row.as_str()]);
    arguments.extend(more);
    config.run(&arguments, &[])
}

fn told(config: &Config, row: &str) -> Value {
    let ended = asked(config, row, &["--output", "json"]);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    serde_json::from_str(&ended.out).expect("JSON")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_is_shown_in_every_region_with_what_happens_to_it_next() {
    let (sites, azurites) = sites([Azurite::start(), Azurite::start()]).await;
    let (north, west) = (&sites[0], &sites[1]);
    let config = configuration(&sites, REPLICATION);
    let next = |row: &str| told(&config, row)["next"].as_str().expect("a word").to_owned();

    // No daemon runs yet.
    write(west, "-1: 50% \u{1f600}", "x").await;
    let waiting = told(&config, "-1: 50% \u{1f600}");
    assert_eq!((&waiting["next"], &waiting["schema"]), (&"waiting".into(), &1.into()), "{waiting:#}");
    let sentence = waiting["sentence"].as_str().expect("a sentence");
    assert!(sentence.contains("the daemon of west has said nothing yet; start it"), "{sentence}");
    assert_eq!(waiting["regions"][1]["records"].as_array().map(Vec::len), Some(1), "{waiting:#}");
    assert_eq!(next("nothing"), "nowhere");

    let daemon = Daemon::start(&config, "west", "info", &[]);
    eventually("all are equal", || async { next("-1: 50% \u{1f600}") == "equal" }).await;
    let table = asked(&config, "-1: 50% \u{1f600}", &[]);
    assert_eq!((table.code, table.err.as_str()), (Some(0), ""));
    assert!(table.out.contains("equal everywhere, at ") && table.out.contains("; nothing waits"), "{}", table.out);
    assert!(table.out.contains("NORTH") && table.out.contains("WEST"), "{}", table.out);
    let equal = told(&config, "-1: 50% \u{1f600}");
    assert_eq!(equal["regions"][1]["cache"]["version"], equal["regions"][1]["row"]["version"], "{equal:#}");

    // North hangs: nothing waits for it yet, and the link does not flow for all that.
    azurites[0].freeze();
    let backing_off = daemon.event("link-backing-off");
    assert_eq!(backing_off["destination"], "north", "{backing_off}");
    write(west, "later", "y").await;
    daemon.event("link-parked");
    eventually("a hint waits", || async { next("later") == "parked" }).await;
    let parked = told(&config, "later");
    let sentence = parked["sentence"].as_str().expect("a sentence");
    assert!(
        sentence.contains("north cannot be read: a hint of ") && sentence.contains(" waits until it is back"),
        "{sentence}"
    );
    assert_eq!(parked["unreachable"][0]["region"], "north", "{parked:#}");
    let table = asked(&config, "later", &[]);
    assert_eq!(table.code, Some(0), "{}", table.err);
    assert!(table.err.contains("region north cannot be reached"), "{}", table.err);

    azurites[0].thaw();
    eventually("it has come through", || async { next("later") == "equal" }).await;
    let recovered = daemon.event("link-flowing");
    assert!(recovered["message"].as_str().is_some_and(|text| text.starts_with("recovered after ")), "{recovered}");
    // An application in north reads there how far north has come.
    let here = read_links(&north.store).await.expect("north answers");
    let link = here.iter().find(|link| link.source.as_str() == "west").expect("west publishes there");
    assert!(link.last_sync.is_some(), "{link:?}");
    daemon.signal("TERM");
    assert_eq!(daemon.ended(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_link_to_a_region_that_hangs_is_told_once_and_so_is_its_return() {
    let (sites, azurites) = sites([Azurite::start(), Azurite::start()]).await;
    let west = &sites[1];
    let config = configuration(&sites, REPLICATION);
    let daemon = Daemon::start(&config, "west", "info", &[]);
    let link = || async {
        let links = read_links(&west.store).await.expect("west answers");
        links.into_iter().find(|link| link.source.as_str() == "west")
    };
    eventually("Last Sync Time is known", || async { link().await.is_some_and(|link| link.last_sync.is_some()) }).await;
    let before = link().await.expect("it was there");
    assert_eq!(before.state, LinkState::Flowing);

    azurites[0].freeze();
    eventually("it is told", || async { link().await.is_some_and(|link| link.state == LinkState::BackingOff) }).await;
    eventually("Last Sync Time moves on: nothing was written", || async {
        link().await.is_some_and(|link| link.last_sync > before.last_sync && link.backlog_rows == 0)
    })
    .await;
    let status = config.run(&["status"], &[]);
    for words in ["backing-off", "no answer within", "west to north: backing-off: ", "OLDEST WAITING"] {
        assert!(status.out.contains(words), "{words}: {}", status.out);
    }
    azurites[0].thaw();
    eventually("it flows again", || async { link().await.is_some_and(|link| link.state == LinkState::Flowing) }).await;
    daemon.event("link-flowing");
    daemon.signal("KILL");
    assert_eq!(daemon.ended(), 137);
    let said = daemon.said();
    let warned = said.lines().filter(|line| line.contains("\"WARN\"") && line.contains("link-backing-off")).count();
    assert_eq!(warned, 1, "{said}");
    // Nobody tells of it any more, and that is told: its age is there from the first second on.
    let status = config.run(&["status", "--output", "json"], &[]);
    let status: Value = serde_json::from_str(&status.out).expect("JSON");
    let shown =
        status["links"].as_array().expect("links").iter().find(|link| link["source"] == "west").expect("west's");
    assert!(
        shown["published_age_seconds"].as_f64().is_some_and(|age| age < 30.0) && shown["stale"] == false,
        "{shown}"
    );
}
