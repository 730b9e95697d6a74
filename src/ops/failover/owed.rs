//! What the target of a failover is still owed by a third region that gave its role up by plan before.
//!
//! Such a region has given everything to the region that took its role, and goes on to give it to the others. Until it has,
//! one of those is behind: it lacks what others have, and were it the writer, what it gets after that would be late. A planned failover
//! waits for it; a forced one says it.

use std::collections::BTreeMap;

use futures::future::join_all;
use serde::Serialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::planned::link;
use super::{Failover, FailoverError, LinkRisk, Progress, Tell, pause};
use crate::model::{Region, Time};
use crate::replicator::read_trail;
use crate::stores::{RegionStore, StoreError};
use crate::topology::{Assignment, MoveKind, Role};

/// What a region that is no writer any more still owes the target of a forced failover.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Owed {
    /// The region.
    pub from: Region,
    /// When it gave its role up, by its storage clock: what it wrote before is meant.
    pub until: Time,
    /// What is missing.
    pub link: LinkRisk,
}

impl Failover {
    /// What the target lacks of third regions that gave their role up by plan before; `leaving` is the region that loses it now,
    /// and `silent` says who does not answer, and why. And whose trail could not be read although it answers.
    pub(super) async fn owed(
        &self,
        now: &Assignment,
        leaving: Option<&Region>,
        silent: &BTreeMap<Region, StoreError>,
    ) -> (Vec<Owed>, Vec<Region>) {
        let Ok(target) = self.store(&self.to) else { return Default::default() };
        let answering = self.regions.iter().filter(|store| !silent.contains_key(store.region()));
        let (mut trails, mut untold) = (vec![now.clone()], Vec::new());
        for (region, trail) in self.trails(answering).await {
            match trail {
                Ok(trail) => trails.extend(trail),
                Err(_) => untold.push(region.clone()),
            }
        }
        let third = gave_up(&trails).into_iter().filter(|(region, _)| self.is_third(region, now, leaving));
        let owed = third.map(|(from, until)| async move {
            let link = self.in_time(link(target, &from, &self.to)).await.ok().flatten();
            if link.and_then(|link| link.last_sync).is_some_and(|time| time > until) {
                return None;
            }
            let link = self.links_at_risk(&from, silent.get(&from).cloned(), &[target]).await.pop()?;
            let nothing = link.exact && link.rows == Some(0);
            (!nothing).then_some(Owed { from, until, link })
        });
        (join_all(owed).await.into_iter().flatten().collect(), untold)
    }

    async fn trails<'a>(
        &self,
        regions: impl Iterator<Item = &'a RegionStore>,
    ) -> Vec<(&'a Region, Result<Vec<Assignment>, StoreError>)> {
        join_all(regions.map(|store| async move { (store.region(), self.in_time(read_trail(store)).await) })).await
    }

    fn is_third(&self, region: &Region, now: &Assignment, leaving: Option<&Region>) -> bool {
        let concerned = *region == self.to || leaving == Some(region);
        !concerned && now.role_of(region, &self.file) != Role::Writer && self.store(region).is_ok()
    }

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
        let (mut trails, needed) = (Vec::new(), [Some(&self.to), leaving]);
        for (region, trail) in self.trails(self.regions.iter()).await {
            match trail {
                Ok(trail) => trails.extend(trail),
                Err(error) if needed.contains(&Some(region)) => return Err(FailoverError::unreachable(region, error)),
                Err(_) => {}
            }
        }
        for (region, until) in gave_up(&trails).into_iter().filter(|(region, _)| self.is_third(region, now, leaving)) {
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
            let published = link.map(|link| link.published);
            tell(Progress::Owed { region: region.clone(), last_sync, until, published });
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
