//! A failover: the role of a writer moved from one region to another.
//!
//! Which move is allowed says `topology`. What is written down here is one row, the copy of the roles in one region, on its ETag:
//! that is the moment of the failover, and everything else (the other regions' copies, the word that the target has heard) the
//! daemons would do by themselves. So the command may be cut off anywhere:
//!
//! - [planned]: the copy of the *old* writer's region decides. Before that it says that the region takes no more writes, until a
//!   deadline; a command that is gone by then has changed nothing, since the region takes that out again.
//!   Before that region is asked for anything, the target is waited for where a [third region still owes it](owed) something.
//! - [forced]: the copy of the *target's* region decides, since the old one may be gone.
//!
//! Two commands at a time make two rows of one epoch at most, of which the daemons of all regions choose the same.

mod error;
mod forced;
mod owed;
mod planned;
mod risk;
#[cfg(test)]
mod tests;

use std::time::Duration;

use futures::future::join_all;
use serde::Serialize;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::model::{PartitionKey, Region, SystemTable, Time};
use crate::replicator::{RolesCopy, read_roles, replace_roles};
use crate::runtime::Runtime;
use crate::stores::{ErrorKind, Query, RegionStore, Scope, StoreError};
use crate::topology::{Assignment, FileRoles, Found, Mark, Member, Move, MoveKind, RolesRow};

pub use self::error::FailoverError;
pub use self::forced::Survey;
pub use self::owed::Owed;
pub use self::risk::{LinkRisk, Risk, RiskRow};

/// How long a region may take to answer one question: the new writer is to serve within seconds, whatever hangs.
const ANSWER_WITHIN: Duration = Duration::from_millis(1_500);
/// The wait between two looks at something that is to happen.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long it is tried to find out whether something was written.
const SETTLED_WITHIN: Duration = Duration::from_secs(10);
/// How long the target's daemons may take to say that they have heard.
const TAKEN_WITHIN: Duration = Duration::from_secs(10);

/// What it takes to fail over.
#[derive(Debug, Clone)]
pub struct Failover {
    /// Every region.
    pub regions: Vec<RegionStore>,
    /// The roles that the configuration gives.
    pub file: FileRoles,
    /// The region that is to be a writer.
    pub to: Region,
    /// The one that is to leave, where the rules leave a choice.
    pub from: Option<Region>,
    /// Who does this, for the trail.
    pub who: String,
    /// And why.
    pub why: String,
    /// How long a daemon counts as there after it was heard of last.
    pub lease: Duration,
    /// How soon after a failover a forced one is refused.
    pub cool_down: Duration,
    /// Clock and chance.
    pub runtime: Runtime,
}

/// How far a failover is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// The daemons of the old writer's region are told to take no more writes.
    Stopping {
        /// The region.
        region: Region,
        /// Daemons that have heard.
        heard: usize,
        /// Daemons that are there.
        daemons: usize,
    },
    /// The target has yet to get what a third region wrote before it gave up its role by plan. That region may be gone.
    Owed {
        /// The region.
        region: Region,
        /// Up to when the target has everything.
        last_sync: Option<Time>,
        /// Up to when it is to have it.
        until: Time,
        /// When that region last said so.
        published: Option<Time>,
    },
    /// What is written in a region is on its way to the target.
    Draining {
        /// The region.
        region: Region,
        /// Up to when everything is there.
        last_sync: Option<Time>,
        /// Up to when it is to be.
        until: Time,
        /// Rows that wait.
        waiting: u64,
    },
    /// The roles have moved.
    Moved {
        /// The epoch.
        epoch: u64,
    },
    /// The target's daemons are waited for.
    Taking {
        /// The region.
        region: Region,
    },
}

/// What a failover did.
#[derive(Debug, Clone, Serialize)]
pub struct Done {
    /// The version of this form.
    pub schema: u32,
    /// The roles since.
    pub assignment: Assignment,
    /// Regions whose copy was written, or had it already.
    pub reached: Vec<Region>,
    /// Regions that could not be told; the daemons will, once they can be reached.
    pub unreached: Vec<Region>,
    /// Whether a daemon of the target has said that it serves.
    pub serving: bool,
    /// How long all of it took.
    pub seconds: f64,
}

