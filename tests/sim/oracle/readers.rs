//! Readers: not all regions refuse them at once, and how fresh a region says it is, it is.

use std::time::Duration;

use tablerelay::model::SystemTable;
use tablerelay::topology::{Reading, Role};
use tokio::time::Instant;

use super::{Broken, names, settled_version};
use crate::chronicle::{Book, Touch};
use crate::daemons::Fleet;
use crate::world::World;

/// What was seen of those who let readers in.
#[derive(Default)]
pub struct Doors {
    all_refuse: Option<Instant>,
}

impl Doors {
    /// After every step. Somebody whom the others count on may die, or be cut off: that is found out within a few publications.
    pub fn step(&mut self, world: &World, fleet: &Fleet) -> Result<(), Broken> {
        let Some(limit) = world.shape.limit else { return Ok(()) };
        let patience = world.settings.publish_every * 8 + Duration::from_secs(2);
        let readings = || fleet.daemons.iter().filter_map(|daemon| Some((daemon, daemon.board.snapshot().reading?)));
        let decided = readings().any(|(_, status)| status.reading != Reading::Unknown);
        let serves = readings().any(|(_, status)| status.reading.serves());
        self.all_refuse = if decided && !serves { self.all_refuse.or(Some(Instant::now())) } else { None };
        if let Some(since) = self.all_refuse.filter(|since| since.elapsed() > patience) {
            let said: Vec<_> = readings().map(|(daemon, status)| (&daemon.who, status)).collect();
            let text = format!("for {:?} nobody lets readers in: {said:?}", since.elapsed());
            return Err(Broken::new("not all regions refuse their readers at once", None, text));
        }
        for (daemon, status) in readings().filter(|(_, status)| status.reading == Reading::Fresh) {
            if status.staleness > limit {
                let text = format!("{} says that it is fresh, {:?} behind", daemon.who, status.staleness);
                return Err(Broken::new("who is fresh is within the limit", None, text));
            }
        }
        freshness_is_true(world, fleet)
    }
}

/// What was announced and written in a writer's region before the time up to which a region says it is fresh stands there, or
/// something newer.
fn freshness_is_true(world: &World, fleet: &Fleet) -> Result<(), Broken> {
    // Read before the book is opened: an account that is read first takes in what was late, and tells of it.
    let quarantines: Vec<_> = (0..world.places.len()).map(|at| world.system(at, SystemTable::Quarantine)).collect();
    let book = world.chronicle.book();
    for daemon in &fleet.daemons {
        let Some(status) = daemon.board.snapshot().reading else { continue };
        let (to, roles) = (daemon.region, daemon.board.roles());
        // What a region had not sent when it lost its role is late, and no measure of anybody's freshness.
        let writes = |from: usize| roles.role_of(&world.places[from].name) == Role::Writer;
        for from in (0..world.places.len()).filter(|from| *from != to && writes(*from)) {
            for id in book.rows.keys() {
                let Some(version) = settled_version(&book, from, id, status.fresh_to) else { continue };
                let highest = book.highest.get(&(to, id.clone())).map_or("", String::as_str);
                let written = written(&book, from, id).is_some_and(|at| at < status.fresh_to);
                if written && highest < version && !names(&quarantines[from], id) {
                    let (name, time) = (&world.places[from].name, status.fresh_to);
                    let text = format!(
                        "{} says it is fresh to {time}; {version} of {name} is missing: {highest:?}",
                        daemon.who
                    );
                    return Err(Broken::new("how fresh a region says it is, it is", Some(id), text));
                }
            }
        }
    }
    Ok(())
}

/// When the last writer of a row in a region was through, by the region's storage.
fn written(book: &Book, region: usize, id: &tablerelay::model::RowId) -> Option<tablerelay::model::Time> {
    let by_writer = book.rows[id].iter().rev().filter(|event| event.region == region && event.by_writer());
    let mut last = by_writer.filter(|event| matches!(event.touch, Touch::Put(_) | Touch::Deleted(_)));
    last.next().map(|event| event.server)
}
