//! Putting things in quarantine, counting what lies there, and trying versions from the future again.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::removal::{removal, remove};
use super::single::change_of;
use crate::feed::{Entry, Malformed, Reason, Record, Source, decode_message, encode_relayed};
use crate::model::{AccountName, Change, ClosedList, Region, Row, RowBody, RowId, SystemTable, Time, Version};
use crate::resolve::Finding;
use crate::runtime::Runtime;
use crate::stores::{ErrorKind, Operation, Query, RegionStore, Scope, StoreError};
use crate::telemetry::{Event, metrics};

/// Most pages of quarantine that one sweep reads: 100,000 entries.
const SWEEP_PAGES: usize = 100;
/// What Azure calls a row that was small enough until it got its version.
const TOO_LARGE: [&str; 3] = ["EntityTooLarge", "TooManyProperties", "RequestBodyTooLarge"];

/// `RelayQuarantine` of a region.
#[derive(Debug)]
pub(super) struct Quarantine {
    pub store: RegionStore,
    pub runtime: Runtime,
}

impl Quarantine {
    /// A record that is malformed, or names what may not be applied, whole.
    pub async fn record(&self, account: &AccountName, row: &Row, why: &Malformed) -> Result<(), StoreError> {
        let mut entry = Entry::new(Source::Record, why, self.runtime.now(), row.body.json().to_string());
        entry.account = Some(account.clone());
        entry.table = row.body.string("Table");
        entry.partition = row.body.string("Partition");
        entry.version = row.body.string("Version");
        self.put(entry).await
    }

    /// A row of the backlog that is no hint, whole.
    pub async fn hint(
        &self,
        account: &AccountName,
        destination: &Region,
        row: &Row,
        why: &Malformed,
    ) -> Result<(), StoreError> {
        let mut entry = Entry::new(Source::Hint, why, self.runtime.now(), row.body.json().to_string());
        entry.account = Some(account.clone());
        entry.destination = Some(destination.clone());
        entry.table = row.body.string("Table");
        entry.partition = row.body.string("Partition");
        entry.version = row.body.string("Version");
        self.put(entry).await
    }

    /// A message of the queue, whole.
    pub async fn message(&self, account: &AccountName, text: &str, why: &Malformed) -> Result<(), StoreError> {
        let mut entry = Entry::new(Source::Message, why, self.runtime.now(), text);
        entry.account = Some(account.clone());
        if let Ok(change) = decode_message(text) {
            entry.table = Some(change.table.to_string());
            entry.partition = Some(change.partition.to_string());
            entry.version = Some(change.version.to_string());
        }
        self.put(entry).await
    }

    /// A row whose version is from the future; `held_by` where another region holds it.
    pub async fn future_row(&self, id: &RowId, version: &Version, held_by: Option<&Region>) -> Result<(), StoreError> {
        let place = held_by.map_or_else(|| "here".to_owned(), |region| format!("in {region}"));
        let why = Malformed::new(Reason::FutureVersion, format!("the row {id} stands {place} at version {version}"));
        self.put(self.of_row(id, version, false, &why)).await
    }

    /// A row that a destination refuses as it is.
    pub async fn refused_row(
        &self,
        id: &RowId,
        finding: &Finding,
        destination: &Region,
        error: &StoreError,
    ) -> Result<(), StoreError> {
        let Some(version) = finding.version() else { return Ok(()) };
        let reason = if TOO_LARGE.contains(&error.code.as_str()) { Reason::TooLarge } else { Reason::Refused };
        let why = Malformed::new(reason, format!("{destination} refuses the row {id}: {error}"));
        let mut entry = self.of_row(id, version, matches!(finding, Finding::Deleted(_)), &why);
        entry.destination = Some(destination.clone());
        self.put(entry).await
    }

    /// An entry for a row holds the record that would announce it again.
    fn of_row(&self, id: &RowId, version: &Version, delete: bool, why: &Malformed) -> Entry {
        let record = encode_relayed(&change_of(id, version, delete));
        let mut entry = Entry::new(Source::Row, why, self.runtime.now(), record.json().to_string());
        entry.table = Some(id.table.to_string());
        entry.partition = Some(id.partition.to_string());
        entry.version = Some(version.to_string());
        entry
    }

