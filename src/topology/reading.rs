//! Whether a region offers itself to readers: the rule behind `/health/read` where a table is `bounded`.
//!
//! A region is as fresh as its stalest link: it has what was written anywhere up to some time, its *freshness*. Further behind
//! than the limit, it refuses, so that a load balancer sends its readers elsewhere; but only while it knows of a region that
//! serves and is *strictly* fresher. So of all regions the freshest one never refuses, and not all of them refuse at once.
//!
//! That holds although everybody's knowledge of the others is late. Freshness never goes back, so what is known of another
//! is at most what it has, and who refuses knows of somebody who *has* more. Suppose all refuse, and take the freshest of
//! them: whom it leaves its readers to is fresher still, which cannot be. Three things keep that true: a region decides anew
//! before it tells others of a new freshness; it never goes on refusing for the sake of hysteresis alone once nobody is
//! fresher; and a region that was not heard of lately does not count. The last is the one gap: a region that dies is
//! counted on until it has been silent for a few publications.
//!
//! A region that hears of nobody cannot tell whether it was cut off or is the only one left. It serves ([`Alone::Serve`]): a
//! load balancer that finds all origins ill sends readers to all of them anyway, and stale is better than nowhere. Who wants it
//! the other way round says so; a writer serves even then, since its own writes stand nowhere fresher.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::closed_list;
use crate::model::{Region, Time};
use crate::planted::{Bug, planted};
use crate::settle::Word;

closed_list! {
    /// What readers of a region get.
    pub enum Reading {
        Unknown = "unknown",
            "the daemon has just begun and has not read yet how far its region is behind; `/health/read` answers 503",
            "none";
        Fresh = "fresh",
            "the region is within its limit; `/health/read` answers 200",
            "none";
        LeastStale = "least-stale",
            "the region is further behind than its limit, and none that serves is known to be fresher: `/health/read` answers 200",
            "see why the links into it are behind (`tablerelay status`)";
        Behind = "behind",
            "the region is further behind than its limit, and a fresher one serves: `/health/read` answers 503",
            "see why the links into it are behind (`tablerelay status`)";
        CutOff = "cut-off",
            "the region is further behind than its limit and hears of no other, and `health.alone` is `refuse`: 503",
            "bring the network to the other regions back, or make this region a writer";
    }
}

impl Reading {
    /// Whether readers are served.
    pub fn serves(self) -> bool {
        matches!(self, Self::Fresh | Self::LeastStale)
    }
}

closed_list! {
    /// What a region does that is too far behind and hears of no other.
    pub enum Alone {
        Serve = "serve",
            "it serves: it may be the only one that is left",
            "none";
        Refuse = "refuse",
            "it refuses, unless it is a writer: the limit holds even where it is cut off, and all may refuse at once",
            "none";
    }
}

/// What a region goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadRules {
    /// How far behind it may be.
    pub limit: Duration,
    /// What it does that hears of nobody.
    pub alone: Alone,
}

impl ReadRules {
    /// How far it must be back within the limit before it counts as fresh again, and how much fresher another must be that is too
    /// far behind itself before readers are left to it. Without it, readers are sent to and fro.
    pub fn margin(&self) -> Duration {
        self.limit / 4
    }
}

/// What is known of the links that come into a region: up to when it has what was written in each source.
#[derive(Debug, Clone, Default)]
pub struct Inbound(BTreeMap<Region, Time>);

impl Inbound {
    /// Everything written in `source` before `time` is here. That stays true.
    pub fn learn(&mut self, source: &Region, time: Time) {
        match self.0.get_mut(source) {
            Some(known) => *known = time.max(*known),
            None => drop(self.0.insert(source.clone(), time)),
        }
    }

    /// Up to when everything is here that these regions wrote; `now` where there are none, and the beginning of time where
    /// nothing is known of one of them.
    pub fn fresh_to<'a>(&self, writers: impl IntoIterator<Item = &'a Region>, now: Time) -> Time {
        let known = writers.into_iter().map(|writer| self.0.get(writer).copied().unwrap_or(Time::EPOCH));
        known.min().unwrap_or(now)
    }
}

