//! R6 and R10: where a destination is newer, or a region's own store has decided.

use crate::config::Protocol;
use crate::deliver::{Verdict, is_delete};
use crate::state::{Phase, State};
use crate::store::Row;
use crate::version::{FIRST_DAEMON, Version};

impl Protocol {
    /// R6: announces here what the destination has, unless this region has it, or its own store has decided (R10). Then it
    /// is brought to this region like to any other.
    pub(crate) fn take_over(&self, state: &mut State, daemon: usize) {
        let region = self.home(daemon);
        let it = state.daemons[daemon];
        let here = state.at(region);
        match self.verdict(it.finding, region, here) {
            Verdict::Equal | Verdict::Newer(_) => return self.rest(state, daemon),
            Verdict::Delete if !here.row.is_present() && here.tombstone == it.finding.version => {
                return self.rest(state, daemon);
            }
            Verdict::Lift => {
                state.daemons[daemon].target = region;
                return self.go(state, daemon, Phase::Lift);
            }
            Verdict::Insert | Verdict::Replace | Verdict::Delete => {}
        }
        if self.rules.announcement {
            self.announce(state, region, it.finding.version, is_delete(it.finding));
        }
        let it = &mut state.daemons[daemon];
        it.target = 0;
        it.left = 1 << region;
        it.taking_over = true;
        it.phase = Phase::Deliver;
    }

    /// R10: announces a version of the target's region one tick above, with the tombstone where the row is absent.
    pub(crate) fn lift(&self, state: &mut State, daemon: usize) {
        let it = state.daemons[daemon];
        let there = *state.at(it.target);
        if self.verdict(it.finding, it.target, &there) != Verdict::Lift {
            return self.rest(state, daemon);
        }
        let mut tick = it.finding.version.tick() + 1;
        if self.rules.lifts_rise {
            tick = tick.max(it.lifted + 1);
            state.daemons[daemon].lifted = tick;
        }
        let above = Version::new(tick, it.target, FIRST_DAEMON + daemon as u8);
        self.announce(state, it.target, above, !there.row.is_present());
        if !there.row.is_present() {
            return self.rest(state, daemon);
        }
        let it = &mut state.daemons[daemon];
        it.finding = Row { version: above, content: there.row.content };
        it.row_live = true;
        it.phase = Phase::Stamp;
    }

    /// Stamps what stands, if that is still what was read.
    pub(crate) fn stamp(&self, state: &mut State, daemon: usize) {
        let it = state.daemons[daemon];
        if it.row_live {
            self.write_row(state, it.target, it.finding);
        }
        self.rest(state, daemon);
    }
}
