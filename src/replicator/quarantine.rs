//! Putting things in quarantine, counting what lies there, trying versions from the future again, and letting go of what
//! a later version has superseded.
//!
//! Whether it has is looked up at the destination by the sweep, and not told by the line: a request or two for each entry now
//! and then, and none for each change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::removal::{removal, remove};
use super::replay::announce_again;
use super::rows::read_row;
use super::tombstones::Tombstones;
use crate::feed::{Entry, Malformed, Reason, Record, Source, decode_message, encode_relayed};
use crate::model::{AccountName, Addressee, Change, ClosedList, Region, Row, RowId, SystemTable, Time, Version};
use crate::planted::{Bug, planted};
use crate::resolve::Finding;
use crate::runtime::Runtime;
use crate::stores::{ErrorKind, Operation, Query, RegionStore, Remedy, Scope, StoreError};
use crate::telemetry::{Event, Seldom, metrics};

/// Most pages of quarantine that one sweep reads: 100,000 entries.
const SWEEP_PAGES: usize = 100;
/// Most entries that one sweep looks up at their destinations; the next one goes on behind them.
const LOOK_UPS: usize = 500;
/// What Azure calls a row that was small enough until it got its version.
const TOO_LARGE: [&str; 3] = ["EntityTooLarge", "TooManyProperties", "RequestBodyTooLarge"];

/// `RelayQuarantine` of a region.
#[derive(Debug)]
pub(super) struct Quarantine {
    pub store: RegionStore,
    /// The other regions.
    pub others: Vec<RegionStore>,
    pub runtime: Runtime,
    /// What was told of lately.
    told: Mutex<BTreeMap<Reason, Seldom>>,
}

/// An entry that waits for a later version of its row.
struct Poison {
    entry: String,
    destination: Region,
    id: RowId,
    version: Version,
    row: Row,
}

impl Poison {
    fn of(entry: &Entry, row: &Row) -> Option<Self> {
        let refused = entry.source == Source::Row && matches!(entry.reason, Reason::TooLarge | Reason::Refused);
        let version = Version::parse(entry.version.as_deref()?).ok()?;
        let (destination, id) = (entry.destination.clone().filter(|_| refused)?, entry.row_id()?);
        Some(Self { entry: entry.id.clone(), destination, id, version, row: row.clone() })
    }
}

