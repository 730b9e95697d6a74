//! One history: a world, its writers and daemons, trouble, peace, and the judgement.

use std::time::Duration;

use tablerelay::feed::{Entry, decode_hint};
use tablerelay::model::{Row, RowId, SystemTable};
use tablerelay::planted::{Bug, plant};

use crate::chronicle::Chronicle;
use crate::collects::leave_traces;
use crate::crowd::Crowd;
use crate::daemons::Fleet;
use crate::flushes::Flushes;
use crate::kinds::{Counts, Kind};
use crate::movers::Movers;
use crate::moves::Moves;
use crate::oracle::{Broken, Watch, are_settled, end, late_writes, shards_are_shared};
use crate::rebalances::Rebalances;
use crate::scrubs::what_is_meddled_with_is_repaired;
use crate::troubles;
use crate::world::World;

/// How long everything may take to be in place once faults have stopped: the last version from the future, its release
/// from quarantine, and a few windows.
fn patience(world: &World) -> Duration {
    let moving = if world.shape.rebalances.is_some() {
        Duration::from_secs(60) + world.shape.window * 12
    } else {
        Duration::ZERO
    };
    Duration::from_secs(90) + world.shape.window * 8 + moving
}

/// How long the daemons of a region may take to share its shards once faults have stopped. An account that asked for a wait is
/// not asked before.
fn sharing(world: &World) -> Duration {
    let asked = if world.shape.may(Kind::AccountStormAfter) { Duration::from_secs(20) } else { Duration::ZERO };
    Duration::from_secs(5) + world.shape.lease * 3 + asked
}

/// Seconds that nothing must be left to do: longer than a daemon's longest pause after a failure, so that a cache that was
/// cut off has been refreshed from what came in.
const QUIET: u32 = 13;

/// How a history ended.
pub struct Ended {
    pub seed: u64,
    pub broken: Option<Broken>,
    pub chronicle: Chronicle,
    pub lasted: Duration,
    pub changes: u64,
    /// From the end of the faults until nothing was left to do.
    pub converged: Duration,
    pub shape: String,
}

impl Ended {
    pub fn counts(&self) -> Counts {
        self.chronicle.book().counts.clone()
    }
}

/// Runs the history of a seed in this thread, with a bug planted or without.
pub fn run(seed: u64, bug: Option<Bug>) -> Ended {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    // A runtime without I/O needs nothing that could be missing.
    let runtime = runtime.expect("a runtime of one thread");
    plant(bug);
    let ended = runtime.block_on(live(seed));
    drop(runtime);
    plant(None);
    ended
}

async fn live(seed: u64) -> Ended {
    let world = World::new(seed).await;
    leave_traces(&world);
    let mut movers = Movers::new(&world).await;
    let mut fleet = Fleet::default();
    for region in 0..world.places.len() {
        fleet.start(&world, region);
        if world.dice.chance(world.shape.pairs) {
            world.chronicle.count(Kind::TwoDaemons);
            fleet.start(&world, region);
        }
    }
    troubles::stage(&world, &mut fleet);
    let mut crowd = Crowd::new(&world);
    let mut flushes = Flushes::new(&world);
    let mut watch = Watch::default();
    let mut moves = Moves::new(&world);
    let mut rebalances = Rebalances::new(&world);
    let mut broken =
        trouble(&world, &mut fleet, &mut crowd, &mut flushes, (&mut moves, &mut movers, &mut rebalances), &mut watch)
            .await
            .err();
    let mut converged = Duration::ZERO;
    if broken.is_none() {
        match peace(&world, &mut fleet, &mut crowd, &flushes, (&mut moves, &mut movers, &mut rebalances), &mut watch)
            .await
        {
            Ok(took) => converged = took,
            Err(why) => broken = Some(why),
        }
    }
    if broken.is_none() {
        broken = end::check(&world, &crowd.told(), &flushes).err();
    }
    if broken.is_none() {
        broken = flushes.are_told(&world, &fleet).err();
    }
    if broken.is_none() {
        broken = are_settled(&world, &fleet).err();
    }
    if broken.is_none() {
        broken = what_is_meddled_with_is_repaired(&world).await.err();
    }
    let lasted = world.chronicle.elapsed();
    let mut book = world.chronicle.book();
    let changes = book.rows.values().flatten().filter(|event| event.by_writer()).count() as u64;
    note_disagreements(&mut book);
    drop(book);
    let shape = format!("{:?}", world.shape);
    Ended { seed, broken, chronicle: world.chronicle.clone(), lasted, changes, converged, shape }
}

async fn trouble(
    world: &World,
    fleet: &mut Fleet,
    crowd: &mut Crowd,
    flushes: &mut Flushes,
    (moves, movers, rebalances): (&mut Moves, &mut Movers, &mut Rebalances),
    watch: &mut Watch,
) -> Result<(), Broken> {
    for step in 0..world.shape.steps {
        if step == world.shape.steps / 2 {
            troubles::cache_goes_down(world);
        }
        crowd.act(world, fleet);
        crowd.drift();
        if world.dice.chance(world.shape.trouble) {
            troubles::brew(world, fleet, crowd, flushes, moves);
            flushes.fresh().for_each(|region| watch.flushed(region));
        }
        let pause = if world.dice.chance(30) { world.shape.window * 2 } else { world.shape.pause };
        tokio::time::sleep(world.dice.time(pause)).await;
        watch.step(world, fleet)?;
        moves.step(world, fleet, watch).await?;
        movers.step(world);
        rebalances.step(world);
    }
    Ok(())
}

