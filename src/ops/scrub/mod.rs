//! The scrubber: pairs of regions compared again and again, slowly, while everybody goes on.
//!
//! A pair belongs to the region whose name comes first, and there to the first of its daemons. A pass is a verification that mends
//! nothing and leaves a ledger of its own, so another daemon, or this one after a restart, goes on where the last one was. When a pass is
//! through, a summary of it is written beside the ledger, which every daemon of the region reads.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::verify::{LastPass, PassKind, Verified, Verify, VerifyError, keep_pass, last_pass};
use crate::model::{ClosedList, Region};
use crate::replicator::StatusBoard;
use crate::runtime::Runtime;
use crate::stores::RegionStore;
use crate::telemetry::{Event, metrics};

/// How often is looked whether a pass is due.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// A daemon that has just started has more urgent things to do.
const NOT_BEFORE: Duration = Duration::from_secs(600);
/// A pair that could not be compared rests for a while, and longer every time.
const REST_AT_MOST: Duration = Duration::from_secs(3_600);
/// How soon it is noticed that the pass is somebody else's part.
const YIELD_WITHIN: Duration = Duration::from_secs(5);

/// What was found by the last complete pass of each pair that is this region's part.
#[derive(Debug, Default)]
pub struct Passes(Mutex<BTreeMap<Region, LastPass>>);

impl Passes {
    /// By the other region.
    pub fn all(&self) -> Vec<LastPass> {
        self.lock().values().cloned().collect()
    }

    fn note(&self, pass: LastPass) {
        metrics::verified(&pass.from, &pass.to, pass.began, pass.different());
        self.lock().insert(pass.to.clone(), pass);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Region, LastPass>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Compares the pairs that are a region's part.
#[derive(Debug)]
pub struct Scrubber {
    /// A pass, but for the pair.
    pub pass: Verify,
    /// The region.
    pub region: Region,
    /// From the beginning of a pass to that of the next.
    pub every: Duration,
    /// Where it leaves what it found.
    pub passes: Arc<Passes>,
}

/// How a pair does. Each thing is said once.
#[derive(Debug, Default)]
struct Pair {
    /// How often in a row it could not be compared.
    failures: u32,
    /// It is not tried again before.
    rests_until: Option<Instant>,
    /// How many rows were told to differ.
    told: u64,
}

impl Scrubber {
    /// Goes on until it is stopped. What fails is logged and tried again.
    ///
    /// # Errors
    /// None.
    pub async fn run(self, board: Arc<StatusBoard>, stop: CancellationToken) -> Result<(), Infallible> {
        let others: Vec<Region> = self.pass.regions.iter().map(RegionStore::region).cloned().collect();
        let others: Vec<Region> = others.into_iter().filter(|other| *other > self.region).collect();
        let mut pairs: BTreeMap<Region, Pair> = BTreeMap::new();
        let from = self.runtime().instant() + self.every.min(NOT_BEFORE);
        loop {
            let turn = async {
                for other in &others {
                    self.turn(other, self.runtime().instant() >= from, &board, pairs.entry(other.clone()).or_default())
                        .await;
                }
                tokio::time::sleep(self.every.min(LOOK_EVERY)).await;
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                () = turn => {}
            }
        }
    }

    fn runtime(&self) -> &Runtime {
        &self.pass.runtime
    }

    /// Reads what the last pass of a pair has found, and goes through it once more where that is due.
    async fn turn(&self, other: &Region, may_begin: bool, board: &StatusBoard, pair: &mut Pair) {
        let verify = Verify { from: self.region.clone(), to: other.clone(), ..self.pass.clone() };
        let Some(home) = verify.regions.iter().find(|store| *store.region() == self.region) else { return };
        let last = match last_pass(PassKind::Scrubbed, home, (&self.region, other)).await {
            Ok(last) => last,
            Err(error) => return self.failed(other, &error, pair),
        };
        if let Some(last) = last.clone() {
            self.passes.note(last);
        }
        let is_due = last.is_none_or(|last| verify.clock(home) >= last.began + self.every);
        let rests = pair.rests_until.is_some_and(|until| self.runtime().instant() < until);
        if !is_due || !may_begin || rests || !board.is_first() {
            return;
        }
        // A pass that was begun and cut off is gone on with.
        let (never, tell) = (CancellationToken::new(), &mut |_: &Verified| {});
        let verified = tokio::select! {
            biased;
            () = until_anothers(board) => return,
            verified = verify.run(&never, tell) => verified,
        };
        let done = match verified {
            // What waits there for one of the two cannot be told from what is lost.
            Ok(verified) if verified.different() > 0 && !verified.unasked.is_empty() => {
                let dark = verified.unasked.iter().map(Region::as_str).collect::<Vec<_>>().join(", ");
                Err(format!("{} rows differ, which may wait in {dark}, which does not answer", verified.different()))
            }
            Ok(verified) => {
                let pass = LastPass::of(&verified, verify.clock(home));
                keep_pass(PassKind::Scrubbed, home, &pass)
                    .await
                    .map(|()| (pass, verified))
                    .map_err(|error| error.to_string())
            }
            Err(VerifyError::Stopped) => return,
            Err(error) => Err(error.to_string()),
        };
        match done {
            Ok((pass, verified)) => {
                self.passes.note(pass);
                self.concluded(&verified, pair);
            }
            Err(error) => self.failed(other, &error, pair),
        }
    }

    fn concluded(&self, verified: &Verified, pair: &mut Pair) {
        let Verified { from, to, seconds, .. } = verified;
        let (rows, different, waiting) = (verified.rows(), verified.different(), verified.waits());
        let failed = std::mem::take(&mut pair.failures) > 0;
        pair.rests_until = None;
        if different == 0 {
            pair.told = 0;
            return info!(event = Event::RegionsCompared.as_str(), source = %from, destination = %to, rows, waiting, seconds,
                "two regions were compared: they are equal, but for what is on its way");
        }
        let example = verified.named.iter().find(|row| row.waits.is_none());
        let example =
            example.map(|row| format!("{}({:?},{:?})", row.table, row.partition, row.row)).unwrap_or_default();
        // Once for each number, and where it could not be said meanwhile.
        if different > std::mem::replace(&mut pair.told, different) || failed {
            warn!(event = Event::RegionsDiffer.as_str(), source = %from, destination = %to, rows, different, waiting, example,
                "rows differ in two regions ({different}); `tablerelay verify --from {from} --to {to}` names them, with --repair it mends them");
        }
    }

    fn failed(&self, other: &Region, error: &dyn std::fmt::Display, pair: &mut Pair) {
        let rest = LOOK_EVERY.saturating_mul(1 << pair.failures.min(10)).min(REST_AT_MOST).min(self.every);
        pair.rests_until = Some(self.runtime().instant() + rest);
        pair.failures = pair.failures.saturating_add(1);
        if pair.failures == 1 {
            warn!(event = Event::RegionsNotCompared.as_str(), source = %self.region, destination = %other, %error,
                "two regions could not be compared; it is tried again, from where it ended");
        }
    }
}

/// Waits until what the region needs once is another daemon's part.
pub(super) async fn until_anothers(board: &StatusBoard) {
    while board.is_first() {
        tokio::time::sleep(YIELD_WITHIN).await;
    }
}
