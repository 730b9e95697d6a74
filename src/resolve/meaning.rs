//! R2 and R3: what a look says about an announcement.

use super::Finding;
use crate::model::Version;

/// What a look at a row says about one announcement of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Meaning {
    /// Exactly the announced version stands.
    Written,
    /// Something newer stands; that is delivered.
    Superseded,
    /// The announced write has not happened yet, or never will.
    NotYet,
}

/// What `found` means for an announcement of version `announced`, which was a delete or a put.
pub fn meaning(announced: &Version, delete: bool, found: &Finding) -> Meaning {
    use std::cmp::Ordering::{Equal, Greater, Less};
    match found {
        // What waits in quarantine is delivered to nobody, so it supersedes nothing: another write may still land on it.
        Finding::Future(version) if version != announced => Meaning::NotYet,
        Finding::Row { version, .. } | Finding::Future(version) => match version.cmp(announced) {
            // A put and a delete of one row cannot share a version, so a row at the version of a delete is one that
            // the delete has yet to remove.
            Equal if delete => Meaning::NotYet,
            Equal => Meaning::Written,
            Greater => Meaning::Superseded,
            Less => Meaning::NotYet,
        },
        Finding::Deleted(version) => match version.cmp(announced) {
            Greater => Meaning::Superseded,
            Equal if delete => Meaning::Written,
            Equal => Meaning::Superseded,
            // Absent is all that a delete wants, whoever removed the row (R3).
            Less if delete => Meaning::Written,
            Less => Meaning::NotYet,
        },
        Finding::Nothing if delete => Meaning::Written,
        Finding::Nothing => Meaning::NotYet,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Region, RowBody, Time, WriterId};

    fn version(tick: i64) -> Version {
        Version::new(Time::from_ticks(tick), &Region::new("west").unwrap(), WriterId(1))
    }

    fn row(tick: i64) -> Finding {
        let body = RowBody::parse(r#"{"PartitionKey":"p","RowKey":"r"}"#).unwrap();
        Finding::Row { version: version(tick), body }
    }

    #[test]
    fn what_waits_in_quarantine_supersedes_nothing() {
        for delete in [false, true] {
            assert_eq!(meaning(&version(5), delete, &Finding::Future(version(9))), Meaning::NotYet);
        }
        assert_eq!(meaning(&version(9), false, &Finding::Future(version(9))), Meaning::Written);
    }

    #[test]
    fn a_put_is_written_superseded_or_waited_for() {
        let put = |found| meaning(&version(5), false, &found);
        assert_eq!(put(row(5)), Meaning::Written);
        assert_eq!(put(row(6)), Meaning::Superseded);
        assert_eq!(put(row(4)), Meaning::NotYet);
        assert_eq!(put(Finding::Deleted(version(6))), Meaning::Superseded);
        assert_eq!(put(Finding::Deleted(version(5))), Meaning::Superseded);
        assert_eq!(put(Finding::Deleted(version(4))), Meaning::NotYet);
        assert_eq!(put(Finding::Nothing), Meaning::NotYet);
    }

    #[test]
    fn a_delete_has_happened_when_the_row_is_absent() {
        let delete = |found| meaning(&version(5), true, &found);
        assert_eq!(delete(Finding::Nothing), Meaning::Written);
        assert_eq!(delete(Finding::Deleted(version(5))), Meaning::Written);
        assert_eq!(delete(Finding::Deleted(version(4))), Meaning::Written);
        assert_eq!(delete(Finding::Deleted(version(6))), Meaning::Superseded);
        assert_eq!(delete(row(4)), Meaning::NotYet);
        assert_eq!(delete(row(5)), Meaning::NotYet);
        assert_eq!(delete(row(6)), Meaning::Superseded);
    }
}
