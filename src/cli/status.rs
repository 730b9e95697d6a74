//! `status`: every link, from anywhere, since both ends of a link publish its state.

use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

use super::arguments::{Output, Status};
use super::exit::Failure;
use super::output;
use super::regions::{self, Unreachable};
use crate::model::{ClosedList, PartitionKey, Region, SystemTable, Time};
use crate::runtime::Runtime;
use crate::settle::{LinkState, LinkStatus};
use crate::stores::{Query, RegionStore, Scope};
use crate::telemetry::Event;

/// What `status --output json` prints.
#[derive(Debug, Serialize)]
struct Report {
    schema: u32,
    /// When it was asked, by this machine's clock.
    at: Time,
    /// By source, then destination.
    links: Vec<Shown>,
    /// Links of the configuration that nobody who answered knows of.
    unknown: Vec<Link>,
    unreachable: Vec<Unreachable>,
}

/// A link as it is printed.
#[derive(Debug, Serialize)]
struct Shown {
    #[serde(flatten)]
    link: LinkStatus,
    #[serde(rename = "published_age_seconds", serialize_with = "seconds")]
    age: Duration,
    /// What was published is so old that its daemon may be gone; then nobody knows how the link does.
    stale: bool,
    remedy: &'static str,
}

fn seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

/// What to do where a daemon says nothing.
const START_IT: &str = "see whether the daemon of the source runs, and start it (docs/runbook.md#daemon-down)";

impl Shown {
    fn of(link: LinkStatus, at: Time) -> Self {
        let age = at.since(link.published);
        let stale = age > LinkStatus::STALE;
        let remedy = if stale { START_IT } else { link.state.remedy() };
        Self { link, age, stale, remedy }
    }

