//! How far a verification is: a row for each table and pair of regions in `RelayControl` of the region that it starts from.
//!
//! A row is written when everything up to its last key has been judged, and mended where that was asked for. So whoever goes on
//! from there leaves nothing out, and does again what came behind it.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::report::VerifiedTable;
use super::rows::Key;
use crate::model::{ClosedList, PartitionKey, Region, RowBody, RowKey, SystemTable, TableName, Time};
use crate::ops::patient::{or_nothing, patiently};
use crate::stores::{ErrorKind, Operation, Query, RegionStore, StoreError};

/// Whose ledger it is. Each goes on where it was itself, and minds nobody else's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ledger {
    /// That of people at the command.
    Command,
    /// That of the scrubber in the daemons.
    Scrubber,
}

impl Ledger {
    /// The partition of `RelayControl` that holds its rows.
    fn partition(self) -> PartitionKey {
        PartitionKey::from(match self {
            Self::Command => "verify",
            Self::Scrubber => "scrub",
        })
    }
}

/// How far one table is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub from: Region,
    pub to: Region,
    /// When the pass began, by the storage clock of `from`: what tables of one pass have in common.
    pub pass: Time,
    /// Whether more than versions is compared.
    pub content: bool,
    /// Everything up to this key is judged; none before the first.
    pub after: Option<Key>,
    /// What was found up to it.
    pub found: VerifiedTable,
    /// When this was written, by the storage clock of `from`.
    pub at: Time,
    /// Whether the table is through.
    pub ended: bool,
}

fn row_key(from: &Region, to: &Region, table: &str) -> RowKey {
    RowKey::new(format!("{from}:{to}:{}", table.to_lowercase()))
}

impl Entry {
    fn encode(&self, ledger: Ledger) -> RowBody {
        let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let found = &self.found;
        let mut body = RowBody::builder(&ledger.partition(), &row_key(&self.from, &self.to, &found.table))
            .string("Table", &found.table)
            .string("From", self.from.as_str())
            .string("To", self.to.as_str())
            .string("Began", &self.pass.to_string())
            .string("Content", if self.content { "yes" } else { "no" })
            .int64("Rows", count(found.rows))
            .maybe("Kept", (found.kept > 0).then(|| found.kept.to_string()).as_deref())
            .string("Differences", &json(&found.differences))
            .string("Waiting", &json(&found.waiting))
            .int64("Mended", count(found.mended))
            .string("Misplaced", &json(&found.misplaced))
            .string("At", &self.at.to_string())
            .string("Ended", if self.ended { "yes" } else { "no" });
        if let Some((partition, row)) = &self.after {
            body = body.string("LastPartition", partition.as_str()).string("LastRow", row.as_str());
        }
        body.finish()
    }

    /// `None` where it cannot be read: then it is done again.
    fn decode(body: &RowBody) -> Option<Self> {
        let number = |name| body.string(name)?.parse().ok();
        let time = |name| Time::parse(&body.string(name)?).ok();
        let region = |name| Region::new(&body.string(name)?).ok();
        let misplaced: BTreeMap<String, u64> = counts(body, "Misplaced")?;
        let misplaced = misplaced.into_iter().map(|(name, rows)| Some((Region::new(&name).ok()?, rows)));
        let after = body.string("LastPartition").zip(body.string("LastRow"));
        Some(Self {
            from: region("From")?,
            to: region("To")?,
            pass: time("Began")?,
            content: body.string("Content")? == "yes",
            after: after.map(|(partition, row)| (PartitionKey::new(partition), RowKey::new(row))),
            found: VerifiedTable {
                table: TableName::new(&body.string("Table")?).ok()?.as_str().to_owned(),
                rows: number("Rows")?,
                kept: body.string("Kept").and_then(|text| text.parse().ok()).unwrap_or_default(),
                differences: of_list(counts(body, "Differences")?)?,
                waiting: of_list(counts(body, "Waiting")?)?,
                mended: number("Mended")?,
                misplaced: misplaced.collect::<Option<_>>()?,
            },
            at: time("At")?,
            ended: body.string("Ended")? == "yes",
        })
    }
}

pub(in crate::ops) fn json(counts: &impl Serialize) -> String {
    // Maps of words and numbers: nothing of that fails.
    serde_json::to_string(counts).unwrap_or_default()
}

pub(in crate::ops) fn counts<T: DeserializeOwned>(body: &RowBody, name: &str) -> Option<T> {
    serde_json::from_str(&body.string(name)?).ok()
}

pub(in crate::ops) fn of_list<L: ClosedList + Ord>(counts: BTreeMap<String, u64>) -> Option<BTreeMap<L, u64>> {
    counts.into_iter().map(|(word, count)| Some((L::parse(&word)?, count))).collect()
}

/// Writes how far it is.
///
/// # Errors
/// Where `RelayControl` cannot be written.
pub(super) async fn keep(ledger: Ledger, store: &RegionStore, entry: &Entry) -> Result<(), StoreError> {
    let (table, row) = (SystemTable::Control.name(), Operation::InsertOrReplace(entry.encode(ledger)));
    patiently(|| async {
        match store.home().write(&table, &row).await {
            // No daemon has run there yet.
            Err(error) if error.kind == ErrorKind::NoTable => {
                store.home().create_table(&table).await?;
                store.home().write(&table, &row).await.map(drop)
            }
            written => written.map(drop),
        }
    })
    .await
}

/// How far each table of a pair is, by what was written last.
///
/// # Errors
/// Where `RelayControl` cannot be read.
pub(super) async fn read(
    ledger: Ledger,
    store: &RegionStore,
    from: &Region,
    to: &Region,
) -> Result<Vec<Entry>, StoreError> {
    let mut query = Query::prefix(ledger.partition(), row_key(from, to, "").as_str());
    let mut entries = Vec::new();
    loop {
        let page = patiently(|| async { or_nothing(store.home().query(&SystemTable::Control.name(), &query).await) });
        let page = page.await?;
        entries.extend(page.rows.iter().filter_map(|row| Entry::decode(&row.body)));
        query.continuation = page.continuation;
        if query.continuation.is_none() {
            return Ok(entries);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Waits;
    use super::*;
    use crate::resolve::Difference;

    #[test]
    fn what_is_written_is_read() {
        let region = |name| Region::new(name).unwrap();
        let entry = Entry {
            from: region("west"),
            to: region("north"),
            pass: Time::from_unix_seconds(10),
            content: true,
            after: Some(("p".into(), "".into())),
            found: VerifiedTable {
                table: "Orders".to_owned(),
                rows: 7,
                kept: 7,
                differences: [(Difference::DeletedHere, 2)].into(),
                waiting: [(Waits::Hinted, 1)].into(),
                mended: 2,
                misplaced: [(region("north"), 3)].into(),
            },
            at: Time::from_unix_seconds(20),
            ended: false,
        };
        assert_eq!(Entry::decode(&entry.encode(Ledger::Command)), Some(entry.clone()));
        assert_eq!(entry.encode(Ledger::Command).row().as_str(), "west:north:orders");
        let first = Entry { after: None, ended: true, ..entry };
        assert_eq!(Entry::decode(&first.encode(Ledger::Scrubber)), Some(first));
    }
}
