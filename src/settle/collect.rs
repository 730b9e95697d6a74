//! R8: up to when tombstones may go.
//!
//! A tombstone keeps what was deleted from coming back by a write, or a copy of a row, that is older than the delete and has not
//! arrived yet. So it may go once nothing of that age can be anywhere any more. What tells so is a time for each condition, and the
//! lowest of them is the *watermark*: all tombstones before it may go, as far as these conditions go. Whether the row itself still
//! stands anywhere is looked at row by row besides.
//!
//! A time counts less the *margin*, which is the allowed skew and a settle window. The skew, since versions are issued by writers'
//! clocks. The window, since a writer may announce a version half a window after it has issued it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;

use crate::closed_list;
use crate::model::{Region, Time, Version};
use crate::planted::{Bug, planted};

closed_list! {
    /// What holds tombstones back.
    pub enum HeldBy {
        MinimumAge = "minimum-age",
            "nothing but `tombstones.minimum_age`: all that are older may go",
            "none";
        LinkBehind = "link-behind",
            "the Last Sync Time of this link has not passed them",
            "see why that link is behind: `tablerelay status`";
        LinkUnknown = "link-unknown",
            "this link has no Last Sync Time yet",
            "see whether the daemon of its source runs; it is there a settle window after that has begun";
        VerifiedBefore = "verified-before",
            "the last complete pass over these two regions began before they were old enough",
            "none: the scrubber goes over them again (`scrubber.every`)";
        NotVerified = "not-verified",
            "no complete pass over these two regions is known",
            "none while the scrubber runs; where it is switched off, `tablerelay verify --repair` counts as one";
        RegionTakenOut = "region-taken-out",
            "this region is no longer in the configuration, and may hold what the others do not know",
            "run `tablerelay verify --repair` for every pair of the regions that are left; or put it back";
        RegionUnreachable = "region-unreachable",
            "this region cannot be read, so that nobody knows what stands there",
            "see why it cannot be read; if it is gone for good, take it out of the configuration";
    }
}

/// By what tombstones are collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CollectRules {
    /// How long a write may be under way after its announcement.
    pub settle_window: Duration,
    /// How far clocks may be apart.
    pub max_clock_skew: Duration,
    /// How old a tombstone is at least.
    pub minimum_age: Duration,
}

impl CollectRules {
    /// How much older than what is known to be through a tombstone has to be.
    pub fn margin(&self) -> Duration {
        self.settle_window + self.max_clock_skew
    }
}

/// Two regions, the one first that comes first by name.
pub type Pair = (Region, Region);

/// The pair of two regions, whichever is named first.
pub fn pair(one: &Region, other: &Region) -> Pair {
    (one.min(other).clone(), one.max(other).clone())
}

/// What is known of the regions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// The regions of the configuration.
    pub regions: BTreeSet<Region>,
    /// Those of them that could not be read.
    pub unreachable: BTreeSet<Region>,
    /// The copies that deletes are applied to.
    pub copies: BTreeSet<Region>,
    /// Regions that were taken out and still count.
    pub out: BTreeSet<Region>,
    /// The Last Sync Times that were published last, by source and destination.
    pub links: BTreeMap<(Region, Region), Time>,
    /// When the last complete pass of each pair began.
    pub passes: BTreeMap<Pair, Time>,
}

/// Up to when tombstones may go, and what keeps that from being later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Watermark {
    /// All that are older may go; none may where there is no time.
    pub before: Option<Time>,
    /// What holds those back that are not.
    pub held_by: HeldBy,
    /// The link, the pair or the region that it is about.
    pub between: Vec<Region>,
}

impl Watermark {
    fn none(held_by: HeldBy, between: &[&Region]) -> Self {
        Self { before: None, held_by, between: between.iter().map(|region| (*region).clone()).collect() }
    }

    /// Whether a tombstone may go that has this version and was raised then, by the clock of its storage. Both count: one that
    /// came in late, or was raised late by an old delete, has not been in the way of anything for long.
    pub fn passes(&self, version: &Version, raised: Time) -> bool {
        self.before.is_some_and(|before| version.time().max(raised) < before)
    }
}

