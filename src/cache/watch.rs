//! Whether a cache still holds what it was given.
//!
//! A cache says nothing when it is flushed, and nothing when it comes back empty, or from an old snapshot, after a restart. So
//! the daemon keeps a few *markers* in it: keys of no row, each of which holds a version that rises. One that holds less than
//! before has been set back. Where most are gone, the cache has been emptied; where a few are, it only made room, as it does
//! when its memory is full. One marker is written at a time: a flush that falls between a check and the write after it
//! leaves the others gone.

use crate::closed_list;
use crate::model::{ClosedList, PartitionKey, Region, RowBody, RowId, RowKey, SystemTable, Time, Version};

use super::KeyTemplate;
use crate::planted::{Bug, planted};

/// Markers of a cache: one may be evicted now and then, most of them between two checks hardly.
pub const MARKERS: usize = 5;

/// The keys of a region's markers: those that rows of `RelayControl` would have, which no row of the application can have,
/// whatever the template is.
pub fn markers(template: &KeyTemplate, region: &Region) -> [String; MARKERS] {
    std::array::from_fn(|n| {
        let row = RowKey::new(format!("{region}~{n}"));
        template.key(&RowId::new(SystemTable::Control.name(), "cache".into(), row))
    })
}

closed_list! {
    /// What a cache has lost.
    pub enum Loss {
        Emptied = "emptied",
            "it holds nothing of what it was given: it was flushed, or came back empty",
            "`tablerelay cache warm`, or let readers fill it";
        SetBack = "set-back",
            "it holds what it held some time ago: it came back from a snapshot, or a replica that was behind took over",
            "flush it, then `tablerelay cache warm`; else what changed since may be stale until its ttl is over";
    }
}

/// The markers as they were last seen or written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Markers([Option<Version>; MARKERS]);

impl Markers {
    /// What the cache has lost, by what was found of its markers; `marked` says whether it ever had any, for a daemon that
    /// has not seen them yet.
    pub fn loss(&self, found: &[Option<Version>; MARKERS], marked: bool) -> Option<Loss> {
        if planted(Bug::FlushUnnoticed) {
            return None;
        }
        let known = || self.0.iter().zip(found).filter_map(|(known, found)| Some((known.as_ref()?, found)));
        if known().next().is_none() {
            return (marked && found.iter().all(Option::is_none)).then_some(Loss::Emptied);
        }
        if known().any(|(known, found)| found.as_ref().is_some_and(|found| found < known)) {
            return Some(Loss::SetBack);
        }
        let gone = known().filter(|(_, found)| found.is_none()).count();
        (2 * gone > known().count()).then_some(Loss::Emptied)
    }

    /// Which markers are to be written: in turn, and whichever is gone.
    pub fn due(found: &[Option<Version>; MARKERS], turn: usize) -> Vec<usize> {
        (0..MARKERS).filter(|number| *number == turn % MARKERS || found[*number].is_none()).collect()
    }

    /// A marker was seen or written at this version.
    pub fn learn(&mut self, number: usize, version: Version) {
        let known = &mut self.0[number];
        if known.as_ref().is_none_or(|known| *known < version) {
            *known = Some(version);
        }
    }
}

/// What the region knows of its cache, whichever daemon found it out: a row of `RelayControl`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheRecord {
    /// When its first markers were written.
    pub marked: Option<Time>,
    /// What it lost last, and when that was noticed.
    pub lost: Option<(Time, Loss)>,
    /// When the last warming began that went through all tables.
    pub warmed: Option<Time>,
}

impl CacheRecord {
    /// Its keys.
    pub fn keys(region: &Region) -> (PartitionKey, RowKey) {
        ("cache".into(), region.as_str().into())
    }

    /// Whether it has lost something that nobody has brought back.
    pub fn is_wanting(&self) -> bool {
        self.lost.is_some_and(|(lost, _)| self.warmed.is_none_or(|warmed| warmed < lost))
    }

    /// The row to merge into what stands there: what is not known here stays.
    pub fn encode(&self, region: &Region) -> RowBody {
        let (partition, row) = Self::keys(region);
        let time = |time: Option<Time>| time.map(|time| time.to_string());
        RowBody::builder(&partition, &row)
            .maybe("Marked", time(self.marked).as_deref())
            .maybe("Lost", time(self.lost.map(|(at, _)| at)).as_deref())
            .maybe("Loss", self.lost.map(|(_, loss)| loss.as_str()))
            .maybe("Warmed", time(self.warmed).as_deref())
            .finish()
    }

