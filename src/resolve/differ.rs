//! How a row differs between two regions, and how that is mended.
//!
//! A pair is looked at from one side: `here` is the region that a verification starts from, `there` the other one. Who is
//! newer is decided by versions alone, and a tombstone counts where its row is absent; so what is mended ends as a delivery would
//! end, and a row that was deleted stays so. A row that is absent without a tombstone was never deleted: the other side
//! has it, and is right (R4).

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::{Finding, Standing, Verdict, deliver_delete, deliver_row};
use crate::closed_list;
use crate::model::{Region, RowBody, Version};

closed_list! {
    /// How a row differs between two regions, as seen from the first.
    pub enum Difference {
        Missing = "missing",
            "the row stands here, and there it is absent without a tombstone that is as new",
            "`tablerelay verify --repair` copies it";
        Stale = "stale",
            "the row stands on both sides, and there it is older",
            "`tablerelay verify --repair` replaces it";
        Extra = "extra",
            "the row stands there, and here it is absent without a tombstone that is as new",
            "`tablerelay verify --repair` takes it over, announced here; if it should not be there, delete it there by the protocol";
        Newer = "newer",
            "the row stands on both sides, and here it is older",
            "`tablerelay verify --repair` takes the newer one over, announced here";
        Content = "content",
            "the row has the same version on both sides and does not say the same",
            "find out who writes without a new version; `tablerelay verify --content --repair` gives one of the two a new version";
        DeletedHere = "deleted-here",
            "the row was deleted here, as its tombstone says, and stands there as it was before",
            "`tablerelay verify --repair` deletes it there";
        DeletedThere = "deleted-there",
            "the row was deleted there, as its tombstone says, and stands here as it was before",
            "`tablerelay verify --repair` deletes it here, announced here";
    }
}

closed_list! {
    /// What mends a difference.
    pub enum Mend {
        Copy = "copy", "the row is brought there", "none";
        Delete = "delete", "the delete is brought there", "none";
        TakeOver = "take-over", "the row is announced here and taken over from there", "none";
        DeleteHere = "delete-here", "the delete is announced here and taken over from there", "none";
        Lift = "lift",
            "what stands in the region that issued the version gets a new version above it, announced there, and is brought to the other one",
            "none";
        Nothing = "nothing",
            "it stands in a copy, from which nothing is taken over, and the region does not have it, or has something older",
            "wait until the region has it from where it was written; if it is nowhere else, `tablerelay restore` brings it back, or delete it in the copy";
    }
}

/// What stands of a row in one region, as far as a comparison goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sight {
    /// The versions of the row, and where it is absent of its tombstone.
    pub standing: Standing,
    /// What the row says, where that was asked for.
    pub content: Option<Content>,
}

impl Sight {
    /// The version of what stands: of the row, or of the tombstone in its place.
    pub fn newest(&self) -> Option<&Version> {
        self.standing.row.as_ref().or(self.standing.tombstone.as_ref())
    }
}

/// How the row differs.
pub fn difference(here: &Sight, there: &Sight) -> Option<Difference> {
    let deleted = |at: &Sight, row: &Version| at.standing.tombstone.as_ref().is_some_and(|tombstone| tombstone >= row);
    match (&here.standing.row, &there.standing.row) {
        (Some(ours), Some(theirs)) if ours == theirs => match (&here.content, &there.content) {
            (Some(one), Some(other)) if one != other => Some(Difference::Content),
            _ => None,
        },
        (Some(ours), Some(theirs)) if ours > theirs => Some(Difference::Stale),
        (Some(_), Some(_)) => Some(Difference::Newer),
        (Some(ours), None) if deleted(there, ours) => Some(Difference::DeletedThere),
        (Some(_), None) => Some(Difference::Missing),
        (None, Some(theirs)) if deleted(here, theirs) => Some(Difference::DeletedHere),
        (None, Some(_)) => Some(Difference::Extra),
        (None, None) => None,
    }
}

/// Whether both sides have moved past what was seen first: `highest`, the highest version of either. Then that has come through,
/// and what differs now is a later change on its way.
pub fn has_passed(highest: &Version, here: &Sight, there: &Sight) -> bool {
    match (here.newest(), there.newest()) {
        (Some(ours), Some(theirs)) => ours.min(theirs) >= highest && ours.max(theirs) > highest,
        _ => false,
    }
}

