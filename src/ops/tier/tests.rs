//! Rows that grow old, on stores in memory: what goes, what stays, and what everybody finds meanwhile.

use std::collections::BTreeMap;

use futures::FutureExt;

use super::*;
use crate::model::{AccountName, PartitionKey, Region, RowBody, SystemTable, Version, WriterId};
use crate::planted::plant;
use crate::replicator::{Sights, create_missing};
use crate::stores::memory::MemoryTables;
use crate::stores::{Account, Condition, Operation, Tables, Tiering};
use crate::topology::{Partitions, Route, RoutedTables, Routes, Tier};
use crate::writer::{Promoted, Stands, Writer, WriterOptions, reached, read_routed};

const WINDOW: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3_600);

fn orders() -> TableName {
    TableName::new("orders").unwrap()
}

fn id(n: usize) -> RowId {
    RowId::new(orders(), format!("customer-{}", n / 2).as_str().into(), format!("r{n}").as_str().into())
}

fn named(name: &str) -> AccountName {
    AccountName::new(name).unwrap()
}

/// Orders go to w3 once they were placed a day ago; till then w1 and w2 share them.
fn rules() -> Routes {
    let aged = Route {
        name: "old".to_owned(),
        tables: RoutedTables::Named([orders()].into()),
        partitions: Partitions::Every,
        accounts: vec![named("w3")],
        tier: Some(Tier::Archive),
        ageing: Some(Ageing { date: "Placed".to_owned(), after: DAY }),
    };
    Routes::new(vec![aged], [named("w1"), named("w2")]).unwrap()
}

struct World {
    runtime: Runtime,
    store: RegionStore,
    accounts: Vec<Arc<MemoryTables>>,
    start: Time,
}

impl World {
    async fn new() -> Self {
        let start = Time::from_unix_seconds(1_700_000_000);
        let runtime = Runtime::simulated(start, 1);
        let region = Region::new("west").unwrap();
        let account = |n| MemoryTables::new(region.clone(), named(&format!("w{n}")), runtime.clone());
        let accounts: Vec<Arc<MemoryTables>> = (1..=3).map(account).collect();
        let of = |tables: &Arc<MemoryTables>| Account { tables: tables.clone(), queue: None };
        let store = RegionStore::routed(region.clone(), accounts.iter().map(of).collect(), rules());
        create_missing(&store).await.unwrap();
        for tables in &accounts {
            tables.create_table(&orders()).await.unwrap();
        }
        let first = PublishedRoutes {
            region,
            epoch: 1,
            home: named("w1"),
            hold: WINDOW,
            endpoints: BTreeMap::new(),
            rules: rules(),
            moving: None,
        };
        let copy = store.read_routes().await.unwrap();
        assert!(store.replace_routes(&copy, &first).await.unwrap());
        store.follow_routes().await.unwrap();
        Self { runtime, store, accounts, start }
    }

    fn mover(&self) -> Mover {
        Mover {
            store: self.store.clone(),
            tables: TableFilter::Every,
            every: DAY,
            rows_per_second: None,
            settle_window: WINDOW,
            demotions: Arc::default(),
            runtime: self.runtime.clone(),
        }
    }

    /// A pass by routes that were read just now: rows gone through, cold before, demoted, and stale.
    async fn pass(&self) -> [u64; 4] {
        self.store.follow_routes().await.unwrap();
        let Demotion { rows, cold, demoted, stale, .. } = self.mover().pass().await.unwrap().expect("nothing moves");
        [rows, cold, demoted, stale]
    }

    fn writer(&self) -> Writer {
        let options = WriterOptions { settle_window: WINDOW, ..WriterOptions::default() };
        Writer::new(self.store.clone(), options, self.runtime.clone())
    }

