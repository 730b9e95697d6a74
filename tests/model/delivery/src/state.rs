//! The state of a run, and what every step has in common.

use crate::config::{DAEMONS, Protocol, REGIONS, WRITES};
use crate::store::{Record, Row, Store};
use crate::version::Version;

/// How far a write is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Stage {
    /// Not begun, or not part of the scenario.
    #[default]
    Waiting,
    /// It has read what it changes, and holds an ETag that is or is not current any more.
    Read { live: bool },
    /// Announced; the second step is to come.
    Announced { live: bool },
    /// Acknowledged, but an earlier attempt of the second step is still on its way.
    Repeating,
    /// Acknowledged.
    Acknowledged,
    /// Refused, or its writer died, or never knew.
    Over,
}

impl Stage {
    /// Whether it is under way: a settle window waits for it.
    pub fn is_under_way(self) -> bool {
        matches!(self, Stage::Read { .. } | Stage::Announced { .. } | Stage::Repeating)
    }

    pub fn is_acknowledged(self) -> bool {
        matches!(self, Stage::Repeating | Stage::Acknowledged)
    }
}

/// A write of the scenario.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    pub stage: Stage,
    pub version: Version,
    /// It took effect in its own store.
    pub effective: bool,
    /// A later write of its region took effect in the same store.
    pub overwritten: bool,
}

/// What is brought to a destination: a row, or where its content is 0 a delete of this version.
pub type Finding = Row;

/// The step of R4 after which a daemon looks at the tombstone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum After {
    #[default]
    Insert,
    Replace,
    Equal,
}

/// What a daemon does next.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Phase {
    #[default]
    Idle,
    /// Read the local tombstone, the row being absent.
    LookAtTombstone,
    /// Read the feed.
    ReadFeed,
    /// Read what stands at one of the destinations left (and replace or delete what is older).
    Deliver,
    /// R4: insert if absent.
    Insert,
    /// R4: look at the tombstone, take the row out again if that is newer.
    LookBack(After),
    /// R5: raise the tombstone.
    Raise,
    /// R5: delete the row on its ETag.
    Remove,
    /// R6: announce in the own feed what the destination has.
    Announce,
    /// R10: announce the lift.
    Lift,
    /// R10: stamp the row on its ETag.
    Stamp,
    /// Delete the records that the look ends.
    End,
}

/// A daemon. Between two looks it remembers nothing but which records it has read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Daemon {
    pub phase: Phase,
    /// The region that the next request goes to.
    pub target: u8,
    /// Destinations still to be served, a bit each.
    pub left: u8,
    pub finding: Finding,
    /// The ETag of the target's row that it holds is still current.
    pub row_live: bool,
    /// So is that of the target's tombstone.
    pub tombstone_live: bool,
    /// It is under R6: applying to its own region what a destination has.
    pub taking_over: bool,
    /// The highest tick that it has lifted to.
    pub lifted: u8,
}

impl Daemon {
    /// Back to idle; the clock of its lifts alone is kept.
    pub fn rest(&mut self) {
        *self = Daemon { lifted: self.lifted, ..Daemon::default() };
    }
}

/// A conditional write of a daemon that was given up for lost and is still on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stray {
    pub request: Request,
    pub target: u8,
    pub live: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Request {
    #[default]
    None,
    Insert(Row),
    Replace(Row),
    Remove,
    Raise(Version),
}

/// The state of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct State {
    pub scenario: u16,
    /// The one fault of the run is still to come.
    pub may_fail: bool,
    pub stores: [Store; REGIONS],
    pub writes: [Progress; WRITES],
    pub daemons: [Daemon; DAEMONS],
    pub stray: Stray,
}

/// The bits of those for whose requests a settle window waits.
pub fn write_bit(write: usize) -> u16 {
    1 << write
}
pub fn daemon_bit(daemon: usize) -> u16 {
    1 << (WRITES + daemon)
}
pub const STRAY_BIT: u16 = 1 << (WRITES + DAEMONS);

impl State {
    pub fn new(scenario: u16, may_fail: bool) -> Self {
        Self {
            scenario,
            may_fail,
            stores: Default::default(),
            writes: Default::default(),
            daemons: Default::default(),
            stray: Stray::default(),
        }
    }

    pub fn store(&mut self, region: u8) -> &mut Store {
        &mut self.stores[usize::from(region)]
    }

    pub fn at(&self, region: u8) -> &Store {
        &self.stores[usize::from(region)]
    }