/// What mends a difference between the regions `from`, where `here` stands, and `to`.
pub fn mend(difference: Difference, (from, here): (&Region, &Standing), (to, there): (&Region, &Standing)) -> Mend {
    let (brings, takes, at, over) = match difference {
        Difference::Content => return Mend::Lift,
        Difference::Missing | Difference::Stale => (Mend::Copy, &here.row, to, there),
        Difference::DeletedHere => (Mend::Delete, &here.tombstone, to, there),
        Difference::Extra | Difference::Newer => (Mend::TakeOver, &there.row, from, here),
        Difference::DeletedThere => (Mend::DeleteHere, &there.tombstone, from, here),
    };
    let Some(version) = takes else { return brings };
    if over.row.as_ref().or(over.tombstone.as_ref()) == Some(version) {
        // A put and a delete that share a version, which no writer does: neither would give way.
        return Mend::Lift;
    }
    let verdict = match brings {
        Mend::Copy | Mend::TakeOver => deliver_row(version, at, over),
        _ => deliver_delete(version, at, over),
    };
    if verdict == Verdict::Lift { Mend::Lift } else { brings }
}

/// What mends a difference between the region `from` and a copy, where `there` stands: nothing is taken over from a copy. What `from`
/// itself has issued and has put something else over since is another thing: then its own order is kept, by a lift.
pub fn mend_copy(difference: Difference, from: &Region, there: &Standing) -> Mend {
    let newest = there.row.as_ref().max(there.tombstone.as_ref());
    match difference {
        Difference::Missing | Difference::Stale | Difference::Content => Mend::Copy,
        Difference::DeletedHere => Mend::Delete,
        Difference::Newer | Difference::DeletedThere if newest.is_some_and(|version| version.is_of(from)) => Mend::Lift,
        Difference::Extra | Difference::Newer | Difference::DeletedThere => Mend::Nothing,
    }
}

/// The region of two that has the word where a version stands for two things: its own region's, and of a third region's version that of `from`.
pub fn keeper<'a>(version: &Version, from: &'a Region, to: &'a Region) -> &'a Region {
    if version.is_of(to) { to } else { from }
}

/// What a row says, its version apart, as 32 bytes that two rows have in common if they say the same, in whatever order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Content([u8; 32]);

impl Content {
    /// Of a row.
    pub fn of(body: &RowBody) -> Self {
        let parsed: Map<String, Value> = serde_json::from_str(body.json()).unwrap_or_default();
        let mut fields: BTreeMap<String, Value> = parsed.into_iter().collect();
        fields.remove(Version::PROPERTY);
        // A double without a fraction is written with one here and without one there.
        let doubles: Vec<String> = fields
            .iter()
            .filter(|(_, value)| *value == "Edm.Double")
            .filter_map(|(name, _)| name.strip_suffix("@odata.type").map(str::to_owned))
            .collect();
        for name in doubles {
            let number = fields.get(&name).and_then(Value::as_f64);
            fields.extend(number.map(|number| (name, Value::from(number))));
        }
        let mut hash = Sha256::new();
        for (name, value) in &fields {
            // As JSON, so that no name and value run into each other.
            hash.update(Value::from(name.as_str()).to_string());
            hash.update(":");
            hash.update(value.to_string());
            hash.update(",");
        }
        Self(hash.finalize().into())
    }

