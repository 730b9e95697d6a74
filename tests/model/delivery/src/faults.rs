//! Daemons that die, and requests whose outcome nobody knows.

use crate::config::Protocol;
use crate::deliver::Verdict;
use crate::state::{Phase, Request, STRAY_BIT, State, Stray, daemon_bit};
use crate::store::Row;

impl Protocol {
    /// The daemon dies, or gives up what it is at: its look is over, and what it has read of the feed is forgotten. Its
    /// successor is a writer of another name; that it keeps the name here only makes lifts collide more easily.
    pub(crate) fn daemon_crashes(&self, state: &mut State, daemon: usize) {
        self.rest(state, daemon);
        let feed = &mut state.store(self.home(daemon)).feed;
        feed.records_mut().iter_mut().for_each(|record| record.known &= !Self::bit(daemon));
    }

    /// The write that a daemon sends next, and where to, if it sends one. A delivery counts where it goes in order.
    pub(crate) fn request(&self, state: &State, daemon: usize) -> (Request, u8) {
        let it = state.daemons[daemon];
        let target = if it.phase == Phase::Deliver { it.left.trailing_zeros() as u8 } else { it.target };
        let there = state.at(target);
        let request = match it.phase {
            Phase::Insert => Request::Insert(it.finding),
            Phase::Deliver => match self.verdict(it.finding, target, there) {
                Verdict::Replace => Request::Replace(it.finding),
                Verdict::Delete if there.row.is_present() && there.tombstone >= it.finding.version => Request::Remove,
                _ => Request::None,
            },
            Phase::LookBack(_) if it.row_live && there.tombstone > it.finding.version => Request::Remove,
            Phase::Remove if it.row_live => Request::Remove,
            Phase::Raise if it.tombstone_live => Request::Raise(it.finding.version),
            _ => Request::None,
        };
        (request, target)
    }

    /// Its next write is given up for lost and stays on its way; the daemon starts over (R4, R5).
    pub(crate) fn daemon_loses_reply(&self, state: &mut State, daemon: usize) {
        let (request, target) = self.request(state, daemon);
        state.daemons[daemon].target = target;
        state.stray = Stray { request, target, live: true };
        for record in state.stores.iter_mut().flat_map(|store| store.feed.records_mut()) {
            if record.waits & daemon_bit(daemon) != 0 {
                record.waits |= STRAY_BIT;
            }
        }
        self.start_over(state, daemon);
    }

    /// The stray request arrives, or never does.
    pub(crate) fn stray_arrives(&self, state: &mut State, takes_effect: bool) {
        let stray = state.stray;
        if takes_effect {
            match stray.request {
                Request::Insert(row) if !state.at(stray.target).row.is_present() => {
                    self.write_row(state, stray.target, row)
                }
                Request::Replace(row) if stray.live => self.write_row(state, stray.target, row),
                Request::Remove if stray.live => self.write_row(state, stray.target, Row::ABSENT),
                Request::Raise(version) if stray.live => state.raise(stray.target, version),
                _ => {}
            }
        }
        state.stray = Stray::default();
        state.over(STRAY_BIT);
    }
}
