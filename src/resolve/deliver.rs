//! R4, R5, R6 and R10: what a delivery must do at a destination.

use super::Standing;
use crate::model::{Region, Version};
use crate::planted::{Bug, planted};

/// What must happen at a destination, given what stands there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Insert the row if it is absent, then look at the tombstone.
    Insert,
    /// Replace the older row on its ETag, then look at the tombstone.
    Replace,
    /// The destination has exactly this: only look at the tombstone.
    Equal,
    /// Raise the tombstone where it is lower, then delete the row where it is present, on its ETag.
    Delete {
        /// The tombstone is missing or lower.
        raise: bool,
        /// An older row is present.
        remove: bool,
    },
    /// The destination is newer (R6): announce what stands there here, apply it here, journal both.
    Newer,
    /// The version is one that the destination's own region issued, above what stands there: its store has decided
    /// among its own versions already, so what stands is lifted above it (R10).
    Lift,
}

/// Delivering a row of version `version` to `destination`, where `there` stands (R4).
pub fn deliver_row(version: &Version, destination: &Region, there: &Standing) -> Verdict {
    let own = version.is_of(destination) && !planted(Bug::NoLift);
    match (&there.row, &there.tombstone) {
        (Some(row), _) if row > version && planted(Bug::OlderWins) => Verdict::Replace,
        (Some(row), _) if row > version => Verdict::Newer,
        (Some(row), _) if row == version => Verdict::Equal,
        (Some(_), _) if own => Verdict::Lift,
        (Some(_), _) => Verdict::Replace,
        (None, Some(tombstone)) if tombstone >= version => Verdict::Newer,
        (None, Some(_)) if own => Verdict::Lift,
        (None, _) => Verdict::Insert,
    }
}

/// Delivering a delete of version `version` to `destination`, where `there` stands (R5).
pub fn deliver_delete(version: &Version, destination: &Region, there: &Standing) -> Verdict {
    let own = version.is_of(destination) && !planted(Bug::NoLiftOfDeletes);
    let raise = there.tombstone.as_ref().is_none_or(|tombstone| tombstone < version);
    match (&there.row, &there.tombstone) {
        (Some(row), _) if row >= version => Verdict::Newer,
        (Some(_), _) if own => Verdict::Lift,
        (None, Some(tombstone)) if tombstone > version => Verdict::Newer,
        (None, Some(tombstone)) if own && tombstone < version => Verdict::Lift,
        (row, _) => Verdict::Delete { raise, remove: row.is_some() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Time, WriterId};
    use proptest::prelude::*;

    fn region(name: &str) -> Region {
        Region::new(name).unwrap()
    }

    fn of(name: &str, tick: i64) -> Version {
        Version::new(Time::from_ticks(tick), &region(name), WriterId(1))
    }

    fn there(row: Option<i64>, tombstone: Option<i64>) -> Standing {
        Standing { row: row.map(|t| of("east", t)), tombstone: tombstone.map(|t| of("east", t)) }
    }

    #[test]
    fn a_row_is_inserted_replaced_or_left() {
        let put = |there| deliver_row(&of("west", 5), &region("north"), &there);
        assert_eq!(put(there(None, None)), Verdict::Insert);
        assert_eq!(put(there(None, Some(4))), Verdict::Insert);
        assert_eq!(put(there(None, Some(6))), Verdict::Newer);
        assert_eq!(put(there(Some(4), None)), Verdict::Replace);
        assert_eq!(put(there(Some(6), None)), Verdict::Newer);
        // A tombstone beside a present row is a delete under way: the look after the write finds it.
        assert_eq!(put(there(Some(4), Some(6))), Verdict::Replace);
        let same = Standing { row: Some(of("west", 5)), tombstone: None };
        assert_eq!(put(same), Verdict::Equal);
    }

    #[test]
    fn a_delete_raises_the_tombstone_first() {
        let delete = |there| deliver_delete(&of("west", 5), &region("north"), &there);
        assert_eq!(delete(there(None, None)), Verdict::Delete { raise: true, remove: false });
        assert_eq!(delete(there(Some(4), None)), Verdict::Delete { raise: true, remove: true });
        assert_eq!(delete(there(Some(4), Some(6))), Verdict::Delete { raise: false, remove: true });
        assert_eq!(delete(there(None, Some(6))), Verdict::Newer);
        assert_eq!(delete(there(Some(6), Some(4))), Verdict::Newer);
        let done = Standing { row: None, tombstone: Some(of("west", 5)) };
        assert_eq!(delete(done), Verdict::Delete { raise: false, remove: false });
    }

    #[test]
    fn a_regions_own_version_never_overwrites_what_stands_in_it() {
        let own = of("east", 5);
        let east = region("east");
        assert_eq!(deliver_row(&own, &east, &there(Some(4), None)), Verdict::Lift);
        assert_eq!(deliver_row(&own, &east, &there(None, Some(4))), Verdict::Lift);
        assert_eq!(deliver_row(&own, &east, &there(None, None)), Verdict::Insert);
        assert_eq!(deliver_delete(&own, &east, &there(Some(4), None)), Verdict::Lift);
        assert_eq!(deliver_delete(&own, &east, &there(None, Some(4))), Verdict::Lift);
        // The tombstone of the delete itself stands, and an older row landed on top of it: the row is what stands.
        assert_eq!(deliver_delete(&own, &east, &there(Some(4), Some(5))), Verdict::Lift);
        assert_eq!(deliver_delete(&own, &east, &there(None, None)), Verdict::Delete { raise: true, remove: false });
    }

    proptest! {
        /// Whatever stands, a delivery never asks for a write that would put an older version over a newer one.
        #[test]
        fn nothing_newer_is_overwritten(
            tick in 0i64..6, by in "east|west",
            row in proptest::option::of(0i64..6), tombstone in proptest::option::of(0i64..6),
        ) {
            let version = of(&by, tick);
            let there = there(row, tombstone);
            if matches!(deliver_row(&version, &region("north"), &there), Verdict::Replace | Verdict::Insert) {
                prop_assert!(there.row.as_ref().is_none_or(|row| *row < version));
            }
            if let Verdict::Delete { raise, remove } = deliver_delete(&version, &region("north"), &there) {
                prop_assert!(there.row.as_ref().is_none_or(|row| *row < version));
                prop_assert_eq!(raise, there.tombstone.as_ref().is_none_or(|t| *t < version));
                prop_assert_eq!(remove, there.row.is_some());
            }
        }
    }
}
