//! The carrier of one shard: reads its records, looks at their rows, hands findings to the lanes, ends records.
//!
//! One task owns the shard's ledger, so nothing is locked. Requests run beside it, a few at a time; what they return is
//! told to the ledger, and the ledger says what is due next.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::board::{ShardProgress, StatusBoard};
use super::duty::Duty;
use super::health::Backoff;
use super::lane::{Basket, Report};
use super::poll::{Activity, Pace};
use super::source::{PageRead, Source};
use super::source_health::Work;
use crate::batch::Parcel;
use crate::feed::{AccountShard, Shard};
use crate::model::{Etag, RowKey, Time, Version};
use crate::runtime::Runtime;
use crate::settle::{Ledger, Looked, Offer};
use crate::stores::{Continuation, StoreError};
use crate::telemetry::metrics::ApplyOutcome;

/// Rows of one look, and looks under way at a time.
const LOOK_ROWS: usize = 200;
const LOOKS_IN_FLIGHT: usize = 8;
/// Records of one delete transaction.
const END_RECORDS: usize = 100;
/// How often progress is reported.
const REPORT_EVERY: Duration = Duration::from_millis(250);
/// How long a row waits that another region has to do something about first.
const LOOK_LATER: Duration = Duration::from_secs(1);
/// Every record that is open is read again by a whole pass, so those begin this much further apart for each of them, up to the
/// second bound; in between only the young end is read. Else a shard in which much waits for its settle window spends its
/// time on what it knows.
const WHOLE_PASS_PER_RECORD: Duration = Duration::from_millis(1);
const WHOLE_PASS_EVERY: Duration = Duration::from_secs(5);
/// How far back the young end reaches: what a writer's clock is behind by is found by the next whole pass otherwise.
const YOUNG: Duration = Duration::from_secs(5);

/// Carries one shard.
#[derive(Debug)]
pub(super) struct Carrier {
    pub shard: Shard,
    pub source: Arc<Source>,
    pub ledger: Ledger,
    pub baskets: Vec<Arc<Basket>>,
    pub budget: usize,
    pub max_open_records: usize,
    pub reports: mpsc::Receiver<Report>,
    pub activity: Arc<Activity>,
    pub duty: Arc<Duty>,
    /// When nobody else can have something of this shard under way any more; `None` once that is so.
    pub alone_from: Option<Instant>,
    pub pace: Pace,
    pub backoff: Backoff,
    pub board: Arc<StatusBoard>,
    pub runtime: Runtime,
}

/// A request that came back.
enum Done {
    Page(Result<PageRead, StoreError>),
    Looked(Vec<crate::settle::DueLook>, Result<Vec<Looked>, StoreError>),
    Ended(Vec<RowKey>, Result<(), StoreError>),
}

/// A pass over the shard, page by page.
#[derive(Debug)]
struct Pass {
    began: Instant,
    /// The first record's time, where only the young end is read.
    from: Option<Time>,
    whole: bool,
    found_new: bool,
}

/// What the carrier's loop remembers beside the ledger.
struct Desk {
    under_way: FuturesUnordered<BoxFuture<'static, Done>>,
    looks: usize,
    ending: bool,
    pass: Option<Pass>,
    next_pass: Instant,
    last_whole: Option<Instant>,
    next_look: Instant,
    next_end: Instant,
    next_report: Instant,
}

impl Carrier {
    /// Carries until it is stopped. Whatever is under way then is let go: it is all in the feed.
    pub async fn run(mut self, stop: CancellationToken) {
        let now = self.runtime.instant();
        let mut desk = Desk {
            under_way: FuturesUnordered::new(),
            looks: 0,
            ending: false,
            pass: None,
            next_pass: now + self.runtime.jitter(Duration::from_millis(20)),
            last_whole: None,
            next_look: now,
            next_end: now,
            next_report: now,
        };
        let activity = self.activity.clone();
        if self.alone_from.is_some() {
            self.ledger.begin_shared();
        }
        loop {
            let now = self.runtime.instant();
            let wake = self.start_what_is_due(&mut desk, now);
            tokio::select! {
                biased;
                () = stop.cancelled() => return self.source.health.forget(self.shard),
                Some(report) = self.reports.recv() => self.take_report(report),
                Some(done) = desk.under_way.next() => self.take_done(&mut desk, done),
                () = activity.woken(), if desk.pass.is_none() => desk.next_pass = desk.next_pass.min(self.runtime.instant()),
                () = tokio::time::sleep_until(wake) => {}
            }
        }
    }

