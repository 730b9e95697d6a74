//! The cut: put into the copies of all regions, heard by all daemons, and taken out again.

use std::time::Duration;

use futures::future::join_all;

use super::{Drill, DrillError};
use crate::model::Region;
use crate::replicator::{read_roles, replace_cut};
use crate::stores::{RegionStore, StoreError};
use crate::topology::{Cut, Member, Obeyed, RolesRow};

/// The wait between two looks at something that is to happen.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long the end of the cut is tried in a region that does not answer.
const ENDED_WITHIN: Duration = Duration::from_secs(10);

impl Drill {
    /// Says in every region's copy that the region is cut off, each with a deadline by its own clock.
    pub(super) async fn begin_cut(&self, id: u64) -> Result<(), DrillError> {
        let puts = join_all(self.regions.iter().map(|store| self.put_cut(store, id))).await;
        puts.into_iter().collect()
    }

    async fn put_cut(&self, store: &RegionStore, id: u64) -> Result<(), DrillError> {
        let (region, begun) = (store.region(), self.runtime.instant());
        loop {
            let put = async {
                let copy = read_roles(store).await?;
                let deadline = self.clock(store) + self.deadline;
                let cut = Cut::new(self.region.clone(), deadline, self.who.clone(), id);
                let Some(row) = copy.row() else { return Ok(Some(Err(no_roles(region)))) };
                match &row.cut {
                    Some(there) if there.id == cut.id => Ok(Some(Ok(()))),
                    _ => match under_way(row, self.clock(store)) {
                        Some(error) => Ok(Some(Err(error))),
                        None => Ok::<_, StoreError>(replace_cut(store, &copy, Some(cut)).await?.then_some(Ok(()))),
                    },
                }
            };
            match self.in_time(put).await {
                Ok(Some(done)) => return done,
                Ok(None) => {}
                Err(error) if begun.elapsed() >= ENDED_WITHIN => return Err(DrillError::unreachable(region, error)),
                Err(_) => {}
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Takes the cut out of every region's copy; says where it may still stand. Harmless where it does not stand any more.
    pub(super) async fn end_cut(&self, id: &str) -> Vec<Region> {
        let ends = self.regions.iter().map(|store| async move {
            let begun = self.runtime.instant();
            loop {
                let end = async {
                    let copy = read_roles(store).await?;
                    let ours = copy.row().and_then(|row| row.cut.as_ref()).is_some_and(|cut| cut.id == id);
                    Ok(!ours || replace_cut(store, &copy, None).await?)
                };
                match self.in_time(end).await {
                    Ok(true) => return None,
                    Ok(false) => {}
                    Err(_) if begun.elapsed() >= ENDED_WITHIN => return Some(store.region().clone()),
                    Err(_) => {}
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        });
        join_all(ends).await.into_iter().flatten().collect()
    }

    /// Waits until every daemon of every region says something of what it goes by, and there is one in each; `far` is told how far
    /// that is.
    pub(super) async fn until_obeyed(
        &self,
        holds: impl Fn(&Obeyed) -> bool + Sync,
        mut far: impl FnMut(String) + Send,
    ) {
        loop {
            let asked = self.regions.iter().map(|store| async move {
                // One that does not answer for a moment may answer again.
                (store.region(), self.failover(&self.region, None, false).daemons(store).await.unwrap_or_default())
            });
            let daemons: Vec<(&Region, Vec<Member>)> = join_all(asked).await;
            let says = |daemon: &&Member| daemon.obeyed.as_ref().is_some_and(&holds);
            let behind = daemons.iter().filter_map(|(region, daemons)| {
                let heard = daemons.iter().filter(says).count();
                let all = daemons.len();
                (all == 0 || heard < all).then(|| format!("{heard} of {all} daemons of {region}"))
            });
            let behind: Vec<String> = behind.collect();
            if behind.is_empty() {
                return;
            }
            far(behind.join(", "));
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

pub(super) fn no_roles(region: &Region) -> DrillError {
    DrillError::unreachable(region, "it has no roles that can be read; has a daemon run there?")
}

/// What stands in a copy that a drill must not disturb.
pub(super) fn under_way(row: &RolesRow, now: crate::model::Time) -> Option<DrillError> {
    let moving = row.moving.as_ref().filter(|moving| !moving.has_expired(Some(now)));
    let moving =
        moving.map(|moving| (format!("a planned failover to {}", moving.to), moving.by.clone(), moving.deadline));
    let cut = row.cut.as_ref().filter(|cut| !cut.has_expired(Some(now)));
    let cut = cut.map(|cut| (format!("a drill that cuts {} off", cut.region), cut.by.clone(), cut.deadline));
    let (what, by, deadline) = moving.or(cut)?;
    Some(DrillError::UnderWay { what, by, deadline })
}
