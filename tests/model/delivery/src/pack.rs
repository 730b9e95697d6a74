//! States are hashed millions of times, so each is packed into a few words first.

use std::hash::{Hash, Hasher};

use crate::state::{After, Daemon, Phase, Progress, Request, Stage, State, Stray};
use crate::store::{Record, Row, Store};

/// Fields side by side in a word.
#[derive(Default)]
struct Word {
    bits: u64,
    used: u32,
}

impl Word {
    fn with(mut self, value: impl Into<u64>, width: u32) -> Self {
        let value = value.into();
        debug_assert!(value >> width == 0 && self.used + width <= 64, "a field does not fit into its word");
        self.bits |= value << self.used;
        self.used += width;
        self
    }

    fn row(self, row: Row) -> Self {
        self.with(row.version.bits(), 16).with(row.content, 3)
    }
}

fn record(it: &Record) -> Word {
    Word::default().with(it.version.bits(), 16).with(it.waits, 16).with(it.ends, 8).with(it.known, 8).with(it.delete, 1)
}

fn store(it: &Store) -> Word {
    Word::default().row(it.row).with(it.tombstone.bits(), 16).with(it.feed.records().len() as u64, 8)
}

fn progress(it: &Progress) -> Word {
    let stage: u8 = match it.stage {
        Stage::Waiting => 0,
        Stage::Read { live } => 1 + u8::from(live),
        Stage::Announced { live } => 3 + u8::from(live),
        Stage::Repeating => 5,
        Stage::Acknowledged => 6,
        Stage::Over => 7,
    };
    Word::default().with(it.version.bits(), 16).with(stage, 3).with(it.effective, 1).with(it.overwritten, 1)
}

fn daemon(it: &Daemon) -> Word {
    let phase: u8 = match it.phase {
        Phase::Idle => 0,
        Phase::LookAtTombstone => 1,
        Phase::ReadFeed => 2,
        Phase::Deliver => 3,
        Phase::Insert => 4,
        Phase::LookBack(After::Insert) => 5,
        Phase::LookBack(After::Replace) => 6,
        Phase::LookBack(After::Equal) => 7,
        Phase::Raise => 8,
        Phase::Remove => 9,
        Phase::Announce => 10,
        Phase::Lift => 11,
        Phase::Stamp => 12,
        Phase::End => 13,
    };
    let word = Word::default().with(phase, 4).with(it.target, 2).with(it.left, 3).row(it.finding);
    word.with(it.row_live, 1).with(it.tombstone_live, 1).with(it.taking_over, 1).with(it.lifted, 8)
}

fn stray(it: &Stray) -> Word {
    let (request, row) = match it.request {
        Request::None => (0u8, Row::ABSENT),
        Request::Insert(row) => (1, row),
        Request::Replace(row) => (2, row),
        Request::Remove => (3, Row::ABSENT),
        Request::Raise(version) => (4, Row { version, content: 0 }),
    };
    Word::default().with(request, 3).row(row).with(it.target, 2).with(it.live, 1)
}

impl Hash for State {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let head = stray(&self.stray).with(self.scenario, 16).with(self.may_fail, 1);
        hasher.write_u64(head.bits);
        for it in &self.stores {
            hasher.write_u64(store(it).bits);
            it.feed.records().iter().for_each(|open| hasher.write_u64(record(open).bits));
        }
        self.writes.iter().for_each(|it| hasher.write_u64(progress(it).bits));
        self.daemons.iter().for_each(|it| hasher.write_u64(daemon(it).bits));
    }
}
