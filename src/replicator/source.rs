//! One account of this region as its carriers use it: read records, look at rows, end records.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::look::look;
use super::over::{bring_home, routes_of};
use super::quarantine::{Quarantine, admissible};
use super::removal::{removal, remove};
use super::single::Single;
use super::source_health::SourceHealth;
use super::tombstones::Tombstones;
use crate::feed::{Record, Shard, decode_record, record_prefix};
use crate::model::{AccountName, Etag, Row, RowId, RowKey, SystemTable, Time};
use crate::planted::{Bug, planted};
use crate::resolve::{Finding, from_the_future};
use crate::runtime::Runtime;
use crate::settle::{DueLook, Looked};
use crate::stores::{Condition, Continuation, ErrorKind, Operation, Query, RegionStore, Scope, StoreError, Tables};
use crate::topology::{MoveState, TableFilter};

/// An account whose feed is read.
#[derive(Debug)]
pub(super) struct Source {
    pub tables: Arc<dyn Tables>,
    pub region: RegionStore,
    pub tombstones: Tombstones,
    pub quarantine: Arc<Quarantine>,
    pub single: Single,
    pub filter: TableFilter,
    pub health: SourceHealth,
    pub max_clock_skew: Duration,
    /// How old a reading of the region's routes may be: half a settle window.
    pub routes_stale: Duration,
    /// Whether rows are looked at because this account's feed names them.
    pub is_feed: bool,
    pub runtime: Runtime,
}

/// A page of records.
#[derive(Debug)]
pub(super) struct PageRead {
    pub records: Vec<Record>,
    pub continuation: Option<Continuation>,
    /// Everything malformed on it is in quarantine.
    pub clean: bool,
}

impl Source {
    pub fn account(&self) -> &AccountName {
        self.tables.account()
    }

    /// The storage server's clock at `now`, or a little before.
    pub fn storage_now(&self, now: Instant) -> Option<Time> {
        self.tables.clock().at(now)
    }

    fn storage_now_or_ours(&self) -> Time {
        self.storage_now(self.runtime.instant()).unwrap_or_else(|| self.runtime.now())
    }

    /// One page of the shard's records, from those of time `from` on. What is malformed goes to quarantine whole; what
    /// cannot be put there now stays in the feed for the next pass.
    pub async fn read(
        &self,
        shard: Shard,
        from: Option<Time>,
        continuation: Option<Continuation>,
    ) -> Result<PageRead, StoreError> {
        let mut query = Query { continuation, ..Query::prefix(shard.partition(), record_prefix()) };
        if let (Some(time), Scope::Partition { from, .. }) = (from, &mut query.scope) {
            *from = Some(RowKey::new(format!("{}{time}", record_prefix())));
        }
        let page = self.tables.query(&SystemTable::Feed.name(), &query).await?;
        let (mut records, mut clean) = (Vec::with_capacity(page.rows.len()), true);
        for row in page.rows {
            let checked = decode_record(&row).and_then(|record| {
                admissible(&record, &self.filter, self.storage_now_or_ours(), self.max_clock_skew).map(|()| record)
            });
            match checked {
                Ok(record) => records.push(record),
                Err(why) => {
                    let kept = match planted(Bug::MalformedDropped) {
                        true => Ok(()),
                        false => self.quarantine.record(self.account(), &row, &why).await,
                    };
                    let aside = match kept {
                        Ok(()) => self.remove(&row).await,
                        failed => failed,
                    };
                    if let Err(error) = aside {
                        tracing::debug!(%shard, %error, "a malformed record could not be put aside yet");
                        clean = false;
                    }
                }
            }
        }
        let continuation = page.continuation.filter(|_| !planted(Bug::FirstPageOnly));
        Ok(PageRead { records, continuation, clean })
    }

    async fn remove(&self, row: &Row) -> Result<(), StoreError> {
        remove(self.tables.as_ref(), &SystemTable::Feed.name(), row.body.partition(), &[removal(row)]).await
    }

