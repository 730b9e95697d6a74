//! What must be true, told by code that shares no rule with the line.
//!
//! [`safety`] is checked as each effect is told and [`Watch`] after every step, faults or not; [`end`] once the faults
//! have stopped and everything had its time.

mod conflicts;
pub mod end;
mod graves;
mod readers;
mod restraint;
mod roles;
mod safety;
mod waits;

use std::collections::BTreeMap;
use std::sync::Arc;

use tablerelay::model::{Row, RowId, SystemTable};
use tablerelay::planted::leases_ignored;
use tablerelay::settle::LinkState;
use tokio::time::Instant;

use crate::chronicle::{Book, Event, Touch};
use crate::daemons::Fleet;
use crate::scrubs::no_scrubber_cries_wolf;
use crate::world::World;

pub use restraint::Restraint;
pub use roles::{Probed, are_settled, is_not_early, late_writes, survivors_are_equal};

/// What was seen at the last step.
#[derive(Default)]
pub struct Watch {
    /// Per region and key: the version that the cache held.
    cached: BTreeMap<(usize, String), String>,
    /// When each daemon first told of its links: one whose region cannot be reached when it starts has nothing to tell.
    told: BTreeMap<Arc<str>, Instant>,
    doors: readers::Doors,
    waits: waits::Waits,
}

/// A broken promise, and the row that it is about.
#[derive(Debug, Clone)]
pub struct Broken {
    pub what: &'static str,
    pub row: Option<RowId>,
    pub text: String,
}

impl Broken {
    pub fn new(what: &'static str, row: Option<&RowId>, text: impl Into<String>) -> Self {
        Self { what, row: row.cloned(), text: text.into() }
    }
}

impl Watch {
    /// After every step.
    pub fn step(&mut self, world: &World, fleet: &mut Fleet) -> Result<(), Broken> {
        if let Some(violation) = world.chronicle.book().violations.first() {
            return Err(Broken::new("a rule of every moment", None, violation.clone()));
        }
        if let Some(death) = fleet.deaths().first() {
            return Err(Broken::new("daemons live until they are asked to end", None, death.clone()));
        }
        self.caches_never_go_back(world)?;
        last_sync_times_are_true(world, fleet)?;
        self.silence_is_told(world, fleet)?;
        self.doors.step(world, fleet)?;
        self.waits.step(world)?;
        roles::one_writer_at_most(world, fleet)?;
        no_scrubber_cries_wolf(fleet)?;
        no_shard_has_two_carriers(fleet)?;
        backlogs_are_bounded(world)?;
        memory_is_bounded(world, fleet)
    }

    /// A cache was emptied: what it holds next may be anything that its region once held.
    pub fn flushed(&mut self, region: usize) {
        self.cached.retain(|(of, _), _| *of != region);
    }

    fn caches_never_go_back(&mut self, world: &World) -> Result<(), Broken> {
        let mut now = BTreeMap::new();
        for (region, place) in world.places.iter().enumerate() {
            for (key, held) in place.cache.snapshot() {
                let before = self.cached.get(&(region, key.clone()));
                if before.is_some_and(|before| *before > held.version) {
                    let text = format!("{key} in {} from {before:?} back to {}", place.name, held.version);
                    return Err(Broken::new("a cache never holds what is older than before", None, text));
                }
                now.insert((region, key), held.version);
            }
        }
        self.cached = now;
        Ok(())
    }

    /// A link to a region that no request reaches does not flow, whether anything waits for it or not.
    fn silence_is_told(&mut self, world: &World, fleet: &Fleet) -> Result<(), Broken> {
        // A beat that was sent before still comes back, the next one goes out, and its failure is told: the daemon's clock
        // and publications are never slower than that.
        let patience = world.settings.publish_every * 4;
        for daemon in &fleet.daemons {
            for link in daemon.board.snapshot().links {
                let since = *self.told.entry(daemon.who.clone()).or_insert_with(Instant::now);
                let Some(to) = world.places.iter().position(|place| place.name == link.destination) else { continue };
                let silent = world.sky.cut_for(&daemon.who, daemon.region, to).unwrap_or_default();
                if silent.min(since.elapsed()) > patience && link.state == LinkState::Flowing {
                    let (who, to) = (&daemon.who, link.destination);
                    let text = format!("{who} has not reached {to} for {silent:?}, and says it flows");
                    return Err(Broken::new("an unreachable region is told, idle or not", None, text));
                }
            }
        }
        Ok(())
    }
}

/// Everything announced in A before the Last Sync Time of A to B was at some time in B, or something newer.
fn last_sync_times_are_true(world: &World, fleet: &Fleet) -> Result<(), Broken> {
    // Read before the book is opened: an account that is read first takes in what was late, and tells of it.
    let quarantines: Vec<_> = (0..world.places.len()).map(|at| world.system(at, SystemTable::Quarantine)).collect();
    let book = world.chronicle.book();
    for daemon in &fleet.daemons {
        for link in daemon.board.snapshot().links {
            let Some(last_sync) = link.last_sync else { continue };
            let Some(to) = world.places.iter().position(|place| place.name == link.destination) else { continue };
            for id in book.rows.keys() {
                let Some(version) = settled_version(&book, daemon.region, id, last_sync) else { continue };
                let highest = book.highest.get(&(to, id.clone())).map_or("", String::as_str);
                if highest < version && !names(&quarantines[daemon.region], id) {
                    let text = format!("{} is past {version}, and {} has {highest:?}", last_sync, link.destination);
                    return Err(Broken::new("Last Sync Time is true", Some(id), text));
                }
            }
        }
    }
    Ok(())
}

