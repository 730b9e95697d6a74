//! Delivering a batch to a destination: R4 and R5 for many rows at a time.
//!
//! A batch goes in rounds. A round reads what it does not know, asks `resolve` for verdicts, raises tombstones, sends
//! transactions, and looks at the tombstones again; what was overtaken meanwhile goes into the next round with nothing
//! remembered. Requests, not clock time, are what it saves: a remembered ETag saves the read of an update, an insert is
//! tried without reading while rows of the table have been absent lately, and tombstones are read a shard at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::time::{Instant, timeout};

use super::destination::Destination;
use super::disagree::{Disagreement, Referee};
use super::gather::{gather, gather_all};
use super::item::{Item, Known, Outcome};
use super::journal::{Case, Lost};
use super::late::{self, LateDesk, Ruling};
use super::rows::read_rows;
use super::single::{Unsettled, raise};
use super::tombstones::Tomb;
use crate::apply::{Step, Transaction, plan};
use crate::batch::Parcel;
use crate::feed::Shard;
use crate::model::{AccountName, ClosedList, Etag, Region, RowId, SystemTable, Tombstone, Version};
use crate::planted::{Bug, planted};
use crate::resolve::{Finding, Freshness, Standing, Verdict, deliver_delete, deliver_row};
use crate::stores::limits::MAX_OPERATIONS;
use crate::stores::{Condition, ErrorKind, Operation, StoreError, Tables, TransactionError};
use crate::telemetry::Event;
use crate::telemetry::metrics::ApplyOutcome;

/// Tombstones to be raised in an account, each with the item that it is for.
type Raises = (Arc<dyn Tables>, Vec<(usize, Operation)>);

/// Tombstones that are raised in one transaction: those of a shard, but for a row that is to be sent alone.
type Together = (AccountName, Shard, Option<usize>);

/// Rounds of one batch; a row that is overtaken more often waits for its next look.
const ROUNDS: usize = 4;

/// Delivers batches to one destination.
#[derive(Debug)]
pub(super) struct Delivery {
    pub to: Arc<Destination>,
    pub referee: Arc<Referee>,
    pub late: Arc<LateDesk>,
    pub fresh: Freshness,
}

impl Delivery {
    /// Delivers a batch; says of every parcel what became of it.
    pub async fn deliver(&self, parcels: Vec<Parcel>) -> Vec<(Parcel, Outcome)> {
        let heard = match &self.to.copy {
            // It has no role that could have been taken from it.
            Some(_) => Ok(Instant::now()),
            None => self.late.heard(self.to.region(), Instant::now()),
        };
        let heard = match heard {
            Ok(heard) => heard,
            Err(error) => return parcels.into_iter().map(|parcel| (parcel, Outcome::Failed(error.clone()))).collect(),
        };
        let epoch = self.to.store.routes_epoch();
        let mut items: Vec<Item> = parcels.into_iter().map(|parcel| Item::new(parcel, heard)).collect();
        if let Some(rule) = &self.to.copy {
            items.iter_mut().for_each(|item| item.narrow(rule));
        }
        self.set_late_aside(&mut items).await;
        for round in 0..ROUNDS {
            items.iter_mut().filter(|item| item.is_open() && item.overtaken).for_each(Item::restart);
            self.drop_stale(&mut items);
            if items.iter().all(|item| !item.is_open()) {
                break;
            }
            if let Err(error) = self.round(&mut items, round).await {
                for item in items.iter_mut().filter(|item| item.is_open()) {
                    item.outcome = Some(Outcome::Failed(error.clone()));
                }
            }
        }
        self.set_refused_aside(&mut items).await;
        self.tell(&mut items).await;
        let finished = items.into_iter().map(Item::finish);
        if self.to.store.routes_epoch() == epoch {
            return finished.collect();
        }
        // Some of it may have been done by the routes before and the rest by those of now: once more, by these.
        let again = |outcome| if matches!(outcome, Outcome::Done(_)) { Outcome::LookAgain } else { outcome };
        finished.map(|(parcel, outcome)| (parcel, again(outcome))).collect()
    }

    /// R9: nothing is sent on a look that is too old. Bodies that were let go for want of memory are read again too.
    fn drop_stale(&self, items: &mut [Item]) {
        let now = Instant::now();
        for item in items.iter_mut().filter(|item| item.is_open()) {
            if !self.fresh.allows(item.began, now) {
                item.outcome = Some(Outcome::LookAgain);
            }
        }
    }