/// What a region answered.
#[derive(Debug)]
pub(in crate::ops) struct Answer<'a> {
    pub store: &'a RegionStore,
    pub copy: Result<RolesCopy, StoreError>,
}

/// What a region answers, in the time that it has for that.
pub(in crate::ops) async fn in_time<T>(request: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let late = |_| StoreError::new(ErrorKind::Unreachable, format!("no answer within {ANSWER_WITHIN:?}"));
    timeout(ANSWER_WITHIN, request).await.map_err(late)?
}

impl Failover {
    fn store(&self, region: &Region) -> Result<&RegionStore, FailoverError> {
        let store = self.regions.iter().find(|store| store.region() == region);
        store.ok_or_else(|| FailoverError::unreachable(region, "it is not in the configuration"))
    }

    async fn in_time<T>(&self, request: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        in_time(request).await
    }

    /// The copy of one region. One that cannot be read as what it is, is not to be overwritten.
    async fn copy(&self, store: &RegionStore) -> Result<RolesCopy, FailoverError> {
        let copy = self.in_time(read_roles(store)).await;
        let copy = copy.map_err(|error| FailoverError::unreachable(store.region(), error))?;
        match copy.error {
            Some(error) => Err(FailoverError::unreachable(store.region(), error)),
            None => Ok(copy),
        }
    }

