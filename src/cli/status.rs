//! `status`: every link, from anywhere, since both ends of a link publish its state.

use serde::Serialize;
use std::collections::BTreeMap;

use super::arguments::{Output, Status};
use super::exit::Failure;
use super::output;
use super::regions::{self, Unreachable};
use crate::model::{ClosedList, PartitionKey, Region, SystemTable, Time};
use crate::runtime::Runtime;
use crate::settle::LinkStatus;
use crate::stores::{Query, RegionStore, Scope};
use crate::telemetry::Event;

/// What `status --output json` prints.
#[derive(Debug, Serialize)]
struct Report {
    schema: u32,
    /// By source, then destination.
    links: Vec<LinkStatus>,
    /// Links of the configuration that nobody who answered knows of.
    unknown: Vec<Link>,
    unreachable: Vec<Unreachable>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Link {
    source: Region,
    destination: Region,
}

pub(super) async fn status(command: &Status) -> Result<(), Failure> {
    let stores = regions::stores(&command.config.file)?;
    let report = collect(&stores).await;
    match command.output {
        Output::Json => output::print_json(&report)?,
        Output::Table => output::print(&report.render(Runtime::system().now()))?,
    }
    regions::report(&report.unreachable, stores.len())
}

async fn collect(stores: &[RegionStore]) -> Report {
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
    Report { schema: 1, links: known.into_values().collect(), unknown, unreachable }
}

impl Report {
    fn render(&self, now: Time) -> String {
        if self.links.is_empty() && self.unknown.is_empty() {
            return "There is one region, and so no link.".to_owned();
        }
        let heads = ["SOURCE", "DESTINATION", "STATE", "LAG", "LAST SYNC TIME", "WAITING", "PUBLISHED", "LAST ERROR"];
        let mut table = output::table(&heads);
        for link in &self.links {
            let age = now.since(link.published);
            let published = output::age(age);
            table.add_row([
                link.source.to_string(),
                link.destination.to_string(),
                link.state.to_string(),
                output::duration(link.lag),
                link.last_sync.map_or_else(|| "-".to_owned(), output::time),
                link.backlog_rows.to_string(),
                format!("{published} ago{}", if age > LinkStatus::STALE { " (stale)" } else { "" }),
                link.last_error.clone().unwrap_or_default(),
            ]);
        }
        for Link { source, destination } in &self.unknown {
            let dash = || "-".to_owned();
            let never = "never: is the daemon of the source running?".to_owned();
            let ends = [source.to_string(), destination.to_string()];
            table.add_row(ends.into_iter().chain(["unknown".to_owned(), dash(), dash(), dash(), never, String::new()]));
        }
        output::render(&table)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::AccountName;
    use crate::settle::LinkState;
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
        let report = collect(&[east, north, west]).await;
        insta::assert_snapshot!(report.render(Time::from_unix_seconds(2_025)), @r#"
        SOURCE  DESTINATION  STATE        LAG      LAST SYNC TIME        WAITING  PUBLISHED                                    LAST ERROR
        north   west         flowing      0.040 s  1970-01-01T00:33:18Z  0        25 s ago
        west    north        backing-off  0.040 s  1970-01-01T00:33:08Z  0        35 s ago (stale)                             503: busy
        east    north        unknown      -        -                     -        never: is the daemon of the source running?
        east    west         unknown      -        -                     -        never: is the daemon of the source running?
        north   east         unknown      -        -                     -        never: is the daemon of the source running?
        west    east         unknown      -        -                     -        never: is the daemon of the source running?
        "#);
        assert_eq!(report.unreachable.len(), 1, "{report:?}");
        assert_eq!(report.unreachable[0].region.as_str(), "north");
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!((&json["schema"], &json["links"][1]["state"]), (&1.into(), &"backing-off".into()), "{json:#}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_region_where_no_daemon_has_run_is_empty_and_not_unreachable() {
        let ((_, west), (_, north)) = (region("west"), region("north"));
        let report = collect(&[north, west]).await;
        assert_eq!((report.links.len(), report.unknown.len(), report.unreachable.len()), (0, 2, 0), "{report:?}");
        assert!(report.render(Time::EPOCH).contains("is the daemon of the source running?"));
    }
}
