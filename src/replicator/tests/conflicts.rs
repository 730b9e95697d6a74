//! What is in the conflict journal, and what is not.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::*;
use crate::replicator::conflict::Conflict;

impl World {
    /// What the journals of all regions say, each conflict once.
    pub(super) fn conflicts(&self) -> Vec<Conflict> {
        let rows = self.stores.iter().flat_map(|store| store.snapshot(&SystemTable::Conflicts.name()));
        let mut conflicts: Vec<_> = rows.map(|row| Conflict::decode(&row).unwrap()).collect();
        conflicts.sort_by_key(Conflict::id);
        conflicts.dedup_by_key(|conflict| conflict.id());
        conflicts
    }

    async fn arrives(&self, n: usize, version: &Version) {
        let deadline = self.runtime.instant() + Duration::from_secs(5);
        while !self.contents(n).iter().any(|body| body.version() == Some(version)) {
            assert!(self.runtime.instant() < deadline, "{version} does not arrive");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_of_the_two_daemons_is_faster_the_loser_is_named_with_its_row() {
    for first in [0, 1] {
        let mut world = World::new(2).await;
        let low = world.put(0, "p", "a", "from the east").await;
        tokio::time::advance(Duration::from_millis(10)).await;
        let high = world.put(1, "p", "a", "from the north").await;
        world.start_one(first, &Settings::default());
        tokio::time::sleep(Duration::from_secs(5)).await;
        world.start_one(1 - first, &Settings::default());
        world.settle(Duration::from_secs(100)).await;
        world.assert_equal();
        let [conflict] = world.conflicts().try_into().unwrap();
        assert_eq!((&conflict.winner.version, &conflict.loser.version), (&high, &low));
        assert!(conflict.loser.row.as_deref().is_some_and(|row| row.contains("from the east")), "{conflict:?}");
        assert!(conflict.winner.row.as_deref().is_some_and(|row| row.contains("from the north")), "{conflict:?}");
        assert_eq!((conflict.destination.as_str(), conflict.asked), ("east", true));
        assert!(conflict.skew_millis().is_some_and(|skew| skew.abs() < 100), "{conflict:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_row_that_is_handed_on_from_region_to_region_is_no_conflict() {
    let mut world = World::new(3).await;
    world.start(&Settings::default());
    // One link is slow, so that announcements stay open for long and changes come in by two ways.
    world.faults(2).set_latency(Duration::from_millis(300), Duration::ZERO);
    for round in 0..12 {
        let version = world.put(round % 2, "p", "a", &round.to_string()).await;
        world.arrives(1 - round % 2, &version).await;
        // The applied log is told beside the delivery.
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    world.settle(Duration::from_secs(100)).await;
    world.assert_equal();
    assert_eq!(world.conflicts(), []);
}

#[tokio::test(start_paused = true)]
async fn a_row_and_a_delete_that_did_not_know_of_each_other_are_a_conflict_and_two_deletes_are_none() {
    let mut world = World::new(2).await;
    world.start(&Settings::default());
    for row in ["a", "b"] {
        world.put(0, "p", row, "x").await;
    }
    world.settle(Duration::from_secs(100)).await;
    world.faults(0).cut(true);
    let lost = world.put(1, "p", "a", "y").await;
    world.delete(1, "p", "b").await;
    world.faults(0).cut(false);
    world.faults(1).cut(true);
    tokio::time::advance(Duration::from_millis(10)).await;
    let delete = world.delete(0, "p", "a").await;
    world.delete(0, "p", "b").await;
    world.faults(1).cut(false);
    world.settle(Duration::from_secs(300)).await;
    world.assert_equal();
    let [conflict] = world.conflicts().try_into().unwrap();
    assert_eq!((&conflict.winner.version, &conflict.loser.version), (&delete, &lost));
    assert_eq!((conflict.winner.row, conflict.loser.row.is_some()), (None, true));
}

#[tokio::test(start_paused = true)]
async fn old_conflicts_and_the_oldest_of_too_many_are_collected() {
    let mut world = World::new(2).await;
    for n in 0..6 {
        world.put(0, "p", &format!("r{n}"), "east").await;
        tokio::time::advance(Duration::from_millis(10)).await;
        world.put(1, "p", &format!("r{n}"), "north").await;
    }
    let settings = Settings { keep_conflicts: Duration::from_secs(1_000), most_conflicts: 4, ..Settings::default() };
    world.start(&settings);
    world.settle(Duration::from_secs(100)).await;
    assert_eq!(world.conflicts().len(), 6);
    tokio::time::sleep(Duration::from_secs(700)).await;
    let left: Vec<usize> = world.stores.iter().map(|s| s.snapshot(&SystemTable::Conflicts.name()).len()).collect();
    assert!(left.iter().all(|left| *left <= 4), "{left:?}");
    tokio::time::sleep(Duration::from_secs(1_300)).await;
    assert_eq!(world.conflicts(), []);
}

#[tokio::test(start_paused = true)]
async fn a_conflict_is_not_certain_where_the_log_that_would_tell_may_be_collected() {
    let mut world = World::new(2).await;
    world.start(&Settings::default());
    let old = world.put(0, "p", "a", "old").await;
    world.arrives(1, &old).await;
    // The record's end does not get through, and the log in north is collected meanwhile.
    world.faults(0).set_rule(|request| {
        let ends = matches!(request.kind, RequestKind::Write | RequestKind::Transact)
            && request.table == Some(&SystemTable::Feed.name());
        ends.then(|| Fault::Before(StoreError::new(ErrorKind::Server, "no record ends")))
    });
    let logged = |world: &World| !world.stores[1].snapshot(&SystemTable::Applied.name()).is_empty();
    world.until("north is told", 5, logged).await;
    world.until("its log is collected", 400, |world| !logged(world)).await;
    assert_eq!(records(&world.stores[0]).len(), 1, "and the record is open");
    let new = world.put(1, "p", "a", "new").await;
    world.arrives(0, &new).await;
    let [conflict] = world.conflicts().try_into().unwrap();
    assert_eq!((&conflict.loser.version, conflict.asked), (&old, false));
}

#[tokio::test(start_paused = true)]
async fn what_a_version_from_the_future_will_overwrite_is_named_before_its_announcement_ends() {
    let mut world = World::new(2).await;
    let north = Region::new("north").unwrap();
    let ahead = Version::new(world.runtime.now() + Duration::from_secs(300), &north, WriterId(9));
    world.announce(1, "p", &["a"], &[], &ahead).await;
    let body = World::body("p", "a", "from a clock that is ahead", &ahead);
    world.stores[1].write(&table(), &Operation::Insert(body)).await.unwrap();
    let low = world.put(0, "p", "a", "from the east").await;
    // East's daemon finds it, and has nothing left to wait for.
    world.start_one(0, &Settings::default());
    world.until("east's record ends", 20, |world| records(&world.stores[0]).is_empty()).await;
    assert_eq!(world.stores[0].snapshot(&SystemTable::Quarantine.name()).len(), 1);
    world.stops[0].cancel();
    tokio::time::sleep(Duration::from_secs(320)).await;
    world.start_one(1, &Settings::default());
    world.settle(Duration::from_secs(100)).await;
    world.assert_equal();
    let [conflict] = world.conflicts().try_into().unwrap();
    assert_eq!((&conflict.winner.version, &conflict.loser.version), (&ahead, &low));
    assert!(conflict.loser.row.as_deref().is_some_and(|row| row.contains("from the east")), "{conflict:?}");
}

#[tokio::test(start_paused = true)]
async fn a_conflict_is_not_certain_where_a_third_region_may_have_brought_the_loser() {
    let mut world = World::new(3).await;
    let old = world.put(0, "p", "a", "old").await;
    // West has brought it to north, long ago: what the log told of that is collected.
    world.stores[1].write(&table(), &Operation::Insert(World::body("p", "a", "old", &old))).await.unwrap();
    world.start_one(1, &Settings::default());
    world.start_one(2, &Settings::default());
    tokio::time::sleep(Duration::from_secs(400)).await;
    assert_eq!(records(&world.stores[0]).len(), 1, "east has no daemon, so its link to north has no Last Sync Time");
    let new = world.put(1, "p", "a", "new").await;
    world.arrives(0, &new).await;
    let [conflict] = world.conflicts().try_into().unwrap();
    assert_eq!((&conflict.loser.version, conflict.asked), (&old, false));
}

#[tokio::test(start_paused = true)]
async fn what_was_written_where_a_delete_had_come_in_is_no_conflict_though_no_log_tells_of_that_any_more() {
    let mut world = World::new(3).await;
    let deleted = world.delete(0, "p", "a").await;
    let id = RowId::new(table(), "p".into(), "a".into());
    let stone = Operation::Insert(encode_tombstone(&Tombstone { id, version: deleted }));
    world.stores[1].write(&SystemTable::Feed.name(), &stone).await.unwrap();
    world.start_one(1, &Settings::default());
    world.start_one(2, &Settings::default());
    tokio::time::sleep(Duration::from_secs(400)).await;
    assert_eq!(records(&world.stores[0]).len(), 1, "east has no daemon");
    let new = world.put(1, "p", "a", "new").await;
    world.arrives(0, &new).await;
    assert_eq!(world.conflicts(), []);
}

#[tokio::test(start_paused = true)]
async fn what_gives_way_to_a_delete_is_weighed_once() {
    let mut world = World::new(2).await;
    let low = world.put(1, "p", "a", "from the north").await;
    tokio::time::advance(Duration::from_millis(10)).await;
    let delete = world.delete(0, "p", "a").await;
    let weighed = Arc::new(AtomicUsize::new(0));
    let counted = weighed.clone();
    world.faults(1).set_rule(move |request| {
        let names = request.table == Some(&SystemTable::Conflicts.name()) && request.kind == RequestKind::Write;
        counted.fetch_add(usize::from(names), Relaxed);
        None
    });
    world.start_one(1, &Settings::default());
    world.until("the delete is taken over", 20, |world| world.contents(1).is_empty()).await;
    let [conflict] = world.conflicts().try_into().unwrap();
    assert_eq!((&conflict.winner.version, &conflict.loser.version), (&delete, &low));
    assert_eq!(weighed.load(Relaxed), 1);
}
