//! A copy on real servers: configured, filled by the daemon, compared, and restored from.

use std::time::Duration;

use serde_json::Value;
use tablerelay::model::{RowBody, TableName};
use tablerelay::runtime::Runtime;
use tablerelay::stores::{Condition, Operation, Query, Scope};
use tablerelay::writer::{Writer, WriterOptions};

use crate::support::azurite::Azurite;
use crate::support::deployment::{Site, warnings};
use crate::support::eventually;
use crate::support::relay::{Config, Daemon, Ended, region};

const REPLICATION: &str = "settle_window = \"4s\"\nmax_clock_skew = \"2s\"\n";

fn table() -> TableName {
    TableName::new("orders").expect("a table")
}

/// The rows of a site, each with its text and its secret.
async fn held(site: &Site) -> Held {
    let page = match site.store.home().query(&table(), &Query::new(Scope::Table)).await {
        Ok(page) => page,
        // Nothing has come there yet.
        Err(_) => return Vec::new(),
    };
    let rows = page.rows.into_iter().map(|row| row.body);
    rows.map(|row| (format!("{}/{}", row.partition(), row.row()), row.string("Text"), row.string("Secret"))).collect()
}

type Held = Vec<(String, Option<String>, Option<String>)>;

fn config(sites: &[Site]) -> Config {
    let of = |site: &Site| region(site.region.as_str(), "writer", &site.account.connection_string());
    let regions: String = sites[..2].iter().map(of).collect();
    Config::new(&format!(
        "[table.orders]\n[replication]\n{REPLICATION}{regions}[copy.backup]\npartitions = [\"a*\"]\nwithout = [\"Secret\"]\n\
         [copy.backup.account.one]\nconnection_string = \"{}\"\n",
        sites[2].account.connection_string()
    ))
}

fn run(config: &Config, arguments: &[&str]) -> Ended {
    let ended = config.run(arguments, &[]);
    println!("{arguments:?}: {:?}\n{}\n{}", ended.code, ended.out, ended.err);
    ended
}

fn writer(site: &Site) -> Writer {
    let (settle_window, max_clock_skew) = (Duration::from_secs(4), Duration::from_secs(2));
    let options = WriterOptions { settle_window, max_clock_skew, ..WriterOptions::default() };
    Writer::new(site.store.clone(), options, Runtime::system())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configured_copy_is_filled_compared_and_restored_from() {
    let sites: Vec<Site> =
        ["west", "north", "backup"].into_iter().map(|name| Site::new(name, Azurite::shared().account())).collect();
    let (west, north, backup) = (&sites[0], &sites[1], &sites[2]);
    let config = config(&sites);
    let checked = run(&config, &["config", "check"]);
    assert!(checked.code == Some(0) && checked.out.contains("north (writer), west (writer), backup (copy)"));
    let daemons = ["west", "north"].map(|region| Daemon::start(&config, region, "info", &[]));
    for site in [west, north] {
        site.store.home().create_table(&table()).await.expect("Azurite creates tables");
    }
    for (site, partition, row) in [(west, "a1", "one"), (north, "a2", "two"), (west, "b", "three")] {
        let body = RowBody::builder(&partition.into(), &row.into()).string("Text", row).string("Secret", "s").finish();
        writer(site).insert(&table(), &body, None).await.expect("Azurite takes it");
    }
    let copied = |key: &str, text: &str| (key.to_owned(), Some(text.to_owned()), None);
    let expected = vec![copied("a1/one", "one"), copied("a2/two", "two")];
    eventually("the copy has what its filter takes", || async { held(backup).await == expected }).await;
    eventually("both regions have all", || async { held(west).await.len() == 3 && held(north).await.len() == 3 }).await;

    // Deleted in one region, gone in the other, kept in the copy.
    let (partition, row) = ("a2".into(), "two".into());
    writer(west).delete(&table(), &partition, &row, Condition::Present, None).await.expect("Azurite takes it");
    eventually("it is gone", || async { held(west).await.len() == 2 && held(north).await.len() == 2 }).await;
    assert_eq!(held(backup).await, expected, "{}", daemons.iter().map(warnings).collect::<String>());
    is_compared_and_mended(&config, backup, &expected).await;
    eventually("status knows the links to the copy", || async {
        let status = run(&config, &["status"]);
        status.code == Some(0) && status.out.matches("backup (copy)").count() == 2
    })
    .await;
    is_restored(&config, north, west).await;
}

/// What somebody changed in the copy is told, and made as it was.
async fn is_compared_and_mended(config: &Config, backup: &Site, expected: &Held) {
    let verify = ["verify", "--from", "west", "--to", "backup", "--content"];
    let verified = run(config, &[&verify[..], &["--output", "json"]].concat());
    let told: Value = serde_json::from_str(&verified.out).expect("JSON");
    let counts = &told["tables"][0];
    assert_eq!((verified.code, &counts["rows"], &counts["kept"]), (Some(0), &1.into(), &1.into()), "{told:#}");
    let spoiled = RowBody::builder(&"a1".into(), &"one".into()).string("Text", "spoiled").finish();
    let spoil = Operation::Merge(spoiled, Condition::Present);
    backup.store.home().write(&table(), &spoil).await.expect("Azurite takes it");
    assert_eq!(run(config, &verify).code, Some(3));
    assert_eq!(run(config, &[&verify[..], &["--repair"]].concat()).code, Some(0));
    assert_eq!(held(backup).await, *expected);
}

/// What was deleted is planned, written once, and comes to the other region.
async fn is_restored(config: &Config, region: &Site, other: &Site) {
    let restore = ["restore", "--from", "backup", "--to", "north", "--table", "orders"];
    let planned = run(config, &[&restore[..], &["--dry-run"]].concat());
    assert!(planned.code == Some(0) && planned.out.contains("1 undeleted, 1 equal"), "{}", planned.out);
    assert!(planned.out.contains("a dry run") && held(region).await.len() == 2, "nothing was written");
    let done = run(config, &[&restore[..], &["--output", "json"]].concat());
    let told: Value = serde_json::from_str(&done.out).expect("JSON");
    assert_eq!(
        (done.code, &told["schema"], &told["outcomes"]["undeleted"]),
        (Some(0), &1.into(), &1.into()),
        "{told:#}"
    );
    let back = ("a2/two".to_owned(), Some("two".to_owned()), None);
    eventually("the other region has it again", || async { held(other).await.contains(&back) }).await;
    let again = run(config, &restore);
    assert!(again.code == Some(0) && again.out.contains("orders of backup to north: 2 equal; 2 rows"), "{}", again.out);
}

#[test]
fn what_is_no_copy_and_what_is_no_region_is_told() {
    let sites: Vec<Site> =
        ["west", "north", "backup"].into_iter().map(|name| Site::new(name, Azurite::shared().account())).collect();
    let config = config(&sites);
    let no_copy = "there is no copy west; the configuration has backup";
    for (arguments, words) in [
        (&["restore", "--from", "west", "--to", "north", "--table", "orders"][..], no_copy),
        (&["restore", "--from", "backup", "--to", "backup", "--table", "orders"], "there is no region backup"),
        (&["verify", "--from", "backup", "--to", "west"], "there is no region backup"),
        (&["failover", "--to", "backup"], "backup"),
    ] {
        let ended = run(&config, arguments);
        assert!(ended.code == Some(2) && ended.err.contains(words), "{arguments:?}: {:?} {}", ended.code, ended.err);
    }
}
