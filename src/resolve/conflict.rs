//! What is a conflict: two regions changed a row, and neither knew of the other's change.
//!
//! A version says when a change was made, not what its writer knew. What its region knew is found in the stores. A change
//! is lost in one place, the store of its own region: whatever it is elsewhere, there it stands until something stands over
//! it. So a change is judged there and once, when a daemon brings a version of another region over it, and not at third
//! places, where the same two versions meet again. What a region's own writers put over it is no conflict: they wrote to
//! the store that held it (R10).
//!
//! Brought over it, the winner was written knowing of it, or not. It was, if the loser stood in the winner's own store
//! before: then that store has put the one over the other, which is what an ordinary later update is, and what a change is
//! that came back by two ways. It makes no difference where that store had overruled the winner first and took the loser in
//! after it: then R10 lifts what it holds. Every delivery is told in the applied log of its destination before the announcement of what
//! was delivered ends, and nothing is collected there while the announcement or a hint of it holds back Last Sync Time.
//! Hence two questions are enough: does the loser still wait for the winner's region, and was it told there all the same?

use crate::closed_list;
use crate::model::{Region, Version};

closed_list! {
    /// Why the winner of a conflict won.
    pub enum Decision {
        LaterTime = "later-time",
            "the winner's version has the later time",
            "look at the skew estimate: where it is larger than what lies between the two versions, the loser was written \
             later and a clock was wrong";
        RegionOrder = "region-order",
            "both versions have the same time, and the winner's region comes later in the order of bytes",
            "none: any order would do, and this one is the same everywhere";
        LateWrite = "late-write",
            "the loser was written in a region that is no writer, and `failover.late_writes` is `journal`: what the writer has stands, whatever the versions",
            "see which application still writes there; write what was lost once more, in the writer's region, where it matters";
    }
}

/// What the stores say of a change that is about to be overwritten in its own region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evidence {
    /// Its announcement is open, or a hint of it waits for the winner's region.
    pub waits: bool,
    /// The applied log of the winner's region tells that it came in there.
    pub told: bool,
}

/// Whether `winner`, brought to `home` over `loser`, may be in conflict with it, so that it is worth to ask for evidence.
/// `base` is what the winner overwrote where it was written, if its writer said so.
pub fn may_conflict(winner: &Version, loser: &Version, home: &Region, base: Option<&Version>) -> bool {
    loser.is_of(home) && !winner.is_of(home) && winner > loser && base != Some(loser)
}

/// Whether it is a conflict.
pub fn is_conflict(evidence: Evidence) -> bool {
    evidence.waits && !evidence.told
}

