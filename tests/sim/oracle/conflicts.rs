//! The conflict journal at the end: every acknowledged write that was lost to another region which did not know it is named
//! there, and nothing is that the winner's region had been told of before.
//!
//! What a region knew is taken from its store: a version that stood there before the winner was written was known.

use tablerelay::feed::tells_of;
use tablerelay::model::{RowId, SystemTable, Version};

use super::Broken;
use crate::chronicle::{Book, Event, Touch};
use crate::crowd::{Ack, Told};
use crate::world::World;

/// What a journal says of one conflict.
struct Named {
    id: RowId,
    winner: String,
    loser: String,
    /// The winner's region could be asked.
    asked: bool,
}

pub fn check(world: &World, told: &Told) -> Result<(), Broken> {
    let named = named(world);
    let book = world.chronicle.book();
    for conflict in named.iter().filter(|conflict| conflict.asked) {
        is_true(world, &book, conflict)?;
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
        Some(Named { id, winner: text("Winner"), loser: text("Loser"), asked: text("Asked") == "yes" })
    };
    rows.filter_map(read).collect()
}

/// What lies in quarantine is named there.
fn is_judged(book: &Book, told: &Told, id: &RowId) -> bool {
    let ahead = |event: &Event| matches!(&event.touch, Touch::Put(put) if put.version.ends_with(".000000a9"));
    !told.healed.contains(id) && !book.rows[id].iter().any(ahead)
}

fn place(world: &World, version: &str) -> Option<usize> {
    let region = version.split_once('@')?.1.split_once('.')?.0;
    world.places.iter().position(|place| place.name.as_str() == region)
}

fn leaves(event: &Event, version: &str) -> bool {
    match &event.touch {
        Touch::Put(put) => put.version == version,
        Touch::Deleted(deleted) | Touch::Tombstone(deleted) => deleted == version,
        _ => false,
    }
}

/// When a version came into being in its own region, as a place in the row's story.
fn born(world: &World, book: &Book, id: &RowId, version: &str) -> Option<(usize, usize)> {
    let region = place(world, version)?;
    let at = book.rows.get(id)?.iter().position(|event| event.region == region && leaves(event, version))?;
    Some((region, at))
}

fn is_true(world: &World, book: &Book, conflict: &Named) -> Result<(), Broken> {
    let (id, loser) = (&conflict.id, &conflict.loser);
    let text = |what: &str| format!("{} over {loser}: {what}", conflict.winner);
    let wrong = |what: &str| Err(Broken::new("the journal names true conflicts alone", Some(id), text(what)));
    let Some(events) = book.rows.get(id) else { return wrong("there is no such row") };
    if !events.iter().any(|event| leaves(event, loser)) {
        return wrong("the loser never stood anywhere");
    }
    let Some((region, born)) = born(world, book, id, &conflict.winner) else { return Ok(()) };
    let before = &events[..born];
    let stood = before.iter().any(|event| event.region == region && leaves(event, loser));
    let Ok(version) = Version::parse(loser) else { return Ok(()) };
    let told =
        book.tells.iter().any(|(to, at, row)| *to == region && *at < events[born].at && tells_of(row, id, &version));
    if stood && told { wrong("the winner was written where the loser had come in") } else { Ok(()) }
}

/// Follows an acknowledged write in its own region until something stands over it.
fn is_named_if_lost(world: &World, book: &Book, ack: &Ack, named: &[Named]) -> Result<(), Broken> {
    let events = &book.rows[&ack.id];
    let own = format!("@{}.", world.places[ack.region].name);
    let mut names = vec![ack.version.to_string()];
    // A delete begins with its tombstone, and is done when the row is gone.
    let done = |event: &Event| match &event.touch {
        Touch::Put(put) => put.version == names[0],
        Touch::Deleted(deleted) | Touch::NothingToDelete(deleted) => *deleted == names[0],
        _ => false,
    };
    let Some(start) = events.iter().position(|event| event.region == ack.region && event.by_writer() && done(event))
    else {
        return Ok(());
    };
    // A delete by queue is a fact when it is told: it may take out a put that its region's store had put over it by then.
    let told_late = book.queued_deletes.get(&(ack.region, ack.id.clone()));
    if told_late.is_some_and(|deleted| deleted.as_str() > names[0].as_str()) {
        return Ok(());
    }
    let mut content = None;
    let mut winner = None;
    let here: Vec<&Event> = events[start..].iter().filter(|event| event.region == ack.region).collect();
    for (n, event) in here.iter().enumerate() {
        match &event.touch {
            Touch::Put(put) if names.contains(&put.version) => content = Some(put.content.clone()),
            Touch::Deleted(deleted) | Touch::Tombstone(deleted) if names.contains(deleted) => {}
            Touch::Put(_) | Touch::Deleted(_) | Touch::NothingToDelete(_) if event.by_writer() => return Ok(()),
            Touch::Put(put) if put.version.contains(&own) => {
                if content.as_ref() != Some(&put.content) {
                    return Ok(());
                }
                names.push(put.version.clone());
            }
            // What lands below a tombstone is taken out again, whichever of this region's deletes raised it.
            Touch::Put(put) if names.iter().any(|name| put.version < *name) => {}
            Touch::Put(put) => {
                winner = Some((n, put.version.clone()));
                break;
            }
            Touch::Deleted(deleted) if (deleted.contains(&own) || *deleted < names[0]) && !ack.delete => return Ok(()),
            Touch::Deleted(deleted) if deleted.contains(&own) || *deleted < names[0] => {}
            Touch::Deleted(deleted) => {
                winner = Some((n, deleted.clone()));
                break;
            }
            // Two deletes agree.
            Touch::Tombstone(deleted) if ack.delete && !deleted.contains(&own) => return Ok(()),
            Touch::Tombstone(deleted) if ack.delete => names.push(deleted.clone()),
            _ => {}
        }
    }
    let Some((n, winner)) = winner else { return Ok(()) };
    // Who brought the winner looks once more when its write was answered, or when it was not. What that look cannot find, since
    // the winner was overruled while the answer was on its way, nobody can name.
    let answered = here[n].at + world.shape.window / 4;
    if here.get(n + 1).is_some_and(|next| next.at < answered) {
        return Ok(());
    }
    let Some((region, born)) = born(world, book, &ack.id, &winner) else { return Ok(()) };
    let known = |event: &Event| event.region == region && names.iter().any(|name| leaves(event, name));
    // Once it stood in the winner's region after all, that store had overruled the winner by then: R10 lifts what it holds.
    let stood = |event: &Event| match &event.touch {
        Touch::Put(put) => event.region == region && names.contains(&put.version),
        Touch::Deleted(deleted) => event.region == region && names.contains(deleted),
        _ => false,
    };
    let is_named = named.iter().any(|conflict| conflict.id == ack.id && names.contains(&conflict.loser));
    if region == ack.region || is_named || events[..born].iter().any(known) || events.iter().any(stood) {
        return Ok(());
    }
    let text = format!("{names:?} was lost to {winner}, which did not know it, and no journal says so");
    Err(Broken::new("what was lost to another region is in the journal", Some(&ack.id), text))
}
