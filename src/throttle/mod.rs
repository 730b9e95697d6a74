//! How much an account is asked: less when it says so, more again as it bears it, and almost nothing while it answers
//! nobody.
//!
//! Azure allows 20,000 rows a second of an account and 2,000 of a partition, says "slow down" beyond that, and moves a
//! partition to more servers only under a load that grows gradually. So each *place*, the account and every partition in
//! trouble, has three things. A [`Rate`](rate::Rate) is cut by half when the place says "slow down", and grows by steps
//! afterwards. A [`budget::Budget`] says how much of what failed may be asked again: one tenth of what succeeds, and a
//! handful to begin with. Where it is spent, the place is *shut*: one request an interval, the probe, goes out to
//! see whether it answers again, and everything else is held back before it is sent. And what the server asked to wait
//! is waited for by all.
//!
//! That bounds a storm whoever asks: under nothing but refusals an account meets the first tries of what comes until the
//! budget is spent, and probes from then on. When to try again is each asker's own business; whether the
//! request goes out then is decided here alone. Like every station this has no clock: `now` is an argument, and so is chance.
//!
//! Rejected: a bound on the requests under way instead of a rate. It needs no numbers, but one transaction of a hundred rows under
//! way at a time is five times what a partition bears.

mod budget;
mod place;
mod rate;
mod share;
#[cfg(test)]
mod tests;

use std::num::NonZeroUsize;
use std::time::Duration;

use lru::LruCache;
use tokio::time::Instant;

use self::budget::Budget;
use self::place::Place;
use self::rate::Meter;
pub use self::share::Share;
use crate::model::{PartitionKey, TableName};

/// Partitions in trouble that are remembered: the most recently used.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(1_024).unwrap();
/// From so many partitions in trouble on it is taken for the account's trouble.
const SEVERAL: usize = 4;
/// Azure's limits, in rows a second: more than this nobody need ask for.
const ACCOUNT_ROWS: f64 = 20_000.0;
const PARTITION_ROWS: f64 = 2_000.0;
/// How much failure the account, or one partition, is forgiven before it is shut.
const ACCOUNT_BUDGET: u32 = 10;
const PARTITION_BUDGET: u32 = 4;
/// What a server asks to wait is believed up to this: a header must not stop a region for a day.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// What a request is about.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The partition, where it is about one.
    pub partition: Option<(&'a TableName, &'a PartitionKey)>,
    /// Rows written; one for what reads.
    pub rows: usize,
}

/// When a request may go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Now.
    Go,
    /// After this wait, which is counted already.
    Wait(Duration),
    /// Not at all; it makes sense to ask again after this.
    HeldBack(Duration),
}

/// How a request ended, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// It was answered, be it with a refusal of what it asked.
    Answered,
    /// "Slow down", and for how long, where that was said.
    Throttled(Option<Duration>),
    /// No answer, or a server's failure: nothing is known of its load.
    Failed,
}

/// What is to be told of an account in trouble.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trouble {
    /// When it began.
    pub since: Instant,
    /// Whether only probes go out.
    pub shut: bool,
    /// Rows a second that it is asked at most, where that is limited as a whole.
    pub rows_per_second: Option<f64>,
    /// Partitions in trouble, as far as they are remembered.
    pub partitions: usize,
    /// "Slow down" was answered so often since then.
    pub throttled: u64,
    /// Requests that were held back since then.
    pub held_back: u64,
}

/// The rule for one account.
#[derive(Debug)]
pub struct Throttle {
    patience: Duration,
    account: Place,
    meter: Meter,
    partitions: LruCache<(TableName, PartitionKey), Place>,
    since: Option<Instant>,
    /// Rows a second that were answered when the trouble began.
    usual: f64,
    throttled: u64,
    held_back: u64,
}

impl Throttle {
    /// An account that is well. A request waits for its turn no longer than `patience`.
    pub fn new(patience: Duration) -> Self {
        Self {
            patience,
            account: Place::new(ACCOUNT_BUDGET),
            meter: Meter::default(),
            partitions: LruCache::new(REMEMBERED),
            since: None,
            usual: 0.0,
            throttled: 0,
            held_back: 0,
        }
    }