/// What a region knows at the moment of a decision.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// Its own freshness.
    pub fresh_to: Time,
    /// The time, by the same clock.
    pub now: Time,
    /// Whether it is a writer.
    pub writer: bool,
    /// The last words of those that were heard of lately.
    pub others: &'a [Word],
}

/// The decision, and what the next one depends on.
#[derive(Debug, Clone, Default)]
pub struct Door {
    /// It is too far behind.
    over: bool,
    refusing: bool,
}

impl Door {
    /// Decides.
    pub fn decide(&mut self, rules: &ReadRules, view: View<'_>) -> Reading {
        let behind = view.now.since(view.fresh_to);
        let limit = if self.over { rules.limit - rules.margin() } else { rules.limit };
        self.over = behind > limit;
        if !self.over {
            self.refusing = false;
            return Reading::Fresh;
        }
        let best = view.others.iter().filter(|word| word.serves).map(|word| word.fresh_to).max();
        let reading = match best {
            _ if planted(Bug::AllRefuse) => Reading::Behind,
            None if view.others.is_empty() && !view.writer && rules.alone == Alone::Refuse => Reading::CutOff,
            Some(best) if best > view.fresh_to + self.margin(rules, view.now.since(best)) => Reading::Behind,
            _ => Reading::LeastStale,
        };
        self.refusing = !reading.serves();
        reading
    }

