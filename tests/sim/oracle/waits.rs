//! Who waits until a region has everything up to a version has it when the waiting ends.

use std::time::Duration;

use futures::FutureExt;
use tablerelay::model::{SystemTable, Version};
use tablerelay::ops::{Wait, Waited};
use tokio::task::JoinHandle;

use super::{Broken, names, settled_version};
use crate::chronicle::Touch;
use crate::dice::Dice;
use crate::world::World;

/// How many in a thousand steps somebody begins to wait.
const BEGINS: usize = 150;
/// Most that wait at a time.
const MOST: usize = 4;
const WITHIN: Duration = Duration::from_secs(30);

/// Somebody who waits in a region for what was written in another.
struct Waiter {
    from: usize,
    to: usize,
    version: Version,
    waiting: JoinHandle<Waited>,
}

/// All who wait. They have dice of their own.
#[derive(Default)]
pub struct Waits {
    dice: Option<Dice>,
    waiters: Vec<Waiter>,
}

impl Waits {
    /// After every step.
    pub fn step(&mut self, world: &World) -> Result<(), Broken> {
        if world.shape.limit.is_none() {
            return Ok(());
        }
        for waiter in self.waiters.extract_if(.., |waiter| waiter.waiting.is_finished()) {
            let waited = waiter.waiting.now_or_never().and_then(Result::ok);
            if waited.is_some_and(|waited| waited.reached) {
                it_is_there(world, waiter.from, waiter.to, &waiter.version)?;
            }
        }
        let dice = self.dice.get_or_insert_with(|| Dice::seeded(world.shape.steps as u64));
        let (from, to) = (dice.below(world.places.len()), dice.below(world.places.len()));
        let begins = dice.chance(BEGINS) && self.waiters.len() < MOST && from != to;
        self.waiters.extend(begins.then(|| begin(world, from, to)).flatten());
        Ok(())
    }
}

/// Somebody waits for the last write of a region's writers, where there is one.
fn begin(world: &World, from: usize, to: usize) -> Option<Waiter> {
    let version = {
        let book = world.chronicle.book();
        let events = book.rows.values().flatten().filter(|event| event.region == from && event.by_writer());
        let written = events.filter_map(|event| match &event.touch {
            Touch::Put(stood) => Version::parse(&stood.version).ok(),
            _ => None,
        });
        written.max()?
    };
    let wait = Wait {
        version: version.clone(),
        region: world.lines("waiter", to, to, false),
        row: None,
        source: Some(world.lines("waiter", to, from, false)),
        within: WITHIN,
        runtime: world.runtime.clone(),
    };
    #[expect(clippy::disallowed_methods, reason = "whoever waits does so beside everything else")]
    let waiting = tokio::spawn(async move { wait.run().await });
    Some(Waiter { from, to, version, waiting })
}

/// Everything that was announced in a region before the time of a version stands in another, or something newer.
fn it_is_there(world: &World, from: usize, to: usize, version: &Version) -> Result<(), Broken> {
    let quarantine = world.system(from, SystemTable::Quarantine);
    let book = world.chronicle.book();
    for id in book.rows.keys() {
        let Some(written) = settled_version(&book, from, id, version.time()) else { continue };
        let highest = book.highest.get(&(to, id.clone())).map_or("", String::as_str);
        if highest < written && !names(&quarantine, id) {
            let (from, to) = (&world.places[from].name, &world.places[to].name);
            let text = format!(
                "{to} was said to have everything of {from} up to {version}; {written} is missing: {highest:?}"
            );
            return Err(Broken::new("what was waited for is there", Some(id), text));
        }
    }
    Ok(())
}
