//! The collector over whole lines on memory stores, in virtual time.

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::feed::{Hint, encode_hint, tombstones_prefix};
use crate::model::{PartitionKey, RowBody, RowId, RowKey, SystemTable, Version, WriterId};
use crate::ops::verify::{LastPass, PassKind, Repair, Verify, VerifyError, keep_pass};
use crate::ops::world::{EAST, NAMES, NORTH, World, region, table};
use crate::replicator;
use crate::settle::{LinkState, LinkStatus};
use crate::stores::{Condition, Operation};
use crate::telemetry::Heard;
use crate::topology::{Marks, Role};

const SOUTH: usize = 2;
const AGE: Duration = Duration::from_secs(600);
const EVERY: Duration = Duration::from_secs(30);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn row(number: usize) -> RowId {
    RowId::new(table(), "p".into(), format!("r{number}").as_str().into())
}

/// Collectors of all regions, and what they have found.
struct Collectors {
    found: Vec<Arc<Collected>>,
    stop: CancellationToken,
}

impl Collectors {
    fn start(world: &World) -> Self {
        let stop = CancellationToken::new();
        let start = |of: usize| {
            let settings = replicator::Settings::default();
            let collector = Collector {
                regions: (0..world.stores.len()).map(|to| world.line(of, to)).collect(),
                copies: vec![],
                region: region(of),
                tables: TableFilter::Every,
                collects: true,
                every: EVERY,
                rows_per_second: NonZeroU32::new(500),
                rules: CollectRules {
                    settle_window: settings.settle_window,
                    max_clock_skew: settings.max_clock_skew,
                    minimum_age: AGE,
                },
                collected: Arc::default(),
                runtime: world.runtime.clone(),
            };
            let found = collector.collected.clone();
            #[expect(clippy::disallowed_methods, reason = "the test is the supervisor")]
            tokio::spawn(collector.run(world.board(of), stop.clone()));
            found
        };
        Self { found: (0..world.stores.len()).map(start).collect(), stop }
    }

    /// What holds the tombstones of a region, and between whom.
    fn held(&self, of: usize) -> (HeldBy, String) {
        let Watermark { held_by, between, .. } = self.found[of].last().expect("it has swept").watermark;
        (held_by, between.iter().map(Region::as_str).collect::<Vec<_>>().join(">"))
    }

    fn kept(&self, of: usize, why: Kept) -> u64 {
        self.found[of].last().expect("it has swept").kept.get(&why).copied().unwrap_or_default()
    }
}

