//! One row of a batch on its way to a destination.

use tokio::time::Instant;

use super::journal::Lost;
use super::tombstones::Tomb;
use crate::apply::{AfterFailure, after_failure};
use crate::batch::Parcel;
use crate::model::{Etag, Row, RowId, Version};
use crate::planted::{Bug, planted};
use crate::resolve::{Content, Finding, Verdict};
use crate::stores::{Condition, Operation, StoreError, TransactionError};
use crate::telemetry::metrics::ApplyOutcome;
use crate::topology::CopyRule;

/// What became of a parcel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The destination has it, or something newer that finds its own way.
    Done(ApplyOutcome),
    /// The look is too old, or others keep writing the row: look again.
    LookAgain,
    /// Another region has yet to do its part: look again, but not at once.
    LookLater,
    /// The destination failed; the parcel is tried again.
    Failed(StoreError),
    /// The destination refuses this very row.
    Refused(StoreError),
}

/// What is known of the row at the destination.
#[derive(Debug, Clone)]
pub(super) enum Known {
    Nothing,
    Absent,
    Row(Etag, Version),
}

impl Known {
    pub fn version(&self) -> Option<&Version> {
        match self {
            Self::Row(_, version) => Some(version),
            Self::Nothing | Self::Absent => None,
        }
    }
}

#[derive(Debug)]
pub(super) struct Item {
    pub parcel: Parcel,
    /// What was found, where less than that goes to the destination.
    found: Option<Finding>,
    /// When the older of what its delivery rests on began: the look, and the reading of the destination's roles.
    pub began: Instant,
    pub known: Known,
    /// The row as it was read at the destination in this round, where it was.
    pub there: Option<Row>,
    pub tomb: Option<Tomb>,
    pub verdict: Option<Verdict>,
    /// It was written in this round.
    pub written: bool,
    /// Somebody else was faster in this round.
    pub overtaken: bool,
    /// The destination has no such table.
    pub no_table: bool,
    /// Something that it was sent with was refused: it is sent alone.
    pub alone: bool,
    pub outcome: Option<Outcome>,
}

impl Item {
    /// `heard` is when the reading of the destination's roles began.
    pub fn new(parcel: Parcel, heard: Instant) -> Self {
        let outcome = (!parcel.finding.is_deliverable()).then_some(Outcome::LookAgain);
        Self {
            began: parcel.began.min(heard),
            parcel,
            found: None,
            known: Known::Nothing,
            there: None,
            tomb: None,
            verdict: None,
            written: false,
            overtaken: false,
            no_table: false,
            alone: false,
            outcome,
        }
    }

    /// Makes of it what goes to a copy, if anything does.
    pub fn narrow(&mut self, rule: &CopyRule) {
        let RowId { table, partition, .. } = &self.parcel.id;
        self.outcome = match &self.parcel.finding {
            _ if !self.is_open() => return,
            _ if !rule.takes(table, partition) => Some(Outcome::Done(ApplyOutcome::Filtered)),
            Finding::Deleted(_) if rule.keeps_deleted(table) => Some(Outcome::Done(ApplyOutcome::Kept)),
            Finding::Row { version, body } => {
                let finding = Finding::Row { version: version.clone(), body: rule.project(table, body) };
                self.found = Some(std::mem::replace(&mut self.parcel.finding, finding));
                None
            }
            _ => None,
        };
    }

    /// Whether a row of the version that is brought stands there and says something else: another filter has brought it.
    pub fn says_otherwise(&self) -> bool {
        let (Finding::Row { body, .. }, Some(there)) = (&self.parcel.finding, &self.there) else { return false };
        body.json() != there.body.json() && Content::of(body) != Content::of(&there.body)
    }

    /// What a failed request means for this row.
    pub fn fail(&mut self, failure: &TransactionError, position: usize, rows: usize) {
        match after_failure(failure, position, rows) {
            AfterFailure::StartOver => self.overtaken = true,
            AfterFailure::Alone => (self.overtaken, self.alone) = (true, true),
            AfterFailure::CreateTable => (self.overtaken, self.no_table) = (true, true),
            AfterFailure::Refused => self.outcome = Some(Outcome::Refused(failure.error.clone())),
            AfterFailure::Later => self.outcome = Some(Outcome::Failed(failure.error.clone())),
        }
    }

    /// Whether it still has to be settled.
    pub fn is_open(&self) -> bool {
        self.outcome.is_none()
    }

    /// Whether the tombstone must be known before the verdict: for every delete, and for a put where the row is absent.
    pub fn needs_tombstone(&self) -> bool {
        matches!(self.parcel.finding, Finding::Deleted(_)) || matches!(self.known, Known::Absent)
    }

