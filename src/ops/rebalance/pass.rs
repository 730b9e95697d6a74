//! One pass over all rows and tombstones that the routes have moved: what is not at its new place yet is brought there.
//!
//! Versions alone are read of what both places have, so that a pass that finds little costs little.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::{BoxFuture, try_join_all};
use futures::stream::{self, StreamExt, TryStreamExt};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::error::RebalanceError;
use super::tables_of;
use crate::feed::{Shard, decode_tombstone, tombstone_key, tombstones_prefix};
use crate::model::{AccountName, Row, RowId, RowKey, SystemTable, TableName, Version};
use crate::ops::patient::{in_turn, or_nothing, patiently};
use crate::replicator::{Sights, VERSION_ALONE, read_selected};
use crate::stores::{Mirrors, Passage, Query, RegionStore, Remedy, Scope, StoreError, Tables, Tiering};
use crate::topology::{Routes, TableFilter};
use crate::writer::{Over, Promoted};

/// Tombstones of a shard that are read at once.
const SCAN: u16 = 100;
/// Rows that are brought at a time.
const IN_FLIGHT: usize = 32;

/// Rows and tombstones on their way from where `was` leads to where `places` has them.
pub(super) struct Bringing<'a> {
    /// The region as everybody sees it.
    pub store: RegionStore,
    /// The region by the routes that rows move by, asked no more than its share.
    pub places: RegionStore,
    pub was: &'a Routes,
    pub tables: &'a TableFilter,
    /// How old a look may be that something is written or deleted by.
    pub fresh: Duration,
    /// How long after it was announced a delete may still be under way.
    pub settles: Duration,
    /// Where rows were is where they are written still.
    pub mirrors: bool,
    /// The epoch that this is done under.
    pub epoch: u64,
}

/// What a pass has met.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counted {
    /// Rows and tombstones that have another place.
    pub moved: u64,
    /// Those that had to be brought.
    pub brought: u64,
    /// Those that lie where no route leads: what was the home of a row may be its cold place now, where a copy may stay.
    pub astray: u64,
}

/// Something of a row that an account has.
pub(super) struct Found {
    pub id: RowId,
    /// `None` where a tombstone cannot be read.
    pub version: Version,
    pub row: Row,
}

/// What is met: rows or tombstones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Rows,
    Tombstones,
}

