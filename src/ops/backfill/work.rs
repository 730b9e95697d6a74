//! The work of a backfill: ranges side by side, and beside them what keeps it going.
//!
//! Workers take ranges from a queue, those that are to be copied first. Each holds a page of rows at a time, so memory is bounded by
//! their number. Beside them the roles are heard again and again (nothing is brought to a region whose roles were not read of late), the
//! hold is renewed, live traffic is watched, and how far it is is told.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::error::BackfillError;
use super::hold::{Hold, LEASE, RENEW};
use super::ledger::{Copied, Head, Range};
use super::report::{BackfillProgress, Backfilled, BackfilledTable};
use super::{TellBackfill, WORKERS};
use crate::model::{Region, TableName};
use crate::ops::failover::in_time;
use crate::ops::verify::Verify;
use crate::planted::{Bug, planted};
use crate::replicator::{Mender, read_links};
use crate::resolve::Freshness;
use crate::runtime::Runtime;
use crate::settle::LinkState;
use crate::stores::limits::MAX_PAGE;
use crate::stores::{Pacer, RegionStore};

/// Between two words of how far it is.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// A rate is that of the rows of so long.
const RATE_OF: Duration = Duration::from_secs(20);
/// Between two looks at the links; live changes that wait so long are late, and this gives way to them.
const LINKS_EVERY: Duration = Duration::from_secs(5);
const LATE: Duration = Duration::from_secs(10);
/// What may be under way at the most, in rows of so long at the rate: a look must still be fresh when they are written.
const AT_ONCE: Duration = Duration::from_secs(1);
/// Fewer rows are not worth the requests that they take.
const FEWEST: f64 = 100.0;

/// What workers share.
#[derive(Debug)]
pub(super) struct Work {
    /// Both regions, asked no more than their share.
    pub from: RegionStore,
    pub to: RegionStore,
    /// The destination as it is, for what must not wait.
    pub links: RegionStore,
    pub pacers: Vec<Arc<Pacer>>,
    pub mender: Mender,
    pub verify: Verify,
    pub hold: Hold,
    pub fresh: Freshness,
    pub window: Duration,
    /// Ends the work: somebody has asked for it, or something has failed.
    pub stop: CancellationToken,
    pub heads: BTreeMap<TableName, Head>,
    pub board: Mutex<Board>,
    pub queue: Mutex<Queue>,
    pub more: Notify,
}

/// How far everything is.
#[derive(Debug, Default)]
pub(super) struct Board {
    ranges: BTreeMap<(TableName, u32), Range>,
    /// Rows gone through, when.
    lately: VecDeque<(Instant, u64)>,
    /// What differed and could not be mended: how many, one of them, and why.
    differs: Option<(u64, String, String)>,
}

/// Ranges that nobody works on.
#[derive(Debug, Default)]
pub(super) struct Queue {
    copy: VecDeque<Range>,
    check: VecDeque<Range>,
    under_way: usize,
}

impl Work {
    pub fn runtime(&self) -> &Runtime {
        &self.hold.runtime
    }

    /// Takes what is to be done.
    pub fn fill(&self, ranges: Vec<Range>) {
        let (mut board, mut queue) = (lock(&self.board), lock(&self.queue));
        for range in ranges {
            board.ranges.insert((range.table.clone(), range.number), range.clone());
            match range.copy {
                Copied::Copying if planted(Bug::ResumedAsCopied) => {
                    queue.check.push_back(Range { copy: Copied::Copied, ..range })
                }
                Copied::Pending | Copied::Copying => queue.copy.push_back(range),
                Copied::Copied => queue.check.push_back(range),
                Copied::Verified => {}
            }
        }
    }

    /// Does all of it. The first failure ends it; what was done by then is written down.
    pub async fn run(self: &Arc<Self>, tell: &mut TellBackfill<'_>) -> Result<(), BackfillError> {
        self.mender.hear().await.map_err(|(region, error)| BackfillError::Region { region, error: Box::new(error) })?;
        let mut workers = JoinSet::new();
        for _ in 0..WORKERS {
            let work = self.clone();
            workers.spawn(async move { work.worker().await });
        }
        let done = async {
            let mut first = Ok(());
            while let Some(ended) = workers.join_next().await {
                let ended = ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
                if let Err(error) = ended {
                    self.stop.cancel();
                    // The others end since they were asked to; the first one tells why.
                    first = first.and(Err(error));
                }
            }
            first
        };
        let done = tokio::select! {
            biased;
            done = done => done,
            () = self.hear() => Ok(()),
            lost = self.renew() => Err(lost),
            () = self.give_way() => Ok(()),
            () = self.tell(tell) => Ok(()),
        };
        tell(BackfillProgress::At(&self.so_far()));
        done?;
        match lock(&self.board).differs.take() {
            Some((rows, row, why)) => Err(BackfillError::Differs { rows, row, why }),
            None => Ok(()),
        }
    }

