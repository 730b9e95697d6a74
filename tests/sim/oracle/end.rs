//! What must be true at the end: once faults have stopped, writers are done, and everything had its time.

use std::collections::{BTreeMap, BTreeSet};

use tablerelay::cache::KeyTemplate;
use tablerelay::model::{RowId, SystemTable};

use super::Broken;
use crate::chronicle::{Book, Event, Stood, Touch, stood};
use crate::crowd::Told;
use crate::flushes::{Flushes, is_marker};
use crate::world::World;

type Standing = BTreeMap<RowId, Stood>;

/// What writers of one region left of a row, by the order of its store.
struct Last<'a> {
    version: &'a str,
    /// Its place in the row's story.
    at: usize,
    /// The account where it was left.
    account: usize,
    /// Nothing where it was deleted.
    content: Option<&'a str>,
}

pub fn check(world: &World, told: &Told, flushes: &Flushes) -> Result<(), Broken> {
    let standing = all_are_equal(world)?;
    let book = world.chronicle.book();
    for id in book.rows.keys() {
        nothing_is_lost(world, &book, id, standing.get(id))?;
    }
    nothing_stands_below_an_older_tombstone(world, &book, &standing)?;
    rows_lie_where_routes_lead(&book)?;
    acknowledged_is_written(&book, told)?;
    drop(book);
    super::conflicts::check(world, told)?;
    caches_are_equal(world, &standing, flushes)?;
    quarantine_names_what_nobody_can_read(world, told)
}

/// Whether caches hold what stands. The log that tells them is read when its account bears it, which may be a while after a storm.
pub fn caches_are_current(world: &World, flushes: &Flushes) -> bool {
    all_are_equal(world).is_ok_and(|standing| caches_are_equal(world, &standing, flushes).is_ok())
}

fn all_are_equal(world: &World) -> Result<Standing, Broken> {
    let of = |region: usize| -> Standing {
        let name = &world.places[region].name;
        world.rows(region).into_iter().map(|(id, row)| (id, stood(&row, name))).collect()
    };
    let all: Vec<Standing> = (0..world.places.len()).map(of).collect();
    let ids: BTreeSet<&RowId> = all.iter().flat_map(|rows| rows.keys()).collect();
    for id in ids {
        if let Some(other) = all.iter().position(|rows| rows.get(id) != all[0].get(id)) {
            let (one, two) = (&world.places[0].name, &world.places[other].name);
            let text = format!("{one} has {:?}, {two} has {:?}", all[0].get(id), all[other].get(id));
            return Err(Broken::new("every region is equal", Some(id), text));
        }
    }
    Ok(all.into_iter().next().unwrap_or_default())
}

