//! What is in quarantine: rows of `RelayQuarantine`.

use super::parts::{PART, first_units, in_parts, joined, part_name};
use super::{Malformed, Reason, decode_message, decode_record, hash};
use crate::closed_list;
use crate::model::{
    AccountName, Change, ClosedList, Etag, PartitionKey, Region, Row, RowBody, RowId, RowKey, TableName, Time,
};

closed_list! {
    /// What an entry in quarantine is.
    pub enum Source {
        Record = "record",
            "a row of the feed: a record, or a tombstone that cannot be read; the entry holds its JSON",
            "see its reason";
        Message = "message",
            "a message of the queue; the entry holds its text as it was sent",
            "see its reason";
        Hint = "hint",
            "a row of RelayBacklog that is no hint; the entry holds its JSON",
            "see its reason";
        Row = "row",
            "one row that a well-formed announcement names; the entry holds the record that would announce it again, and \
             the row stands where it was written",
            "see its reason";
    }
}

/// One thing in quarantine. Texts rather than nouns, where what is wrong may be just that they are none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// 16 hex digits made of the content: what `quarantine show` takes. The same thing met again is the same entry.
    pub id: String,
    /// Why, from the closed list.
    pub reason: Reason,
    /// What exactly.
    pub detail: String,
    /// What it is.
    pub source: Source,
    /// The destination that cannot take it; `None` where nobody can.
    pub destination: Option<Region>,
    /// The account whose feed or queue it came from.
    pub account: Option<AccountName>,
    /// The data table, where it is known.
    pub table: Option<String>,
    /// The partition key, where it is known.
    pub partition: Option<String>,
    /// The row key, where it is about one row.
    pub row: Option<String>,
    /// The version, where it is known.
    pub version: Option<String>,
    /// The id of the request that was refused, which Azure's support asks for.
    pub request: Option<String>,
    /// When it was put in quarantine.
    pub at: Time,
    /// The record or message as it came.
    pub whole: String,
    /// UTF-16 units that `whole` lacks, where it was too large for a row: 0 for everything up to [`Entry::MAX_WHOLE`].
    pub cut: usize,
}

/// A row of `RelayQuarantine` that is no entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the quarantine entry {id:?} cannot be read: {field} is missing or has no meaning")]
pub struct UnreadableEntry {
    /// Its row key.
    pub id: String,
    /// The property at fault.
    pub field: &'static str,
}

/// Most properties of `whole`.
const PARTS: usize = 15;
/// Most units of the texts beside it, so that the row stays under 1 MiB whatever they are.
const MAX_TEXT: usize = 4_000;

/// The id of an entry that is made of these: 16 hex digits.
pub fn entry_id(parts: &[&str]) -> String {
    hash::hex(&hash::sha256(parts)[..8])
}

/// The keys of an entry in `RelayQuarantine`: the first two digits of its id, and the id.
pub fn entry_keys(id: &str) -> (PartitionKey, RowKey) {
    (PartitionKey::from(id.get(..2).unwrap_or(id)), RowKey::from(id))
}

impl Entry {
    /// Most UTF-16 units of `whole` that a row of `RelayQuarantine` holds: 450,000, seven times a queue message.
    pub const MAX_WHOLE: usize = PART * PARTS;

    /// An entry for something malformed; the caller fills in what else is known, then calls [`identified`].
    ///
    /// [`identified`]: Self::identified
    pub fn new(source: Source, malformed: &Malformed, at: Time, whole: impl Into<String>) -> Self {
        Self {
            id: String::new(),
            reason: malformed.reason,
            detail: malformed.detail.clone(),
            source,
            destination: None,
            account: None,
            table: None,
            partition: None,
            row: None,
            version: None,
            request: None,
            at,
            whole: whole.into(),
            cut: 0,
        }
        .identified()
    }

    /// The same entry with the id that its content has: what it is, where it came from, where it should have gone. Not
    /// why and when, so that the same thing met again replaces its entry.
    #[must_use]
    pub fn identified(mut self) -> Self {
        let account = self.account.as_ref().map_or("", AccountName::as_str);
        let destination = self.destination.as_ref().map_or("", Region::as_str);
        let parts = [self.source.as_str(), "\n", account, "\n", destination, "\n", &self.whole];
        self.id = entry_id(&parts);
        self
    }

    /// Writes it down. What is longer than [`MAX_WHOLE`](Self::MAX_WHOLE) is cut, and says so.
    pub fn encode(&self) -> RowBody {
        let (partition, row) = entry_keys(&self.id);
        let (parts, cut) = in_parts(&self.whole, PARTS);
        let short = |text: &Option<String>| text.as_deref().map(|text| first_units(text, MAX_TEXT).to_owned());
        let mut body = RowBody::builder(&partition, &row)
            .string("Reason", self.reason.as_str())
            .string("Detail", first_units(&self.detail, MAX_TEXT))
            .string("Source", self.source.as_str())
            .maybe("Destination", self.destination.as_ref().map(Region::as_str))
            .maybe("Account", self.account.as_ref().map(AccountName::as_str))
            .maybe("Table", short(&self.table).as_deref())
            .maybe("Partition", short(&self.partition).as_deref())
            .maybe("Row", short(&self.row).as_deref())
            .maybe("Version", short(&self.version).as_deref())
            .maybe("Request", short(&self.request).as_deref())
            .string("At", &self.at.to_string());
        let cut = cut.saturating_add(self.cut);
        if cut > 0 {
            body = body.int64("Cut", i64::try_from(cut).unwrap_or(i64::MAX));
        }
        for (n, part) in parts.iter().enumerate() {
            body = body.string(&part_name("Whole", n), part);
        }
        body.finish()
    }