    /// Sixteen hex digits of it, for people to compare.
    pub fn short(&self) -> String {
        self.0[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl From<&Finding> for Sight {
    fn from(finding: &Finding) -> Self {
        let standing = match finding {
            Finding::Row { version, .. } => Standing { row: Some(version.clone()), tombstone: None },
            Finding::Deleted(version) => Standing { row: None, tombstone: Some(version.clone()) },
            Finding::Nothing | Finding::Future(_) => Standing::default(),
        };
        let content = match finding {
            Finding::Row { body, .. } => Some(Content::of(body)),
            _ => None,
        };
        Self { standing, content }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Time, WriterId};
    use proptest::prelude::*;

    const REGIONS: [&str; 3] = ["east", "north", "west"];

    #[test]
    fn nothing_is_taken_over_from_a_copy() {
        let there = |row: Option<Version>, tombstone| Standing { row, tombstone };
        let mend = |kind, there: &Standing| mend_copy(kind, &region(0), there);
        let (own, other) = (there(Some(of(0, 7)), None), there(Some(of(1, 7)), None));
        for kind in [Difference::Missing, Difference::Stale, Difference::Content] {
            assert_eq!((mend(kind, &own), mend(kind, &other)), (Mend::Copy, Mend::Copy));
        }
        assert_eq!(mend(Difference::DeletedHere, &other), Mend::Delete);
        assert_eq!((mend(Difference::Newer, &own), mend(Difference::Newer, &other)), (Mend::Lift, Mend::Nothing));
        assert_eq!((mend(Difference::Extra, &own), mend(Difference::Extra, &other)), (Mend::Nothing, Mend::Nothing));
        let deleted = |n| there(None, Some(of(n, 7)));
        assert_eq!(mend(Difference::DeletedThere, &deleted(0)), Mend::Lift);
        assert_eq!(mend(Difference::DeletedThere, &deleted(2)), Mend::Nothing);
    }

    fn region(n: usize) -> Region {
        Region::new(REGIONS[n]).unwrap()
    }

    fn of(n: usize, tick: i64) -> Version {
        Version::new(Time::from_ticks(tick), &region(n), WriterId(1))
    }

    fn sight(row: Option<i64>, tombstone: Option<i64>) -> Sight {
        let version = |tick: Option<i64>| tick.map(|tick| of(0, tick));
        Sight { standing: Standing { row: version(row), tombstone: version(tombstone) }, content: None }
    }

    #[test]
    fn lists_are_closed() {
        crate::model::assert_well_formed::<Difference>();
        crate::model::assert_well_formed::<Mend>();
    }

    #[test]
    fn every_kind_is_told_from_the_others() {
        for (here, there, kind) in [
            ((Some(5), None), (Some(5), None), None),
            ((Some(5), None), (None, None), Some(Difference::Missing)),
            ((Some(5), None), (None, Some(4)), Some(Difference::Missing)),
            ((Some(5), None), (None, Some(5)), Some(Difference::DeletedThere)),
            ((Some(5), None), (None, Some(6)), Some(Difference::DeletedThere)),
            ((Some(5), None), (Some(4), None), Some(Difference::Stale)),
            ((Some(5), None), (Some(4), Some(6)), Some(Difference::Stale)),
            ((Some(5), None), (Some(6), None), Some(Difference::Newer)),
            ((None, None), (Some(5), None), Some(Difference::Extra)),
            ((None, Some(4)), (Some(5), None), Some(Difference::Extra)),
            ((None, Some(6)), (Some(5), None), Some(Difference::DeletedHere)),
            ((None, None), (None, None), None),
            ((None, Some(6)), (None, None), None),
        ] {
            let (here, there) = (sight(here.0, here.1), sight(there.0, there.1));
            assert_eq!(difference(&here, &there), kind, "{here:?} {there:?}");
        }
        let body = |text: &str| Content::of(&RowBody::builder(&"p".into(), &"r".into()).string("A", text).finish());
        let says = |text| Sight { content: Some(body(text)), ..sight(Some(5), None) };
        assert_eq!(difference(&says("a"), &says("b")), Some(Difference::Content));
        assert_eq!(difference(&says("a"), &says("a")), None);
        assert_eq!(difference(&says("a"), &sight(Some(5), None)), None, "it was not asked for");
    }

    #[test]
    fn what_was_seen_has_come_through_when_both_have_it_and_one_has_more() {
        let passed = |here, there| has_passed(&of(0, 5), &sight(here, None), &sight(there, None));
        assert!(passed(Some(9), Some(7)) && passed(Some(5), Some(6)));
        assert!(!passed(Some(9), Some(4)), "one has yet to get it");
        assert!(!passed(Some(9), None));
        let deleted = has_passed(&of(0, 5), &sight(Some(5), None), &sight(None, Some(5)));
        assert!(!deleted, "nothing has moved since");
    }

    #[test]
    fn the_order_of_properties_the_version_and_how_a_double_is_written_make_no_difference() {
        let content = |json: &str| Content::of(&RowBody::parse(json).unwrap());
        let one = content(r#"{"PartitionKey":"p","RowKey":"r","A":"a","B":1,"D@odata.type":"Edm.Double","D":2.0}"#);
        let other = r#"{"PartitionKey":"p","RowKey":"r","RelayVersion":"1970-01-01T00:00:00.0000001Z@a.00000000",
            "D@odata.type":"Edm.Double","D":2,"B":1,"A":"a"}"#;
        assert_eq!(one, content(other));
        for other in [r#""A":"a","B":"1""#, r#""A":"a""#, r#""A":"a","B":1,"C":null"#, r#""A":"a,","B":1"#] {
            assert_ne!(one, content(&format!(r#"{{"PartitionKey":"p","RowKey":"r",{other}}}"#)), "{other}");
        }
        assert_eq!(one.short().len(), 16);
    }

    /// What stands in a region of one row; at most one of the two, as everywhere but in mid-delivery.
    type Held = Option<(Version, bool)>;

    fn standing(held: &Held) -> Standing {
        let of = |deleted| held.as_ref().filter(|(_, is)| *is == deleted).map(|(version, _)| version.clone());
        Standing { row: of(false), tombstone: of(true) }
    }

    /// Brings `version` to a region by R4, R5 and R10.
    fn bring((version, deleted): &(Version, bool), to: usize, held: &mut Held) -> Verdict {
        let there = standing(held);
        let verdict = match deleted {
            false => deliver_row(version, &region(to), &there),
            true => deliver_delete(version, &region(to), &there),
        };
        match (verdict, held.as_mut()) {
            (Verdict::Lift, Some((stands, _))) => *stands = version.above(&region(to), WriterId(2)),
            (Verdict::Insert | Verdict::Replace | Verdict::Delete { .. }, _) => {
                *held = Some((version.clone(), *deleted))
            }
            _ => {}
        }
        verdict
    }

    proptest! {
        /// Seen from the other side, it is the other one of a pair.
        #[test]
        fn the_other_side_sees_the_same(
            ours in prop::option::of((0i64..4, any::<bool>())), theirs in prop::option::of((0i64..4, any::<bool>())),
        ) {
            let held = |held: Option<(i64, bool)>| held.map(|(tick, deleted)| (of(0, tick), deleted));
            let sight = |held: &Held| Sight { standing: standing(held), content: None };
            let (ours, theirs) = (sight(&held(ours)), sight(&held(theirs)));
            let mirrored = difference(&theirs, &ours).map(|kind| match kind {
                Difference::Missing => Difference::Extra,
                Difference::Extra => Difference::Missing,
                Difference::Stale => Difference::Newer,
                Difference::Newer => Difference::Stale,
                Difference::DeletedHere => Difference::DeletedThere,
                Difference::DeletedThere => Difference::DeletedHere,
                Difference::Content => Difference::Content,
            });
            prop_assert_eq!(difference(&ours, &theirs), mirrored);
        }

        /// Whatever differs: the deliveries that mend it make both equal, at nothing lower than what stood, and bring nothing
        /// back that was deleted later than it was written.
        #[test]
        fn what_mends_it_makes_both_equal_and_brings_nothing_back(
            ours in prop::option::of((0usize..3, 0i64..5, any::<bool>())),
            theirs in prop::option::of((0usize..3, 0i64..5, any::<bool>())),
        ) {
            let held = |held: Option<(usize, i64, bool)>| held.map(|(by, tick, deleted)| (of(by, tick), deleted));
            let mut regions = [held(ours), held(theirs)];
            let before = regions.clone();
            let sight = |held: &Held| Sight { standing: standing(held), content: None };
            let Some(kind) = difference(&sight(&regions[0]), &sight(&regions[1])) else { return Ok(()) };
            let says = mend(kind, (&region(0), &standing(&regions[0])), (&region(1), &standing(&regions[1])));
            let forth = matches!(kind, Difference::Missing | Difference::Stale | Difference::DeletedHere);
            let (winner, loser) = if forth { (0, 1) } else { (1, 0) };
            if before[0].as_ref().map(|held| &held.0) == before[1].as_ref().map(|held| &held.0) {
                prop_assert_eq!(says, Mend::Lift);
                return Ok(());
            }
            let brought = regions[winner].clone().unwrap();
            let verdict = bring(&brought, loser, &mut regions[loser]);
            prop_assert_eq!(says == Mend::Lift, verdict == Verdict::Lift);
            prop_assert!(!matches!(verdict, Verdict::Equal | Verdict::Newer), "{:?} {:?}", kind, verdict);
            if verdict == Verdict::Lift {
                let lifted = regions[loser].clone().unwrap();
                bring(&lifted, winner, &mut regions[winner]);
            }
            prop_assert_eq!(difference(&sight(&regions[0]), &sight(&regions[1])), None, "{:?} to {:?}", before, regions);
            let highest = before.iter().flatten().map(|(version, _)| version).max().unwrap();
            for held in regions.iter().flatten() {
                prop_assert!(held.0 >= *highest);
            }
            let deleted = before.iter().flatten().filter(|(_, deleted)| *deleted).map(|(version, _)| version).max();
            let written = before.iter().flatten().filter(|(_, deleted)| !*deleted).map(|(version, _)| version).max();
            if verdict != Verdict::Lift && deleted > written {
                prop_assert!(regions.iter().flatten().all(|(_, deleted)| *deleted));
            }
        }
    }
}
