//! Demoting a row to its cold place once it is old, and promoting it again when somebody needs it at home.
//!
//! The home of a row has its records, its tombstone and whatever was written last; its cold place has what the home gave away. So what
//! stands at home counts, and a row that stands in the cold place alone counts unless the tombstone at home is at or above it.
//!
//! Why nothing is lost, by however many programs at once, each of which may die anywhere:
//!
//! - *Demoting* writes the cold place first and deletes at home last, on the ETag of what it has copied. What was written at home
//!   meanwhile stays. Only a row that nobody has written for a settle window goes, so that no look is under way which has seen less of it:
//!   whoever looks sends nothing later than half a window (R9).
//! - *Promoting* inserts at home where nothing is, looks at the tombstone after that as by R4, and deletes in the cold place last,
//!   on the ETag of what it has copied.
//! - A copy that a writer has written over at home is *stale*: it goes on its ETag, after it was read before its home was. Where it is the
//!   same as the row at home it stays, since that may be just about to be demoted; and where it is announced there, it is no copy.
//! - Who dies between an insert at home and the look at the tombstone leaves a row in both places. Where it came there after a tombstone
//!   above it had been raised, it was deleted in between, and goes. Where it stood there before, the delete was refused or is yet to come, and
//!   it stays.
//! - *Writing* is done at home, to a row that is kept there meanwhile: one that is old and stands there is *touched* first, so that
//!   whoever has just copied it cannot delete it, and nobody copies it for a settle window.
//! - A delete may raise its tombstone while the row is on its way, and be refused or find nothing. Nobody can tell which from what is left: a
//!   row that lies in its cold place below a tombstone, which is deleted. So it is announced, and is deleted everywhere.

use tokio::time::Instant;

use super::announced::{Announced, Wanted};
use super::over::{Tomb, check, deleted, row, tombstone, write};
use super::relay::relay;
use crate::model::{Change, Etag, Row, RowBody, RowId, Version};
use crate::planted::{Bug, planted};
use crate::stores::{Condition, ErrorKind, Operation, Remedy, StoreError, Tables, Tiering};

/// How often a row that others keep writing is tried.
const ATTEMPTS: usize = 8;

/// What became of a row that was to be promoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promoted {
    /// Its cold place has nothing.
    Nothing,
    /// Its home had it.
    AtHome,
    /// It stands at home now.
    Promoted,
    /// It was deleted, and is in its cold place no more either.
    Deleted,
}

/// What became of a row that was to be demoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demoted {
    /// It stands in its cold place, and no more at home.
    Demoted,
    /// It stays, as long as it is not old, or its delete was refused.
    Stays,
}

impl Tiering {
    /// Has a row stand at home that its cold place alone may have.
    ///
    /// # Errors
    /// Whatever a store answers; [`ErrorKind::Precondition`] where others go on writing it.
    pub async fn promote(&self, id: &RowId) -> Result<Promoted, StoreError> {
        for _ in 0..ATTEMPTS {
            let began = Instant::now();
            let Some(cold) = row(self.cold.as_ref(), id).await? else { return Ok(Promoted::Nothing) };
            match self.promote_row(id, &cold, began).await {
                Err(error) if error.remedy() == Remedy::StartOver => {}
                done => return done,
            }
        }
        Err(StoreError::new(ErrorKind::Precondition, format!("{id} is written over and over while it is promoted")))
    }

