//! Whether readers are to come here: how far this region is behind, what the others say of themselves, and the decision.
//!
//! All of it stands in one partition of the region's own `RelayControl`: every source publishes its link there, with how far
//! this region has what was written there, and with its own word. So it costs one query for each publication. Only of a region whose
//! word has not come for a while is its own account asked, which it publishes to as well: it may be that it cannot reach
//! us while we can reach it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::Roles;
use super::board::{ReadStatus, StatusBoard};
use super::links::{REFRESH_EVERY, read_links, through};
use crate::model::{ClosedList, PartitionKey, Region, SystemTable, Time};
use crate::planted::{Bug, planted};
use crate::runtime::Runtime;
use crate::settle::{LinkStatus, Word};
use crate::stores::{DATE_RESOLUTION, RegionStore, StoreError};
use crate::telemetry::{Event, metrics};
use crate::topology::{Door, Inbound, ReadRules, Reading, Role, View};

/// A region counts as heard of for so many publications after its last word.
const HEARD_FOR: u32 = 4;
/// After so many without a word, its own account is asked.
const ASKED_AFTER: u32 = 3;
/// For so many publications from the beginning, nothing may be known of a source yet.
const BEGINNING: u32 = 4;
/// By so many, whoever is there has said something since the beginning.
const FIRST_WORDS: u32 = 2;

/// Decides whether readers are served.
#[derive(Debug)]
pub(super) struct Readers {
    pub local: RegionStore,
    pub others: Vec<RegionStore>,
    pub rules: ReadRules,
    /// What the writers wrote must be here.
    pub roles: Arc<Roles>,
    pub board: Arc<StatusBoard>,
    pub publish_every: Duration,
    pub runtime: Runtime,
}

/// What was heard of another region.
#[derive(Debug, Clone)]
struct Heard {
    published: Time,
    word: Option<Word>,
    /// When that was news; `None` where it stood there before this daemon began.
    at: Option<Instant>,
    /// The same by the storage clock.
    then: Time,
}

#[derive(Debug, Default)]
struct Knowledge {
    inbound: Inbound,
    heard: BTreeMap<Region, Heard>,
    /// This region's own control table was read once.
    read_once: bool,
    door: Door,
}

/// What a reading of control tables found.
type Found = Vec<LinkStatus>;

impl Readers {
    /// Decides until it is stopped.
    pub async fn run(self, stop: CancellationToken) {
        let began = self.runtime.instant();
        let mut known = Knowledge::default();
        let (mut next_reading, mut reading): (_, Option<BoxFuture<'_, Result<Found, StoreError>>>) = (began, None);
        loop {
            let now = self.runtime.instant();
            if now >= next_reading && reading.is_none() {
                next_reading = now + self.publish_every;
                reading = Some(self.read(self.silent(&known, now)).boxed());
            }
            let mark = self.roles.present().mark.clone();
            self.decide(&mut known, now.duration_since(began));
            let soon = now + REFRESH_EVERY.min(self.publish_every);
            let wake = if reading.is_some() { soon } else { soon.min(next_reading) };
            let found = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                found = through(&mut reading), if reading.is_some() => found,
                // Other writers are another measure.
                () = self.roles.until_moved(&mark) => continue,
                () = tokio::time::sleep_until(wake) => continue,
            };
            reading = None;
            match found {
                Some(Ok(links)) => self.take(&mut known, links),
                Some(Err(error)) => debug!(%error, "how far this region is behind could not be read"),
                None => {}
            }
        }
    }

