//! What lies in quarantine, and what comes out of it by itself.

use super::*;
use crate::feed::{Entry, Reason};

impl World {
    fn quarantine(&self, n: usize) -> Vec<Entry> {
        let rows = self.stores[n].snapshot(&SystemTable::Quarantine.name());
        rows.iter().map(|row| Entry::decode(row).unwrap()).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_from_the_future_is_tried_again_when_the_clock_has_passed_it() {
    let mut world = World::new(2).await;
    world.start(&Settings::default());
    world.put(0, "p", "a", "1").await;
    world.settle(Duration::from_secs(5)).await;
    let queue = world.regions[0].accounts()[0].queue.clone().unwrap();
    let east = Region::new("east").unwrap();
    let version = Version::new(world.runtime.now() + Duration::from_secs(90), &east, WriterId(9));
    // Its delete is done: what it tells of is a fact, which needs its tombstone as well as its record.
    world.stores[0]
        .write(&table(), &Operation::Delete { partition: "p".into(), row: "a".into(), condition: Condition::Present })
        .await
        .unwrap();
    let (partition, deletes) = ("p".into(), vec!["a".into()]);
    let change = Change { table: table(), partition, puts: Vec::new(), deletes, version: version.clone(), base: None };
    queue.send(&encode_message(&change)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let [entry] = world.quarantine(0).try_into().unwrap();
    assert_eq!((entry.reason, entry.version.as_deref()), (Reason::FutureVersion, Some(version.as_str())));
    assert_eq!(world.contents(1).len(), 1, "a version from the future is not applied");

    tokio::time::sleep(Duration::from_secs(130)).await;
    world.settle(Duration::from_secs(100)).await;
    world.assert_equal();
    assert_eq!((world.quarantine(0), world.contents(1).len()), (Vec::new(), 0));
    let id = RowId::new(table(), "p".into(), "a".into());
    let stone = encode_tombstone(&Tombstone { id, version });
    let feed = world.stores[1].snapshot(&SystemTable::Feed.name());
    assert!(feed.iter().any(|row| row.body == stone), "{feed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_row_that_its_version_makes_too_large_is_named_as_that() {
    let mut world = World::new(2).await;
    world.start(&Settings::default());
    // Written past the feed with all the properties that Azure allows, and announced afterwards.
    let row = (0..252).fold(RowBody::builder(&"p".into(), &"full".into()), |row, n| row.string(&format!("P{n}"), "x"));
    world.stores[0].write(&table(), &Operation::Insert(row.finish())).await.unwrap();
    let version = world.version(0);
    world.announce(0, "p", &["full"], &[], &version).await;
    world.put(0, "p", "fine", "x").await;
    world.settle(Duration::from_secs(80)).await;
    let [entry] = world.quarantine(0).try_into().unwrap();
    assert_eq!(entry.reason, Reason::TooLarge, "{entry:?}");
    assert!(entry.detail.contains("252"), "{entry:?}");
    assert_eq!(entry.destination, Some(Region::new("north").unwrap()));
    assert_eq!(world.contents(1).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_refused_row_holds_nobody_up_and_leaves_quarantine_when_a_later_version_has_arrived() {
    let mut world = World::new(2).await;
    // The destination refuses one row of a transaction, and does not say which.
    world.faults(1).set_rule(|request| {
        let mut bodies = request.operations.iter().filter_map(|operation| operation.body());
        let refused = bodies.any(|body| body.string("Value").as_deref() == Some("poison"));
        let error = StoreError::answered(ErrorKind::Invalid, 400, "InvalidInput", "one of the inputs is not valid");
        let error = StoreError { request_id: Some("7f3a".to_owned()), ..error };
        refused.then_some(Fault::Before(error))
    });
    world.start(&Settings::default());
    let version = world.version(0);
    world.announce(0, "p", &["a", "b", "c"], &[], &version).await;
    let values = [("a", "fine"), ("b", "poison"), ("c", "fine")];
    let all: Vec<_> =
        values.iter().map(|(row, value)| Operation::Insert(World::body("p", row, value, &version))).collect();
    world.stores[0].transact(&table(), &"p".into(), &all).await.unwrap();
    world.settle(Duration::from_secs(10)).await;
    assert_eq!(world.contents(1).len(), 2, "the others of its transaction have arrived");
    let [entry] = world.quarantine(0).try_into().unwrap();
    assert_eq!((entry.reason, entry.row.as_deref()), (Reason::Refused, Some("b")));
    assert_eq!(entry.version.as_deref(), Some(version.as_str()));
    assert_eq!(entry.request.as_deref(), Some("7f3a"));
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(world.quarantine(0).len(), 1, "nothing later has arrived");

    world.put(0, "p", "b", "mended").await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    world.assert_equal();
    assert_eq!(world.quarantine(0), []);
}

#[tokio::test(start_paused = true)]
async fn what_this_region_refuses_of_another_holds_nobody_up() {
    let mut world = World::new(2).await;
    world.put(0, "p", "a", "older").await;
    tokio::time::advance(Duration::from_millis(10)).await;
    world.put(1, "p", "a", "poison").await;
    world.faults(0).set_rule(|request| {
        let mut bodies = request.operations.iter().filter_map(|operation| operation.body());
        let refused = bodies.any(|body| body.string("Value").as_deref() == Some("poison"));
        let error = StoreError::answered(ErrorKind::Invalid, 400, "InvalidInput", "one of the inputs is not valid");
        refused.then_some(Fault::Before(error))
    });
    world.start_one(0, &Settings::default());
    world.put(0, "p", "b", "next").await;
    tokio::time::sleep(Duration::from_secs(70)).await;
    assert!(records(&world.stores[0]).is_empty(), "nothing is left in the feed");
    let [entry] = world.quarantine(0).try_into().unwrap();
    assert_eq!((entry.reason, entry.destination), (Reason::Refused, Some(Region::new("east").unwrap())));
}

#[tokio::test(start_paused = true)]
async fn what_stands_in_the_feed_where_no_reader_looks_is_named_and_kept_whole() {
    let mut world = World::new(2).await;
    world.start(&Settings::default());
    let feed = SystemTable::Feed.name();
    let strays = [("99", "c:2026-01-01T00:00:00.0000000Z@east.00000001"), ("05", "zzz"), ("0", "t:00"), ("0f", "a")];
    for (partition, row) in strays {
        let body = RowBody::builder(&partition.into(), &row.into()).string("Puts", row).finish();
        world.stores[0].write(&feed, &Operation::Insert(body)).await.unwrap();
    }
    world.delete(0, "p", "a").await;
    let left = |world: &World| world.stores[0].snapshot(&feed).len();
    world.until("all but the tombstone are out of the feed", 16 * 31, |world| left(world) == 1).await;
    let entries = world.quarantine(0);
    assert!(entries.iter().all(|entry| [Reason::BadKey, Reason::BadJson].contains(&entry.reason)), "{entries:?}");
    for (_, row) in strays {
        assert!(entries.iter().any(|entry| entry.whole.contains(row)), "{row}: {entries:?}");
    }
}