impl Quarantine {
    pub fn new(store: RegionStore, others: Vec<RegionStore>, runtime: Runtime) -> Self {
        Self { store, others, runtime, told: Mutex::default() }
    }

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
        addressee: &Addressee,
        row: &Row,
        why: &Malformed,
    ) -> Result<(), StoreError> {
        let mut entry = Entry::new(Source::Hint, why, self.runtime.now(), row.body.json().to_string());
        entry.account = Some(account.clone());
        if let Addressee::Region(destination) = addressee {
            entry.destination = Some(destination.clone());
        }
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
        entry.request = error.request_id.clone();
        self.put(entry).await
    }

    /// An entry for a row holds the record that would announce it again.
    fn of_row(&self, id: &RowId, version: &Version, delete: bool, why: &Malformed) -> Entry {
        let record = encode_relayed(&Change::of_row(id, version, delete));
        let mut entry = Entry::new(Source::Row, why, self.runtime.now(), record.json().to_string());
        entry.table = Some(id.table.to_string());
        entry.partition = Some(id.partition.to_string());
        entry.row = Some(id.row.to_string());
        entry.version = Some(version.to_string());
        entry
    }

    async fn put(&self, entry: Entry) -> Result<(), StoreError> {
        let entry = entry.identified();
        let (home, table) = (self.store.home(), SystemTable::Quarantine.name());
        match home.write(&table, &Operation::Insert(entry.encode())).await {
            Ok(_) => {
                self.tell(&entry);
                Ok(())
            }
            // There already: it was met again. The new ETag keeps whoever replays it just now from taking it out.
            Err(error) if error.kind == ErrorKind::AlreadyExists => {
                home.write(&table, &Operation::InsertOrReplace(entry.encode())).await.map(drop)
            }
            Err(error) => Err(error),
        }
    }

    /// Sweeps until it is stopped.
    pub async fn run(&self, every: Duration, stop: CancellationToken) {
        for round in 0.. {
            let round = async {
                if let Err(error) = self.sweep(round).await {
                    debug!(%error, "the quarantine could not be swept; trying again");
                }
                if let Err(error) = self.sweep_strays(round).await {
                    debug!(%error, "the feed could not be swept for strays; trying again");
                }
                tokio::time::sleep(every).await;
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = round => {}
            }
        }
    }

    /// A writer that is broken puts here whatever it writes: of each reason one line a minute, with how many there were since.
    fn tell(&self, entry: &Entry) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(more) = told.entry(entry.reason).or_default().admit() else { return };
        let event = match entry.reason {
            Reason::FutureVersion => Event::VersionFromFuture,
            _ => Event::RecordQuarantined,
        };
        warn!(event = event.as_str(), region = %self.store.region(), id = entry.id, reason = entry.reason.as_str(),
            detail = entry.detail, more, "put into quarantine");
    }

    /// Counts what lies in quarantine, announces again what is no longer from the future, and lets go of what a later version
    /// has superseded. `round` says how many sweeps there were before.
    pub async fn sweep(&self, round: usize) -> Result<(), StoreError> {
        let home = self.store.home();
        let now = home.clock().at(Instant::now()).unwrap_or_else(|| self.runtime.now());
        let mut counts: BTreeMap<(Option<Region>, Reason), u64> =
            Reason::ALL.iter().map(|reason| ((None, *reason), 0)).collect();
        let (mut query, mut poison) = (Query::new(Scope::Table), Vec::new());
        for _ in 0..SWEEP_PAGES {
            let page = home.query(&SystemTable::Quarantine.name(), &query).await?;
            for row in &page.rows {
                let Ok(entry) = Entry::decode(row) else { continue };
                if entry.reason == Reason::FutureVersion && self.replay(&entry, row, now).await? {
                    continue;
                }
                *counts.entry((entry.destination.clone(), entry.reason)).or_default() += 1;
                poison.extend(Poison::of(&entry, row).map(|poison| (entry.reason, poison)));
            }
            query.continuation = page.continuation;
            if query.continuation.is_none() {
                break;
            }
        }
        let turns = poison.len().div_ceil(LOOK_UPS).max(1);
        for (reason, poison) in
            self.superseded(poison.into_iter().skip((round % turns) * LOOK_UPS).take(LOOK_UPS)).await
        {
            remove(
                home.as_ref(),
                &SystemTable::Quarantine.name(),
                poison.row.body.partition(),
                &[removal(&poison.row)],
            )
            .await?;
            info!(id = poison.entry, destination = %poison.destination, "a later version of what lay in quarantine arrived");
            let count = counts.entry((Some(poison.destination), reason)).or_default();
            *count = count.saturating_sub(1);
        }
        for ((destination, reason), rows) in counts {
            metrics::quarantined(destination.as_ref(), reason, rows);
        }
        Ok(())
    }

    /// Those whose destination has the row, or its tombstone, at the version of the entry or above, or has what the region that
    /// wrote it holds by now. A destination that does not answer is not asked again in this sweep.
    async fn superseded(&self, poison: impl Iterator<Item = (Reason, Poison)>) -> Vec<(Reason, Poison)> {
        let (mut gone, mut silent) = (Vec::new(), BTreeSet::new());
        for (reason, poison) in poison {
            if silent.contains(&poison.destination) || planted(Bug::NeverSuperseded) {
                continue;
            }
            match self.stands_at(&poison).await {
                Ok(true) => gone.push((reason, poison)),
                // A key that cannot even be asked for cannot have arrived.
                Ok(false) => {}
                Err(error) if error.remedy() == Remedy::GiveUp => {}
                Err(error) => {
                    tracing::debug!(destination = %poison.destination, %error, "whether it arrived is not known yet");
                    silent.insert(poison.destination);
                }
            }
        }
        gone
    }

    async fn stands_at(&self, poison: &Poison) -> Result<bool, StoreError> {
        let of = |region: &Region| self.others.iter().chain([&self.store]).find(|store| store.region() == region);
        let Some(there) = of(&poison.destination) else { return Ok(false) };
        let Some(arrived) = stands(there, &poison.id).await? else { return Ok(false) };
        if arrived >= poison.version {
            return Ok(true);
        }
        // The clocks of one region's writers may differ: what its store put over the refused row may be of a lower version.
        match of(&poison.version.issued_in()).filter(|author| author.region() != there.region()) {
            Some(author) => Ok(stands(author, &poison.id).await? == Some(arrived)),
            None => Ok(false),
        }
    }

    /// R7: tried again when the clock has passed it. Says whether the entry is gone.
    async fn replay(&self, entry: &Entry, row: &Row, now: Time) -> Result<bool, StoreError> {
        let due = entry.version.as_deref().and_then(|text| Version::parse(text).ok()).is_some_and(|v| v.time() <= now);
        // What was found in an account that rows are copied to now would be taken for no copy.
        let due = due && self.store.published().is_none_or(|published| published.moving.is_none());
        if !due || !announce_again(&self.store, entry).await? {
            return Ok(false);
        }
        let table = SystemTable::Quarantine.name();
        remove(self.store.home().as_ref(), &table, row.body.partition(), &[removal(row)]).await?;
        info!(id = entry.id, "the clock has passed what lay in quarantine: it is tried again");
        Ok(true)
    }
}

/// The version of a row in a region, or of its tombstone where it is absent.
async fn stands(store: &RegionStore, id: &RowId) -> Result<Option<Version>, StoreError> {
    if let Some(row) = read_row(store, id).await? {
        return Ok(Some(row.version(store.region())));
    }
    Ok(Tombstones::new(store.clone(), 1).of_row(id).await?.and_then(|tomb| tomb.version))
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
