//! What happened, as nobody in the world can see it: every effect on every account, and a hash over all of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tablerelay::model::{PartitionKey, Region, Row, RowBody, RowId, RowKey, TableName, Time};
use tablerelay::runtime::Runtime;
use tablerelay::stores::memory::Effect;
use tablerelay::stores::{Condition, Operation};
use tablerelay::topology::{Mark, RolesRow};
use tokio::time::Instant;

use crate::kinds::{Counts, Kind};
use crate::whereabouts::{Passing, Whereabouts};
use crate::world::ACCOUNTS;

/// A row as it stood: its version, and what it says apart from that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stood {
    pub version: String,
    pub content: String,
}

/// What one effect was about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Touch {
    /// The row was written.
    Put(Stood),
    /// The row was deleted; the version is that of the delete, as far as it is known.
    Deleted(String),
    /// A delete found no row.
    NothingToDelete(String),
    /// A write was refused, with its code.
    Refused(String),
    /// The tombstone was raised.
    Tombstone(String),
    /// The tombstone was collected.
    Collected(String),
    /// A record was inserted.
    Announced { version: String, delete: bool },
    /// A record was deleted.
    Ended(String),
    /// The row or its tombstone passed from an account of its region to another: nothing happened to it.
    Moved(String),
}

/// One effect on one row.
#[derive(Debug, Clone)]
pub struct Event {
    pub at: Duration,
    /// The account's clock.
    pub server: Time,
    pub region: usize,
    /// The number of the account.
    pub account: usize,
    pub line: Arc<str>,
    pub touch: Touch,
    /// It stood in another account of its region before.
    pub moved: bool,
}

impl Event {
    pub fn by_writer(&self) -> bool {
        self.line.contains("writer")
    }

    /// Whether a daemon of the region did it whose account this is.
    pub fn by_own_daemon(&self) -> bool {
        let (who, at) = self.line.split_once('>').unwrap_or_default();
        who.split_once('.').is_some_and(|(region, name)| region == at && name.starts_with("daemon"))
    }

    /// Whether a row or a tombstone of this version is what it left.
    pub fn leaves(&self, version: &str) -> bool {
        match &self.touch {
            Touch::Put(put) => put.version == version,
            Touch::Deleted(deleted) | Touch::Tombstone(deleted) => deleted == version,
            _ => false,
        }
    }
}

/// A region's copy of the roles was written.
#[derive(Debug, Clone)]
pub struct Copy {
    pub at: Duration,
    pub region: usize,
    pub row: RolesRow,
}

/// Something that happened to no single row.
#[derive(Debug, Clone)]
pub struct Note {
    pub at: Duration,
    pub text: String,
}

#[derive(Default)]
pub struct Book {
    pub names: Vec<String>,
    pub rows: BTreeMap<RowId, Vec<Event>>,
    pub notes: Vec<Note>,
    /// The highest tombstone of each row that a region ever had.
    pub tombs: BTreeMap<(usize, RowId), String>,
    /// The same by account: rows may move from one to another.
    pub tombs_at: BTreeMap<(usize, usize, RowId), String>,
    /// Where rows are, in the region whose rows move.
    pub whereabouts: Option<Whereabouts>,
    /// Those of them that were collected.
    pub collected: BTreeSet<(usize, RowId)>,
    /// How old a tombstone is at least that goes, where any do.
    pub collects: Option<Duration>,
    /// When it was known that a region had been taken out.
    pub former: Option<Time>,
    /// What regions told of links and passes: Last Sync Times and beginnings, by partition and row.
    pub through: BTreeMap<String, Time>,
    pub window: Duration,
    /// The highest version that a region ever held of a row, as row or tombstone.
    pub highest: BTreeMap<(usize, RowId), String>,
    /// The versions of deletes that are told by queue, before they are done.
    pub queued_deletes: BTreeMap<(usize, RowId), String>,
    /// What every version of a row says.
    pub contents: BTreeMap<(RowId, String), BTreeSet<String>>,
    /// Rows that were announced, anywhere.
    pub announced: u64,
    pub violations: Vec<String>,
    /// What applied logs were told, where and when.
    pub tells: Vec<(usize, Duration, RowBody)>,
    pub counts: Counts,
    /// Every change of a region's copy of the roles.
    pub copies: Vec<Copy>,
    /// Planned failovers, and up to when they waited for what was announced, by the old writer's storage clock.
    pub planned: Vec<(Mark, Time)>,
    /// Where late writes go to the journal: how long after a failover was written somewhere one may still come there.
    pub journals: Option<Duration>,
    hash: u64,
    pub effects: u64,
    /// How far ahead of the account's clock a version may stand that a daemon writes.
    pub skew: Duration,
}

