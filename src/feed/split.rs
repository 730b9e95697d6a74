//! The limits of a record, and how a change that exceeds them becomes several.

use std::collections::BTreeSet;

use super::{Malformed, Reason};
use crate::model::{Change, KeyError, PartitionKey, RowKey, TableName, Version};

/// Most rows in one record.
pub const MAX_ROWS: usize = 100;
/// Most deletes in one record: its tombstones and itself share a transaction of 100.
pub const MAX_DELETES: usize = 99;
/// Most UTF-16 units of `Puts`, and of `Deletes`, as JSON: Azure allows a string property 32K.
pub const MAX_LIST_UNITS: usize = 30_000;

/// A change that cannot be announced.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// It names no row.
    #[error("a change should name at least one row")]
    NoRows,
    /// It names a row as put and as deleted.
    #[error("row {0:?} should be either put or deleted: a transaction takes each row once")]
    Contradiction(RowKey),
    /// The table is one of ours.
    #[error("table {0} is not replicated: the prefix Relay is reserved")]
    Reserved(TableName),
    /// A key that Azure forbids.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl From<EncodeError> for Malformed {
    fn from(err: EncodeError) -> Self {
        let reason = match err {
            EncodeError::NoRows => Reason::NoRows,
            EncodeError::Contradiction(_) => Reason::Contradiction,
            EncodeError::Reserved(_) => Reason::BadTable,
            EncodeError::Key(_) => Reason::BadKey,
        };
        Self::new(reason, err.to_string())
    }
}

/// Checks what no change may be, however many records it fills.
pub(super) fn check(change: &Change) -> Result<(), EncodeError> {
    if change.is_empty() {
        return Err(EncodeError::NoRows);
    }
    if change.table.is_system() {
        return Err(EncodeError::Reserved(change.table.clone()));
    }
    change.partition.check()?;
    for row in change.puts.iter().chain(&change.deletes) {
        row.check()?;
    }
    if !change.puts.is_empty() && !change.deletes.is_empty() {
        let puts: BTreeSet<_> = change.puts.iter().collect();
        if let Some(both) = change.deletes.iter().find(|row| puts.contains(row)) {
            return Err(EncodeError::Contradiction(both.clone()));
        }
    }
    Ok(())
}

/// Cuts a change into as many as fit in a record each, puts first, in their order. All carry its version.
///
/// Each row appears once; one that a list names twice is taken the first time.
///
/// # Errors
/// [`EncodeError`] where no record can announce it.
pub fn split(change: &Change) -> Result<Vec<Change>, EncodeError> {
    check(change)?;
    let mut parts = vec![Part::default()];
    let mut seen = BTreeSet::new();
    for (row, deleted) in rows(change) {
        if !seen.insert(row) {
            continue;
        }
        let units = quoted(row.as_str()).encode_utf16().count() + 1;
        let last = parts.len() - 1;
        if parts[last].fits(units, deleted) {
            parts[last].push(row, units, deleted);
        } else {
            let mut part = Part::default();
            part.push(row, units, deleted);
            parts.push(part);
        }
    }
    let change_of = |part: Part| Change { puts: part.puts.rows, deletes: part.deletes.rows, ..empty(change) };
    Ok(parts.into_iter().map(change_of).collect())
}

fn rows(change: &Change) -> impl Iterator<Item = (&RowKey, bool)> {
    change.puts.iter().map(|row| (row, false)).chain(change.deletes.iter().map(|row| (row, true)))
}

fn empty(change: &Change) -> Change {
    let (table, partition): (TableName, PartitionKey) = (change.table.clone(), change.partition.clone());
    let (version, base): (Version, Option<Version>) = (change.version.clone(), change.base.clone());
    Change { table, partition, puts: Vec::new(), deletes: Vec::new(), version, base }
}

/// A text as a JSON string.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Row keys as a JSON array.
pub(super) fn list(rows: &[RowKey]) -> String {
    let items: Vec<String> = rows.iter().map(|row| quoted(row.as_str())).collect();
    format!("[{}]", items.join(","))
}

/// One record's rows while it is filled.
#[derive(Default)]
struct Part {
    puts: List,
    deletes: List,
}

#[derive(Default)]
struct List {
    rows: Vec<RowKey>,
    /// Units of its JSON, with a comma behind each item; the one too many stands for a bracket.
    units: usize,
}

