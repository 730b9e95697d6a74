//! Part 3 of the protocol: announce, then write.

use crate::config::{Kind, Protocol, Write};
use crate::state::{Stage, State, write_bit};
use crate::store::Row;
use crate::version::Version;

impl Protocol {
    fn write_of(&self, state: &State, write: usize) -> Write {
        self.scenarios[usize::from(state.scenario)][write]
    }

    /// Whether the writer is free for it: it does one thing after another.
    pub(crate) fn may_begin(&self, state: &State, write: usize) -> bool {
        let writes = &self.scenarios[usize::from(state.scenario)];
        let this = writes[write];
        let before = writes[..write].iter().zip(&state.writes);
        let mut same = before.filter(|(other, _)| (other.region, other.writer) == (this.region, this.writer));
        same.all(|(_, progress)| matches!(progress.stage, Stage::Acknowledged | Stage::Over))
    }

    /// The next step of a write.
    pub(crate) fn write_step(&self, state: &mut State, write: usize) {
        let what = self.write_of(state, write);
        match (state.writes[write].stage, what.kind) {
            (Stage::Waiting, Kind::Change) => {
                let store = state.at(what.region);
                let read = store.row.version.max(store.tombstone);
                state.writes[write].version = self.issue(state, write, read);
                state.writes[write].stage = Stage::Read { live: true };
            }
            (Stage::Waiting, Kind::Put) => {
                state.writes[write].version = self.issue(state, write, Version::NONE);
                self.announce_write(state, write, true);
            }
            // The tombstone is read, and replaced on its ETag beside the record: in effect one step.
            (Stage::Waiting, Kind::Delete) => {
                let tombstone = state.at(what.region).tombstone;
                state.writes[write].version = self.issue(state, write, tombstone);
                self.announce_write(state, write, true);
            }
            (Stage::Read { live }, _) => self.announce_write(state, write, live),
            (Stage::Announced { live: false }, Kind::Change) => self.finish(state, write, Stage::Over),
            (Stage::Announced { .. }, _) => {
                self.take_effect(state, write);
                self.finish(state, write, Stage::Acknowledged);
            }
            (Stage::Repeating | Stage::Acknowledged | Stage::Over, _) => {}
        }
    }

    /// `max(clock, last issued + 1 tick, what it read + 1 tick)`.
    fn issue(&self, state: &State, write: usize, read: Version) -> Version {
        let what = self.write_of(state, write);
        let writes = &self.scenarios[usize::from(state.scenario)];
        let same = |other: &Write| (other.region, other.writer) == (what.region, what.writer);
        let issued = writes.iter().zip(&state.writes).filter(|(other, _)| same(other));
        let last = issued.map(|(_, progress)| progress.version.tick()).max().unwrap_or(0);
        let tick = what.clock.max(last + 1).max(if read.is_some() { read.tick() + 1 } else { 0 });
        Version::new(tick, what.region, what.writer)
    }

    fn announce_write(&self, state: &mut State, write: usize, live: bool) {
        let what = self.write_of(state, write);
        state.writes[write].stage = Stage::Announced { live };
        let version = state.writes[write].version;
        self.announce(state, what.region, version, what.kind == Kind::Delete);
    }

    /// The second step takes effect in the store.
    fn take_effect(&self, state: &mut State, write: usize) {
        let what = self.write_of(state, write);
        let row = match what.kind {
            Kind::Delete => Row::ABSENT,
            Kind::Put | Kind::Change => Row { version: state.writes[write].version, content: write as u8 + 1 },
        };
        if row.is_present() || state.at(what.region).row.is_present() {
            self.write_row(state, what.region, row);
        }
        let writes = &self.scenarios[usize::from(state.scenario)];
        for (other, progress) in writes.iter().zip(&mut state.writes) {
            progress.overwritten |= other.region == what.region && progress.effective;
        }
        state.writes[write].effective = true;
        state.writes[write].overwritten = false;
    }

    fn finish(&self, state: &mut State, write: usize, stage: Stage) {
        state.writes[write].stage = stage;
        if !stage.is_under_way() {
            state.over(write_bit(write));
        }
    }

    /// The writer dies after its announcement.
    pub(crate) fn write_crashes(&self, state: &mut State, write: usize) {
        self.finish(state, write, Stage::Over);
    }

    /// No reply comes, though the attempt took effect. The writer cannot know, and begins again with a new version, which
    /// would be another write; or it sends the same once more, and then, when one of the two attempts is acknowledged,
    /// the other may still be on its way. (An attempt that takes effect late, or never, is no step of its own: any second
    /// step may be late, and a writer may die.)
    pub(crate) fn write_loses_reply(&self, state: &mut State, write: usize) {
        self.take_effect(state, write);
        let stage = if self.rules.one_attempt { Stage::Over } else { Stage::Repeating };
        self.finish(state, write, stage);
    }

    /// The attempt that was given up for lost arrives, or never does.
    pub(crate) fn write_arrives_again(&self, state: &mut State, write: usize, takes_effect: bool) {
        if takes_effect {
            self.take_effect(state, write);
        }
        self.finish(state, write, Stage::Acknowledged);
    }
}
