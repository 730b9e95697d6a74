//! Regions that were taken out of the configuration, as a region that is left remembers them.
//!
//! While one is out, what it has not brought is not known, so nothing is collected that it might bring back (R8). Once it is *gone*
//! the others collect without it; should it be in the configuration again, it has rows that were deleted and of which nobody
//! knows any more. So it has to come back empty, and until it has been *seen empty* nothing passes between it and the others.
//!
//! Each region keeps one row of this, and every daemon reads those of all regions beside their copies of the roles, on both sides of every
//! line. It stands apart from the roles, which are deleted to start over.

use std::collections::BTreeMap;

use crate::model::{PartitionKey, Region, RowBody, RowKey, Time};

/// What a region remembers, by its storage clock.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks {
    /// Regions that were known and are out of the configuration, and since when that was noticed.
    pub out: BTreeMap<Region, Time>,
    /// Regions that count no more, and since when.
    pub gone: BTreeMap<Region, Time>,
    /// When this region was seen empty last.
    pub empty: Option<Time>,
}

/// A row that does not read as a region's marks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the row {row:?} of the partition {partition} should have {property} as {expected}", row = Marks::ROW, partition = Marks::PARTITION)]
pub struct MarksRowError {
    property: &'static str,
    expected: &'static str,
}

impl Marks {
    /// The partition of `RelayControl`.
    pub const PARTITION: &'static str = "collected";
    /// The row key.
    pub const ROW: &'static str = "regions";

    /// The row.
    pub fn encode(&self) -> RowBody {
        let text = |times: &BTreeMap<Region, Time>| {
            let times: BTreeMap<&str, String> =
                times.iter().map(|(name, at)| (name.as_str(), at.to_string())).collect();
            // Names and times: nothing of that fails.
            serde_json::to_string(&times).unwrap_or_default()
        };
        RowBody::builder(&PartitionKey::from(Self::PARTITION), &RowKey::from(Self::ROW))
            .string("Out", &text(&self.out))
            .string("Gone", &text(&self.gone))
            .maybe("Empty", self.empty.map(|at| at.to_string()).as_deref())
            .finish()
    }

    /// Reads it back.
    ///
    /// # Errors
    /// [`MarksRowError`]: what cannot be read is not taken for nothing.
    pub fn decode(row: &RowBody) -> Result<Self, MarksRowError> {
        let times = |property| {
            let times: Option<BTreeMap<String, String>> =
                row.string(property).and_then(|text| serde_json::from_str(&text).ok());
            let times = times.into_iter().flatten();
            let read = times.map(|(name, at)| Some((Region::new(&name).ok()?, Time::parse(&at).ok()?)));
            let read = row.string(property).and_then(|_| read.collect::<Option<_>>());
            read.ok_or(MarksRowError { property, expected: "a JSON object with a time for each region" })
        };
        let empty = match row.string("Empty") {
            None => None,
            Some(at) => {
                Some(Time::parse(&at).map_err(|_| MarksRowError { property: "Empty", expected: "a time or nothing" })?)
            }
        };
        Ok(Self { out: times("Out")?, gone: times("Gone")?, empty })
    }
}

/// Whether nothing may pass to and from `region`, by what all regions remember: one of them counts it as gone, and it has not been
/// seen empty since.
pub fn is_barred<'a>(region: &Region, all: impl IntoIterator<Item = (&'a Region, &'a Marks)>) -> bool {
    let (mut gone, mut empty) = (None, None);
    for (of, marks) in all {
        gone = gone.max(marks.gone.get(region).copied());
        if of == region {
            empty = marks.empty;
        }
    }
    gone.is_some_and(|gone| empty.is_none_or(|empty| empty <= gone))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(name: &str) -> Region {
        Region::new(name).unwrap()
    }

    fn at(seconds: i64) -> Time {
        Time::from_unix_seconds(seconds)
    }

    #[test]
    fn what_is_written_is_read_and_what_cannot_be_read_is_not_taken_for_nothing() {
        let marks =
            Marks { out: [(region("west"), at(1))].into(), gone: [(region("up"), at(2))].into(), empty: Some(at(3)) };
        assert_eq!(Marks::decode(&marks.encode()), Ok(marks));
        assert_eq!(Marks::decode(&Marks::default().encode()), Ok(Marks::default()));
        for (json, property) in [
            (r#"{"PartitionKey":"p","RowKey":"r","Out":"{}"}"#, "Gone"),
            (r#"{"PartitionKey":"p","RowKey":"r","Out":"{\"a\":\"now\"}","Gone":"{}"}"#, "Out"),
            (r#"{"PartitionKey":"p","RowKey":"r","Out":"{}","Gone":"{}","Empty":"soon"}"#, "Empty"),
        ] {
            let error = Marks::decode(&RowBody::parse(json).unwrap()).unwrap_err();
            assert!(error.to_string().contains(property), "{error}");
        }
    }

    #[test]
    fn who_is_gone_for_anybody_is_barred_until_it_is_seen_empty_afterwards() {
        let (east, west, up) = (region("east"), region("west"), region("up"));
        let gone = |seconds| Marks { gone: [(west.clone(), at(seconds))].into(), ..Marks::default() };
        let seen = |seconds| Marks { empty: Some(at(seconds)), ..Marks::default() };
        let barred = |marks: &[(&Region, Marks)]| is_barred(&west, marks.iter().map(|(of, marks)| (*of, marks)));
        assert!(!barred(&[(&east, Marks::default()), (&west, Marks::default())]));
        assert!(barred(&[(&east, gone(5)), (&west, Marks::default())]));
        assert!(barred(&[(&east, gone(5)), (&west, seen(5))]));
        assert!(barred(&[(&east, gone(5)), (&up, gone(9)), (&west, seen(7))]), "it was gone once more for one of them");
        assert!(!barred(&[(&east, gone(5)), (&west, seen(6))]));
        assert!(barred(&[(&east, gone(5)), (&up, seen(6))]), "another one's word");
    }
}
