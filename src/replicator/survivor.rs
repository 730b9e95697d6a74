//! What a region does when another one has lost its role without a word: it makes equal what got out of there.
//!
//! A region that dies in mid-delivery has brought a change to some of the others and not to all, and its daemon, which would
//! go on, is gone with it. But each region was told by its applied log what came in. So after a forced failover every other
//! region announces in its own feed what its log tells of the lost one: rows as they stand, as R6 announces what was found
//! newer elsewhere. The line then brings the highest version of each everywhere. No table is scanned. The log is kept short by
//! its collection, which passes nothing that the lost region's links have not passed; until all is announced here, nothing is
//! collected at all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future::BoxFuture;
use tracing::info;

use super::Roles;
use super::gather::gather_all;
use super::look::look;
use super::roles::read_beside;
use super::tombstones::Tombstones;
use crate::feed::{decode_applied, encode_relayed};
use crate::model::{AccountName, Change, ClosedList, PartitionKey, Region, RowBody, RowId, RowKey, SystemTable};
use crate::planted::{Bug, planted};
use crate::resolve::Finding;
use crate::stores::limits::MAX_OPERATIONS;
use crate::stores::{ErrorKind, Operation, Query, RegionStore, Scope, StoreError};
use crate::telemetry::Event;
use crate::topology::{Mark, MoveKind, RolesRow};
use crate::writer::relay;

/// Rows of one look.
const LOOK_ROWS: usize = 200;
/// Rows that are known to be announced; beyond them one may be looked at twice.
const MAX_KNOWN: usize = 100_000;
/// What the row keys begin with that say that it is done.
const DONE: &str = "equal:";

/// Makes equal what came in from one region before it lost its role.
#[derive(Debug)]
pub(super) struct Survivor {
    pub source: Region,
    pub local: RegionStore,
    /// The other regions: a failover that this one has slept through may stand in the trail of another alone.
    pub peers: Vec<RegionStore>,
    pub roles: Arc<Roles>,
    /// The roles that were in force when there was nothing left to do.
    pub done: Option<Mark>,
}

impl Survivor {
    /// Announces what came in, once for every forced failover that took the source's role. Where it fails, nothing may be
    /// collected.
    pub async fn make_equal(&mut self, tombstones: &Tombstones) -> Result<(), StoreError> {
        let present = self.roles.present();
        if planted(Bug::SurvivorsUnequal) || self.done.as_ref() == Some(&present.mark) {
            return Ok(());
        }
        let done: BTreeSet<RowKey> =
            read_beside(&self.local, DONE).await?.into_iter().map(|row| row.body.row().clone()).collect();
        let mut lost: Vec<Mark> = self.losses().await?;
        if present.kind == MoveKind::Forced && present.from.as_ref() == Some(&self.source) {
            lost.push(present.mark.clone());
        }
        lost.retain(|mark| !done.contains(&done_key(mark)));
        if !lost.is_empty() {
            let rows = self.announce(tombstones).await?;
            for mark in &lost {
                let row = RowBody::builder(&PartitionKey::from(RolesRow::PARTITION), &done_key(mark));
                let row = row.int64("Rows", i64::try_from(rows).unwrap_or(i64::MAX)).finish();
                self.local.home().write(&SystemTable::Control.name(), &Operation::InsertOrReplace(row)).await?;
            }
            info!(event = Event::SurvivorsEqual.as_str(), region = %self.local.region(), lost = %self.source, rows,
                "what had come in from a region that lost its role is announced here, so that all others get it too");
        }
        self.done = Some(present.mark.clone());
        Ok(())
    }

    /// The forced failovers that took the source's role, as far as a trail tells of them.
    async fn losses(&self) -> Result<Vec<Mark>, StoreError> {
        let own = read_beside(&self.local, RolesRow::TRAIL).await?;
        let others = self.peers.iter().filter(|peer| *peer.region() != self.source);
        let others = others.map(|peer| tokio::time::timeout(super::late::PATIENCE, read_beside(peer, RolesRow::TRAIL)));
        // Who does not answer now has brought its roles here, or will.
        let others = futures::future::join_all(others).await.into_iter().filter_map(|read| read.ok()?.ok());
        let rows = others.chain([own]).flatten().filter_map(|row| RolesRow::decode(&row.body).ok());
        let lost = rows.map(|row| row.assignment);
        let lost = lost.filter(|moved| moved.kind == MoveKind::Forced && moved.from.as_ref() == Some(&self.source));
        let marks: BTreeSet<Mark> = lost.map(|moved| moved.mark).collect();
        Ok(marks.into_iter().collect())
    }

