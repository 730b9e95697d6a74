//! The state of a link, as it is published in `RelayControl` of both its ends.

use std::time::Duration;

use serde::Serialize;

use crate::closed_list;
use crate::model::{ClosedList, PartitionKey, Region, RowBody, RowKey, Time};

closed_list! {
    /// What a link is doing.
    pub enum LinkState {
        Flowing = "flowing",
            "changes are delivered as they are found",
            "none";
        BackingOff = "backing-off",
            "the destination failed or asked for less; the same changes are tried again, with growing pauses",
            "read the link's last error; if it stays, check the destination's health, credentials and firewall";
        Parked = "parked",
            "the destination is down: what it misses is kept as one hint per row and delivered when it is back",
            "bring the destination back, or take it out of the configuration; nothing is lost meanwhile";
    }
}

/// A row of `RelayControl` that does not read as a link's state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the link row {key:?} should have {property} as {expected}, but has {found:?}")]
pub struct LinkRowError {
    key: String,
    property: &'static str,
    expected: &'static str,
    found: Option<String>,
}

/// The state of one link at the time it was published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LinkStatus {
    /// Where its changes come from.
    pub source: Region,
    /// Where they are delivered to.
    pub destination: Region,
    /// What it is doing.
    pub state: LinkState,
    /// Last Sync Time, by the source's storage clock: every change announced before it is in the destination, was never
    /// written, or is in quarantine. `None` until the first one is known.
    pub last_sync: Option<Time>,
    /// Up to when the destination has everything that was written in the source, by the source's storage clock. Never before Last
    /// Sync Time: what was announced and not written does not count.
    pub fresh_to: Option<Time>,
    /// What the source says of its own readers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub word: Option<Word>,
    /// The age of the oldest change that was seen and is not in the destination; zero where there is none.
    #[serde(rename = "lag_seconds", serialize_with = "seconds")]
    pub lag: Duration,
    /// Distinct rows that wait for the destination.
    pub backlog_rows: u64,
    /// When the oldest change that waits was announced.
    pub oldest_waiting: Option<Time>,
    /// What the destination failed with last; `None` once a delivery has succeeded since. Never holds credentials.
    pub last_error: Option<String>,
    /// When this was published, by the wall clock of the daemon that did.
    pub published: Time,
    /// Whether the destination is a copy, which is no region.
    pub copy: bool,
}

/// What a region tells the others of itself as a place to read: who is too far behind leaves its readers to whoever is fresher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Word {
    /// Up to when it has everything that was written anywhere.
    pub fresh_to: Time,
    /// Whether it offers itself to readers.
    pub serves: bool,
}

fn seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

/// Most characters of an error that are published: a string property holds 32K UTF-16 units, a person reads a line.
const MAX_ERROR_CHARS: usize = 1_000;

impl LinkStatus {
    /// What was published longer ago may be of a daemon that is gone: it publishes every few seconds.
    pub const STALE: Duration = Duration::from_secs(30);

    /// The partition of `RelayControl` that all links are in.
    pub const PARTITION: &'static str = "link";

    /// The row key: `{source}>{destination}`, which no two links share, since no region's name holds a `>`.
    pub fn row_key(source: &Region, destination: &Region) -> RowKey {
        RowKey::new(format!("{source}>{destination}"))
    }

    /// The row that publishes it.
    ///
    /// Times are strings of 7 digits, the lag is an Int64 of ticks (100 ns), so that nothing is lost on the way.
    pub fn encode(&self) -> RowBody {
        let time = |time: Option<Time>| time.map(|time| time.to_string());
        let error = self.last_error.as_ref().map(|text| text.chars().take(MAX_ERROR_CHARS).collect::<String>());
        let whole = |n: u128| i64::try_from(n).unwrap_or(i64::MAX);
        RowBody::builder(&PartitionKey::from(Self::PARTITION), &Self::row_key(&self.source, &self.destination))
            .string("State", self.state.as_str())
            .maybe("LastSyncTime", time(self.last_sync).as_deref())
            .maybe("FreshTo", time(self.fresh_to).as_deref())
            .maybe("SourceFreshTo", time(self.word.map(|word| word.fresh_to)).as_deref())
            .maybe("SourceServes", self.word.map(|word| if word.serves { "yes" } else { "no" }))
            .int64("LagTicks", whole(self.lag.as_nanos() / 100))
            .int64("BacklogRows", whole(self.backlog_rows.into()))
            .maybe("OldestWaiting", time(self.oldest_waiting).as_deref())
            .maybe("LastError", error.as_deref())
            .string("Published", &self.published.to_string())
            .maybe("Copy", self.copy.then_some("yes"))
            .finish()
    }

