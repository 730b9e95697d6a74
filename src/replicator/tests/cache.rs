//! A cache that is down holds up nobody, and is refreshed from hints when it is back.

use futures::FutureExt;

use super::item::Outcome;
use super::refresh::CacheLane;
use super::single::Single;
use super::*;
use crate::batch::Parcel;
use crate::cache::{CacheRecord, Loss};
use crate::feed::{decode_hint, hint_consumer};
use crate::resolve::Finding;
use crate::settle::LinkState;

const PARTITIONS: usize = 20;

impl World {
    async fn write_to_all(&mut self, value: &str) {
        for partition in 0..PARTITIONS {
            self.put(0, &format!("p{partition}"), "r", value).await;
        }
    }

    fn hinted(&self, n: usize, consumer: &str) -> Vec<Row> {
        let hints = self.hints(n).into_iter();
        hints.filter(|hint| hint_consumer(hint.body.partition()) == consumer).collect()
    }

    /// The versions that a cache holds as entries, by key.
    fn cached(&self, n: usize) -> Vec<(String, String)> {
        let held = self.caches[n].snapshot().into_iter();
        let held = held.filter(|(key, _)| !key.starts_with("relaycontrol:"));
        held.filter(|(_, row)| row.entry.is_some()).map(|(key, row)| (key, row.version)).collect()
    }

    /// The versions that it should hold.
    fn standing(&self, n: usize) -> Vec<(String, String)> {
        let key = |body: &RowBody| {
            KeyTemplate::default().key(&RowId::new(table(), body.partition().clone(), body.row().clone()))
        };
        let mut all: Vec<_> =
            self.contents(n).iter().map(|body| (key(body), body.version().unwrap().to_string())).collect();
        all.sort();
        all
    }
}

#[tokio::test(start_paused = true)]
async fn a_cache_that_is_down_holds_up_nobody_and_is_refreshed_from_hints() {
    let mut world = World::new(2).await;
    world.start(&Settings::default());
    world.write_to_all("0").await;
    world.settle(Duration::from_secs(5)).await;
    world.caches[0].faults().cut(true);
    for round in 1..4 {
        world.write_to_all(&round.to_string()).await;
        // The first records end once the cache is parked, the others at once.
        world.settle(Duration::from_secs(5)).await;
    }
    assert_eq!(world.contents(0), world.contents(1), "the other region has it all");
    assert_eq!(world.hints(0).len(), world.hinted(0, "cache@east").len(), "nothing else waits");
    assert_eq!(world.hints(0).len(), PARTITIONS, "one hint per distinct row");
    assert_ne!(world.cached(0), world.standing(0));
    world.delete(0, "p0", "r").await;
    world.settle(Duration::from_secs(120)).await;
    world.caches[0].faults().cut(false);
    world.until_drained(0).await;
    assert_eq!(world.cached(0), world.standing(0));
    assert_eq!(world.cached(0).len(), PARTITIONS - 1, "what was deleted meanwhile is gone");
}

#[tokio::test(start_paused = true)]
async fn a_cache_that_hangs_is_parked_as_well() {
    let mut world = World::new(1).await;
    world.start(&Settings::default());
    world.caches[0].faults().set_latency(Duration::from_secs(3_600), Duration::ZERO);
    world.write_to_all("1").await;
    world.settle(Duration::from_secs(5)).await;
    assert_eq!(world.hinted(0, "cache@east").len(), PARTITIONS);
    world.caches[0].faults().set_latency(Duration::from_millis(1), Duration::ZERO);
    world.until_drained(0).await;
    assert_eq!(world.cached(0), world.standing(0));
}