    async fn put(&self, entry: Entry) -> Result<(), StoreError> {
        let entry = entry.identified();
        match self.store.home().write(&SystemTable::Quarantine.name(), &Operation::Insert(entry.encode())).await {
            Ok(_) => {
                warn!(event = Event::RecordQuarantined.as_str(), region = %self.store.region(), id = entry.id,
                    reason = entry.reason.as_str(), detail = entry.detail, "put into quarantine");
                Ok(())
            }
            // There already: it was met again.
            Err(error) if error.kind == ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Counts what lies in quarantine, and announces again what is no longer from the future.
    pub async fn sweep(&self) -> Result<(), StoreError> {
        let home = self.store.home();
        let now = home.clock().at(Instant::now()).unwrap_or_else(|| self.runtime.now());
        let mut counts: BTreeMap<(Option<Region>, Reason), u64> =
            Reason::ALL.iter().map(|reason| ((None, *reason), 0)).collect();
        let mut query = Query::new(Scope::Table);
        for _ in 0..SWEEP_PAGES {
            let page = home.query(&SystemTable::Quarantine.name(), &query).await?;
            for row in &page.rows {
                let Ok(entry) = Entry::decode(row) else { continue };
                if entry.reason == Reason::FutureVersion && self.replay(&entry, row, now).await? {
                    continue;
                }
                *counts.entry((entry.destination.clone(), entry.reason)).or_default() += 1;
            }
            query.continuation = page.continuation;
            if query.continuation.is_none() {
                break;
            }
        }
        for ((destination, reason), rows) in counts {
            metrics::quarantined(destination.as_ref(), reason, rows);
        }
        Ok(())
    }

    /// R7: tried again when the clock has passed it. Says whether the entry is gone.
    async fn replay(&self, entry: &Entry, row: &Row, now: Time) -> Result<bool, StoreError> {
        let due = entry.version.as_deref().and_then(|text| Version::parse(text).ok()).is_some_and(|v| v.time() <= now);
        if !due || entry.cut > 0 {
            return Ok(false);
        }
        let again = match entry.source {
            Source::Message => self.send_again(entry).await?,
            Source::Record | Source::Row => self.announce_again(entry).await?,
            Source::Hint => false,
        };
        if !again {
            return Ok(false);
        }
        let table = SystemTable::Quarantine.name();
        remove(self.store.home().as_ref(), &table, row.body.partition(), &[removal(row)]).await?;
        info!(id = entry.id, "the clock has passed what lay in quarantine: it is tried again");
        Ok(true)
    }

    /// A message goes back into its queue, since there is more to it than a record.
    async fn send_again(&self, entry: &Entry) -> Result<bool, StoreError> {
        let account = entry.account.as_ref();
        let of = |account: &AccountName| self.store.accounts().iter().find(|own| own.tables.account() == account);
        let Some(queue) = account.and_then(of).and_then(|account| account.queue.as_ref()) else { return Ok(false) };
        queue.send(&entry.whole).await?;
        Ok(true)
    }

    async fn announce_again(&self, entry: &Entry) -> Result<bool, StoreError> {
        let Ok(record) = RowBody::parse(&entry.whole) else { return Ok(false) };
        let Some(place) = self.place_of(entry) else { return Ok(false) };
        match place.write(&SystemTable::Feed.name(), &Operation::Insert(record)).await {
            Err(error) if error.kind != ErrorKind::AlreadyExists => Err(error),
            _ => Ok(true),
        }
    }

    /// The account that an entry's record belongs to.
    fn place_of(&self, entry: &Entry) -> Option<&std::sync::Arc<dyn crate::stores::Tables>> {
        let table = crate::model::TableName::new(entry.table.as_deref()?).ok()?;
        let partition = crate::model::PartitionKey::new(entry.partition.as_deref()?);
        Some(self.store.holding(&table, &partition))
    }
}

/// Whether a record may be applied: its table is replicated, its version is not from the future.
pub(super) fn admissible(
    record: &Record,
    tables: &crate::topology::TableFilter,
    storage_now: Time,
    skew: Duration,
) -> Result<(), Malformed> {
    check(&record.change, tables, storage_now, skew)
}

/// As [`admissible`], for a change that came as a message.
pub(super) fn check(
    change: &Change,
    tables: &crate::topology::TableFilter,
    storage_now: Time,
    skew: Duration,
) -> Result<(), Malformed> {
    if !tables.matches(&change.table) {
        let detail = format!("the table {} is not among those that the configuration replicates", change.table);
        return Err(Malformed::new(Reason::UnknownTable, detail));
    }
    if crate::resolve::from_the_future(&change.version, storage_now, skew) {
        let ahead = change.version.time().since(storage_now);
        let detail = format!("version {} is {ahead:?} ahead of the storage clock ({storage_now})", change.version);
        return Err(Malformed::new(Reason::FutureVersion, detail));
    }
    Ok(())
}