/// The chronicle of one history. Clones share it.
#[derive(Clone)]
pub struct Chronicle {
    book: Arc<Mutex<Book>>,
    start: Instant,
}

impl Chronicle {
    pub fn new(names: Vec<String>, runtime: &Runtime, skew: Duration) -> Self {
        let book = Book { names, hash: 0xcbf2_9ce4_8422_2325, skew, ..Book::default() };
        Self { book: Arc::new(Mutex::new(book)), start: runtime.instant() }
    }

    pub fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// A fault fired.
    pub fn count(&self, kind: Kind) {
        *self.book().counts.entry(kind).or_default() += 1;
    }

    /// A fault fired that is worth a line in every story.
    pub fn fault(&self, kind: Kind, text: &str) {
        self.count(kind);
        self.note(&format!("{}: {text}", kind.name()));
    }

    pub fn note(&self, text: &str) {
        let at = self.elapsed();
        let mut book = self.book();
        book.mix(at, text);
        book.notes.push(Note { at, text: text.to_owned() });
    }

    /// A part of the trace that is hashed and not kept.
    pub fn trace(&self, text: impl fmt::Display) {
        let at = self.elapsed();
        self.book().mix(at, text);
    }

    pub fn hash(&self) -> u64 {
        self.book().hash
    }

    /// An account was written, or refused to be.
    pub fn take(&self, (region, account): (usize, usize), name: &Region, effect: &Effect<'_>) {
        let at = self.elapsed();
        let mut book = self.book();
        book.effects += 1;
        if effect.after.is_err() && effect.index > 0 {
            *book.counts.entry(Kind::TornTransaction).or_default() += 1;
        }
        let key = format_args!(
            "{} {} {}/{} {}",
            effect.line,
            effect.table,
            effect.operation.partition(),
            effect.operation.row(),
            effect.after.map_or_else(
                |error| error.code.clone(),
                |row| row.map(|row| row.body.json().to_string()).unwrap_or_default()
            )
        );
        book.mix(at, key);
        // The time that the account itself says it was, where it says one.
        let server = effect.after.ok().flatten().map_or(effect.at, |row| row.timestamp);
        let line: Arc<str> = Arc::from(effect.line);
        let event = |touch| Event { at, server, region, account, line: line.clone(), touch, moved: false };
        let home =
            |it: &&mut Whereabouts| it.region == region && account == 0 && effect.table.as_str() == "RelayControl";
        if let (Some(whereabouts), Ok(Some(row))) = (book.whereabouts.as_mut().filter(home), effect.after) {
            whereabouts.hear(&row.body);
        }
        match effect.table.as_str() {
            "RelayFeed" => book.feed(effect, event),
            "RelayApplied" => {
                let told = effect.after.ok().flatten().map(|row| row.body.clone());
                book.tells.extend(told.map(|body| (region, at, body)));
            }
            "RelayControl" if *effect.operation.row() == RolesRow::current() => {
                let row = effect.after.ok().flatten().and_then(|row| RolesRow::decode(&row.body).ok());
                book.copies.extend(row.map(|row| Copy { at, region, row }));
            }
            "RelayControl" => {
                if let Ok(Some(row)) = effect.after {
                    book.take_control(&row.body);
                }
            }
            table if table.starts_with("Relay") => {}
            _ => book.row((region, account), name, effect, event),
        }
    }
}

