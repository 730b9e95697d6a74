//! Who lets readers in while links are behind.

use super::*;
use crate::settle::LinkStatus;
use crate::topology::{Alone, ReadRules, Reading, Role};

const LIMIT: Duration = Duration::from_secs(20);
const PUBLISH: Duration = Duration::from_secs(5);

/// East writes, north and west read. Each daemon has lines of its own to every region: `lines[from][to]`.
struct Doors {
    world: World,
    lines: Vec<Vec<Faults>>,
}

impl Doors {
    async fn new(alone: Alone) -> Self {
        let mut world = World::new(3).await;
        let mut lines = Vec::new();
        for from in 0..3 {
            let line = |to: usize| world.stores[to].by_line(&format!("{from}>{to}"));
            let tables: Vec<_> = (0..3).map(line).collect();
            lines.push(tables.iter().map(|tables| tables.faults()).collect());
            let store = |to: usize| {
                let account = crate::stores::Account { tables: tables[to].clone(), queue: None };
                RegionStore::new(world.regions[to].region().clone(), vec![account])
            };
            let roles = [Role::Writer, Role::Replica, Role::Replica];
            let roles = world.regions.iter().map(|region| region.region().clone()).zip(roles).collect();
            let replicator = Replicator::new(Setup {
                local: store(from),
                copies: vec![],
                destinations: (0..3).filter(|to| *to != from).map(store).collect(),
                cache: None,
                tables: TableFilter::Every,
                roles: FileRoles::new(roles),
                reading: Some(ReadRules { limit: LIMIT, alone }),
                settings: Settings { publish_every: PUBLISH, ..Settings::default() },
                runtime: world.runtime.clone(),
            });
            let stop = CancellationToken::new();
            world.boards.push(replicator.status());
            world.stops.push(stop.clone());
            #[expect(clippy::disallowed_methods, reason = "the test's world is the supervisor")]
            tokio::spawn(async move { replicator.run(stop).await.expect("the line runs until it is stopped") });
        }
        Self { world, lines }
    }

    fn readings(&self) -> Vec<Reading> {
        let reading =
            |board: &Arc<StatusBoard>| board.snapshot().reading.map_or(Reading::Unknown, |status| status.reading);
        self.world.boards.iter().map(reading).collect()
    }