    /// An order that was placed so long before now.
    fn order(&self, n: usize, text: &str, ago: Duration) -> RowBody {
        let placed = self.runtime.now() - ago;
        let id = id(n);
        let json = format!(
            r#"{{"PartitionKey":"{}","RowKey":"{}","A":"{text}","Placed@odata.type":"Edm.DateTime","Placed":"{placed}"}}"#,
            id.partition, id.row
        );
        RowBody::parse(&json).unwrap()
    }

    async fn put(&self, n: usize, text: &str, ago: Duration) {
        self.writer().insert_or_replace(&orders(), &self.order(n, text, ago), None).await.unwrap();
    }

    /// Writes as somebody does who knows the home alone, with a version of so many seconds after the start.
    async fn put_blindly(&self, tables: &dyn Tables, n: usize, (text, second): (&str, i64)) {
        let version = self.version(second);
        let body = self.order(n, text, DAY * 2).stamped(&version);
        tables.write(&orders(), &Operation::InsertOrReplace(body)).await.unwrap();
    }

    /// Raises a tombstone of the second second.
    async fn bury(&self, n: usize) {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let tombstone = crate::model::Tombstone { id: id(n), version: self.version(2) };
        let tombstone = Operation::Insert(crate::feed::encode_tombstone(&tombstone));
        self.home(n).write(&SystemTable::Feed.name(), &tombstone).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    fn version(&self, second: i64) -> Version {
        let at = Time::from_ticks(self.start.ticks() + second * 10_000_000);
        Version::new(at, self.store.region(), WriterId(1))
    }

    /// What an account says of a row.
    async fn says(tables: &dyn Tables, n: usize) -> Option<String> {
        let id = id(n);
        tables.get(&id.table, &id.partition, &id.row).await.unwrap()?.body.string("A")
    }

    async fn at_home(&self, n: usize) -> Option<String> {
        Self::says(self.home(n).as_ref(), n).await
    }

    async fn cold(&self, n: usize) -> Option<String> {
        Self::says(self.accounts[2].as_ref(), n).await
    }

    async fn found(&self, n: usize) -> Option<String> {
        read_routed(&self.store, &id(n)).await.unwrap()?.body.string("A")
    }

    fn home(&self, n: usize) -> Arc<dyn Tables> {
        let id = id(n);
        self.store.holding(&id.table, &id.partition)
    }

    fn tiering(&self, n: usize) -> Tiering {
        self.store.tiering(&orders(), &id(n).partition).expect("it has a cold place")
    }
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[tokio::test(start_paused = true)]
async fn what_is_old_goes_and_what_is_young_or_was_written_just_now_stays() {
    let world = World::new().await;
    for n in 0..8 {
        world.put(n, "old", DAY * 2).await;
        world.put(n + 8, "young", DAY / 2).await;
    }
    assert_eq!(world.pass().await, [16, 0, 0, 0], "a look may be under way that knows nothing of them");
    tokio::time::sleep(WINDOW + Duration::from_secs(5)).await;
    assert_eq!(world.pass().await, [16, 0, 8, 0]);
    for n in 0..8 {
        assert_eq!(
            (world.at_home(n).await, world.cold(n).await, world.found(n).await),
            (None, text("old"), text("old"))
        );
        let young = (world.at_home(n + 8).await, world.cold(n + 8).await, world.found(n + 8).await);
        assert_eq!(young, (text("young"), None, text("young")));
    }
    assert_eq!(world.pass().await, [16, 8, 0, 0], "what is cold stays cold");
    tokio::time::sleep(DAY).await;
    assert_eq!(world.pass().await, [16, 8, 8, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_row_is_not_demoted_just_after_it_was_written() {
    for planted in [false, true] {
        let world = World::new().await;
        world.put(1, "old", DAY * 2).await;
        plant(planted.then_some(Bug::DemotedTooSoon));
        let done = world.pass().await;
        plant(None);
        assert_eq!(done[2], u64::from(planted));
    }
}

#[tokio::test(start_paused = true)]
async fn a_cold_row_is_written_and_deleted_as_any_other() {
    let world = World::new().await;
    for n in 0..3 {
        world.put(n, "old", DAY * 2).await;
    }
    tokio::time::sleep(WINDOW * 2).await;
    assert_eq!(world.pass().await[2], 3);
    let (writer, id) = (world.writer(), id(1));
    // A merge meets what stands, a condition meets it too, and a delete leaves nothing behind.
    let change = RowBody::builder(&id.partition, &id.row).string("B", "more").finish();
    writer.merge(&orders(), &change, Condition::Present, None).await.unwrap();
    assert_eq!((world.at_home(1).await, world.cold(1).await), (text("old"), None));
    let insert = writer.insert(&orders(), &world.order(0, "new", DAY), None).await;
    assert!(insert.is_err(), "it exists, though not at home: {insert:?}");
    writer
        .delete(&orders(), &super::tests::id(2).partition, &super::tests::id(2).row, Condition::Present, None)
        .await
        .unwrap();
    assert_eq!((world.at_home(2).await, world.cold(2).await, world.found(2).await), (None, None, None));
    tokio::time::sleep(WINDOW * 2).await;
    assert_eq!(world.pass().await, [2, 0, 2, 0]);
    assert_eq!(world.found(1).await, text("old"));
}

#[tokio::test(start_paused = true)]
async fn what_is_written_at_home_while_it_is_demoted_stays() {
    for planted in [false, true] {
        let world = World::new().await;
        let home = world.home(1);
        world.put_blindly(home.as_ref(), 1, ("old", 1)).await;
        let written = std::cell::Cell::new(false);
        plant(planted.then_some(Bug::DemotedBlindly));
        // Somebody writes it between the look at it and its copy.
        let due = |_: &Row| {
            if !written.replace(true) {
                world.put_blindly(home.as_ref(), 1, ("new", 2)).now_or_never().expect("memory answers at once");
                return true;
            }
            false
        };
        let demoted = world.tiering(1).demote(&id(1), due).await.unwrap();
        plant(None);
        let expected = if planted { (Demoted::Demoted, text("old")) } else { (Demoted::Stays, text("new")) };
        assert_eq!((demoted, world.found(1).await), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_row_below_a_tombstone_at_home_is_not_demoted_and_a_cold_one_is_gone() {
    let world = World::new().await;
    let (id, tiering) = (id(1), world.tiering(1));
    world.put_blindly(tiering.cold.as_ref(), 1, ("old", 1)).await;
    world.bury(1).await;
    assert_eq!(world.found(1).await, None);
    assert_eq!(tiering.promote(&id).await.unwrap(), Promoted::Deleted);
    assert_eq!((world.at_home(1).await, world.cold(1).await), (None, None));
    // Its delete was refused: it stands, and would count as deleted in its cold place.
    world.put_blindly(tiering.home.as_ref(), 1, ("refused", 1)).await;
    assert_eq!(tiering.demote(&id, |_| true).await.unwrap(), Demoted::Stays);
    assert_eq!(world.at_home(1).await, text("refused"));
}

#[tokio::test(start_paused = true)]
async fn a_look_meets_what_is_cold_and_has_it_stand_at_home() {
    for planted in [false, true] {
        let world = World::new().await;
        world.put_blindly(world.tiering(1).cold.as_ref(), 1, ("old", 1)).await;
        plant(planted.then_some(Bug::ColdPlaceForgotten));
        let sights = Sights::new(world.store.clone(), 100, false);
        let ids = [id(0), id(1)];
        let seen = sights.of(&ids.iter().collect::<Vec<_>>()).await.unwrap();
        plant(None);
        let versions: Vec<Option<Version>> = seen.into_iter().map(|(sight, _)| sight.standing.row).collect();
        assert_eq!(versions, [None, (!planted).then(|| world.version(1))]);
        assert_eq!(world.at_home(1).await.is_some(), !planted);
        assert_eq!(world.found(1).await, text("old"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stale_copy_goes_and_one_that_is_the_same_stays() {
    for planted in [false, true] {
        let world = World::new().await;
        let tiering = world.tiering(1);
        world.put_blindly(tiering.cold.as_ref(), 1, ("old", 1)).await;
        world.put_blindly(tiering.home.as_ref(), 1, ("old", 1)).await;
        plant(planted.then_some(Bug::StaleCopyTakenBlindly));
        assert_eq!(tiering.drop_stale(&id(1)).await.unwrap(), planted);
        plant(None);
    }
    let world = World::new().await;
    let (tiering, young) = (world.tiering(1), DAY / 2);
    world.put_blindly(tiering.cold.as_ref(), 1, ("old", 1)).await;
    let body = world.order(1, "new", young).stamped(&world.version(2));
    tiering.home.write(&orders(), &Operation::Insert(body)).await.unwrap();
    assert_eq!(world.found(1).await, text("new"), "what stands at home counts");
    assert_eq!(world.pass().await, [1, 0, 0, 1]);
    assert_eq!((world.at_home(1).await, world.cold(1).await), (text("new"), None));
}

#[tokio::test(start_paused = true)]
async fn what_a_writer_by_other_routes_has_put_where_a_row_is_cold_is_no_stale_copy() {
    for (announced, bug) in [(false, None), (true, None), (true, Some(Bug::WrittenTakenForStale))] {
        let world = World::new().await;
        let (tiering, stays) = (world.tiering(1), announced && bug.is_none());
        world.put_blindly(tiering.cold.as_ref(), 1, ("elsewhere", 2)).await;
        world.put_blindly(tiering.home.as_ref(), 1, ("here", 1)).await;
        if announced {
            let change = crate::model::Change::of_row(&id(1), &world.version(2), false);
            for record in crate::feed::encode_change(&change).unwrap() {
                tiering.cold.write(&SystemTable::Feed.name(), &Operation::Insert(record)).await.unwrap();
            }
        }
        plant(bug);
        assert_eq!(tiering.drop_stale(&id(1)).await.unwrap(), !stays);
        let demoted = tiering.demote(&id(1), |_| true).await.unwrap();
        plant(None);
        assert_eq!(demoted, if stays { Demoted::Stays } else { Demoted::Demoted });
        assert_eq!(world.cold(1).await, text(if stays { "elsewhere" } else { "here" }));
    }
}

#[tokio::test(start_paused = true)]
async fn a_row_in_both_places_goes_if_it_came_home_after_its_delete_and_stays_if_that_was_refused() {
    for refused in [false, true] {
        for way in ["promote", "drop"] {
            let world = World::new().await;
            let tiering = world.tiering(1);
            world.put_blindly(tiering.cold.as_ref(), 1, ("old", 1)).await;
            if !refused {
                // Promoted by somebody who died before he looked at the tombstone that was raised meanwhile.
                world.bury(1).await;
            }
            world.put_blindly(tiering.home.as_ref(), 1, ("old", 1)).await;
            if refused {
                world.bury(1).await;
            }
            match way {
                "promote" => {
                    let expected = if refused { Promoted::AtHome } else { Promoted::Deleted };
                    assert_eq!(tiering.promote(&id(1)).await.unwrap(), expected);
                }
                _ => assert_eq!(tiering.drop_stale(&id(1)).await.unwrap(), !refused),
            }
            let stands = refused.then(|| "old".to_owned());
            assert_eq!((world.at_home(1).await, world.found(1).await), (stands.clone(), stands), "{way}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_delete_that_meets_a_row_on_its_way_is_told_to_everybody() {
    let world = World::new().await;
    let Tiering { home, .. } = world.tiering(1);
    world.put_blindly(home.as_ref(), 1, ("old", 1)).await;
    // Its tombstone is raised while it is copied; nobody can tell later whether the delete was refused or found nothing.
    let tombstone = crate::model::Tombstone { id: id(1), version: world.version(2) };
    let (tombstone, raises) = (Operation::Insert(crate::feed::encode_tombstone(&tombstone)), home.clone());
    let line = world.accounts[2].by_another_line();
    line.faults().set_rule(move |request| {
        if !request.operations.is_empty() {
            let raised = raises.write(&SystemTable::Feed.name(), &tombstone).now_or_never();
            raised.expect("memory answers at once").expect("there is none");
        }
        None
    });
    let demoted =
        Tiering { home: home.clone(), cold: line, ..world.tiering(1) }.demote(&id(1), |_| true).await.unwrap();
    assert_eq!((demoted, world.found(1).await), (Demoted::Demoted, None));
    let shard = crate::feed::Shard::of(&orders(), &id(1).partition).partition();
    let records = crate::stores::Query::prefix(shard, crate::feed::record_prefix());
    let records = home.query(&SystemTable::Feed.name(), &records).await.unwrap().rows;
    let told: Vec<_> = records.iter().map(|row| crate::feed::decode_record(row).unwrap().change).collect();
    assert_eq!(told.len(), 1);
    assert_eq!((&told[0].puts, &told[0].version), (&vec![id(1).row], &world.version(2)));
}

#[tokio::test(start_paused = true)]
async fn a_row_that_is_written_is_not_demoted_meanwhile() {
    for planted in [false, true] {
        let world = World::new().await;
        world.put(1, "old", DAY * 2).await;
        tokio::time::sleep(WINDOW * 2).await;
        let (id, home) = (id(1), world.home(1));
        let seen = home.get(&id.table, &id.partition, &id.row).await.unwrap().unwrap();
        // The mover has copied it. A writer begins, and then the mover deletes what it has copied.
        plant(planted.then_some(Bug::OldRowNotTouched));
        let kept = world.tiering(1).keep(&id, |_| true).await.unwrap();
        plant(None);
        let (partition, row, condition) = (id.partition.clone(), id.row.clone(), Condition::Matches(seen.etag.clone()));
        let gone = home.write(&orders(), &Operation::Delete { partition, row, condition }).await;
        assert_eq!((kept.is_some(), gone.is_ok()), (!planted, planted));
        assert_eq!(world.at_home(1).await, (!planted).then(|| "old".to_owned()));
        if planted {
            continue;
        }
        assert_eq!(world.pass().await, [1, 0, 0, 0], "nor is it for a settle window");
        // Nobody who holds its ETag sees anything of it.
        tokio::time::sleep(WINDOW * 2).await;
        let seen = home.get(&id.table, &id.partition, &id.row).await.unwrap().unwrap();
        let change = RowBody::builder(&id.partition, &id.row).string("B", "more").finish();
        world.writer().merge(&orders(), &change, Condition::Matches(seen.etag.clone()), None).await.unwrap();
        let stale = world.writer().merge(&orders(), &change, Condition::Matches(seen.etag), None).await;
        assert_eq!(stale.unwrap_err().status(), Some(412));
    }
}

#[tokio::test(start_paused = true)]
async fn a_row_that_its_cold_place_refuses_stays_and_keeps_no_other_from_going() {
    let world = World::new().await;
    let (full, placed) = (id(1), world.runtime.now() - DAY * 2);
    // As many properties as a row may have, and none of them its version.
    let properties: String = (1..252).map(|n| format!(r#","P{n}":"x""#)).collect();
    let (partition, row) = (&full.partition, &full.row);
    let json = format!(
        r#"{{"PartitionKey":"{partition}","RowKey":"{row}","Placed@odata.type":"Edm.DateTime","Placed":"{placed}"{properties}}}"#
    );
    let row = Operation::Insert(RowBody::parse(&json).unwrap());
    world.home(1).write(&orders(), &row).await.unwrap();
    for n in [0, 2, 3] {
        world.put(n, "old", DAY * 2).await;
    }
    let timeless = RowBody::builder(&id(4).partition, &id(4).row).string("Placed", "long ago").finish();
    world.writer().insert(&orders(), &timeless, None).await.unwrap();
    tokio::time::sleep(WINDOW * 2).await;
    world.store.follow_routes().await.unwrap();
    let done = world.mover().pass().await.unwrap().expect("nothing moves");
    assert_eq!((done.rows, done.demoted, done.refused, done.undated), (5, 3, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_row_finds_it_where_it_is_cold() {
    let world = World::new().await;
    let id = id(1);
    world.put_blindly(world.tiering(1).cold.as_ref(), 1, ("old", 5)).await;
    let reached = async |second| {
        let rows = [id.row.clone()].into();
        let there = reached(&world.store, &id.table, &id.partition, &rows, &world.version(second)).await.unwrap();
        there.into_iter().map(|(_, stands)| stands).next()
    };
    assert_eq!(reached(5).await, Some(Stands::Row(world.version(5))));
    assert_eq!(reached(6).await, None);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_demoted_while_rows_move_or_by_routes_that_are_old() {
    let world = World::new().await;
    world.put(1, "old", DAY * 2).await;
    tokio::time::sleep(WINDOW * 2).await;
    assert_eq!(world.mover().pass().await.unwrap(), None, "the routes were read two windows ago");
    let copy = world.store.read_routes().await.unwrap();
    let published = copy.published.clone().unwrap();
    let moving = crate::topology::MovingRows { state: crate::topology::MoveState::Filling, rules: rules() };
    let next = PublishedRoutes { epoch: 2, moving: Some(moving), ..published };
    assert!(world.store.replace_routes(&copy, &next).await.unwrap());
    world.store.follow_routes().await.unwrap();
    assert_eq!(world.mover().pass().await.unwrap(), None);
    assert_eq!(world.at_home(1).await, text("old"));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_demoted_before_every_writer_goes_by_the_routes_in_force() {
    let world = World::new().await;
    let mover = Mover { every: Duration::ZERO, ..world.mover() };
    let passes = async || {
        world.store.follow_routes().await.unwrap();
        mover.work(true).await.unwrap().is_some()
    };
    assert!(!passes().await);
    tokio::time::sleep(WINDOW).await;
    assert!(passes().await);
    // The file has another `older_than` by now.
    let copy = world.store.read_routes().await.unwrap();
    let next = PublishedRoutes { epoch: 2, ..copy.published.clone().unwrap() };
    assert!(world.store.replace_routes(&copy, &next).await.unwrap());
    assert!(!passes().await);
    tokio::time::sleep(WINDOW).await;
    assert!(passes().await);
}

#[tokio::test(start_paused = true)]
async fn a_table_is_read_whole_wherever_its_rows_stand_each_of_them_once() {
    let world = World::new().await;
    for n in 0..12 {
        world.put(n, "old", DAY * 2).await;
    }
    tokio::time::sleep(WINDOW * 2).await;
    assert_eq!(world.pass().await[2], 12);
    // One was promoted by a program that died before it had deleted the cold one, one was written over by somebody who knows homes alone.
    let cold = world.accounts[2].snapshot(&orders()).into_iter().find(|row| row.body.row().as_str() == "r3").unwrap();
    world.home(3).write(&orders(), &Operation::Insert(cold.body)).await.unwrap();
    world.put_blindly(world.home(4).as_ref(), 4, ("new", 3_600)).await;
    let mut rows = RegionRows::new(&world.store, &orders(), &Span::Table, Read::Whole { bytes: 1_000_000 });
    let mut said = BTreeMap::new();
    while let Some(row) = rows.next().await.unwrap() {
        let key: (PartitionKey, _) = (row.body.partition().clone(), row.body.row().clone());
        assert!(said.insert(key, row.body.string("A").unwrap()).is_none());
    }
    assert_eq!(said.len(), 12);
    assert_eq!((said.values().filter(|said| *said == "new").count(), rows.misplaced()), (1, 0));
}