    /// The regions whose own accounts are to be asked.
    fn silent<'a>(&'a self, known: &Knowledge, now: Instant) -> Vec<&'a RegionStore> {
        let silent = |other: &&RegionStore| {
            let heard = known.heard.get(other.region()).and_then(|heard| heard.at);
            heard.is_none_or(|at| now.duration_since(at) > self.publish_every * ASKED_AFTER)
        };
        self.others.iter().filter(silent).collect()
    }

    /// Reads what was published here, and in the accounts of those that are silent; what one of these fails with is its trouble.
    async fn read(&self, silent: Vec<&RegionStore>) -> Result<Found, StoreError> {
        let here = timeout(self.publish_every, read_links(&self.local));
        let there = silent.into_iter().map(|other| timeout(self.publish_every, self.ask(other)));
        let (here, there) = futures::future::join(here, join_all(there)).await;
        let there = there.into_iter().filter_map(|asked| asked.ok()?.ok()?);
        let late = |_| StoreError::new(crate::stores::ErrorKind::Unreachable, "no answer until the next reading");
        Ok(here.map_err(late)??.into_iter().chain(there).collect())
    }

    /// The link from another region into this one, as it stands in that region's account.
    async fn ask(&self, other: &RegionStore) -> Result<Option<LinkStatus>, StoreError> {
        let (partition, row) =
            (PartitionKey::from(LinkStatus::PARTITION), LinkStatus::row_key(other.region(), self.local.region()));
        let row = other.home().get(&SystemTable::Control.name(), &partition, &row).await?;
        Ok(row.and_then(|row| LinkStatus::decode(&row.body).ok()))
    }

    fn take(&self, known: &mut Knowledge, links: Found) {
        let (now, then) = (self.runtime.instant(), self.storage_now());
        for link in links.into_iter().filter(|link| link.destination == *self.local.region()) {
            if let Some(time) = link.fresh_to.max(link.last_sync) {
                known.inbound.learn(&link.source, time);
            }
            let before = known.heard.get(&link.source);
            if before.is_some_and(|before| link.published <= before.published) {
                continue;
            }
            let at = (before.is_some() || known.read_once).then_some(now);
            known.heard.insert(link.source, Heard { published: link.published, word: link.word, at, then });
        }
        known.read_once = true;
    }

    fn decide(&self, known: &mut Knowledge, running: Duration) {
        let now = self.storage_now();
        let fresh_to = self.fresh_to(known, now);
        let recent = self.runtime.instant().checked_sub(self.publish_every * HEARD_FOR);
        let heard = known.heard.values().filter(|heard| heard.at.is_some() && heard.at >= recent);
        let others: Vec<Word> = heard.filter_map(|heard| heard.word).collect();
        let writer = self.roles.is_confirmed() && self.roles.role() == Role::Writer;
        let nothing_known = fresh_to == Time::EPOCH && running < self.publish_every * BEGINNING;
        // Of who is there, only what was said since the beginning counts.
        let behind = now.since(fresh_to) > self.rules.limit;
        let nobody_heard = behind && others.is_empty() && running < self.publish_every * FIRST_WORDS;
        let reading = if nothing_known || (nobody_heard && !writer) || !known.read_once {
            Reading::Unknown
        } else {
            known.door.decide(&self.rules, View { fresh_to, now, writer, others: &others })
        };
        let staleness = now.since(fresh_to);
        let region = self.local.region();
        if fresh_to > Time::EPOCH {
            metrics::staleness(region, staleness);
        }
        metrics::reads_served(region, reading.serves());
        let before = self.board.set_reading(ReadStatus { reading, fresh_to, staleness });
        if before != Some(reading) {
            self.tell(reading, staleness);
        }
    }

    fn tell(&self, reading: Reading, staleness: Duration) {
        let (region, limit, behind) = (self.local.region(), self.rules.limit, staleness.as_secs());
        match reading {
            Reading::Unknown => {}
            Reading::Fresh => info!(event = Event::ReadersServed.as_str(), %region, behind, ?limit,
                "readers are served: the region is within its limit"),
            Reading::LeastStale => warn!(event = Event::ReadersServedStale.as_str(), %region, behind, ?limit,
                "readers are served although the region is further behind than its limit: none is known to be fresher"),
            Reading::Behind | Reading::CutOff => warn!(event = Event::ReadersRefused.as_str(), %region, behind, ?limit,
                %reading, "readers are refused: the region is further behind than its limit"),
        }
    }

    /// The other regions that are writers now; all that may be, as long as none was asked for the roles: a region that is back may
    /// have lost its own to any of them.
    fn writers(&self) -> Vec<Region> {
        if !self.roles.is_confirmed() {
            return self.others.iter().map(|other| other.region().clone()).collect();
        }
        let mut writers = self.roles.writers();
        writers.retain(|region| region != self.local.region());
        writers
    }

    fn fresh_to(&self, known: &Knowledge, now: Time) -> Time {
        let writers = self.writers();
        let fresh_to = known.inbound.fresh_to(&writers, now);
        if planted(Bug::SilenceIsFresh) && fresh_to > Time::EPOCH {
            let heard = writers.iter().filter_map(|writer| Some(known.heard.get(writer)?.then)).min();
            return fresh_to + heard.map(|then| now.since(then)).unwrap_or_default();
        }
        fresh_to
    }

    /// At the latest: a limit that holds must not be thought kept for the rounding of a clock.
    fn storage_now(&self) -> Time {
        let now = self.local.home().clock().at(self.runtime.instant());
        now.map_or_else(|| self.runtime.now(), |now| now + DATE_RESOLUTION)
    }
}