    /// How much fresher another must be, given how far behind it is.
    fn margin(&self, rules: &ReadRules, behind: Duration) -> Duration {
        if self.refusing || behind <= rules.limit { Duration::ZERO } else { rules.margin() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULES: ReadRules = ReadRules { limit: Duration::from_secs(40), alone: Alone::Serve };

    fn at(seconds: i64) -> Time {
        Time::from_unix_seconds(seconds)
    }

    fn view(fresh_to: i64, now: i64, others: &[Word]) -> View<'_> {
        View { fresh_to: at(fresh_to), now: at(now), writer: false, others }
    }

    fn word(fresh_to: i64) -> Word {
        Word { fresh_to: at(fresh_to), serves: true }
    }

    #[test]
    fn a_region_too_far_behind_refuses_while_a_fresher_one_serves() {
        let mut door = Door::default();
        assert_eq!(door.decide(&RULES, view(60, 100, &[word(99)])), Reading::Fresh);
        assert_eq!(door.decide(&RULES, view(59, 100, &[word(99)])), Reading::Behind);
        // Ten seconds within the limit, not before.
        assert_eq!(door.decide(&RULES, view(69, 100, &[word(99)])), Reading::Behind);
        assert_eq!(door.decide(&RULES, view(70, 100, &[word(99)])), Reading::Fresh);
        assert_eq!(door.decide(&RULES, view(60, 100, &[word(99)])), Reading::Fresh);
    }

    #[test]
    fn the_least_stale_one_serves_and_so_does_who_knows_of_nobody_fresher() {
        let refusing = Word { serves: false, ..word(99) };
        for others in [&[][..], &[refusing], &[word(50)], &[word(40)]] {
            assert_eq!(Door::default().decide(&RULES, view(50, 100, others)), Reading::LeastStale, "{others:?}");
        }
    }

    #[test]
    fn readers_are_not_sent_to_and_fro_between_two_that_are_both_too_far_behind() {
        let mut door = Door::default();
        assert_eq!(door.decide(&RULES, view(40, 100, &[word(50)])), Reading::LeastStale);
        assert_eq!(door.decide(&RULES, view(40, 100, &[word(51)])), Reading::Behind);
        assert_eq!(door.decide(&RULES, view(50, 100, &[word(51)])), Reading::Behind);
        // Nobody is fresher any more: it may be the last one that serves.
        assert_eq!(door.decide(&RULES, view(51, 100, &[word(51)])), Reading::LeastStale);
        assert_eq!(door.decide(&RULES, view(51, 100, &[word(59)])), Reading::LeastStale);
    }

    #[test]
    fn who_hears_of_nobody_serves_or_refuses_as_configured_and_a_writer_always_serves() {
        let strict = ReadRules { alone: Alone::Refuse, ..RULES };
        assert_eq!(Door::default().decide(&strict, view(50, 100, &[])), Reading::CutOff);
        let refusing = Word { serves: false, ..word(10) };
        assert_eq!(Door::default().decide(&strict, view(50, 100, &[refusing])), Reading::LeastStale);
        let writer = View { writer: true, ..view(50, 100, &[]) };
        assert_eq!(Door::default().decide(&strict, writer), Reading::LeastStale);
    }

    #[test]
    fn a_region_is_as_fresh_as_its_stalest_link() {
        let [west, north] = ["west", "north"].map(|name| Region::new(name).unwrap());
        let mut inbound = Inbound::default();
        assert_eq!(inbound.fresh_to([], at(100)), at(100));
        inbound.learn(&west, at(50));
        assert_eq!(inbound.fresh_to([&west, &north], at(100)), Time::EPOCH);
        inbound.learn(&north, at(40));
        inbound.learn(&north, at(30));
        assert_eq!(inbound.fresh_to([&west, &north], at(100)), at(40));
        assert_eq!(inbound.fresh_to([&west], at(100)), at(50));
    }

    #[test]
    fn readings_are_a_closed_list() {
        crate::model::assert_well_formed::<Reading>();
        crate::model::assert_well_formed::<Alone>();
    }

    /// Regions of one world, each with its door and what it last heard of each other.
    struct Regions {
        fresh_to: Vec<i64>,
        doors: Vec<Door>,
        heard: Vec<BTreeMap<usize, Word>>,
        words: Vec<Word>,
    }

    impl Regions {
        fn new(count: usize) -> Self {
            let words = vec![Word { fresh_to: at(0), serves: true }; count];
            Self {
                fresh_to: vec![0; count],
                doors: vec![Door::default(); count],
                heard: vec![BTreeMap::new(); count],
                words,
            }
        }

        fn decide(&mut self, region: usize, now: i64) {
            let others: Vec<Word> = self.heard[region].values().copied().collect();
            let view = view(self.fresh_to[region], now, &others);
            let serves = self.doors[region].decide(&RULES, view).serves();
            self.words[region] = Word { fresh_to: at(self.fresh_to[region]), serves };
        }

        fn hear(&mut self, region: usize, other: usize) {
            let word = self.words[other];
            self.heard[region].insert(other, word);
        }
    }

    proptest! {
        #[test]
        fn under_one_common_view_somebody_serves_and_nobody_within_the_limit_refuses(
            count in 1usize..6,
            steps in proptest::collection::vec((0usize..6, 0i64..60, 0i64..60), 1..60),
        ) {
            let (mut regions, mut now) = (Regions::new(count), 0);
            for (of, progress, pause) in steps {
                now += pause;
                let fresher = (regions.fresh_to[of % count] + progress).min(now);
                regions.fresh_to[of % count] = fresher;
                for region in 0..count {
                    let words: Vec<Word> = (0..count).filter(|other| *other != region).map(|other| Word {
                        fresh_to: at(regions.fresh_to[other]), serves: regions.words[other].serves,
                    }).collect();
                    regions.heard[region] = words.into_iter().enumerate().collect();
                }
                (0..count).for_each(|region| regions.decide(region, now));
                prop_assert!(regions.words.iter().any(|word| word.serves), "{:?} at {now}", regions.words);
                for region in 0..count {
                    prop_assert!(regions.words[region].serves || now - regions.fresh_to[region] > 30);
                }
            }
        }

        /// Words arrive late, out of step and not from everybody, and still somebody serves.
        #[test]
        fn however_late_they_hear_of_each_other_not_all_refuse_at_once(
            count in 2usize..5,
            steps in proptest::collection::vec((0usize..5, 0usize..5, 0i64..50, 0i64..20), 1..200),
        ) {
            let (mut regions, mut now) = (Regions::new(count), 0);
            for (one, other, progress, pause) in steps {
                now += pause;
                let (one, other) = (one % count, other % count);
                if one == other {
                    regions.fresh_to[one] = (regions.fresh_to[one] + progress).min(now);
                } else {
                    regions.hear(one, other);
                }
                regions.decide(one, now);
                prop_assert!(regions.words.iter().any(|word| word.serves), "{:?} at {now}", regions.words);
            }
        }
    }
}
