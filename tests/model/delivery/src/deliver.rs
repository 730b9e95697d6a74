//! R4 and R5: bringing what a look found to a destination.

use crate::config::Protocol;
use crate::state::{After, Phase, State};
use crate::store::{Row, Store};

/// What a delivery must do, given what stands at the destination.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    Insert,
    Replace,
    Equal,
    Delete,
    /// R6: this is newer.
    Newer(Row),
    /// R10.
    Lift,
}

/// A finding without content is a delete.
pub(crate) fn is_delete(finding: Row) -> bool {
    finding.content == 0
}

impl Protocol {
    /// R4, R5, R6 and R10: what to do in `region` where `there` stands.
    pub(crate) fn verdict(&self, finding: Row, region: u8, there: &Store) -> Verdict {
        let (row, tombstone) = (there.row, there.tombstone);
        let stands = if row.is_present() { row.version } else { tombstone };
        let decided = stands.is_some() && (stands.region() == region || !self.rules.lifts_own_only);
        let own = self.rules.lifting && decided && finding.version.region() == region;
        let newer_row = Verdict::Newer(row);
        let newer_tombstone = Verdict::Newer(Row { version: tombstone, content: 0 });
        match (is_delete(finding), row.is_present()) {
            (_, true) if row.version > finding.version => newer_row,
            (false, true) if row.version == finding.version => Verdict::Equal,
            (_, true) if own => Verdict::Lift,
            (false, true) => Verdict::Replace,
            (true, true) => Verdict::Delete,
            (false, false) if tombstone >= finding.version => newer_tombstone,
            (true, false) if tombstone > finding.version => newer_tombstone,
            (_, false) if own && tombstone < finding.version => Verdict::Lift,
            (false, false) => Verdict::Insert,
            (true, false) => Verdict::Delete,
        }
    }

    /// The destinations that may be served next.
    pub(crate) fn destinations(&self, state: &State, daemon: usize) -> impl Iterator<Item = u8> + use<> {
        let left = state.daemons[daemon].left;
        let count = if self.grain.any_order { self.regions } else { left.trailing_zeros() as u8 + 1 };
        (0..count).filter(move |region| left & (1 << region) != 0)
    }

    /// Begins with a destination.
    pub(crate) fn deliver(&self, state: &mut State, daemon: usize, region: u8) {
        let it = &mut state.daemons[daemon];
        it.target = region;
        it.left &= !(1 << region);
        self.read(state, daemon);
    }

    /// Begins with the same destination again.
    pub(crate) fn start_over(&self, state: &mut State, daemon: usize) {
        let it = &mut state.daemons[daemon];
        it.left |= 1 << it.target;
        it.row_live = false;
        it.tombstone_live = false;
        it.target = 0;
        it.phase = Phase::Deliver;
    }

    /// The next request of a daemon; a delivery begins with [`deliver`](Self::deliver).
    pub(crate) fn daemon_step(&self, state: &mut State, daemon: usize) {
        match state.daemons[daemon].phase {
            Phase::Idle | Phase::Deliver => {}
            Phase::LookAtTombstone => self.look_at_tombstone(state, daemon),
            Phase::ReadFeed => self.read_feed(state, daemon),
            Phase::Insert => self.insert(state, daemon),
            Phase::LookBack(_) => self.look_back(state, daemon),
            Phase::Raise => self.raise(state, daemon),
            Phase::Remove => self.remove(state, daemon),
            Phase::Announce => self.take_over(state, daemon),
            Phase::Lift => self.lift(state, daemon),
            Phase::Stamp => self.stamp(state, daemon),
            Phase::End => self.end(state, daemon),
        }
    }

    /// Reads row and tombstone where the finding is brought. A replace is part of the step: it is conditional on the ETag, so
    /// if it succeeds, nothing came between, and if not, nothing happened.
    fn read(&self, state: &mut State, daemon: usize) {
        let it = state.daemons[daemon];
        match self.verdict(it.finding, it.target, state.at(it.target)) {
            Verdict::Insert => self.go(state, daemon, Phase::Insert),
            Verdict::Replace => {
                self.write_row(state, it.target, it.finding);
                self.stands(state, daemon, After::Replace);
            }
            Verdict::Equal => self.stands(state, daemon, After::Equal),
            Verdict::Delete => self.bring_delete(state, daemon),
            // Something newer came here too: the next look finds it.
            Verdict::Newer(_) if it.taking_over => self.rest(state, daemon),
            Verdict::Newer(there) => self.is_newer(state, daemon, there),
            Verdict::Lift => {
                self.forget(state, daemon);
                self.go(state, daemon, Phase::Lift);
            }
        }
    }

