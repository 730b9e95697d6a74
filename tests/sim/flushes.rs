//! Caches that were emptied: which may lack rows at the end, and which somebody must have told of.

use std::collections::BTreeSet;

use tablerelay::model::{Row, SystemTable};

use crate::daemons::Fleet;
use crate::oracle::Broken;
use crate::world::World;

/// Keys of this beginning are a cache's markers, by which its daemons notice that it was emptied.
const MARKER: &str = "relaycontrol:";
/// So many markers there are, and a few of them may be missing without a word: a cache makes room.
const MARKERS: usize = 5;

/// What befell the cache of each region.
pub struct Flushes(Vec<Fate>);

#[derive(Clone, Copy, Default)]
struct Fate {
    /// It was emptied since somebody asked last.
    fresh: bool,
    emptied: bool,
    /// It was emptied while it held markers.
    marked: bool,
    /// It was emptied before it did, or nobody fills it: it may lack rows for good.
    lacks: bool,
}

impl Flushes {
    pub fn new(world: &World) -> Self {
        let mut all = vec![Fate::default(); world.places.len()];
        // What nobody fills is as empty as if it had been flushed.
        all[0].lacks = !world.shape.cached;
        Self(all)
    }

    pub fn flush(&mut self, world: &World, fleet: &Fleet, region: usize) {
        let (cache, fate) = (&world.places[region].cache, &mut self.0[region]);
        let held = cache.snapshot();
        let markers = || held.iter().filter(|(key, _)| is_marker(key)).map(|(_, held)| &held.version);
        // Of two daemons that begin with a new cache one may have asked what was known of it before the other marked it, and
        // finds it as empty as it must be. By the second round, when one marker is younger, both have looked.
        let looked = fleet.of(region) == 1 || markers().collect::<BTreeSet<_>>().len() > 1;
        let marked = looked && markers().count() == MARKERS;
        // One that was cut off while its first markers were written may not know of them.
        let known = |row: &Row| row.body.partition().as_str() == "cache" && row.body.string("Marked").is_some();
        let marked = marked && world.system(region, SystemTable::Control).iter().any(known);
        (fate.fresh, fate.emptied) = (true, true);
        fate.marked |= marked;
        fate.lacks |= !world.shape.warms || !marked;
        cache.flush();
    }

    /// The regions whose cache was emptied since this was asked last.
    pub fn fresh(&mut self) -> impl Iterator<Item = usize> {
        let taken = self.0.iter_mut().enumerate().map(|(region, fate)| (region, std::mem::take(&mut fate.fresh)));
        taken.filter(|(_, fresh)| *fresh).map(|(region, _)| region)
    }

    /// Whether a region's cache may lack a row. Warming leaves out what stands there without a version: nobody would refresh it.
    pub fn may_lack(&self, region: usize, is_versioned: bool) -> bool {
        self.0[region].lacks || (self.0[region].emptied && !is_versioned)
    }

    /// Whoever watches a cache that was emptied says so.
    pub fn are_told(&self, world: &World, fleet: &Fleet) -> Result<(), Broken> {
        for (region, _) in self.0.iter().enumerate().filter(|(_, fate)| fate.marked) {
            let mut caches = fleet.daemons.iter().filter(|daemon| daemon.region == region);
            if !caches.any(|daemon| daemon.board.snapshot().cache.is_some_and(|cache| cache.lost.is_some())) {
                let text = format!("the cache of {} was emptied, and no daemon says so", world.places[region].name);
                return Err(Broken::new("a cache that was emptied is told of", None, text));
            }
        }
        Ok(())
    }
}

pub fn is_marker(key: &str) -> bool {
    key.starts_with(MARKER)
}
