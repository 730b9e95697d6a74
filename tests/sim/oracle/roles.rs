//! Roles: what the copies of all regions say, who lets applications write, and what was written where nobody may.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tablerelay::feed::tells_of;
use tablerelay::model::{Region, RowId, SystemTable, Version};
use tablerelay::replicator::Roles;
use tablerelay::topology::{Assignment, MoveKind, Role, RolesRow, Topology, WriteHealth};
use tokio::time::Instant;

use super::{Broken, Watch};
use crate::chronicle::{Book, Chronicle, Event, Stood, Touch, stood};
use crate::daemons::Fleet;
use crate::sky::Sky;
use crate::world::World;

/// How long after a failover everything must have heard of it, and nothing decided before is under way.
pub fn fence(world: &World) -> Duration {
    world.shape.window / 2 + world.shape.quarter() + Duration::from_millis(1_500)
}

fn copy(world: &World, region: usize) -> Option<RolesRow> {
    let rows = world.system(region, SystemTable::Control);
    let row =
        rows.iter().find(|row| row.body.partition().as_str() == "roles" && row.body.row().as_str() == "current")?;
    RolesRow::decode(&row.body).ok()
}

/// Where one region alone may be written to, no two say that they are, once the fence time has passed in which nothing else
/// went wrong.
pub fn one_writer_at_most(world: &World, fleet: &Fleet) -> Result<(), Broken> {
    let patience = fence(world);
    if world.roles().topology() == Topology::MultiActive || world.sky.calm() < patience {
        return Ok(());
    }
    let last = world.chronicle.book().copies.last().map_or(Duration::ZERO, |copy| copy.at);
    let serving = fleet.serving();
    if serving.len() > 1 && world.chronicle.elapsed() > last + patience {
        let names: Vec<_> = serving.iter().map(|region| &world.places[*region].name).collect();
        return Err(Broken::new("one region at most is written to", None, format!("{names:?} all answer 200")));
    }
    Ok(())
}

/// Whether all regions have the same roles, nothing is under way, and exactly the writers say that they are.
pub fn are_settled(world: &World, fleet: &Fleet) -> Result<(), Broken> {
    let wrong = |text: String| Err(Broken::new("all regions have one assignment, and its writers serve", None, text));
    let copies: Vec<_> = (0..world.places.len()).map(|region| copy(world, region)).collect();
    let Some(Some(first)) = copies.first() else { return wrong("the first region has none".to_owned()) };
    if let Some(other) = copies.iter().position(|copy| copy.as_ref() != Some(first)) {
        return wrong(format!("{:?} and {:?} differ", first, copies[other]));
    }
    if first.moving.is_some() {
        return wrong(format!("a planned failover never ends: {first:?}"));
    }
    for daemon in &fleet.daemons {
        let writes = makes_writer(&first.assignment, world.places[daemon.region].name.as_str());
        let says = daemon.board.roles().writing(Instant::now());
        if daemon.serves() != writes || daemon.board.roles().present().mark != first.assignment.mark {
            return wrong(format!("{} says {says}, and the roles are {:?}", daemon.who, first.assignment.roles));
        }
    }
    Ok(())
}

