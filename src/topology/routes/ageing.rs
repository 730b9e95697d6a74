//! Rows that grow old: a date that a row carries says when it leaves its home for an account where it is kept for less.
//!
//! Whoever looks for a row has its keys and no date. So its home stays what its keys say, with its records and its tombstones, and
//! the account of an *ageing route* is its *cold place*: where a row may be that its home does not have. Whatever stands at home
//! counts, and is what a writer writes; the cold place is read where the home has nothing.

use std::time::Duration;

use crate::model::{Row, Time};

/// When a row is old.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ageing {
    /// The property that holds its date, an Edm.DateTime; `Timestamp` for when it was written last in its region.
    pub date: String,
    /// How long ago that is.
    pub after: Duration,
}

impl Ageing {
    /// The system property that every row has.
    pub const TIMESTAMP: &'static str = "Timestamp";

    /// Whether a row is old. One without the property, or with another type in it, never is.
    pub fn is_old(&self, row: &Row, now: Time) -> bool {
        self.date_of(row).is_some_and(|date| now.since(date) >= self.after)
    }

    /// Its date; `None` where the property is missing or of another type.
    pub fn date_of(&self, row: &Row) -> Option<Time> {
        if self.date == Self::TIMESTAMP { Some(row.timestamp) } else { row.body.date_time(&self.date) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(properties: &str) -> Row {
        let json = format!(
            r#"{{"PartitionKey":"p","RowKey":"r","Timestamp":"2026-01-01T00:00:00Z","odata.etag":"x"{properties}}}"#
        );
        Row::from_wire(&json, None).unwrap()
    }

    #[test]
    fn a_row_is_old_by_its_date_and_by_nothing_that_only_looks_like_one() {
        let ageing = Ageing { date: "Placed".to_owned(), after: Duration::from_secs(3_600) };
        let now = Time::parse("2026-02-01T12:00:00.0000000Z").unwrap();
        let of_type = |kind: &str, date: &str| row(&format!(r#","Placed@odata.type":"{kind}","Placed":"{date}""#));
        assert!(ageing.is_old(&of_type("Edm.DateTime", "2026-02-01T11:00:00Z"), now));
        assert!(!ageing.is_old(&of_type("Edm.DateTime", "2026-02-01T11:00:00.0000001Z"), now));
        assert!(!ageing.is_old(&of_type("Edm.DateTime", "2027-02-01T11:00:00Z"), now));
        assert!(!ageing.is_old(&of_type("Edm.DateTime", "long ago"), now));
        assert!(!ageing.is_old(&of_type("Edm.Int64", "2026-02-01T11:00:00Z"), now));
        assert!(!ageing.is_old(&row(r#","Placed":"2020-02-01T11:00:00Z""#), now));
        assert!(!ageing.is_old(&row(""), now));
        let written = Ageing { date: Ageing::TIMESTAMP.to_owned(), ..ageing };
        assert!(written.is_old(&row(""), now));
    }
}
