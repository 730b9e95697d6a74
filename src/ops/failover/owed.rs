//! What the target of a planned failover is still owed by a third region that gave its role up by plan before.
//!
//! Such a region has given everything to the region that took its role, and goes on to give it to the others. Until it has,
//! one of those is behind: it lacks what others have, and were it the writer, what it gets after that would be late.

use std::collections::BTreeMap;

use futures::future::join_all;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::planned::link;
use super::{Failover, FailoverError, Progress, Tell, pause};
use crate::model::{Region, Time};
use crate::replicator::read_trail;
use crate::stores::RegionStore;
use crate::topology::{Assignment, MoveKind, Role};

impl Failover {
    /// Waits until the target has what every region had announced when it gave its role up by plan, until `end` at most.
    /// `leaving` is the region that is to give it up now, of which more is asked later.
    pub(super) async fn until_paid(
        &self,
        now: &Assignment,
        leaving: Option<&Region>,
        end: Instant,
        stop: &CancellationToken,
        tell: &mut Tell<'_>,
    ) -> Result<(), FailoverError> {
        let target = self.store(&self.to)?;
        // A region that was away for two moves has heard of the second alone: whoever answers is asked.
        let asked =
            self.regions.iter().map(|store| async move { (store.region(), self.in_time(read_trail(store)).await) });
        let (mut trails, needed) = (Vec::new(), [Some(&self.to), leaving]);
        for (region, trail) in join_all(asked).await {
            match trail {
                Ok(trail) => trails.extend(trail),
                Err(error) if needed.contains(&Some(region)) => return Err(FailoverError::unreachable(region, error)),
                Err(_) => {}
            }
        }
        let is_third = |region: &Region| {
            let asked = *region == self.to || leaving == Some(region);
            !asked && now.role_of(region, &self.file) != Role::Writer && self.store(region).is_ok()
        };
        for (region, until) in gave_up(&trails).into_iter().filter(|(region, _)| is_third(region)) {
            self.until_owes_nothing((&region, until), target, end, stop, tell).await?;
        }
        Ok(())
    }

    async fn until_owes_nothing(
        &self,
        (region, until): (&Region, Time),
        target: &RegionStore,
        end: Instant,
        stop: &CancellationToken,
        tell: &mut Tell<'_>,
    ) -> Result<(), FailoverError> {
        loop {
            // As it was published at the target: the region itself may be gone.
            let link = self.in_time(link(target, region, &self.to)).await.ok().flatten();
            let last_sync = link.as_ref().and_then(|link| link.last_sync);
            if last_sync.is_some_and(|time| time > until) {
                return Ok(());
            }
            let waiting = link.as_ref().map_or(0, |link| link.backlog_rows);
            tell(Progress::Draining { region: region.clone(), last_sync, until, waiting });
            if self.runtime.instant() >= end {
                return Err(FailoverError::Owed { region: region.clone(), to: self.to.clone(), until, last_sync });
            }
            if !pause(stop).await {
                return Err(FailoverError::Unbegun);
            }
        }
    }
}

/// When each region last gave a role up by plan.
fn gave_up(trail: &[Assignment]) -> BTreeMap<Region, Time> {
    let mut last: BTreeMap<Region, Time> = BTreeMap::new();
    for moved in trail.iter().filter(|moved| moved.kind == MoveKind::Planned) {
        if let Some(from) = &moved.from {
            last.entry(from.clone()).and_modify(|at| *at = moved.at.max(*at)).or_insert(moved.at);
        }
    }
    last
}