    /// Announces what the log tells of; says how many rows that were.
    async fn announce(&self, tombstones: &Tombstones) -> Result<u64, StoreError> {
        let partition = PartitionKey::from(self.source.as_str());
        let mut query = Query::new(Scope::Partition { partition, from: None, through: None });
        let (mut known, mut announced) = (BTreeSet::new(), 0);
        loop {
            let page = self.local.home().query(&SystemTable::Applied.name(), &query).await?;
            let rows = page.rows.iter().filter_map(|row| decode_applied(row).ok()).flat_map(|applied| applied.rows);
            let fresh: BTreeSet<RowId> = rows.filter(|id| !known.contains(id)).collect();
            let fresh: Vec<RowId> = fresh.into_iter().collect();
            for chunk in fresh.chunks(LOOK_ROWS) {
                announced += self.announce_rows(chunk, tombstones).await?;
            }
            if known.len() < MAX_KNOWN {
                known.extend(fresh);
            }
            query.continuation = page.continuation;
            if query.continuation.is_none() {
                return Ok(announced);
            }
        }
    }

    async fn announce_rows(&self, ids: &[RowId], tombstones: &Tombstones) -> Result<u64, StoreError> {
        let findings = look(&self.local, tombstones, &ids.iter().collect::<Vec<_>>()).await?;
        let mut places: BTreeMap<(AccountName, PartitionKey), Vec<Change>> = BTreeMap::new();
        for (id, finding) in ids.iter().zip(findings) {
            let Some(change) = self.change(id, &finding) else { continue };
            let account = self.local.holding(&id.table, &id.partition).account().clone();
            let record = encode_relayed(&change);
            places.entry((account, record.partition().clone())).or_default().push(change);
        }
        let announced = places.values().map(|changes| changes.len() as u64).sum();
        let mut sends: Vec<BoxFuture<'_, Result<(), StoreError>>> = Vec::new();
        for ((_, shard), changes) in &places {
            for chunk in changes.chunks(MAX_OPERATIONS) {
                sends.push(Box::pin(self.send(shard, chunk)));
            }
        }
        gather_all(sends).await?;
        Ok(announced)
    }

    /// What is to be announced of a row: what nobody else does. Whatever a writer issued, its own region announces; and this one
    /// has announced its own.
    fn change(&self, id: &RowId, finding: &Finding) -> Option<Change> {
        let version = finding.version().filter(|_| finding.is_deliverable())?;
        let issuer = version.issued_in();
        let theirs = issuer == self.source || self.roles.writer_over(&issuer).is_some();
        let theirs = theirs && issuer != *self.local.region();
        theirs.then(|| Change::of_row(id, version, matches!(finding, Finding::Deleted(_))))
    }

    /// Records of one shard, in one transaction, or where one of them stands there already, one by one.
    async fn send(&self, shard: &PartitionKey, changes: &[Change]) -> Result<(), StoreError> {
        let tables = self.local.holding(&changes[0].table, &changes[0].partition);
        let inserts: Vec<Operation> = changes.iter().map(|change| Operation::Insert(encode_relayed(change))).collect();
        match tables.transact(&SystemTable::Feed.name(), shard, &inserts).await {
            Ok(_) => return Ok(()),
            Err(failure) if failure.error.kind == ErrorKind::AlreadyExists => {}
            Err(failure) => return Err(failure.error),
        }
        for change in changes {
            relay(tables.as_ref(), change, None).await?;
        }
        Ok(())
    }
}

fn done_key(mark: &Mark) -> RowKey {
    let trail = RolesRow::trail_key(mark);
    RowKey::new(format!("{DONE}{}", trail.as_str().trim_start_matches(RolesRow::TRAIL)))
}
