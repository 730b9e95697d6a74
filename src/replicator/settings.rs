//! How the line is tuned, and what it is made of.

use std::sync::Arc;
use std::time::Duration;

use crate::batch::Limits;
use crate::cache::KeyTemplate;
use crate::runtime::Runtime;
use crate::stores::{Cache, RegionStore};
use crate::topology::{CopyRule, FileRoles, LateWrites, ReadRules, TableFilter};

/// How the line is tuned. The defaults are the configuration's defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How long a write may be under way after its announcement (R1).
    pub settle_window: Duration,
    /// How far ahead of the storage clock a version may lie (R7).
    pub max_clock_skew: Duration,
    /// Wait between two reads of a shard that had something new.
    pub poll_busy: Duration,
    /// Longest wait between two reads of a shard while its account is busy.
    pub poll_active: Duration,
    /// Longest wait between two reads of a shard while nothing happens.
    pub poll_idle: Duration,
    /// How soon to look again for a write that was announced and not seen; doubles each time.
    pub look_first_retry: Duration,
    /// The longest wait between two such looks.
    pub look_last_retry: Duration,
    /// Most open records of one shard in memory; more stay in the feed until there is room.
    pub max_open_records: usize,
    /// Most requests under way to one region at a time.
    pub requests_in_flight: usize,
    /// Most rows and bytes that one batch takes to a consumer.
    pub batch: Limits,
    /// Most bytes of row bodies that wait for one consumer in memory; beyond it only keys wait, and rows are read again.
    pub body_budget: usize,
    /// Most tombstones of a shard that one range read takes in, up to 1,000; a shard with more is read by point or by
    /// partition.
    pub tombstone_scan: u16,
    /// How long a daemon counts as there after it was heard of last.
    pub lease: Duration,
    /// How often the roles of every region are read.
    pub roles_poll: Duration,
    /// Whether it is read again and again which regions were taken out, and have to come back empty. There are none where nothing
    /// is ever collected.
    pub minds_marks: bool,
    /// What becomes of what is written in a region that is no writer.
    pub late_writes: LateWrites,
    /// How often link state is published.
    pub publish_every: Duration,
    /// How often quarantine is counted and versions from the future are tried again.
    pub sweep_every: Duration,
    /// How long a conflict stays in the journal.
    pub keep_conflicts: Duration,
    /// Most conflicts in a region's journal; the oldest go first.
    pub most_conflicts: usize,
    /// How long a destination may take nothing before it is parked and what it misses is kept as hints.
    pub park_after: Duration,
    /// First wait after a failed delivery; doubles each time, with full jitter.
    pub backoff_first: Duration,
    /// Longest wait after a failed delivery.
    pub backoff_last: Duration,
}

impl Settings {
    /// How long a row of an applied log outlives the Last Sync Time of its link: longer than any announcement that it answers for
    /// usually is open. A delete's is for a window and a half.
    pub(super) fn log_outlives(&self) -> Duration {
        self.max_clock_skew + self.settle_window * 2
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            settle_window: Duration::from_secs(60),
            max_clock_skew: Duration::from_secs(60),
            poll_busy: Duration::from_millis(20),
            poll_active: Duration::from_millis(60),
            poll_idle: Duration::from_millis(1_400),
            look_first_retry: Duration::from_millis(15),
            look_last_retry: Duration::from_secs(2),
            max_open_records: 16_384,
            requests_in_flight: 64,
            batch: Limits { rows: 500, bytes: 4 * 1_024 * 1_024 },
            body_budget: 16 * 1_024 * 1_024,
            tombstone_scan: 1_000,
            lease: Duration::from_secs(8),
            roles_poll: Duration::from_secs(1),
            minds_marks: true,
            late_writes: LateWrites::Merge,
            publish_every: Duration::from_secs(5),
            sweep_every: Duration::from_secs(30),
            keep_conflicts: Duration::from_secs(30 * 24 * 3_600),
            most_conflicts: 10_000,
            park_after: Duration::from_secs(10),
            backoff_first: Duration::from_millis(100),
            backoff_last: Duration::from_secs(10),
        }
    }
}

/// A region's cache and its keys.
#[derive(Debug, Clone)]
pub struct CacheSetup {
    /// Where refreshes go.
    pub cache: Arc<dyn Cache>,
    /// The same cache, written through and for ever whatever its mode: where the markers go by which a flush is noticed. Without
    /// it nobody watches.
    pub markers: Option<Arc<dyn Cache>>,
    /// Which key a row has.
    pub keys: KeyTemplate,
    /// Where it is filled by itself once it was emptied: at most so many rows a second.
    pub warm: Option<u32>,
}

/// A destination that is no region, and what goes there.
#[derive(Debug, Clone)]
pub struct CopySetup {
    /// Its accounts.
    pub store: RegionStore,
    /// What of the tables goes there.
    pub rule: Arc<CopyRule>,
}

/// What a line is made of.
#[derive(Debug)]
pub struct Setup {
    /// The region whose feed is read.
    pub local: RegionStore,
    /// The other regions.
    pub destinations: Vec<RegionStore>,
    /// Destinations that are no regions.
    pub copies: Vec<CopySetup>,
    /// This region's cache, where it has one.
    pub cache: Option<CacheSetup>,
    /// Which tables are replicated.
    pub tables: TableFilter,
    /// The roles that the configuration gives to all regions: the first ones.
    pub roles: FileRoles,
    /// Whether readers are to come here is decided where a table has a limit on staleness.
    pub reading: Option<ReadRules>,
    /// How it is tuned.
    pub settings: Settings,
    /// Clock and randomness.
    pub runtime: Runtime,
}
