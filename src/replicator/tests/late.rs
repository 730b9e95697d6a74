//! What a region had not sent when it lost its role, and what is written there afterwards; and the fence.

use super::*;
use crate::replicator::conflict::Conflict;
use crate::resolve::Decision;
use crate::stores::StoreError;
use crate::topology::{LateWrites, MoveKind};

fn settings(late_writes: LateWrites) -> Settings {
    Settings { late_writes, park_after: Duration::from_secs(2), ..Settings::default() }
}

impl World {
    /// East was the writer, and everybody knows that north is it now.
    async fn after_a_failover(settings: &Settings) -> Self {
        let mut world = Self::with_roles().await;
        world.start(settings);
        world.until_spread_first().await;
        world.put(0, "p", "old", "known to all").await;
        world.settle(Duration::from_secs(5)).await;
        let moved = world.moved(1, MoveKind::Forced).await;
        world.until_spread(&moved).await;
        world
    }

    /// What the journals say of late writes, each once.
    fn late(&self) -> Vec<Conflict> {
        self.conflicts().into_iter().filter(|conflict| conflict.decision == Decision::LateWrite).collect()
    }

    fn value(&self, n: usize, row: &str) -> Option<String> {
        self.contents(n).into_iter().find(|body| body.row().as_str() == row)?.string("Value")
    }

