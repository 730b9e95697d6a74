//! A daemon of a region as its row in `RelayControl` tells of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::Obeyed;
use crate::feed::{AccountShard, Shard};
use crate::model::{AccountName, PartitionKey, Row, RowBody, RowKey, Time};
use crate::settle::{LinkPart, decode_parts, encode_parts};

/// A daemon, by a name that it draws when it begins and never uses again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemberId(String);

impl MemberId {
    /// The name with this number.
    pub fn new(number: u64) -> Self {
        Self(format!("{number:016x}"))
    }

    /// The name, 16 hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a daemon says of itself. The row is its lease: it counts from the time at which the storage server wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub id: MemberId,
    /// The shards that it carries, or is about to.
    pub claims: BTreeSet<AccountShard>,
    /// It has given up everything and gone.
    pub left: bool,
    /// When the row was written, by the storage server's clock.
    pub renewed: Time,
    /// The shards that it had read whole when it wrote that.
    pub read: BTreeSet<AccountShard>,
    /// How far those are over each link.
    pub links: Vec<LinkPart>,
    /// When it wrote that, by its own wall clock: for people.
    pub published: Time,
    /// The roles that it goes by; none where it says nothing of them.
    pub obeyed: Option<Obeyed>,
}

/// A row that does not read as a daemon's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the row of the daemon {key:?} should have {property} as {expected}")]
pub struct MemberRowError {
    key: String,
    property: &'static str,
    expected: &'static str,
}

impl Member {
    /// The partition of `RelayControl` that the rows of all daemons of the region are in.
    pub const PARTITION: &'static str = "daemon";

    /// Its row key.
    pub fn row_key(id: &MemberId) -> RowKey {
        RowKey::new(id.as_str())
    }

    /// Its row. The time of renewal is the server's to write.
    pub fn encode(&self) -> RowBody {
        RowBody::builder(&PartitionKey::from(Self::PARTITION), &Self::row_key(&self.id))
            .string("Shards", &masks(&self.claims))
            .string("State", if self.left { "left" } else { "here" })
            .string("Read", &masks(&self.read))
            .string("Links", &encode_parts(&self.links))
            .string("Published", &self.published.to_string())
            .maybe("Roles", self.obeyed.as_ref().map(Obeyed::encode).as_deref())
            .finish()
    }

    /// Reads a row.
    ///
    /// # Errors
    /// [`MemberRowError`], which names the row, the property and what it should be.
    pub fn decode(row: &Row) -> Result<Self, MemberRowError> {
        let key = row.body.row().as_str();
        let error = |property, expected| MemberRowError { key: key.to_owned(), property, expected };
        let number = u64::from_str_radix(key, 16).ok().filter(|_| key.len() == 16);
        let id = MemberId::new(number.ok_or_else(|| error("RowKey", "16 hex digits"))?);
        let set = |property| {
            let text = row.body.string(property);
            text.as_deref()
                .and_then(unmasked)
                .ok_or_else(|| error(property, "a JSON object of four hex digits per account"))
        };
        let links = row.body.string("Links").as_deref().and_then(decode_parts);
        let published = row.body.string("Published").and_then(|text| Time::parse(&text).ok());
        Ok(Self {
            claims: set("Shards")?,
            read: set("Read")?,
            left: match row.body.string("State").as_deref() {
                Some("left") => true,
                Some("here") => false,
                _ => return Err(error("State", "here or left")),
            },
            renewed: row.timestamp,
            links: links.ok_or_else(|| error("Links", "a JSON array with an object per link"))?,
            published: published.ok_or_else(|| error("Published", "a UTC time with 7 digits of a second"))?,
            obeyed: row.body.string("Roles").as_deref().and_then(Obeyed::decode),
            id,
        })
    }
}

/// Shards as four hex digits per account, a bit each.
fn masks(shards: &BTreeSet<AccountShard>) -> String {
    let mut masks: BTreeMap<&str, u16> = BTreeMap::new();
    for AccountShard { account, shard } in shards {
        *masks.entry(account.as_str()).or_default() |= 1 << shard.index();
    }
    let masks = masks.into_iter().map(|(account, mask)| (account.to_owned(), format!("{mask:04x}").into()));
    serde_json::Value::Object(masks.collect()).to_string()
}

fn unmasked(text: &str) -> Option<BTreeSet<AccountShard>> {
    let masks: BTreeMap<String, String> = serde_json::from_str(text).ok()?;
    let mut shards = BTreeSet::new();
    for (account, mask) in masks {
        let (account, mask) = (AccountName::new(&account).ok()?, u16::from_str_radix(&mask, 16).ok()?);
        let set = Shard::all().filter(|shard| mask & 1 << shard.index() != 0);
        shards.extend(set.map(|shard| AccountShard { account: account.clone(), shard }));
    }
    Some(shards)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Etag, Region};
    use crate::settle::LinkState;

    fn stored(body: RowBody) -> Row {
        Row { body, etag: Etag::new("e"), timestamp: Time::from_unix_seconds(100) }
    }

    #[test]
    fn a_daemon_reads_back_as_it_was_written() {
        let accounts = ["one", "two"].map(|name| AccountName::new(name).unwrap());
        let all = AccountShard::all(&accounts);
        let part = LinkPart {
            destination: Region::new("north-2").unwrap(),
            last_sync: Some(Time::from_ticks(16_000_000_001_234_567)),
            fresh_to: None,
            oldest_waiting: None,
            waiting_rows: 7,
            state: LinkState::BackingOff,
            last_error: Some("503: \"busy\"".to_owned()),
        };
        let member = Member {
            id: MemberId::new(0xa1),
            claims: all[3..20].iter().cloned().collect(),
            left: false,
            renewed: Time::from_unix_seconds(100),
            read: all[3..5].iter().cloned().collect(),
            links: vec![part],
            published: Time::from_unix_seconds(1_600_000_001),
            obeyed: Obeyed::decode("7.00000000000000a1/00000000000000a2"),
        };
        assert!(member.obeyed.is_some());
        let row = member.encode();
        row.row().check().unwrap();
        assert_eq!(Member::decode(&stored(row)), Ok(member.clone()));
        let gone = Member { claims: BTreeSet::new(), read: BTreeSet::new(), links: vec![], left: true, ..member };
        assert_eq!(Member::decode(&stored(gone.encode())), Ok(gone));
    }

    #[test]
    fn a_row_that_is_no_daemon_names_the_property_and_what_it_should_be() {
        let error = |json: &str| Member::decode(&stored(RowBody::parse(json).unwrap())).unwrap_err().to_string();
        let text = error(r#"{"PartitionKey":"daemon","RowKey":"me"}"#);
        assert!(text.contains("me") && text.contains("RowKey as 16 hex digits"), "{text}");
        let text = error(r#"{"PartitionKey":"daemon","RowKey":"00000000000000a1","Shards":"all"}"#);
        assert!(text.contains("Shards"), "{text}");
    }
}