#[tokio::test(start_paused = true)]
async fn what_comes_in_from_another_region_is_kept_for_a_cache_that_is_down() {
    let mut world = World::new(2).await;
    world.start(&Settings::default());
    world.caches[1].faults().cut(true);
    world.write_to_all("1").await;
    world.settle(Duration::from_secs(5)).await;
    let deadline = world.runtime.instant() + Duration::from_secs(30);
    while world.hinted(1, "cache@north").len() < PARTITIONS {
        assert!(world.runtime.instant() < deadline, "{:?}", world.hints(1));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let hint = decode_hint(&world.hints(1)[0]).unwrap();
    assert!(world.contents(1).iter().any(|body| body.version() == Some(&hint.version)));
    world.caches[1].faults().cut(false);
    world.until_drained(1).await;
    assert_eq!(world.cached(1), world.standing(1));
    assert_eq!(world.cached(1).len(), PARTITIONS);
}

#[tokio::test(start_paused = true)]
async fn a_region_that_cannot_be_asked_about_what_only_a_cache_holds_keeps_no_record_open() {
    let mut world = World::new(2).await;
    world.start(&Settings::default());
    let row = RowId::new(table(), "p".into(), "r".into());
    let key = KeyTemplate::default().key(&row);
    // A version of the north that stands nowhere but in the cache of the east.
    let ahead = Version::new(world.runtime.now() + Duration::from_secs(20), world.regions[1].region(), WriterId(9));
    let entry = Some(Arc::from(World::body("p", "r", "overruled", &ahead).json().as_ref()));
    let refresh = crate::cache::Refresh { key: key.clone(), version: ahead.clone(), entry };
    world.caches[0].refresh(&[refresh]).await.unwrap();
    world.faults(1).cut(true);
    world.put(0, "p", "r", "stands").await;
    world.settle(Duration::from_secs(20)).await;
    assert_eq!(world.hinted(0, "cache@east").len(), 1, "it waits for the north as a hint");
    world.faults(1).cut(false);
    world.until_drained(0).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(world.cached(0), world.standing(0));
}

#[tokio::test(start_paused = true)]
async fn a_cache_that_was_flushed_is_noticed_once_by_whoever_watches() {
    let mut world = World::new(1).await;
    world.start(&Settings::default());
    world.start_one(0, &Settings::default());
    world.write_to_all("1").await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    let status = |world: &World, n: usize| world.boards[n].snapshot().cache.unwrap();
    assert_eq!(status(&world, 0).lost, None, "a cache that was always empty has lost nothing");
    // One marker makes way for other keys: that is no flush.
    let [marker, ..] = crate::cache::markers(&KeyTemplate::default(), world.regions[0].region());
    world.caches[0].forget(&marker);
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(status(&world, 0).lost, None);
    world.caches[0].flush();
    let flushed = world.runtime.now();
    tokio::time::sleep(Duration::from_secs(20)).await;
    let noticed = status(&world, 0);
    assert_eq!((noticed.loss, noticed.state), (Some(Loss::Emptied), LinkState::Flowing));
    assert!(noticed.lost.is_some_and(|lost| lost > flushed) && noticed.is_wanting());
    assert_eq!(status(&world, 1).lost, noticed.lost, "both daemons tell the same");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(status(&world, 0).lost, noticed.lost, "it is noticed once");
    // Somebody warms it.
    let (home, now) = (world.regions[0].home().clone(), world.runtime.now());
    let warmed = CacheRecord { warmed: Some(now), ..CacheRecord::default() }.encode(world.regions[0].region());
    home.write(&SystemTable::Control.name(), &Operation::InsertOrMerge(warmed)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(20)).await;
    let warm = status(&world, 0);
    assert_eq!((warm.loss, warm.lost, warm.warmed, warm.is_wanting()), (None, noticed.lost, Some(now), false));
}

#[tokio::test(start_paused = true)]
async fn a_cache_that_was_flushed_while_no_daemon_ran_or_set_back_is_noticed_as_well() {
    let mut world = World::new(1).await;
    world.start(&Settings::default());
    tokio::time::sleep(Duration::from_secs(10)).await;
    world.stops[0].cancel();
    world.caches[0].flush();
    world.start_one(0, &Settings::default());
    tokio::time::sleep(Duration::from_secs(20)).await;
    let status = |world: &World| world.boards[1].snapshot().cache.unwrap();
    assert_eq!(status(&world).loss, Some(Loss::Emptied));
    // A snapshot of some time ago.
    let keys = crate::cache::markers(&KeyTemplate::default(), world.regions[0].region());
    let before = world.caches[0].snapshot();
    tokio::time::sleep(Duration::from_secs(20)).await;
    world.caches[0].flush();
    let again = |key: &String| crate::cache::Refresh {
        key: key.clone(),
        version: Version::parse(&before[key].version).unwrap(),
        entry: before[key].entry.as_deref().map(Into::into),
    };
    world.caches[0].refresh(&keys.each_ref().map(again)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(status(&world).loss, Some(Loss::SetBack));
}

#[tokio::test(start_paused = true)]
async fn a_cache_hears_of_a_row_that_was_written_over_another_and_taken_out_again() {
    let mut world = World::new(2).await;
    world.start(&Settings::default());
    world.put(1, "p", "a", "north's").await;
    world.settle(Duration::from_secs(100)).await;
    world.until("north's cache has it", 5, |world| world.cached(1).len() == 1).await;
    // A conditional delete that was refused has left its tombstone; east writes below it, and above the row.
    let east = world.version(0);
    tokio::time::advance(Duration::from_millis(10)).await;
    let id = RowId::new(table(), "p".into(), "a".into());
    let stone = Operation::Insert(encode_tombstone(&Tombstone { id, version: world.version(1) }));
    world.stores[1].write(&SystemTable::Feed.name(), &stone).await.unwrap();
    // When east's daemon has written its row in north, north's brings the delete to east, before east's finds out.
    let (store, brought) = (world.stores[0].by_another_line(), std::sync::atomic::AtomicBool::new(false));
    world.faults(1).set_rule(move |request| {
        let writes = request.table == Some(&table())
            && request.operations.iter().any(|operation| matches!(operation, Operation::Replace(..)));
        if writes && !brought.swap(true, std::sync::atomic::Ordering::Relaxed) {
            let gone = Operation::Delete { partition: "p".into(), row: "a".into(), condition: Condition::Present };
            let feed = SystemTable::Feed.name();
            store.write(&feed, &stone).now_or_never().expect("it answers at once").unwrap();
            store.write(&table(), &gone).now_or_never().expect("it answers at once").unwrap();
        }
        None
    });
    world.announce(0, "p", &["a"], &[], &east).await;
    let body = World::body("p", "a", "east's", &east);
    world.stores[0].write(&table(), &Operation::InsertOrReplace(body)).await.unwrap();
    world.settle(Duration::from_secs(100)).await;
    world.assert_equal();
    assert!(world.contents(1).is_empty(), "the tombstone is above both");
    world.until("north's cache holds nothing", 10, |world| world.cached(1).is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_found_long_ago_is_not_shown_to_a_cache() {
    let world = World::new(1).await;
    let settings = Settings::default();
    let here = Single::new(world.regions[0].clone(), world.runtime.clone(), settings.settle_window);
    let setup = CacheSetup { cache: world.caches[0].clone(), markers: None, keys: KeyTemplate::default(), warm: None };
    let lane = CacheLane::new(here, vec![], setup, &settings);
    let version = Version::new(world.runtime.now(), world.regions[0].region(), WriterId(1));
    let parcel = Parcel {
        id: RowId::new(table(), "p".into(), "a".into()),
        look: 1,
        began: world.runtime.instant(),
        announced: world.runtime.now(),
        base: None,
        finding: Finding::Deleted(version),
    };
    let outcome = async |parcel: &Parcel| lane.refresh(vec![parcel.clone()]).await.remove(0).1;
    assert!(matches!(outcome(&parcel).await, Outcome::Done(_)));
    // Whoever looked stalls for half a settle window. By then the region's store may have put something lower over it.
    tokio::time::advance(settings.settle_window / 2).await;
    assert_eq!(outcome(&parcel).await, Outcome::LookAgain);
    world.caches[0].faults().cut(true);
    assert!(
        matches!(outcome(&parcel).await, Outcome::Failed(_)),
        "a cache that is down is parked, however old the look"
    );
    world.caches[0].faults().cut(false);
    assert!(lane.bring(vec![parcel], &mut None).await.is_err(), "the row of the log is looked at again");
}