/// Of every region, what its writers left last stands everywhere, or something of a higher version does; and nothing
/// stands that no region's writers left last, so what was deleted or overwritten does not come back.
fn nothing_is_lost(world: &World, book: &Book, id: &RowId, end: Option<&Stood>) -> Result<(), Broken> {
    let of = |region: usize| lasts(book, region, id).into_iter().map(move |last| (region, last));
    let lasts: Vec<(usize, Last<'_>)> = (0..world.places.len()).flat_map(of).collect();
    if lasts.is_empty() {
        return Ok(());
    }
    let tombs = (0..world.places.len()).filter_map(|region| book.tombs.get(&(region, id.clone())));
    let deleted = tombs.max().map_or("", String::as_str);
    let version = end.map_or(deleted, |end| end.version.as_str());
    let content = end.map(|end| end.content.as_str());
    for (region, last) in &lasts {
        own_order_is_kept(world, book, id, (*region, last), content)?;
        if last.content != content && last.version > version {
            let text =
                format!("{:?} of version {} was left, and {version} stands: {content:?}", last.content, last.version);
            return Err(Broken::new("no acknowledged write is lost", Some(id), text));
        }
    }
    let somebody_deleted = !deleted.is_empty();
    // R10 stamps what stands in a region with a version of that region, wherever it was written.
    let first = book.rows[id].iter().find(|event| matches!(&event.touch, Touch::Put(put) if put.version == version));
    let lifted = first.is_some_and(|event| !event.by_writer());
    // The promises to a delete by queue begin when it is told. By then another region may have put the row back, and where the
    // deleter's clock was behind, that one is newer.
    let told_too_late = book.queued_deletes.iter().any(|((region, row), deleted)| {
        row == id && deleted.as_str() < version && version.contains(&format!("@{}.", world.places[*region].name))
    });
    let copied = content.is_some() && overwritten_after_its_copy(book, id, version);
    let left = lasts.iter().any(|(_, last)| last.content == content) || (content.is_none() && somebody_deleted);
    if !left && !lifted && !told_too_late && !copied {
        let text = format!("{content:?} stands at {version}, which no region's writers left last");
        return Err(Broken::new("nothing that was overwritten or deleted comes back", Some(id), text));
    }
    Ok(())
}

/// While rows move, a version may have come to its new account before a clock that is behind put a lower one over it where it was: between
/// two accounts versions decide, so it may be what stands.
fn overwritten_after_its_copy(book: &Book, id: &RowId, version: &str) -> bool {
    let Some(region) = book.whereabouts.as_ref().map(|it| it.region) else { return false };
    let mut events = book.rows[id].iter().filter(|event| event.region == region);
    let copied = events.any(|event| matches!(&event.touch, Touch::Moved(what) if what.starts_with(version)));
    let higher = |event: &Event| match &event.touch {
        Touch::Put(put) => put.version.as_str() > version,
        Touch::Deleted(at) | Touch::NothingToDelete(at) => at.as_str() > version,
        _ => false,
    };
    copied && !events.any(|event| event.by_writer() && higher(event))
}

/// What a region's writers left last gives way to other regions alone: not to a delete that its own store had overruled by
/// then (R10).
fn own_order_is_kept(
    world: &World,
    book: &Book,
    id: &RowId,
    (region, last): (usize, &Last<'_>),
    content: Option<&str>,
) -> Result<(), Broken> {
    let own = format!("@{}.", world.places[region].name);
    let (Some(_), None) = (last.content, content) else { return Ok(()) };
    // It was put and is deleted: by whom?
    let events = &book.rows[id];
    let carried_out = |version: &str| {
        let here = |event: &&Event| event.region == region && event.account == last.account && event.by_writer();
        let mut before = events.iter().take(last.at).filter(here);
        before.any(|event| match &event.touch {
            Touch::Deleted(deleted) | Touch::NothingToDelete(deleted) => deleted == version,
            _ => false,
        })
    };
    let overruled = |event: &Event| match &event.touch {
        Touch::Tombstone(version) if version.as_str() > last.version => {
            Some(version.contains(&own) && carried_out(version))
        }
        _ => None,
    };
    // What another region wrote later stood there in between: the delete stands above that.
    let mut after = events.iter().skip(last.at + 1).filter(|event| event.region == region && !event.by_writer());
    if after.any(|event| matches!(&event.touch, Touch::Put(put) if Some(put.content.as_str()) != last.content)) {
        return Ok(());
    }
    let above: Vec<bool> = events.iter().filter_map(overruled).collect();
    let queued = book.queued_deletes.keys().any(|(_, row)| row == id);
    if !above.is_empty() && above.iter().all(|overruled| *overruled) && !queued {
        let text = format!("{:?} was put over a delete of {} and is deleted", last.content, world.places[region].name);
        return Err(Broken::new("a region's own order is kept", Some(id), text));
    }
    Ok(())
}

/// R4's looks: where a daemon brought a row to a region after a higher tombstone was raised there, the row went again.
fn nothing_stands_below_an_older_tombstone(world: &World, book: &Book, standing: &Standing) -> Result<(), Broken> {
    for (id, stood) in standing {
        for (region, place) in world.places.iter().enumerate() {
            let Some(tomb) = book.tombs.get(&(region, id.clone())).filter(|tomb| **tomb > stood.version) else {
                continue;
            };
            let here: Vec<&Event> = book.rows[id].iter().filter(|event| event.region == region).collect();
            let raised =
                here.iter().position(|event| matches!(&event.touch, Touch::Tombstone(version) if version == tomb));
            let brought = here.iter().rposition(|event| matches!(&event.touch, Touch::Put(put) if put == stood));
            // What stands in its own region at a lower version than a delete of it was put over that by its store (R10).
            let own = stood.version.contains(&format!("@{}.", place.name));
            let by_daemon = !own && brought.is_some_and(|at| !here[at].by_writer() && !here[at].moved);
            if by_daemon && raised < brought {
                let text = format!("{} was brought to {} below its tombstone {tomb}", stood.version, place.name);
                return Err(Broken::new("a row below a newer tombstone is taken out again", Some(id), text));
            }
        }
    }
    Ok(())
}

/// What a region's writers left last; of a row that moved, in each of its accounts: where two of them write at once, versions decide.
fn lasts<'a>(book: &'a Book, region: usize, id: &RowId) -> Vec<Last<'a>> {
    let mut lasts: Vec<Last<'_>> = Vec::new();
    let events = book.rows[id].iter().enumerate().rev();
    for (at, event) in events.filter(|(_, event)| event.region == region && event.by_writer()) {
        let account = event.account;
        let (version, content) = match &event.touch {
            Touch::Put(stood) => (&stood.version, Some(stood.content.as_str())),
            Touch::Deleted(version) | Touch::NothingToDelete(version) => (version, None),
            _ => continue,
        };
        if !lasts.iter().any(|last| last.account == account) {
            lasts.push(Last { version, at, account, content });
        }
    }
    lasts
}

