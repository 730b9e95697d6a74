//! What the line tells of itself: per shard by its carrier, per link for everybody.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::Roles;
use super::duty::Duty;
use crate::cache::Loss;
use crate::feed::AccountShard;
use crate::model::{AccountName, Region, Time};
use crate::planted::{Bug, planted};
use crate::settle::{LinkPart, LinkState, LinkStatus, Synced, Word};
use crate::stores::ThrottledAccount;
use crate::telemetry::metrics::{self, ApplyOutcome};
use crate::topology::{Member, MemberId, Reading};

/// Progress of one shard, as its carrier sees it.
#[derive(Debug, Clone, Default)]
pub(super) struct ShardProgress {
    /// Per consumer.
    pub last_sync: Vec<Option<Time>>,
    /// Per consumer: up to when it has what was written.
    pub fresh_to: Vec<Option<Time>>,
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
    /// Up to when it has what was written, hints considered.
    pub fresh_to: Option<Time>,
    pub hints: u64,
    /// When the oldest change was announced that a hint stands for.
    pub oldest: Option<Time>,
}

/// The daemons of the region, as this one sees them.
#[derive(Debug, Clone, Default)]
struct Crew {
    me: Option<MemberId>,
    /// Whether it has all the shards that are dealt to it.
    complete: bool,
    /// Whether it had, and had read them.
    was_ready: bool,
    others: Vec<Member>,
    /// When the task that keeps the lease last had its turn.
    turned: Option<Instant>,
}

/// What was delivered over one link since the line began.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Rows settled at the destination, by what became of them.
    pub rows: BTreeMap<ApplyOutcome, u64>,
    /// Conflicts with the destination that were found here.
    pub conflicts: u64,
}

/// The state of the region's cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CacheStatus {
    /// What it is doing, as a link would.
    pub state: LinkState,
    /// Distinct rows that wait for it, in the feed or as hints.
    pub backlog_rows: u64,
    /// When the oldest change that waits for it was announced, or came in.
    pub oldest_waiting: Option<Time>,
    /// What it failed with last; `None` once it has taken something since.
    pub last_error: Option<String>,
    /// What it has lost, being flushed or restarted, and no warming has brought back since.
    pub loss: Option<Loss>,
    /// When it was noticed last that it had lost something, brought back or not.
    pub lost: Option<Time>,
    /// When the last warming began that went through all tables.
    pub warmed: Option<Time>,
}

impl CacheStatus {
    /// Whether it has lost something that no warming has brought back.
    pub fn is_wanting(&self) -> bool {
        self.lost.is_some_and(|lost| self.warmed.is_none_or(|warmed| warmed < lost))
    }
}

/// What readers of this region get, where a table has a limit on staleness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ReadStatus {
    /// The decision.
    pub reading: Reading,
    /// Up to when the region has everything that was written in every writer's.
    pub fresh_to: Time,
    /// How long ago that is.
    #[serde(rename = "staleness_seconds", serialize_with = "seconds")]
    pub staleness: Duration,
}

fn seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

/// What is known of the line now.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Every link out of this region.
    pub links: Vec<LinkStatus>,
    /// The region's cache, where it has one.
    pub cache: Option<CacheStatus>,
    /// What was delivered to every destination that something was delivered to.
    pub delivered: BTreeMap<Region, Delivered>,
    /// Records in each account's feed that have not ended, as far as they have been read.
    pub feed_records: BTreeMap<AccountName, usize>,
    /// Accounts, of this region and of destinations, that ask for less.
    pub throttled: Vec<ThrottledAccount>,
    /// What readers get; `None` where no table has a limit on staleness.
    pub reading: Option<ReadStatus>,
    /// Whether this daemon has carried all that is its part, and read it whole.
    pub ready: bool,
    /// This daemon's name among those of its region; `None` before it has joined them.
    pub daemon: Option<MemberId>,
    /// The shards that it carries.
    pub shards: BTreeSet<AccountShard>,
    /// Whether it is a spare one: there are more daemons than shards.
    pub spare: bool,
    /// What the other daemons of the region carry.
    pub others: BTreeMap<MemberId, BTreeSet<AccountShard>>,
    /// How long ago a shard was last read without an error; `None` before the first time.
    pub since_progress: Option<Duration>,
    /// How long the most silent carrier, or the keeper of the lease, has not reported, whatever its storage answers; `None`
    /// before there is one.
    pub since_report: Option<Duration>,
}