/// Of the daemons of a region, one at most carries a shard with a lease; but where a stranger removed a row.
fn no_shard_has_two_carriers(fleet: &Fleet) -> Result<(), Broken> {
    if leases_ignored() {
        return Ok(());
    }
    let mut carriers = BTreeMap::new();
    let now = Instant::now();
    let known = |region| fleet.stolen.get(&region).is_none_or(|until| now > *until);
    for daemon in fleet.daemons.iter().filter(|daemon| known(daemon.region)) {
        for shard in daemon.board.snapshot().shards {
            if let Some(other) = carriers.insert((daemon.region, shard.clone()), &daemon.who) {
                let text = format!("{other} and {} carry {shard}", daemon.who);
                return Err(Broken::new("a shard has one carrier at most", None, text));
            }
        }
    }
    Ok(())
}

/// Once nothing goes wrong any more: every shard is carried, and as evenly as can be.
pub fn shards_are_shared(world: &World, fleet: &Fleet) -> Result<(), Broken> {
    if leases_ignored() {
        return Ok(());
    }
    for (region, place) in world.places.iter().enumerate() {
        let daemons = fleet.daemons.iter().filter(|daemon| daemon.region == region);
        let counts: Vec<usize> = daemons.map(|daemon| daemon.board.snapshot().shards.len()).collect();
        let (most, least) = (counts.iter().max(), counts.iter().min());
        let all = 16 * place.accounts.len();
        if counts.iter().sum::<usize>() != all || most > least.map(|least| least + 1).as_ref() {
            let text = format!("the daemons of {} carry {counts:?} of {all} shards", place.name);
            return Err(Broken::new("every shard is carried, and evenly", None, text));
        }
    }
    Ok(())
}

/// The version that a row's last writer in a region gave it, where that was announced there, at the latest, before `limit`.
fn settled_version<'a>(book: &'a Book, region: usize, id: &RowId, limit: tablerelay::model::Time) -> Option<&'a str> {
    // A delete that is told by queue afterwards is announced by nobody yet, whatever tombstone stands.
    if book.queued_deletes.contains_key(&(region, id.clone())) {
        return None;
    }
    let here = || book.rows[id].iter().filter(|event| event.region == region);
    let last = here().rev().find_map(|event| match &event.touch {
        Touch::Put(stood) if event.by_writer() => Some(stood.version.as_str()),
        Touch::Deleted(version) if event.by_writer() => Some(version.as_str()),
        _ => None,
    })?;
    // A refused delete leaves its tombstone, and whatever removes the row afterwards counts as that delete. Where its writer
    // has taken the announcement back, nobody answers for its time.
    let withdrawn =
        |event: &Event| event.by_writer() && matches!(&event.touch, Touch::Ended(version) if version == last);
    if here().any(withdrawn) {
        return None;
    }
    // What leaves quarantine is announced anew: its last announcement counts.
    let announced = here().rev().find(|event| match &event.touch {
        Touch::Announced { version, .. } => version == last,
        _ => false,
    });
    announced.is_some_and(|event| event.server < limit).then_some(last)
}

/// Whether a region's quarantine names the row.
fn names(quarantine: &[Row], id: &RowId) -> bool {
    let key = id.row.as_str();
    quarantine.iter().any(|entry| {
        let whole = entry.body.string("Whole1").or_else(|| entry.body.string("Whole")).unwrap_or_default();
        whole.contains(key) || entry.body.json().contains(key)
    })
}

/// What waits for a destination is one hint per distinct row, however often the row changes.
fn backlogs_are_bounded(world: &World) -> Result<(), Broken> {
    let rows = world.chronicle.book().rows.len();
    for (region, place) in world.places.iter().enumerate() {
        let mut waiting: BTreeMap<String, usize> = BTreeMap::new();
        for hint in world.system(region, tablerelay::model::SystemTable::Backlog) {
            let partition = hint.body.partition().as_str().to_owned();
            let (destination, _) = partition.split_once(':').unwrap_or((&partition, ""));
            *waiting.entry(destination.to_owned()).or_default() += 1;
        }
        if let Some((destination, hints)) = waiting.into_iter().find(|(_, hints)| *hints > rows) {
            let text = format!("{hints} hints of {} wait for {destination}, and there are {rows} rows", place.name);
            return Err(Broken::new("the backlog is bounded by the rows", None, text));
        }
    }
    Ok(())
}

/// Open records in memory stay within what is configured.
fn memory_is_bounded(world: &World, fleet: &Fleet) -> Result<(), Broken> {
    let most = 16 * world.settings.max_open_records;
    for daemon in &fleet.daemons {
        for (account, open) in daemon.board.snapshot().feed_records {
            if open > most {
                let text = format!("{} holds {open} records of {account}, at most {most} are allowed", daemon.who);
                return Err(Broken::new("memory is bounded", None, text));
            }
        }
    }
    Ok(())
}
