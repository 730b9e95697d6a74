//! What a comparison with a copy goes by: the copy's filter, and that nothing is taken over from there.

use super::Verify;
use super::judge::Judged;
use super::rows::Key;
use crate::model::{Row, RowId, TableName};
use crate::replicator::CopySetup;
use crate::resolve::{Mend, Sight, mend, mend_copy};

/// What there is to compare of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Narrowed {
    /// The rows, as they are now.
    Compared,
    /// Nothing: the row was deleted in the region, and the copy keeps such rows.
    Kept,
    /// Nothing: the filter leaves the row out, and it is not there.
    LeftOut,
}

impl Verify {
    /// The copy that is compared with a region, where it is one.
    pub(super) fn copy(&self) -> Option<&CopySetup> {
        self.copies.iter().find(|copy| *copy.store.region() == self.to)
    }

    /// Makes of the rows of a key what is compared. What the filter leaves out should not be there: a region does not have it.
    pub(super) fn narrow(&self, table: &TableName, (partition, _): &Key, found: &mut [Option<Row>]) -> Narrowed {
        let (Some(CopySetup { rule, .. }), [here, there]) = (self.copy(), found) else { return Narrowed::Compared };
        if !rule.takes(table, partition) {
            *here = None;
            return if there.is_none() { Narrowed::LeftOut } else { Narrowed::Compared };
        }
        match here {
            None if rule.keeps_deleted(table) => return Narrowed::Kept,
            Some(here) if self.content => here.body = rule.project(table, &here.body),
            _ => {}
        }
        Narrowed::Compared
    }

    /// The same of what a look at a row has seen.
    pub(super) fn narrow_sights(&self, id: &RowId, [mut here, mut there]: [Sight; 2]) -> [Sight; 2] {
        let Some(CopySetup { rule, .. }) = self.copy() else { return [here, there] };
        if !rule.takes(&id.table, &id.partition) {
            here = Sight::default();
        } else if here.standing.row.is_none() && rule.keeps_deleted(&id.table) {
            (here, there) = (Sight::default(), Sight::default());
        }
        [here, there]
    }

    /// What mends a row that differs.
    pub(super) fn mends(&self, Judged { kind, sights: [here, there], .. }: &Judged) -> Mend {
        match self.copy() {
            Some(_) => mend_copy(*kind, &self.from, &there.standing),
            None => mend(*kind, (&self.from, &here.standing), (&self.to, &there.standing)),
        }
    }
}
