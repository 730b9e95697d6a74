//! What the writers have done so far.

use std::ops::AddAssign;

use serde::Serialize;

/// What writers have done. Only what was acknowledged counts as written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Rows inserted, one by one.
    pub inserts: u64,
    /// Merges into a row.
    pub merges: u64,
    /// Rows replaced.
    pub replaces: u64,
    /// Rows deleted.
    pub deletes: u64,
    /// Entity group transactions.
    pub transactions: u64,
    /// Rows that all of these wrote.
    pub rows: u64,
    /// Conditional writes that the store refused, since somebody else was faster.
    pub refused: u64,
    /// Writes that failed, or whose outcome is unknown.
    pub failed: u64,
    /// Crashes between announcing and writing.
    pub crashes: u64,
}

impl Counts {
    /// Acknowledged changes: single writes and transactions.
    pub fn changes(&self) -> u64 {
        self.inserts + self.merges + self.replaces + self.deletes + self.transactions
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.inserts += other.inserts;
        self.merges += other.merges;
        self.replaces += other.replaces;
        self.deletes += other.deletes;
        self.transactions += other.transactions;
        self.rows += other.rows;
        self.refused += other.refused;
        self.failed += other.failed;
        self.crashes += other.crashes;
    }
}