    /// Lets everything settle, and sees that north and west never show what is late.
    async fn settle_unseen(&self, late: &str, within: Duration) {
        let deadline = self.runtime.instant() + within;
        while self.stores.iter().any(|store| !records(store).is_empty()) || (0..3).any(|n| !self.hints(n).is_empty()) {
            for n in [1, 2] {
                assert!(
                    !self.contents(n).iter().any(|body| body.json().contains(late)),
                    "{late} shows in {}",
                    NAMES[n]
                );
            }
            assert!(self.runtime.instant() < deadline, "something is left");
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        self.assert_equal();
    }
}

#[tokio::test(start_paused = true)]
async fn merged_a_late_write_is_like_any_other() {
    let mut world = World::after_a_failover(&settings(LateWrites::Merge)).await;
    world.put(0, "p", "a", "late").await;
    world.put(0, "p", "old", "late too").await;
    // What survivors announced, and this has overtaken, ends after its window.
    world.settle(Duration::from_secs(100)).await;
    world.assert_equal();
    assert_eq!((world.value(2, "a").as_deref(), world.value(1, "old").as_deref()), (Some("late"), Some("late too")));
    assert_eq!(world.conflicts(), []);
}

#[tokio::test(start_paused = true)]
async fn journaled_a_late_write_is_named_with_both_rows_and_shows_nowhere_else() {
    let mut world = World::after_a_failover(&settings(LateWrites::Journal)).await;
    let new = world.put(0, "p", "new", "late").await;
    let over = world.put(0, "p", "old", "late").await;
    world.settle_unseen("late", Duration::from_secs(100)).await;
    let gone = world.delete(0, "p", "old").await;
    world.settle_unseen("late", Duration::from_secs(200)).await;
    assert_eq!((world.value(0, "old").as_deref(), world.value(0, "new")), (Some("known to all"), None));
    let late = world.late();
    let of = |version: &Version| late.iter().find(|conflict| conflict.loser.version == *version).expect("it is named");
    assert_eq!((late.len(), world.conflicts().len()), (3, 3), "each is named once: {late:?}");
    assert!(of(&new).loser.row.as_deref().is_some_and(|row| row.contains("late")) && of(&new).winner.row.is_none());
    assert!(of(&over).winner.row.as_deref().is_some_and(|row| row.contains("known to all")));
    assert_eq!((of(&gone).loser.row.as_deref(), of(&gone).destination.as_str()), (None, "east"));
}

#[tokio::test(start_paused = true)]
async fn what_a_region_kept_as_hints_when_it_lost_its_role_is_journaled_when_it_is_back() {
    let settings = settings(LateWrites::Journal);
    let mut world = World::with_roles().await;
    world.start_one(0, &settings);
    for n in [1, 2] {
        world.faults(n).cut(true);
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    for row in ["a", "b"] {
        world.put(0, "p", row, "residual").await;
    }
    world
        .until("it waits as hints", 30, |world| world.hints(0).len() == 4 && records(&world.stores[0]).is_empty())
        .await;
    world.stops[0].cancel();
    tokio::time::sleep(Duration::from_secs(10)).await;
    // East is gone, and north takes over; one of the rows is written there.
    for n in [1, 2] {
        world.faults(n).cut(false);
    }
    world.faults(0).cut(true);
    world.start_one(1, &settings);
    world.start_one(2, &settings);
    tokio::time::sleep(Duration::from_secs(5)).await;
    world.moved(1, MoveKind::Forced).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let b = world.put(1, "p", "b", "north's").await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    world.faults(0).cut(false);
    world.start_one(0, &settings);
    world.settle_unseen("residual", Duration::from_secs(200)).await;
    assert_eq!((world.value(0, "a"), world.value(0, "b").as_deref()), (None, Some("north's")));
    let named = world.conflicts();
    let of = |row: &str| named.iter().filter(|conflict| conflict.row.row.as_str() == row).collect::<Vec<_>>();
    assert_eq!((of("a").len(), of("a")[0].decision), (1, Decision::LateWrite), "{named:?}");
    // What north wrote is above it: lost to that like in any other conflict.
    assert_eq!((of("b").len(), &of("b")[0].winner.version), (1, &b), "{named:?}");
}

#[tokio::test(start_paused = true)]
async fn whoever_meets_a_late_write_on_its_way_overrules_it() {
    // What west brings is late itself: north, which has nothing of the row, has the last word on both.
    for (brings, stands, named) in [(1, Some("someone's"), 1), (2, None, 2)] {
        let mut world = World::after_a_failover(&settings(LateWrites::Journal)).await;
        // East's daemon is gone, and its applications are not.
        world.stops[0].cancel();
        tokio::time::sleep(Duration::from_secs(10)).await;
        let ahead = world.runtime.now() + Duration::from_secs(5);
        let version = Version::new(ahead, world.regions[0].region(), WriterId(9));
        world.announce(0, "p", &["a"], &[], &version).await;
        let body = World::body("p", "a", "late", &version);
        world.stores[0].write(&table(), &Operation::InsertOrReplace(body)).await.unwrap();
        world.put(brings, "p", "a", "someone's").await;
        let shown = |world: &World| (1..3).any(|n| world.value(n, "a").is_some_and(|value| value == "late"));
        let deadline = world.runtime.instant() + Duration::from_secs(150);
        while world.value(0, "a").is_some_and(|value| value == "late") {
            assert!(!shown(&world) && world.runtime.instant() < deadline, "{:?}", world.contents(0));
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        world.start_one(0, &settings(LateWrites::Journal));
        world.settle_unseen("late", Duration::from_secs(200)).await;
        assert_eq!((world.value(0, "a").as_deref(), world.late().len()), (stands, named), "{:?}", world.conflicts());
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_brought_to_a_region_whose_roles_have_not_been_read_for_half_a_window() {
    let mut world = World::with_roles().await;
    world.start(&Settings::default());
    world.until_spread_first().await;
    world.faults(1).set_rule(|request| {
        let roles = request.partition.is_some_and(|partition| partition.as_str() == "roles");
        let error = StoreError::new(ErrorKind::Unreachable, "nobody hears");
        (roles && request.operations.is_empty()).then_some(Fault::Before(error))
    });
    tokio::time::sleep(Duration::from_secs(20)).await;
    world.put(0, "p", "a", "in time").await;
    world.settle(Duration::from_secs(5)).await;
    tokio::time::sleep(Duration::from_secs(12)).await;
    world.put(0, "p", "b", "fenced off").await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!((world.value(1, "b"), world.value(2, "b").as_deref()), (None, Some("fenced off")));
    world.faults(1).clear();
    world.settle(Duration::from_secs(20)).await;
    world.until("the hint is brought", 20, |world| world.value(1, "b").is_some()).await;
}