/// Where the line's parts leave what they know, for `/status`, metrics and `RelayControl`.
#[derive(Debug)]
pub struct StatusBoard {
    /// Every shard of the region.
    all: Vec<AccountShard>,
    duty: Arc<Duty>,
    roles: Arc<Roles>,
    crew: Mutex<Crew>,
    /// By consumer.
    synced: Mutex<BTreeMap<usize, Synced>>,
    /// The same of what was written.
    fresh: Mutex<BTreeMap<usize, Synced>>,
    reading: Mutex<Option<ReadStatus>>,
    shards: Mutex<BTreeMap<AccountShard, ShardProgress>>,
    links: Mutex<Vec<LinkStatus>>,
    cache: Mutex<Option<CacheStatus>>,
    delivered: Mutex<BTreeMap<Region, Delivered>>,
    progress: Mutex<Option<Instant>>,
    waiting: Mutex<BTreeMap<usize, Waiting>>,
    throttled: Mutex<Vec<ThrottledAccount>>,
}

impl StatusBoard {
    /// An empty one, for these shards of the region.
    pub(super) fn new(all: Vec<AccountShard>, duty: Arc<Duty>, roles: Arc<Roles>) -> Self {
        Self {
            all,
            duty,
            roles,
            crew: Mutex::default(),
            synced: Mutex::default(),
            fresh: Mutex::default(),
            reading: Mutex::default(),
            shards: Mutex::default(),
            links: Mutex::default(),
            cache: Mutex::default(),
            delivered: Mutex::default(),
            progress: Mutex::default(),
            waiting: Mutex::default(),
            throttled: Mutex::default(),
        }
    }

    /// The roles in force, as far as this daemon knows.
    pub fn roles(&self) -> &Arc<Roles> {
        &self.roles
    }

    /// Whether what the region needs once is this daemon's part.
    pub fn is_first(&self) -> bool {
        self.duty.is_first()
    }

    /// What is known now.
    pub fn snapshot(&self) -> Snapshot {
        let (crew, shards) = (lock(&self.crew).clone(), lock(&self.shards));
        let reports = shards.values().filter_map(|shard| shard.reported).chain(crew.turned);
        let mut feed_records = BTreeMap::new();
        for (at, shard) in shards.iter() {
            *feed_records.entry(at.account.clone()).or_default() += shard.open_records;
        }
        Snapshot {
            links: lock(&self.links).clone(),
            cache: lock(&self.cache).clone(),
            delivered: lock(&self.delivered).clone(),
            feed_records,
            throttled: lock(&self.throttled).clone(),
            reading: *lock(&self.reading),
            ready: crew.was_ready,
            daemon: crew.me,
            shards: self.duty.held(Instant::now()),
            spare: crew.complete && shards.is_empty(),
            others: crew.others.into_iter().map(|member| (member.id, member.claims)).collect(),
            since_progress: lock(&self.progress).map(|at| at.elapsed()),
            since_report: reports.min().map(|at| at.elapsed()),
        }
    }

    pub(super) fn expect(&self, shard: &AccountShard) {
        let begun = ShardProgress { reported: Some(Instant::now()), ..ShardProgress::default() };
        lock(&self.shards).insert(shard.clone(), begun);
    }

    pub(super) fn report(&self, shard: AccountShard, progress: ShardProgress) {
        let progress = ShardProgress { reported: Some(Instant::now()), ..progress };
        for (all, times) in [(&self.synced, &progress.last_sync), (&self.fresh, &progress.fresh_to)] {
            for (consumer, time) in times.iter().enumerate().filter_map(|(consumer, time)| Some((consumer, (*time)?))) {
                lock(all).entry(consumer).or_default().learn([&shard], time);
            }
        }
        lock(&self.shards).insert(shard, progress);
        self.note_readiness();
    }

    /// A shard is carried no more.
    pub(super) fn dropped(&self, shard: &AccountShard) {
        lock(&self.shards).remove(shard);
    }

    /// The keeper of the lease had its turn.
    pub(super) fn turned(&self) {
        lock(&self.crew).turned = Some(Instant::now());
    }