    /// The copies of all regions but those that are known to be silent, side by side.
    pub(in crate::ops) async fn ask(&self, silent: &[Region]) -> Vec<Answer<'_>> {
        let ask = |store| async move { Answer { store, copy: self.in_time(read_roles(store)).await } };
        join_all(self.regions.iter().filter(|store| !silent.contains(store.region())).map(ask)).await
    }

    /// What is in force by those that answered.
    pub(in crate::ops) fn highest(&self, answers: &[Answer<'_>]) -> Assignment {
        let rows = answers.iter().filter_map(|answer| answer.copy.as_ref().ok()?.row());
        let highest = rows.map(|row| &row.assignment).max_by_key(|assignment| &assignment.mark);
        highest.cloned().unwrap_or_else(|| Assignment::first(&self.file))
    }

    /// The storage clock of a region that has answered.
    pub(in crate::ops) fn clock(&self, store: &RegionStore) -> Time {
        store.home().clock().at(self.runtime.instant()).unwrap_or_else(|| self.runtime.now())
    }

    /// The roles after a move.
    fn assignment(&self, now: &Assignment, done: &Move, kind: MoveKind, at: Time, risk: Option<String>) -> Assignment {
        Assignment {
            mark: now.mark.next(self.runtime.random()),
            roles: done.roles.clone(),
            kind,
            to: Some(done.to.clone()),
            from: done.from.clone(),
            who: self.who.clone(),
            at,
            why: self.why.clone(),
            risk,
        }
    }

    /// Writes `row` over what `judge` allows to be replaced. Where an answer is lost, what stands is looked at again, so that it is
    /// known in the end whether it was done.
    async fn settle(
        &self,
        store: &RegionStore,
        row: &RolesRow,
        judge: &(dyn Fn(Option<&RolesRow>) -> Verdict + Sync),
    ) -> Result<(), FailoverError> {
        let (region, end) = (store.region(), self.runtime.instant() + SETTLED_WITHIN);
        let (mut sent, mut why);
        sent = false;
        loop {
            let attempt = async {
                let copy = read_roles(store).await?;
                if copy.row() == Some(&row.clone().keeping_cut_of(copy.row())) {
                    return Ok(Some(Ok(())));
                }
                if let (Some(error), Found::Unreadable) = (&copy.error, &copy.found) {
                    return Ok(Some(Err(FailoverError::unreachable(region, error))));
                }
                match judge(copy.row()) {
                    Verdict::Refuse(error) => Ok(Some(Err(error))),
                    Verdict::Replace => {
                        sent = true;
                        let done = replace_roles(store, &copy, row).await?;
                        Ok::<_, StoreError>(done.then_some(Ok(())))
                    }
                }
            };
            match self.in_time(attempt).await {
                Ok(Some(settled)) => return settled,
                // Somebody wrote in between.
                Ok(None) => why = "somebody else keeps writing it".to_owned(),
                Err(error) => why = error.to_string(),
            }
            if self.runtime.instant() >= end {
                let region = region.clone();
                return Err(if sent {
                    FailoverError::Unknown { region, why }
                } else {
                    FailoverError::Unreachable { region, why }
                });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Tells the regions of the roles that do not know them yet, as far as they can be reached.
    async fn spread(&self, assignment: &Assignment, started: tokio::time::Instant, serving: bool) -> Done {
        let tell = |store: &RegionStore| {
            let (store, row) = (store.clone(), RolesRow::still(assignment.clone()));
            async move {
                let told = async {
                    let copy = read_roles(&store).await?;
                    let behind = copy.row().is_none_or(|known| known.assignment.mark < row.assignment.mark);
                    let ours = if copy.found == Found::Unreadable {
                        false
                    } else {
                        !behind || replace_roles(&store, &copy, &row).await?
                    };
                    Ok(ours)
                };
                (store.region().clone(), matches!(self.in_time(told).await, Ok(true)))
            }
        };
        let (mut reached, mut unreached) = (Vec::new(), Vec::new());
        for (region, told) in join_all(self.regions.iter().map(tell)).await {
            if told { reached.push(region) } else { unreached.push(region) }
        }
        let seconds = started.elapsed().as_secs_f64();
        Done { schema: 1, assignment: assignment.clone(), reached, unreached, serving, seconds }
    }

    /// The daemons of a region that are there.
    pub(in crate::ops) async fn daemons(&self, store: &RegionStore) -> Result<Vec<Member>, StoreError> {
        let scope = Scope::Partition { partition: PartitionKey::from(Member::PARTITION), from: None, through: None };
        let (mut query, mut rows) = (Query::new(scope), Vec::new());
        loop {
            let page = match store.home().query(&SystemTable::Control.name(), &query).await {
                Err(error) if error.kind == ErrorKind::NoTable => return Ok(Vec::new()),
                page => page?,
            };
            rows.extend(page.rows);
            query.continuation = page.continuation;
            if query.continuation.is_none() {
                break;
            }
        }
        let now = self.clock(store);
        let members = rows.iter().filter_map(|row| Member::decode(row).ok());
        Ok(members.filter(|member| !member.left && now < member.renewed + self.lease).collect())
    }

    /// Waits until a daemon of the target goes by the roles; says whether one does.
    async fn until_taken(&self, store: &RegionStore, mark: &Mark) -> bool {
        let taken = async {
            loop {
                let daemons = self.in_time(self.daemons(store)).await.unwrap_or_default();
                if daemons.iter().any(|daemon| daemon.obeyed.as_ref().is_some_and(|obeyed| obeyed.mark >= *mark)) {
                    return;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        timeout(TAKEN_WITHIN, taken).await.is_ok()
    }

    /// What follows once the roles have moved: nobody has to wait for it, but whoever does learns how it went.
    async fn finish(
        &self,
        assignment: &Assignment,
        started: tokio::time::Instant,
        tell: &mut Tell<'_>,
    ) -> Result<Done, FailoverError> {
        tell(Progress::Moved { epoch: assignment.mark.epoch });
        let target = self.store(assignment.to.as_ref().unwrap_or(&self.to))?;
        tell(Progress::Taking { region: target.region().clone() });
        let (mut done, serving) =
            futures::future::join(self.spread(assignment, started, false), self.until_taken(target, &assignment.mark))
                .await;
        done.serving = serving;
        done.seconds = started.elapsed().as_secs_f64();
        Ok(done)
    }
}

/// Takes in how far it is.
pub type Tell<'a> = dyn FnMut(Progress) + Send + 'a;

/// Whether something may be written over what stands in a copy.
enum Verdict {
    Replace,
    Refuse(FailoverError),
}

/// New roles go over older ones alone.
fn over_older(row: &RolesRow) -> impl Fn(Option<&RolesRow>) -> Verdict + Sync {
    let mark = row.assignment.mark.clone();
    move |known| match known {
        Some(known) if known.assignment.mark >= mark || known.assignment.mark.epoch == mark.epoch => {
            Verdict::Refuse(FailoverError::Overtaken { now: Box::new(known.assignment.clone()) })
        }
        _ => Verdict::Replace,
    }
}

/// Waits, unless somebody asks for the end.
async fn pause(stop: &CancellationToken) -> bool {
    tokio::select! {
        biased;
        () = stop.cancelled() => false,
        () = tokio::time::sleep(LOOK_EVERY) => true,
    }
}
