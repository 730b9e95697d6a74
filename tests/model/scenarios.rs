//! What the writers do. Only how clocks compare counts, so ticks are 1, 2, 3.

use delivery_model::{Kind, Write};

const KINDS: [Kind; 3] = [Kind::Put, Kind::Change, Kind::Delete];
/// Kinds that read nothing, which leaves more to go wrong.
const BLIND: [Kind; 2] = [Kind::Put, Kind::Delete];

/// One write.
pub fn write(region: u8, writer: u8, kind: Kind, clock: u8) -> Write {
    Write { region, writer, kind, clock }
}

/// Two writes of any kinds with either clock ahead, by these writers.
fn pairs(first: (u8, u8), second: (u8, u8)) -> Vec<Vec<Write>> {
    let kinds = KINDS.into_iter().flat_map(|a| KINDS.into_iter().map(move |b| (a, b)));
    let clocks = kinds.flat_map(|kinds| [(kinds, (1, 2)), (kinds, (2, 1))]);
    clocks.map(|((a, b), (x, y))| vec![write(first.0, first.1, a, x), write(second.0, second.1, b, y)]).collect()
}

/// Two regions write once each.
pub fn apart() -> Vec<Vec<Write>> {
    pairs((0, 0), (1, 0))
}

/// Two writers of one region, whose clocks differ.
pub fn lone() -> Vec<Vec<Write>> {
    pairs((0, 0), (0, 1))
}

/// All there is of two writes: apart, by two writers of a region, and by one writer, one after the other.
pub fn two_writes() -> Vec<Vec<Write>> {
    let mut all = [apart(), lone()].concat();
    for first in KINDS {
        all.extend(KINDS.into_iter().map(|second| vec![write(0, 0, first, 1), write(0, 0, second, 2)]));
    }
    all
}

/// Two writers in one region and one in another, blind, with their clocks in any order.
pub fn two_and_one() -> Vec<Vec<Write>> {
    let clocks = [[1, 2, 3], [1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1]];
    let by = |kinds: [Kind; 3], [x, y, z]: [u8; 3]| {
        vec![write(0, 0, kinds[0], x), write(0, 1, kinds[1], y), write(1, 0, kinds[2], z)]
    };
    triples().flat_map(|kinds| clocks.map(|clocks| by(kinds, clocks))).collect()
}

/// Each of three regions writes once, blind. The clocks are in the order of the regions, which have no other.
pub fn each_once() -> Vec<Vec<Write>> {
    triples().map(|[a, b, c]| vec![write(0, 0, a, 1), write(1, 0, b, 2), write(2, 0, c, 3)]).collect()
}

fn triples() -> impl Iterator<Item = [Kind; 3]> {
    let pairs = BLIND.into_iter().flat_map(|a| BLIND.into_iter().map(move |b| (a, b)));
    pairs.flat_map(|(a, b)| BLIND.into_iter().map(move |c| [a, b, c]))
}