    /// Who is there beside this daemon, and whether it has all that is its part.
    pub(super) fn joined(&self, me: &MemberId, complete: bool, others: Vec<Member>) {
        let mut crew = lock(&self.crew);
        (crew.me, crew.complete, crew.others) = (Some(me.clone()), complete, others);
        drop(crew);
        self.note_readiness();
    }

    /// What another daemon knows, or knew, of the link of a consumer.
    pub(super) fn learn(&self, consumer: usize, read: &BTreeSet<AccountShard>, last_sync: Time) {
        lock(&self.synced).entry(consumer).or_default().learn(read, last_sync);
    }

    /// The same of what was written.
    pub(super) fn learn_fresh(&self, consumer: usize, read: &BTreeSet<AccountShard>, fresh_to: Time) {
        lock(&self.fresh).entry(consumer).or_default().learn(read, fresh_to);
    }

    /// What was decided about readers; returns what was decided before.
    pub(super) fn set_reading(&self, status: ReadStatus) -> Option<Reading> {
        lock(&self.reading).replace(status).map(|before| before.reading)
    }

    /// What this region says of itself as a place to read; `None` where no table has a limit. One that waits for nobody is as
    /// fresh as its own writes.
    pub(super) fn word(&self) -> Option<Word> {
        let status = (*lock(&self.reading))?;
        Some(Word { fresh_to: status.fresh_to, serves: status.reading.serves() && lock(&self.crew).was_ready })
    }

    /// What is dealt to this daemon is told before its carriers begin: until then it has read none of it.
    fn note_readiness(&self) {
        let now = Instant::now();
        let (mut crew, shards) = (lock(&self.crew), lock(&self.shards));
        let read = |at: &AccountShard| shards.get(at).is_some_and(|shard| shard.read_once);
        crew.was_ready |= crew.complete && self.duty.has_lease(now) && self.duty.held(now).iter().all(read);
    }

    /// The shards that were read whole.
    pub(super) fn read(&self) -> BTreeSet<AccountShard> {
        let shards = lock(&self.shards);
        shards.iter().filter(|(_, shard)| shard.read_once).map(|(at, _)| at.clone()).collect()
    }

    /// What the other daemons say of the link to a destination.
    pub(super) fn of_others(&self, destination: &Region) -> Vec<LinkPart> {
        let crew = lock(&self.crew);
        let links = crew.others.iter().flat_map(|member| &member.links);
        links.filter(|part| part.destination == *destination).cloned().collect()
    }

    /// Rows were settled at a destination: counted here and in the metrics.
    pub(super) fn settled(&self, destination: &Region, outcome: ApplyOutcome, rows: u64) {
        metrics::change_applied(destination, outcome, rows);
        let mut delivered = lock(&self.delivered);
        *delivered.entry(destination.clone()).or_default().rows.entry(outcome).or_default() += rows;
    }

