//! What the last sweep of a region has found: a row in its `RelayControl`, which every daemon of the region reads.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use super::ByAccount;
use crate::closed_list;
use crate::model::{AccountName, ClosedList, PartitionKey, Region, RowBody, RowKey, SystemTable, Time};
use crate::ops::patient::{or_nothing, patiently};
use crate::ops::verify::{counts, json, of_list};
use crate::settle::{HeldBy, Watermark};
use crate::stores::{Operation, RegionStore, StoreError};
use crate::telemetry::metrics;
use crate::topology::Marks;

closed_list! {
    /// Why a tombstone stays.
    pub enum Kept {
        Young = "young",
            "it is not older than what is known to be through",
            "none; what holds the watermark back stands beside it";
        RowStands = "row-stands",
            "its row stands in a region at a lower version: it was not deleted there, or a delete was refused and left its tombstone",
            "`tablerelay verify` tells whether regions differ, with `--repair` it mends them; where all have the row, none: it goes once the row is written or deleted again";
        RowWaits = "row-waits",
            "its row is named by an open announcement, a hint for a region or a cache, or an entry in quarantine",
            "none while daemons run; `tablerelay quarantine list` where something lies there";
        LookAged = "look-aged",
            "it was raised just now, or the look at its row was too old when its turn came",
            "none: the next sweep meets it again";
    }
}

/// What a sweep has found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Collection {
    /// The region whose tombstones these are.
    pub region: Region,
    /// When it began, by the region's storage clock.
    pub began: Time,
    /// When it was through.
    pub ended: Time,
    /// Up to when tombstones may go.
    #[serde(flatten)]
    pub watermark: Watermark,
    /// Tombstones that still stand, by account.
    pub standing: ByAccount,
    /// How many were deleted.
    pub collected: u64,
    /// Those that stay, by why.
    pub kept: BTreeMap<Kept, u64>,
    /// Those of them that are older than the minimum age and stay for want of the watermark alone.
    pub overdue: u64,
    /// Rows under the key of a tombstone that were none, and lie in quarantine.
    pub put_aside: u64,
}

const ROW: &str = "last";

impl Collection {
    /// How many tombstones stand.
    pub fn standing(&self) -> u64 {
        self.standing.values().sum()
    }

    fn encode(&self) -> RowBody {
        let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let Watermark { before, held_by, between } = &self.watermark;
        let standing: BTreeMap<&str, u64> = self.standing.iter().map(|(name, n)| (name.as_str(), *n)).collect();
        RowBody::builder(&PartitionKey::from(Marks::PARTITION), &RowKey::from(ROW))
            .string("Region", self.region.as_str())
            .string("Began", &self.began.to_string())
            .string("Ended", &self.ended.to_string())
            .maybe("Before", before.map(|before| before.to_string()).as_deref())
            .string("HeldBy", held_by.as_str())
            .string("Between", &json(between))
            .string("Standing", &json(&standing))
            .int64("Collected", count(self.collected))
            .string("Kept", &json(&self.kept))
            .int64("Overdue", count(self.overdue))
            .int64("PutAside", count(self.put_aside))
            .finish()
    }

    /// `None` where it cannot be read: then it is done again.
    fn decode(body: &RowBody) -> Option<Self> {
        let number = |name| body.string(name)?.parse().ok();
        let time = |name| Time::parse(&body.string(name)?).ok();
        let before = match body.string("Before") {
            Some(before) => Some(Time::parse(&before).ok()?),
            None => None,
        };
        let between: Vec<String> = serde_json::from_str(&body.string("Between")?).ok()?;
        let standing: BTreeMap<String, u64> = counts(body, "Standing")?;
        let standing = standing.into_iter().map(|(name, n)| Some((AccountName::new(&name).ok()?, n)));
        Some(Self {
            region: Region::new(&body.string("Region")?).ok()?,
            began: time("Began")?,
            ended: time("Ended")?,
            watermark: Watermark {
                before,
                held_by: HeldBy::parse(&body.string("HeldBy")?)?,
                between: between.iter().map(|name| Region::new(name).ok()).collect::<Option<_>>()?,
            },
            standing: standing.collect::<Option<_>>()?,
            collected: number("Collected")?,
            kept: of_list(counts(body, "Kept")?)?,
            overdue: number("Overdue")?,
            put_aside: number("PutAside")?,
        })
    }
}

/// What the last sweep of a region has found; `None` before the first.
///
/// # Errors
/// Where `RelayControl` cannot be read.
pub async fn read_collection(store: &RegionStore) -> Result<Option<Collection>, StoreError> {
    let (partition, row) = (PartitionKey::from(Marks::PARTITION), RowKey::from(ROW));
    let row =
        patiently(|| async { or_nothing(store.home().get(&SystemTable::Control.name(), &partition, &row).await) });
    Ok(row.await?.and_then(|row| Collection::decode(&row.body)))
}

/// # Errors
/// Where `RelayControl` cannot be written.
pub(super) async fn keep_collection(store: &RegionStore, collection: &Collection) -> Result<(), StoreError> {
    let (table, row) = (SystemTable::Control.name(), Operation::InsertOrReplace(collection.encode()));
    patiently(|| store.home().write(&table, &row)).await.map(drop)
}

/// Where a daemon leaves what the last sweep of its region has found.
#[derive(Debug, Default)]
pub struct Collected(Mutex<Option<Collection>>);

impl Collected {
    /// What was found last.
    pub fn last(&self) -> Option<Collection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn note(&self, collection: Collection) {
        let Collection { region, watermark, overdue, standing, .. } = &collection;
        metrics::tombstone_watermark(region, watermark.before, *overdue);
        standing.iter().for_each(|(account, standing)| metrics::tombstones(account, *standing));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(collection);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let region = |name| Region::new(name).unwrap();
        let collection = Collection {
            region: region("west"),
            began: Time::from_unix_seconds(10),
            ended: Time::from_unix_seconds(20),
            watermark: Watermark {
                before: Some(Time::from_unix_seconds(5)),
                held_by: HeldBy::LinkBehind,
                between: vec![region("west"), region("north")],
            },
            standing: [(AccountName::new("one").unwrap(), 7)].into(),
            collected: 3,
            kept: [(Kept::Young, 6), (Kept::RowStands, 1)].into(),
            overdue: 2,
            put_aside: 1,
        };
        assert_eq!(Collection::decode(&collection.encode()), Some(collection.clone()));
        let watermark = Watermark { before: None, held_by: HeldBy::NotVerified, between: vec![] };
        let none = Collection { watermark, ..collection };
        assert_eq!(Collection::decode(&none.encode()), Some(none));
        crate::model::assert_well_formed::<Kept>();
    }
}