    /// Reads an entry.
    ///
    /// # Errors
    /// [`UnreadableEntry`] naming the property at fault.
    pub fn decode(row: &Row) -> Result<Self, UnreadableEntry> {
        let body = &row.body;
        let id = body.row().as_str().to_owned();
        let bad = |field| UnreadableEntry { id: id.clone(), field };
        let text = |field| body.string(field).ok_or_else(|| bad(field));
        let named = |field| body.string(field);
        let region = named("Destination").map(|name| Region::new(&name).map_err(|_| bad("Destination"))).transpose()?;
        let account = named("Account").map(|name| AccountName::new(&name).map_err(|_| bad("Account"))).transpose()?;
        let cut = named("Cut").map(|units| units.parse().map_err(|_| bad("Cut"))).transpose()?;
        let whole = joined(body, "Whole", PARTS).ok_or_else(|| bad("Whole"))?;
        Ok(Self {
            reason: Reason::parse(&text("Reason")?).ok_or_else(|| bad("Reason"))?,
            detail: text("Detail")?,
            source: Source::parse(&text("Source")?).ok_or_else(|| bad("Source"))?,
            destination: region,
            account,
            table: named("Table"),
            partition: named("Partition"),
            row: named("Row"),
            version: named("Version"),
            request: named("Request"),
            at: Time::parse(&text("At")?).map_err(|_| bad("At"))?,
            whole,
            cut: cut.unwrap_or(0),
            id,
        })
    }
}

impl Entry {
    /// What the entry's record or message announces, where it can be read; a part of it cannot.
    pub fn change(&self) -> Option<Change> {
        match self.source {
            _ if self.cut > 0 => None,
            Source::Message => decode_message(&self.whole).ok(),
            Source::Record | Source::Row => RowBody::parse(&self.whole).ok().and_then(|body| {
                let row = Row { body, etag: Etag::new(""), timestamp: self.at };
                decode_record(&row).ok().map(|record| record.change)
            }),
            Source::Hint => None,
        }
    }

    /// The one row that the entry is about, where it is about one.
    pub fn row_id(&self) -> Option<RowId> {
        let table = TableName::new(self.table.as_deref()?).ok()?;
        let (partition, row) = (self.partition.as_deref()?, self.row.as_deref()?);
        Some(RowId::new(table, partition.into(), row.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::samples::{row, stored};
    use proptest::prelude::*;
    use serde_json::json;

    fn entry(whole: &str) -> Entry {
        let malformed = Malformed::new(Reason::BadVersion, "\"x\" is no version");
        let entry = Entry::new(Source::Message, &malformed, Time::from_unix_seconds(1_000), whole);
        Entry { account: Some(AccountName::new("west1").unwrap()), table: Some("orders".into()), ..entry }.identified()
    }

    #[test]
    fn the_same_thing_met_twice_is_one_entry() {
        let first = entry("whole");
        let again = Entry { at: Time::from_unix_seconds(2_000), reason: Reason::NoRows, ..first.clone() }.identified();
        assert_eq!((&again.id, again.encode().row()), (&first.id, first.encode().row()));
        assert_eq!(first.id.len(), 16);
        assert_eq!(entry_keys(&first.id), (first.encode().partition().clone(), first.encode().row().clone()));
        assert_ne!(entry("other").id, first.id);
        let elsewhere = Entry { destination: Some(Region::new("north").unwrap()), ..first.clone() }.identified();
        assert_ne!(elsewhere.id, first.id);
    }

    #[test]
    fn a_queue_message_of_64_kib_is_kept_whole_and_what_no_row_holds_is_cut_and_says_so() {
        let message = "ä".repeat(64 * 1_024);
        assert_eq!(Entry::decode(&stored(&entry(&message).encode())).unwrap(), entry(&message));
        let huge = entry(&"😀".repeat(Entry::MAX_WHOLE / 2 + 3));
        let body = huge.encode();
        let units: usize = body.json().encode_utf16().count();
        assert!(units * 2 < 1 << 20, "the row has {units} units");
        let back = Entry::decode(&stored(&body)).unwrap();
        assert_eq!(back.cut, 6);
        assert_eq!(huge.whole.strip_prefix(&back.whole).map(str::len), Some(12));
        assert_eq!(Entry::decode(&stored(&back.encode())).unwrap(), back, "what was cut once stays as it is");
        let claims = Entry { cut: usize::MAX, ..huge };
        assert_eq!(Entry::decode(&stored(&claims.encode())).unwrap().cut, usize::MAX >> 1);
    }

    #[test]
    fn a_row_that_is_no_entry_is_named() {
        let good = json!({"Reason": "no-rows", "Detail": "", "Source": "record", "At": "2026-11-22T12:18:00.1234567Z", "Whole": ""});
        assert!(Entry::decode(&row("ab", "abcd", &good)).is_ok());
        for field in ["Reason", "Detail", "Source", "At", "Whole"] {
            let mut bad = good.clone();
            bad[field] = 7.into();
            let err = Entry::decode(&row("ab", "abcd", &bad)).unwrap_err();
            assert_eq!(err, UnreadableEntry { id: "abcd".into(), field });
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(whole in any::<String>(), times in 1usize..2_000, detail in any::<String>(),
            partition in proptest::option::of(any::<String>()), reason in 0..<Reason as ClosedList>::ALL.len()) {
            let entry = Entry { detail, partition, reason: <Reason as ClosedList>::ALL[reason], ..entry(&whole.repeat(times)) };
            prop_assert_eq!(Entry::decode(&stored(&entry.encode())).unwrap(), entry);
        }
    }
}
