//! How far a backfill is: rows of `RelayControl` in the region that is copied from, a head for each table and a row for each range.
//!
//! Whatever is written here goes in one transaction with the head, on its ETag: so who writes holds the table, renews the hold by it, and
//! finds out in the same request that somebody has paused it or that another one has taken over.

use crate::closed_list;
use crate::model::{ClosedList, PartitionKey, Region, RowBody, RowKey, TableName, Time};
use crate::ops::verify::Key;

/// The partition of `RelayControl` that holds these rows.
pub(super) const PARTITION: &str = "backfill";

closed_list! {
    /// How far a range of a backfill is: its copy flag.
    pub enum Copied {
        Pending = "pending",
            "nothing of it is copied yet",
            "none";
        Copying = "copying",
            "everything up to its last key is copied",
            "none";
        Copied = "copied",
            "all of it is copied, and not compared yet",
            "none";
        Verified = "verified",
            "it was compared after it was copied, and whatever differed was mended or waits for something that is known",
            "none";
    }
}

closed_list! {
    /// How a backfill of a table is.
    pub enum BackfillState {
        Running = "running",
            "a command is at work on it",
            "none";
        Paused = "paused",
            "somebody has paused it",
            "`tablerelay backfill resume` goes on";
        Interrupted = "interrupted",
            "it was begun, and no command is at work on it",
            "`tablerelay backfill resume` goes on where everything before is copied";
        Done = "done",
            "all ranges are verified",
            "none";
    }
}

/// What was done of a range.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Rows gone through, and their size.
    pub rows: u64,
    pub bytes: u64,
    /// Those that were written at the destination; the rest was there.
    pub written: u64,
    /// Those that were given their implicit version at the source.
    pub stamped: u64,
    /// Those that cannot be applied and lie in quarantine.
    pub quarantined: u64,
    /// Those that differed afterwards: mended, known to wait for something, left since they stand there alone.
    pub mended: u64,
    pub waiting: u64,
    pub extra: u64,
    /// How often something failed and was tried again.
    pub errors: u64,
}

impl Counts {
    pub const NAMES: [&str; 9] =
        ["Rows", "Bytes", "Written", "Stamped", "Quarantined", "Mended", "Waiting", "Extra", "Errors"];

    pub fn all(&mut self) -> [&mut u64; 9] {
        let Self { rows, bytes, written, stamped, quarantined, mended, waiting, extra, errors } = self;
        [rows, bytes, written, stamped, quarantined, mended, waiting, extra, errors]
    }
}

/// One backfill of a table from a region to another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub table: TableName,
    pub from: Region,
    pub to: Region,
    /// Whether somebody has asked for a pause, and whether all is verified.
    pub paused: bool,
    pub done: bool,
    /// Who is at work on it, and until when nobody else may be, by the storage clock of `from`.
    pub owner: Option<(String, Time)>,
    /// Whether nobody has held it yet: it was noted beside the other tables of its start, not all of which may be noted.
    pub noted: bool,
    /// How many ranges it has; none while they are not all written.
    pub ranges: Option<u32>,
    /// Whether rows without a version are given theirs at the source.
    pub stamp: bool,
    /// The same for all tables that were begun together.
    pub began: Time,
    pub ended: Option<Time>,
    /// Rows a second, lately.
    pub rate: u64,
}

/// A range of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Range {
    pub table: TableName,
    pub number: u32,
    /// The first partition; none is the first of all.
    pub from: Option<PartitionKey>,
    /// The partition to stop before; none is behind the last one.
    pub until: Option<PartitionKey>,
    /// How many rows it has, by sample.
    pub estimate: u64,
    pub copy: Copied,
    /// Everything up to this key is copied.
    pub after: Option<Key>,
    pub counts: Counts,
    pub last_error: Option<String>,
    pub began: Option<Time>,
    pub copied: Option<Time>,
    pub verified: Option<Time>,
}

/// Most characters of an error that is kept.
const MAX_ERROR_CHARS: usize = 500;