impl Book {
    /// The region that issued a version.
    pub fn issuer(&self, version: &str) -> Option<usize> {
        let region = version.split_once('@')?.1.split_once('.')?.0;
        self.names.iter().position(|name| name == region)
    }

    fn mix(&mut self, at: Duration, text: impl fmt::Display) {
        struct Fnv<'a>(&'a mut u64);
        impl fmt::Write for Fnv<'_> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                for byte in text.bytes() {
                    *self.0 = (*self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
                }
                Ok(())
            }
        }
        use fmt::Write;
        let _ = writeln!(Fnv(&mut self.hash), "{} {text}", at.as_nanos());
    }

    fn row(
        &mut self,
        (region, account): (usize, usize),
        name: &Region,
        effect: &Effect<'_>,
        event: impl Fn(Touch) -> Event,
    ) {
        let operation = effect.operation;
        let id = RowId::new(effect.table.clone(), operation.partition().clone(), operation.row().clone());
        let deletes = matches!(operation, Operation::Delete { .. });
        let deleted = || {
            let queued = self.queued_deletes.get(&(region, id.clone()));
            let tomb = self.tombs_at.get(&(region, account, id.clone()));
            queued.max(tomb).cloned().unwrap_or_default()
        };
        let touch = match effect.after {
            Ok(Some(row)) => Touch::Put(stood(row, name)),
            Ok(None) => Touch::Deleted(deleted()),
            Err(error) if deletes && error.status == Some(404) => Touch::NothingToDelete(deleted()),
            Err(error) => {
                if deletes {
                    *self.counts.entry(Kind::RefusedDelete).or_default() += 1;
                }
                Touch::Refused(format!("{} {}", operation_name(operation), error.code))
            }
        };
        let mut event = event(touch);
        let before = effect.before.map(|row| stood(row, name));
        let passing = self.pass(&id, &mut event, before.as_ref());
        self.check_row(&id, name, (effect, before), &event, &passing);
        if let Touch::Put(stood) = &event.touch {
            self.check_late(&id, &event, &stood.version);
        }
        if let Touch::Put(stood) = &event.touch {
            self.raise_highest(region, &id, &stood.version);
            self.contents.entry((id.clone(), stood.version.clone())).or_default().insert(stood.content.clone());
        }
        self.tell(id, event, &passing);
    }

    /// What an effect is to a region whose rows move from account to account.
    fn pass(&mut self, id: &RowId, event: &mut Event, before: Option<&Stood>) -> Passing {
        let moves = |it: &&mut Whereabouts| it.region == event.region;
        let Some(whereabouts) = self.whereabouts.as_mut().filter(moves) else { return Passing::No };
        let passing = whereabouts.passing(id, event, before);
        event.moved = passing != Passing::No;
        let outlived = whereabouts.take(id, event, &passing);
        if outlived {
            *self.counts.entry(Kind::RoutesOutlived).or_default() += 1;
        }
        if passing == Passing::Lost {
            let what = format!(
                "{} deleted {before:?} {:?} in {}, and its place has nothing of it",
                event.line, event.touch, ACCOUNTS[event.account]
            );
            self.violate(id, what);
        }
        passing
    }

    /// Into the story of its row: as what it was to the region.
    fn tell(&mut self, id: RowId, mut event: Event, passing: &Passing) {
        if matches!(passing, Passing::Moved | Passing::Mirrored) {
            let what = match event.touch {
                Touch::Put(put) => format!("{} came to {}", put.version, ACCOUNTS[event.account]),
                Touch::Tombstone(version) => format!("the tombstone {version} came to {}", ACCOUNTS[event.account]),
                Touch::Collected(version) => format!("the tombstone {version} went from {}", ACCOUNTS[event.account]),
                _ => format!("it went from {}", ACCOUNTS[event.account]),
            };
            event.touch = Touch::Moved(what);
        }
        self.rows.entry(id).or_default().push(event);
    }

    fn feed(&mut self, effect: &Effect<'_>, event: impl Fn(Touch) -> Event) {
        let body = match (effect.after, effect.before) {
            (Ok(Some(row)), _) => &row.body,
            (Ok(None), Some(row)) => &row.body,
            _ => return,
        };
        let gone = matches!(effect.after, Ok(None));
        let text = |name| body.string(name).unwrap_or_default();
        let Ok(table) = TableName::new(&text("Table")) else { return };
        let partition = PartitionKey::from(text("Partition").as_str());
        let version = text("Version");
        let id = |row: &str| RowId::new(table.clone(), partition.clone(), RowKey::from(row));
        if body.row().as_str().starts_with("t:") {
            let id = id(&text("Row"));
            if let (true, Some(before)) = (gone, effect.before) {
                let mut event = event(Touch::Collected(version.clone()));
                let passing = self.pass(&id, &mut event, None);
                if matches!(passing, Passing::Moved | Passing::Lost) {
                    self.tombs_at.remove(&(event.region, event.account, id.clone()));
                } else {
                    self.check_collected(&id, &event, &version, before.timestamp);
                    self.collected.insert((event.region, id.clone()));
                }
                return self.tell(id, event, &passing);
            }
            let mut event = event(Touch::Tombstone(version.clone()));
            let passing = self.pass(&id, &mut event, None);
            self.check_tombstone(&id, &event);
            self.check_late(&id, &event, &version);
            self.raise_highest(event.region, &id, &version);
            let tomb = self.tombs_at.entry((event.region, event.account, id.clone())).or_default();
            *tomb = version.clone().max(std::mem::take(tomb));
            let tomb = self.tombs.entry((event.region, id.clone())).or_default();
            *tomb = version.max(std::mem::take(tomb));
            return self.tell(id, event, &passing);
        }
        for (property, delete) in [("Puts", false), ("Deletes", true)] {
            let rows: Vec<String> = serde_json::from_str(&text(property)).unwrap_or_default();
            for row in rows {
                let version = version.clone();
                self.announced += u64::from(!gone);
                let touch = if gone { Touch::Ended(version) } else { Touch::Announced { version, delete } };
                self.rows.entry(id(&row)).or_default().push(event(touch));
            }
        }
    }

    fn raise_highest(&mut self, region: usize, id: &RowId, version: &str) {
        let highest = self.highest.entry((region, id.clone())).or_default();
        if highest.as_str() < version {
            *highest = version.to_owned();
        }
    }

    pub fn violate(&mut self, id: &RowId, what: String) {
        self.violations.push(format!("{id}: {what}"));
    }
}

