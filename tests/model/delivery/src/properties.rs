//! What is promised (part 6 of the protocol).

use stateright::Property;

use crate::config::{Kind, Protocol};
use crate::state::{Phase, Request, Stage, State};
use crate::version::Version;

/// Every writer is through, every feed is empty, every daemon is idle: nothing happens any more.
pub(crate) fn is_quiet(model: &Protocol, state: &State) -> bool {
    let writes = model.scenarios[usize::from(state.scenario)].len();
    let stores = &state.stores[..usize::from(model.regions)];
    stores.iter().all(|store| store.feed.is_empty())
        && state.writes[..writes].iter().all(|write| matches!(write.stage, Stage::Acknowledged | Stage::Over))
        && state.daemons.iter().all(|daemon| daemon.phase == Phase::Idle)
        && state.stray.request == Request::None
}

/// Every region holds the same row with the same version, or none does.
fn converged(model: &Protocol, state: &State) -> bool {
    let stores = &state.stores[..usize::from(model.regions)];
    !is_quiet(model, state) || stores.iter().all(|store| store.row == stores[0].row)
}

/// An acknowledged write stands, or something of a higher version does, or its own store overwrote it.
fn nothing_lost(model: &Protocol, state: &State) -> bool {
    if !is_quiet(model, state) {
        return true;
    }
    let stores = &state.stores[..usize::from(model.regions)];
    let row = stores[0].row;
    let tombstone = stores.iter().map(|store| store.tombstone).max().unwrap_or(Version::NONE);
    let highest = if row.is_present() { row.version } else { tombstone };
    state.writes.iter().enumerate().all(|(number, write)| {
        let stands = row.content == number as u8 + 1;
        !write.stage.is_acknowledged() || stands || highest >= write.version || write.overwritten
    })
}

/// Where each region writes once at most, no region has an order of its own to defend: the newest write wins, by the version
/// that its writer gave it. A lift cannot hide that something old came back.
fn newest_wins(model: &Protocol, state: &State) -> bool {
    let writes = &model.scenarios[usize::from(state.scenario)];
    let twice = |region| writes.iter().filter(|write| write.region == region).count() > 1;
    if !is_quiet(model, state) || (0..model.regions).any(twice) {
        return true;
    }
    let content = usize::from(state.stores[0].row.content);
    let deletes = writes.iter().zip(&state.writes).filter(|(write, _)| write.kind == Kind::Delete);
    let standing = match content {
        0 => deletes.map(|(_, write)| write.version).max().unwrap_or(Version::NONE),
        number => state.writes[number - 1].version,
    };
    state.writes.iter().all(|write| !write.stage.is_acknowledged() || write.version <= standing)
}

/// Where all writes are of one region, what its store had last is what stands in the end (R10).
fn lone_region_decides(model: &Protocol, state: &State) -> bool {
    let writes = &model.scenarios[usize::from(state.scenario)];
    if !is_quiet(model, state) || writes.iter().any(|write| write.region != writes[0].region) {
        return true;
    }
    let last = (0..writes.len()).find(|write| state.writes[*write].effective && !state.writes[*write].overwritten);
    let expected = match last {
        Some(write) if writes[write].kind != Kind::Delete => write as u8 + 1,
        _ => 0,
    };
    state.stores[0].row.content == expected
}

/// One version is never two contents.
fn versions_are_unique(model: &Protocol, state: &State) -> bool {
    let stores = &state.stores[..usize::from(model.regions)];
    stores.iter().all(|a| stores.iter().all(|b| a.row.version != b.row.version || a.row.content == b.row.content))
}

/// The highest tick that lifts of at most [`WRITES`](crate::config::WRITES) writes can have a reason to reach.
const LAST_TICK: u8 = 12;

/// Lifts do not go on for ever.
fn lifts_end(_: &Protocol, state: &State) -> bool {
    state.stores.iter().all(|store| store.row.version.max(store.tombstone).tick() < LAST_TICK)
}

/// All of them. Those of the end are promises about quiet states; that each run gets there is checked by
/// [`comes_to_rest`](crate::comes_to_rest).
pub(crate) fn all() -> Vec<Property<Protocol>> {
    vec![
        Property::always("all regions are equal", converged),
        Property::always("no acknowledged write is lost", nothing_lost),
        Property::always("the newest write wins", newest_wins),
        Property::always("a lone region's store decides", lone_region_decides),
        Property::always("a version is one content", versions_are_unique),
        Property::always("lifts come to an end", lifts_end),
    ]
}
