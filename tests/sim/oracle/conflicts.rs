//! The conflict journal at the end: every acknowledged write that was lost to another region which did not know it is named
//! there, and nothing is that the winner's region had been told of before.
//!
//! What a region knew is taken from its store: a version that stood there before the winner was written was known.

use std::collections::BTreeMap;

use tablerelay::feed::tells_of;
use tablerelay::model::{RowId, SystemTable, Version};

use super::Broken;
use super::roles::planned_ones_leave_nothing_behind;
use crate::chronicle::{Book, Event, Stood, Touch};
use crate::crowd::{Ack, Told};
use crate::world::World;

/// What a journal says of one conflict.
struct Named {
    id: RowId,
    winner: String,
    loser: String,
    /// The winner's region could be asked.
    asked: bool,
    /// It was written where nobody may.
    late: bool,
}

pub fn check(world: &World, told: &Told) -> Result<(), Broken> {
    let named = named(world);
    let book = world.chronicle.book();
    for conflict in named.iter().filter(|conflict| conflict.asked) {
        is_true(&book, conflict)?;
    }
    for conflict in named.iter().filter(|conflict| conflict.late) {
        planned_ones_leave_nothing_behind(world, &book, &conflict.id, &conflict.loser)?;
    }
    for ack in told.acks.iter().filter(|ack| is_judged(&book, told, &ack.id)) {
        is_named_if_lost(world, &book, ack, &named)?;
    }
    Ok(())
}

fn named(world: &World) -> Vec<Named> {
    let rows = (0..world.places.len()).flat_map(|region| world.system(region, SystemTable::Conflicts));
    let read = |row: tablerelay::model::Row| {
        let text = |name| row.body.string(name).unwrap_or_default();
        let table = tablerelay::model::TableName::new(&text("Table")).ok()?;
        let id = RowId::new(table, text("Partition").as_str().into(), text("Row").as_str().into());
        // What the writer's region knew of a late write makes no difference.
        let late = text("Decision") == "late-write";
        let asked = text("Asked") == "yes" && !late;
        Some(Named { id, winner: text("Winner"), loser: text("Loser"), asked, late })
    };
    rows.filter_map(read).collect()
}

/// What lies in quarantine is named there.
fn is_judged(book: &Book, told: &Told, id: &RowId) -> bool {
    let ahead = |event: &Event| matches!(&event.touch, Touch::Put(put) if put.version.ends_with(".000000a9"));
    !told.healed.contains(id) && !book.rows[id].iter().any(ahead)
}

/// When a version came into being in its own region, as a place in the row's story.
fn born(book: &Book, id: &RowId, version: &str) -> Option<(usize, usize)> {
    let region = book.issuer(version)?;
    let at = book.rows.get(id)?.iter().position(|event| event.region == region && event.leaves(version))?;
    Some((region, at))
}

fn is_true(book: &Book, conflict: &Named) -> Result<(), Broken> {
    let (id, loser) = (&conflict.id, &conflict.loser);
    let text = |what: &str| format!("{} over {loser}: {what}", conflict.winner);
    let wrong = |what: &str| Err(Broken::new("the journal names true conflicts alone", Some(id), text(what)));
    let Some(events) = book.rows.get(id) else { return wrong("there is no such row") };
    if !events.iter().any(|event| event.leaves(loser)) {
        return wrong("the loser never stood anywhere");
    }
    let Some((region, born)) = born(book, id, &conflict.winner) else { return Ok(()) };
    let before = &events[..born];
    let stood = before.iter().any(|event| event.region == region && event.leaves(loser));
    let Ok(version) = Version::parse(loser) else { return Ok(()) };
    let told =
        book.tells.iter().any(|(to, at, row)| *to == region && *at < events[born].at && tells_of(row, id, &version));
    // It has a new time where it has moved to, and counts as written then.
    let moved = events.iter().any(|event| matches!(&event.touch, Touch::Moved(what) if what.starts_with(loser)));
    if stood && told && !moved { wrong("the winner was written where the loser had come in") } else { Ok(()) }
}