fn whole(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn number<N: std::str::FromStr>(body: &RowBody, name: &str) -> Option<N> {
    body.string(name)?.parse().ok()
}

/// `None` where there is none; the inner one where what is there is no time.
fn time(body: &RowBody, name: &str) -> Option<Option<Time>> {
    body.string(name).map_or(Some(None), |text| Time::parse(&text).ok().map(Some))
}

fn yes(word: bool) -> &'static str {
    if word { "yes" } else { "no" }
}

/// The beginning of the keys of all heads of a pair of regions.
pub(super) fn heads_of(from: &Region, to: &Region) -> String {
    format!("head:{from}:{to}:")
}

/// The beginning of the keys of all ranges of a table.
pub(super) fn ranges_of(from: &Region, to: &Region, table: &TableName) -> String {
    format!("range:{from}:{to}:{}:", table.lower())
}

impl Head {
    pub fn key(&self) -> RowKey {
        RowKey::new(format!("{}{}", heads_of(&self.from, &self.to), self.table.lower()))
    }

    /// The state that it is in at `now`.
    pub fn state(&self, now: Time) -> BackfillState {
        match (&self.owner, self.done, self.paused) {
            (_, true, _) => BackfillState::Done,
            (Some((_, until)), ..) if *until > now => BackfillState::Running,
            (_, _, true) => BackfillState::Paused,
            _ => BackfillState::Interrupted,
        }
    }

    pub fn encode(&self) -> RowBody {
        let (owner, until) = self.owner.as_ref().map(|(owner, until)| (owner.as_str(), until.to_string())).unzip();
        let mut body = RowBody::builder(&PartitionKey::from(PARTITION), &self.key())
            .string("Table", self.table.as_str())
            .string("From", self.from.as_str())
            .string("To", self.to.as_str())
            .string("Paused", yes(self.paused))
            .string("Done", yes(self.done))
            .string("Noted", yes(self.noted))
            .string("Stamp", yes(self.stamp))
            .string("Began", &self.began.to_string())
            .maybe("Ended", self.ended.map(|time| time.to_string()).as_deref())
            .maybe("Owner", owner)
            .maybe("Until", until.as_deref())
            .int64("RowsPerSecond", whole(self.rate));
        if let Some(ranges) = self.ranges {
            body = body.int64("Ranges", ranges.into());
        }
        body.finish()
    }

    pub fn decode(body: &RowBody) -> Option<Self> {
        let region = |name| Region::new(&body.string(name)?).ok();
        Some(Self {
            table: TableName::new(&body.string("Table")?).ok()?,
            from: region("From")?,
            to: region("To")?,
            paused: body.string("Paused")? == "yes",
            done: body.string("Done")? == "yes",
            owner: body.string("Owner").zip(time(body, "Until")?),
            ranges: body.string("Ranges").map_or(Some(None), |text| text.parse().ok().map(Some))?,
            noted: body.string("Noted")? == "yes",
            stamp: body.string("Stamp")? == "yes",
            began: time(body, "Began")??,
            ended: time(body, "Ended")?,
            rate: number(body, "RowsPerSecond")?,
        })
    }
}

impl Range {
    pub fn key(&self, head: &Head) -> RowKey {
        RowKey::new(format!("{}{:04}", ranges_of(&head.from, &head.to, &head.table), self.number))
    }

    pub fn encode(&self, head: &Head, now: Time) -> RowBody {
        let error: Option<String> = self.last_error.as_ref().map(|error| error.chars().take(MAX_ERROR_CHARS).collect());
        let partition = |key: &Option<PartitionKey>| key.as_ref().map(|key| key.as_str().to_owned());
        let at = |time: Option<Time>| time.map(|time| time.to_string());
        let (last_partition, last_row) =
            self.after.as_ref().map(|(partition, row)| (partition.as_str(), row.as_str())).unzip();
        let mut body = RowBody::builder(&PartitionKey::from(PARTITION), &self.key(head))
            .string("Table", self.table.as_str())
            .int64("Number", self.number.into())
            .maybe("FirstPartition", partition(&self.from).as_deref())
            .maybe("UntilPartition", partition(&self.until).as_deref())
            .int64("Estimate", whole(self.estimate))
            .string("Copy", self.copy.as_str())
            .maybe("LastPartition", last_partition)
            .maybe("LastRow", last_row)
            .maybe("LastError", error.as_deref())
            .maybe("Began", at(self.began).as_deref())
            .maybe("Copied", at(self.copied).as_deref())
            .maybe("Verified", at(self.verified).as_deref())
            .string("At", &now.to_string());
        for (name, count) in Counts::NAMES.iter().zip(self.counts.clone().all()) {
            body = body.int64(name, whole(*count));
        }
        body.finish()
    }