    async fn promote_row(&self, id: &RowId, cold: &Row, began: Instant) -> Result<Promoted, StoreError> {
        let (version, home) = (cold.version(self.cold.region()), self.home.as_ref());
        if let Some(at_home) = row(home, id).await? {
            return match self.take_out_buried(id, &at_home, &version, began).await? {
                true => Err(StoreError::new(ErrorKind::Precondition, "it was deleted meanwhile")),
                false => Ok(Promoted::AtHome),
            };
        }
        if deleted(home, id).await?.is_some_and(|deleted| deleted >= version) {
            self.delete(self.cold.as_ref(), id, cold.etag.clone(), began).await?;
            return Ok(Promoted::Deleted);
        }
        let insert = Operation::Insert(cold.body.stamped(&version));
        let etag = write(home, (&id.table, &insert), (began, self.fresh)).await?;
        if let Some(etag) = etag
            && let Some(tomb) = tombstone(home, id).await?
            && tomb.version.as_ref().is_some_and(|deleted| *deleted >= version)
            && let Some(came) = row(home, id).await?.filter(|came| came.etag == etag && came.timestamp > tomb.raised)
        {
            // Deleted since it was looked for: it goes again, and the next look finds it deleted.
            self.delete(home, id, came.etag, Instant::now()).await?;
            return Err(StoreError::new(ErrorKind::Precondition, "it was deleted meanwhile"));
        }
        match self.delete(self.cold.as_ref(), id, cold.etag.clone(), began).await {
            // The copy is stale from now on, and goes as such.
            Err(error) if error.remedy() == Remedy::StartOver => Ok(Promoted::Promoted),
            deleted => deleted.map(|()| Promoted::Promoted),
        }
    }

    /// Has a row stand in its cold place that is `due`, and whose home nobody has written for a settle window, as `due` has to see to.
    ///
    /// # Errors
    /// As [`promote`](Self::promote).
    pub async fn demote(&self, id: &RowId, due: impl Fn(&Row) -> bool) -> Result<Demoted, StoreError> {
        for _ in 0..ATTEMPTS {
            let began = Instant::now();
            let Some(at_home) = row(self.home.as_ref(), id).await?.filter(&due) else { return Ok(Demoted::Stays) };
            match self.demote_row(id, &at_home, began).await {
                Err(error) if error.remedy() == Remedy::StartOver => {}
                done => return done,
            }
        }
        // Whoever keeps it busy keeps it warm.
        Ok(Demoted::Stays)
    }

    async fn demote_row(&self, id: &RowId, at_home: &Row, began: Instant) -> Result<Demoted, StoreError> {
        let version = at_home.version(self.home.region());
        if deleted(self.home.as_ref(), id).await?.is_some_and(|deleted| deleted >= version) {
            return Ok(Demoted::Stays);
        }
        let (cold, body) = (self.cold.as_ref(), at_home.body.stamped(&version));
        // One that is the same but for its version's word for it is written anew: somebody has changed the row without a new version.
        let operation = match row(cold, id).await? {
            None => Some(Operation::Insert(body)),
            Some(copy) if copy.body == body => None,
            Some(copy) if self.is_written(id, &copy, &version).await? => return Ok(Demoted::Stays),
            Some(stale) => Some(Operation::Replace(body, Condition::Matches(stale.etag))),
        };
        if let Some(operation) = operation {
            write(cold, (&id.table, &operation), (began, self.fresh)).await?;
        }
        self.delete(self.home.as_ref(), id, at_home.etag.clone(), began).await?;
        if let Some(deleted) = deleted(self.home.as_ref(), id).await?.filter(|deleted| *deleted >= version) {
            self.announce(id, deleted).await?;
        }
        Ok(Demoted::Demoted)
    }

    /// Has the daemon look at what became of a row whose delete met it on its way, and tell everybody.
    async fn announce(&self, id: &RowId, version: Version) -> Result<(), StoreError> {
        relay(self.home.as_ref(), &Change::of_row(id, &version, false), None).await.map(drop)
    }

