//! `status`: every link, from anywhere, since both ends of a link publish its state.

mod silence;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;

use self::silence::Unknown;
use super::arguments::{Output, Status};
use super::exit::Failure;
use super::output;
use super::regions::{self, Unreachable};
use crate::model::{ClosedList, PartitionKey, Region, SystemTable, Time};
use crate::ops::{Collection, read_collection};
use crate::runtime::Runtime;
use crate::settle::{HeldBy, LinkState, LinkStatus, Watermark};
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
    /// Links of the configuration that nothing is known of, each with the reason.
    unknown: Vec<Unknown>,
    /// What the last sweep over the tombstones of each region has found, where one was.
    tombstones: Vec<Collection>,
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
    /// Its ends that could not be read: there may be newer state there.
    unread: Vec<Region>,
    remedy: &'static str,
}

fn seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

/// What to do where a daemon says nothing in its own region, which could be read.
const START_IT: &str = "see whether the daemon of the source runs, and start it (docs/runbook.md#daemon-down)";

/// What to do where its own region could not be read: it may run and reach nobody, or be gone with its region.
const REACH_IT: &str =
    "the region of the source cannot be read, so nobody knows whether its daemon runs; see why, then look again";

impl Shown {
    fn of(link: LinkStatus, at: Time, unreached: &BTreeSet<&Region>) -> Self {
        let age = at.since(link.published);
        let stale = age > LinkStatus::STALE;
        let ends = [&link.source, &link.destination].into_iter();
        let unread: Vec<Region> = ends.filter(|end| unreached.contains(end)).cloned().collect();
        let remedy = match stale {
            true if unread.contains(&link.source) => REACH_IT,
            true => START_IT,
            false => link.state.remedy(),
        };
        Self { link, age, stale, unread, remedy }
    }

    /// What is to be said of it besides, where it is not as it should be.
    fn note(&self) -> Option<String> {
        let LinkStatus { source, destination, state, .. } = &self.link;
        let what = match (self.stale, state) {
            (true, _) if self.unread.is_empty() => format!("nothing was published for {}", output::age(self.age)),
            (true, _) => format!("the last that could be read of it is {} old", output::age(self.age)),
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

impl Link {
    fn of(source: &Region, destination: &Region) -> Self {
        Self { source: source.clone(), destination: destination.clone() }
    }
}

pub(super) async fn status(command: &Status) -> Result<(), Failure> {
    let (stores, copies) = regions::stores_and_copies(&command.config.file)?;
    let report = collect(&stores, &copies, Runtime::system().now()).await;
    match command.output {
        Output::Json => output::print_json(&report)?,
        Output::Table => output::print(&report.render())?,
    }
    regions::report(&report.unreachable, stores.len() + copies.len())?;
    report.concluded()
}

async fn collect(regions: &[RegionStore], copies: &[RegionStore], at: Time) -> Report {
    let stores = [regions, copies].concat();
    let (answered, unreachable) = regions::ask(&stores, |store| async move {
        let partition = PartitionKey::from(LinkStatus::PARTITION);
        let query = Query::new(Scope::Partition { partition, from: None, through: None });
        // As many as the regions squared: a few.
        let links = regions::rows(store, SystemTable::Control, query, 100_000).await?;
        Ok((links.0, read_collection(store).await?))
    })
    .await;
    // Every region has a link to every other one, and to every copy.
    let names = |stores| <[RegionStore]>::iter(stores).map(RegionStore::region);
    let pairs = names(regions).flat_map(|source| names(&stores).map(move |destination| (source, destination)));
    let links: BTreeSet<Link> =
        pairs.filter(|(source, destination)| source != destination).map(|(a, b)| Link::of(a, b)).collect();
    let (mut known, mut garbled) = (BTreeMap::<Link, LinkStatus>::new(), BTreeSet::new());
    for row in answered.iter().flat_map(|(_, (rows, _))| rows) {
        let link = match LinkStatus::decode(&row.body) {
            Ok(link) => link,
            Err(error) => {
                let event = Event::RowUnreadable;
                tracing::warn!(event = event.as_str(), %error, "a link's state cannot be read; is a newer version running?");
                garbled.insert(row.body.row());
                continue;
            }
        };
        let ends = Link::of(&link.source, &link.destination);
        // What a region that is no longer configured has left is of no interest.
        let newer = known.get(&ends).is_none_or(|known| link.published > known.published);
        if links.contains(&ends) && newer {
            known.insert(ends, link);
        }
    }
    let unreached: BTreeSet<&Region> = unreachable.iter().map(|unreachable| &unreachable.region).collect();
    let unknown = links.into_iter().filter(|link| !known.contains_key(link)).map(|link| {
        let garbled = garbled.contains(&LinkStatus::row_key(&link.source, &link.destination));
        Unknown::of(link, &unreached, garbled)
    });
    let unknown = unknown.collect();
    let links = known.into_values().map(|link| Shown::of(link, at, &unreached)).collect();
    let tombstones = answered.into_iter().filter_map(|(_, (_, collection))| collection).collect();
    Report { schema: 1, at, links, unknown, tombstones, unreachable }
}

/// What there is to say of a region's tombstones.
fn graves(collection: &Collection) -> String {
    let Collection { region, watermark: Watermark { before, held_by, between }, overdue, .. } = collection;
    let between = between.iter().map(Region::as_str).collect::<Vec<_>>().join(" and ");
    let may = match before {
        Some(before) => format!("those before {} may go", output::time(*before)),
        None => "none may go".to_owned(),
    };
    let held = match held_by {
        HeldBy::MinimumAge => String::new(),
        held_by => format!(", held by {held_by} ({between}): {}; {}", held_by.meaning(), held_by.remedy()),
    };
    let overdue = if *overdue > 0 { format!(", {overdue} of them overdue") } else { String::new() };
    format!("{region}: {} tombstones{overdue}; {may}{held}", collection.standing())
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
                format!("{}{}", link.destination, if link.copy { " (copy)" } else { "" }),
                link.state.to_string(),
                output::duration(link.lag),
                time(link.last_sync),
                link.backlog_rows.to_string(),
                time(link.oldest_waiting),
                format!("{} ago{}", output::age(*age), if *stale { " (stale)" } else { "" }),
                link.last_error.clone().unwrap_or_default(),
            ]);
        }
        for unknown in &self.unknown {
            let Link { source, destination } = &unknown.link;
            let dashes = std::iter::repeat_n("-".to_owned(), 4);
            let ends = [source.to_string(), destination.to_string(), "unknown".to_owned()];
            let published = if unknown.is_certain() { "never" } else { "-" };
            table.add_row(ends.into_iter().chain(dashes).chain([published.to_owned(), String::new()]));
        }
        let mut text = output::render(&table);
        let unknown = self.unknown.iter().map(Unknown::note);
        let tombstones = self.tombstones.iter().map(graves);
        for note in self.links.iter().filter_map(Shown::note).chain(unknown).chain(tombstones) {
            text.push_str(&format!("\n{note}"));
        }
        text
    }

    /// Whether it tells of every link what there is to know. One that is in trouble is told of, and so is one that nobody has
    /// ever told of; one whose state may stand where it could not be read is not.
    ///
    /// # Errors
    /// Where it does not.
    fn concluded(&self) -> Result<(), Failure> {
        let untold = self.unknown.iter().filter(|unknown| !unknown.is_certain()).count();
        if untold == 0 {
            return Ok(());
        }
        let all = self.links.len() + self.unknown.len();
        Err(anyhow::anyhow!("the state of {untold} of {all} links could not be read").into())
    }
}
