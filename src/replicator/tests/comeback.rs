//! After a forced failover: the survivors make equal what got out, and the region that is back tells what it had not sent.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use super::*;
use crate::topology::{LateWrites, Mark, MoveKind, RolesRow, Unsent};

impl World {
    /// East is the writer, and dies with its daemon: what it wrote last is in no other region, or in west alone.
    async fn without_east(settings: &Settings) -> (Self, Mark) {
        let mut world = Self::with_roles().await;
        world.start(settings);
        world.until_spread_first().await;
        for n in 0..200 {
            world.put(0, &format!("p{}", n % 20), &format!("r{n}"), "known to all").await;
        }
        world.settle(Duration::from_secs(100)).await;
        world.faults(1).cut(true);
        for row in ["r1", "new"] {
            world.put(0, "p1", row, "in west alone").await;
        }
        world.delete(0, "p2", "r2").await;
        let part = |world: &Self| world.contents(2).iter().filter(|body| body.json().contains("in west alone")).count();
        world.until("west has its part", 20, |world| part(world) == 2 && world.contents(2).len() == 200).await;
        world.faults(2).cut(true);
        for row in ["r3", "newer", "r1"] {
            world.put(0, "p3", row, "not sent").await;
        }
        world.delete(0, "p4", "r4").await;
        // Announced, and its writer died before it wrote.
        let never = world.version(0);
        world.announce(0, "p5", &["r5"], &[], &never).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.stops[0].cancel();
        tokio::time::sleep(Duration::from_secs(10)).await;
        world.faults(0).cut(true);
        world.faults(1).cut(false);
        world.faults(2).cut(false);
        tokio::time::sleep(Duration::from_secs(2)).await;
        let moved = world.moved(1, MoveKind::Forced).await;
        (world, moved.mark)
    }

    /// What a region's trail tells of what was not sent.
    fn unsent(&self, n: usize, mark: &Mark) -> Option<Unsent> {
        let rows = self.stores[n].snapshot(&SystemTable::Control.name());
        rows.iter().find(|row| *row.body.row() == RolesRow::trail_key(mark)).and_then(|row| Unsent::decode(&row.body))
    }

    /// Counts reads of whole tables of the application.
    fn scans(&self, n: usize) -> Arc<AtomicUsize> {
        let scans = Arc::new(AtomicUsize::new(0));
        let count = scans.clone();
        self.faults(n).set_rule(move |request| {
            let scan =
                request.kind == RequestKind::Query && request.table == Some(&table()) && request.partition.is_none();
            count.fetch_add(usize::from(scan), Relaxed);
            None
        });
        scans
    }
}

fn settings(late_writes: LateWrites) -> Settings {
    Settings { late_writes, park_after: Duration::from_secs(2), ..Settings::default() }
}

#[tokio::test(start_paused = true)]
async fn survivors_make_equal_what_they_got_of_a_lost_region_by_the_log_alone() {
    let (world, _) = World::without_east(&settings(LateWrites::Merge)).await;
    let scans = [world.scans(1), world.scans(2)];
    let before: u64 = (1..3).map(|n| world.faults(n).all_requests()).sum();
    world.until("north has what west has", 10, |world| world.contents(1) == world.contents(2)).await;
    assert_eq!(world.contents(1).iter().filter(|body| body.json().contains("in west alone")).count(), 2);
    tokio::time::sleep(Duration::from_secs(60)).await;
    // Two regions that poll for a minute and some seconds, and what the log names: some two hundred rows, announced and compared, not read one by one.
    let all = (1..3).map(|n| world.faults(n).all_requests()).sum::<u64>() - before;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let idle = (1..3).map(|n| world.faults(n).all_requests()).sum::<u64>() - before - all;
    assert!(all < idle + 1_100, "{all} requests, of which a minute without anything costs {idle}");
    assert_eq!(scans.map(|scans| scans.load(Relaxed)), [0, 0], "no table is scanned");
    let done = |n: usize| {
        let rows = world.stores[n].snapshot(&SystemTable::Control.name());
        rows.iter().filter(|row| row.body.row().as_str().starts_with("equal:")).count()
    };
    assert_eq!([done(1), done(2)], [1, 1], "once");
}

#[tokio::test(start_paused = true)]
async fn the_trail_of_a_forced_failover_gets_the_true_number_and_rows_when_the_region_is_back() {
    for policy in [LateWrites::Merge, LateWrites::Journal] {
        let (mut world, mark) = World::without_east(&settings(policy)).await;
        tokio::time::sleep(Duration::from_secs(20)).await;
        // Its place was taken meanwhile, by a version above.
        world.put(1, "p3", "newer", "north's").await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        world.faults(0).cut(false);
        // West met this one in east and took it over, and has not told its applied log yet.
        let met =
            world.contents(0).into_iter().find(|body| body.row().as_str() == "r3" && body.json().contains("not sent"));
        let taken_over = Operation::InsertOrReplace(met.expect("it stands in east"));
        world.stores[2].write(&table(), &taken_over).await.unwrap();
        assert_eq!(world.unsent(0, &mark), None);
        let scans = [world.scans(0), world.scans(1), world.scans(2)];
        world.start_one(0, &settings(policy));
        world.until("all trails tell it", 20, |world| (0..3).all(|n| world.unsent(n, &mark).is_some())).await;
        let unsent = world.unsent(0, &mark).unwrap();
        let named: Vec<_> = unsent.named.iter().map(|id| format!("{}/{}", id.partition, id.row)).collect();
        assert_eq!(named, ["p3/newer", "p3/r1", "p3/r3", "p4/r4"], "{policy}");
        assert_eq!((unsent.rows, unsent.later, unsent.left_out()), (4, 0, 0));
        assert!((1..3).all(|n| world.unsent(n, &mark).as_ref() == Some(&unsent)));
        world.settle(Duration::from_secs(300)).await;
        world.assert_equal();
        let not_sent = world.contents(2).iter().filter(|body| body.json().contains("not sent")).count();
        assert_eq!(not_sent, if policy == LateWrites::Merge { 2 } else { 0 });
        assert_eq!(scans.map(|scans| scans.load(Relaxed)), [0, 0, 0], "no table is scanned");
    }
}

#[tokio::test(start_paused = true)]
async fn what_went_on_uncounted_is_never_counted_and_the_trail_says_so() {
    let (mut world, mark) = World::without_east(&settings(LateWrites::Merge)).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    world.faults(0).cut(false);
    // The trails can be read, and no row of north, for more than a minute.
    world.faults(1).set_rule(|request| (request.table == Some(&table())).then(Fault::lost_request));
    world.start_one(0, &settings(LateWrites::Merge));
    let trail = |world: &World| {
        let rows = world.stores[0].snapshot(&SystemTable::Control.name());
        rows.iter().find(|row| *row.body.row() == RolesRow::trail_key(&mark)).map(|row| row.body.clone())
    };
    let unknown = |world: &World| trail(world).is_some_and(|row| Unsent::is_unknown(&row));
    tokio::time::sleep(Duration::from_secs(50)).await;
    assert!(!unknown(&world), "it may be counted yet");
    world.until("the trail says that it is unknown", 60, unknown).await;
    world.faults(1).set_rule(|_| None);
    world.settle(Duration::from_secs(300)).await;
    world.assert_equal();
    assert_eq!(world.unsent(0, &mark), None, "what is left by now is not the number");
    assert!(trail(&world).is_some_and(|row| RolesRow::decode(&row).is_ok()), "it is the trail's row still");
}
