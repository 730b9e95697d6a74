//! What the last pass of the mover has done: a row in the region's `RelayControl`, which every daemon of the region reads.

use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::model::{PartitionKey, Region, RowBody, RowKey, SystemTable, Time};
use crate::ops::patient::{or_nothing, patiently};
use crate::stores::{Operation, RegionStore, StoreError};
use crate::telemetry::metrics;

/// What a pass has done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Demotion {
    /// The region whose rows these are.
    pub region: Region,
    /// When it began, by the region's storage clock. Whatever was old by then is in its cold place.
    pub began: Time,
    /// When it was through.
    pub ended: Time,
    /// Rows that it has gone through.
    pub rows: u64,
    /// Those of them that stood in their cold places before.
    pub cold: u64,
    /// Rows that were demoted.
    pub demoted: u64,
    /// Cold copies that were stale, and deleted.
    pub stale: u64,
    /// Old rows that their cold places refuse, and that stay at home.
    pub refused: u64,
    /// Rows at home that never grow old, since the property that their route names holds no date of theirs.
    pub undated: u64,
}

const PARTITION: &str = "tiers";
const ROW: &str = "last";

impl Demotion {
    /// One that begins.
    pub(super) fn new(region: &Region, began: Time) -> Self {
        Self {
            region: region.clone(),
            began,
            ended: began,
            rows: 0,
            cold: 0,
            demoted: 0,
            stale: 0,
            refused: 0,
            undated: 0,
        }
    }

    fn encode(&self) -> RowBody {
        let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        RowBody::builder(&PartitionKey::from(PARTITION), &RowKey::from(ROW))
            .string("Region", self.region.as_str())
            .string("Began", &self.began.to_string())
            .string("Ended", &self.ended.to_string())
            .int64("Rows", count(self.rows))
            .int64("Cold", count(self.cold))
            .int64("Demoted", count(self.demoted))
            .int64("Stale", count(self.stale))
            .int64("Refused", count(self.refused))
            .int64("Undated", count(self.undated))
            .finish()
    }

    /// `None` where it cannot be read: then it is done again.
    fn decode(body: &RowBody) -> Option<Self> {
        let number = |name| body.string(name)?.parse().ok();
        let time = |name| Time::parse(&body.string(name)?).ok();
        Some(Self {
            region: Region::new(&body.string("Region")?).ok()?,
            began: time("Began")?,
            ended: time("Ended")?,
            rows: number("Rows")?,
            cold: number("Cold")?,
            demoted: number("Demoted")?,
            stale: number("Stale")?,
            refused: number("Refused")?,
            undated: number("Undated")?,
        })
    }
}

/// What the last pass of a region has done; `None` before the first.
///
/// # Errors
/// Where `RelayControl` cannot be read.
pub(super) async fn read_demotion(store: &RegionStore) -> Result<Option<Demotion>, StoreError> {
    let (partition, row) = (PartitionKey::from(PARTITION), RowKey::from(ROW));
    let row =
        patiently(|| async { or_nothing(store.home().get(&SystemTable::Control.name(), &partition, &row).await) });
    Ok(row.await?.and_then(|row| Demotion::decode(&row.body)))
}

/// # Errors
/// Where `RelayControl` cannot be written.
pub(super) async fn keep_demotion(store: &RegionStore, demotion: &Demotion) -> Result<(), StoreError> {
    let (table, row) = (SystemTable::Control.name(), Operation::InsertOrReplace(demotion.encode()));
    patiently(|| store.home().write(&table, &row)).await.map(drop)
}

/// Where a daemon leaves what the last pass of its region has done.
#[derive(Debug, Default)]
pub struct Demotions(Mutex<Option<Demotion>>);

impl Demotions {
    /// What was done last.
    pub fn last(&self) -> Option<Demotion> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn note(&self, demotion: Demotion) {
        metrics::demotion(&demotion.region, demotion.began, demotion.cold + demotion.demoted);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(demotion);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let (region, time) = (Region::new("west").unwrap(), Time::from_unix_seconds);
        let counted = Demotion {
            rows: 9,
            cold: 5,
            demoted: 3,
            stale: 1,
            refused: 2,
            undated: 4,
            ..Demotion::new(&region, time(10))
        };
        let demotion = Demotion { ended: time(20), ..counted };
        assert_eq!(Demotion::decode(&demotion.encode()), Some(demotion));
    }
}
