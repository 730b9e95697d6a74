//! Writing one row of a region by the protocol: what the rules ask for when two regions disagree.
//!
//! The batch path of [`deliver`](super::deliver) does the common work; whatever it finds newer than what it brings comes
//! here, row by row: R6 (take over what the destination has), R10 (lift what stands), and R5 where a delete is enforced in
//! its own region.

use std::time::Duration;

use tokio::time::Instant;

use super::journal::{Case, Journal, Lost};
use super::rows::read_row;
use super::tombstones::{Tomb, Tombstones};
use crate::feed::{Shard, decode_record, encode_relayed_nth, encode_tombstone};
use crate::model::{Change, PartitionKey, Region, Row, RowBody, RowId, SystemTable, Tombstone, Version};
use crate::planted::{Bug, planted};
use crate::resolve::{Finding, Freshness, Standing, Verdict, deliver_delete, deliver_row};
use crate::runtime::Runtime;
use crate::stores::{Condition, ErrorKind, Operation, RegionStore, Remedy, StoreError, TransactionError};
use crate::writer::{Relayed, relay};

/// How often a row that others keep writing is tried before it is left for the next look.
const ATTEMPTS: usize = 8;

/// Where something is taken over from, and where what gives way to it is named.
type Via<'a> = (&'a Region, &'a Journal);

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settled {
    /// It was written here.
    Written,
    /// The region had this or something newer.
    Had,
    /// What stood was lifted above it (R10).
    Lifted,
}

/// Why a row could not be settled.
#[derive(Debug)]
pub(super) enum Unsettled {
    /// Others kept writing it, or the look it rests on is too old (R9): look again.
    LookAgain,
    /// The store failed.
    Failed(StoreError),
}

impl From<StoreError> for Unsettled {
    fn from(error: StoreError) -> Self {
        if error.remedy() == Remedy::StartOver { Self::LookAgain } else { Self::Failed(error) }
    }
}

impl From<TransactionError> for Unsettled {
    fn from(failure: TransactionError) -> Self {
        failure.error.into()
    }
}

/// What stands of a row, with what it takes to write over it.
#[derive(Debug)]
pub(super) struct Stand {
    pub row: Option<Row>,
    pub tomb: Option<Tomb>,
}

impl Stand {
    pub fn standing(&self, region: &Region) -> Standing {
        Standing {
            row: self.row.as_ref().map(|row| row.version(region)),
            tombstone: self.tomb.as_ref().and_then(|tomb| tomb.version.clone()),
        }
    }

    /// The newest of it, as a finding.
    pub fn newest(&self, region: &Region) -> Finding {
        match (&self.row, self.tomb.as_ref().and_then(|tomb| tomb.version.clone())) {
            (Some(row), _) => {
                let version = row.version(region);
                Finding::Row { body: row.body.stamped(&version), version }
            }
            (None, Some(version)) => Finding::Deleted(version),
            (None, None) => Finding::Nothing,
        }
    }
}

/// Writes single rows of one region.
#[derive(Debug)]
pub(super) struct Single {
    pub store: RegionStore,
    tombstones: Tombstones,
    runtime: Runtime,
    fresh: Freshness,
}

impl Single {
    pub fn new(store: RegionStore, runtime: Runtime, settle_window: Duration) -> Self {
        let tombstones = Tombstones::new(store.clone(), 1);
        Self { store, tombstones, runtime, fresh: Freshness::new(settle_window) }
    }

    pub fn region(&self) -> &Region {
        self.store.region()
    }

    /// What stands: the row first, then its tombstone.
    pub async fn stand(&self, id: &RowId) -> Result<Stand, StoreError> {
        Ok(Stand { row: read_row(&self.store, id).await?, tomb: self.tombstones.of_row(id).await? })
    }

