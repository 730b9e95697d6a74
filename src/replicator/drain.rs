//! The drain of one destination, or of the region's cache: finds out when it is back, then brings it what its hints name.
//!
//! A hint is brought like a change that was just announced: a look at the row as it stands now, then the same delivery. It
//! ends as a record does (R1): the destination has what the hint names or something above that, or has what a look found
//! that began a settle window after the hint was renewed; and a second look, after the delivery, found nothing lower. For the
//! row may sink while the first finding is on its way (clocks of one region's writers differ); a live change may have brought
//! what stands now by then, and be over, while the finding overwrites it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::backlog::Kept;
use super::board::StatusBoard;
use super::consumer::Consumer;
use super::duty::Duty;
use super::health::{Backoff, Why};
use super::item::Outcome;
use super::quarantine::Quarantine;
use super::ramp::Ramp;
use super::source::Source;
use crate::batch::Parcel;
use crate::feed::{AccountShard, Malformed, Reason, Shard, decode_hint};
use crate::model::{Row, RowId};
use crate::planted::{Bug, planted};
use crate::resolve::Finding;
use crate::runtime::Runtime;
use crate::settle::{DueLook, Looked};
use crate::stores::{DATE_RESOLUTION, ErrorKind, StoreError};

/// Most rows of one batch: as many as one look of a carrier takes.
pub(super) const MOST_ROWS: usize = 200;
/// Between two probes of a parked destination: the first wait, and the longest.
const FIRST_PROBE: Duration = Duration::from_millis(500);
const LAST_PROBE: Duration = Duration::from_secs(5);
/// The wait after a pass that could end nothing.
const CALM: Duration = Duration::from_secs(1);

/// Brings one consumer what its hints name.
#[derive(Debug)]
pub(super) struct Drain {
    pub to: Consumer,
    pub source: Arc<Source>,
    pub quarantine: Arc<Quarantine>,
    /// Only the hints of shards that this daemon carries are its to bring.
    pub duty: Arc<Duty>,
    pub board: Arc<StatusBoard>,
    pub window: Duration,
    pub ramp: Ramp,
    pub backoff: Backoff,
    pub runtime: Runtime,
    pub looks: u64,
    /// Since when nothing has been delivered although it was tried.
    pub trying: Option<Instant>,
}

/// What became of a batch of hints.
#[derive(Debug, Default)]
struct Brought {
    ended: usize,
    failure: Option<StoreError>,
}

