//! A writer of the demo: what an application does all day, and what it remembers having done.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::acts::Act;
use super::counts::Counts;
use super::rows;
use super::world::{DataTables, SETTLE_WINDOW};
use crate::model::{Change, Etag, HybridClock, RowId, RowKey};
use crate::runtime::Runtime;
use crate::stores::{Condition, Operation, RegionStore};
use crate::writer::{WriteError, Writer, WriterOptions, Written, announce};

/// What a writer is owed of a row that nobody else writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Promise {
    /// It stands as this step of the writer left it.
    Stands(i64),
    /// It is deleted, or was never written.
    Gone,
}

/// All promises of a writer, or of several.
pub(super) type Promises = BTreeMap<RowId, Promise>;

/// One writer.
pub(super) struct Agent {
    name: String,
    store: RegionStore,
    tables: DataTables,
    /// Its own clock, which is wrong, and its own choices.
    runtime: Runtime,
    writer: Writer,
    counts: Arc<Mutex<Counts>>,
    /// Rows of its own that stand, with the ETag of the last write.
    standing: Vec<(RowId, Option<Etag>)>,
    promises: Promises,
    next_row: u64,
    step: i64,
}

fn options() -> WriterOptions {
    WriterOptions { settle_window: SETTLE_WINDOW, max_clock_skew: SETTLE_WINDOW, ..WriterOptions::default() }
}

impl Agent {
    /// A writer of `store`'s region with the clock and the choices of `runtime`.
    pub fn new(
        name: String,
        store: RegionStore,
        tables: DataTables,
        runtime: Runtime,
        counts: Arc<Mutex<Counts>>,
    ) -> Self {
        let writer = Writer::new(store.clone(), options(), runtime.clone());
        let (standing, promises) = (Vec::new(), Promises::new());
        Self { name, store, tables, runtime, writer, counts, standing, promises, next_row: 0, step: 0 }
    }