    /// Whoever has this bit is through with what it had under way.
    pub fn over(&mut self, bit: u16) {
        for store in &mut self.stores {
            store.feed.records_mut().iter_mut().for_each(|record| record.waits &= !bit);
        }
    }

    /// Raises the tombstone; it is never lowered.
    pub fn raise(&mut self, region: u8, version: Version) {
        if self.at(region).tombstone >= version {
            return;
        }
        self.store(region).tombstone = version;
        for daemon in self.daemons.iter_mut().filter(|daemon| daemon.target == region) {
            daemon.tombstone_live = false;
        }
        if self.stray.target == region && matches!(self.stray.request, Request::Raise(_)) {
            self.stray.live = false;
        }
    }
}

impl Protocol {
    /// What is under way now and may still write, a bit each. What a daemon holds back by R9 is under way for a window at
    /// most; without R9 nothing can be said, so nobody waits for it.
    fn under_way(&self, state: &State) -> u16 {
        let mut bits = 0;
        for (write, progress) in state.writes.iter().enumerate() {
            bits |= if progress.stage.is_under_way() { write_bit(write) } else { 0 };
        }
        if self.rules.freshness {
            for (daemon, it) in state.daemons.iter().enumerate() {
                bits |= if it.phase != Phase::Idle { daemon_bit(daemon) } else { 0 };
            }
            bits |= if state.stray.request != Request::None { STRAY_BIT } else { 0 };
        }
        bits
    }

    /// Inserts a record, and raises the tombstone beside it where it announces a delete.
    pub(crate) fn announce(&self, state: &mut State, region: u8, version: Version, delete: bool) {
        let waits = self.under_way(state);
        state.store(region).feed.insert(Record { version, delete, waits, known: 0, ends: 0 });
        if delete {
            state.raise(region, version);
        }
    }

    /// Writes the row; every ETag of it that somebody holds is stale from now on.
    pub(crate) fn write_row(&self, state: &mut State, region: u8, row: Row) {
        state.store(region).row = row;
        if self.rules.window_from_change {
            self.begin_windows_anew(state, region);
        }
        for daemon in state.daemons.iter_mut().filter(|daemon| daemon.target == region) {
            daemon.row_live = false;
        }
        let writes = &self.scenarios[usize::from(state.scenario)];
        for (progress, _) in state.writes.iter_mut().zip(writes).filter(|(_, write)| write.region == region) {
            if let Stage::Read { live } | Stage::Announced { live } = &mut progress.stage {
                *live = false;
            }
        }
        if state.stray.target == region && matches!(state.stray.request, Request::Replace(_) | Request::Remove) {
            state.stray.live = false;
        }
    }

    /// Whoever looked before the row changed may still be delivering what stood then: over something lower it would win, and
    /// where the row is gone it would be inserted.
    fn begin_windows_anew(&self, state: &mut State, region: u8) {
        let waits = self.under_way(state);
        let store = state.store(region);
        let stands = store.row.version;
        for record in store.feed.records_mut().iter_mut().filter(|record| record.version >= stands) {
            record.waits |= waits;
        }
    }

    /// Puts the two daemons of each region in order, so that twins are one. A daemon that has left its name in a version
    /// has none.
    pub(crate) fn order_daemons(&self, state: &mut State) {
        let each = self.daemons.len() / 2;
        for (first, second) in (0..each).map(|first| (first, first + each)) {
            let (a, b) = (state.daemons[first], state.daemons[second]);
            let twins = self.daemons[first] == self.daemons[second] && a.lifted == 0 && b.lifted == 0;
            if twins && a.key() > b.key() {
                state.swap_daemons(first, second);
            }
        }
    }
}

impl Daemon {
    fn key(&self) -> impl PartialOrd + use<> {
        (self.phase, self.target, self.left, self.finding.version, self.row_live, self.tombstone_live, self.taking_over)
    }
}

impl State {
    fn swap_daemons(&mut self, first: usize, second: usize) {
        fn swap(bits: u16, a: u16, b: u16) -> u16 {
            let moved = |from, to| if bits & from != 0 { to } else { 0 };
            bits & !(a | b) | moved(a, b) | moved(b, a)
        }
        self.daemons.swap(first, second);
        for record in self.stores.iter_mut().flat_map(|store| store.feed.records_mut()) {
            record.waits = swap(record.waits, daemon_bit(first), daemon_bit(second));
            record.ends = swap(u16::from(record.ends), 1 << first, 1 << second) as u8;
            record.known = swap(u16::from(record.known), 1 << first, 1 << second) as u8;
        }
    }
}
