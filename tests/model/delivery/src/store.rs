//! What stands in one region: the row, its tombstone, and the feed.

use std::fmt;

use crate::version::Version;

/// The row: its version, and the write that its content comes from. A lift changes the one and not the other.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Row {
    pub version: Version,
    /// The number of the write; 0 where the row is absent.
    pub content: u8,
}

impl Row {
    pub const ABSENT: Row = Row { version: Version::NONE, content: 0 };

    pub fn is_present(self) -> bool {
        self.version.is_some()
    }
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_present() { write!(f, "{:?}=#{}", self.version, self.content) } else { f.write_str("-") }
    }
}

/// An announcement. A star behind it says that its settle window has not passed.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Record {
    pub version: Version,
    pub delete: bool,
    /// Requests under way when it was inserted, a bit each. Its settle window has not passed before all of them are over.
    pub waits: u16,
    /// Daemons that have read it, a bit each; kept only where [`feed_after_look`](crate::Rules::feed_after_look) is off.
    pub known: u8,
    /// Daemons whose look under way ends it once its finding is delivered, a bit each.
    pub ends: u8,
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:?}", if self.delete { "delete " } else { "put " }, self.version)?;
        if self.waits != 0 { f.write_str("*") } else { Ok(()) }
    }
}

/// Most records of one row that are open at a time.
const CAPACITY: usize = 8;

/// The open records, highest version first.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Feed {
    slots: [Record; CAPACITY],
    len: u8,
}

impl Feed {
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn records(&self) -> &[Record] {
        &self.slots[..usize::from(self.len)]
    }

    pub fn records_mut(&mut self) -> &mut [Record] {
        &mut self.slots[..usize::from(self.len)]
    }

    /// Inserts a record; one of the same version and kind that stands already will do.
    pub fn insert(&mut self, record: Record) {
        let key = |record: &Record| (record.version, record.delete);
        let above = self.records().iter().take_while(|open| key(open) > key(&record)).count();
        if self.records().get(above).is_some_and(|open| key(open) == key(&record)) {
            return;
        }
        assert!(usize::from(self.len) < CAPACITY, "more records than the model has room for");
        self.slots.copy_within(above..usize::from(self.len), above + 1);
        self.slots[above] = record;
        self.len += 1;
    }

    /// Deletes the records that the look of the daemon with this bit ends.
    pub fn end(&mut self, daemon: u8) {
        let mut kept = Feed::default();
        for record in self.records().iter().filter(|record| record.ends & daemon == 0) {
            kept.slots[usize::from(kept.len)] = *record;
            kept.len += 1;
        }
        *self = kept;
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.records()).finish()
    }
}

/// A region's store, as far as it concerns one row.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Store {
    pub row: Row,
    pub tombstone: Version,
    pub feed: Feed,
}
