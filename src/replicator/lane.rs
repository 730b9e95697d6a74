//! A lane: what carries one shard's findings to one consumer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::board::StatusBoard;
use super::consumer::Consumer;
use super::health::{Backoff, Health, Why};
use super::item::Outcome;
use crate::batch::{Limits, Parcel, Pending};
use crate::feed::Hint;
use crate::model::{Region, RowId};
use crate::planted::{Bug, planted};
use crate::resolve::Finding;
use crate::runtime::Runtime;
use crate::stores::StoreError;
use crate::topology::CopyRule;

/// How often a lane whose batch takes long looks at what waits behind it.
const CROWD_CHECK: Duration = Duration::from_millis(500);

/// What waits in a lane; the shard's carrier puts in, the lane's task takes out.
#[derive(Debug, Default)]
pub(super) struct Basket {
    pending: Mutex<Pending>,
    filled: Notify,
    /// Of a copy: its name, and what goes there.
    copy: Option<(Region, Arc<CopyRule>)>,
}

impl Basket {
    pub fn new(copy: Option<(Region, Arc<CopyRule>)>) -> Self {
        Self { copy, ..Self::default() }
    }

    /// The copy that has nothing to do with this row, where it is that of one.
    pub fn leaves_out(&self, id: &RowId) -> Option<&Region> {
        let (name, rule) = self.copy.as_ref()?;
        (!rule.takes(&id.table, &id.partition)).then_some(name)
    }

    /// Takes parcels in, all at once, so that a batch never takes half of a transaction. Beyond the budget only the key
    /// waits: the row is read again when its turn comes.
    pub fn put(&self, parcels: impl IntoIterator<Item = Parcel>, budget: usize) {
        let mut pending = self.lock();
        for mut parcel in parcels {
            if pending.bytes() + parcel.finding.bytes() > budget && !pending.is_empty() {
                parcel.finding = Finding::Nothing;
            }
            pending.offer(parcel);
        }
        drop(pending);
        self.filled.notify_one();
    }

    fn take(&self, limits: Limits) -> Vec<Parcel> {
        self.lock().take(limits)
    }