    async fn worker(&self) -> Result<(), BackfillError> {
        while let Some(mut range) = self.next().await {
            let copies = range.copy < Copied::Copied;
            let done = if copies { self.copy(&mut range).await } else { self.check(&mut range).await };
            {
                let mut queue = lock(&self.queue);
                queue.under_way -= 1;
                if copies && done.is_ok() {
                    queue.check.push_back(range);
                }
            }
            self.more.notify_waiters();
            done?;
        }
        Ok(())
    }

    /// The next range; none once there is none left and none will come.
    async fn next(&self) -> Option<Range> {
        loop {
            let more = self.more.notified();
            tokio::pin!(more);
            more.as_mut().enable();
            {
                let mut queue = lock(&self.queue);
                if self.stop.is_cancelled() {
                    return None;
                }
                if let Some(range) = queue.copy.pop_front().or_else(|| queue.check.pop_front()) {
                    queue.under_way += 1;
                    return Some(range);
                }
                if queue.under_way == 0 {
                    return None;
                }
            }
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return None,
                () = more => {}
            }
        }
    }

    /// Most rows that a worker has under way.
    pub fn rows_at_once(&self) -> u16 {
        let slowest = self.pacers.iter().map(|pacer| pacer.rows_per_second()).fold(f64::INFINITY, f64::min);
        let rows = slowest * AT_ONCE.min(self.window / 8).as_secs_f64() / WORKERS as f64;
        rows.clamp(FEWEST, MAX_PAGE.into()) as u16
    }

    pub async fn save(&self, range: &Range) -> Result<(), BackfillError> {
        self.board(range);
        self.hold.save(range, self.rate()).await
    }

    fn rate(&self) -> u64 {
        rate(&lock(&self.board).lately) as u64
    }

    /// Shows how far a range is.
    pub fn board(&self, range: &Range) {
        lock(&self.board).ranges.insert((range.table.clone(), range.number), range.clone());
    }

    /// Something differs that could not be mended.
    pub fn differs(&self, rows: u64, row: String, why: String) {
        let differs = &mut lock(&self.board).differs;
        match differs {
            Some((all, ..)) => *all += rows,
            None => *differs = Some((rows, row, why)),
        }
    }

    pub fn so_far(&self) -> Backfilled {
        let (board, now) = (lock(&self.board), self.hold.now());
        let table = |head: &Head| {
            let head = &Head { owner: Some((self.hold.owner.clone(), now + LEASE)), ..head.clone() };
            let ranges: Vec<&Range> = board.ranges.values().filter(|range| range.table == head.table).collect();
            BackfilledTable::new(head, &ranges, now)
        };
        let tables = self.heads.values().map(table).collect();
        Backfilled::new((&self.hold.from, &self.hold.to), tables, rate(&board.lately))
    }

    /// Tables all of whose ranges are verified.
    pub fn through(&self) -> Vec<TableName> {
        let board = lock(&self.board);
        let left: BTreeSet<&TableName> =
            board.ranges.values().filter(|range| range.copy != Copied::Verified).map(|range| &range.table).collect();
        self.heads.keys().filter(|table| !left.contains(table)).cloned().collect()
    }

    async fn tell(&self, tell: &mut TellBackfill<'_>) {
        loop {
            {
                let mut board = lock(&self.board);
                let (now, rows) =
                    (self.runtime().instant(), board.ranges.values().map(|range| range.counts.rows).sum());
                board.lately.push_back((now, rows));
                while board.lately.front().is_some_and(|(at, _)| now - *at > RATE_OF) {
                    board.lately.pop_front();
                }
            }
            tell(BackfillProgress::At(&self.so_far()));
            sleep(TELL_EVERY).await;
        }
    }

    /// Reads the roles well before what was read of them is too old.
    async fn hear(&self) {
        loop {
            sleep(self.window / 8).await;
            if let Err((region, error)) = self.mender.hear().await {
                // Deliveries fail on that, which is told and tried again there.
                debug!(%region, %error, "the roles could not be read");
            }
        }
    }

    /// Keeps the hold; returns once it is lost.
    async fn renew(&self) -> BackfillError {
        loop {
            sleep(RENEW / 4).await;
            if let Err(error) = self.hold.renew(self.rate()).await {
                return error;
            }
        }
    }

    /// Slows down while live changes are late at the destination: they come first.
    async fn give_way(&self) {
        loop {
            sleep(LINKS_EVERY).await;
            let links = in_time(read_links(&self.links)).await.unwrap_or_default();
            let to: &Region = self.links.region();
            let is_late = links
                .iter()
                .any(|link| link.destination == *to && (link.state == LinkState::BackingOff || link.lag > LATE));
            if is_late {
                debug!(destination = %to, "live changes are late; the backfill gives way");
                self.pacers.iter().for_each(|pacer| pacer.slow_down());
            }
        }
    }
}

fn rate(lately: &VecDeque<(Instant, u64)>) -> f64 {
    let (Some((from, first)), Some((to, last))) = (lately.front(), lately.back()) else { return 0.0 };
    let seconds = to.saturating_duration_since(*from).as_secs_f64();
    if seconds > 0.0 { last.saturating_sub(*first) as f64 / seconds } else { 0.0 }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
