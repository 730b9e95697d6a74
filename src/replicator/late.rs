//! What an epoch means for whoever brings changes: the fence, and late writes.
//!
//! *The fence.* A region that has lost its role may not know it. So nothing is brought to a region by somebody who has not
//! read its copy of the roles within half a settle window, as R9 has it for looks: what was decided under an old epoch arrives
//! nowhere later than that after the new one was written there. No health probe is trusted for that, and applications that
//! have not heard may go on writing in the old region: what they write is late.
//!
//! *Late* is a version that a region issued which is no writer, found in its own store, and which the current writer does not
//! have ([`lateness`]). What such a region passes on of others is not late, nor what others have of it: that was sent while it
//! still was a writer. Merged, a late write is delivered like any other and counted. Where the journal is its place it is
//! delivered nowhere: it is named there, and what the writer has is lifted above it by R10's procedure, announced in the
//! writer's region, so that this flows everywhere, over the late write too. Whoever meets it does that, lanes, drains and
//! others that bring something to the late region alike; twice does no harm.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use super::Roles;
use super::journal::Journal;
use super::single::{Settled, Single, Unsettled};
use crate::model::{ClosedList, Region, RowId, Version};
use crate::planted::{Bug, planted};
use crate::resolve::{Finding, Freshness, Lateness, lateness};
use crate::stores::{ErrorKind, StoreError};
use crate::telemetry::metrics::{self, LateOutcome};
use crate::telemetry::{Event, Seldom};
use crate::topology::{LateWrites, Mark};

/// Knows the roles, and deals with late writes.
#[derive(Debug)]
pub(super) struct LateDesk {
    pub roles: Arc<Roles>,
    pub policy: LateWrites,
    /// Every region, this one too.
    pub regions: Vec<Single>,
    pub journal: Arc<Journal>,
    pub fresh: Freshness,
    pub gate: Arc<Gate>,
    pub told: Mutex<Seldom>,
}

/// Opened for each roles in force once [`Residual`](super::residual::Residual) has found out what it has to.
#[derive(Debug, Default)]
pub(super) struct Gate(Mutex<Option<Mark>>);

impl Gate {
    pub fn is_open(&self, mark: &Mark) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref() == Some(mark)
    }

    pub fn open(&self, mark: &Mark) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(mark.clone());
    }
}

/// What is to be done with a version that a region issued which is no writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ruling {
    /// It is like any other.
    Ordinary,
    /// The writer has something newer, which finds its own way.
    Superseded,
    /// It was late: it is named, and the writer's row stands above it.
    Overruled,
}

impl LateDesk {
    /// The fence: when the reading began by which something may be brought to `to` at `now`.
    pub fn heard(&self, to: &Region, now: Instant) -> Result<Instant, StoreError> {
        if planted(Bug::StaleEpochObeyed) {
            return Ok(now);
        }
        let heard = self.roles.heard(to).filter(|heard| self.fresh.allows(*heard, now));
        heard.ok_or_else(|| {
            let text = format!("the roles of {to} have not been read of late: a failover may have passed unheard");
            StoreError::new(ErrorKind::Unreachable, text)
        })
    }

    /// The writer that is to be asked about a version found in `home`, where it may be late: issued there, by no writer.
    pub fn suspects(&self, version: &Version, home: &Region) -> Option<Region> {
        version.is_of(home).then(|| self.roles.writer_over(home)).flatten()
    }

    /// Whether it is known what this region had not sent when it lost its role. Before, nothing that may be late is brought on.
    pub fn is_counted(&self) -> bool {
        self.gate.is_open(&self.roles.present().mark)
    }

    /// Whether the writer is asked before anything that may be late is brought anywhere.
    pub fn rules(&self) -> bool {
        self.policy == LateWrites::Journal && !planted(Bug::LateDelivered)
    }

    /// Asks the writer's region about a version found in `home`, and overrules it there where it is late.
    pub async fn rule(
        &self,
        id: &RowId,
        finding: &Finding,
        home: &Region,
        writer: &Region,
    ) -> Result<Ruling, Unsettled> {
        let there = self.regions.iter().find(|single| single.region() == writer);
        let (Some(there), Some(version)) = (there, finding.version()) else { return Ok(Ruling::Ordinary) };
        let stand = there.stand(id).await?;
        match lateness(version, &stand.standing(writer)) {
            Lateness::Known => return Ok(Ruling::Ordinary),
            Lateness::Superseded => return Ok(Ruling::Superseded),
            Lateness::Late => {}
        }
        self.heard(writer, Instant::now())?;
        if !planted(Bug::LateNotNamed) && self.journal.note_late(id, (finding, home), (&stand, writer)).await? {
            self.count(home, id, LateOutcome::Journaled);
        }
        if planted(Bug::LateNotOverruled) {
            return Ok(Ruling::Overruled);
        }
        match there.overrule(id, version).await? {
            Settled::Lifted => Ok(Ruling::Overruled),
            // Something newer came meanwhile.
            Settled::Had | Settled::Written => Ok(Ruling::Superseded),
        }
    }

    /// A late write of `home` was brought to the writer's region.
    pub fn merged(&self, id: &RowId, home: &Region) {
        self.count(home, id, LateOutcome::Merged);
    }

    fn count(&self, home: &Region, id: &RowId, outcome: LateOutcome) {
        metrics::late_write(home, outcome);
        let admitted = self.told.lock().unwrap_or_else(PoisonError::into_inner).admit();
        if let Some(before) = admitted {
            warn!(event = Event::LateWrites.as_str(), region = %home, table = %id.table, %outcome, before,
                "a row was written in a region that is no writer, and {before} more since the last line like this one");
        }
    }
}

/// How long the writer's region is waited for by whoever brings something to another one: it may be down, and is not what this
/// is about.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