    fn rows(&self) -> usize {
        self.lock().rows()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// What a lane tells its carrier.
#[derive(Debug)]
pub(super) struct Report {
    pub consumer: usize,
    pub delivered: Vec<Parcel>,
    pub look_again: Vec<Parcel>,
    pub look_later: Vec<Parcel>,
}

impl Report {
    fn of(consumer: usize) -> Self {
        Self { consumer, delivered: vec![], look_again: vec![], look_later: vec![] }
    }

    fn is_empty(&self) -> bool {
        self.delivered.is_empty() && self.look_again.is_empty() && self.look_later.is_empty()
    }
}

/// A lane's task.
#[derive(Debug)]
pub(super) struct Lane {
    pub number: usize,
    pub consumer: Consumer,
    pub basket: Arc<Basket>,
    pub reports: mpsc::Sender<Report>,
    pub limits: Limits,
    pub budget: usize,
    /// Rows that are too many to wait in memory for long.
    pub crowd: usize,
    /// Since when nothing has got through although it was tried.
    pub trying: Option<Instant>,
    /// Since when too many rows wait.
    pub crowded: Option<Instant>,
    pub backoff: Backoff,
    pub board: Arc<StatusBoard>,
    pub runtime: Runtime,
}

impl Lane {
    /// Carries until it is stopped. A batch under way is let go: everything in it is still in the feed.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let batch = self.basket.take(self.limits());
            if batch.is_empty() {
                // Whoever has nothing to do does not wait for anything.
                (self.trying, self.crowded) = (None, None);
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    () = self.basket.filled.notified() => continue,
                }
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.carry(batch) => {}
            }
        }
    }

    /// While the consumer fails, one partition at a time is enough to find out whether it still does.
    fn limits(&self) -> Limits {
        let parked = self.consumer.health().is_parked();
        if self.backoff.is_failing() && !parked { Limits { rows: 1, ..self.limits } } else { self.limits }
    }

    async fn carry(&mut self, batch: Vec<Parcel>) {
        let consumer = self.consumer.clone();
        let _at_work = consumer.reception().begin();
        let began = *self.trying.get_or_insert(self.runtime.instant());
        let waiting = batch.clone();
        let outcomes = tokio::select! {
            biased;
            () = self.given_up(consumer.health(), began, Why::Unanswered) => return self.hint(waiting).await,
            outcomes = consumer.deliver(batch) => outcomes,
        };
        let (report, later, failed, failure) = self.sort(outcomes);
        let had_success = !report.delivered.is_empty();
        if had_success {
            self.trying = None;
        }
        self.tell(report).await;
        self.basket.put(failed, self.budget);
        if !later.is_empty() {
            self.keep_as_hints(later).await;
        }
        match failure {
            Some(error) => {
                consumer.create_what_is_missing(&error).await;
                let wait = self.backoff.next(&self.runtime, error.retry_after);
                self.rest(wait).await;
            }
            None if had_success => self.backoff.reset(),
            None => {}
        }
    }

    /// What to tell the carrier, what is to become a hint, what is to be tried again, and why.
    fn sort(&self, outcomes: Vec<(Parcel, Outcome)>) -> (Report, Vec<Parcel>, Vec<Parcel>, Option<StoreError>) {
        let mut report = Report::of(self.number);
        let (mut later, mut failed, mut failure, mut done) = (Vec::new(), Vec::new(), None, BTreeMap::new());
        for (parcel, outcome) in outcomes {
            match outcome {
                Outcome::Done(outcome) => {
                    *done.entry(outcome).or_insert(0) += 1;
                    report.delivered.push(parcel);
                }
                Outcome::LookAgain => report.look_again.push(parcel),
                Outcome::LookLater if self.consumer.keeps_what_waits() => later.push(parcel),
                Outcome::LookLater => report.look_later.push(parcel),
                Outcome::Failed(error) | Outcome::Refused(error) => {
                    failure = Some(error);
                    failed.push(parcel);
                }
            }
        }
        for (outcome, rows) in done {
            self.consumer.settled(&self.board, outcome, rows);
        }
        match &failure {
            Some(error) => self.consumer.health().failed(error),
            None if !report.delivered.is_empty() => self.consumer.health().succeeded(),
            None => {}
        }
        (report, later, failed, failure)
    }

    async fn tell(&self, report: Report) {
        if !report.is_empty() {
            // The carrier outlives its lanes but for the shutdown, when nobody waits for reports.
            let _ = self.reports.send(report).await;
        }
    }

    /// Waits before the next try, unless the consumer is parked meanwhile.
    async fn rest(&mut self, wait: Duration) {
        let (consumer, now) = (self.consumer.clone(), self.runtime.instant());
        let began = self.trying.unwrap_or(now);
        tokio::select! {
            biased;
            () = self.given_up(consumer.health(), began, Why::Failing) => {}
            () = tokio::time::sleep(wait) => {}
        }
    }

    /// Waits until the consumer is parked: by somebody else, or by this lane, because nothing got through it since
    /// `began`, for that reason, or because too much waits in it.
    async fn given_up(&mut self, health: &Health, began: Instant, why: Why) {
        let deadline = began + health.park_after();
        loop {
            let now = self.runtime.instant();
            self.crowded = (self.basket.rows() >= self.crowd).then(|| self.crowded.unwrap_or(now));
            if now >= deadline {
                health.park(why, began);
            } else if let Some(since) = self.crowded.filter(|since| now >= *since + health.park_after()) {
                health.park(Why::Crowded, since);
            }
            tokio::select! {
                biased;
                () = health.until_parked() => return,
                () = tokio::time::sleep_until(deadline.min(now + CROWD_CHECK)) => {}
            }
        }
    }

    /// The consumer is parked.
    async fn hint(&mut self, batch: Vec<Parcel>) {
        (self.trying, self.crowded) = (None, None);
        self.backoff.reset();
        self.keep_as_hints(batch).await;
    }

    /// What was found becomes hints, which is as good as delivered (R1).
    async fn keep_as_hints(&mut self, batch: Vec<Parcel>) {
        let mut report = Report::of(self.number);
        let mut hints = Vec::with_capacity(batch.len());
        for parcel in batch {
            let (id, since) = (parcel.id.clone(), parcel.announced);
            match parcel.finding.version().cloned() {
                Some(version) => {
                    hints.push(Hint { id, version, since });
                    report.delivered.push(parcel);
                }
                // Its finding was let go for want of memory.
                None => report.look_again.push(parcel),
            }
        }
        if planted(Bug::CacheHoldsTheFeed) && matches!(self.consumer, Consumer::Cache(_)) {
            self.basket.put(report.delivered, self.budget);
            return tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let forgets = match self.consumer {
            Consumer::Region(_) => planted(Bug::HintNotDurable),
            Consumer::Cache(_) => planted(Bug::CacheHintNotDurable),
        };
        let kept = if forgets { Ok(()) } else { self.consumer.backlog().keep(hints).await };
        match kept {
            Ok(()) => self.tell(report).await,
            Err(error) => {
                self.basket.put(std::mem::take(&mut report.delivered), self.budget);
                self.tell(report).await;
                let wait = self.backoff.next(&self.runtime, error.retry_after);
                tokio::time::sleep(wait).await;
            }
        }
    }
}
