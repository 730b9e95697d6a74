//! Deleting what lies where no route leads, once its place has it.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::{self, StreamExt};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::error::RebalanceError;
use super::pass::{Bringing, Found, Kind, stretches};
use super::tables_of;
use crate::model::{Row, RowId, TableName};
use crate::ops::patient::in_turn;
use crate::planted::{Bug, planted};
use crate::replicator::{VERSION_ALONE, read_in};
use crate::stores::{Condition, ErrorKind, Operation, Remedy, StoreError, Tables};
use crate::writer::is_below;

/// Deletes under way at a time.
const IN_FLIGHT: usize = 16;
/// How often everything is gone through: what was changed between the look at it and its deletion is looked at again.
const ROUNDS: u32 = 5;

/// What was deleted, and what not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Cleaned {
    pub deleted: u64,
    /// What has changed where it was and is to be brought, and what could not be deleted.
    pub open: u64,
    /// Rows that lay there before, and whose place has nothing of them.
    pub left: u64,
}

impl Bringing<'_> {
    pub async fn clean(
        &self,
        stop: &CancellationToken,
        tell: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Cleaned, RebalanceError> {
        let tables = tables_of(&self.places, self.tables).await.map_err(|error| self.failed(error))?;
        let (mut cleaned, mut sure) = (Cleaned::default(), None);
        for _ in 0..ROUNDS {
            let before = cleaned.deleted;
            (cleaned.open, cleaned.left) = (0, 0);
            for account in self.places.accounts() {
                let waiting = self.clean_refused(&account.tables, &mut cleaned, (stop, &mut sure)).await?;
                // Tombstones go last: until then they keep an old row from being taken for one that was never deleted.
                for (table, query, kind) in stretches(&tables) {
                    let mut query = Some(query);
                    while let Some(asked) = query.take() {
                        self.may_go_on(stop, &mut sure).await?;
                        let (found, next) = self
                            .page(&account.tables, (&table, asked, kind))
                            .await
                            .map_err(|error| self.failed(error))?;
                        query = next;
                        let own = account.tables.account();
                        let mut astray: Vec<Found> =
                            found.into_iter().filter(|found| self.is_astray(&found.id, own, kind)).collect();
                        let all = astray.len();
                        astray.retain(|found| !waiting.contains(&found.id));
                        cleaned.open += (all - astray.len()) as u64;
                        let page = self.delete(&account.tables, (&table, kind), astray, stop).await?;
                        cleaned.deleted += page.deleted;
                        cleaned.open += page.open;
                        cleaned.left += page.left;
                        tell(cleaned.deleted);
                    }
                }
            }
            if cleaned.deleted == before {
                break;
            }
        }
        Ok(cleaned)
    }

    /// Deletes tombstones above a row that stands there all the same, since its delete was refused: they go before their rows. Alone, such a
    /// one is what is left of a delete that was carried out, by which the row would go from its place too. Returns the rows that have
    /// to wait, because their delete may be under way yet.
    async fn clean_refused(
        &self,
        tables: &Arc<dyn Tables>,
        cleaned: &mut Cleaned,
        (stop, sure): (&CancellationToken, &mut Option<Instant>),
    ) -> Result<BTreeSet<RowId>, RebalanceError> {
        let mut waiting = BTreeSet::new();
        if planted(Bug::RefusedLeftAlone) {
            return Ok(waiting);
        }
        for (table, query, kind) in stretches([]) {
            let mut query = Some(query);
            while let Some(asked) = query.take() {
                self.may_go_on(stop, sure).await?;
                let page = self.page(tables, (&table, asked, kind)).await;
                let (found, next) = page.map_err(|error| self.failed(error))?;
                query = next;
                let astray = found.into_iter().filter(|found| self.is_astray(&found.id, tables.account(), kind));
                let refused = self.refused(tables, astray.collect()).await.map_err(|error| self.failed(error))?;
                let now = tables.clock().at(Instant::now());
                let settled = |found: &Found| now.is_some_and(|now| found.row.timestamp + self.settles < now);
                let (settled, young): (Vec<Found>, Vec<Found>) = refused.into_iter().partition(settled);
                waiting.extend(young.into_iter().map(|found| found.id));
                let ids: Vec<RowId> = settled.iter().map(|found| found.id.clone()).collect();
                let page = self.delete(tables, (&table, kind), settled, stop).await?;
                cleaned.deleted += page.deleted;
                if page.deleted < ids.len() as u64 {
                    waiting.extend(ids);
                }
            }
        }
        Ok(waiting)
    }

    /// Those of these tombstones that were raised above a row which stands beside them.
    async fn refused(&self, tables: &Arc<dyn Tables>, tombs: Vec<Found>) -> Result<Vec<Found>, StoreError> {
        let ids: Vec<&RowId> = tombs.iter().map(|found| &found.id).collect();
        let rows = in_turn(|| read_in(|_, _| tables.clone(), &ids, Some(&VERSION_ALONE))).await?;
        let region = self.store.region();
        let below = |tomb: &Found, row: &Row| is_below(row, region, Some(&tomb.version), tomb.row.timestamp);
        Ok(tombs.into_iter().filter(|tomb| rows.get(&tomb.id).is_some_and(|row| below(tomb, row))).collect())
    }

    /// Deletes what its place was just seen to have, within half a settle window of when this was seen to be what is under way. So all of it is
    /// through before another command has copied there for as long as a reader may not know.
    async fn delete(
        &self,
        tables: &Arc<dyn Tables>,
        (table, kind): (&TableName, Kind),
        astray: Vec<Found>,
        stop: &CancellationToken,
    ) -> Result<Cleaned, RebalanceError> {
        if astray.is_empty() {
            return Ok(Cleaned::default());
        }
        let began = Instant::now();
        self.may_go_on(stop, &mut None).await?;
        let missing = match planted(Bug::MovedRowDeletedUnverified) {
            true => Vec::new(),
            false => self.missing(&astray, kind).await.map_err(|error| self.failed(error))?,
        };
        let mut deletes: Vec<BoxFuture<'_, Result<bool, StoreError>>> = Vec::new();
        for found in astray.iter().filter(|found| !missing.iter().any(|missing| missing.id == found.id)) {
            deletes.push(Box::pin(self.delete_one(tables, table, (found, began))));
        }
        let done: Vec<Result<bool, StoreError>> = stream::iter(deletes).buffer_unordered(IN_FLIGHT).collect().await;
        let (mut deleted, mut undone) = (0, 0);
        for one in done {
            match one.map_err(|error| self.failed(error))? {
                true => deleted += 1,
                false => undone += 1,
            }
        }
        let (open, left): (Vec<&Found>, Vec<&Found>) = missing.into_iter().partition(|found| {
            self.was_in(&found.id, tables.account()) || kind == Kind::Rows && self.was_cold_in(&found.id, tables)
        });
        let left = if kind == Kind::Rows { left.len() as u64 } else { 0 };
        Ok(Cleaned { deleted, open: undone + open.len() as u64, left })
    }

    /// Says whether it was deleted, as it was looked at.
    async fn delete_one(
        &self,
        tables: &Arc<dyn Tables>,
        table: &TableName,
        (found, began): (&Found, Instant),
    ) -> Result<bool, StoreError> {
        // Nothing is deleted on an old look: its place may have changed since, and so may the routes.
        if began.elapsed() >= self.fresh {
            return Ok(false);
        }
        let body = &found.row.body;
        let condition = Condition::Matches(found.row.etag.clone());
        let operation = Operation::Delete { partition: body.partition().clone(), row: body.row().clone(), condition };
        match tables.write(table, &operation).await {
            Ok(_) => Ok(true),
            // Written meanwhile, or answered too late: the next round looks at it.
            Err(error) if matches!(error.remedy(), Remedy::StartOver | Remedy::ReadBack) => Ok(false),
            Err(error) if error.kind == ErrorKind::Throttled => Ok(false),
            Err(error) => Err(error),
        }
    }
}
