//! What the line tells of itself: per shard by its carrier, per link for everybody.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::feed::AccountShard;
use crate::model::{AccountName, Region, Time};
use crate::planted::{Bug, planted};
use crate::settle::LinkStatus;
use crate::stores::ThrottledAccount;
use crate::telemetry::metrics::{self, ApplyOutcome};

/// Progress of one shard, as its carrier sees it.
#[derive(Debug, Clone, Default)]
pub(super) struct ShardProgress {
    /// Per consumer.
    pub last_sync: Vec<Option<Time>>,
    /// Per consumer: when the oldest change was announced that was seen and is not there.
    pub oldest_waiting: Vec<Option<Time>>,
    /// Per consumer: rows that wait.
    pub waiting_rows: Vec<usize>,
    /// Records in memory.
    pub open_records: usize,
    /// Whether the shard was read whole at least once.
    pub read_once: bool,
    /// When its carrier reported, or was told to begin.
    pub reported: Option<Instant>,
}

/// What waits for one consumer as hints.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Waiting {
    /// Last Sync Time, hints considered.
    pub last_sync: Option<Time>,
    pub hints: u64,
    /// When the oldest change was announced that a hint stands for.
    pub oldest: Option<Time>,
}

/// What was delivered over one link since the line began.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Rows settled at the destination, by what became of them.
    pub rows: BTreeMap<ApplyOutcome, u64>,
    /// Rows of which the destination held a newer version.
    pub conflicts: u64,
}

/// What is known of the line now.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Every link out of this region.
    pub links: Vec<LinkStatus>,
    /// What was delivered to every destination that something was delivered to.
    pub delivered: BTreeMap<Region, Delivered>,
    /// Records in each account's feed that have not ended, as far as they have been read.
    pub feed_records: BTreeMap<AccountName, usize>,
    /// Accounts, of this region and of destinations, that ask for less.
    pub throttled: Vec<ThrottledAccount>,
    /// Whether every shard was read whole at least once.
    pub ready: bool,
    /// How long ago a shard was last read without an error; `None` before the first time.
    pub since_progress: Option<Duration>,
    /// How long the most silent carrier has not reported, whatever its storage answers; `None` before there is one.
    pub since_report: Option<Duration>,
}

/// Where the line's parts leave what they know, for `/status`, metrics and `RelayControl`.
#[derive(Debug, Default)]
pub struct StatusBoard {
    shards: Mutex<BTreeMap<AccountShard, ShardProgress>>,
    links: Mutex<Vec<LinkStatus>>,
    delivered: Mutex<BTreeMap<Region, Delivered>>,
    progress: Mutex<Option<Instant>>,
    waiting: Mutex<BTreeMap<usize, Waiting>>,
    throttled: Mutex<Vec<ThrottledAccount>>,
}

impl StatusBoard {
    /// What is known now.
    pub fn snapshot(&self) -> Snapshot {
        let shards = lock(&self.shards);
        let mut feed_records = BTreeMap::new();
        for (at, shard) in shards.iter() {
            *feed_records.entry(at.account.clone()).or_default() += shard.open_records;
        }
        Snapshot {
            links: lock(&self.links).clone(),
            delivered: lock(&self.delivered).clone(),
            feed_records,
            throttled: lock(&self.throttled).clone(),
            ready: !shards.is_empty() && shards.values().all(|shard| shard.read_once),
            since_progress: lock(&self.progress).map(|at| at.elapsed()),
            since_report: shards.values().filter_map(|shard| shard.reported).min().map(|at| at.elapsed()),
        }
    }

    pub(super) fn expect(&self, shard: &AccountShard) {
        let begun = ShardProgress { reported: Some(Instant::now()), ..ShardProgress::default() };
        lock(&self.shards).insert(shard.clone(), begun);
    }

    pub(super) fn report(&self, shard: AccountShard, progress: ShardProgress) {
        let progress = ShardProgress { reported: Some(Instant::now()), ..progress };
        lock(&self.shards).insert(shard, progress);
    }

    /// Rows were settled at a destination: counted here and in the metrics.
    pub(super) fn settled(&self, destination: &Region, outcome: ApplyOutcome, rows: u64) {
        metrics::change_applied(destination, outcome, rows);
        let mut delivered = lock(&self.delivered);
        *delivered.entry(destination.clone()).or_default().rows.entry(outcome).or_default() += rows;
    }

    /// A destination held a newer version, issued by `winner`: counted here and in the metrics.
    pub(super) fn conflict(&self, destination: &Region, winner: &Region) {
        metrics::conflict(destination, winner);
        lock(&self.delivered).entry(destination.clone()).or_default().conflicts += 1;
    }

    pub(super) fn progressed(&self) {
        *lock(&self.progress) = Some(Instant::now());
    }

    pub(super) fn set_links(&self, links: Vec<LinkStatus>) {
        *lock(&self.links) = links;
    }

    pub(super) fn set_throttled(&self, accounts: Vec<ThrottledAccount>) {
        *lock(&self.throttled) = accounts;
    }

    /// The hints of a consumer were counted.
    pub(super) fn hinted(&self, consumer: usize, waiting: Waiting) {
        lock(&self.waiting).insert(consumer, waiting);
    }

    /// Of a destination, in the feed and as hints: its Last Sync Time, its oldest waiting change, and how many rows wait. No
    /// Last Sync Time before its hints were counted.
    pub(super) fn of_destination(&self, consumer: usize) -> (Option<Time>, Option<Time>, u64) {
        let (synced, oldest, rows) = self.of_ledgers(consumer);
        let waiting = lock(&self.waiting).get(&consumer).copied().unwrap_or_default();
        let last_sync = if planted(Bug::HintsNotCounted) { synced } else { waiting.last_sync };
        let oldest = oldest.into_iter().chain(waiting.oldest).min();
        (last_sync, oldest, rows as u64 + waiting.hints)
    }

    /// Over all shards: the Last Sync Time of a consumer, its oldest waiting change, and how many rows wait.
    pub(super) fn of_ledgers(&self, consumer: usize) -> (Option<Time>, Option<Time>, usize) {
        let shards = lock(&self.shards);
        let last_sync: Option<Vec<Time>> =
            shards.values().map(|shard| shard.last_sync.get(consumer).copied().flatten()).collect();
        let oldest = shards.values().filter_map(|shard| shard.oldest_waiting.get(consumer).copied().flatten()).min();
        let rows = shards.values().filter_map(|shard| shard.waiting_rows.get(consumer)).sum();
        (last_sync.and_then(|times| times.into_iter().min()), oldest, rows)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