/// Follows an acknowledged write in its own region until something stands over it.
fn is_named_if_lost(world: &World, book: &Book, ack: &Ack, named: &[Named]) -> Result<(), Broken> {
    let events = &book.rows[&ack.id];
    let (own, version) = (format!("@{}.", world.places[ack.region].name), ack.version.as_str());
    // A delete begins with its tombstone, and is done when the row is gone.
    let done = |event: &Event| match &event.touch {
        Touch::Put(put) => put.version == version,
        Touch::Deleted(deleted) | Touch::NothingToDelete(deleted) => deleted == version,
        _ => false,
    };
    let here: Vec<&Event> = events.iter().filter(|event| event.region == ack.region).collect();
    let Some(start) = here.iter().position(|event| event.by_writer() && done(event)) else { return Ok(()) };
    // A delete by queue is a fact when it is told: it may take out a put that its region's store had put over it by then.
    let told_late = book.queued_deletes.get(&(ack.region, ack.id.clone()));
    if told_late.is_some_and(|deleted| deleted.as_str() > version) {
        return Ok(());
    }
    let Some(Lost { names, winner, at }) = lost(&here, start, ack, &own) else { return Ok(()) };
    if goes_unseen(world, &here, at, version) {
        return Ok(());
    }
    // What is written by old routes and loses to what was brought to its new place meanwhile is named by nobody; nor is what a clock that is
    // behind had put over that there, before it came once more.
    let came_once_more = |event: &&Event| match &event.touch {
        Touch::Moved(what) => what
            .split_once(" came to ")
            .is_some_and(|(came, _)| Version::parse(came).is_ok_and(|it| it.as_str() > version)),
        _ => false,
    };
    if here[start].account != here[at].account || here[start..at].iter().any(came_once_more) {
        return Ok(());
    }
    let Some((region, born)) = born(book, &ack.id, &winner) else { return Ok(()) };
    let knowing = knowing(events, &names);
    let known = |event: &Event| event.region == region && knowing.iter().any(|name| event.leaves(name));
    // Once it stood in the winner's region after all, that store had overruled the winner by then: R10 lifts what it holds.
    let stood = |event: &Event| match &event.touch {
        Touch::Put(put) => event.region == region && names.contains(&put.version),
        Touch::Deleted(deleted) => event.region == region && names.contains(deleted),
        _ => false,
    };
    let is_named = named.iter().any(|conflict| conflict.id == ack.id && names.contains(&conflict.loser));
    // Two deletes are no conflict: a later one there stands for this one, and the winner was written over it.
    let deleted_too = |event: &Event| match &event.touch {
        Touch::Deleted(deleted) | Touch::Tombstone(deleted) => event.region == region && deleted.as_str() > version,
        _ => false,
    };
    let known = events[..born].iter().any(|event| known(event) || (ack.delete && deleted_too(event)));
    if region == ack.region || is_named || known || events.iter().any(stood) {
        return Ok(());
    }
    let text = format!("{names:?} was lost to {winner}, which did not know it, and no journal says so");
    Err(Broken::new("what was lost to another region is in the journal", Some(&ack.id), text))
}

/// These versions, and those that were written where one of them stood: whoever has one of these knows of what it was written over.
fn knowing(events: &[Event], names: &[String]) -> Vec<String> {
    let (mut knowing, mut stands) = (names.to_vec(), BTreeMap::<usize, &str>::new());
    for event in events {
        let (Touch::Put(Stood { version: left, .. }) | Touch::Tombstone(left) | Touch::Deleted(left)) = &event.touch
        else {
            continue;
        };
        let over = stands.insert(event.region, left);
        if event.by_writer() && over.is_some_and(|over| knowing.iter().any(|name| name == over)) {
            knowing.push(left.clone());
        }
    }
    knowing
}

/// A write over which something of another region was brought.
struct Lost {
    /// Its version, and those that it was lifted to.
    names: Vec<String>,
    winner: String,
    /// The winner's place among the events of the region.
    at: usize,
}

/// To what a write that began at `start` was lost in its own region; nothing where its own region put something over it.
fn lost(here: &[&Event], start: usize, ack: &Ack, own: &str) -> Option<Lost> {
    let (mut names, mut content) = (vec![ack.version.to_string()], None);
    for (at, event) in here.iter().enumerate().skip(start) {
        let winner = match &event.touch {
            Touch::Put(put) if names.contains(&put.version) => {
                content = Some(put.content.clone());
                continue;
            }
            Touch::Deleted(deleted) | Touch::Tombstone(deleted) if names.contains(deleted) => continue,
            Touch::Put(_) | Touch::Deleted(_) | Touch::NothingToDelete(_) if event.by_writer() => return None,
            Touch::Put(put) if put.version.contains(own) && content.as_ref() == Some(&put.content) => {
                names.push(put.version.clone());
                continue;
            }
            Touch::Put(put) if put.version.contains(own) => return None,
            // What lands below a tombstone is taken out again, whichever of this region's deletes raised it.
            Touch::Put(put) if names.iter().any(|name| put.version < *name) => continue,
            Touch::Put(put) => put.version.clone(),
            Touch::Deleted(deleted) if (deleted.contains(own) || *deleted < names[0]) && !ack.delete => return None,
            Touch::Deleted(deleted) if deleted.contains(own) || *deleted < names[0] => continue,
            Touch::Deleted(deleted) => deleted.clone(),
            // Two deletes agree.
            Touch::Tombstone(deleted) if ack.delete && !deleted.contains(own) => return None,
            Touch::Tombstone(deleted) if ack.delete => {
                names.push(deleted.clone());
                continue;
            }
            _ => continue,
        };
        return Some(Lost { names, winner, at });
    }
    None
}

/// Whether nobody can name what was lost. Whoever brought the winner looks once more when its write was answered, or when it was
/// not: that look cannot find what went while the winner was overruled before the answer came; nor is there one for a
/// delete that came while the winner was on its way, where whoever brought it was cut off.
fn goes_unseen(world: &World, here: &[&Event], winner: usize, lost: &str) -> bool {
    // As long as a slow request may be on its way: what slows it, and the line.
    let (answer, came) = (world.shape.window / 4 + world.shape.latency + world.shape.jitter, here[winner].at);
    let raised = |event: &&&Event| matches!(&event.touch, Touch::Tombstone(version) if version == lost);
    let raised = here.iter().rev().find(raised).map(|event| event.at);
    let overruled = here.get(winner + 1).is_some_and(|next| next.at < came + answer);
    overruled || (!world.shape.kinds.is_empty() && raised.is_some_and(|raised| came < raised + answer))
}