    pub fn decode(body: &RowBody) -> Option<Self> {
        let partition = |name| body.string(name).map(PartitionKey::new);
        let after = body.string("LastPartition").zip(body.string("LastRow"));
        let mut counts = Counts::default();
        for (name, count) in Counts::NAMES.iter().zip(counts.all()) {
            *count = number(body, name)?;
        }
        Some(Self {
            table: TableName::new(&body.string("Table")?).ok()?,
            number: number(body, "Number")?,
            from: partition("FirstPartition"),
            until: partition("UntilPartition"),
            estimate: number(body, "Estimate")?,
            copy: Copied::parse(&body.string("Copy")?)?,
            after: after.map(|(partition, row)| (PartitionKey::new(partition), RowKey::new(row))),
            counts,
            last_error: body.string("LastError"),
            began: time(body, "Began")?,
            copied: time(body, "Copied")?,
            verified: time(body, "Verified")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head {
        let region = |name| Region::new(name).unwrap();
        Head {
            table: TableName::new("Orders").unwrap(),
            from: region("west"),
            to: region("north"),
            paused: true,
            done: false,
            owner: Some(("ada".to_owned(), Time::from_unix_seconds(30))),
            noted: false,
            ranges: Some(7),
            stamp: true,
            began: Time::from_unix_seconds(10),
            ended: None,
            rate: 1_200,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let head = head();
        assert_eq!(Head::decode(&head.encode()), Some(head.clone()));
        assert_eq!(head.encode().row().as_str(), "head:west:north:orders");
        let bare = Head { owner: None, ranges: None, ended: Some(Time::EPOCH), ..head.clone() };
        assert_eq!(Head::decode(&bare.encode()), Some(bare));
        let counts =
            Counts { rows: 1, bytes: 2, written: 3, stamped: 4, quarantined: 5, mended: 6, ..Counts::default() };
        let range = Range {
            table: head.table.clone(),
            number: 3,
            from: Some("".into()),
            until: Some("p'q".into()),
            estimate: 9,
            copy: Copied::Copying,
            after: Some(("p".into(), "".into())),
            counts: Counts { waiting: 7, extra: 8, errors: 9, ..counts },
            last_error: Some("é".repeat(MAX_ERROR_CHARS)),
            began: Some(Time::from_unix_seconds(11)),
            copied: None,
            verified: None,
        };
        let encoded = range.encode(&head, Time::EPOCH);
        assert_eq!(Range::decode(&encoded), Some(range.clone()));
        assert_eq!(encoded.row().as_str(), "range:west:north:orders:0003");
        let first = Range { from: None, until: None, after: None, began: None, last_error: None, ..range };
        assert_eq!(Range::decode(&first.encode(&head, Time::EPOCH)), Some(first));
    }

    #[test]
    fn the_lists_are_closed_and_a_hold_that_has_run_out_is_none() {
        crate::model::assert_well_formed::<Copied>();
        crate::model::assert_well_formed::<BackfillState>();
        let state = |head: Head| head.state(Time::from_unix_seconds(20));
        assert_eq!(state(head()), BackfillState::Running, "asked to pause, and at work until it has heard");
        assert_eq!(state(Head { owner: None, ..head() }), BackfillState::Paused);
        let gone = Some(("ada".to_owned(), Time::from_unix_seconds(20)));
        assert_eq!(state(Head { owner: gone, paused: false, ..head() }), BackfillState::Interrupted);
        assert_eq!(state(Head { done: true, ..head() }), BackfillState::Done);
    }
}