fn operation_name(operation: &Operation) -> &'static str {
    match operation {
        Operation::Insert(_) => "insert",
        Operation::InsertOrReplace(_) => "insert-or-replace",
        Operation::InsertOrMerge(_) => "insert-or-merge",
        Operation::Replace(_, Condition::Matches(_)) => "replace on its ETag",
        Operation::Replace(_, Condition::Present) => "replace",
        Operation::Merge(..) => "merge",
        Operation::Delete { condition: Condition::Matches(_), .. } => "delete on its ETag",
        Operation::Delete { .. } => "delete",
    }
}

/// A row as it stands, by an eye of our own.
pub fn stood(row: &Row, region: &Region) -> Stood {
    let version = row.body.string("RelayVersion").filter(|text| is_version(text));
    let version = version.unwrap_or_else(|| format!("{}@{region}.00000000", row.timestamp));
    Stood { version, content: content(&row.body) }
}

fn is_version(text: &str) -> bool {
    let parts = text.split_once('@').and_then(|(time, by)| Some((time, by.split_once('.')?)));
    parts.is_some_and(|(time, (_, writer))| time.len() == 28 && time.ends_with('Z') && writer.len() == 8)
}

/// What a row says apart from its version.
pub fn content(body: &RowBody) -> String {
    let all: BTreeMap<String, serde_json::Value> = serde_json::from_str(body.json()).unwrap_or_default();
    let own = all.into_iter().filter(|(name, _)| {
        !(name.starts_with("RelayVersion") || name.starts_with("Timestamp") || name.starts_with("odata."))
    });
    own.map(|(name, value)| format!("{name}={value} ")).collect()
}