    /// Starts every request that is due, and says when to look here again.
    fn start_what_is_due(&mut self, desk: &mut Desk, now: Instant) -> Instant {
        if now >= desk.next_report {
            self.report();
            desk.next_report = now + REPORT_EVERY;
        }
        // Whoever has taken this shard over counts on that nothing begins here.
        if !self.duty.has_lease(now) {
            return desk.next_report;
        }
        if self.alone_from.take_if(|from| now >= *from).is_some() {
            self.ledger.begin_alone(now);
        }
        if desk.pass.is_none() && now >= desk.next_pass {
            self.begin_pass(desk, now);
        }
        while desk.looks < LOOKS_IN_FLIGHT && now >= desk.next_look {
            let due = self.ledger.take_due(now, LOOK_ROWS);
            if due.is_empty() {
                break;
            }
            desk.looks += 1;
            let source = self.source.clone();
            desk.under_way.push(Box::pin(async move {
                let found = source.look(&due).await;
                Done::Looked(due, found)
            }));
        }
        if !desk.ending && now >= desk.next_end {
            self.end_records(desk);
        }
        let mut wake = desk.next_report;
        if desk.pass.is_none() {
            wake = wake.min(desk.next_pass);
        }
        if desk.looks < LOOKS_IN_FLIGHT
            && let Some(due) = self.ledger.next_due()
        {
            wake = wake.min(due.max(desk.next_look));
        }
        wake
    }

    fn begin_pass(&mut self, desk: &mut Desk, now: Instant) {
        let storage_now = self.source.storage_now(now);
        let open = self.ledger.open_records() as u32;
        let apart = WHOLE_PASS_PER_RECORD.saturating_mul(open).min(WHOLE_PASS_EVERY);
        let whole = desk.last_whole.is_none_or(|last| now >= last + apart) || storage_now.is_none();
        if whole {
            desk.last_whole = Some(now);
        }
        self.ledger.begin_pass(storage_now);
        let from = storage_now.filter(|_| !whole).map(|now| now - YOUNG);
        desk.pass = Some(Pass { began: now, from, whole, found_new: false });
        let (source, shard) = (self.source.clone(), self.shard);
        desk.under_way.push(Box::pin(async move { Done::Page(source.read(shard, from, None).await) }));
    }

    fn read_on(&self, desk: &mut Desk, from: Option<Time>, continuation: Continuation) {
        let (source, shard) = (self.source.clone(), self.shard);
        desk.under_way.push(Box::pin(async move { Done::Page(source.read(shard, from, Some(continuation)).await) }));
    }

    fn end_records(&mut self, desk: &mut Desk) {
        let ending: Vec<(RowKey, Etag)> = self.ledger.take_ending(END_RECORDS);
        if ending.is_empty() {
            return;
        }
        desk.ending = true;
        let (source, shard) = (self.source.clone(), self.shard);
        desk.under_way.push(Box::pin(async move {
            let result = source.end(shard, &ending).await;
            Done::Ended(ending.into_iter().map(|(key, _)| key).collect(), result)
        }));
    }

    fn take_done(&mut self, desk: &mut Desk, done: Done) {
        let now = self.runtime.instant();
        let (work, failure) = match done {
            Done::Page(Ok(page)) => {
                self.take_page(desk, page, now);
                (Work::Read, None)
            }
            Done::Page(Err(error)) => {
                desk.pass = None;
                let wait = self.backoff.next(&self.runtime, error.retry_after);
                desk.next_pass = now + wait;
                (Work::Read, Some(error))
            }
            Done::Looked(_, Ok(found)) => {
                desk.looks -= 1;
                let offers = self.ledger.looked(found, now, self.source.storage_now(now));
                self.hand_out(offers);
                (Work::Look, None)
            }
            Done::Looked(due, Err(error)) => {
                desk.looks -= 1;
                let wait = self.backoff.next(&self.runtime, error.retry_after);
                desk.next_look = now + wait;
                self.ledger.look_failed(due, desk.next_look);
                (Work::Look, Some(error))
            }
            Done::Ended(keys, Ok(())) => {
                desk.ending = false;
                self.ledger.ended(keys);
                // An empty feed is what people wait for.
                if self.ledger.open_records() == 0 {
                    desk.next_report = now;
                }
                (Work::End, None)
            }
            Done::Ended(keys, Err(error)) => {
                desk.ending = false;
                desk.next_end = now + self.backoff.next(&self.runtime, error.retry_after);
                self.ledger.not_ended(keys);
                (Work::End, Some(error))
            }
        };
        self.note(work, failure);
    }

