//! A region's copy of the roles, read and replaced.

use futures::future::join;

use crate::model::{Etag, PartitionKey, Row, SystemTable};
use crate::stores::{Condition, ErrorKind, Operation, Query, RegionStore, StoreError};
use crate::topology::{Assignment, Cut, Found, RolesRow, RolesRowError};

/// A region's copy as it was read, and the ETag by which it may be replaced.
#[derive(Debug, Clone)]
pub struct RolesCopy {
    /// What was found.
    pub found: Found,
    /// Why it cannot be read, where it cannot.
    pub error: Option<RolesRowError>,
    etag: Option<Etag>,
}

impl RolesCopy {
    /// The row, where there is one that can be read.
    pub fn row(&self) -> Option<&RolesRow> {
        match &self.found {
            Found::Row(row) => Some(row),
            Found::Nothing | Found::Unreadable => None,
        }
    }
}

/// Reads the copy of a region. Where no daemon has run yet, there is none.
///
/// The region's routes are read with it, and gone by: nothing is brought to a region whose roles were not read of late, and so
/// nothing goes by routes that were not.
///
/// # Errors
/// Whatever else the store answers.
pub async fn read_roles(store: &RegionStore) -> Result<RolesCopy, StoreError> {
    let (copy, routes) = join(read_roles_alone(store), store.follow_routes()).await;
    routes?;
    copy
}

/// The same for somebody who has read the region's routes of late.
///
/// # Errors
/// Whatever else the store answers.
pub(super) async fn read_roles_alone(store: &RegionStore) -> Result<RolesCopy, StoreError> {
    let (partition, current) = (PartitionKey::from(RolesRow::PARTITION), RolesRow::current());
    let row = match store.home().get(&SystemTable::Control.name(), &partition, &current).await {
        Err(error) if error.kind == ErrorKind::NoTable => None,
        row => row?,
    };
    let Some(row) = row else { return Ok(RolesCopy { found: Found::Nothing, error: None, etag: None }) };
    let (found, error) = match RolesRow::decode(&row.body) {
        Ok(decoded) => (Found::Row(Box::new(decoded)), None),
        Err(error) => (Found::Unreadable, Some(error)),
    };
    Ok(RolesCopy { found, error, etag: Some(row.etag) })
}

/// The rows of a region's partition of roles whose keys begin with `prefix`: those of its trail, say.
///
/// # Errors
/// Whatever the store answers.
pub(in crate::replicator) async fn read_beside(store: &RegionStore, prefix: &str) -> Result<Vec<Row>, StoreError> {
    let (mut query, mut rows) = (Query::prefix(PartitionKey::from(RolesRow::PARTITION), prefix), Vec::new());
    loop {
        let page = match store.home().query(&SystemTable::Control.name(), &query).await {
            Err(error) if error.kind == ErrorKind::NoTable => return Ok(rows),
            page => page?,
        };
        rows.extend(page.rows);
        query.continuation = page.continuation;
        if query.continuation.is_none() {
            return Ok(rows);
        }
    }
}

/// The moves that a region's trail tells of; what cannot be read is none.
///
/// # Errors
/// Whatever the store answers.
pub async fn read_trail(store: &RegionStore) -> Result<Vec<Assignment>, StoreError> {
    let rows = read_beside(store, RolesRow::TRAIL).await?;
    Ok(rows.iter().filter_map(|row| RolesRow::decode(&row.body).ok()).map(|row| row.assignment).collect())
}

/// Puts `row` in the place of `copy`, and where it tells of other roles, what it leaves in the trail beside it, in one
/// transaction. A drill that stands in `copy` goes on. Says whether it was done: not where somebody was faster.
///
/// # Errors
/// Whatever the store answers. Where the outcome is unknown, a reading tells.
pub async fn replace_roles(store: &RegionStore, copy: &RolesCopy, row: &RolesRow) -> Result<bool, StoreError> {
    put(store, copy, &row.clone().keeping_cut_of(copy.row())).await
}

/// Says in a region's copy that a region is cut off for a drill, or with `None` that none is. Says whether it was done: not where
/// somebody was faster, or where there is no copy.
///
/// # Errors
/// Whatever the store answers. Where the outcome is unknown, a reading tells.
pub async fn replace_cut(store: &RegionStore, copy: &RolesCopy, cut: Option<Cut>) -> Result<bool, StoreError> {
    let Some(row) = copy.row().cloned() else { return Ok(false) };
    put(store, copy, &RolesRow { cut, ..row }).await
}

async fn put(store: &RegionStore, copy: &RolesCopy, row: &RolesRow) -> Result<bool, StoreError> {
    let body = row.encode();
    let current = match &copy.etag {
        Some(etag) => Operation::Replace(body, Condition::Matches(etag.clone())),
        None => Operation::Insert(body),
    };
    let same = copy.row().is_some_and(|old| old.assignment.mark == row.assignment.mark);
    let mut operations = vec![current];
    if !same {
        // Merged, since what was found out later may stand there already.
        operations.push(Operation::InsertOrMerge(row.encode_trail()));
    }
    let (table, partition) = (SystemTable::Control.name(), PartitionKey::from(RolesRow::PARTITION));
    match store.home().transact(&table, &partition, &operations).await {
        Ok(_) => Ok(true),
        Err(failed) => match failed.error.kind {
            ErrorKind::Precondition | ErrorKind::AlreadyExists | ErrorKind::NotFound => Ok(false),
            _ => Err(failed.error),
        },
    }
}