    /// Whether a request may go out. `jitter` draws a duration evenly from zero to what it is given.
    pub fn admit(&mut self, target: &Target<'_>, now: Instant, jitter: impl Fn(Duration) -> Duration) -> Turn {
        let patience = self.patience;
        let mut partition = match target.partition {
            Some((table, key)) if !self.partitions.is_empty() => self.partitions.get_mut(&(table.clone(), key.clone())),
            _ => None,
        };
        let mut places = partition.iter_mut().map(|place| &mut **place).chain([&mut self.account]);
        let turn: Result<Duration, Duration> =
            places.try_fold(Duration::ZERO, |wait, place| Ok(wait.max(place.turn(now, patience)?)));
        drop(places);
        match turn {
            Err(again) => {
                self.held_back += 1;
                Turn::HeldBack(again + jitter(again / 4))
            }
            Ok(wait) => {
                for place in partition.into_iter().chain([&mut self.account]) {
                    place.take(target.rows, now, &jitter);
                }
                if wait.is_zero() { Turn::Go } else { Turn::Wait(wait) }
            }
        }
    }

    /// After a wait: whether the request, which was let through at `admitted`, may still go out.
    pub fn still(&mut self, target: &Target<'_>, admitted: Instant, now: Instant) -> Result<(), Duration> {
        let partition = target.partition.and_then(|(table, key)| self.partitions.peek(&(table.clone(), key.clone())));
        let closed = partition.into_iter().chain([&self.account]).filter_map(|place| place.closed_since(admitted, now));
        match closed.max() {
            Some(again) => {
                self.held_back += 1;
                Err(again)
            }
            None => Ok(()),
        }
    }

    /// Whether the budget allows that something which failed is asked again at once.
    pub fn spares_a_repeat(&self, now: Instant) -> bool {
        self.account.closed(now).is_none() && self.account.budget.spares()
    }

    /// Takes in how a request ended that went out at `sent`.
    pub fn ended(
        &mut self,
        target: &Target<'_>,
        sent: Instant,
        reply: Reply,
        now: Instant,
        jitter: impl Fn(Duration) -> Duration,
    ) {
        match reply {
            Reply::Answered => self.answered(target, sent, now),
            Reply::Failed => self.account.budget.failed(),
            Reply::Throttled(asked) => self.refused(target, sent, asked, now, jitter),
        }
    }

    fn answered(&mut self, target: &Target<'_>, sent: Instant, now: Instant) {
        self.meter.count(target.rows, now);
        self.account.answered(sent, now);
        let Some((table, key)) = target.partition.filter(|_| !self.partitions.is_empty()) else { return };
        if let Some(place) = self.partitions.get_mut(&(table.clone(), key.clone())) {
            place.answered(sent, now);
        }
    }

    fn refused(
        &mut self,
        target: &Target<'_>,
        sent: Instant,
        asked: Option<Duration>,
        now: Instant,
        jitter: impl Fn(Duration) -> Duration,
    ) {
        let measured = self.meter.rows_per_second(now);
        if self.since.is_none() {
            (self.since, self.usual) = (Some(now), measured);
        }
        let measured = measured.max(self.usual);
        self.throttled += 1;
        let asked = asked.map(|asked| now + asked.min(LONGEST_WAIT));
        if let Some((table, key)) = target.partition {
            let place = (table.clone(), key.clone());
            let place = self.partitions.get_or_insert_mut(place, || Place::new(PARTITION_BUDGET));
            place.cut(measured.min(PARTITION_ROWS), sent, now);
            place.refused(measured.min(PARTITION_ROWS), now, &jitter);
            place.not_before(asked);
        }
        if target.partition.is_none() || self.partitions.len() >= SEVERAL {
            self.account.cut(measured.min(ACCOUNT_ROWS), sent, now);
        }
        self.account.refused(measured.min(ACCOUNT_ROWS), now, &jitter);
        // What is said while nothing is answered is meant for whatever we ask.
        if target.partition.is_none() || self.account.is_shut() {
            self.account.not_before(asked);
        }
    }

    /// The account's trouble, where it is in any. What is over is forgotten.
    pub fn trouble(&mut self, now: Instant) -> Option<Trouble> {
        let since = self.since?;
        let over: Vec<_> =
            self.partitions.iter_mut().filter_map(|(key, place)| place.is_over(now).then(|| key.clone())).collect();
        for key in over {
            self.partitions.pop(&key);
        }
        if self.account.is_over(now) && self.partitions.is_empty() {
            (self.since, self.throttled, self.held_back) = (None, 0, 0);
            return None;
        }
        Some(Trouble {
            since,
            shut: self.account.is_shut(),
            rows_per_second: self.account.rows_per_second(now),
            partitions: self.partitions.len(),
            throttled: self.throttled,
            held_back: self.held_back,
        })
    }
}

impl Place {
    fn new(failures: u32) -> Self {
        Self::with(Budget::new(failures))
    }
}