    /// Takes over what another region has: announced here first, so that every other region gets it too, then applied
    /// under R4, R5 and R10.
    ///
    /// `began` is when the reading of the other region, `source`, began: what was found there is not written later than R9
    /// allows. What gives way here goes into the journal first.
    pub async fn take_over(
        &self,
        id: &RowId,
        finding: &Finding,
        began: Instant,
        via: Via<'_>,
    ) -> Result<Settled, Unsettled> {
        for _ in 0..ATTEMPTS {
            let stand = self.stand(id).await?;
            let there = stand.standing(self.region());
            self.weigh_stand(id, finding, &stand, via).await?;
            let done = match finding {
                Finding::Row { version, body } => match deliver_row(version, self.region(), &there) {
                    Verdict::Equal | Verdict::Newer => Ok(Settled::Had),
                    Verdict::Lift => self.lift(id, version).await,
                    _ => self.put(id, (version, body), &stand, began, via).await,
                },
                Finding::Deleted(version) => match deliver_delete(version, self.region(), &there) {
                    Verdict::Delete { raise: false, remove: false } | Verdict::Newer => Ok(Settled::Had),
                    Verdict::Lift => self.lift(id, version).await,
                    _ => self.delete(id, version, &stand, began, via).await,
                },
                Finding::Nothing | Finding::Future(_) => Ok(Settled::Had),
            };
            match done {
                Err(Unsettled::LookAgain) => {}
                done => return done,
            }
        }
        Err(Unsettled::LookAgain)
    }

    /// Names in the journal what would give way here to `winner`, for which nothing is written yet.
    pub async fn name_lost(&self, id: &RowId, winner: &Finding, via: Via<'_>) -> Result<(), Unsettled> {
        let stand = self.stand(id).await?;
        self.weigh_stand(id, winner, &stand, via).await
    }

    async fn weigh_stand(&self, id: &RowId, winner: &Finding, stand: &Stand, via: Via<'_>) -> Result<(), Unsettled> {
        match Lost::of(stand, self.region(), winner) {
            Some(lost) => self.weigh(id, winner, lost, via).await,
            None => Ok(()),
        }
    }

    async fn weigh(
        &self,
        id: &RowId,
        winner: &Finding,
        lost: Lost,
        (source, journal): Via<'_>,
    ) -> Result<(), Unsettled> {
        let case = Case { id, winner, base: None, lost, source, home: self.region() };
        Ok(journal.weigh(case).await?)
    }

    async fn put(
        &self,
        id: &RowId,
        (version, body): (&Version, &RowBody),
        stand: &Stand,
        began: Instant,
        via: Via<'_>,
    ) -> Result<Settled, Unsettled> {
        let announced = match planted(Bug::NoAnnouncement) {
            true => None,
            false => Some(self.announce(id, version, began).await?),
        };
        self.check(began)?;
        let tables = self.store.holding(&id.table, &id.partition);
        let operation = match &stand.row {
            None => Operation::Insert(body.clone()),
            Some(row) => Operation::Replace(body.clone(), Condition::Matches(row.etag.clone())),
        };
        let etag = match tables.write(&id.table, &operation).await {
            Err(error) if error.kind == ErrorKind::NoTable => {
                tables.create_table(&id.table).await?;
                tables.write(&id.table, &operation).await?
            }
            Err(error) if error.remedy() == Remedy::GiveUp => {
                self.take_back(id, announced.filter(|relayed| !relayed.already)).await;
                return Err(error.into());
            }
            written => written?,
        };
        let tomb = self.tombstones.of_row(id).await?;
        let weighed = stand.tomb.as_ref().and_then(|tomb| tomb.version.as_ref());
        let raised = |lost: &Lost| stand.row.is_none() && weighed != Some(&lost.version);
        if let Some(lost) = tomb.as_ref().and_then(Lost::delete).filter(raised) {
            self.weigh(id, &Finding::Row { version: version.clone(), body: body.clone() }, lost, via).await?;
        }
        if let (Some(deleted), Some(etag)) = (tomb.and_then(|tomb| tomb.version), etag)
            && deleted > *version
        {
            // A delete came between: the row goes again, and the loop finds the newer tombstone.
            self.remove(id, Condition::Matches(etag)).await?;
            return Err(Unsettled::LookAgain);
        }
        Ok(Settled::Written)
    }

    async fn delete(
        &self,
        id: &RowId,
        version: &Version,
        stand: &Stand,
        began: Instant,
        via: Via<'_>,
    ) -> Result<Settled, Unsettled> {
        self.check(began)?;
        self.announce_delete(id, version, stand.tomb.as_ref(), began).await?;
        // Read after the tombstone stands: whoever inserted the row before that may not have seen it.
        match read_row(&self.store, id).await? {
            Some(row) if row.version(self.region()) < *version => {
                let etag = row.etag.clone();
                // Weighed twice, it could take longer than what it rests on holds (R9), each time anew.
                if stand.row.as_ref().is_none_or(|weighed| weighed.etag != etag) {
                    let lost = Lost { version: row.version(self.region()), row: Some(row), deleted: None };
                    self.weigh(id, &Finding::Deleted(version.clone()), lost, via).await?;
                }
                self.check(began)?;
                self.remove(id, Condition::Matches(etag)).await?;
                Ok(Settled::Written)
            }
            // Written meanwhile, and newer.
            Some(_) => Ok(Settled::Had),
            None => Ok(Settled::Written),
        }
    }

