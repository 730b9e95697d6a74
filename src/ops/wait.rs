//! Waiting until a region has a write: to read what one wrote, wherever one reads next.
//!
//! For one row, its row and tombstone are read there. For everything up to a version, Last Sync Time of the link that leads there
//! from the version's region is read, as both ends publish it. Each by a bounded number of reads: the pauses between two of them
//! double, and nothing is read after the deadline.

use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::model::{PartitionKey, Region, RowId, SystemTable, Time, Version};
use crate::planted::{Bug, planted};
use crate::runtime::Runtime;
use crate::settle::LinkStatus;
use crate::stores::{ErrorKind, RegionStore, StoreError};
use crate::writer::{LookError, Stands, reached};

/// The first pause and the longest one while a row is waited for.
const ROW: (Duration, Duration) = (Duration::from_millis(40), Duration::from_secs(1));
/// The same while Last Sync Time is, which is published every few seconds.
const LINK: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(2));
/// A region that does not answer is asked for so long at a time.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is waited for.
#[derive(Debug, Clone)]
pub struct Wait {
    /// The version that a write was given.
    pub version: Version,
    /// The region that is to have it.
    pub region: RegionStore,
    /// One row; without it, everything that was announced in the version's region before it.
    pub row: Option<RowId>,
    /// The region that issued the version, where it is another one and no row is given.
    pub source: Option<RegionStore>,
    /// How long.
    pub within: Duration,
    /// Clock and chance.
    pub runtime: Runtime,
}

/// What ended the waiting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "by", rename_all = "kebab-case")]
pub enum Reached {
    /// The row stands there with this version.
    Row {
        /// The version that stands, which may be above the one that was waited for.
        #[serde(rename = "stands")]
        version: Version,
    },
    /// The row is absent there, with a tombstone of this version.
    Tombstone {
        /// The version that stands, which may be above the one that was waited for.
        #[serde(rename = "stands")]
        version: Version,
    },
    /// Last Sync Time of the link has passed the version.
    LastSync,
    /// It is the region that issued the version: what was acknowledged there is there.
    Source,
}

/// How a wait ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Waited {
    /// Whether the region has it.
    pub reached: bool,
    /// By what that is known.
    #[serde(flatten)]
    pub by: Option<Reached>,
    /// Last Sync Time of the link when it was last looked at.
    pub last_sync: Option<Time>,
    /// How long it took.
    pub waited_seconds: f64,
    /// How often was looked.
    pub looks: u32,
    /// What the last look failed with, where the deadline came before another.
    pub error: Option<String>,
}

impl Wait {
    /// Waits until the region has it, at most for as long as it may take.
    pub async fn run(&self) -> Waited {
        let began = self.runtime.instant();
        let deadline = began + self.within;
        let mut waited =
            Waited { reached: false, by: None, last_sync: None, waited_seconds: 0.0, looks: 0, error: None };
        let (first, longest) = if self.row.is_some() { ROW } else { LINK };
        while !waited.reached {
            waited.looks += 1;
            let latest = self.runtime.instant() + PATIENCE;
            // Who gives no time asks how it is now: that is one look.
            let until = if self.within.is_zero() { latest } else { deadline.min(latest) };
            match timeout_at(until, self.look(&mut waited.last_sync)).await {
                Ok(Ok(by)) => (waited.reached, waited.by, waited.error) = (by.is_some(), by, None),
                Ok(Err(error)) => waited.error = Some(error.to_string()),
                Err(_) => waited.error = Some("no answer in time".to_owned()),
            }
            let pause = first.saturating_mul(1 << (waited.looks - 1).min(8)).min(longest);
            if waited.reached || !self.pause(pause, deadline).await {
                break;
            }
        }
        waited.waited_seconds = (self.runtime.instant() - began).as_secs_f64();
        waited
    }

    /// Waits before the next look; `false` where the deadline comes first. The last look is just before the deadline.
    async fn pause(&self, pause: Duration, deadline: Instant) -> bool {
        let now = self.runtime.instant();
        if now >= deadline {
            return false;
        }
        sleep_until((now + pause / 2 + self.runtime.jitter(pause / 2)).min(deadline)).await;
        self.runtime.instant() < deadline
    }

    async fn look(&self, last_sync: &mut Option<Time>) -> Result<Option<Reached>, LookError> {
        if let Some(RowId { table, partition, row }) = &self.row {
            self.region.keep_up(PATIENCE).await?;
            let rows = [row.clone()].into();
            let there = reached(&self.region, table, partition, &rows, &self.version).await?;
            return Ok(there.into_iter().next().map(|(_, stands)| match stands {
                Stands::Row(version) => Reached::Row { version },
                Stands::Deleted(version) => Reached::Tombstone { version },
            }));
        }
        let Some(source) = &self.source else { return Ok(Some(Reached::Source)) };
        let link = match link(&self.region, source.region(), self.region.region()).await {
            // Both ends publish it: the other one may be reached.
            Err(_) => link(source, source.region(), self.region.region()).await?,
            link => link?,
        };
        *last_sync = link.and_then(|link| link.last_sync).max(*last_sync);
        let passed = last_sync.is_some_and(|last_sync| last_sync > self.version.time());
        Ok(passed.then_some(Reached::LastSync))
    }
}

/// The state of a link, as it stands in one region's account.
async fn link(at: &RegionStore, source: &Region, destination: &Region) -> Result<Option<LinkStatus>, StoreError> {
    let (source, destination) = if planted(Bug::WrongLink) { (destination, source) } else { (source, destination) };
    let key = LinkStatus::row_key(source, destination);
    let row = match at.home().get(&SystemTable::Control.name(), &PartitionKey::from(LinkStatus::PARTITION), &key).await
    {
        // No daemon has run there yet.
        Err(error) if error.kind == ErrorKind::NoTable => None,
        row => row?,
    };
    Ok(row.and_then(|row| LinkStatus::decode(&row.body).ok()))
}
