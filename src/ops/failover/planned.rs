//! A planned failover: nothing is left behind.
//!
//! 1. The copy of the old writer's region says that the role is *moving*, until a deadline. Its daemons read that within a poll:
//!    `/health/write` answers 503, and each says in the row of its lease that it has heard.
//! 2. Everything that was announced before the last of them said so is delivered to the target: its Last Sync Time says when. What
//!    comes in after that, from applications that have not noticed, is late, and is dealt with like all that is late. (The
//!    number of rows that wait is shown and decides nothing: with such applications it need never be zero.)
//! 3. The copy of the old writer's region gets the new roles, on the ETag of the row that says moving. The daemons of the region take that
//!    row out when its deadline has passed, and serve only after that: so either the role moves, or the region goes on.
//!
//! A third region that gave its role up by plan may owe the target something still: that is [waited for](super::owed) first.
//!
//! Where a region joins the writers and nobody has to leave (multi-active), it only has to have what the others wrote before.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Done, Failover, FailoverError, Progress, Tell, Verdict, over_older, pause};
use crate::model::{Region, SystemTable, Time};
use crate::replicator::{read_roles, replace_roles};
use crate::settle::LinkStatus;
use crate::stores::{ErrorKind, RegionStore, StoreError};
use crate::topology::{Assignment, Move, MoveKind, Moving, Obeyed, RolesRow, plan_move};

/// A planned failover that the old writer's region was told of.
struct Begun<'a> {
    from: &'a RegionStore,
    /// What stands in its copy.
    row: RolesRow,
    moving: Moving,
}

impl Failover {
    /// Moves the role once nothing is left behind, within `deadline`.
    ///
    /// # Errors
    /// [`FailoverError`]: why it did not take place.
    pub async fn planned(
        &self,
        deadline: Duration,
        stop: &CancellationToken,
        tell: &mut Tell<'_>,
    ) -> Result<Done, FailoverError> {
        let started = self.runtime.instant();
        let answers = self.ask(&[]).await;
        let now = self.highest(&answers);
        let planned = plan_move(&self.file, &now, &self.to, self.from.as_ref(), MoveKind::Planned)?;
        // Before anybody is asked to stop: the target has to be there.
        self.copy(self.store(&self.to)?).await?;
        self.until_paid(&now, planned.from.as_ref(), started + deadline, stop, tell).await?;
        let deadline = deadline.saturating_sub(started.elapsed());
        let assignment = match &planned.from {
            Some(from) => {
                let begun = self.begin(from, &now, deadline).await?;
                match self.hand_over(&begun, &planned, stop, tell).await {
                    Ok(assignment) => assignment,
                    Err(error) => return Err(self.give_up(&begun, error).await),
                }
            }
            None => self.join_writers(&now, &planned, deadline, stop, tell).await?,
        };
        self.finish(&assignment, started, tell).await
    }