    /// R6 begins: from here on the daemon is about what it read at the destination.
    fn is_newer(&self, state: &mut State, daemon: usize, there: Row) {
        self.forget(state, daemon);
        state.daemons[daemon].finding = there;
        self.go(state, daemon, Phase::Announce);
    }

    pub(crate) fn go(&self, state: &mut State, daemon: usize, phase: Phase) {
        state.daemons[daemon].phase = phase;
    }

    /// The row stands at the target: look at the tombstone, unless that clause of R4 is off.
    fn stands(&self, state: &mut State, daemon: usize, after: After) {
        let rules = &self.rules;
        let looks = match after {
            After::Insert => rules.look_after_insert,
            After::Replace => rules.look_after_replace,
            After::Equal => rules.look_after_equal,
        };
        state.daemons[daemon].row_live = true;
        state.daemons[daemon].phase = Phase::LookBack(after);
        if !looks {
            self.delivered(state, daemon);
        }
    }

    fn insert(&self, state: &mut State, daemon: usize) {
        let it = state.daemons[daemon];
        if state.at(it.target).row.is_present() {
            return self.start_over(state, daemon);
        }
        self.write_row(state, it.target, it.finding);
        self.stands(state, daemon, After::Insert);
    }

    /// Taking the row out again is part of the step that reads the tombstone: it is conditional on the ETag, and a
    /// tombstone is never lowered.
    fn look_back(&self, state: &mut State, daemon: usize) {
        let it = state.daemons[daemon];
        let tombstone = state.at(it.target).tombstone;
        if tombstone <= it.finding.version {
            return self.delivered(state, daemon);
        }
        if !it.row_live {
            return self.start_over(state, daemon);
        }
        self.write_row(state, it.target, Row::ABSENT);
        if it.taking_over {
            return self.rest(state, daemon);
        }
        self.is_newer(state, daemon, Row { version: tombstone, content: 0 });
    }

    /// R5: the tombstone first; then the row is read again and deleted. That is one step, for the same reason.
    fn bring_delete(&self, state: &mut State, daemon: usize) {
        let it = state.daemons[daemon];
        let there = *state.at(it.target);
        let rules = &self.rules;
        state.daemons[daemon].row_live = there.row.is_present();
        state.daemons[daemon].tombstone_live = true;
        if !rules.tombstone_first && there.row.is_present() {
            self.go(state, daemon, Phase::Remove);
        } else if there.tombstone < it.finding.version {
            self.go(state, daemon, Phase::Raise);
            if !self.grain.raise {
                self.raise(state, daemon);
            }
        } else {
            if there.row.is_present() {
                self.write_row(state, it.target, Row::ABSENT);
            }
            self.delivered(state, daemon);
        }
    }

    fn raise(&self, state: &mut State, daemon: usize) {
        let it = state.daemons[daemon];
        if !it.tombstone_live {
            return self.start_over(state, daemon);
        }
        state.raise(it.target, it.finding.version);
        match (self.rules.tombstone_first, self.rules.row_after_tombstone) {
            (true, true) => self.start_over(state, daemon),
            (true, false) if it.row_live => self.go(state, daemon, Phase::Remove),
            _ => self.delivered(state, daemon),
        }
    }

    /// Deletes the row on the ETag that was read before the tombstone was raised, or before it is.
    fn remove(&self, state: &mut State, daemon: usize) {
        let it = state.daemons[daemon];
        if !it.row_live {
            return self.start_over(state, daemon);
        }
        self.write_row(state, it.target, Row::ABSENT);
        if self.rules.tombstone_first || state.at(it.target).tombstone >= it.finding.version {
            return self.delivered(state, daemon);
        }
        state.daemons[daemon].tombstone_live = true;
        self.go(state, daemon, Phase::Raise);
    }
}