/// Once a rebalance is through, every row and tombstone is where the routes in force lead, and nowhere else.
fn rows_lie_where_routes_lead(book: &Book) -> Result<(), Broken> {
    let Some(whereabouts) = &book.whereabouts else { return Ok(()) };
    let what = "every row lies where the routes lead";
    if whereabouts.published.as_ref().is_none_or(|published| published.moving.is_some()) {
        return Err(Broken::new(what, None, format!("rows still move: {:?}", whereabouts.published)));
    }
    let astray = whereabouts.astray().into_iter().next();
    astray.map_or(Ok(()), |(id, text)| Err(Broken::new(what, Some(&id), text)))
}

/// A writer that was told so did write.
fn acknowledged_is_written(book: &Book, told: &Told) -> Result<(), Broken> {
    for ack in told.acks.iter().filter(|ack| !ack.delete) {
        let events = book.rows.get(&ack.id).into_iter().flatten().filter(|event| event.region == ack.region);
        let written = events.into_iter().any(|event| match &event.touch {
            Touch::Put(stood) => stood.version == ack.version.as_str(),
            _ => false,
        });
        if !written {
            let text = format!("{} was acknowledged and never written", ack.version);
            return Err(Broken::new("acknowledged is written", Some(&ack.id), text));
        }
    }
    Ok(())
}

/// A cache holds what its region holds, and nothing else; after a flush it may hold less, where nobody fills it.
fn caches_are_equal(world: &World, standing: &Standing, flushes: &Flushes) -> Result<(), Broken> {
    let keys = KeyTemplate::default();
    for (region, place) in world.places.iter().enumerate() {
        let mut held = place.cache.snapshot();
        held.retain(|key, _| !is_marker(key));
        for (id, stood) in standing {
            let name = &place.name;
            let Some(cached) = held.remove(&keys.key(id)) else {
                // A version that was made of its Timestamp is on the row everywhere but where it was written.
                let own = format!("@{name}.00000000");
                // Nobody warms a cache with what is cold.
                let fills = !stood.version.ends_with(&own) && world.shape.cold_region() != Some(region);
                if flushes.may_lack(region, fills) {
                    continue;
                }
                return Err(Broken::new("every cache is current", Some(id), format!("the cache of {name} lacks it")));
            };
            if cached.version != stood.version || cached.entry.is_none() {
                let text = format!("the cache of {name} holds {} ({:?})", cached.version, cached.entry);
                return Err(Broken::new("every cache is current", Some(id), text));
            }
        }
        if let Some((key, cached)) = held.into_iter().find(|(_, cached)| cached.entry.is_some()) {
            let text = format!("the cache of {} holds {key} at {}, which is deleted", place.name, cached.version);
            let book = world.chronicle.book();
            let id = book.rows.keys().find(|id| keys.key(id) == key);
            return Err(Broken::new("every cache is current", id, text));
        }
    }
    Ok(())
}

/// All that is left in quarantine is what nobody can read, and all of that is there.
fn quarantine_names_what_nobody_can_read(world: &World, told: &Told) -> Result<(), Broken> {
    let entries = (0..world.places.len()).flat_map(|region| world.system(region, SystemTable::Quarantine));
    let entries: Vec<String> = entries.map(|row| row.body.json().to_string()).collect();
    for mark in &told.malformed {
        if !entries.iter().any(|entry| entry.contains(mark.as_str())) {
            return Err(Broken::new("what is malformed is in quarantine", None, format!("{mark} is nowhere")));
        }
    }
    let left = entries.iter().find(|entry| !entry.contains("broken") && !entry.contains("garbled"));
    left.map_or(Ok(()), |entry| Err(Broken::new("quarantine is left in time", None, entry.clone())))
}