/// Up to when the tombstones of region `own` may go at `now`, by its storage clock.
pub fn watermark(own: &Region, known: &Known, rules: CollectRules, now: Time) -> Watermark {
    let by_age = Watermark { before: Some(now - rules.minimum_age), held_by: HeldBy::MinimumAge, between: vec![] };
    if planted(Bug::CollectedByAge) {
        return by_age;
    }
    if let Some(region) = known.unreachable.first() {
        return Watermark::none(HeldBy::RegionUnreachable, &[region]);
    }
    if let Some(region) = known.out.first().filter(|_| !planted(Bug::CollectedWhileOut)) {
        return Watermark::none(HeldBy::RegionTakenOut, &[region]);
    }
    let (mut lowest, margin) = (by_age, rules.margin());
    let mut take = |time: Time, held_by: HeldBy, (one, other): (&Region, &Region)| {
        let before = Some(time - margin);
        if before < lowest.before {
            lowest = Watermark { before, held_by, between: vec![one.clone(), other.clone()] };
        }
    };
    for source in &known.regions {
        for destination in known.regions.union(&known.copies).filter(|destination| *destination != source) {
            if planted(Bug::CollectedOneWay) && source != own {
                continue;
            }
            match known.links.get(&(source.clone(), destination.clone())) {
                Some(last_sync) => take(*last_sync, HeldBy::LinkBehind, (source, destination)),
                None => return Watermark::none(HeldBy::LinkUnknown, &[source, destination]),
            }
        }
    }
    for one in &known.regions {
        for other in known.regions.iter().filter(|other| *other > one) {
            if planted(Bug::CollectedUnverified) {
                continue;
            }
            match known.passes.get(&pair(one, other)) {
                Some(began) => take(*began, HeldBy::VerifiedBefore, (one, other)),
                None => return Watermark::none(HeldBy::NotVerified, &[one, other]),
            }
        }
    }
    lowest
}