impl Part {
    fn fits(&self, units: usize, deleted: bool) -> bool {
        let list = if deleted { &self.deletes } else { &self.puts };
        self.puts.rows.len() + self.deletes.rows.len() < MAX_ROWS
            && (!deleted || self.deletes.rows.len() < MAX_DELETES)
            && list.units + units < MAX_LIST_UNITS
    }

    fn push(&mut self, row: &RowKey, units: usize, deleted: bool) {
        let list = if deleted { &mut self.deletes } else { &mut self.puts };
        list.rows.push(row.clone());
        list.units += units;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::samples;
    use proptest::prelude::*;

    fn change(puts: Vec<String>, deletes: Vec<String>) -> Change {
        Change {
            table: TableName::new("orders").unwrap(),
            partition: "p".into(),
            puts: puts.into_iter().map(RowKey::new).collect(),
            deletes: deletes.into_iter().map(RowKey::new).collect(),
            version: Version::parse("2026-11-22T12:18:00.1234567Z@west.7f3a9c1b").unwrap(),
            base: None,
        }
    }

    fn numbered(prefix: &str, count: usize) -> Vec<String> {
        (0..count).map(|n| format!("{prefix}{n}")).collect()
    }

    fn sizes(puts: usize, deletes: usize) -> Vec<(usize, usize)> {
        let parts = split(&change(numbered("p", puts), numbered("d", deletes))).unwrap();
        parts.iter().map(|part| (part.puts.len(), part.deletes.len())).collect()
    }

    #[test]
    fn a_record_takes_100_rows_and_99_deletes() {
        assert_eq!(sizes(100, 0), [(100, 0)]);
        assert_eq!(sizes(101, 0), [(100, 0), (1, 0)]);
        assert_eq!(sizes(0, 99), [(0, 99)]);
        assert_eq!(sizes(0, 100), [(0, 99), (0, 1)]);
        assert_eq!(sizes(1, 99), [(1, 99)]);
        assert_eq!(sizes(50, 99), [(50, 50), (0, 49)]);
    }

    #[test]
    fn a_list_takes_30_000_units_to_the_unit() {
        // 29 keys of 1,024 units, two quotes each, brackets and commas: 29 × 1,027 + 1 = 29,784.
        let mut keys: Vec<String> = (0..29).map(|n| format!("{n:é>1024}")).collect();
        keys.push("k".repeat(30_000 - 29_784 - 3));
        let parts = split(&change(keys.clone(), vec![])).unwrap();
        assert_eq!(parts.len(), 1);
        assert_eq!(list(&parts[0].puts).encode_utf16().count(), 30_000);
        keys[29].push('k');
        assert_eq!(split(&change(keys, vec![])).unwrap().len(), 2);
    }

    #[test]
    fn what_no_record_can_announce_is_refused_by_name() {
        let of = |puts: &[&str], deletes: &[&str]| {
            let texts = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect();
            split(&change(texts(puts), texts(deletes)))
        };
        assert_eq!(of(&[], &[]), Err(EncodeError::NoRows));
        assert_eq!(of(&["a", "b"], &["b"]), Err(EncodeError::Contradiction("b".into())));
        assert!(matches!(of(&["a/b"], &[]), Err(EncodeError::Key(_))));
        let reserved = Change { table: TableName::new("relayfeed").unwrap(), ..change(numbered("a", 1), vec![]) };
        assert!(matches!(split(&reserved), Err(EncodeError::Reserved(_))));
        assert_eq!(of(&["a", "a"], &[]).unwrap()[0].puts.len(), 1, "a key named twice is taken once");
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_every_part_keeps_the_limits(change in samples::change(300)) {
            let parts = split(&change).unwrap();
            let mut rows: Vec<_> = parts.iter().flat_map(Change::rows).collect();
            rows.sort();
            let mut expected: Vec<_> = change.rows().collect();
            expected.sort();
            prop_assert_eq!(rows, expected);
            for part in &parts {
                prop_assert!(part.len() <= MAX_ROWS && part.deletes.len() <= MAX_DELETES && !part.is_empty());
                prop_assert!(list(&part.puts).encode_utf16().count() <= MAX_LIST_UNITS);
                prop_assert!(list(&part.deletes).encode_utf16().count() <= MAX_LIST_UNITS);
            }
        }
    }
}