    /// Where this region is no writer, what it issued and the writer does not have goes no further than the journal, if that is
    /// its place.
    async fn set_late_aside(&self, items: &mut [Item]) {
        let (mut asked, mut above): (Vec<BoxFuture<'_, _>>, _) = (Vec::new(), Vec::new());
        for (n, item) in items.iter_mut().enumerate().filter(|(_, item)| item.is_open()) {
            let Some(writer) = self.writer_over(&item.parcel.finding) else { continue };
            if !self.late.is_counted() {
                item.outcome = Some(Outcome::LookLater);
                continue;
            }
            if self.late.rules() {
                let parcel = item.parcel.clone();
                let is_writer = writer == *self.to.region();
                asked.push(Box::pin(async move { (n, is_writer, self.rule(&parcel, &writer).await) }));
            } else if planted(Bug::ResidualLost) {
                item.outcome = Some(Outcome::Done(ApplyOutcome::Superseded));
            }
        }
        for (n, is_writer, ruling) in gather(asked).await {
            items[n].outcome = match ruling {
                Ok(Ruling::Ordinary) => continue,
                Ok(Ruling::Overruled) if is_writer => Some(Outcome::Done(ApplyOutcome::Journaled)),
                Ok(Ruling::Overruled | Ruling::Superseded) => {
                    above.push((n, is_writer));
                    continue;
                }
                Err(outcome) => Some(outcome),
            };
        }
        // What the writer has is above it. Here it is taken over; to any other region the writer's brings it, and until it is
        // there, that region lacks what was announced here.
        for (n, is_writer) in above {
            // Nothing is taken over from a copy.
            if self.to.copy.is_none() {
                self.settle(&mut items[n]).await;
            }
            items[n].outcome.get_or_insert(if is_writer { Outcome::LookAgain } else { Outcome::LookLater });
        }
    }

    fn writer_over(&self, finding: &Finding) -> Option<Region> {
        self.late.suspects(finding.version()?, self.referee.here.region())
    }

    async fn rule(&self, parcel: &Parcel, writer: &Region) -> Result<Ruling, Outcome> {
        let here = self.referee.here.region();
        let asked = self.late.rule(&parcel.id, &parcel.finding, here, writer);
        // On the way to a third region, the writer's is waited for only so long: it is not what this lane is about.
        let ruling = match writer == self.to.region() {
            true => asked.await,
            false => match timeout(late::PATIENCE, asked).await {
                Ok(Err(Unsettled::Failed(_))) | Err(_) => return Err(Outcome::LookLater),
                Ok(ruling) => ruling,
            },
        };
        ruling.map_err(|unsettled| match unsettled {
            Unsettled::LookAgain => Outcome::LookAgain,
            Unsettled::Failed(error) => Outcome::Failed(error),
        })
    }

    async fn round(&self, items: &mut [Item], round: usize) -> Result<(), StoreError> {
        self.learn(items, round).await?;
        let mut disagreements = Vec::new();
        for (n, item) in items.iter_mut().enumerate().filter(|(_, item)| item.is_open()) {
            item.verdict = Some(self.verdict(item));
            if matches!(item.verdict, Some(Verdict::Newer | Verdict::Lift)) {
                disagreements.push(n);
            }
        }
        self.weigh_losses(items).await?;
        if planted(Bug::RemoveFirst) {
            self.write(items).await;
        }
        if !planted(Bug::NoRaise) {
            self.raise_tombstones(items).await;
        }
        if !planted(Bug::RemoveFirst) {
            self.write(items).await;
        }
        self.look_back(items, &mut disagreements).await?;
        for n in disagreements {
            self.settle(&mut items[n]).await;
        }
        Ok(())
    }

    /// Fills in what stands at the destination, as far as it takes a request to know.
    async fn learn(&self, items: &mut [Item], round: usize) -> Result<(), StoreError> {
        for item in items.iter_mut().filter(|item| item.is_open()) {
            let id = &item.parcel.id;
            item.known = match (&item.parcel.finding, self.to.remembered(id)) {
                _ if round > 0 && !planted(Bug::EtagKept) => Known::Nothing,
                // A memory that asks for no write is refuted by no condition: the row is read.
                (found, Some((_, version))) if found.version().is_none_or(|found| *found <= version) => Known::Nothing,
                (_, Some((etag, version))) => Known::Row(etag, version),
                (Finding::Row { .. }, None) if self.to.expects_absent(id) => Known::Absent,
                _ => Known::Nothing,
            };
        }
        let unknown = |item: &Item| item.is_open() && matches!(item.known, Known::Nothing);
        let ids: Vec<&RowId> = items.iter().filter(|i| unknown(i)).map(|item| &item.parcel.id).collect();
        if !ids.is_empty() {
            let rows = read_rows(&self.to.store, &ids).await?;
            for item in items.iter_mut().filter(|item| unknown(item)) {
                let row = rows.get(&item.parcel.id);
                self.to.learned_absent(&item.parcel.id.table, row.is_none());
                if let (Some(row), Some(version), true) = (row, item.parcel.finding.version(), planted(Bug::WrongEtag))
                {
                    self.to.remember(&item.parcel.id, row.etag.clone(), version.clone());
                }
                item.there = row.cloned();
                item.known = match row {
                    Some(row) => Known::Row(row.etag.clone(), row.version(self.to.region())),
                    None => Known::Absent,
                };
            }
        }
        let ids: Vec<&RowId> =
            items.iter().filter(|i| i.is_open() && i.needs_tombstone()).map(|i| &i.parcel.id).collect();
        if !ids.is_empty() {
            let mut tombs = self.to.tombstones.of_rows(&ids).await?;
            for item in items.iter_mut().filter(|item| item.is_open() && item.needs_tombstone()) {
                item.tomb = tombs.remove(&item.parcel.id);
            }
        }
        Ok(())
    }

    fn verdict(&self, item: &Item) -> Verdict {
        let there = Standing {
            row: item.known.version().cloned(),
            tombstone: item.tomb.as_ref().and_then(|tomb| tomb.version.clone()),
        };
        let verdict = match &item.parcel.finding {
            Finding::Row { version, .. } => deliver_row(version, self.decider(version), &there),
            Finding::Deleted(version) => deliver_delete(version, self.decider(version), &there),
            Finding::Nothing | Finding::Future(_) => Verdict::Equal,
        };
        // What stands in a copy is nobody's word: one that was brought by another filter is brought anew.
        match verdict {
            Verdict::Equal if self.to.copy.is_some() && item.says_otherwise() => Verdict::Replace,
            verdict => verdict,
        }
    }

    /// Whose store has a word on its own versions here (R10): that of a region. A copy has none, whatever its name once was.
    fn decider(&self, version: &Version) -> &Region {
        self.referee.decider(&self.to, version)
    }

    /// What is overwritten in its own region by another one that does not know it goes into the journal first.
    async fn weigh_losses(&self, items: &[Item]) -> Result<(), StoreError> {
        let mut cases: Vec<BoxFuture<'_, _>> = Vec::new();
        for item in items.iter().filter(|item| item.is_open()) {
            let Some(lost) = item.lost() else { continue };
            cases.push(Box::pin(self.weigh(&item.parcel, &item.parcel.finding, lost)));
        }
        gather_all(cases).await.map(drop)
    }

    async fn weigh(&self, parcel: &Parcel, winner: &Finding, lost: Lost) -> Result<(), StoreError> {
        let (source, home) = (self.referee.here.region(), self.to.region());
        let case = Case { id: &parcel.id, winner, base: parcel.base.as_ref(), lost, source, home };
        self.referee.journal.weigh(case).await
    }

    /// R5, first step: the tombstones of all deletes of the batch, those of a shard together.
    async fn raise_tombstones(&self, items: &mut [Item]) {
        let mut shards: BTreeMap<Together, Raises> = BTreeMap::new();
        for (n, item) in items.iter().enumerate().filter(|(_, item)| item.is_open()) {
            let (Some(Verdict::Delete { raise: true, .. }), Finding::Deleted(version)) =
                (item.verdict, &item.parcel.finding)
            else {
                continue;
            };
            let id = item.parcel.id.clone();
            let tables = self.to.store.holding(&id.table, &id.partition);
            let account = tables.account().clone();
            let (shard, alone) = (Shard::of(&id.table, &id.partition), item.alone.then_some(n));
            let tombstone = Tombstone { id, version: version.clone() };
            let operation = raise(&tombstone, item.tomb.as_ref());
            let (_, raises) = shards.entry((account, shard, alone)).or_insert_with(|| (tables, Vec::new()));
            raises.extend(operation.map(|operation| (n, operation)));
        }
        for ((_, shard, _), (tables, raises)) in shards {
            for chunk in raises.chunks(MAX_OPERATIONS) {
                let operations: Vec<Operation> = chunk.iter().map(|(_, operation)| operation.clone()).collect();
                let feed = SystemTable::Feed.name();
                let _permit = self.to.permits.acquire().await;
                let oldest = chunk.iter().map(|(n, _)| items[*n].began).min();
                let raised = match self.check_age(oldest) {
                    Ok(()) => tables.transact(&feed, &shard.partition(), &operations).await.map(drop),
                    Err(stale) => Err(stale),
                };
                if let Err(failure) = raised {
                    for (position, (n, _)) in chunk.iter().enumerate() {
                        items[*n].fail(&failure, position, chunk.len());
                    }
                }
            }
        }
    }

    /// R4 and the second step of R5: conditional transactions, a partition each.
    async fn write(&self, items: &mut [Item]) {
        let mut steps = Vec::new();
        for (n, item) in items.iter().enumerate().filter(|(_, item)| item.is_open() && !item.overtaken) {
            if let (Some(operation), Some(version)) = (item.operation(), item.parcel.finding.version()) {
                let (table, version) = (item.parcel.id.table.clone(), version.clone());
                steps.push(Step { item: n, table, version, operation, alone: item.alone });
            }
        }
        let mut sends: Vec<BoxFuture<'_, _>> = Vec::new();
        for transaction in plan(steps) {
            let oldest = transaction.items.iter().map(|n| items[*n].began).min();
            sends.push(Box::pin(self.send(transaction, oldest)));
        }
        for (transaction, result) in gather(sends).await {
            match result {
                Ok(etags) => {
                    for (n, etag) in transaction.items.iter().zip(etags) {
                        self.written(&mut items[*n], etag);
                    }
                }
                Err(failure) => self.failed(items, &transaction, &failure),
            }
        }
    }

    async fn send(
        &self,
        transaction: Transaction,
        oldest: Option<Instant>,
    ) -> (Transaction, Result<Vec<Option<Etag>>, TransactionError>) {
        let tables = self.to.store.holding(&transaction.table, &transaction.partition);
        let _permit = self.to.permits.acquire().await;
        if let Err(stale) = self.check_age(oldest) {
            return (transaction, Err(stale));
        }
        let result = match transaction.operations.as_slice() {
            [one] => tables.write(&transaction.table, one).await.map(|etag| vec![etag]).map_err(TransactionError::from),
            many => tables.transact(&transaction.table, &transaction.partition, many).await,
        };
        let result = match result {
            // A delete of a row that somebody else deleted has reached its end.
            Err(failure) if failure.error.kind == ErrorKind::NotFound && is_single_delete(&transaction) => {
                Ok(vec![None])
            }
            other => other,
        };
        (transaction, result)
    }

    /// R9 and the fence, just before a request goes out: waiting for a permit may have taken long. Not a failure of the store;
    /// the next round finds the look stale.
    fn check_age(&self, oldest: Option<Instant>) -> Result<(), TransactionError> {
        if oldest.is_none_or(|began| self.fresh.allows(began, Instant::now())) {
            return Ok(());
        }
        Err(StoreError::stale_look().into())
    }

    fn written(&self, item: &mut Item, etag: Option<Etag>) {
        let id = &item.parcel.id;
        match (etag, item.parcel.finding.version()) {
            (Some(etag), Some(version)) => {
                self.to.remember(id, etag.clone(), version.clone());
                item.known = Known::Row(etag, version.clone());
            }
            _ => {
                self.to.forget(id);
                item.known = Known::Absent;
            }
        }
        item.written = true;
    }

    fn failed(&self, items: &mut [Item], transaction: &Transaction, failure: &TransactionError) {
        if planted(Bug::FailedIsDone) || (planted(Bug::UnknownIsDone) && failure.error.status.is_none()) {
            return;
        }
        for (position, n) in transaction.items.iter().enumerate() {
            if planted(Bug::TransactionTorn) && failure.index.is_some_and(|index| index != position) {
                continue;
            }
            let item = &mut items[*n];
            if !planted(Bug::EtagKept) {
                self.to.forget(&item.parcel.id);
            }
            if failure.error.kind == ErrorKind::AlreadyExists {
                self.to.learned_absent(&transaction.table, false);
            }
            item.fail(failure, position, transaction.items.len());
        }
    }

    /// R4, last step: looks at the tombstones after insert, replace and equal; a row that was deleted meanwhile is taken
    /// out again. Rows whose fate is clear by then are done.
    async fn look_back(&self, items: &mut [Item], disagreements: &mut Vec<usize>) -> Result<(), StoreError> {
        self.create_tables(items).await?;
        let looks = |item: &Item| item.is_open() && !item.overtaken && item.stands_there();
        let ids: Vec<&RowId> = items.iter().filter(|item| looks(item)).map(|item| &item.parcel.id).collect();
        let began = Instant::now();
        let tombs = if ids.is_empty() { Default::default() } else { self.to.tombstones.of_rows(&ids).await? };
        for (n, item) in items.iter_mut().enumerate() {
            if !item.is_open() || item.overtaken {
                continue;
            }
            if !looks(item) {
                item.done();
                continue;
            }
            let tomb = tombs.get(&item.parcel.id).cloned();
            let deleted = tomb.as_ref().and_then(|tomb| tomb.version.clone());
            let deleted = deleted.filter(|deleted| item.parcel.finding.version() < Some(deleted));
            match deleted.filter(|deleted| !self.is_own_order(item, deleted)) {
                Some(deleted) => {
                    item.tomb = tomb;
                    let deleted = Finding::Deleted(deleted);
                    self.weigh_taken_out(item, &deleted).await?;
                    // Where those before it took long, it is looked at anew.
                    item.overtaken = !self.fresh.allows(began, Instant::now());
                    if planted(Bug::TakenOutUnannounced) {
                        self.take_out(item).await;
                        disagreements.push(n);
                    } else if !item.overtaken {
                        self.overrule(item, deleted, began).await;
                    }
                }
                None => {
                    self.weigh_raised(item, tomb.as_ref()).await?;
                    item.done();
                }
            }
        }
        Ok(())
    }

    /// A delete whose tombstone was raised between the look at it and the insert; or before a row that was found here, and whose
    /// insert may have been ours, with its reply lost.
    async fn weigh_raised(&self, item: &Item, tomb: Option<&Tomb>) -> Result<(), StoreError> {
        let inserted_over = |tomb: &Tomb| match item.verdict {
            Some(Verdict::Insert) => {
                item.tomb.as_ref().and_then(|known| known.version.as_ref()) != tomb.version.as_ref()
            }
            Some(Verdict::Equal) => item.there.as_ref().is_some_and(|row| tomb.raised < row.timestamp),
            _ => false,
        };
        match tomb.filter(|tomb| inserted_over(tomb)).and_then(Lost::delete) {
            Some(lost) => self.weigh(&item.parcel, &item.parcel.finding, lost).await,
            None => Ok(()),
        }
    }

    /// Whoever raised that tombstone may be gone: what it overrules here is weighed as if they were.
    async fn weigh_taken_out(&self, item: &Item, deleted: &Finding) -> Result<(), StoreError> {
        let Some(version) = item.parcel.finding.version() else { return Ok(()) };
        let lost = Lost { version: version.clone(), row: None, deleted: None };
        let parcel = Parcel { base: None, ..item.parcel.clone() };
        self.weigh(&parcel, deleted, lost).await
    }

    /// R10 before R4: a row of the destination's own, which stood there before we came, below a delete of its own. Its store has
    /// put the one over the other, or has the delete under way; either way its own feed tells.
    fn is_own_order(&self, item: &Item, deleted: &Version) -> bool {
        let own = |version: &Version| version.is_of(self.to.region());
        self.to.copy.is_none()
            && item.verdict == Some(Verdict::Equal)
            && item.parcel.finding.version().is_some_and(own)
            && own(deleted)
    }

    async fn create_tables(&self, items: &mut [Item]) -> Result<(), StoreError> {
        let mut created = BTreeSet::new();
        for item in items.iter_mut().filter(|item| item.no_table) {
            item.no_table = false;
            let id = &item.parcel.id;
            let tables = self.to.store.holding(&id.table, &id.partition);
            if created.insert((tables.account().clone(), id.table.clone())) {
                tables.create_table(&id.table).await?;
                tracing::info!(
                    event = Event::TableCreated.as_str(), region = %self.to.region(), account = %tables.account(),
                    table = %id.table, "created a table that changes came in for"
                );
            }
        }
        Ok(())
    }

    /// Takes the row out again on the ETag just written or read. Where that fails, somebody else has written it since.
    async fn take_out(&self, item: &mut Item) {
        let id = item.parcel.id.clone();
        self.to.forget(&id);
        let Known::Row(etag, _) = &item.known else { return };
        let condition = Condition::Matches(etag.clone());
        let operation = Operation::Delete { partition: id.partition.clone(), row: id.row.clone(), condition };
        if let Err(error) = self.to.store.holding(&id.table, &id.partition).write(&id.table, &operation).await {
            item.fail(&error.into(), 0, 1);
        }
    }

    /// R6, then R4's last step, for a row below a newer tombstone of the destination: the delete is announced and applied here first. It may
    /// have no open announcement (that of a refused conditional delete has gone), and our taking the row out carries it out.
    async fn overrule(&self, item: &mut Item, deleted: Finding, began: Instant) {
        match self.referee.yield_to(&self.to, &item.parcel.id, deleted, began).await {
            Ok(Disagreement::Gone) => item.overtaken = true,
            // A version from the future takes nothing out before its time (R7).
            Ok(early @ (Disagreement::Waits | Disagreement::Quarantined)) => item.outcome = Some(outcome_of(early)),
            Ok(settled) => {
                self.take_out(item).await;
                if item.is_open() && !item.overtaken {
                    item.outcome = Some(outcome_of(settled));
                }
            }
            Err(error) => item.outcome = Some(Outcome::Failed(error)),
        }
    }

    /// R6 and R10, for a row of which the destination has something newer.
    async fn settle(&self, item: &mut Item) {
        if !item.is_open() || item.overtaken {
            return;
        }
        if !planted(Bug::WrongEtag) {
            self.to.forget(&item.parcel.id);
        }
        match self.referee.settle(&self.to, &item.parcel).await {
            Ok(Disagreement::Gone) => item.overtaken = true,
            Ok(disagreement) => item.outcome = Some(outcome_of(disagreement)),
            Err(error) => item.outcome = Some(Outcome::Failed(error)),
        }
    }

    /// A row that the destination refuses for good lies in quarantine, with the reason, and holds nobody up.
    async fn set_refused_aside(&self, items: &mut [Item]) {
        for item in items {
            let Some(Outcome::Refused(error)) = &item.outcome else { continue };
            if planted(Bug::RefusedDropped) {
                item.outcome = Some(Outcome::Done(ApplyOutcome::Quarantined));
                continue;
            }
            let put =
                self.referee.quarantine.refused_row(&item.parcel.id, &item.parcel.finding, self.to.region(), error);
            item.outcome = Some(match put.await {
                Ok(()) => Outcome::Done(ApplyOutcome::Quarantined),
                Err(error) => Outcome::Failed(error),
            });
        }
    }

    /// Writes the applied log before anything is settled: a row that the log does not name is not delivered yet.
    async fn tell(&self, items: &mut [Item]) {
        let late = |item: &&Item| self.writer_over(&item.parcel.finding).as_ref() == Some(self.to.region());
        for item in items.iter().filter(|item| item.has_changed_it()).filter(late) {
            self.late.merged(&item.parcel.id, self.referee.here.region());
        }
        let told = |item: &Item| match &item.outcome {
            // What came in and went again has not arrived: nobody there could know of it.
            Some(Outcome::Done(ApplyOutcome::Superseded)) => item.overruling_delete().cloned(),
            Some(Outcome::Done(outcome)) if changed(*outcome) => item.parcel.finding.version().cloned(),
            _ => None,
        };
        let arrival = |item: &Item| Some((item.parcel.id.clone(), told(item)?));
        let rows: Vec<_> = items.iter().filter_map(arrival).collect();
        let Some(applied) = self.to.applied.as_ref().filter(|_| !rows.is_empty() && !planted(Bug::NotTold)) else {
            return;
        };
        if let Err(error) = applied.append(rows).await {
            for item in items.iter_mut().filter(|item| told(item).is_some()) {
                item.outcome = Some(Outcome::Failed(error.clone()));
            }
        }
    }
}

/// What a settled disagreement means for what was brought. One that is gone is met in the next round.
fn outcome_of(disagreement: Disagreement) -> Outcome {
    match disagreement {
        Disagreement::Superseded => Outcome::Done(ApplyOutcome::Superseded),
        Disagreement::Lifted => Outcome::Done(ApplyOutcome::Lifted),
        Disagreement::Quarantined => Outcome::Done(ApplyOutcome::Quarantined),
        Disagreement::Waits => Outcome::LookLater,
        Disagreement::Gone => Outcome::LookAgain,
    }
}

/// Whether the destination may hold something that its cache does not have. An equal row counts: the daemon that wrote
/// it may have died before it told.
fn changed(outcome: ApplyOutcome) -> bool {
    matches!(outcome, ApplyOutcome::Inserted | ApplyOutcome::Replaced | ApplyOutcome::Deleted | ApplyOutcome::Equal)
}

fn is_single_delete(transaction: &Transaction) -> bool {
    matches!(transaction.operations.as_slice(), [Operation::Delete { .. }])
}