    /// A conflict with this region was found.
    pub(super) fn conflict(&self, with: &Region) {
        lock(&self.delivered).entry(with.clone()).or_default().conflicts += 1;
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

    pub(super) fn set_cache(&self, cache: CacheStatus) {
        *lock(&self.cache) = Some(cache);
    }

    /// The hints of a consumer were counted.
    pub(super) fn hinted(&self, consumer: usize, waiting: Waiting) {
        let mut all = lock(&self.waiting);
        // What was there once stays there: another daemon's shards may be unknown for a while.
        let before = all.get(&consumer).and_then(|before| before.last_sync);
        let fresh = all.get(&consumer).and_then(|before| before.fresh_to);
        let (last_sync, fresh_to) = (waiting.last_sync.max(before), waiting.fresh_to.max(fresh));
        all.insert(consumer, Waiting { last_sync, fresh_to, ..waiting });
    }

    /// The Last Sync Time of a destination, hints considered; none before they were counted. And what waits as hints.
    pub(super) fn of_hints(&self, consumer: usize) -> (Option<Time>, Waiting) {
        let waiting = lock(&self.waiting).get(&consumer).copied().unwrap_or_default();
        let last_sync = if planted(Bug::HintsNotCounted) { self.synced(consumer) } else { waiting.last_sync };
        (last_sync, waiting)
    }

    /// The Last Sync Time of a consumer over all shards of the region, whoever carries them; hints not considered.
    pub(super) fn synced(&self, consumer: usize) -> Option<Time> {
        let own = lock(&self.shards).keys().cloned().collect();
        lock(&self.synced).get(&consumer)?.of_all(&self.all, &own)
    }

    /// Up to when a consumer has what was written in any shard of the region; hints not considered.
    pub(super) fn fresh_to(&self, consumer: usize) -> Option<Time> {
        let own = lock(&self.shards).keys().cloned().collect();
        lock(&self.fresh).get(&consumer)?.of_all(&self.all, &own)
    }

    /// The same over the shards of this daemon that were read.
    pub(super) fn fresh_of_ledgers(&self, consumer: usize) -> Option<Time> {
        lock(&self.shards).values().filter_map(|shard| shard.fresh_to.get(consumer).copied().flatten()).min()
    }

    /// Over the shards of this daemon that were read: the Last Sync Time of a consumer, its oldest waiting change, and how
    /// many rows wait.
    pub(super) fn of_ledgers(&self, consumer: usize) -> (Option<Time>, Option<Time>, usize) {
        let shards = lock(&self.shards);
        let last_sync = shards.values().filter_map(|shard| shard.last_sync.get(consumer).copied().flatten()).min();
        let oldest = shards.values().filter_map(|shard| shard.oldest_waiting.get(consumer).copied().flatten()).min();
        let rows = shards.values().filter_map(|shard| shard.waiting_rows.get(consumer)).sum();
        (last_sync, oldest, rows)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::FileRoles;

    #[tokio::test(start_paused = true)]
    async fn a_daemon_is_ready_once_all_that_is_dealt_to_it_was_read_and_not_before_it_has_begun() {
        let account = AccountName::new("one").unwrap();
        let shards: BTreeSet<AccountShard> = AccountShard::all([&account]).into_iter().take(2).collect();
        let (east, second) = (Region::new("east").unwrap(), Duration::from_secs(1));
        let roles = Roles::new(east.clone(), FileRoles::multi_active([east]), second);
        let duty = Arc::new(Duty::default());
        let board = StatusBoard::new(shards.iter().cloned().collect(), duty.clone(), Arc::new(roles));
        duty.set(Some(Instant::now() + second), shards.clone(), true);
        let me = MemberId::new(1);
        board.joined(&me, true, Vec::new());
        assert!(!board.snapshot().ready, "no carrier has begun");
        for (n, shard) in shards.iter().enumerate() {
            board.expect(shard);
            assert!(!board.snapshot().ready, "{n} of 2 were read");
            board.report(shard.clone(), ShardProgress { read_once: true, ..ShardProgress::default() });
        }
        assert!(board.snapshot().ready);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_of_the_carriers_and_the_keeper_of_the_lease_is_silent_is_what_the_line_has_been() {
        let account = AccountName::new("one").unwrap();
        let shards: Vec<AccountShard> = AccountShard::all([&account]).into_iter().take(2).collect();
        let (east, second) = (Region::new("east").unwrap(), Duration::from_secs(1));
        let roles = Roles::new(east.clone(), FileRoles::multi_active([east]), second);
        let board = StatusBoard::new(shards.clone(), Arc::default(), Arc::new(roles));
        let silent = || board.snapshot().since_report;
        assert_eq!(silent(), None, "nobody has begun");
        board.turned();
        shards.iter().for_each(|shard| board.expect(shard));
        for _ in 0..90 {
            tokio::time::advance(second).await;
            shards.iter().for_each(|shard| board.report(shard.clone(), ShardProgress::default()));
        }
        assert_eq!(silent(), Some(second * 90), "the keeper hangs: no shard would ever be given up or taken");
        board.turned();
        assert_eq!(silent(), Some(Duration::ZERO));
        for _ in 0..70 {
            tokio::time::advance(second).await;
            board.turned();
            board.report(shards[0].clone(), ShardProgress::default());
        }
        assert_eq!(silent(), Some(second * 70), "one carrier hangs");
        board.dropped(&shards[1]);
        assert_eq!(silent(), Some(Duration::ZERO), "it is somebody else's");
    }
}
