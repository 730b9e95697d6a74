//! Regions compared: by the scrubbers of daemons while everything goes wrong, and at the end by hand, once somebody has meddled with
//! their rows behind everybody's back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tablerelay::model::{Region, RowBody, RowId, Time, Version, WriterId};
use tablerelay::ops::{Ledger, Passes, Repair, Scrubber, Verify};
use tablerelay::stores::{Condition, Operation, RegionStore, Tables};
use tablerelay::topology::{LateWrites, TableFilter};
use tokio_util::sync::CancellationToken;

use crate::chronicle::{Stood, stood};
use crate::daemons::Fleet;
use crate::oracle::Broken;
use crate::world::World;

/// Rows that are meddled with at most.
const MEDDLED: usize = 3;

/// A pass of somebody over a pair.
fn pass(world: &World, regions: Vec<RegionStore>, from: &Region, to: &Region) -> Verify {
    Verify {
        resume: true,
        stretch_rows: 3,
        ledger: Ledger::Scrubber,
        ..Verify::of(
            regions,
            (from, to),
            TableFilter::Every,
            world.roles(),
            world.settings.clone(),
            world.runtime.clone(),
        )
    }
}

/// The scrubber of a daemon, where daemons have one.
pub fn scrubber(world: &World, who: &str, region: usize) -> Option<Scrubber> {
    let every = world.shape.scrubs?;
    let (who, name) = (format!("{who}'s scrubber"), world.places[region].name.clone());
    let regions = (0..world.places.len()).map(|to| world.lines(&who, region, to, true)).collect();
    Some(Scrubber { pass: pass(world, regions, &name, &name), region: name, every, passes: Arc::<Passes>::default() })
}

/// A scrubber that finds something has found something: nothing is lost here, only on its way, or named where it waits.
pub fn no_scrubber_cries_wolf(fleet: &Fleet) -> Result<(), Broken> {
    for daemon in &fleet.daemons {
        if let Some(pass) = daemon.passes.iter().flat_map(|passes| passes.all()).find(|pass| pass.different() > 0) {
            let text = format!("{}: {pass:?}", daemon.who);
            return Err(Broken::new("a scrubber tells of nothing that is not so", None, text));
        }
    }
    Ok(())
}

/// Somebody takes rows out of a region, or puts old ones back, and announces nothing. Whoever repairs that makes all as it was, and
/// brings nothing back that was deleted.
pub async fn what_is_meddled_with_is_repaired(world: &World) -> Result<(), Broken> {
    // With the journal, what another region than the writer has is late, and the writer's row is lifted above it, whatever it says.
    if world.shape.scrubs.is_none() || world.shape.late_writes == LateWrites::Journal {
        return Ok(());
    }
    let before = standing(world, 0);
    let meddled = meddle(world, world.dice.below(world.places.len()), &before);
    if meddled.is_empty() {
        return Ok(());
    }
    // What was stored a moment ago may be on its way.
    tokio::time::sleep(world.shape.window * 2 + Duration::from_secs(12)).await;
    let names: Vec<_> = world.places.iter().map(|place| place.name.clone()).collect();
    let (from, mut found) = (world.dice.below(names.len()), 0);
    for to in names.iter().filter(|to| **to != names[from]) {
        let regions = (0..names.len()).map(|region| world.lines("mender", from, region, true)).collect();
        let verify = Verify {
            repair: Repair::Yes,
            ledger: Ledger::Command,
            resume: false,
            ..pass(world, regions, &names[from], to)
        };
        let verified = verify.run(&CancellationToken::new(), &mut |_| {}).await;
        match verified {
            Ok(verified) if verified.is_equal() => found += verified.different(),
            other => {
                let text = format!("{} and {to}: {other:?}", names[from]);
                return Err(Broken::new("what differs can be repaired", meddled.keys().next(), text));
            }
        }
    }
    // Once in the region that was meddled with, or in each of the others that a pass from there compares with.
    if found < meddled.len() as u64 {
        let text = format!("{found} differences found, and these were made: {meddled:?}");
        return Err(Broken::new("what differs is found", meddled.keys().next(), text));
    }
    for (region, name) in names.iter().enumerate() {
        let after = standing(world, region);
        let other = before.keys().chain(after.keys()).find(|id| before.get(id) != after.get(id));
        if let Some(id) = other {
            let text = format!("{name} has {:?}, and had {:?}; {meddled:?}", after.get(id), before.get(id));
            return Err(Broken::new("what is repaired is as it was", Some(id), text));
        }
    }
    Ok(())
}

fn standing(world: &World, region: usize) -> BTreeMap<RowId, Stood> {
    let name = &world.places[region].name;
    world.rows(region).into_iter().map(|(id, row)| (id, stood(&row, name))).collect()
}

/// What was done to which row. What a region itself issued last is only taken out, and only where it has no tombstone: of its own versions its
/// store decides (R10), so that an older one that stands there, or the tombstone, is taken for the later one. And nothing below a newer
/// tombstone, which a refused delete may have left: to take that out is to delete it.
fn meddle(world: &World, region: usize, before: &BTreeMap<RowId, Stood>) -> BTreeMap<RowId, &'static str> {
    let place = &world.places[region];
    let (standing, deleted) = {
        let book = world.chronicle.book();
        let foreign = |version: &str| book.issuer(version) != Some(region);
        // Where nobody knows any more that it was deleted, what is put back past the protocol is as good as new.
        let kept = world.shape.collects.is_none();
        let dead = book
            .tombs
            .iter()
            .filter(|((at, id), tomb)| kept && *at == region && !before.contains_key(id) && foreign(tomb));
        let decided = |id: &RowId, stood: &Stood| {
            let tomb = book.tombs.get(&(region, id.clone()));
            tomb.is_some_and(|tomb| !foreign(&stood.version) || *tomb >= stood.version)
        };
        let alive = before
            .iter()
            .filter(|(id, stood)| !decided(id, stood))
            .map(|(id, stood)| (id.clone(), foreign(&stood.version)));
        (alive.collect::<Vec<_>>(), dead.map(|((_, id), _)| (id.clone(), true)).collect::<Vec<_>>())
    };
    let mut meddled = BTreeMap::new();
    for _ in 0..MEDDLED {
        let dead = world.dice.chance(400);
        let all = if dead { &deleted } else { &standing };
        let Some((id, foreign)) =
            all.get(world.dice.below(all.len().max(1))).filter(|(id, _)| !meddled.contains_key(id))
        else {
            continue;
        };
        let (partition, row) = (id.partition.clone(), id.row.clone());
        // Of long ago: below everything that was ever written here.
        let old = Version::new(Time::from_unix_seconds(1_600_000_000), &place.name, WriterId(1));
        let old = RowBody::builder(&partition, &row).string("Value", "of old").finish().stamped(&old);
        let (what, operation) = match (dead, *foreign && world.dice.chance(500)) {
            (true, _) => ("an old row put back", Operation::Insert(old)),
            (false, true) => ("an old row put over it", Operation::InsertOrReplace(old)),
            (false, false) => ("taken out", Operation::Delete { partition, row, condition: Condition::Present }),
        };
        let home = world.lines("meddler", region, region, false).holding(&id.table, &id.partition).account().clone();
        let account = place.accounts.iter().find(|account| *account.account() == home);
        // Without faults the store answers at once.
        let done = account.and_then(|account| account.write(&id.table, &operation).now_or_never());
        assert!(matches!(done, Some(Ok(_))), "{id}: {done:?}");
        meddled.insert(id.clone(), what);
    }
    meddled
}