/// The faults stop, the last writers end, and everything has its time. Returns how long it took.
async fn peace(
    world: &World,
    fleet: &mut Fleet,
    crowd: &mut Crowd,
    flushes: &Flushes,
    (moves, movers, rebalances): (&mut Moves, &mut Movers, &mut Rebalances),
    watch: &mut Watch,
) -> Result<Duration, Broken> {
    world.sky.clear();
    world.chronicle.note("the faults stop");
    moves.finish(world, fleet).await;
    crowd.finish(world).await;
    // Who stalls comes back by itself, and what it does then belongs to the faults.
    if let Some(until) = fleet.stalled_until.take() {
        tokio::time::sleep_until(until).await;
    }
    let since = world.runtime.instant();
    without_a_cache(world, fleet, watch).await?;
    world.sky.clear_all();
    movers.finish(world).await?;
    rebalances.finish(world).await?;
    let mut quiet = 0;
    loop {
        watch.step(world, fleet)?;
        let shared = since.elapsed() > sharing(world);
        if shared {
            shards_are_shared(world, fleet)?;
        }
        let left = all_left(world);
        // A version from the future comes out of quarantine later, so quiet has to last a while.
        let waiting = in_quarantine(world);
        quiet = if left.is_empty() && waiting.is_empty() { quiet + 1 } else { 0 };
        let took = since.elapsed();
        let caches = || end::caches_are_current(world, flushes) && flushes.are_told(world, fleet).is_ok();
        let told = || caches() && are_settled(world, fleet).is_ok();
        if quiet >= QUIET && shared && (told() || took > patience(world)) {
            return Ok(took);
        }
        if took > patience(world) {
            let text = format!("{left:?} left after {took:?} without faults, and in quarantine {waiting:?}");
            let entry = all_quarantined(world).find_map(|entry| Entry::decode(&entry).ok()?.row_id());
            let entry = entry.or_else(|| hinted(world));
            return Err(Broken::new("everything ends in time", entry.as_ref(), text));
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// What is in quarantine and can be read: its versions come out when their time has come, or are superseded.
fn in_quarantine(world: &World) -> Vec<String> {
    let entries = all_quarantined(world).map(|entry| entry.body.json().to_string());
    entries.filter(|entry| !entry.contains("broken") && !entry.contains("garbled")).collect()
}

fn all_quarantined(world: &World) -> impl Iterator<Item = Row> {
    (0..world.places.len()).flat_map(|region| world.system(region, SystemTable::Quarantine))
}

/// A row that a hint is left of.
fn hinted(world: &World) -> Option<RowId> {
    let mut hints = (0..world.places.len()).flat_map(|region| world.system(region, SystemTable::Backlog));
    hints.find_map(|row| Some(decode_hint(&row).ok()?.id))
}

fn all_left(world: &World) -> Vec<String> {
    (0..world.places.len()).flat_map(|region| world.left(region)).collect()
}

/// While a cache alone is down, everything comes to its end but for the hints of the cache, and every link gets past now.
async fn without_a_cache(world: &World, fleet: &mut Fleet, watch: &mut Watch) -> Result<(), Broken> {
    if world.shape.cache_down.is_none() {
        return Ok(());
    }
    let (since, began) = (world.runtime.now(), world.runtime.instant());
    loop {
        watch.step(world, fleet)?;
        let mut left = all_left(world);
        left.retain(|left| !left.starts_with("a hint for cache@"));
        let links = fleet.daemons.iter().flat_map(|daemon| daemon.board.snapshot().links);
        let behind: Vec<_> = links.filter(|link| link.last_sync.is_none_or(|last_sync| last_sync < since)).collect();
        if left.is_empty() && behind.is_empty() {
            return Ok(());
        }
        if began.elapsed() > patience(world) {
            let links: Vec<_> = behind.iter().map(|link| (&link.source, &link.destination, link.last_sync)).collect();
            let text =
                format!("after {:?} {left:?} are left, and links have not reached {since}: {links:?}", began.elapsed());
            return Err(Broken::new("a cache that is down holds up nothing else", None, text));
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Faults that nobody makes happen, but that the writers of a history run into.
fn note_disagreements(book: &mut crate::chronicle::Book) {
    use crate::chronicle::Touch;
    let (mut own, mut contended) = (0, 0);
    for events in book.rows.values() {
        let puts: Vec<_> = events.iter().filter(|event| event.by_writer()).collect();
        let regions: std::collections::BTreeSet<_> = puts.iter().map(|event| event.region).collect();
        contended += u64::from(regions.len() > 1);
        for region in regions {
            let versions = puts.iter().filter(|event| event.region == region).filter_map(|event| match &event.touch {
                Touch::Put(stood) => Some(&stood.version),
                _ => None,
            });
            let versions: Vec<_> = versions.collect();
            own += versions.windows(2).filter(|pair| pair[0] > pair[1]).count() as u64;
        }
    }
    let late = late_writes(book);
    for (kind, count) in [(Kind::OwnDisagreement, own), (Kind::Contention, contended), (Kind::LateWrite, late)] {
        if count > 0 {
            *book.counts.entry(kind).or_default() += count;
        }
    }
}