    /// R10: gives what stands a version of this region one tick above `floor`: announced, then stamped on its ETag.
    pub async fn lift(&self, id: &RowId, floor: &Version) -> Result<Settled, Unsettled> {
        self.lift_above(id, floor, false).await
    }

    /// As [`lift`](Self::lift), where that this region has nothing of a row is what stands as well: then it is as deleted.
    pub async fn overrule(&self, id: &RowId, floor: &Version) -> Result<Settled, Unsettled> {
        self.lift_above(id, floor, true).await
    }

    async fn lift_above(&self, id: &RowId, floor: &Version, absence_stands: bool) -> Result<Settled, Unsettled> {
        for _ in 0..ATTEMPTS {
            let began = Instant::now();
            let stand = self.stand(id).await?;
            // By an id of its own each time. What stands may be lifted above one version more than once, and a version must
            // not stand for two contents; of two lifts, R10 lifts the one that stands once more.
            let above = floor.above(self.region(), self.runtime.writer_id());
            let lifted = match (&stand.row, &stand.tomb) {
                (Some(row), _) if row.version(self.region()) >= *floor => return Ok(Settled::Had),
                // Another region's row that landed after the delete is about to be taken out: lifted, it would be back for
                // good.
                (Some(row), Some(tomb)) if self.is_late(row, tomb) => {
                    self.take_out_late(id).await?;
                    continue;
                }
                (Some(row), _) => {
                    self.announce(id, &above, began).await?;
                    let body = row.body.stamped(&above);
                    let operation = Operation::Replace(body, Condition::Matches(row.etag.clone()));
                    self.check(began)?;
                    let tables = self.store.holding(&id.table, &id.partition);
                    tables.write(&id.table, &operation).await.map(drop).map_err(Unsettled::from)
                }
                (None, Some(tomb)) if tomb.version.as_ref().is_some_and(|version| version >= floor) => {
                    return Ok(Settled::Had);
                }
                (None, Some(tomb)) => self.announce_delete(id, &above, Some(tomb), began).await,
                (None, None) if absence_stands => self.announce_delete(id, &above, None, began).await,
                // Absent without a tombstone is R4's business.
                (None, None) => return Err(Unsettled::LookAgain),
            };
            match lifted {
                Ok(()) => return Ok(Settled::Lifted),
                Err(Unsettled::LookAgain) => {}
                Err(failed) => return Err(failed),
            }
        }
        Err(Unsettled::LookAgain)
    }

    /// Enforces a delete that was announced after it had been done (the queue form): R5 in its own region.
    pub async fn enforce_delete(&self, id: &RowId, version: &Version) -> Result<(), Unsettled> {
        for _ in 0..ATTEMPTS {
            let row = read_row(&self.store, id).await?;
            let Some(row) = row.filter(|row| row.version(self.region()) < *version) else { return Ok(()) };
            match self.remove(id, Condition::Matches(row.etag)).await {
                Err(Unsettled::LookAgain) => {}
                done => return done,
            }
        }
        Err(Unsettled::LookAgain)
    }

    /// R4's last look, for a sender that is not there to take it: its insert was under way when it gave up on it, and took
    /// effect after the row had been deleted here. Such a row came from another region, is older than the tombstone and
    /// was written after that was raised; it is taken out again on its ETag. A row that stood before the tombstone was
    /// raised stays: its delete was refused, or is yet to come.
    ///
    /// Returns the version of the delete where it took a row out.
    pub async fn take_out_late(&self, id: &RowId) -> Result<Option<Version>, StoreError> {
        for _ in 0..ATTEMPTS {
            let stand = self.stand(id).await?;
            let (Some(row), Some(tomb)) = (stand.row, stand.tomb) else { return Ok(None) };
            if !self.is_late(&row, &tomb) {
                return Ok(None);
            }
            match self.remove(id, Condition::Matches(row.etag)).await {
                Ok(()) => return Ok(tomb.version),
                Err(Unsettled::LookAgain) => {}
                Err(Unsettled::Failed(error)) => return Err(error),
            }
        }
        Err(StoreError::new(ErrorKind::Precondition, format!("{ATTEMPTS} times others were faster")))
    }