    /// Writes once every `pause`, or as fast as it gets its replies, until it is stopped; crashes once, after `crash`.
    /// Returns what it is owed.
    pub async fn run(mut self, pause: Duration, mut crash: Option<Duration>, stop: CancellationToken) -> Promises {
        let began = self.runtime.instant();
        let mut ticks = tokio::time::interval(pause);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return self.promises,
                _ = ticks.tick() => {}
            }
            if crash.take_if(|after| began.elapsed() >= *after).is_some() {
                self.crash().await;
                continue;
            }
            let act = Act::draw(&self.runtime);
            self.act(act).await;
        }
    }

    async fn act(&mut self, act: Act) {
        match act {
            Act::Insert => self.insert().await,
            Act::Merge => self.merge().await,
            Act::Replace => self.replace().await,
            Act::Delete => self.delete().await,
            Act::Transaction => self.transaction().await,
            Act::HotReplace | Act::HotMerge | Act::HotSwap | Act::HotDelete => self.hot(act).await,
        }
    }

    async fn insert(&mut self) {
        let (id, step) = (self.new_row(), self.next_step());
        let body = rows::order(&id, step, &self.runtime);
        let result = self.writer.insert(&id.table, &body, None).await;
        if let Some(written) = self.take(&[&id], result, Promise::Stands(step), |counts| &mut counts.inserts) {
            self.standing.push((id, written.etag().cloned()));
        }
    }

    async fn merge(&mut self) {
        let Some((at, id, _)) = self.pick() else { return self.insert().await };
        let step = self.next_step();
        let body = rows::shipped(&id, step);
        let result = self.writer.merge(&id.table, &body, Condition::Present, None).await;
        let written = self.take(&[&id], result, Promise::Stands(step), |counts| &mut counts.merges);
        self.standing[at].1 = written.and_then(|written| written.etag().cloned());
    }

    async fn replace(&mut self) {
        let Some((at, id, etag)) = self.pick() else { return self.insert().await };
        let step = self.next_step();
        let body = rows::order(&id, step, &self.runtime);
        let condition = etag.map_or(Condition::Present, Condition::Matches);
        let result = self.writer.replace(&id.table, &body, condition, None).await;
        let written = self.take(&[&id], result, Promise::Stands(step), |counts| &mut counts.replaces);
        self.standing[at].1 = written.and_then(|written| written.etag().cloned());
    }

    async fn delete(&mut self) {
        let Some((at, id, _)) = self.pick() else { return self.insert().await };
        self.standing.swap_remove(at);
        let result = self.writer.delete(&id.table, &id.partition, &id.row, Condition::Present, None).await;
        self.take(&[&id], result, Promise::Gone, |counts| &mut counts.deletes);
    }

    /// An order with its lines, in one transaction.
    async fn transaction(&mut self) {
        let first = self.new_row();
        let lines = 2 + self.runtime.random() % 5;
        let line = |n: u64| RowId { row: RowKey::new(format!("{} line {n}", first.row)), ..first.clone() };
        let ids: Vec<RowId> = std::iter::once(first.clone()).chain((1..=lines).map(line)).collect();
        let step = self.next_step();
        let operations = ids.iter().map(|id| Operation::Insert(rows::order(id, step, &self.runtime))).collect();
        let result = self.writer.transaction(&first.table, &first.partition, operations, None).await;
        let all: Vec<&RowId> = ids.iter().collect();
        if let Some(written) = self.take(&all, result, Promise::Stands(step), |counts| &mut counts.transactions) {
            self.standing.extend(ids.into_iter().zip(written.etags));
        }
    }

    /// A row that everybody writes. Nobody is owed anything of it but that all regions agree.
    async fn hot(&mut self, act: Act) {
        let id = rows::hot(&self.tables.stock, &self.runtime);
        let step = self.next_step();
        let body = rows::stock(&id, &self.name, step);
        let (result, field): (_, Field) = match act {
            Act::HotMerge => {
                (self.writer.insert_or_merge(&id.table, &body, None).await, |counts: &mut Counts| &mut counts.merges)
            }
            Act::HotDelete => {
                let deleted = self.writer.delete(&id.table, &id.partition, &id.row, Condition::Present, None).await;
                (deleted, |counts| &mut counts.deletes)
            }
            Act::HotSwap => match self.swap(&id).await {
                Some(result) => (result, |counts| &mut counts.replaces),
                None => return,
            },
            _ => (self.writer.insert_or_replace(&id.table, &body, None).await, |counts| &mut counts.replaces),
        };
        self.count(result.as_ref(), 1, field);
    }

    /// Reads a hot row and writes it back on its ETag, as a counter is raised. Nothing where the row is not there.
    async fn swap(&mut self, id: &RowId) -> Option<Result<Written, WriteError>> {
        let tables = self.store.holding(&id.table, &id.partition);
        let row = tables.get(&id.table, &id.partition, &id.row).await.ok().flatten()?;
        let step = self.next_step();
        let body = rows::stock(id, &self.name, step);
        Some(self.writer.replace(&id.table, &body, Condition::Matches(row.etag), row.body.version()).await)
    }

    /// Announces a row, and dies before it writes it. Who comes back is another writer with another id.
    async fn crash(&mut self) {
        let id = self.new_row();
        let mut clock = HybridClock::new(self.store.region().clone(), self.writer.id(), SETTLE_WINDOW);
        let Ok(version) = clock.issue(self.runtime.now(), None) else { return };
        let (puts, deletes) = (vec![id.row.clone()], Vec::new());
        let (table, partition) = (id.table.clone(), id.partition.clone());
        let change = Change { table, partition, puts, deletes, version, base: None };
        let tables = self.store.holding(&id.table, &id.partition);
        let deadline = self.runtime.instant() + SETTLE_WINDOW / 2;
        let announced = announce(tables.as_ref(), &self.runtime, &change, &BTreeMap::new(), deadline).await;
        match announced {
            Ok(_) => self.counts().crashes += 1,
            Err(_) => self.counts().failed += 1,
        }
        self.promises.insert(id, Promise::Gone);
        self.writer = Writer::new(self.store.clone(), options(), self.runtime.clone());
    }

    fn new_row(&mut self) -> RowId {
        self.next_row += 1;
        let row = RowKey::new(format!("{} {:05}", self.name, self.next_row));
        RowId::new(self.tables.orders.clone(), rows::customer(&self.runtime), row)
    }

    fn next_step(&mut self) -> i64 {
        self.step += 1;
        self.step
    }

    fn pick(&self) -> Option<(usize, RowId, Option<Etag>)> {
        let at = self.runtime.random().checked_rem(self.standing.len() as u64)? as usize;
        let (id, etag) = self.standing.get(at)?;
        Some((at, id.clone(), etag.clone()))
    }

    /// Counts a write of rows of its own, and notes what it is owed now.
    fn take(
        &mut self,
        ids: &[&RowId],
        result: Result<Written, WriteError>,
        promise: Promise,
        field: Field,
    ) -> Option<Written> {
        self.count(result.as_ref(), ids.len() as u64, field);
        for id in ids {
            match &result {
                Ok(_) => drop(self.promises.insert((*id).clone(), promise)),
                // Nothing was written: what was promised before still holds.
                Err(WriteError::Refused(_)) => {}
                // Nobody knows what stands there.
                Err(_) => drop(self.promises.remove(id)),
            }
        }
        result.ok()
    }

    fn count(&self, result: Result<&Written, &WriteError>, rows: u64, field: Field) {
        let mut counts = self.counts();
        match result {
            Ok(_) => {
                *field(&mut counts) += 1;
                counts.rows += rows;
            }
            Err(WriteError::Refused(_)) => counts.refused += 1,
            Err(error) => {
                tracing::debug!(writer = self.name, %error, "a write failed");
                counts.failed += 1;
            }
        }
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which count a write raises.
type Field = fn(&mut Counts) -> &mut u64;