impl Drop for Collectors {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn graves(world: &World, of: usize) -> Vec<RowKey> {
    let feed = world.stores[of].snapshot(&SystemTable::Feed.name()).into_iter();
    feed.map(|row| row.body.row().clone()).filter(|key| key.as_str().starts_with(tombstones_prefix())).collect()
}

fn all_graves(world: &World) -> Vec<usize> {
    (0..world.stores.len()).map(|of| graves(world, of).len()).collect()
}

/// Rows that are written in one region, and the first of them deleted in another one.
async fn world_of(regions: usize, rows: usize, deleted: usize) -> World {
    let world = World::new(&[Role::Writer; 3][..regions]).await;
    for number in 0..rows {
        world.write(number).await;
    }
    tokio::time::sleep(seconds(5)).await;
    for number in 0..deleted {
        let RowId { table, partition, row } = row(number);
        world.writers[NORTH].delete(&table, &partition, &row, Condition::Present, None).await.unwrap();
    }
    tokio::time::sleep(seconds(5)).await;
    assert_eq!(all_graves(&world), vec![deleted; regions]);
    world
}

/// Says that two regions were compared, or repaired, from now on.
async fn passed(world: &World, kind: PassKind, (from, to): (usize, usize)) {
    let now = world.runtime.now();
    let (differences, waiting) = Default::default();
    let pass = LastPass { from: region(from), to: region(to), began: now, ended: now, rows: 1, differences, waiting };
    keep_pass(kind, &world.line(from, from), &pass).await.unwrap();
}

async fn all_passed(world: &World) {
    for from in 0..world.stores.len() {
        for to in from + 1..world.stores.len() {
            passed(world, PassKind::Scrubbed, (from, to)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_all_regions_are_through_with_is_collected_and_nothing_comes_back() {
    let heard = Heard::new();
    let world = world_of(3, 20, 7).await;
    let collectors = Collectors::start(&world);
    tokio::time::sleep(seconds(400)).await;
    all_passed(&world).await;
    tokio::time::sleep(seconds(150)).await;
    assert_eq!(all_graves(&world), [7; 3], "they are not old enough");
    assert_eq!(collectors.held(EAST), (HeldBy::MinimumAge, String::new()));
    assert_eq!(collectors.kept(EAST, Kept::Young), 7);
    tokio::time::sleep(seconds(250)).await;
    assert_eq!(all_graves(&world), [0; 3]);
    for (of, name) in NAMES.iter().enumerate() {
        let rows: BTreeSet<RowKey> = world.contents(of).iter().map(|row| row.row().clone()).collect();
        assert_eq!(rows, (7..20).map(|number| row(number).row).collect(), "{name}");
    }
    let told = heard.events().into_iter().filter(|(_, event)| event.starts_with("tombstones")).collect::<Vec<_>>();
    assert!(!told.is_empty() && told.iter().all(|(_, event)| event == "tombstones-collected"), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn each_condition_holds_them_and_is_named_and_told_once() {
    let heard = Heard::new();
    let world = world_of(3, 20, 7).await;
    let collectors = Collectors::start(&world);
    tokio::time::sleep(AGE + seconds(200)).await;
    assert_eq!(collectors.held(NORTH), (HeldBy::NotVerified, "east>north".into()));
    passed(&world, PassKind::Scrubbed, (EAST, NORTH)).await;
    passed(&world, PassKind::Repaired, (EAST, SOUTH)).await;
    tokio::time::sleep(seconds(130)).await;
    assert_eq!(collectors.held(NORTH), (HeldBy::NotVerified, "north>south".into()), "a repair counts as a pass");
    let last = collectors.found[NORTH].last().unwrap();
    assert_eq!((last.overdue, last.standing()), (7, 7));
    let told = |event: &str| heard.events().iter().filter(|(_, told)| told == event).count();
    assert_eq!(told("tombstones-held"), 6, "in each region, for the first pair and for the second");
    // South hears of nothing from north, where one more is deleted.
    world.lines[&(NORTH, SOUTH)].faults().cut(true);
    let RowId { table, partition, row } = row(8);
    world.writers[NORTH].delete(&table, &partition, &row, Condition::Present, None).await.unwrap();
    tokio::time::sleep(AGE + seconds(100)).await;
    all_passed(&world).await;
    tokio::time::sleep(seconds(130)).await;
    assert_eq!(collectors.held(NORTH).0, HeldBy::RegionUnreachable, "north cannot ask south");
    assert_eq!(collectors.held(EAST), (HeldBy::LinkBehind, "north>south".into()));
    assert_eq!(all_graves(&world), [1, 8, 0], "the others were delivered before, and north asks nobody");
    world.lines[&(NORTH, SOUTH)].faults().cut(false);
    tokio::time::sleep(seconds(200)).await;
    all_passed(&world).await;
    tokio::time::sleep(AGE + seconds(200)).await;
    assert_eq!(all_graves(&world), [0; 3]);
}

#[tokio::test(start_paused = true)]
async fn one_whose_row_stands_anywhere_below_it_or_waits_anywhere_stays() {
    let world = world_of(3, 20, 7).await;
    let collectors = Collectors::start(&world);
    tokio::time::sleep(AGE - seconds(100)).await;
    // Somebody puts a row back in south past the protocol, as it was long ago.
    let old = Version::new(crate::model::Time::from_unix_seconds(1_600_000_000), &region(SOUTH), WriterId(1));
    let back = row(2);
    let body = RowBody::builder(&back.partition, &back.row).string("N", "2").finish().stamped(&old);
    let south = world.line(SOUTH, SOUTH);
    south.home().write(&table(), &Operation::Insert(body)).await.unwrap();
    // The cache of east, which is none here, has not heard of another one.
    let hint = Hint { id: row(4), version: old, since: world.runtime.now() };
    let backlog = SystemTable::Backlog.name();
    let east = world.line(EAST, EAST);
    east.home().write(&backlog, &Operation::Insert(encode_hint("cache@east", &hint))).await.unwrap();
    all_passed(&world).await;
    tokio::time::sleep(seconds(400)).await;
    assert_eq!(all_graves(&world), [2; 3]);
    for of in 0..3 {
        assert_eq!((collectors.kept(of, Kept::RowStands), collectors.kept(of, Kept::RowWaits)), (1, 1));
    }
    assert!(heard_of(&world, EAST, &back).is_none(), "and so the row did not come back where it was deleted");
    // Once it is deleted there too, and the hint is gone, nothing holds them.
    let (partition, key) = crate::feed::hint_keys("cache@east", &row(4));
    let delete = |partition, row| Operation::Delete { partition, row, condition: Condition::Present };
    east.home().write(&backlog, &delete(partition, key)).await.unwrap();
    south.home().write(&table(), &delete(back.partition.clone(), back.row.clone())).await.unwrap();
    tokio::time::sleep(seconds(200)).await;
    assert_eq!(all_graves(&world), [0; 3]);
}

fn heard_of(world: &World, of: usize, id: &RowId) -> Option<RowBody> {
    world.contents(of).into_iter().find(|row| *row.row() == id.row)
}

#[tokio::test(start_paused = true)]
async fn what_is_no_tombstone_where_it_stands_goes_to_quarantine() {
    let world = world_of(2, 20, 1).await;
    let wrong = RowBody::builder(&PartitionKey::from("07"), &RowKey::from("t:1")).string("Table", "orders").finish();
    let east = world.line(EAST, EAST);
    east.home().write(&SystemTable::Feed.name(), &Operation::Insert(wrong)).await.unwrap();
    let collectors = Collectors::start(&world);
    tokio::time::sleep(seconds(150)).await;
    assert_eq!(graves(&world, EAST).len(), 1);
    let kept = world.stores[EAST].snapshot(&SystemTable::Quarantine.name());
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].body.string("Reason").as_deref(), Some("unreadable-tombstone"));
    drop(collectors);
}

/// Tells of links with a region that is not there any more.
async fn told_of_west(world: &World, published: crate::model::Time) {
    for (source, destination) in [("west", "east"), ("east", "west")] {
        let link = LinkStatus {
            source: Region::new(source).unwrap(),
            destination: Region::new(destination).unwrap(),
            state: LinkState::Flowing,
            last_sync: Some(published),
            copy: false,
            fresh_to: None,
            word: None,
            lag: Duration::ZERO,
            backlog_rows: 0,
            oldest_waiting: None,
            last_error: None,
            published,
        };
        let east = world.line(EAST, EAST);
        east.home().write(&SystemTable::Control.name(), &Operation::InsertOrReplace(link.encode())).await.unwrap();
    }
}

fn remembers(world: &World, of: usize) -> Marks {
    let control = world.stores[of].snapshot(&SystemTable::Control.name());
    let row = control
        .iter()
        .find(|row| row.body.partition().as_str() == Marks::PARTITION && row.body.row().as_str() == Marks::ROW);
    row.map(|row| Marks::decode(&row.body).unwrap()).unwrap_or_default()
}

fn repair(world: &World, from: usize, to: usize) -> Verify {
    let regions = (0..world.stores.len()).map(|n| world.line(from, n)).collect();
    let settings = replicator::Settings::default();
    let (file, runtime) = (world.file.clone(), world.runtime.clone());
    let of = (&region(from), &region(to));
    Verify { repair: Repair::Yes, ..Verify::of(regions, of, TableFilter::Every, file, settings, runtime) }
}

#[tokio::test(start_paused = true)]
async fn a_region_that_was_taken_out_holds_all_until_every_pair_of_the_others_is_repaired_whole() {
    let heard = Heard::new();
    let world = world_of(3, 20, 7).await;
    told_of_west(&world, world.runtime.now()).await;
    let collectors = Collectors::start(&world);
    tokio::time::sleep(AGE + seconds(60)).await;
    all_passed(&world).await;
    tokio::time::sleep(seconds(300)).await;
    assert_eq!(all_graves(&world), [7; 3]);
    for of in 0..3 {
        assert_eq!(collectors.held(of), (HeldBy::RegionTakenOut, "west".into()));
        assert!(remembers(&world, of).out.contains_key(&Region::new("west").unwrap()));
    }
    let never = CancellationToken::new();
    for (from, to) in [(EAST, NORTH), (SOUTH, EAST)] {
        assert!(repair(&world, from, to).run(&never, &mut |_| {}).await.unwrap().is_equal());
    }
    // A part of a table is no pass.
    let part = Verify { only: Some(table()), ..repair(&world, NORTH, SOUTH) };
    assert!(part.run(&never, &mut |_| {}).await.unwrap().is_equal());
    tokio::time::sleep(seconds(200)).await;
    assert_eq!(all_graves(&world), [7; 3]);
    repair(&world, NORTH, SOUTH).run(&never, &mut |_| {}).await.unwrap();
    tokio::time::sleep(seconds(300)).await;
    assert_eq!(all_graves(&world), [0; 3]);
    let west = Region::new("west").unwrap();
    assert!((0..3).all(|of| remembers(&world, of).gone.contains_key(&west) && remembers(&world, of).out.is_empty()));
    let told = |event: &str| heard.events().iter().filter(|(_, told)| told == event).count();
    assert_eq!((told("region-taken-out"), told("region-gone")), (3, 3));
    // Somebody has put it back meanwhile, and taken it out once more.
    told_of_west(&world, world.runtime.now()).await;
    tokio::time::sleep(seconds(200)).await;
    assert_eq!(collectors.held(EAST), (HeldBy::RegionTakenOut, "west".into()));
}

#[tokio::test(start_paused = true)]
async fn a_region_that_was_gone_takes_no_part_until_it_is_empty() {
    let heard = Heard::new();
    let world = world_of(3, 20, 7).await;
    let marks = Marks { gone: [(region(SOUTH), world.runtime.now())].into(), ..Marks::default() };
    replicator::replace_marks(&world.line(EAST, EAST), None, &marks).await.unwrap();
    tokio::time::sleep(seconds(10)).await;
    let collectors = Collectors::start(&world);
    assert_eq!(world.board(NORTH).roles().barred_of_all(), [region(SOUTH)]);
    let write = async |of: usize, number: usize| {
        let RowId { table, partition, row } = row(number);
        let body = RowBody::builder(&partition, &row).string("N", "new").finish();
        world.writers[of].insert_or_replace(&table, &body, None).await.unwrap();
    };
    write(NORTH, 30).await;
    write(SOUTH, 31).await;
    tokio::time::sleep(seconds(300)).await;
    assert!(heard_of(&world, SOUTH, &row(30)).is_none() && heard_of(&world, EAST, &row(31)).is_none());
    assert!(heard_of(&world, EAST, &row(30)).is_some(), "the others go on");
    let told =
        |level: &str, event: &str| heard.events().iter().filter(|(at, told)| at == level && told == event).count();
    assert_eq!(told("ERROR", "region-not-empty"), 1);
    let RowId { table: of, partition, row: key } = row(12);
    let missing = Operation::Delete { partition, row: key, condition: Condition::Present };
    world.line(SOUTH, SOUTH).home().write(&of, &missing).await.unwrap();
    tokio::time::sleep(seconds(90)).await;
    let refused = repair(&world, EAST, SOUTH).run(&CancellationToken::new(), &mut |_| {}).await;
    assert!(matches!(&refused, Err(VerifyError::Mend { region, .. }) if region.as_str() == "south"), "{refused:?}");
    // Its rows are deleted past the protocol, and all of its feed.
    let south = world.line(SOUTH, SOUTH);
    for name in [table(), SystemTable::Feed.name()] {
        for row in world.stores[SOUTH].snapshot(&name) {
            let (partition, row) = (row.body.partition().clone(), row.body.row().clone());
            south
                .home()
                .write(&name, &Operation::Delete { partition, row, condition: Condition::Present })
                .await
                .unwrap();
        }
    }
    tokio::time::sleep(seconds(300)).await;
    assert_eq!(told("INFO", "region-seen-empty"), 1);
    assert!(world.board(NORTH).roles().barred_of_all().is_empty());
    assert!(heard_of(&world, SOUTH, &row(30)).is_some(), "what was written meanwhile waited for it");
    write(SOUTH, 32).await;
    tokio::time::sleep(seconds(60)).await;
    assert!(heard_of(&world, EAST, &row(32)).is_some());
    assert_eq!((remembers(&world, EAST).gone.len(), remembers(&world, NORTH).gone.len()), (0, 0));
    drop(collectors);
}