    /// Tells the old writer's region to take no more writes.
    async fn begin<'a>(
        &'a self,
        from: &Region,
        now: &Assignment,
        deadline: Duration,
    ) -> Result<Begun<'a>, FailoverError> {
        let store = self.store(from)?;
        self.copy(store).await?;
        let clock = self.clock(store);
        let moving = Moving::new(self.to.clone(), clock + deadline, self.who.clone(), self.runtime.random());
        let row = RolesRow { moving: Some(moving.clone()), ..RolesRow::still(now.clone()) };
        let judge = |known: Option<&RolesRow>| match known {
            Some(known) if known.assignment.mark > now.mark => overtaken(known),
            Some(RolesRow { moving: Some(Moving { to, by, deadline, .. }), .. }) if clock < *deadline => {
                let (to, by, deadline) = (to.clone(), by.clone(), *deadline);
                Verdict::Refuse(FailoverError::UnderWay { from: from.clone(), to, by, deadline })
            }
            _ => Verdict::Replace,
        };
        self.settle(store, &row, &judge).await?;
        Ok(Begun { from: store, row, moving })
    }

    /// Waits until nothing is left behind, and moves the role.
    async fn hand_over(
        &self,
        begun: &Begun<'_>,
        planned: &Move,
        stop: &CancellationToken,
        tell: &mut Tell<'_>,
    ) -> Result<Assignment, FailoverError> {
        let stopped = self.until_stopped(begun, stop, tell).await?;
        let over = |at: Time| begun.moving.has_expired(Some(at));
        self.until_drained(begun.from, stopped, &over, stop, tell).await?;
        let at = self.clock(begun.from);
        let assignment = self.assignment(&begun.row.assignment, planned, MoveKind::Planned, at, None);
        self.decide(begun, &assignment).await?;
        Ok(assignment)
    }

    /// Waits until every daemon of the region says that it takes no more writes; says when the last of them did, by the
    /// region's storage clock.
    async fn until_stopped(
        &self,
        begun: &Begun<'_>,
        stop: &CancellationToken,
        tell: &mut Tell<'_>,
    ) -> Result<Time, FailoverError> {
        let region = begun.from.region();
        loop {
            // One that does not answer for a moment may answer again before the deadline.
            let daemons = self.in_time(self.daemons(begun.from)).await.unwrap_or_default();
            let has_heard = |obeyed: &Obeyed| {
                obeyed.mark > begun.row.assignment.mark || obeyed.moving.as_ref() == Some(&begun.moving.id)
            };
            let heard: Vec<Time> = daemons
                .iter()
                .filter(|daemon| daemon.obeyed.as_ref().is_some_and(has_heard))
                .map(|daemon| daemon.renewed)
                .collect();
            tell(Progress::Stopping { region: region.clone(), heard: heard.len(), daemons: daemons.len() });
            if let Some(last) = heard.iter().max()
                && heard.len() == daemons.len()
            {
                return Ok(*last);
            }
            if begun.moving.has_expired(Some(self.clock(begun.from))) {
                let what = match daemons.len() {
                    0 => format!("no daemon of {region} runs, so nothing would be delivered"),
                    all => format!("{} of {all} daemons of {region} have heard of it", heard.len()),
                };
                return Err(FailoverError::Late { what, from: region.clone() });
            }
            if !pause(stop).await {
                return Err(FailoverError::GivenUp { from: region.clone(), told: false });
            }
        }
    }

    /// Waits until everything that was announced in `from` before `until` is in the target.
    async fn until_drained(
        &self,
        from: &RegionStore,
        until: Time,
        over: &(dyn Fn(Time) -> bool + Sync),
        stop: &CancellationToken,
        tell: &mut Tell<'_>,
    ) -> Result<(), FailoverError> {
        let region = from.region();
        loop {
            let link = self.in_time(link(from, region, &self.to)).await.ok().flatten();
            let last_sync = link.as_ref().and_then(|link| link.last_sync);
            let waiting = link.as_ref().map_or(0, |link| link.backlog_rows);
            tell(Progress::Draining { region: region.clone(), last_sync, until, waiting });
            if last_sync.is_some_and(|time| time > until) {
                return Ok(());
            }
            if over(self.clock(from)) {
                let synced = last_sync.map_or_else(|| "an unknown time".to_owned(), |time| time.to_string());
                let what = format!("{} has what {region} wrote up to {synced}, and not up to {until}", self.to);
                return Err(FailoverError::Late { what, from: region.clone() });
            }
            if !pause(stop).await {
                return Err(FailoverError::GivenUp { from: region.clone(), told: false });
            }
        }
    }

    /// The moment of the failover: the new roles in the place of what this failover has put there, and of nothing else.
    async fn decide(&self, begun: &Begun<'_>, assignment: &Assignment) -> Result<(), FailoverError> {
        let judge = |known: Option<&RolesRow>| match known {
            Some(known) if is_ours(known, begun) => Verdict::Replace,
            Some(known) if known.assignment.mark > begun.row.assignment.mark => overtaken(known),
            _ => Verdict::Refuse(FailoverError::Expired { from: begun.from.region().clone() }),
        };
        self.settle(begun.from, &RolesRow::still(assignment.clone()), &judge).await
    }

    /// Nothing is to move: the region serves writes again at once where it can be told, else when the deadline has passed.
    async fn give_up(&self, begun: &Begun<'_>, error: FailoverError) -> FailoverError {
        // Whether it moved is what is not known: what was written must stand.
        if matches!(error, FailoverError::Unknown { .. } | FailoverError::Expired { .. }) {
            return error;
        }
        let take_out = async {
            let copy = read_roles(begun.from).await?;
            match copy.row() {
                Some(known) if is_ours(known, begun) => {
                    replace_roles(begun.from, &copy, &RolesRow::still(known.assignment.clone())).await
                }
                _ => Ok(true),
            }
        };
        let told = matches!(self.in_time(take_out).await, Ok(true));
        match error {
            FailoverError::GivenUp { from, .. } => FailoverError::GivenUp { from, told },
            error => error,
        }
    }

    /// A region that was no writer has what all writers wrote before, and joins them.
    async fn join_writers(
        &self,
        now: &Assignment,
        planned: &Move,
        deadline: Duration,
        stop: &CancellationToken,
        tell: &mut Tell<'_>,
    ) -> Result<Assignment, FailoverError> {
        let end = self.runtime.instant() + deadline;
        let over = |_| self.runtime.instant() >= end;
        for writer in now.writers(&self.file) {
            let store = self.store(&writer)?;
            self.copy(store).await?;
            self.until_drained(store, self.clock(store), &over, stop, tell).await?;
        }
        let target = self.store(&self.to)?;
        let assignment = self.assignment(now, planned, MoveKind::Planned, self.clock(target), None);
        let row = RolesRow::still(assignment.clone());
        self.settle(target, &row, &over_older(&row)).await?;
        Ok(assignment)
    }
}

fn overtaken(known: &RolesRow) -> Verdict {
    Verdict::Refuse(FailoverError::Overtaken { now: Box::new(known.assignment.clone()) })
}

/// Whether what stands in the copy is what this failover has put there.
fn is_ours(known: &RolesRow, begun: &Begun<'_>) -> bool {
    let moving = known.moving.as_ref().is_some_and(|moving| moving.id == begun.moving.id);
    moving && known.assignment.mark == begun.row.assignment.mark
}

/// A link as its source has published it, at either of its ends.
pub(super) async fn link(at: &RegionStore, from: &Region, to: &Region) -> Result<Option<LinkStatus>, StoreError> {
    let (partition, row) = (LinkStatus::PARTITION.into(), LinkStatus::row_key(from, to));
    match at.home().get(&SystemTable::Control.name(), &partition, &row).await {
        Err(error) if error.kind == ErrorKind::NoTable => Ok(None),
        row => Ok(row?.and_then(|row| LinkStatus::decode(&row.body).ok())),
    }
}