/// Whether a region that was taken out has stopped to count: every region that is left has known for as long as `out` says that it
/// is out, and every pair of them was repaired whole since.
pub fn has_gone(
    left: &BTreeSet<Region>,
    out: &BTreeMap<Region, Time>,
    repaired: &BTreeMap<Pair, Time>,
    rules: CollectRules,
    now: Time,
) -> bool {
    let Some(since) = out.values().max().map(|since| *since + rules.margin()) else { return false };
    let mut pairs =
        left.iter().flat_map(|one| left.iter().filter(move |other| *other > one).map(move |b| pair(one, b)));
    let through = |pair: Pair| repaired.get(&pair).is_some_and(|began| *began >= since);
    now >= since && left.iter().all(|region| out.contains_key(region)) && pairs.all(through)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{WriterId, assert_well_formed};
    use proptest::prelude::*;

    const RULES: CollectRules = CollectRules {
        settle_window: Duration::from_secs(60),
        max_clock_skew: Duration::from_secs(40),
        minimum_age: Duration::from_secs(1_000),
    };
    const NAMES: [&str; 3] = ["east", "north", "west"];

    fn region(n: usize) -> Region {
        Region::new(NAMES[n]).unwrap()
    }

    fn at(seconds: i64) -> Time {
        Time::from_unix_seconds(seconds)
    }

    fn links() -> impl Iterator<Item = (usize, usize)> {
        (0..3).flat_map(|a| (0..3).filter(move |b| *b != a).map(move |b| (a, b)))
    }

    /// Everything is known, and through at 100,000.
    fn known() -> Known {
        Known {
            regions: (0..3).map(region).collect(),
            links: links().map(|(a, b)| ((region(a), region(b)), at(100_000))).collect(),
            passes: links().map(|(a, b)| (pair(&region(a), &region(b)), at(100_000))).collect(),
            ..Known::default()
        }
    }

    fn found(known: &Known) -> (Option<Time>, HeldBy, String) {
        let Watermark { before, held_by, between } = watermark(&region(0), known, RULES, at(100_000));
        (before, held_by, between.iter().map(Region::as_str).collect::<Vec<_>>().join(">"))
    }

    #[test]
    fn where_all_is_through_the_age_decides() {
        assert_eq!(found(&known()), (Some(at(99_000)), HeldBy::MinimumAge, String::new()));
        let alone = Known { regions: [region(0)].into(), ..Known::default() };
        assert_eq!(found(&alone).1, HeldBy::MinimumAge, "there is nobody to come back from");
    }

    #[test]
    fn each_link_and_each_pair_holds_with_the_margin_and_whoever_is_not_known_holds_all() {
        for (a, b) in links() {
            let mut slow = known();
            slow.links.insert((region(a), region(b)), at(50_000));
            let name = format!("{}>{}", NAMES[a], NAMES[b]);
            assert_eq!(found(&slow), (Some(at(49_900)), HeldBy::LinkBehind, name.clone()));
            slow.links.remove(&(region(a), region(b)));
            assert_eq!(found(&slow), (None, HeldBy::LinkUnknown, name));
            let (mut old, of) = (known(), pair(&region(a), &region(b)));
            old.passes.insert(of.clone(), at(50_000));
            let name = format!("{}>{}", of.0, of.1);
            assert_eq!(found(&old), (Some(at(49_900)), HeldBy::VerifiedBefore, name.clone()));
            old.passes.remove(&of);
            assert_eq!(found(&old), (None, HeldBy::NotVerified, name));
        }
        let silent = Known { unreachable: [region(2)].into(), ..known() };
        assert_eq!(found(&silent), (None, HeldBy::RegionUnreachable, "west".into()));
        let out = Known { out: [Region::new("south").unwrap()].into(), ..known() };
        assert_eq!(found(&out), (None, HeldBy::RegionTakenOut, "south".into()));
    }

    #[test]
    fn a_copy_that_deletes_are_applied_to_holds_by_the_links_that_lead_there() {
        let backup = Region::new("backup").unwrap();
        let mut copied = Known { copies: [backup.clone()].into(), ..known() };
        assert_eq!(found(&copied), (None, HeldBy::LinkUnknown, "east>backup".into()));
        for n in 0..3 {
            copied.links.insert((region(n), backup.clone()), at(100_000 - 10_000 * n as i64));
        }
        assert_eq!(found(&copied), (Some(at(79_900)), HeldBy::LinkBehind, "west>backup".into()));
    }

    #[test]
    fn a_tombstone_is_as_young_as_the_later_of_its_version_and_its_raising() {
        let of = |seconds| Version::new(at(seconds), &region(1), WriterId(1));
        let watermark = Watermark { before: Some(at(50)), held_by: HeldBy::MinimumAge, between: vec![] };
        assert!(watermark.passes(&of(49), at(49)));
        assert!(!watermark.passes(&of(50), at(49)) && !watermark.passes(&of(49), at(50)));
        let none = Watermark::none(HeldBy::NotVerified, &[]);
        assert!(!none.passes(&of(0), at(0)));
    }

    #[test]
    fn a_region_has_gone_once_all_know_it_and_every_pair_was_repaired_since() {
        let left: BTreeSet<Region> = (0..3).map(region).collect();
        let out: BTreeMap<Region, Time> = left.iter().cloned().zip([at(10), at(30), at(20)]).collect();
        let repaired = |seconds: i64| known().passes.into_keys().map(|pair| (pair, at(seconds))).collect();
        let gone = |out: &_, repaired: &_| has_gone(&left, out, repaired, RULES, at(1_000));
        assert!(gone(&out, &repaired(130)));
        assert!(!gone(&out, &repaired(129)), "began too soon after the last one had heard");
        let mut one_less: BTreeMap<Pair, Time> = repaired(500);
        one_less.remove(&pair(&region(2), &region(1)));
        assert!(!gone(&out, &one_less));
        let unheard = out.clone().into_iter().take(2).collect();
        assert!(!gone(&unheard, &repaired(500)), "one may still send to it");
        let alone = [region(0)].into();
        assert!(has_gone(&alone, &out, &BTreeMap::new(), RULES, at(130)), "there is no pair to repair");
        assert!(!has_gone(&alone, &out, &BTreeMap::new(), RULES, at(129)));
    }

    proptest! {
        /// Whatever is known: nothing goes that is younger than the minimum age, or than any link or pass less the margin; and what
        /// is known to be through later never holds more back.
        #[test]
        fn nothing_goes_before_its_time(links_at in prop::collection::vec(prop::option::weighted(0.9, 0i64..200_000), 6),
                                        passes_at in prop::collection::vec(prop::option::weighted(0.9, 0i64..200_000), 3)) {
            let mut some = known();
            for (at_, seconds) in links().zip(&links_at) {
                let link = (region(at_.0), region(at_.1));
                match seconds { Some(seconds) => some.links.insert(link, at(*seconds)), None => some.links.remove(&link) };
            }
            let pairs = [(0, 1), (0, 2), (1, 2)];
            for ((a, b), seconds) in pairs.iter().zip(&passes_at) {
                let of = pair(&region(*a), &region(*b));
                match seconds { Some(seconds) => some.passes.insert(of, at(*seconds)), None => some.passes.remove(&of) };
            }
            let before = found(&some).0;
            let all: Option<Vec<i64>> = links_at.iter().chain(&passes_at).copied().collect();
            let expected = all.map(|all| at(all.into_iter().map(|seconds| seconds - 100).min().unwrap().min(99_000)));
            prop_assert_eq!(before, expected);
        }
    }

    #[test]
    fn what_holds_is_a_closed_list() {
        assert_well_formed::<HeldBy>();
    }
}
