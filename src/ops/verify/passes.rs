//! What the last complete pass of a pair has found: a row in `RelayControl` of the region that it starts from.
//!
//! Both kinds of pass count for the collector of tombstones, and a repair besides for what a region has left that was taken out. A repair
//! counts where nothing was left out of it and nothing is left different.

use std::collections::BTreeMap;

use serde::Serialize;

use super::ledger::{counts, json, of_list};
use super::{Verified, Waits};
use crate::model::{PartitionKey, Region, RowBody, RowKey, SystemTable, Time};
use crate::ops::patient::{or_nothing, patiently};
use crate::resolve::Difference;
use crate::stores::{Operation, Query, RegionStore, Scope, StoreError};

/// Which kind of pass it was: each has its last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ops) enum PassKind {
    /// The scrubber's.
    Scrubbed,
    /// A repair of all tables, after which nothing differs.
    Repaired,
}

impl PassKind {
    /// The partition of `RelayControl` that holds these rows.
    fn partition(self) -> PartitionKey {
        PartitionKey::from(match self {
            Self::Scrubbed => "scrubbed",
            Self::Repaired => "repaired",
        })
    }
}

/// The last complete pass of a pair of regions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LastPass {
    /// The region that it starts from.
    pub from: Region,
    /// The other one.
    pub to: Region,
    /// When it began, by the storage clock of `from`.
    pub began: Time,
    /// When it was through.
    pub ended: Time,
    /// Distinct rows of both.
    pub rows: u64,
    /// Rows that differ, by kind.
    pub differences: BTreeMap<Difference, u64>,
    /// Rows that differ and are known to wait for something, by what that is.
    pub waiting: BTreeMap<Waits, u64>,
}

fn row_key(from: &Region, to: &Region) -> RowKey {
    RowKey::new(format!("{from}:{to}"))
}

impl LastPass {
    /// What a pass has found that is through by `ended`.
    pub(in crate::ops) fn of(verified: &Verified, ended: Time) -> Self {
        let (mut differences, mut waiting) = (BTreeMap::new(), BTreeMap::new());
        for table in &verified.tables {
            table.differences.iter().for_each(|(kind, rows)| *differences.entry(*kind).or_default() += rows);
            table.waiting.iter().for_each(|(kind, rows)| *waiting.entry(*kind).or_default() += rows);
        }
        let Verified { from, to, began, .. } = verified;
        Self { from: from.clone(), to: to.clone(), began: *began, ended, rows: verified.rows(), differences, waiting }
    }

    /// How many rows differ and wait for nothing.
    pub fn different(&self) -> u64 {
        self.differences.values().sum()
    }

    fn encode(&self, kind: PassKind) -> RowBody {
        RowBody::builder(&kind.partition(), &row_key(&self.from, &self.to))
            .string("From", self.from.as_str())
            .string("To", self.to.as_str())
            .string("Began", &self.began.to_string())
            .string("Ended", &self.ended.to_string())
            .int64("Rows", i64::try_from(self.rows).unwrap_or(i64::MAX))
            .string("Differences", &json(&self.differences))
            .string("Waiting", &json(&self.waiting))
            .finish()
    }

    /// `None` where it cannot be read: then it is done again.
    fn decode(body: &RowBody) -> Option<Self> {
        let region = |name| Region::new(&body.string(name)?).ok();
        let time = |name| Time::parse(&body.string(name)?).ok();
        Some(Self {
            from: region("From")?,
            to: region("To")?,
            began: time("Began")?,
            ended: time("Ended")?,
            rows: body.string("Rows")?.parse().ok()?,
            differences: of_list(counts(body, "Differences")?)?,
            waiting: of_list(counts(body, "Waiting")?)?,
        })
    }
}

/// # Errors
/// Where `RelayControl` cannot be written.
pub(in crate::ops) async fn keep_pass(kind: PassKind, store: &RegionStore, pass: &LastPass) -> Result<(), StoreError> {
    let (table, row) = (SystemTable::Control.name(), Operation::InsertOrReplace(pass.encode(kind)));
    patiently(|| store.home().write(&table, &row)).await.map(drop)
}

/// # Errors
/// Where `RelayControl` cannot be read.
pub(in crate::ops) async fn last_pass(
    kind: PassKind,
    store: &RegionStore,
    (from, to): (&Region, &Region),
) -> Result<Option<LastPass>, StoreError> {
    let (partition, row) = (kind.partition(), row_key(from, to));
    let row =
        patiently(|| async { or_nothing(store.home().get(&SystemTable::Control.name(), &partition, &row).await) });
    Ok(row.await?.and_then(|row| LastPass::decode(&row.body)))
}

/// Those of all pairs that start from this region.
///
/// # Errors
/// Where `RelayControl` cannot be read.
pub(in crate::ops) async fn last_passes(kind: PassKind, store: &RegionStore) -> Result<Vec<LastPass>, StoreError> {
    let mut query = Query::new(Scope::Partition { partition: kind.partition(), from: None, through: None });
    let mut passes = Vec::new();
    loop {
        let page = patiently(|| async { or_nothing(store.home().query(&SystemTable::Control.name(), &query).await) });
        let page = page.await?;
        passes.extend(page.rows.iter().filter_map(|row| LastPass::decode(&row.body)));
        query.continuation = page.continuation;
        if query.continuation.is_none() {
            return Ok(passes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let region = |name| Region::new(name).unwrap();
        let pass = LastPass {
            from: region("north"),
            to: region("west"),
            began: Time::from_unix_seconds(10),
            ended: Time::from_unix_seconds(20),
            rows: 7,
            differences: [(Difference::Missing, 2)].into(),
            waiting: [(Waits::Announced, 1)].into(),
        };
        let row = pass.encode(PassKind::Repaired);
        assert_eq!(LastPass::decode(&row), Some(pass.clone()));
        assert_eq!((row.partition().as_str(), row.row().as_str(), pass.different()), ("repaired", "north:west", 2));
    }
}
