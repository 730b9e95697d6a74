//! Copying a range: pages of rows, brought as looks.
//!
//! A page says of its rows what a look would say of them, as of the moment at which its reading began. So it goes the way of a look,
//! through the line's own delivery: conditional, fresh (R9), never over anything newer, and out again where a delete came between. A
//! row without a version goes with its implicit one. What does not get through at once is looked at by itself before it is tried
//! again. The last key is written down when everything up to it is there, so that whoever goes on leaves nothing out.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::info;

use super::error::BackfillError;
use super::ledger::{Copied, Range};
use super::stamp::stamp;
use super::work::Work;
use crate::model::{Row, RowId, TableName};
use crate::ops::verify::{Read, RegionRows, Span};
use crate::planted::{Bug, planted};
use crate::replicator::Brought;
use crate::resolve::Finding;
use crate::stores::StoreError;
use crate::telemetry::metrics::ApplyOutcome;

/// What is held in memory of a page, as far as the one before tells how large its rows are.
const PAGE_BYTES: usize = 1_024 * 1_024;
/// Between two writes of how far a range is: what is done again at most where the command is killed.
const SAVE_EVERY: Duration = Duration::from_secs(2);
/// How long nothing may get through.
const PATIENCE: Duration = Duration::from_secs(300);
/// The first pause after a failure, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// How long it goes on trying.
#[derive(Debug)]
pub(super) struct Patience {
    since: Option<Instant>,
    pause: Duration,
}

impl Patience {
    pub fn new() -> Self {
        Self { since: None, pause: PAUSES.0 }
    }

    fn reset(&mut self) {
        *self = Self::new();
    }
}

/// What was found of rows, and when the reading began.
type Found = (Vec<(RowId, Finding)>, Instant);

/// Rows that were read together.
struct Page {
    rows: Vec<Row>,
    began: Instant,
}

impl Range {
    fn span(&self) -> Span {
        Span::Between { from: self.from.clone(), until: self.until.clone(), after: self.after.clone() }
    }

    pub(super) fn whole(&self) -> Span {
        Span::Between { from: self.from.clone(), until: self.until.clone(), after: None }
    }
}

impl Work {
    /// Copies what is not copied yet of a range.
    pub(super) async fn copy(&self, range: &mut Range) -> Result<(), BackfillError> {
        if range.copy == Copied::Pending {
            (range.copy, range.began) = (Copied::Copying, Some(self.hold.now()));
            self.save(range).await?;
        }
        let (mut rows, mut patience) = (self.rows(range), Patience::new());
        let mut saved = self.runtime().instant();
        loop {
            if self.stop.is_cancelled() {
                self.save(range).await?;
                return Err(BackfillError::Stopped);
            }
            rows.set_most(self.rows_at_once());
            let page = match self.page(&mut rows).await {
                Ok(Some(page)) => page,
                Ok(None) => break,
                Err(error) => {
                    self.failed(range, &mut patience, error.to_string(), error.retry_after).await?;
                    rows = self.rows(range);
                    continue;
                }
            };
            if planted(Bug::KeyBeforeRows) {
                range.after = page.rows.last().map(|row| (row.body.partition().clone(), row.body.row().clone()));
                self.save(range).await?;
            }
            self.bring(range, page, &mut patience).await?;
            self.board(range);
            if saved.elapsed() >= SAVE_EVERY {
                self.save(range).await?;
                saved = self.runtime().instant();
            }
        }
        (range.copy, range.copied) = (Copied::Copied, Some(self.hold.now()));
        self.save(range).await
    }

    fn rows(&self, range: &Range) -> RegionRows {
        RegionRows::new(&self.from, &range.table, &range.span(), Read::Whole { bytes: PAGE_BYTES })
    }

    /// What is in memory, or one more page.
    async fn page(&self, rows: &mut RegionRows) -> Result<Option<Page>, StoreError> {
        let most = usize::from(self.rows_at_once());
        let mut page = Vec::new();
        while page.len() < most && (page.is_empty() || !rows.is_dry()) {
            match rows.next().await? {
                Some(row) => page.push(row),
                None => break,
            }
        }
        Ok(rows.began().filter(|_| !page.is_empty()).map(|began| Page { rows: page, began }))
    }

