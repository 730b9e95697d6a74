//! Comparing a range after it was copied: what makes it verified.
//!
//! The copy itself is by the rules; what it cannot see is what happens behind it. A row may sink while its page is on its way
//! (clocks of one region's writers differ), and one who was killed may have left an insert without the look at the tombstone that follows
//! it. So what differs is looked at again past the lag, as by every verification, and mended.

use super::copy::Patience;
use super::error::BackfillError;
use super::ledger::{Copied, Range};
use super::work::Work;
use crate::model::Region;
use crate::ops::verify::{Fate, Suspect};
use crate::planted::ranges_unchecked;
use crate::resolve::Difference;

/// Whether a difference is this backfill's to mend. What the destination alone has is not: it is its own, or a third
/// region's, or somebody has deleted it here without a word. But a row that this region has issued and deleted later is an older
/// state of it, however its version compares (R10).
fn is_ours(suspect: Suspect<'_>, from: &Region) -> bool {
    let issued_here = suspect.there.newest().is_some_and(|version| version.is_of(from));
    suspect.kind != Difference::Extra || issued_here && suspect.here.standing.tombstone.is_some()
}

impl Work {
    /// Compares a range that is copied, and mends what differs.
    pub(super) async fn check(&self, range: &mut Range) -> Result<(), BackfillError> {
        if ranges_unchecked() {
            (range.copy, range.verified) = (Copied::Verified, Some(self.hold.now()));
            return self.save(range).await;
        }
        let (mut patience, span) = (Patience::new(), range.whole());
        let is_ours = |suspect: Suspect<'_>| is_ours(suspect, self.from.region());
        let part = loop {
            let part = self.verify.part(&self.mender, [&self.from, &self.to], &range.table, &span, &is_ours);
            let part = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(BackfillError::Stopped),
                part = part => part,
            };
            match part {
                Ok(part) => break part,
                Err(error) => self.failed(range, &mut patience, error.to_string(), error.retry_after).await?,
            }
        };
        let fate = |fate: Fate| part.different.iter().filter(move |row| row.waits.is_none() && row.fate == fate);
        range.counts.mended = fate(Fate::Mended).count() as u64;
        range.counts.waiting = part.waiting + part.different.iter().filter(|row| row.waits.is_some()).count() as u64;
        range.counts.extra = part.left;
        let left: Vec<_> = fate(Fate::Left).collect();
        if let Some(row) = left.first() {
            let why = row.why.clone().unwrap_or_else(|| row.kind.to_string());
            range.last_error = Some(format!("{} rows differ, as {}: {why}", left.len(), row.id));
            self.save(range).await?;
            self.differs(left.len() as u64, row.id.to_string(), why);
            return Ok(());
        }
        (range.copy, range.verified) = (Copied::Verified, Some(self.hold.now()));
        self.save(range).await
    }
}