    /// The conditional write that the verdict asks for.
    pub fn operation(&self) -> Option<Operation> {
        let id = &self.parcel.id;
        match (self.verdict?, &self.parcel.finding, &self.known) {
            (Verdict::Insert, Finding::Row { body, .. }, _) if planted(Bug::InsertBlindly) => {
                Some(Operation::InsertOrReplace(body.clone()))
            }
            (Verdict::Replace, Finding::Row { body, .. }, _) if planted(Bug::ReplaceBlindly) => {
                Some(Operation::Replace(body.clone(), Condition::Present))
            }
            (Verdict::Delete { remove: true, .. }, _, _) if planted(Bug::RemoveBlindly) => {
                let condition = Condition::Present;
                Some(Operation::Delete { partition: id.partition.clone(), row: id.row.clone(), condition })
            }
            (Verdict::Insert, Finding::Row { body, .. }, _) => Some(Operation::Insert(body.clone())),
            (Verdict::Replace, Finding::Row { body, .. }, Known::Row(etag, _)) => {
                Some(Operation::Replace(body.clone(), Condition::Matches(etag.clone())))
            }
            (Verdict::Delete { remove: true, .. }, _, Known::Row(etag, _)) => {
                let condition = Condition::Matches(etag.clone());
                Some(Operation::Delete { partition: id.partition.clone(), row: id.row.clone(), condition })
            }
            _ => None,
        }
    }

    /// Whether a row of this version stands at the destination now, so that its tombstone is to be looked at.
    pub fn stands_there(&self) -> bool {
        match self.verdict {
            Some(Verdict::Insert) => !planted(Bug::NoLookAfterInsert),
            Some(Verdict::Replace) => !planted(Bug::NoLookAfterReplace),
            Some(Verdict::Equal) => !planted(Bug::NoLookAfterEqual),
            _ => false,
        }
    }

    /// The delete at the destination that is above this row. The row may have been written there all the same, over what stood
    /// there, and taken out again by whoever wrote it: then what stood there is gone too, and the cache still holds it.
    pub fn overruling_delete(&self) -> Option<&Version> {
        let Finding::Row { version, .. } = &self.parcel.finding else { return None };
        self.tomb.as_ref()?.version.as_ref().filter(|deleted| *deleted > version)
    }

    /// Whether its delivery has changed what the destination holds.
    pub fn has_changed_it(&self) -> bool {
        let changes = matches!(
            self.verdict,
            Some(
                Verdict::Insert
                    | Verdict::Replace
                    | Verdict::Delete { raise: true, .. }
                    | Verdict::Delete { remove: true, .. }
            )
        );
        changes
            && matches!(
                self.outcome,
                Some(Outcome::Done(ApplyOutcome::Inserted | ApplyOutcome::Replaced | ApplyOutcome::Deleted))
            )
    }

    /// What the verdict's write takes away at the destination.
    pub fn lost(&self) -> Option<Lost> {
        match (self.verdict?, &self.known) {
            (Verdict::Replace | Verdict::Delete { remove: true, .. }, Known::Row(_, version)) => {
                Some(Lost { version: version.clone(), row: self.there.clone(), deleted: None })
            }
            (Verdict::Insert, _) => self.tomb.as_ref().and_then(Lost::delete),
            _ => None,
        }
    }

    /// Settles it by its verdict.
    pub fn done(&mut self) {
        self.outcome = match self.verdict {
            Some(Verdict::Insert) => Some(Outcome::Done(ApplyOutcome::Inserted)),
            Some(Verdict::Replace) => Some(Outcome::Done(ApplyOutcome::Replaced)),
            Some(Verdict::Equal) => Some(Outcome::Done(ApplyOutcome::Equal)),
            Some(Verdict::Delete { .. }) => Some(Outcome::Done(ApplyOutcome::Deleted)),
            // Newer and Lift are settled one by one.
            Some(Verdict::Newer | Verdict::Lift) | None => None,
        };
    }

    /// Makes it ready for another round.
    pub fn restart(&mut self) {
        self.known = Known::Nothing;
        self.there = None;
        self.tomb = None;
        self.verdict = None;
        self.written = false;
        self.overtaken = false;
    }

    /// What became of it; what is still open after the last round waits for another look.
    pub fn finish(mut self) -> (Parcel, Outcome) {
        if let Some(found) = self.found {
            self.parcel.finding = found;
        }
        (self.parcel, self.outcome.unwrap_or(Outcome::LookAgain))
    }
}