/// Why `winner` stands over `loser`.
pub fn decision(winner: &Version, loser: &Version) -> Decision {
    if winner.time() > loser.time() { Decision::LaterTime } else { Decision::RegionOrder }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Time, WriterId};
    use proptest::prelude::*;

    fn of(name: &str, tick: i64) -> Version {
        Version::new(Time::from_ticks(tick), &Region::new(name).unwrap(), WriterId(1))
    }

    #[test]
    fn decisions_are_a_closed_list() {
        crate::model::assert_well_formed::<Decision>();
        assert_eq!(decision(&of("west", 6), &of("east", 5)), Decision::LaterTime);
        assert_eq!(decision(&of("west", 5), &of("east", 5)), Decision::RegionOrder);
    }

    /// One row in the stores of three regions, told by the rules of the protocol: what stands where, what waits, what the
    /// logs tell, and beside it the truth, which is what each version's store had held before it.
    #[derive(Default)]
    struct Model {
        stands: [Option<(Version, Option<Version>)>; 3],
        held: [Vec<Version>; 3],
        known: Vec<(Version, Vec<Version>)>,
        told: [Vec<Version>; 3],
        waits: Vec<(Version, [bool; 3])>,
        found: Vec<(Version, Version)>,
        lost: Vec<(Version, Version)>,
    }

    const NAMES: [&str; 3] = ["east", "north", "west"];

    impl Model {
        fn write(&mut self, at: usize, tick: i64, says: bool) {
            let before = self.stands[at].clone().map(|(version, _)| version);
            let version = of(NAMES[at], tick);
            // Within a region versions rise here; where they do not, R10 lifts what stands before anybody compares.
            if before.as_ref().is_some_and(|before| *before >= version) || self.held[at].contains(&version) {
                return;
            }
            self.known.push((version.clone(), self.held[at].clone()));
            self.held[at].push(version.clone());
            self.waits.push((version.clone(), std::array::from_fn(|to| to != at)));
            self.stands[at] = Some((version, before.filter(|_| says)));
        }

        /// Some daemon of `from` brings what stands there to `to`.
        fn deliver(&mut self, from: usize, to: usize) {
            let Some((version, base)) = self.stands[from].clone() else { return };
            let there = self.stands[to].clone().map(|(version, _)| version);
            if there.as_ref().is_none_or(|there| *there < version) {
                if let Some(loser) = &there {
                    self.judge(&version, loser, to, base.as_ref());
                }
                self.stands[to] = Some((version.clone(), base));
                self.held[to].push(version.clone());
                self.told[to].push(version.clone());
            }
            if there.as_ref().is_some_and(|there| *there > version)
                && self.stands[from].as_ref().is_some_and(|(v, _)| *v == version)
            {
                // R6: what stands there is taken over.
                return self.take_over(from, to, &version);
            }
            self.arrived(from, to, &version);
        }

        fn take_over(&mut self, from: usize, to: usize, version: &Version) {
            let Some((newer, _)) = self.stands[to].clone() else { return };
            self.judge(&newer, version, from, None);
            self.stands[from] = Some((newer.clone(), None));
            self.held[from].push(newer.clone());
            self.told[from].push(newer);
            self.arrived(from, to, version);
        }

        /// An announcement waits for the deliveries of its own region; what another one brings on says nothing of it.
        fn arrived(&mut self, from: usize, to: usize, version: &Version) {
            if version.region() != NAMES[from] {
                return;
            }
            if let Some((_, waits)) = self.waits.iter_mut().find(|(waiting, _)| waiting == version) {
                waits[to] = false;
            }
        }

        fn judge(&mut self, winner: &Version, loser: &Version, home: usize, base: Option<&Version>) {
            let region = Region::new(NAMES[home]).unwrap();
            let by = NAMES.iter().position(|name| winner.region() == *name).unwrap();
            let knew = self.known.iter().any(|(version, known)| version == winner && known.contains(loser));
            if loser.is_of(&region) && by != home && !knew {
                self.lost.push((winner.clone(), loser.clone()));
            }
            // An announcement ends when nobody waits any more.
            let waits = self.waits.iter().any(|(version, waits)| version == loser && waits.contains(&true));
            let evidence = Evidence { waits, told: self.told[by].contains(loser) };
            if may_conflict(winner, loser, &region, base) && is_conflict(evidence) {
                self.found.push((winner.clone(), loser.clone()));
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        /// In every order of writes and deliveries: what was lost to a region that did not know it is found, and nothing
        /// else is, and each once.
        #[test]
        fn all_conflicts_are_found_and_no_others(
            steps in proptest::collection::vec((0usize..3, 0usize..3, 0i64..40, any::<bool>()), 1..40),
        ) {
            let mut model = Model::default();
            for (at, to, tick, says) in steps {
                if at == to { model.write(at, tick, says) } else { model.deliver(at, to) }
            }
            prop_assert_eq!(&model.found, &model.lost);
            let mut once = model.found.clone();
            once.sort();
            once.dedup();
            prop_assert_eq!(once.len(), model.found.len());
        }

        #[test]
        fn nothing_is_a_conflict_within_a_region_or_away_from_home(a in 0i64..5, b in 0i64..5, home in 0usize..3, by in 0usize..3) {
            let region = Region::new(NAMES[home]).unwrap();
            let winner = of(NAMES[by], a);
            prop_assert!(!may_conflict(&winner, &of(NAMES[by], b), &region, None));
            let loser = of(NAMES[home], b);
            prop_assert!(!may_conflict(&winner, &loser, &region, Some(&loser)));
        }
    }
}