    /// Brings a page, and goes on until all of it is there.
    async fn bring(&self, range: &mut Range, page: Page, patience: &mut Patience) -> Result<(), BackfillError> {
        let Some(last) = page.rows.last().map(|row| (row.body.partition().clone(), row.body.row().clone())) else {
            return Ok(());
        };
        let finding = |row: &Row| {
            let version = row.version(self.from.region());
            let body = if planted(Bug::CopiedBare) { row.body.clone() } else { row.body.stamped(&version) };
            (id(&range.table, row), Finding::Row { body, version })
        };
        let mut began = page.began;
        let mut open: Vec<(RowId, Finding)> = page.rows.iter().map(finding).collect();
        let mut written = 0;
        while !open.is_empty() {
            let ids: Vec<RowId> = open.iter().map(|(id, _)| id.clone()).collect();
            let brought = self.mender.bring(open, began).await;
            let (mut again, mut failure) = (Vec::new(), None::<(String, Option<Duration>)>);
            for (id, brought) in ids.into_iter().zip(brought) {
                match brought {
                    Brought::Done(outcome) => {
                        patience.reset();
                        written += u64::from(matches!(outcome, ApplyOutcome::Inserted | ApplyOutcome::Replaced));
                        range.counts.quarantined += u64::from(outcome == ApplyOutcome::Quarantined);
                        continue;
                    }
                    Brought::LookAgain => {}
                    Brought::Later(why) => failure = Some((why, None)),
                    Brought::Failed(error) => failure = Some((error.to_string(), error.retry_after)),
                }
                again.push(id);
            }
            if again.is_empty() {
                break;
            }
            if let Some((why, retry_after)) = failure {
                self.failed(range, patience, why, retry_after).await?;
            }
            (open, began) = self.look_again(range, &again, patience).await?;
        }
        if self.heads.get(&range.table).is_some_and(|head| head.stamp) {
            range.counts.stamped += stamp(&self.from, &range.table, &page.rows, page.began, self.fresh).await;
        }
        range.after = Some(last);
        range.counts.rows += page.rows.len() as u64;
        range.counts.bytes += page.rows.iter().map(|row| row.body.json().len() as u64).sum::<u64>();
        range.counts.written += written;
        Ok(())
    }

    /// What stands now of rows that did not get through.
    async fn look_again(
        &self,
        range: &mut Range,
        ids: &[RowId],
        patience: &mut Patience,
    ) -> Result<Found, BackfillError> {
        loop {
            let began = Instant::now();
            match self.mender.look(&ids.iter().collect::<Vec<_>>()).await {
                Ok(found) => return Ok((ids.iter().cloned().zip(found).collect(), began)),
                Err(error) => self.failed(range, patience, error.to_string(), error.retry_after).await?,
            }
        }
    }

    /// Takes a failure in, and waits before the next try, longer each time.
    pub(super) async fn failed(
        &self,
        range: &mut Range,
        patience: &mut Patience,
        why: String,
        retry_after: Option<Duration>,
    ) -> Result<(), BackfillError> {
        let now = self.runtime().instant();
        let since = *patience.since.get_or_insert(now);
        range.counts.errors += 1;
        range.last_error = Some(why.clone());
        self.board(range);
        if patience.pause == PAUSES.0 {
            info!(table = %range.table, range = range.number, error = why, "a range is not getting on for now; it is tried again");
        }
        if now.saturating_duration_since(since) >= PATIENCE {
            self.save(range).await?;
            let (to, minutes) = (self.hold.to.clone(), PATIENCE.as_secs() / 60);
            return Err(BackfillError::Stuck { table: range.table.clone(), to, minutes, why });
        }
        let pause = patience.pause / 2 + self.runtime().jitter(patience.pause / 2);
        patience.pause = (patience.pause * 2).min(PAUSES.1);
        tokio::select! {
            biased;
            () = self.stop.cancelled() => {
                self.save(range).await?;
                Err(BackfillError::Stopped)
            }
            () = sleep(pause.max(retry_after.unwrap_or_default())) => Ok(()),
        }
    }
}

pub(super) fn id(table: &TableName, row: &Row) -> RowId {
    RowId::new(table.clone(), row.body.partition().clone(), row.body.row().clone())
}