impl Bringing<'_> {
    pub async fn pass(
        &self,
        stop: &CancellationToken,
        tell: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Counted, RebalanceError> {
        let tables = tables_of(&self.places, self.tables).await.map_err(|error| self.failed(error))?;
        let (moved, tell) = (AtomicU64::new(0), Mutex::new(tell));
        let told = |more: u64| {
            let all = moved.fetch_add(more, Ordering::Relaxed) + more;
            (tell.lock().unwrap_or_else(PoisonError::into_inner))(all);
        };
        // Each account has a rate of its own.
        let mut passes: Vec<BoxFuture<'_, Result<Counted, RebalanceError>>> = Vec::new();
        for account in self.places.accounts() {
            passes.push(Box::pin(self.pass_of(&account.tables, &tables, (stop, &told))));
        }
        let counted = try_join_all(passes).await?.into_iter();
        Ok(counted.fold(Counted::default(), |all, one| Counted {
            moved: all.moved + one.moved,
            brought: all.brought + one.brought,
            astray: all.astray + one.astray,
        }))
    }

    async fn pass_of(
        &self,
        account: &Arc<dyn Tables>,
        tables: &BTreeSet<TableName>,
        (stop, tell): (&CancellationToken, &(dyn Fn(u64) + Send + Sync)),
    ) -> Result<Counted, RebalanceError> {
        let (mut counted, mut sure) = (Counted::default(), None);
        for (table, query, kind) in stretches(tables) {
            let mut query = Some(query);
            while let Some(asked) = query.take() {
                self.may_go_on(stop, &mut sure).await?;
                let page = self.page(account, (&table, asked, kind)).await;
                let (found, next) = page.map_err(|error| self.failed(error))?;
                query = next;
                let (moved, rest): (Vec<Found>, Vec<Found>) =
                    found.into_iter().partition(|found| self.was_in(&found.id, account.account()));
                let cold: Vec<&RowId> = match kind {
                    Kind::Rows => {
                        rest.iter().map(|found| &found.id).filter(|id| self.was_cold_in(id, account)).collect()
                    }
                    Kind::Tombstones => Vec::new(),
                };
                let missing = match kind {
                    Kind::Rows => self.other(&moved).await,
                    Kind::Tombstones => self.missing(&moved, kind).await,
                };
                let missing = missing.map_err(|error| self.failed(error))?;
                let mut ids: BTreeSet<&RowId> = missing.iter().map(|found| &found.id).collect();
                let came = rest.iter().filter(|found| self.came_to(&found.id, account.account()));
                if kind == Kind::Tombstones {
                    let buried = self.buried(moved.iter().chain(came).collect()).await;
                    ids.extend(buried.map_err(|error| self.failed(error))?);
                }
                counted.moved += (moved.len() + cold.len()) as u64;
                let astray = moved.iter().filter(|found| self.is_astray(&found.id, account.account(), kind)).count();
                counted.astray += (astray + cold.len()) as u64;
                counted.brought += self.bring(ids).await?;
                counted.brought += self.promote(account, &cold).await?;
                tell((moved.len() + cold.len()) as u64);
            }
        }
        Ok(counted)
    }

    pub(super) fn failed(&self, error: StoreError) -> RebalanceError {
        RebalanceError::Store { region: self.store.region().clone(), error }
    }

    /// One row that its place will never take is named: it is what a person has to see to.
    fn failed_at(&self, row: &RowId, error: StoreError) -> RebalanceError {
        match error.remedy() {
            _ if error.is_ahead() => RebalanceError::Ahead { row: Box::new(row.clone()), error },
            Remedy::GiveUp => RebalanceError::Row { row: Box::new(row.clone()), error },
            _ => self.failed(error),
        }
    }

    /// Asked before each page: whether to stop, and whether this is still what is under way, as was seen of late.
    pub(super) async fn may_go_on(
        &self,
        stop: &CancellationToken,
        sure: &mut Option<Instant>,
    ) -> Result<(), RebalanceError> {
        if stop.is_cancelled() {
            return Err(RebalanceError::Stopped);
        }
        if sure.is_some_and(|sure| sure.elapsed() < self.fresh / 2) {
            return Ok(());
        }
        *sure = Some(Instant::now());
        let copy = patiently(|| self.store.read_routes()).await.map_err(|error| self.failed(error))?;
        match copy.published.filter(|published| published.epoch == self.epoch) {
            Some(_) => Ok(()),
            None => Err(RebalanceError::Overtaken),
        }
    }

    /// Whether the account is where the routes had it, and no more where they have it.
    pub(super) fn was_in(&self, id: &RowId, account: &AccountName) -> bool {
        self.places.configured().left_home(self.was, &id.table, &id.partition) == Some(account)
    }

    /// Whether the account is where it was kept when it was old, and is no more.
    pub(super) fn was_cold_in(&self, id: &RowId, account: &Arc<dyn Tables>) -> bool {
        self.places.configured().left_cold(self.was, &id.table, &id.partition) == Some(account.account())
    }

    /// Whether the account is where the routes have it, and did not have it before.
    pub(super) fn came_to(&self, id: &RowId, account: &AccountName) -> bool {
        let is = self.places.configured().place(&id.table, &id.partition).account;
        is == account && self.was.place(&id.table, &id.partition).account != account
    }

    /// Whether the routes lead elsewhere.
    pub(super) fn is_astray(&self, id: &RowId, account: &AccountName, kind: Kind) -> bool {
        let (home, cold) = self.places.configured().places(&id.table, &id.partition);
        account != home && (kind == Kind::Tombstones || cold != Some(account))
    }

    /// A page of rows or tombstones of the replicated tables, and how to go on.
    pub(super) async fn page(
        &self,
        tables: &Arc<dyn Tables>,
        (table, query, kind): (&TableName, Query, Kind),
    ) -> Result<(Vec<Found>, Option<Query>), StoreError> {
        let page = in_turn(|| async { or_nothing(tables.query(table, &query).await) }).await?;
        let region = self.store.region();
        let found = |row: Row| match kind {
            Kind::Rows => {
                let id = RowId::new(table.clone(), row.body.partition().clone(), row.body.row().clone());
                Some(Found { id, version: row.version(region), row })
            }
            // One that cannot be read names no row; whoever raises it next replaces it.
            Kind::Tombstones => {
                let tombstone = decode_tombstone(&row).ok().filter(|tomb| self.tables.matches(&tomb.id.table))?;
                Some(Found { id: tombstone.id, version: tombstone.version, row })
            }
        };
        let next = page.continuation.map(|continuation| Query { continuation: Some(continuation), ..query.clone() });
        Ok((page.rows.into_iter().filter_map(found).collect(), next))
    }

    /// Those of these that their place does not have, nor anything newer.
    pub(super) async fn missing<'f>(&self, found: &'f [Found], kind: Kind) -> Result<Vec<&'f Found>, StoreError> {
        if found.is_empty() {
            return Ok(Vec::new());
        }
        match kind {
            Kind::Rows => {
                let ids: Vec<&RowId> = found.iter().map(|found| &found.id).collect();
                let sights = Sights::new(self.places.clone(), SCAN, false);
                let seen = in_turn(|| sights.of(&ids)).await?;
                let lacks = |(found, (sight, _)): (&'f Found, &(crate::resolve::Sight, _))| {
                    let standing = &sight.standing;
                    let highest = standing.row.as_ref().max(standing.tombstone.as_ref());
                    highest.is_none_or(|highest| *highest < found.version).then_some(found)
                };
                Ok(found.iter().zip(&seen).filter_map(lacks).collect())
            }
            Kind::Tombstones => {
                let there = self.tombstones(found).await?;
                let lacks = |found: &&Found| there.get(&found.id).is_none_or(|there| *there < found.version);
                Ok(found.iter().filter(lacks).collect())
            }
        }
    }

    /// Those of these rows of which their place has none, or an older one; or any other, where that can but be a copy. Where there is a newer
    /// tombstone in its place, the row may have been put over it.
    async fn other<'f>(&self, found: &'f [Found]) -> Result<Vec<&'f Found>, StoreError> {
        if found.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<&RowId> = found.iter().map(|found| &found.id).collect();
        let there = in_turn(|| read_selected(&self.places, &ids, Some(&VERSION_ALONE))).await?;
        let region = self.store.region();
        let other = |found: &&Found| match there.get(&found.id).map(|row| row.version(region)) {
            None => true,
            Some(version) if self.mirrors => version != found.version,
            Some(version) => version < found.version,
        };
        Ok(found.iter().filter(other).collect())
    }

    /// Those of these tombstones below which a row stands in its place. It may have come while it was deleted where it was, or above a
    /// tombstone that was raised meanwhile, by somebody who died before the look that follows. Where it was tells.
    async fn buried<'f>(&self, tombs: Vec<&'f Found>) -> Result<Vec<&'f RowId>, StoreError> {
        if tombs.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<&RowId> = tombs.iter().map(|tomb| &tomb.id).collect();
        let sights = Sights::new(self.places.clone(), SCAN, false);
        let seen = in_turn(|| sights.of(&ids)).await?;
        let standing =
            tombs.iter().zip(&seen).filter_map(|(tomb, (sight, _))| Some((*tomb, sight.standing.row.as_ref()?)));
        let (mut buried, mut above) = (Vec::new(), Vec::new());
        for (tomb, row) in standing {
            if *row < tomb.version { &mut buried } else { &mut above }.push(&tomb.id);
        }
        // A copy of what is deleted where it is written, by a clock that is behind.
        if self.mirrors && !above.is_empty() {
            let was = self.places.by(self.was);
            let there = in_turn(|| read_selected(&was, &above, Some(&VERSION_ALONE))).await?;
            buried.extend(above.into_iter().filter(|id| !there.contains_key(id)));
        }
        Ok(buried)
    }

    /// The tombstones that stand at the places of these, which are of one shard.
    async fn tombstones(&self, found: &[Found]) -> Result<BTreeMap<RowId, Version>, StoreError> {
        let mut places: BTreeMap<AccountName, (Arc<dyn Tables>, Vec<RowKey>)> = BTreeMap::new();
        for Found { id, .. } in found {
            let tables = self.places.holding(&id.table, &id.partition);
            places.entry(tables.account().clone()).or_insert_with(|| (tables, Vec::new())).1.push(tombstone_key(id));
        }
        let mut there = BTreeMap::new();
        for (tables, keys) in places.values() {
            let (Some(least), Some(most)) = (keys.iter().min(), keys.iter().max()) else { continue };
            let shard = Shard::of(&found[0].id.table, &found[0].id.partition).partition();
            let mut query = Some(Query::rows(shard, least.clone(), most.clone()));
            while let Some(asked) = query.take() {
                let page = in_turn(|| async { or_nothing(tables.query(&SystemTable::Feed.name(), &asked).await) });
                let page = page.await?;
                let tombs = page.rows.iter().filter_map(|row| decode_tombstone(row).ok());
                there.extend(tombs.map(|tomb| (tomb.id, tomb.version)));
                query = page.continuation.map(|next| Query { continuation: Some(next), ..asked });
            }
        }
        Ok(there)
    }

    /// Has rows stand at home that were cold in an account which is no cold place any more: where they are written at the time, from where
    /// they are brought like all others.
    async fn promote(&self, cold: &Arc<dyn Tables>, ids: &[&RowId]) -> Result<u64, RebalanceError> {
        let rules = if self.mirrors { self.was } else { self.places.configured() };
        let mut promoted: Vec<BoxFuture<'_, Result<Promoted, RebalanceError>>> = Vec::with_capacity(ids.len());
        for id in ids.iter().copied() {
            let Some(home) = self.places.account(rules.place(&id.table, &id.partition).account) else { continue };
            let (home, cold, region) = (home.clone(), cold.clone(), self.store.clone());
            let tiering = Tiering { home, cold, region, fresh: self.fresh };
            promoted.push(Box::pin(async move {
                let promoted = match in_turn(|| tiering.promote(id)).await {
                    // Whatever stands at home counts, and the mover, who takes out what is stale, is not at work while rows move.
                    Ok(Promoted::AtHome) => in_turn(|| tiering.drop_stale(id)).await.map(|_| Promoted::AtHome),
                    Err(error) if error.remedy() == Remedy::StartOver => Ok(Promoted::Promoted),
                    promoted => promoted,
                };
                promoted.map_err(|error| self.failed_at(id, error))
            }));
        }
        let promoted = stream::iter(promoted).buffer_unordered(IN_FLIGHT).try_collect::<Vec<Promoted>>().await?;
        Ok(promoted.iter().filter(|it| matches!(it, Promoted::Promoted | Promoted::Deleted)).count() as u64)
    }

    pub(super) fn passage(&self, id: &RowId) -> Option<Passage> {
        let from = self.places.account(self.was.place(&id.table, &id.partition).account)?.clone();
        let to = self.places.holding(&id.table, &id.partition);
        let mirrors = self.mirrors.then(|| Mirrors { region: self.store.clone(), epoch: self.epoch });
        Some(Passage { from, to, fresh: self.fresh, mirrors })
    }

    /// Brings these from where they were; says how many there was something of to bring.
    async fn bring(&self, ids: BTreeSet<&RowId>) -> Result<u64, RebalanceError> {
        let mut brought: Vec<BoxFuture<'_, Result<Over, RebalanceError>>> = Vec::with_capacity(ids.len());
        for id in ids {
            // Every account that the rules name is there: nothing begins otherwise.
            let Some(passage) = self.passage(id) else { continue };
            brought.push(Box::pin(async move {
                match in_turn(|| passage.bring(id)).await {
                    // Others go on writing it: the next pass meets it.
                    Err(error) if error.remedy() == Remedy::StartOver => Ok(Over::Brought),
                    brought => brought.map_err(|error| self.failed_at(id, error)),
                }
            }));
        }
        let brought = stream::iter(brought).buffer_unordered(IN_FLIGHT).try_collect::<Vec<Over>>().await?;
        Ok(brought.iter().filter(|over| **over == Over::Brought).count() as u64)
    }
}

/// What there is to read in an account: every table, and the tombstones of every shard.
pub(super) fn stretches<'a>(tables: impl IntoIterator<Item = &'a TableName>) -> Vec<(TableName, Query, Kind)> {
    let select = Some(VERSION_ALONE.map(str::to_owned).to_vec());
    let rows =
        |table: &TableName| (table.clone(), Query { select: select.clone(), ..Query::new(Scope::Table) }, Kind::Rows);
    let tombs = |shard: Shard| {
        (SystemTable::Feed.name(), Query::prefix(shard.partition(), tombstones_prefix()), Kind::Tombstones)
    };
    tables.into_iter().map(rows).chain(Shard::all().map(tombs)).collect()
}