    /// Lets time pass until the readings are these.
    async fn until(&self, readings: [Reading; 3], within: Duration) {
        let deadline = tokio::time::Instant::now() + within;
        while self.readings() != readings {
            assert!(
                tokio::time::Instant::now() < deadline,
                "after {within:?} {:?} instead of {readings:?}",
                self.readings()
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// For that long, at every moment, somebody lets readers in.
    async fn serves_for(&self, time: Duration) {
        let until = tokio::time::Instant::now() + time;
        while tokio::time::Instant::now() < until {
            assert!(self.readings().iter().any(|reading| reading.serves()), "{:?}", self.readings());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_region_whose_link_is_cut_refuses_its_readers_until_it_has_caught_up() {
    use Reading::{Behind, Fresh};
    let mut doors = Doors::new(Alone::Serve).await;
    doors.until([Fresh; 3], PUBLISH * 3).await;
    doors.lines[0][1].cut(true);
    // North is not behind as long as nothing was written that it has not got.
    doors.serves_for(LIMIT * 2).await;
    assert_eq!(doors.readings(), [Fresh; 3]);
    doors.world.put(0, "p", "r", "late").await;
    // It is known to have had everything until up to a publication before, and that was counted a little earlier.
    doors.serves_for(LIMIT - PUBLISH - Duration::from_secs(2)).await;
    assert_eq!(doors.readings(), [Fresh; 3]);
    doors.until([Fresh, Behind, Fresh], PUBLISH * 3).await;
    doors.lines[0][1].cut(false);
    // The link is parked by then, and probed every five seconds.
    doors.until([Fresh; 3], PUBLISH * 5).await;
}

#[tokio::test(start_paused = true)]
async fn of_regions_that_are_all_behind_the_freshest_lets_readers_in() {
    use Reading::{Fresh, LeastStale};
    let doors = Doors::new(Alone::Serve).await;
    doors.until([Fresh; 3], PUBLISH * 3).await;
    // The writer's region is gone: its daemon says nothing more, and nobody is sent there.
    doors.world.stops[0].cancel();
    doors.serves_for(LIMIT * 3).await;
    let [_, north, west] = doors.readings().try_into().unwrap();
    assert!(north == LeastStale || west == LeastStale, "{north} {west}");
}

#[tokio::test(start_paused = true)]
async fn a_region_that_is_cut_off_serves_or_refuses_as_it_is_told() {
    use Reading::{CutOff, Fresh, LeastStale};
    for (alone, north) in [(Alone::Serve, LeastStale), (Alone::Refuse, CutOff)] {
        let doors = Doors::new(alone).await;
        doors.until([Fresh; 3], PUBLISH * 3).await;
        for (from, to) in [(0, 1), (2, 1), (1, 0), (1, 2)] {
            doors.lines[from][to].cut(true);
        }
        doors.until([Fresh, north, Fresh], LIMIT + PUBLISH * 3).await;
        for (from, to) in [(0, 1), (2, 1), (1, 0), (1, 2)] {
            doors.lines[from][to].cut(false);
        }
        doors.until([Fresh; 3], PUBLISH * 5).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_region_that_nobody_reaches_reads_in_their_accounts_whether_they_live() {
    use Reading::{Behind, Fresh};
    let mut doors = Doors::new(Alone::Serve).await;
    doors.until([Fresh; 3], PUBLISH * 3).await;
    doors.lines[0][1].cut(true);
    doors.lines[2][1].cut(true);
    doors.world.put(0, "p", "r", "late").await;
    doors.until([Fresh, Behind, Fresh], LIMIT + PUBLISH * 3).await;
    // Longer than what it heard before counts.
    tokio::time::sleep(PUBLISH * 8).await;
    assert_eq!(doors.readings(), [Fresh, Behind, Fresh]);
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_crashed_between_its_steps_makes_nobody_stale() {
    let mut doors = Doors::new(Alone::Serve).await;
    doors.until([Reading::Fresh; 3], PUBLISH * 3).await;
    let version = doors.world.version(0);
    doors.world.announce(0, "p", &["never"], &[], &version).await;
    let began = doors.world.runtime.now();
    for _ in 0..50 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(doors.readings(), [Reading::Fresh; 3]);
    }
    let links: Vec<LinkStatus> = doors.world.boards[0].snapshot().links;
    assert!(links.iter().all(|link| link.last_sync < Some(began)), "{links:?}");
    assert!(links.iter().all(|link| link.fresh_to > Some(began)), "{links:?}");
}

#[tokio::test(start_paused = true)]
async fn to_know_how_far_it_is_behind_costs_a_region_one_query_a_publication() {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    let doors = Doors::new(Alone::Serve).await;
    doors.until([Reading::Fresh; 3], PUBLISH * 3).await;
    tokio::time::sleep(PUBLISH * 4).await;
    let counts = Arc::new([const { AtomicU64::new(0) }; 2]);
    for (to, faults) in doors.lines[1].iter().enumerate() {
        let counts = counts.clone();
        faults.set_rule(move |request| {
            let links = request.partition.is_some_and(|partition| partition.as_str() == LinkStatus::PARTITION);
            // What is read of a link where it comes from, so that the applied log can be collected, is a query.
            let kind = if to == 1 { RequestKind::Query } else { RequestKind::Get };
            if links && request.kind == kind {
                counts[usize::from(to != 1)].fetch_add(1, Relaxed);
            }
            None
        });
    }
    tokio::time::sleep(PUBLISH * 20).await;
    assert_eq!([counts[0].load(Relaxed), counts[1].load(Relaxed)], [20, 0]);
}
