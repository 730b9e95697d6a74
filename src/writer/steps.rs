//! The two steps of a write: announce, then write, within half the settle window.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::Instant;

use super::announce::{AnnounceError, Announced, announce};
use super::outcome::{is_refusal, read_back};
use super::patience::{Patience, no_reply};
use super::plan::Plan;
use super::{Copies, Standing, WriteError, Writer, Written, look_at_tombstones};
use crate::model::{Change, Etag, Row, RowId, RowKey, Version};
use crate::stores::{ErrorKind, Operation, StoreError, Tables, TransactionError};

/// How often a write begins again before it gives up.
const ATTEMPTS: u32 = 8;
/// How often it may be late on the way: with the default settings, it gives up after a minute and a half.
const LATE_ATTEMPTS: u32 = 3;

/// An announcement, and when it began.
struct Begun {
    change: Change,
    announced: Announced,
    at: Instant,
}

/// How the first step ended.
enum First {
    /// Announced in time.
    Begun(Begun),
    /// A tombstone was in the way; its version is known now.
    Outrun,
    /// Half the settle window was over before.
    Late(StoreError),
}

impl Writer {
    /// Both steps, begun again for as long as that may help.
    pub(super) async fn carry_out(&self, mut plan: Plan) -> Result<Written, WriteError> {
        let mut standing = BTreeMap::new();
        let mut late = 0;
        for _ in 0..ATTEMPTS {
            self.follow_routes().await?;
            let tables = self.store.holding(&plan.table, &plan.partition);
            let tables = tables.as_ref();
            let at = self.runtime.instant();
            self.bring_over(&mut plan, tables).await?;
            match self.first_step(tables, &mut plan, &mut standing, at).await? {
                First::Begun(begun) => return self.second_step(tables, &plan, begun).await,
                First::Outrun => {}
                First::Late(err) => {
                    late += 1;
                    if late == LATE_ATTEMPTS {
                        return Err(WriteError::Announce(err));
                    }
                }
            }
        }
        Err(WriteError::Contended { attempts: ATTEMPTS })
    }

    /// Reads the region's routes when those that are known may be gone by no longer. Where they cannot be read, the last ones do: what is
    /// written by them is found where it is. Without any, nothing is written.
    async fn follow_routes(&self) -> Result<(), WriteError> {
        let patience = Patience::until(&self.runtime, self.runtime.instant() + self.half_window() / 4);
        match patience.request(self.store.keep_up(self.options.settle_window)).await {
            Err(error) if self.store.routes_heard().is_none() => Err(WriteError::Routes(error)),
            _ => Ok(()),
        }
    }

    /// While rows move, and where they are cold, what is written over comes first, and stays until both steps are done: so that a condition
    /// is met by what stands there, and the version is above it.
    async fn bring_over(&self, plan: &mut Plan, tables: &dyn Tables) -> Result<(), WriteError> {
        let passage = self.store.passage(&plan.table, &plan.partition);
        let tierings = self.store.tierings(&plan.table, &plan.partition);
        if passage.is_none() && tierings.is_empty() {
            return Ok(());
        }
        let ageing = self.store.ageing(&plan.table, &plan.partition);
        let now = tables.clock().at(self.runtime.instant()).unwrap_or_else(|| self.runtime.now());
        let may_go = |row: &Row| ageing.as_ref().is_some_and(|it| it.is_old(row, now + self.options.settle_window));
        let patience = Patience::until(&self.runtime, self.soon());
        for n in 0..plan.operations.len() {
            let id = RowId::new(plan.table.clone(), plan.partition.clone(), plan.operations[n].row().clone());
            if let Some(passage) = &passage {
                patience.request(passage.bring(&id)).await.map_err(WriteError::Announce)?;
            }
            for tiering in &tierings {
                let kept = patience.request(tiering.keep(&id, may_go)).await.map_err(WriteError::Announce)?;
                if let Some((was, is)) = kept {
                    plan.operations[n].follow(&was, &is);
                }
            }
        }
        Ok(())
    }

