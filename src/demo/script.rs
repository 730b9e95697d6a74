//! What happens when: all write, one region is cut off, it is healed, the writers stop, the regions are compared.

use std::time::Duration;

/// Where the demo is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// All write, and nothing is wrong yet.
    Flowing,
    /// One region is cut off since this time.
    CutOff,
    /// It was healed, and what waited is on its way.
    CatchingUp,
    /// What waited has arrived, so long after the healing.
    CaughtUp(Duration),
    /// The writers have stopped; the feeds are being emptied.
    Settling,
    /// The stores have been compared.
    Compared,
}

/// The times of the script, from the start.
#[derive(Debug, Clone, Copy)]
pub(super) struct Script {
    /// How long the writers write.
    pub writing: Duration,
}

impl Script {
    /// When the region is cut off.
    pub fn cut_at(self) -> Duration {
        self.writing * 3 / 10
    }

    /// When it is healed.
    pub fn heal_at(self) -> Duration {
        self.writing * 6 / 10
    }

    /// The stage at this time, as far as the script alone says.
    pub fn stage(self, elapsed: Duration) -> Stage {
        match elapsed {
            _ if elapsed < self.cut_at() => Stage::Flowing,
            _ if elapsed < self.heal_at() => Stage::CutOff,
            _ if elapsed < self.writing => Stage::CatchingUp,
            _ => Stage::Settling,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_third_of_the_time_a_region_is_cut_off() {
        let script = Script { writing: Duration::from_secs(10) };
        let at = |secs| script.stage(Duration::from_secs(secs));
        assert_eq!([at(0), at(3), at(6), at(10)], [Stage::Flowing, Stage::CutOff, Stage::CatchingUp, Stage::Settling]);
    }
}
