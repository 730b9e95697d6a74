//! What a verification found.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::closed_list;
use crate::model::{Region, RowId, TableName, Time};
use crate::resolve::{Difference, Mend, Sight};

closed_list! {
    /// What a row that differs is known to wait for: no difference, as long as that stands.
    pub enum Waits {
        Announced = "announced",
            "its announcement is open in the feed of a region",
            "none while daemons run: it is brought, or ends by itself if it was never written";
        Hinted = "hinted",
            "a hint of it waits in the backlog for one of the two regions",
            "none while daemons run: it is brought once the region takes changes again";
        Quarantined = "quarantined",
            "the version that stands on one side lies in quarantine",
            "`tablerelay quarantine list` says why, and what to do";
    }
}

closed_list! {
    /// What became of a difference.
    pub enum Fate {
        Found = "found", "nothing was to be done about it", "`tablerelay verify --repair`";
        Planned = "planned", "a dry run: it is as it was", "`tablerelay verify --repair` without `--dry-run`";
        Mended = "mended", "both regions are equal now", "none";
        Left = "left",
            "it could not be mended, or it was written again meanwhile",
            "run it again; where it stays, the reason that is named with it tells why";
    }
}

/// What a region has of a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Has {
    /// The version of the row, or of the tombstone in its place; none where there is neither.
    pub version: Option<String>,
    /// Whether there is no row.
    pub absent: bool,
    /// Sixteen hex digits that two rows have in common if they say the same; where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
}

impl From<&Sight> for Has {
    fn from(sight: &Sight) -> Self {
        Self {
            version: sight.newest().map(|version| version.as_str().to_owned()),
            absent: sight.standing.row.is_none(),
            content: sight.content.map(|content| content.short()),
        }
    }
}

/// A row that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Differs {
    /// Its table.
    pub table: String,
    /// Its partition.
    pub partition: String,
    /// Its key.
    pub row: String,
    /// How, as seen from the first region.
    pub kind: Difference,
    /// What the first region has.
    pub from: Has,
    /// And the other one.
    pub to: Has,
    /// What it waits for, where that is known: then it counts as no difference.
    pub waits: Option<Waits>,
    /// What mends it.
    pub mend: Mend,
    /// What became of it.
    pub fate: Fate,
    /// Why it could not be mended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl Differs {
    /// Whether it is this row.
    pub fn is_of(&self, id: &RowId) -> bool {
        self.table == id.table.as_str() && self.partition == id.partition.as_str() && self.row == id.row.as_str()
    }
}

/// What was verified of one table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct VerifiedTable {
    /// Which.
    pub table: String,
    /// Distinct rows of both regions.
    pub rows: u64,
    /// Those that differ, by kind.
    pub differences: BTreeMap<Difference, u64>,
    /// Those that differ and are known to wait for something, by what that is.
    pub waiting: BTreeMap<Waits, u64>,
    /// Rows that were deleted in the region and that the copy keeps: no difference, and not among the rows.
    pub kept: u64,
    /// How many of the differences are mended.
    pub mended: u64,
    /// Rows that lie in an account of their region that the routes do not lead to, by region: nobody reads them.
    pub misplaced: BTreeMap<Region, u64>,
}

impl VerifiedTable {
    /// How many rows differ and wait for nothing.
    pub fn different(&self) -> u64 {
        self.differences.values().sum()
    }

    /// How many rows differ and are known to wait for something.
    pub fn waits(&self) -> u64 {
        self.waiting.values().sum()
    }
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verified {
    /// The version of this form.
    pub schema: u32,
    /// The region that it starts from.
    pub from: Region,
    /// The other one.
    pub to: Region,
    /// Whether more than versions was compared.
    pub content: bool,
    /// Whether it was a dry run of a repair.
    pub dry_run: bool,
    /// When the pass began, by the storage clock of `from`.
    pub began: Time,
    /// Whether it went on where another one had ended.
    pub resumed: bool,
    /// By table.
    pub tables: Vec<VerifiedTable>,
    /// The rows that differ, as many as are named.
    pub named: Vec<Differs>,
    /// How many more there are that this run has found.
    pub left_out: u64,
    /// Other regions that did not answer: what waits there for one of the two may count as a difference.
    pub unasked: Vec<Region>,
    /// How long it took.
    pub seconds: f64,
}

impl Verified {
    /// How many distinct rows were compared.
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|table| table.rows).sum()
    }

    /// How many rows differ and wait for nothing.
    pub fn different(&self) -> u64 {
        self.tables.iter().map(VerifiedTable::different).sum()
    }

    /// How many rows differ and are known to wait for something.
    pub fn waits(&self) -> u64 {
        self.tables.iter().map(VerifiedTable::waits).sum()
    }

    /// How many differences are mended.
    pub fn mended(&self) -> u64 {
        self.tables.iter().map(|table| table.mended).sum()
    }

    /// Whether nothing differs any more, what waits apart.
    pub fn is_equal(&self) -> bool {
        self.different() == self.mended()
    }
}

impl VerifiedTable {
    /// Of a table of which nothing is compared yet.
    pub fn new(table: &TableName) -> Self {
        Self { table: table.as_str().to_owned(), ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_closed() {
        crate::model::assert_well_formed::<Waits>();
        crate::model::assert_well_formed::<Fate>();
    }
}
