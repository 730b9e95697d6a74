//! What a refresh does to what a cache holds: the rules of the script, for caches that run none.

use std::time::Duration;

use super::{CacheMode, MARK_TTL, Refresh, RefreshOutcome};
use crate::model::Version;
use crate::planted::{Bug, planted};

/// What a cache holds under a key, as far as the rules ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The version of the entry or mark.
    pub version: Version,
    /// Whether there is an entry; else it is a mark.
    pub has_entry: bool,
    /// How long it has to live; `None` for ever.
    pub ttl: Option<Duration>,
}

/// What to do with the key. A time to live of `None` is for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Leave it.
    Leave,
    /// Leave what it holds, with this time to live.
    Renew(Option<Duration>),
    /// Put a mark of the refresh's version there, for [`MARK_TTL`].
    Mark,
    /// Put the refresh's version and entry there.
    Put(Option<Duration>),
}

/// Decides one refresh in a cache of this mode, whose entries live for `ttl`.
///
/// A higher version wins whatever the mode, and an entry wins over a mark of the same version. So the highest version
/// that was ever sent stands at the end, in whichever order they came.
pub fn judge(
    mode: CacheMode,
    ttl: Option<Duration>,
    held: Option<&Held>,
    refresh: &Refresh,
) -> (RefreshOutcome, Action) {
    let has_entry = held.is_some_and(|held| held.has_entry);
    if let Some(held) = held {
        if refresh.version < held.version && !planted(Bug::CacheUnguarded) {
            return (RefreshOutcome::Newer, Action::Leave);
        }
        let fills = mode == CacheMode::WriteThrough && refresh.entry.is_some();
        if refresh.version == held.version && (has_entry || !fills) {
            let longer = held.ttl.is_some_and(|left| ttl.is_none_or(|ttl| ttl > left));
            return (RefreshOutcome::Current, if fills && longer { Action::Renew(ttl) } else { Action::Leave });
        }
    }
    match mode {
        _ if refresh.entry.is_none() => (RefreshOutcome::Marked, Action::Mark),
        CacheMode::WriteThrough => (RefreshOutcome::Stored, Action::Put(ttl)),
        CacheMode::RefreshExisting if has_entry => {
            // Its reader's time to live, or rows that are often written and never read would stay for ever; but not
            // less than a mark's, so that a slow reader cannot put an older row in its place.
            let least = ttl.map_or(MARK_TTL, |ttl| ttl.min(MARK_TTL));
            let left = held.and_then(|held| held.ttl);
            (RefreshOutcome::Stored, Action::Put(left.map(|left| left.max(least))))
        }
        CacheMode::Invalidate if has_entry => (RefreshOutcome::Invalidated, Action::Mark),
        CacheMode::RefreshExisting | CacheMode::Invalidate => (RefreshOutcome::Absent, Action::Mark),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Region, Time, WriterId};
    use proptest::prelude::*;

    fn version(tick: i64) -> Version {
        Version::new(Time::from_ticks(tick), &Region::new("west").unwrap(), WriterId(1))
    }

    fn refresh(tick: i64, entry: bool) -> Refresh {
        Refresh { key: "k".into(), version: version(tick), entry: entry.then(|| format!("{tick}").into()) }
    }

    fn after(held: Option<Held>, mode: CacheMode, refresh: &Refresh) -> Option<Held> {
        match judge(mode, None, held.as_ref(), refresh).1 {
            Action::Leave | Action::Renew(_) => held,
            Action::Mark => Some(Held { version: refresh.version.clone(), has_entry: false, ttl: Some(MARK_TTL) }),
            Action::Put(ttl) => Some(Held { version: refresh.version.clone(), has_entry: true, ttl }),
        }
    }

    fn mode() -> impl Strategy<Value = CacheMode> {
        prop_oneof![Just(CacheMode::WriteThrough), Just(CacheMode::RefreshExisting), Just(CacheMode::Invalidate)]
    }

    proptest! {
        #[test]
        fn the_highest_version_stands_whatever_the_order_and_the_mode(
            steps in proptest::collection::vec((0i64..6, any::<bool>(), mode()), 1..20),
        ) {
            let mut held: Option<Held> = None;
            for (tick, entry, mode) in &steps {
                let next = after(held.clone(), *mode, &refresh(*tick, *entry));
                prop_assert!(next.as_ref().map(|held| &held.version) >= held.as_ref().map(|held| &held.version));
                held = next;
            }
            let highest = steps.iter().map(|(tick, ..)| *tick).max().unwrap();
            prop_assert_eq!(held.unwrap().version, version(highest));
        }

        #[test]
        fn writing_through_in_any_order_ends_alike(
            ticks in proptest::collection::vec((0i64..6, any::<bool>()), 1..8).prop_shuffle(),
            seed in any::<prop::sample::Index>(),
        ) {
            let run = |steps: &[(i64, bool)]| steps.iter().fold(None, |held, (tick, entry)| {
                after(held, CacheMode::WriteThrough, &refresh(*tick, *entry))
            }).map(|held| (held.version, held.has_entry));
            let mut other = ticks.clone();
            other.rotate_left(seed.index(ticks.len()));
            other.reverse();
            prop_assert_eq!(run(&ticks), run(&other));
        }
    }

    #[test]
    fn a_slow_reader_cannot_put_back_what_was_taken_out_or_deleted() {
        let row = after(None, CacheMode::WriteThrough, &refresh(1, true));
        for mode in CacheMode::ALL {
            for newer in [refresh(2, true), refresh(2, false)] {
                for before in [None, row.clone()] {
                    let now = after(before, mode, &newer);
                    let filled = judge(CacheMode::WriteThrough, None, now.as_ref(), &refresh(1, true));
                    assert_eq!(filled, (RefreshOutcome::Newer, Action::Leave), "{mode:?} {newer:?}");
                }
            }
        }
    }

    #[test]
    fn a_reader_may_fill_what_was_invalidated_with_that_very_version() {
        let row = after(None, CacheMode::WriteThrough, &refresh(1, true));
        let (outcome, _) = judge(CacheMode::Invalidate, None, row.as_ref(), &refresh(2, true));
        assert_eq!(outcome, RefreshOutcome::Invalidated);
        let mark = after(row, CacheMode::Invalidate, &refresh(2, true));
        let filled = judge(CacheMode::WriteThrough, None, mark.as_ref(), &refresh(2, true));
        assert_eq!(filled, (RefreshOutcome::Stored, Action::Put(None)));
    }

    #[test]
    fn a_refreshed_entry_keeps_its_readers_time_to_live_but_outlives_a_slow_reader() {
        let hour = Duration::from_secs(3_600);
        let put = |left: Option<Duration>, ttl| {
            let held = Held { version: version(1), has_entry: true, ttl: left };
            judge(CacheMode::RefreshExisting, ttl, Some(&held), &refresh(2, true)).1
        };
        assert_eq!(put(Some(hour / 2), Some(hour)), Action::Put(Some(hour / 2)));
        assert_eq!(put(Some(Duration::from_secs(1)), Some(hour)), Action::Put(Some(MARK_TTL)));
        assert_eq!(put(Some(Duration::from_secs(1)), Some(MARK_TTL / 2)), Action::Put(Some(MARK_TTL / 2)));
        assert_eq!(put(None, Some(hour)), Action::Put(None));
    }

    #[test]
    fn only_writing_through_renews_and_never_shortens() {
        let hour = Duration::from_secs(3_600);
        let held = Held { version: version(1), has_entry: true, ttl: Some(hour) };
        let judge = |mode, ttl| judge(mode, ttl, Some(&held), &refresh(1, true));
        assert_eq!(judge(CacheMode::WriteThrough, Some(2 * hour)).1, Action::Renew(Some(2 * hour)));
        assert_eq!(judge(CacheMode::WriteThrough, None).1, Action::Renew(None));
        assert_eq!(judge(CacheMode::WriteThrough, Some(hour / 2)), (RefreshOutcome::Current, Action::Leave));
        assert_eq!(judge(CacheMode::RefreshExisting, None), (RefreshOutcome::Current, Action::Leave));
        assert_eq!(judge(CacheMode::Invalidate, None), (RefreshOutcome::Current, Action::Leave));
    }
}