impl Drain {
    /// Drains until it is stopped. What is under way then still has its hint.
    pub async fn run(mut self: Box<Self>, stop: CancellationToken) {
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.turn() => {}
            }
        }
    }

    async fn turn(&mut self) {
        if self.to.health().is_parked() {
            return self.probe_until_back().await;
        }
        tokio::select! {
            biased;
            () = self.to.health().until_parked() => return,
            () = self.to.backlog().until_hinted() => {}
        }
        match self.pass().await {
            Ok(0) => tokio::time::sleep(CALM).await,
            Ok(_) => {}
            Err(error) => {
                debug!(destination = %self.to.addressee(), %error, "hints cannot be read or ended; trying again");
                tokio::time::sleep(self.backoff.next(&self.runtime, error.retry_after)).await;
            }
        }
    }

    async fn probe_until_back(&mut self) {
        let patience = self.to.probe_patience();
        let mut pause = Backoff::new(FIRST_PROBE, LAST_PROBE);
        self.ramp.restart();
        self.trying = None;
        for turn in 0.. {
            tokio::time::sleep(pause.next(&self.runtime, None)).await;
            let failure = match timeout(patience, self.probe(turn)).await {
                Ok(Ok(())) => break,
                Ok(Err(error)) => error,
                Err(_) => no_answer(patience),
            };
            self.to.health().failed(&failure);
        }
        self.backoff.reset();
        self.to.health().recovered();
    }

    /// Whether it answers, and takes the row of a hint, where there is one.
    async fn probe(&self, turn: usize) -> Result<(), StoreError> {
        self.to.answers().await?;
        // Another one each time: a single row or partition in trouble says nothing of the rest.
        let kept = self.to.backlog().first().await?.into_iter().filter_map(|row| kept(&row).ok());
        let kept: Vec<Kept> = kept.filter(|kept| self.is_ours(kept)).collect();
        let Some(one) = (!kept.is_empty()).then(|| kept[turn % kept.len()].clone()) else { return Ok(()) };
        let looked = self.source.look(&[due(&one, 0)]).await?;
        for (_, outcome) in self.to.deliver(looked.iter().filter_map(|looked| parcel(looked, &one)).collect()).await {
            if let Outcome::Failed(error) | Outcome::Refused(error) = outcome {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Goes through all hints once, page by page, the oldest of each page first; says how many ended.
    async fn pass(&mut self) -> Result<usize, StoreError> {
        let (mut ended, mut continuation) = (0, None);
        loop {
            let page = self.to.backlog().page(continuation).await?;
            let mut hints = self.readable(page.rows).await?;
            hints.retain(|kept| self.is_ours(kept));
            hints.sort_by_key(|kept| kept.hint.since);
            let mut rest = hints.as_slice();
            while !rest.is_empty() {
                if self.to.health().is_parked() {
                    return Ok(ended);
                }
                let (batch, later) = rest.split_at(self.ramp.rows().min(rest.len()));
                rest = later;
                let batch: Vec<Kept> = batch.iter().filter(|kept| self.is_ours(kept)).cloned().collect();
                let began = self.runtime.instant();
                let brought = self.bring(&batch).await?;
                ended += brought.ended;
                self.pace(brought.failure, began).await;
            }
            continuation = page.continuation;
            if continuation.is_none() {
                return Ok(ended);
            }
        }
    }

    /// Whether the shard of a hint's row is one that this daemon carries now.
    fn is_ours(&self, kept: &Kept) -> bool {
        let RowId { table, partition, .. } = &kept.hint.id;
        let account = self.source.region.holding(table, partition).account().clone();
        self.duty.carries(&AccountShard { account, shard: Shard::of(table, partition) }, self.runtime.instant())
    }

    /// The hints among the rows; what is none goes to quarantine.
    async fn readable(&self, rows: Vec<Row>) -> Result<Vec<Kept>, StoreError> {
        let mut hints = Vec::with_capacity(rows.len());
        for row in rows {
            let checked = kept(&row).and_then(|kept| match self.source.filter.matches(&kept.hint.id.table) {
                true => Ok(kept),
                false => {
                    let table = &kept.hint.id.table;
                    let detail = format!("the table {table} is not among those that the configuration replicates");
                    Err(Malformed::new(Reason::UnknownTable, detail))
                }
            });
            match checked {
                Ok(kept) => hints.push(kept),
                Err(why) => {
                    self.quarantine.hint(self.source.account(), self.to.addressee(), &row, &why).await?;
                    self.to.backlog().remove(&row).await?;
                }
            }
        }
        Ok(hints)
    }

    /// Looks at the rows of these hints, delivers what stands, and ends the hints that are over.
    async fn bring(&mut self, hints: &[Kept]) -> Result<Brought, StoreError> {
        let first = self.looks;
        self.looks += hints.len() as u64;
        let looks: Vec<DueLook> = hints.iter().zip(first..).map(|(kept, look)| due(kept, look)).collect();
        let looked = self.source.look(&looks).await?;
        let parcels: Vec<Parcel> = looked.iter().zip(hints).filter_map(|(looked, kept)| parcel(looked, kept)).collect();
        let (undelivered, failure) = self.deliver(parcels).await;
        let there = |looked: &Looked| !undelivered.contains(&looked.row) || planted(Bug::HintDropped);
        let brought: Vec<(&Kept, &Looked)> = hints.iter().zip(&looked).filter(|(_, looked)| there(looked)).collect();
        let again: Vec<DueLook> = brought.iter().map(|(kept, looked)| due(kept, looked.look)).collect();
        let again = if again.is_empty() { Vec::new() } else { self.source.look(&again).await? };
        let (mut over, mut sunk) = (Vec::new(), Vec::new());
        for ((kept, looked), again) in brought.into_iter().zip(&again) {
            match fate(kept, looked, &again.finding, self.window) {
                Fate::Over => over.push(kept.clone()),
                Fate::Sunk => sunk.push(kept.hint.clone()),
                Fate::Waits => {}
            }
        }
        // Another daemon of the region may have ended them meanwhile.
        self.to.backlog().keep(sunk).await?;
        self.to.backlog().end(&over).await?;
        Ok(Brought { ended: over.len(), failure })
    }

    /// Delivers, and returns the rows that the destination does not have yet.
    async fn deliver(&mut self, parcels: Vec<Parcel>) -> (Vec<RowId>, Option<StoreError>) {
        if parcels.is_empty() {
            return (Vec::new(), None);
        }
        self.trying.get_or_insert(self.runtime.instant());
        let all: Vec<RowId> = parcels.iter().map(|parcel| parcel.id.clone()).collect();
        let patience = self.to.delivery_patience(self.window);
        let Ok(outcomes) = timeout(patience, self.to.deliver(parcels)).await else {
            return (all, Some(no_answer(patience)));
        };
        let (mut undelivered, mut failure) = (Vec::new(), None);
        for (parcel, outcome) in outcomes {
            match outcome {
                Outcome::Done(outcome) => {
                    self.to.settled(&self.board, outcome, 1);
                    self.trying = None;
                    continue;
                }
                Outcome::LookAgain | Outcome::LookLater => {}
                Outcome::Failed(error) | Outcome::Refused(error) => failure = Some(error),
            }
            undelivered.push(parcel.id);
        }
        (undelivered, failure)
    }

    /// More after a success; less, and later, after a failure. Live changes have the right of way: while lanes are at work, the
    /// drain rests as long as it worked.
    async fn pace(&mut self, failure: Option<StoreError>, began: Instant) {
        let Some(error) = failure else {
            self.ramp.succeeded();
            self.backoff.reset();
            self.to.health().succeeded();
            if self.to.reception().is_busy() {
                tokio::time::sleep((self.runtime.instant() - began).min(CALM)).await;
            }
            return;
        };
        self.ramp.failed();
        self.to.health().failed(&error);
        if let Some(since) = self.trying.filter(|since| since.elapsed() >= self.to.health().park_after()) {
            return self.to.health().park(Why::HintsFailing, since);
        }
        if self.trying.is_none() {
            // A part of it got through.
            self.backoff.reset();
        }
        let wait = self.backoff.next(&self.runtime, error.retry_after);
        tokio::select! {
            biased;
            () = self.to.health().until_parked() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// What becomes of a hint whose row was brought to the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Over,
    /// It is not known yet whether the destination has what the hint names, or something above that.
    Waits,
    /// Something lower stands now than what was brought.
    Sunk,
}

fn fate(kept: &Kept, looked: &Looked, again: &Finding, window: Duration) -> Fate {
    let brought = looked.finding.version();
    if again.version() < brought && !planted(Bug::HintNotLookedBack) {
        return Fate::Sunk;
    }
    let end = kept.renewed + window + DATE_RESOLUTION;
    let settled = looked.began_storage.is_some_and(|began| began >= end);
    if settled || brought >= Some(&kept.hint.version) { Fate::Over } else { Fate::Waits }
}

fn kept(row: &Row) -> Result<Kept, Malformed> {
    Ok(Kept { hint: decode_hint(row)?, etag: row.etag.clone(), renewed: row.timestamp })
}

fn due(kept: &Kept, look: u64) -> DueLook {
    DueLook { row: kept.hint.id.clone(), look, delete: None }
}

fn parcel(looked: &Looked, kept: &Kept) -> Option<Parcel> {
    let (id, look, began) = (looked.row.clone(), looked.look, looked.began);
    let announced = kept.hint.since;
    let parcel = Parcel { id, look, began, announced, base: None, finding: looked.finding.clone() };
    looked.finding.is_deliverable().then_some(parcel)
}

fn no_answer(within: Duration) -> StoreError {
    StoreError::new(ErrorKind::Unreachable, format!("no answer within {within:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::Hint;
    use crate::model::{Etag, Region, TableName, Time, Version, WriterId};

    const WINDOW: Duration = Duration::from_secs(60);

    fn version(tick: i64) -> Version {
        Version::new(Time::from_ticks(tick), &Region::new("west").unwrap(), WriterId(1))
    }

    /// The hint names version 5 and was renewed at second 100.
    fn ends(brought: Finding, at: i64, again: Finding) -> Fate {
        let id = RowId::new(TableName::new("orders").unwrap(), "p".into(), "r".into());
        let hint = Hint { id: id.clone(), version: version(5), since: Time::from_unix_seconds(50) };
        let kept = Kept { hint, etag: Etag::new("e"), renewed: Time::from_unix_seconds(100) };
        let began_storage = Some(Time::from_unix_seconds(at));
        let looked = Looked { row: id, look: 1, began: Instant::now(), began_storage, finding: brought };
        fate(&kept, &looked, &again, WINDOW)
    }

    #[test]
    fn a_hint_is_over_when_what_it_names_or_something_above_it_was_brought() {
        let deleted = |tick| Finding::Deleted(version(tick));
        assert_eq!(ends(deleted(5), 101, deleted(5)), Fate::Over);
        assert_eq!(ends(deleted(6), 101, deleted(7)), Fate::Over);
        assert_eq!(ends(deleted(4), 101, deleted(4)), Fate::Waits, "somebody may still bring the 5 that stood here");
        assert_eq!(ends(deleted(4), 161, deleted(4)), Fate::Over, "nobody may any more");
        assert_eq!(ends(Finding::Nothing, 101, Finding::Nothing), Fate::Waits);
        assert_eq!(ends(Finding::Nothing, 161, Finding::Nothing), Fate::Over, "absent without a tombstone");
    }

    #[test]
    fn a_row_that_sank_while_it_was_brought_is_brought_again() {
        let deleted = |tick| Finding::Deleted(version(tick));
        assert_eq!(ends(deleted(5), 161, deleted(4)), Fate::Sunk);
        assert_eq!(ends(deleted(5), 161, Finding::Nothing), Fate::Sunk);
    }
}
