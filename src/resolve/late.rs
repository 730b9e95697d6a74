//! Late writes: what a region that is no writer issued, and the writer does not have.

use std::cmp::Ordering::{Equal, Greater, Less};

use super::{Finding, Meaning, Standing, meaning};
use crate::model::{Time, Version};

/// What a version that was issued where nobody may write is to the current writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lateness {
    /// The writer has it: it was sent while its region was a writer, and is like any other.
    Known,
    /// The writer has something newer, whether it knew of this or not. That finds its own way, and names what it overwrites.
    Superseded,
    /// The writer has something older, or nothing.
    Late,
}

/// What `found` is to the writer, where `stands` stands. A tombstone says nothing beside a row that is present, but that the
/// delete which raised it has come there.
pub fn lateness(found: &Version, stands: &Standing) -> Lateness {
    match stands.row.as_ref().or(stands.tombstone.as_ref()).map_or(Less, |there| there.cmp(found)) {
        Equal => Lateness::Known,
        Greater => Lateness::Superseded,
        Less if stands.tombstone.as_ref() == Some(found) => Lateness::Known,
        Less => Lateness::Late,
    }
}

/// Whether a change that its region announced, and that is open there or waits as a hint, was carried out and reached none of the
/// other regions by `lost`, when the region lost its role: so what it had not sent. `here` is what stands in its region now,
/// `came` when the change came to each of the others that has it, or had it before it was overwritten there.
///
/// What was never carried out was not lost. What came to another region was sent, even if the announcement has not ended; unless
/// it came there only later, because that region met it here and took it over.
pub fn is_unsent(announced: &Version, delete: bool, here: &Finding, came: &[Time], lost: Time) -> bool {
    meaning(announced, delete, here) != Meaning::NotYet && !came.iter().any(|came| *came <= lost)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Region, WriterId};
    use crate::resolve::{Verdict, deliver_delete, deliver_row};
    use proptest::prelude::*;

    fn of(name: &str, tick: i64) -> Version {
        Version::new(Time::from_ticks(tick), &Region::new(name).unwrap(), WriterId(1))
    }

    #[test]
    fn what_the_writer_has_is_not_late_and_a_delete_counts_like_a_row() {
        let there = |row: Option<i64>, tombstone: Option<i64>| Standing {
            row: row.map(|tick| of("west", tick)),
            tombstone: tombstone.map(|tick| of("west", tick)),
        };
        let found = of("west", 5);
        for (stands, says) in [
            (there(None, None), Lateness::Late),
            (there(Some(4), None), Lateness::Late),
            (there(None, Some(4)), Lateness::Late),
            (there(Some(4), Some(6)), Lateness::Late),
            (there(Some(4), Some(5)), Lateness::Known),
            (there(Some(5), None), Lateness::Known),
            (there(None, Some(5)), Lateness::Known),
            (there(None, Some(6)), Lateness::Superseded),
            (there(Some(6), Some(4)), Lateness::Superseded),
        ] {
            assert_eq!(lateness(&found, &stands), says, "{stands:?}");
        }
    }

    #[test]
    fn unsent_is_what_was_carried_out_and_never_came_to_another_region() {
        let row = |tick| Finding::Deleted(of("west", tick));
        let (before, after) = (Time::from_ticks(90), Time::from_ticks(101));
        let unsent = |here, came: &[Time]| is_unsent(&of("west", 5), true, &here, came, Time::from_ticks(100));
        assert!(unsent(row(5), &[]));
        assert!(unsent(row(7), &[]), "overwritten by what the others have");
        assert!(!unsent(row(5), &[before]), "one of them has it");
        assert!(!unsent(row(7), &[before]), "one of them had it");
        assert!(unsent(row(5), &[after]), "it was taken over when the region was back");
        assert!(!unsent(row(5), &[after, before]), "one got it from the other");
        assert!(!is_unsent(&of("west", 5), false, &row(4), &[], Time::EPOCH), "it was announced and never written");
    }

    proptest! {
        /// Late is exactly what a delivery would write at the writer, but for the rest of a delete whose tombstone stands there; and
        /// once what stands there was lifted a tick above, it is superseded: so nothing is judged late twice.
        #[test]
        fn late_is_what_would_be_written_and_only_until_it_is_lifted_above(
            tick in 0i64..6, row in prop::option::of(0i64..6), tombstone in prop::option::of(0i64..6), by in "east|north",
        ) {
            let (found, writer) = (of("east", tick), Region::new("north").unwrap());
            let stands = Standing { row: row.map(|tick| of(&by, tick)), tombstone: tombstone.map(|tick| of(&by, tick)) };
            let late = lateness(&found, &stands) == Lateness::Late;
            let has_come = stands.tombstone.as_ref() == Some(&found);
            let row_written = matches!(deliver_row(&found, &writer, &stands), Verdict::Insert | Verdict::Replace);
            prop_assert_eq!(row_written && !has_come, late);
            let delete = deliver_delete(&found, &writer, &stands);
            let delete_written = matches!(delete, Verdict::Delete { raise, remove } if raise || remove);
            prop_assert_eq!(delete_written && !has_come, late);
            let above = found.above(&writer, WriterId(2));
            let lifted = match stands.row {
                Some(_) => Standing { row: Some(above), ..stands },
                None => Standing { row: None, tombstone: Some(above) },
            };
            prop_assert_eq!(lateness(&found, &lifted), Lateness::Superseded);
        }
    }
}
