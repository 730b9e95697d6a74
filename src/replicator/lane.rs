//! A lane: what carries one shard's findings to one consumer.

use std::sync::{Arc, Mutex};

use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::board::StatusBoard;
use super::create_missing;
use super::deliver::Delivery;
use super::health::Backoff;
use super::item::Outcome;
use super::refresh::CacheLane;
use crate::batch::{Limits, Parcel, Pending};
use crate::resolve::Finding;
use crate::runtime::Runtime;
use crate::stores::{ErrorKind, StoreError};

/// What waits in a lane; the shard's carrier puts in, the lane's task takes out.
#[derive(Debug, Default)]
pub(super) struct Basket {
    pending: Mutex<Pending>,
    filled: Notify,
}

impl Basket {
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

/// Where a lane leads.
#[derive(Debug)]
pub(super) enum Consumer {
    Region(Arc<Delivery>),
    Cache(CacheLane),
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
        if self.backoff.is_failing() { Limits { rows: 1, ..self.limits } } else { self.limits }
    }

    async fn carry(&mut self, batch: Vec<Parcel>) {
        let outcomes = match &self.consumer {
            Consumer::Region(delivery) => delivery.deliver(batch).await,
            Consumer::Cache(cache) => cache.refresh(batch).await,
        };
        let mut report = Report::of(self.number);
        let (mut failed, mut failure, mut done) = (Vec::new(), None, std::collections::BTreeMap::new());
        for (parcel, outcome) in outcomes {
            match outcome {
                Outcome::Done(outcome) => {
                    *done.entry(outcome).or_insert(0) += 1;
                    report.delivered.push(parcel);
                }
                Outcome::LookAgain => report.look_again.push(parcel),
                Outcome::LookLater => report.look_later.push(parcel),
                Outcome::Failed(error) | Outcome::Refused(error) => {
                    failure = Some(error);
                    failed.push(parcel);
                }
            }
        }
        if let Consumer::Region(delivery) = &self.consumer {
            for (outcome, rows) in done {
                self.board.settled(delivery.to.region(), outcome, rows);
            }
            match &failure {
                Some(error) => delivery.to.health.failed(error),
                None if !report.delivered.is_empty() => delivery.to.health.succeeded(),
                None => {}
            }
        }
        let had_success = !report.delivered.is_empty();
        if !report.is_empty() {
            // The carrier outlives its lanes but for the shutdown, when nobody waits for reports.
            let _ = self.reports.send(report).await;
        }
        self.basket.put(failed, self.budget);
        match failure {
            Some(error) => {
                self.create_what_is_missing(&error).await;
                let wait = self.backoff.next(&self.runtime, error.retry_after);
                tokio::time::sleep(wait).await;
            }
            None if had_success => self.backoff.reset(),
            None => {}
        }
    }

    /// A destination whose own daemon never ran has no system tables yet.
    async fn create_what_is_missing(&self, error: &StoreError) {
        let (Consumer::Region(delivery), ErrorKind::NoTable) = (&self.consumer, error.kind) else { return };
        if let Err(error) = create_missing(&delivery.to.store).await {
            debug!(destination = %delivery.to.region(), %error, "its system tables could not be created yet");
        }
    }
}