    /// Reads a published row.
    ///
    /// # Errors
    /// [`LinkRowError`], which names the row, the property and what it should be.
    pub fn decode(row: &RowBody) -> Result<Self, LinkRowError> {
        let fields = LinkRow(row);
        let ends = row.row().as_str().split_once('>').and_then(|(source, destination)| {
            let link = (Region::new(source).ok()?, Region::new(destination).ok()?);
            (row.partition().as_str() == Self::PARTITION).then_some(link)
        });
        let (source, destination) =
            ends.ok_or_else(|| fields.error("RowKey", "source>destination in the partition link"))?;
        let state = "one of flowing, backing-off and parked";
        let ticks = fields.whole("LagTicks")?;
        Ok(Self {
            source,
            destination,
            state: fields.required("State", state, LinkState::parse)?,
            last_sync: fields.time("LastSyncTime")?,
            fresh_to: fields.time("FreshTo")?,
            word: fields.word()?,
            lag: Duration::from_nanos(ticks.saturating_mul(100)),
            backlog_rows: fields.whole("BacklogRows")?,
            oldest_waiting: fields.time("OldestWaiting")?,
            last_error: row.string("LastError"),
            published: fields.required("Published", TIME, |text| Time::parse(text).ok())?,
            copy: row.string("Copy").is_some(),
        })
    }
}

const TIME: &str = "a UTC time with 7 digits of a second";

struct LinkRow<'a>(&'a RowBody);

impl LinkRow<'_> {
    fn error(&self, property: &'static str, expected: &'static str) -> LinkRowError {
        let found = match property {
            "RowKey" => Some(self.0.row().to_string()),
            _ => self.0.string(property),
        };
        LinkRowError { key: self.0.row().to_string(), property, expected, found }
    }

    fn required<T>(
        &self,
        property: &'static str,
        expected: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, LinkRowError> {
        let text = self.0.string(property);
        text.as_deref().and_then(parse).ok_or_else(|| self.error(property, expected))
    }

    fn time(&self, property: &'static str) -> Result<Option<Time>, LinkRowError> {
        match self.0.string(property) {
            None => Ok(None),
            Some(text) => Time::parse(&text).map(Some).map_err(|_| self.error(property, TIME)),
        }
    }

    /// Nothing, where the source has no limit on staleness, or is of an older version.
    fn word(&self) -> Result<Option<Word>, LinkRowError> {
        let Some(fresh_to) = self.time("SourceFreshTo")? else { return Ok(None) };
        let serves = |text: &str| [("yes", true), ("no", false)].into_iter().find(|(word, _)| *word == text);
        let (_, serves) = self.required("SourceServes", "yes or no", serves)?;
        Ok(Some(Word { fresh_to, serves }))
    }

    fn whole(&self, property: &'static str) -> Result<u64, LinkRowError> {
        self.required(property, "an Int64 of zero or more", |text| text.parse().ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::assert_well_formed;

    fn status() -> LinkStatus {
        LinkStatus {
            source: Region::new("west").unwrap(),
            destination: Region::new("north-2").unwrap(),
            state: LinkState::BackingOff,
            last_sync: Some(Time::from_ticks(16_000_000_001_234_567)),
            fresh_to: Some(Time::from_ticks(16_000_000_009_999_999)),
            word: Some(Word { fresh_to: Time::from_ticks(16_000_000_000_000_001), serves: false }),
            lag: Duration::from_nanos(1_234_500),
            backlog_rows: 7,
            oldest_waiting: None,
            last_error: Some("503 ServerBusy: \"slow\" down".to_owned()),
            published: Time::from_unix_seconds(1_600_000_001),
            copy: false,
        }
    }

    #[test]
    fn a_link_reads_back_as_it_was_published() {
        let full = status();
        let row = full.encode();
        row.row().check().unwrap();
        assert_eq!(row.row().as_str(), "west>north-2");
        assert_eq!(LinkStatus::decode(&row), Ok(full.clone()));
        let bare = LinkStatus {
            last_sync: None,
            fresh_to: None,
            word: None,
            oldest_waiting: Some(full.published),
            last_error: None,
            state: LinkState::Parked,
            copy: true,
            ..full
        };
        assert_eq!(LinkStatus::decode(&bare.encode()), Ok(bare));
    }

    #[test]
    fn a_row_that_is_no_link_names_row_property_and_expectation() {
        let row = |json: &str| LinkStatus::decode(&RowBody::parse(json).unwrap()).unwrap_err().to_string();
        let state = row(r#"{"PartitionKey":"link","RowKey":"a>b","LagTicks":"0","State":"resting"}"#);
        assert!(state.contains("a>b") && state.contains("State") && state.contains("resting"), "{state}");
        let ends = row(r#"{"PartitionKey":"link","RowKey":"a"}"#);
        assert!(ends.contains("RowKey") && ends.contains("source>destination"), "{ends}");
        let lag = row(r#"{"PartitionKey":"link","RowKey":"a>b","State":"parked","LagTicks":"-1"}"#);
        assert!(lag.contains("LagTicks") && lag.contains("-1"), "{lag}");
    }

    #[test]
    fn a_long_error_is_cut() {
        let long = LinkStatus { last_error: Some("é".repeat(5_000)), ..status() };
        let back = LinkStatus::decode(&long.encode()).unwrap();
        assert_eq!(back.last_error.unwrap().chars().count(), MAX_ERROR_CHARS);
    }

    #[test]
    fn link_states_are_a_closed_list() {
        assert_well_formed::<LinkState>();
    }
}
