//! What daemons ask of the stores while nothing happens, by their own metrics.

use tablerelay::model::RowBody;
use tablerelay::runtime::Runtime;
use tablerelay::writer::{Writer, WriterOptions};
use tokio::time::Instant;

use super::{Pair, id, open_records, row, table};
use crate::support::eventually;
use crate::support::relay::Daemon;

/// Most requests a second of one daemon, all regions together.
const MOST: f64 = 20.0;
/// Seconds of quiet before counting begins, so that the pace is that of idleness, and seconds to count.
const QUIET: f64 = 5.0;
const SPAN: f64 = 12.0;

/// What a daemon's `/metrics` says at one moment.
struct Sample {
    taken: Instant,
    requests: f64,
    /// The lowest Last Sync Time of its links: it moves on while nothing happens, and so tells how long that has been.
    last_sync: f64,
}

impl Sample {
    async fn of(daemon: &Daemon) -> Self {
        let taken = Instant::now();
        let reply = reqwest::get(format!("{}/metrics", daemon.url)).await.expect("the endpoint is up");
        let text = reply.text().await.expect("a reply has a body");
        let values = |name: &str| {
            let lines = text.lines().filter(move |line| line.starts_with(&format!("{name}{{")));
            let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
            values.collect::<Vec<_>>()
        };
        let last_sync = values("tablerelay_last_sync_timestamp_seconds").into_iter().fold(f64::INFINITY, f64::min);
        Self { taken, requests: values("tablerelay_store_requests_total").iter().sum(), last_sync }
    }
}

/// Waits until the Last Sync Time of a daemon's links has come past `seconds`; returns what its metrics say then.
async fn eventually_past(daemon: &Daemon, seconds: f64) -> Sample {
    eventually("Last Sync Time moves on", || async {
        let sample = Sample::of(daemon).await;
        sample.last_sync.is_finite() && sample.last_sync > seconds
    })
    .await;
    Sample::of(daemon).await
}

#[tokio::test]
async fn an_idle_daemon_asks_for_at_most_twenty_things_a_second() {
    let pair = Pair::start(&[]).await;
    // They have worked before.
    for site in [&pair.source, &pair.destination] {
        let writer = Writer::new(site.store.clone(), WriterOptions::default(), Runtime::system());
        for n in 0..8 {
            let id = id(site.region.as_str(), &n.to_string());
            let body = RowBody::builder(&id.partition, &id.row).string("Text", "written").finish();
            writer.insert(&table(), &body, None).await.expect("the region takes it");
        }
    }
    for (site, other) in [(&pair.source, &pair.destination), (&pair.destination, &pair.source)] {
        let last = id(other.region.as_str(), "7");
        eventually("the last row has arrived", || async { row(site, &last).await.is_some() }).await;
        eventually("every record has ended", || async { open_records(site).await == 0 }).await;
    }
    let now = Runtime::system().now().unix_seconds();
    let counted = pair.daemons.iter().map(|daemon| async move {
        let begun = eventually_past(daemon, now + QUIET).await;
        let ended = eventually_past(daemon, begun.last_sync + SPAN).await;
        let (requests, seconds) = (ended.requests - begun.requests, (ended.taken - begun.taken).as_secs_f64());
        println!("{requests} requests in {seconds:.1} s: {:.1} a second", requests / seconds);
        (requests, seconds)
    });
    for (requests, seconds) in futures::future::join_all(counted).await {
        assert!(requests > 0.0, "they look after their feeds even so");
        assert!(requests <= MOST * seconds, "{requests} requests in {seconds:.1} s");
    }
    pair.end().await;
}