    /// Whether a row came from another region after a higher tombstone had been raised here.
    fn is_late(&self, row: &Row, tomb: &Tomb) -> bool {
        let version = row.version(self.region());
        let below = tomb.version.as_ref().is_some_and(|deleted| version < *deleted);
        below && !version.is_of(self.region()) && row.timestamp > tomb.raised
    }

    async fn remove(&self, id: &RowId, condition: Condition) -> Result<(), Unsettled> {
        let operation = Operation::Delete { partition: id.partition.clone(), row: id.row.clone(), condition };
        match self.store.holding(&id.table, &id.partition).write(&id.table, &operation).await {
            Ok(_) => Ok(()),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Announces a put by a daemon that looked at `began`. A record of the same row and version that stands already will do, if it
    /// came after that: who began earlier and did not come to an end may have announced it long ago, and it may end, by a
    /// look that finds the old state, just before the write.
    async fn announce(&self, id: &RowId, version: &Version, began: Instant) -> Result<Relayed, Unsettled> {
        let tables = self.store.holding(&id.table, &id.partition);
        Ok(relay(tables.as_ref(), &Change::of_row(id, version, false), tables.clock().at(began)).await?)
    }

    /// Takes an announcement back whose first and only write was refused: what it names never comes, and who looked for it
    /// would find the same disagreement and announce it anew, without end.
    async fn take_back(&self, id: &RowId, announced: Option<Relayed>) {
        let Some(Relayed { key: row, .. }) = announced else { return };
        let partition = Shard::of(&id.table, &id.partition).partition();
        let operation = Operation::Delete { partition, row, condition: Condition::Present };
        let tables = self.store.holding(&id.table, &id.partition);
        if let Err(error) = tables.write(&SystemTable::Feed.name(), &operation).await {
            tracing::debug!(row = %id, %error, "the announcement of a refused row stays until its window is over");
        }
    }

    /// The body of a delete's record with a key that is free, or `None` where this very change was announced since `began`.
    async fn free_record(&self, id: &RowId, version: &Version, began: Instant) -> Result<Option<RowBody>, StoreError> {
        let change = Change::of_row(id, version, true);
        let tables = self.store.holding(&id.table, &id.partition);
        let shard: PartitionKey = Shard::of(&id.table, &id.partition).partition();
        for n in 0..ATTEMPTS {
            let body = encode_relayed_nth(&change, n);
            let Some(taken) = tables.get(&SystemTable::Feed.name(), &shard, body.row()).await? else {
                return Ok(Some(body));
            };
            let since = tables.clock().at(began).unwrap_or(taken.timestamp);
            if taken.timestamp >= since && decode_record(&taken).is_ok_and(|record| record.change == change) {
                return Ok(None);
            }
        }
        Err(StoreError::new(ErrorKind::AlreadyExists, format!("{ATTEMPTS} other records stand at version {version}")))
    }

    /// Announces a delete and raises the tombstone, in one transaction.
    async fn announce_delete(
        &self,
        id: &RowId,
        version: &Version,
        tomb: Option<&Tomb>,
        began: Instant,
    ) -> Result<(), Unsettled> {
        let mut operations = Vec::with_capacity(2);
        operations.extend(self.free_record(id, version, began).await?.map(Operation::Insert));
        operations.extend(raise(&Tombstone { id: id.clone(), version: version.clone() }, tomb));
        if operations.is_empty() {
            return Ok(());
        }
        let tables = self.store.holding(&id.table, &id.partition);
        let shard = Shard::of(&id.table, &id.partition).partition();
        tables.transact(&SystemTable::Feed.name(), &shard, &operations).await?;
        Ok(())
    }

    fn check(&self, began: Instant) -> Result<(), Unsettled> {
        if self.fresh.allows(began, Instant::now()) { Ok(()) } else { Err(Unsettled::LookAgain) }
    }
}

/// The write that raises a tombstone, or none where it stands as high already. A tombstone is never lowered.
pub(super) fn raise(tombstone: &Tombstone, there: Option<&Tomb>) -> Option<Operation> {
    let body = encode_tombstone(tombstone);
    match there {
        None => Some(Operation::Insert(body)),
        Some(tomb) if tomb.version.as_ref().is_some_and(|version| *version >= tombstone.version) => None,
        Some(tomb) => Some(Operation::Replace(body, Condition::Matches(tomb.etag.clone()))),
    }
}