    /// Reads it; what does not read is not known.
    pub fn decode(row: &RowBody) -> Self {
        let time = |name: &str| row.string(name).and_then(|text| Time::parse(&text).ok());
        let loss = row.string("Loss").and_then(|text| Loss::parse(&text));
        Self { marked: time("Marked"), lost: time("Lost").zip(loss), warmed: time("Warmed") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{TableName, WriterId, assert_well_formed};

    fn version(tick: i64) -> Version {
        Version::new(Time::from_ticks(tick), &Region::new("west").unwrap(), WriterId(1))
    }

    fn found(ticks: [i64; MARKERS]) -> [Option<Version>; MARKERS] {
        ticks.map(|tick| (tick > 0).then(|| version(tick)))
    }

    fn known(ticks: [i64; MARKERS]) -> Markers {
        Markers(found(ticks))
    }

    #[test]
    fn a_cache_has_been_emptied_when_most_markers_are_gone() {
        let emptied = Some(Loss::Emptied);
        assert_eq!(known([5, 4, 3, 2, 1]).loss(&found([0, 0, 0, 0, 0]), true), emptied);
        assert_eq!(
            known([5, 4, 3, 2, 1]).loss(&found([9, 0, 0, 0, 0]), true),
            emptied,
            "one was written just after it"
        );
        assert_eq!(known([5, 0, 0, 0, 0]).loss(&found([0, 0, 0, 0, 0]), false), emptied);
        assert_eq!(known([0, 0, 0, 0, 0]).loss(&found([0, 0, 0, 0, 0]), true), emptied, "while no daemon ran");
        assert_eq!(known([0, 0, 0, 0, 0]).loss(&found([0, 0, 0, 0, 0]), false), None, "it never had any");
    }

    #[test]
    fn one_that_makes_room_or_is_marked_by_another_daemon_has_lost_nothing() {
        assert_eq!(known([5, 4, 3, 2, 1]).loss(&found([5, 0, 3, 0, 1]), true), None);
        assert_eq!(known([5, 4, 3, 2, 1]).loss(&found([9, 9, 9, 2, 1]), true), None);
        assert_eq!(known([0, 0, 0, 0, 0]).loss(&found([9, 9, 0, 0, 0]), true), None);
        assert_eq!(Markers::due(&found([5, 0, 3, 0, 1]), 7), [1, 2, 3], "what was evicted comes back");
    }

    #[test]
    fn one_that_holds_less_than_before_has_been_set_back() {
        assert_eq!(known([5, 4, 3, 2, 1]).loss(&found([4, 4, 3, 2, 1]), true), Some(Loss::SetBack));
    }

    #[test]
    fn what_is_learned_only_rises() {
        let mut markers = Markers::default();
        [(0, 5), (0, 4), (2, 3)].into_iter().for_each(|(n, tick)| markers.learn(n, version(tick)));
        assert_eq!(markers, known([5, 0, 3, 0, 0]));
    }

    #[test]
    fn no_row_has_the_key_of_a_marker() {
        let region = Region::new("west").unwrap();
        let keys = markers(&KeyTemplate::default(), &region);
        assert_eq!(keys[0], "relaycontrol:cache:west~0");
        assert!(TableName::new("relaycontrol").unwrap().is_system(), "no such table is replicated");
    }

    #[test]
    fn a_record_reads_back_and_says_whether_something_is_wanting() {
        let region = Region::new("west").unwrap();
        let at = |second| Some(Time::from_unix_seconds(second));
        let mut record = CacheRecord { marked: at(1), lost: at(5).map(|at| (at, Loss::SetBack)), warmed: at(3) };
        assert_eq!(CacheRecord::decode(&record.encode(&region)), record);
        assert!(record.is_wanting());
        record.warmed = at(5);
        assert!(!record.is_wanting() && !CacheRecord::default().is_wanting());
        assert_eq!(CacheRecord::decode(&CacheRecord::default().encode(&region)), CacheRecord::default());
    }

    #[test]
    fn losses_are_a_closed_list() {
        assert_well_formed::<Loss>();
    }
}