    fn take_page(&mut self, desk: &mut Desk, page: PageRead, now: Instant) {
        let Some(pass) = desk.pass.as_mut() else { return };
        for record in &page.records {
            // What has no room stays in the feed. A pass that left something out is not a whole one.
            if self.ledger.open_records() >= self.max_open_records && !self.ledger.knows(&record.key) {
                pass.whole = false;
                continue;
            }
            pass.found_new |= self.ledger.admit(&record.key, record.etag.clone(), record.inserted, &record.change, now);
        }
        pass.whole &= page.clean;
        if pass.found_new {
            self.activity.seen(now);
        }
        if let Some(continuation) = page.continuation {
            let from = pass.from;
            return self.read_on(desk, from, continuation);
        }
        if pass.whole {
            self.ledger.complete_pass(now);
        }
        let (found_new, took) = (pass.found_new, now - pass.began);
        desk.next_pass = now + self.pace.after(found_new, took, &self.activity, now);
        desk.pass = None;
        self.board.progressed();
    }

    fn hand_out(&mut self, offers: Vec<Offer>) {
        for number in 0..self.baskets.len() {
            let basket = self.baskets[number].clone();
            let offered = offers.iter().filter(|offer| offer.consumers.contains(number));
            let (mine, others): (Vec<_>, Vec<_>) =
                offered.partition(|offer| basket.leaves_out(&offer.looked.row).is_none());
            let mine = mine.into_iter().map(|offer| Parcel {
                id: offer.looked.row.clone(),
                look: offer.looked.look,
                began: offer.looked.began,
                announced: self.announced(&offer.looked, number),
                base: self.ledger.base(&offer.looked).cloned(),
                finding: offer.looked.finding.clone(),
            });
            let mut mine = mine.peekable();
            if mine.peek().is_some() {
                basket.put(mine, self.budget);
            }
            self.leave_out(number, &basket, &others);
        }
    }

    /// What a copy leaves out is no change for it, so that it has all of that already.
    fn leave_out(&mut self, number: usize, basket: &Basket, offers: &[&Offer]) {
        for Offer { looked, .. } in offers.iter().copied() {
            self.ledger.delivered(&looked.row, number, looked.look, &looked.finding);
            if let Some(copy) = basket.leaves_out(&looked.row) {
                self.board.settled(copy, ApplyOutcome::Filtered, 1);
            }
        }
    }

    fn announced(&self, looked: &Looked, consumer: usize) -> Time {
        let announced = self.ledger.announced(&looked.row, consumer);
        // A row that is offered is open; else the time that its version claims would do.
        announced.or(looked.finding.version().map(Version::time)).unwrap_or(Time::EPOCH)
    }

    fn take_report(&mut self, report: Report) {
        let now = self.runtime.instant();
        for parcel in report.delivered {
            self.ledger.delivered(&parcel.id, report.consumer, parcel.look, &parcel.finding);
        }
        for parcel in report.look_again {
            self.ledger.look_again(&parcel.id, report.consumer, now);
        }
        for parcel in report.look_later {
            self.ledger.look_again(&parcel.id, report.consumer, now + LOOK_LATER);
        }
    }

    fn note(&mut self, work: Work, failure: Option<StoreError>) {
        let (health, account) = (&self.source.health, self.source.account());
        match failure {
            None => {
                self.backoff.reset();
                health.succeeded(account, self.shard, work);
            }
            Some(error) => health.failed(account, self.shard, work, &error),
        }
    }

    fn report(&self) {
        let consumers = 0..self.baskets.len();
        let last_sync: Vec<_> = consumers.clone().map(|consumer| self.ledger.last_sync(consumer)).collect();
        let progress = ShardProgress {
            read_once: self.ledger.was_read(),
            fresh_to: consumers.clone().map(|consumer| self.ledger.fresh_to(consumer)).collect(),
            oldest_waiting: consumers.clone().map(|consumer| self.ledger.oldest_waiting(consumer)).collect(),
            waiting_rows: consumers.map(|consumer| self.ledger.waiting_rows(consumer)).collect(),
            open_records: self.ledger.open_records(),
            last_sync,
            reported: None,
        };
        let shard = AccountShard { account: self.source.account().clone(), shard: self.shard };
        self.board.report(shard, progress);
    }
}