    /// Has a row stay at home for as long as a write may take that begins now: it is promoted where it is cold, and touched where it stands
    /// at home and may be demoted meanwhile, as `may_go` has to see to. Returns the ETags of a row that was touched, before and after.
    ///
    /// # Errors
    /// As [`promote`](Self::promote).
    pub async fn keep(&self, id: &RowId, may_go: impl Fn(&Row) -> bool) -> Result<Option<(Etag, Etag)>, StoreError> {
        for _ in 0..ATTEMPTS {
            let began = Instant::now();
            let Some(at_home) = row(self.home.as_ref(), id).await? else {
                match self.promote(id).await? {
                    Promoted::AtHome => continue,
                    _ => return Ok(None),
                }
            };
            if !may_go(&at_home) || planted(Bug::OldRowNotTouched) {
                return Ok(None);
            }
            match self.touch(id, &at_home, began).await {
                Ok(touched) => return Ok(touched.map(|etag| (at_home.etag, etag))),
                // What cannot be stamped cannot be demoted either.
                Err(error) if error.remedy() == Remedy::GiveUp => return Ok(None),
                Err(error) if error.remedy() == Remedy::StartOver => {}
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::new(ErrorKind::Precondition, format!("{id} is written over and over while it is touched")))
    }

    /// Gives a row another ETag and leaves it as it is. `None` for one below a tombstone, which is not demoted: touched, it would
    /// look as if it had been put over the tombstone.
    async fn touch(&self, id: &RowId, at_home: &Row, began: Instant) -> Result<Option<Etag>, StoreError> {
        let (version, home) = (at_home.version(self.home.region()), self.home.as_ref());
        if deleted(home, id).await?.is_some_and(|deleted| deleted >= version) {
            return Ok(None);
        }
        let keys = RowBody::builder(&id.partition, &id.row).finish();
        let touch = Operation::Merge(keys.stamped(&version), Condition::Matches(at_home.etag.clone()));
        write(home, (&id.table, &touch), (began, self.fresh)).await
    }

    /// Deletes at home what was promoted from this version after a tombstone above it had been raised; says whether it was so.
    async fn take_out_buried(
        &self,
        id: &RowId,
        at_home: &Row,
        version: &Version,
        began: Instant,
    ) -> Result<bool, StoreError> {
        let home = self.home.as_ref();
        if at_home.version(home.region()) != *version {
            return Ok(false);
        }
        let tomb = tombstone(home, id).await?;
        let is_below = |tomb: Tomb| tomb.version.is_some_and(|at| at > *version) && at_home.timestamp > tomb.raised;
        if !tomb.is_some_and(is_below) {
            return Ok(false);
        }
        self.delete(home, id, at_home.etag.clone(), began).await?;
        Ok(true)
    }

    /// Whether what stands in the cold place above the row at home is no copy: a writer that went by routes which had its home there has
    /// announced it there, and it is yet to be brought home.
    async fn is_written(&self, id: &RowId, there: &Row, at_home: &Version) -> Result<bool, StoreError> {
        if there.version(self.cold.region()) < *at_home || planted(Bug::WrittenTakenForStale) {
            return Ok(false);
        }
        let wanted = Wanted { id, version: there.body.version(), delete: false };
        Ok(wanted.announced(self.cold.as_ref(), &self.region).await? != Announced::Nowhere)
    }

    /// Deletes a stale copy in the cold place, if it is one; says whether it was.
    ///
    /// # Errors
    /// As [`promote`](Self::promote).
    pub async fn drop_stale(&self, id: &RowId) -> Result<bool, StoreError> {
        let began = Instant::now();
        // The copy first: what was demoted since the look at its home has another ETag.
        let Some(copy) = row(self.cold.as_ref(), id).await? else { return Ok(false) };
        let version: Version = copy.version(self.cold.region());
        let stale = match row(self.home.as_ref(), id).await? {
            Some(_) if planted(Bug::StaleCopyTakenBlindly) => true,
            Some(at_home) if at_home.version(self.home.region()) != version => {
                !self.is_written(id, &copy, &at_home.version(self.home.region())).await?
            }
            Some(at_home) => match self.take_out_buried(id, &at_home, &version, began).await {
                Err(error) if error.remedy() == Remedy::StartOver => return Ok(false),
                buried => buried?,
            },
            None => deleted(self.home.as_ref(), id).await?.is_some_and(|deleted| deleted >= version),
        };
        if !stale {
            return Ok(false);
        }
        match self.delete(self.cold.as_ref(), id, copy.etag, began).await {
            Err(error) if error.remedy() == Remedy::StartOver => Ok(false),
            deleted => deleted.map(|()| true),
        }
    }

    async fn delete(&self, tables: &dyn Tables, id: &RowId, etag: Etag, began: Instant) -> Result<(), StoreError> {
        check((began, self.fresh))?;
        let (partition, row) = (id.partition.clone(), id.row.clone());
        let condition = match planted(Bug::DemotedBlindly) {
            true => Condition::Present,
            false => Condition::Matches(etag),
        };
        tables.write(&id.table, &Operation::Delete { partition, row, condition }).await.map(drop)
    }
}