    /// What is to be said of it besides, where it is not as it should be.
    fn note(&self) -> Option<String> {
        let LinkStatus { source, destination, state, .. } = &self.link;
        let what = match (self.stale, state) {
            (true, _) => format!("nothing was published for {}", output::age(self.age)),
            (false, LinkState::Flowing) => return None,
            (false, state) => format!("{state}: {}", state.meaning()),
        };
        Some(format!("{source} to {destination}: {what}; {}", self.remedy))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Link {
    source: Region,
    destination: Region,
}

pub(super) async fn status(command: &Status) -> Result<(), Failure> {
    let stores = regions::stores(&command.config.file)?;
    let report = collect(&stores, Runtime::system().now()).await;
    match command.output {
        Output::Json => output::print_json(&report)?,
        Output::Table => output::print(&report.render())?,
    }
    regions::report(&report.unreachable, stores.len())
}

async fn collect(stores: &[RegionStore], at: Time) -> Report {
    let (answered, unreachable) = regions::ask(stores, |store| async move {
        let partition = PartitionKey::from(LinkStatus::PARTITION);
        let query = Query::new(Scope::Partition { partition, from: None, through: None });
        // As many as the regions squared: a few.
        regions::rows(store, SystemTable::Control, query, 100_000).await
    })
    .await;
    let mut links = BTreeMap::new();
    let mut known: BTreeMap<Link, LinkStatus> = BTreeMap::new();
    for source in stores {
        for destination in stores.iter().filter(|other| other.region() != source.region()) {
            links.insert(Link { source: source.region().clone(), destination: destination.region().clone() }, ());
        }
    }
    for row in answered.iter().flat_map(|(_, (rows, _))| rows) {
        let link = match LinkStatus::decode(&row.body) {
            Ok(link) => link,
            Err(error) => {
                let event = Event::RowUnreadable;
                tracing::warn!(event = event.as_str(), %error, "a link's state cannot be read; is a newer version running?");
                continue;
            }
        };
        let ends = Link { source: link.source.clone(), destination: link.destination.clone() };
        // What a region that is no longer configured has left is of no interest.
        let newer = known.get(&ends).is_none_or(|known| link.published > known.published);
        if links.contains_key(&ends) && newer {
            known.insert(ends, link);
        }
    }
    let unknown = links.into_keys().filter(|link| !known.contains_key(link)).collect();
    let links = known.into_values().map(|link| Shown::of(link, at)).collect();
    Report { schema: 1, at, links, unknown, unreachable }
}

impl Report {
    fn render(&self) -> String {
        if self.links.is_empty() && self.unknown.is_empty() {
            return "There is one region, and so no link.".to_owned();
        }
        let heads = [
            "SOURCE",
            "DESTINATION",
            "STATE",
            "LAG",
            "LAST SYNC TIME",
            "WAITING",
            "OLDEST WAITING",
            "PUBLISHED",
            "LAST ERROR",
        ];
        let mut table = output::table(&heads);
        let time = |time: Option<Time>| time.map_or_else(|| "-".to_owned(), output::time);
        for Shown { link, age, stale, .. } in &self.links {
            table.add_row([
                link.source.to_string(),
                link.destination.to_string(),
                link.state.to_string(),
                output::duration(link.lag),
                time(link.last_sync),
                link.backlog_rows.to_string(),
                time(link.oldest_waiting),
                format!("{} ago{}", output::age(*age), if *stale { " (stale)" } else { "" }),
                link.last_error.clone().unwrap_or_default(),
            ]);
        }
        for Link { source, destination } in &self.unknown {
            let dashes = std::iter::repeat_n("-".to_owned(), 4);
            let ends = [source.to_string(), destination.to_string(), "unknown".to_owned()];
            table.add_row(ends.into_iter().chain(dashes).chain(["never".to_owned(), String::new()]));
        }
        let mut text = output::render(&table);
        let unknown = (!self.unknown.is_empty()).then(|| format!("unknown: nobody ever told of the link; {START_IT}"));
        for note in self.links.iter().filter_map(Shown::note).chain(unknown) {
            text.push_str(&format!("\n{note}"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::AccountName;
    use crate::stores::memory::MemoryTables;
    use crate::stores::{Account, Operation};

    fn region(name: &str) -> (std::sync::Arc<MemoryTables>, RegionStore) {
        let runtime = Runtime::simulated(Time::from_unix_seconds(1_600_000_000), 1);
        let name = Region::new(name).unwrap();
        let tables = MemoryTables::new(name.clone(), AccountName::new("one").unwrap(), runtime);
        (tables.clone(), RegionStore::new(name, vec![Account { tables, queue: None }]))
    }

    fn link(source: &str, destination: &str, published: i64) -> LinkStatus {
        LinkStatus {
            source: Region::new(source).unwrap(),
            destination: Region::new(destination).unwrap(),
            state: LinkState::Flowing,
            last_sync: Some(Time::from_unix_seconds(published - 2)),
            fresh_to: None,
            word: None,
            lag: Duration::from_millis(40),
            backlog_rows: 0,
            oldest_waiting: None,
            last_error: None,
            published: Time::from_unix_seconds(published),
        }
    }

    async fn publish(store: &RegionStore, links: &[LinkStatus]) {
        let control = SystemTable::Control.name();
        store.home().create_table(&control).await.unwrap();
        for link in links {
            store.home().write(&control, &Operation::Insert(link.encode())).await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_newest_word_on_each_link_counts_whoever_has_it() {
        let ((_, west), (north_tables, north), (_, east)) = (region("west"), region("north"), region("east"));
        publish(&west, &[link("west", "north", 1_000), link("north", "west", 2_000), link("gone", "west", 2_000)])
            .await;
        let failing = LinkState::BackingOff;
        let newer = LinkStatus { state: failing, last_error: Some("503: busy".into()), ..link("west", "north", 1_990) };
        publish(&east, &[newer, link("north", "west", 1_500)]).await;
        north_tables.faults().cut(true);
        let report = collect(&[east, north, west], Time::from_unix_seconds(2_025)).await;
        insta::assert_snapshot!(report.render(), @r#"
        SOURCE  DESTINATION  STATE        LAG      LAST SYNC TIME        WAITING  OLDEST WAITING  PUBLISHED         LAST ERROR
        north   west         flowing      0.040 s  1970-01-01T00:33:18Z  0        -               25 s ago
        west    north        backing-off  0.040 s  1970-01-01T00:33:08Z  0        -               35 s ago (stale)  503: busy
        east    north        unknown      -        -                     -        -               never
        east    west         unknown      -        -                     -        -               never
        north   east         unknown      -        -                     -        -               never
        west    east         unknown      -        -                     -        -               never
        west to north: nothing was published for 35 s; see whether the daemon of the source runs, and start it (docs/runbook.md#daemon-down)
        unknown: nobody ever told of the link; see whether the daemon of the source runs, and start it (docs/runbook.md#daemon-down)
        "#);
        assert_eq!(report.unreachable.len(), 1, "{report:?}");
        assert_eq!(report.unreachable[0].region.as_str(), "north");
        let json = serde_json::to_value(&report).unwrap();
        let (fresh, stale) = (&json["links"][0], &json["links"][1]);
        assert_eq!((&json["schema"], &stale["state"]), (&1.into(), &"backing-off".into()), "{json:#}");
        assert_eq!((&stale["stale"], &stale["published_age_seconds"]), (&true.into(), &35.0.into()), "{json:#}");
        assert_eq!((&fresh["stale"], &fresh["remedy"]), (&false.into(), &"none".into()), "{json:#}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_region_where_no_daemon_has_run_is_empty_and_not_unreachable() {
        let ((_, west), (_, north)) = (region("west"), region("north"));
        let report = collect(&[north, west], Time::EPOCH).await;
        assert_eq!((report.links.len(), report.unknown.len(), report.unreachable.len()), (0, 2, 0), "{report:?}");
        assert!(report.render().contains("see whether the daemon of the source runs"));
    }
}