    /// The first step, with a new version each time. It began at `at`, when what is written over was looked for.
    async fn first_step(
        &self,
        tables: &dyn Tables,
        plan: &mut Plan,
        standing: &mut BTreeMap<RowKey, Standing>,
        at: Instant,
    ) -> Result<First, WriteError> {
        let version = self.issue(plan)?;
        plan.check(&version)?;
        let deadline = at + self.half_window();
        let change = plan.change(&version);
        let (result, seen) = futures::join!(
            announce(tables, &self.runtime, &change, standing, deadline),
            self.tombstones_of_creates(tables, plan),
        );
        let announced = match result {
            Ok(announced) => announced,
            Err(AnnounceError::TombstoneStands(_)) => {
                *standing = self.look(tables, plan, &change.deletes).await?;
                plan.rise_above_all(standing);
                return Ok(First::Outrun);
            }
            Err(AnnounceError::TooLate(err)) => return Ok(First::Late(err)),
            Err(err) => return Err(err.into()),
        };
        let outrun = match seen {
            Ok(seen) => {
                plan.rise_above_all(&seen);
                plan.over.as_ref().is_some_and(|(over, _)| *over >= version)
            }
            Err(err) => {
                announced.withdraw(tables, &self.runtime, self.soon()).await;
                return Err(err);
            }
        };
        let late = self.runtime.instant() >= deadline;
        if outrun || late {
            announced.withdraw(tables, &self.runtime, self.soon()).await;
            // The tombstones of its own deletes were raised by this attempt.
            *standing = self.look(tables, plan, &change.deletes).await?;
            return Ok(if outrun { First::Outrun } else { First::Late(no_reply()) });
        }
        Ok(First::Begun(Begun { change, announced, at }))
    }

    /// The second step, sent once, and what its reply means.
    async fn second_step(&self, tables: &dyn Tables, plan: &Plan, mut begun: Begun) -> Result<Written, WriteError> {
        let version = begun.change.version.clone();
        let operations = plan.stamped(&version);
        let patience = Patience::until(&self.runtime, self.runtime.instant() + self.options.settle_window);
        let sent = patience.request(send(tables, plan, &operations)).await;
        let result = match sent {
            Ok(etags) => Ok(etags),
            Err(failed) if failed.error.kind == ErrorKind::NotFound && plan.is_single_delete() => Ok(vec![None]),
            Err(failed) if is_refusal(&failed.error) => {
                begun.announced.withdraw(tables, &self.runtime, self.soon()).await;
                return Err(WriteError::Refused(failed));
            }
            Err(failed) => {
                let patience = Patience::until(&self.runtime, self.soon());
                match read_back(tables, &patience, &plan.table, &operations, &version).await {
                    Ok(Some(etags)) => Ok(etags),
                    Ok(None) | Err(_) => Err(WriteError::Unknown { version: version.clone(), error: failed.into() }),
                }
            }
        };
        // So late, the daemon may have looked for the last time before the write took effect.
        if self.runtime.instant() > begun.at + self.half_window() {
            let again = begun.announced.again(tables, &self.runtime, &begun.change, self.soon()).await;
            again.map_err(|err| unannounced(version.clone(), err))?;
        }
        result.map(|etags| Written { version, etags, copies: Copies::default() })
    }

    fn issue(&self, plan: &Plan) -> Result<Version, WriteError> {
        let (over, row) = plan.over.as_ref().map(|(over, row)| (over, row)).unzip();
        let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        clock.issue(self.runtime.now(), over).map_err(|source| WriteError::AheadOfClock {
            row: row.cloned().unwrap_or_else(|| plan.first_row()),
            source,
        })
    }

    async fn tombstones_of_creates(
        &self,
        tables: &dyn Tables,
        plan: &Plan,
    ) -> Result<BTreeMap<RowKey, Standing>, WriteError> {
        if !self.options.look_at_tombstones {
            return Ok(BTreeMap::new());
        }
        self.look(tables, plan, &plan.creates()).await
    }

    async fn look(
        &self,
        tables: &dyn Tables,
        plan: &Plan,
        rows: &[RowKey],
    ) -> Result<BTreeMap<RowKey, Standing>, WriteError> {
        let patience = Patience::until(&self.runtime, self.soon());
        Ok(patience.request(look_at_tombstones(tables, &plan.table, &plan.partition, rows)).await?)
    }

    fn half_window(&self) -> Duration {
        self.options.settle_window / 2
    }

    /// The deadline of a step that begins now.
    fn soon(&self) -> Instant {
        self.runtime.instant() + self.half_window()
    }
}

async fn send(
    tables: &dyn Tables,
    plan: &Plan,
    operations: &[Operation],
) -> Result<Vec<Option<Etag>>, TransactionError> {
    match operations {
        [single] if !plan.transaction => Ok(vec![tables.write(&plan.table, single).await?]),
        several => tables.transact(&plan.table, &plan.partition, several).await,
    }
}

fn unannounced(version: Version, err: AnnounceError) -> WriteError {
    match err {
        AnnounceError::Change(err) => WriteError::Change(err),
        AnnounceError::Store(error) | AnnounceError::TooLate(error) | AnnounceError::TombstoneStands(error) => {
            WriteError::Unannounced { version, error }
        }
    }
}