/// Watches a daemon that has just started, closely: it lets nobody write before it has asked everybody whom it can reach, and one of
/// whom would have told it that its region is no writer.
pub async fn is_not_early(world: Probed, roles: Arc<Roles>) {
    let copies = |book: &Book| -> BTreeMap<usize, RolesRow> {
        let others = book.copies.iter().filter(|copy| copy.region != world.region);
        others.map(|copy| (copy.region, copy.row.clone())).collect()
    };
    let (began, mut told) = (Instant::now(), copies(&world.chronicle.book()));
    while !roles.is_confirmed() && began.elapsed() < Duration::from_secs(4) {
        told.retain(|to, _| !world.sky.is_hit(&world.who, world.region, *to));
        if roles.writing(Instant::now()) == WriteHealth::Serving {
            let own = world.name.as_str();
            let present = roles.present();
            let mut better = told.values().map(|row| &row.assignment).filter(|better| better.mark > present.mark);
            if better.any(|better| !makes_writer(better, own)) {
                let text = format!("{} lets applications write before it has asked who is a writer", world.who);
                return world.chronicle.book().violations.push(text);
            }
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A daemon that is watched from its start.
pub struct Probed {
    pub who: Arc<str>,
    pub region: usize,
    pub name: Region,
    pub sky: Arc<Sky>,
    pub chronicle: Chronicle,
}

impl Book {
    /// Where late writes have their place in the journal: what a region issued comes to no other for the first time when the
    /// copy there has said for the fence time that the region is no writer. Roles above that copy count as well, since whoever
    /// brings it may have heard of them.
    pub fn check_late(&mut self, id: &RowId, event: &Event, version: &str) {
        let Some(fence) = self.journals.filter(|_| !event.by_writer()) else { return };
        let Some(issuer) = self.issuer(version).filter(|issuer| *issuer != event.region) else { return };
        let known = |event: &Event| event.region != issuer && event.leaves(version);
        if self.rows.get(id).is_some_and(|events| events.iter().any(known)) {
            return;
        }
        let here: Vec<_> = self.copies.iter().filter(|copy| copy.region == event.region).collect();
        let Some(since) = here.iter().rposition(|copy| copy.at + fence <= event.at) else { return };
        let told = &here[since].row.assignment;
        let roles = self.copies.iter().map(|copy| &copy.row.assignment);
        let may = roles.filter(|roles| roles.mark >= told.mark).any(|roles| writes(self, issuer, roles));
        if !may {
            let text = format!(
                "{} brought {version} to {}, which had long heard that it is late",
                event.line, self.names[event.region]
            );
            self.violate(id, text);
        }
    }
}

/// How many rows applications wrote in regions that were none of the writers by then, as far as roles had been moved anywhere.
pub fn late_writes(book: &Book) -> u64 {
    let mut late = 0;
    for event in book.rows.values().flatten().filter(|event| event.by_writer()) {
        let Touch::Put(_) = &event.touch else { continue };
        late += u64::from(!may_write(book, event.region, event.at));
    }
    late
}

fn may_write(book: &Book, region: usize, at: Duration) -> bool {
    let by_then = book.copies.iter().filter(|copy| copy.at <= at).map(|copy| &copy.row.assignment);
    let highest = by_then.max_by(|a, b| a.mark.cmp(&b.mark));
    highest.is_none_or(|roles| writes(book, region, roles))
}

/// Whether the region was a writer by every copy that was in force anywhere in the fence time before: else somebody may have
/// gone by roles under which it was none.
fn may_write_by_all(world: &World, book: &Book, region: usize, at: Duration) -> bool {
    let since = at.saturating_sub(fence(world));
    (0..book.names.len()).all(|place| {
        let here: Vec<_> = book.copies.iter().filter(|copy| copy.region == place && copy.at <= at).collect();
        let first = here.iter().rposition(|copy| copy.at <= since).unwrap_or(0);
        here.iter().skip(first).all(|copy| writes(book, region, &copy.row.assignment))
    })
}

fn writes(book: &Book, region: usize, assignment: &Assignment) -> bool {
    makes_writer(assignment, &book.names[region])
}

fn makes_writer(assignment: &Assignment, region: &str) -> bool {
    assignment.roles.iter().any(|(name, role)| name.as_str() == region && *role == Role::Writer)
}

/// What a planned failover waited for is not late: nothing that was written before its region had stopped is in a journal. What had come
/// to the new writer's region was not left behind, and may have been written over there.
pub fn planned_ones_leave_nothing_behind(world: &World, book: &Book, id: &RowId, loser: &str) -> Result<(), Broken> {
    let Some(region) = book.issuer(loser) else { return Ok(()) };
    let Some(events) = book.rows.get(id) else { return Ok(()) };
    let by_writer = |event: &&Event| event.by_writer() && event.region == region && event.leaves(loser);
    let Some((written, server)) = events.iter().find(by_writer).map(|event| (event.at, event.server)) else {
        return Ok(());
    };
    if !may_write_by_all(world, book, region, written) {
        return Ok(());
    }
    // The next roles under which it was no writer.
    let taken = |roles: &Assignment| !writes(book, region, roles);
    let Some(lost) = book.copies.iter().find(|copy| copy.at > written && taken(&copy.row.assignment)) else {
        return Ok(());
    };
    let mark = &lost.row.assignment.mark;
    let waited = book.planned.iter().find(|(planned, _)| planned == mark);
    // A later forced one may have gone to a region that was lost itself, and lacks what everybody else had.
    let forced = |roles: &Assignment| roles.mark > *mark && roles.kind == MoveKind::Forced;
    let forced = book.copies.iter().any(|copy| forced(&copy.row.assignment));
    let waited = waited.filter(|_| lost.row.assignment.kind == MoveKind::Planned && !forced);
    let to = book.names.iter().position(|name| lost.row.assignment.to.as_ref().is_some_and(|to| to.as_str() == name));
    let came = events.iter().position(|event| Some(event.region) == to && event.leaves(loser) && event.at < lost.at);
    let written_over = |came| events[came..].iter().any(|event| Some(event.region) == to && event.by_writer());
    if came.is_some_and(written_over) {
        return Ok(());
    }
    if waited.is_some_and(|(_, until)| server < *until) {
        let text = format!("{loser} was written {written:?}, and the role moved {mark:?}");
        return Err(Broken::new("a planned failover leaves nothing behind", Some(id), text));
    }
    Ok(())
}

/// While a region is lost that a forced failover has taken the role from, the others become equal: what some of them got last of
/// it, all have, if they were told of it.
pub async fn survivors_are_equal(
    world: &World,
    fleet: &mut Fleet,
    watch: &mut Watch,
    lost: usize,
) -> Result<(), Broken> {
    world.sky.clear_but(lost);
    world.chronicle.note("all other faults stop for a while");
    let began = world.runtime.instant();
    // The last writes end, and an announcement that nobody followed waits for its window.
    let patience = Duration::from_secs(60) + world.shape.window * 8;
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        watch.step(world, fleet)?;
        let taken = |row: &RolesRow| {
            let assignment = &row.assignment;
            assignment.kind == MoveKind::Forced && assignment.from.as_ref() == Some(&world.places[lost].name)
        };
        let others = || (0..world.places.len()).filter(|region| *region != lost);
        if !others().all(|region| copy(world, region).is_some_and(|row| taken(&row))) {
            // Nobody took it, or somebody else moved on: then it is another story.
            if began.elapsed() > Duration::from_secs(15) {
                return Ok(());
            }
            continue;
        }
        match differs(world, others().collect()) {
            None => return Ok(()),
            Some((id, text)) if began.elapsed() > patience => {
                return Err(Broken::new("survivors are equal without the lost region", Some(&id), text));
            }
            Some(_) => {}
        }
    }
}

/// A row that two of these regions hold otherwise, although the one that holds more was told of it.
fn differs(world: &World, regions: Vec<usize>) -> Option<(RowId, String)> {
    let of = |region: usize| -> BTreeMap<RowId, Stood> {
        let name = &world.places[region].name;
        world.rows(region).into_iter().map(|(id, row)| (id, stood(&row, name))).collect()
    };
    let all: Vec<_> = regions.iter().map(|region| of(*region)).collect();
    let quarantine: Vec<_> = regions.iter().flat_map(|at| world.system(*at, SystemTable::Quarantine)).collect();
    let book = world.chronicle.book();
    // What one of them refuses is named, and waits for a person.
    for id in all.iter().flat_map(|rows| rows.keys()).filter(|id| !super::names(&quarantine, id)) {
        let Some(highest) = all.iter().filter_map(|rows| rows.get(id)).max_by(|a, b| a.version.cmp(&b.version)) else {
            continue;
        };
        if all.iter().all(|rows| rows.get(id) == Some(highest)) {
            continue;
        }
        let tombs = regions.iter().filter_map(|region| book.tombs.get(&(*region, id.clone())));
        let told = |version: &str| {
            let Ok(version) = Version::parse(version) else { return false };
            book.tells.iter().any(|(to, _, row)| regions.contains(to) && tells_of(row, id, &version))
        };
        // What a daemon of one of them found elsewhere and brought home, it has announced before.
        let events = book.rows.get(id);
        let found = |version: &str| {
            let home =
                |event: &Event| event.line.split_once('.').is_some_and(|(from, _)| from == book.names[event.region]);
            let found = |event: &Event| {
                !event.by_writer() && regions.contains(&event.region) && home(event) && event.leaves(version)
            };
            events.is_some_and(|events| events.iter().any(found))
        };
        let newest = tombs.max().filter(|tomb| **tomb > highest.version).unwrap_or(&highest.version);
        let own = book.issuer(newest).is_some_and(|issuer| regions.contains(&issuer));
        if own || told(newest) || found(newest) {
            let text =
                format!("{newest} is not everywhere: {:?}", all.iter().map(|rows| rows.get(id)).collect::<Vec<_>>());
            return Some((id.clone(), text));
        }
    }
    None
}