    /// Looks at rows. A version from the future goes to quarantine before the look is told of (R7).
    pub async fn look(&self, due: &[DueLook]) -> Result<Vec<Looked>, StoreError> {
        let began = self.runtime.instant();
        let began_storage = self.storage_now(began);
        let ids: Vec<&RowId> = due.iter().map(|due| &due.row).collect();
        let epoch = routes_of(&self.region, began, self.routes_stale)?;
        self.bring_home(&ids).await?;
        let mut findings = look(&self.region, &self.tombstones, &ids).await?;
        if self.region.routes_epoch() != epoch {
            return Err(StoreError::new(ErrorKind::Precondition, "the region's routes have changed during a look"));
        }
        for (due, finding) in due.iter().zip(&mut findings) {
            self.undo_late(due, finding).await?;
        }
        // By the clock of now: what was written while a slow look was under way is not from the future.
        let now = self.storage_now_or_ours();
        for (due, finding) in due.iter().zip(&mut findings) {
            let version = finding.version().filter(|version| from_the_future(version, now, self.max_clock_skew));
            if let Some(version) = version.cloned() {
                self.quarantine.future_row(&due.row, &version, None).await?;
                *finding = Finding::Future(version);
            }
        }
        let looked = due.iter().zip(findings).map(|(due, finding)| Looked {
            row: due.row.clone(),
            look: due.look,
            began,
            began_storage,
            finding,
        });
        Ok(looked.collect())
    }

    /// What was announced in this account and belongs into another one, by a writer that went by old routes for longer than it should: it is
    /// brought there before it is looked for there.
    async fn bring_home(&self, ids: &[&RowId]) -> Result<(), StoreError> {
        if !self.is_feed {
            return Ok(());
        }
        bring_home(&self.region, (&self.tables, ids), self.routes_stale, self.carries()).await
    }

    /// Whether nothing that was brought home is to stay behind. While rows move, readers may go by the routes before, and `rebalance` sees to
    /// what stays. Once nobody may any more, it deletes that, account by account: what is written behind its back then is for whoever finds
    /// it, as it is afterwards.
    fn carries(&self) -> bool {
        let Some(published) = self.region.published() else { return true };
        let since = self.region.routes_since().map_or(Duration::ZERO, |since| since.elapsed());
        published.moving.as_ref().is_none_or(|moving| {
            let known = moving.state == MoveState::Reading && since >= published.hold + self.routes_stale;
            known && !planted(Bug::BroughtNotCarried)
        })
    }

    /// A row under an announced delete may be there only because a write of another region took effect late.
    async fn undo_late(&self, due: &DueLook, finding: &mut Finding) -> Result<(), StoreError> {
        let (Some(delete), Some(found)) = (&due.delete, finding.version()) else { return Ok(()) };
        if planted(Bug::DeleteOfPresent) && found < delete {
            *finding = Finding::Deleted(delete.clone());
            return Ok(());
        }
        // Without this the receiver would take the look after an insert that its sender leaves out.
        if planted(Bug::NoLookAfterInsert) {
            return Ok(());
        }
        let suspect = matches!(finding, Finding::Row { .. }) && found < delete && !found.is_of(self.region.region());
        if suspect && let Some(deleted) = self.single.take_out_late(&due.row).await? {
            tracing::debug!(row = %due.row, version = %deleted, "took out a row that was written late over its delete");
            *finding = Finding::Deleted(deleted);
        }
        Ok(())
    }

    /// Deletes records that have ended. The highest version is first in the transaction and, where the transaction fails
    /// because somebody else ended one of them, first on its own: a lower one never goes before a higher one.
    pub async fn end(&self, shard: Shard, ending: &[(RowKey, Etag)]) -> Result<(), StoreError> {
        let operations: Vec<Operation> = ending
            .iter()
            .map(|(key, etag)| Operation::Delete {
                partition: shard.partition(),
                row: key.clone(),
                condition: Condition::Matches(etag.clone()),
            })
            .collect();
        remove(self.tables.as_ref(), &SystemTable::Feed.name(), &shard.partition(), &operations).await
    }
}
