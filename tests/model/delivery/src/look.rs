//! R1, R2 and R3: looking, and which records a look ends.

use crate::config::Protocol;
use crate::state::{Phase, State, daemon_bit};
use crate::store::{Record, Row};

impl Protocol {
    pub(crate) fn home(&self, daemon: usize) -> u8 {
        self.daemons[daemon]
    }

    /// A daemon's bit in the records of its region.
    pub(crate) fn bit(daemon: usize) -> u8 {
        1 << daemon
    }

    /// Whether there is a record that this daemon has not read; only where it reads the feed before the look.
    pub(crate) fn may_poll(&self, state: &State, daemon: usize) -> bool {
        let unknown = |record: &Record| record.known & Self::bit(daemon) == 0;
        let idle = state.daemons[daemon].phase == Phase::Idle;
        !self.rules.feed_after_look && idle && state.at(self.home(daemon)).feed.records().iter().any(unknown)
    }

    /// Reads the feed before a look.
    pub(crate) fn poll(&self, state: &mut State, daemon: usize) {
        let feed = &mut state.store(self.home(daemon)).feed;
        feed.records_mut().iter_mut().for_each(|record| record.known |= Self::bit(daemon));
    }

    /// Whether it has a reason to look.
    pub(crate) fn may_look(&self, state: &State, daemon: usize) -> bool {
        let region = self.home(daemon);
        let store = state.at(region);
        let known = |record: &Record| self.rules.feed_after_look || record.known & Self::bit(daemon) != 0;
        if state.daemons[daemon].phase != Phase::Idle || !store.feed.records().iter().any(known) {
            return false;
        }
        let may_end_some = || store.feed.records().iter().any(|record| self.may_end(record, store.row));
        self.grain.idle_looks || may_end_some() || self.differs_somewhere(state, region)
    }

    fn differs_somewhere(&self, state: &State, region: u8) -> bool {
        let stands = |region| {
            let store = state.at(region);
            if store.row.is_present() { store.row } else { Row { version: store.tombstone, content: 0 } }
        };
        let here = stands(region);
        here.version.is_some() && (0..self.regions).any(|other| stands(other) != here)
    }

    /// R1: whether a look that finds this row may end the record, as far as there is no higher one.
    fn may_end(&self, record: &Record, row: Row) -> bool {
        let exactly = match record.delete {
            true => !row.is_present() && !self.rules.deletes_wait,
            false => row.version == record.version,
        };
        exactly || record.waits == 0 || !self.rules.waiting
    }

    /// A look begins: reads the row, and marks the records that it may end once its finding is delivered.
    pub(crate) fn look(&self, state: &mut State, daemon: usize) {
        let region = self.home(daemon);
        let bit = Self::bit(daemon);
        let row = state.at(region).row;
        if self.rules.leftovers_go && is_leftover(state, region) {
            return self.take_out(state, daemon);
        }
        for record in state.store(region).feed.records_mut() {
            let ends = self.may_end(record, row);
            record.ends = if ends { record.ends | bit } else { record.ends & !bit };
        }
        let it = &mut state.daemons[daemon];
        it.left = ((1 << self.regions) - 1) & !(1 << region);
        it.finding = row;
        it.phase = if row.is_present() { Phase::ReadFeed } else { Phase::LookAtTombstone };
        if !row.is_present() && !self.grain.look {
            self.look_at_tombstone(state, daemon);
        }
        let reads_now = !self.rules.feed_after_look || !self.grain.look;
        if reads_now && state.daemons[daemon].phase == Phase::ReadFeed {
            self.read_feed(state, daemon);
        }
    }

    /// The row was absent: a tombstone, where there is one, is what is delivered (R3). It is never below an announced
    /// delete, since the two were written in one transaction and it is never lowered.
    pub(crate) fn look_at_tombstone(&self, state: &mut State, daemon: usize) {
        let tombstone = state.at(self.home(daemon)).tombstone;
        state.daemons[daemon].finding = Row { version: tombstone, content: 0 };
        state.daemons[daemon].phase = Phase::ReadFeed;
        if !self.rules.feed_after_look {
            self.read_feed(state, daemon);
        }
    }

    /// Of the records that the look may end, those stay above which another is open. What was ended before this is at
    /// every destination, where the delivery will find it.
    pub(crate) fn read_feed(&self, state: &mut State, daemon: usize) {
        let bit = Self::bit(daemon);
        let mut higher_is_open = false;
        for record in state.store(self.home(daemon)).feed.records_mut() {
            if !self.rules.feed_after_look && record.known & bit == 0 {
                record.ends &= !bit;
                continue;
            }
            if higher_is_open && self.rules.highest_first {
                record.ends &= !bit;
            }
            higher_is_open |= record.ends & bit == 0;
        }
        state.daemons[daemon].phase = Phase::Deliver;
        if !state.daemons[daemon].finding.version.is_some() {
            state.daemons[daemon].left = 0;
            self.delivered(state, daemon);
        }
    }

    /// R5 in the own region: the next step deletes the row, since the tombstone is above it.
    fn take_out(&self, state: &mut State, daemon: usize) {
        let region = self.home(daemon);
        let version = state.at(region).tombstone;
        let it = &mut state.daemons[daemon];
        it.finding = Row { version, content: 0 };
        it.left = 1 << region;
        it.taking_over = true;
        it.phase = Phase::Deliver;
    }

    /// What was brought is there; on to the next destination, or to the end.
    pub(crate) fn delivered(&self, state: &mut State, daemon: usize) {
        let it = &mut state.daemons[daemon];
        it.row_live = false;
        it.tombstone_live = false;
        it.target = 0;
        if it.taking_over {
            return self.rest(state, daemon);
        }
        if it.left != 0 {
            it.phase = Phase::Deliver;
            return;
        }
        let ends = |record: &Record| record.ends & Self::bit(daemon) != 0;
        if self.grain.end && state.at(self.home(daemon)).feed.records().iter().any(ends) {
            state.daemons[daemon].phase = Phase::End;
            return;
        }
        self.end(state, daemon);
    }

    /// Deletes the records that the look ends.
    pub(crate) fn end(&self, state: &mut State, daemon: usize) {
        state.store(self.home(daemon)).feed.end(Self::bit(daemon));
        self.rest(state, daemon);
    }

    /// The look is over, whatever came of it: nothing of it is under way, and it ends nothing.
    pub(crate) fn rest(&self, state: &mut State, daemon: usize) {
        self.forget(state, daemon);
        state.daemons[daemon].rest();
    }

    /// What the daemon does from here on rests on a reading that has just begun (R9), and not on its look.
    pub(crate) fn forget(&self, state: &mut State, daemon: usize) {
        state.over(daemon_bit(daemon));
        let feed = &mut state.store(self.home(daemon)).feed;
        feed.records_mut().iter_mut().for_each(|record| record.ends &= !Self::bit(daemon));
        let it = &mut state.daemons[daemon];
        it.left = 0;
        it.row_live = false;
        it.tombstone_live = false;
    }
}

/// A row of another region stands below a delete that was announced here a settle window ago: its writer died before the
/// second step, or an insert that was on its way came after it.
fn is_leftover(state: &State, region: u8) -> bool {
    let store = state.at(region);
    let foreign = store.row.is_present() && store.row.version.region() != region;
    let above = |record: &Record| record.delete && record.waits == 0 && record.version > store.row.version;
    foreign && store.feed.records().iter().any(above)
}
