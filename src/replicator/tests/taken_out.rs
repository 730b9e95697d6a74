//! A row that is brought and lands below a newer tombstone goes again (R4).

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::*;

#[tokio::test(start_paused = true)]
async fn a_row_that_is_deleted_while_it_is_inserted_is_taken_out_again() {
    let mut world = World::new(2).await;
    // The insert at the destination is on its way for a second, after the look at the tombstone.
    world.faults(1).set_rule(|request| {
        let inserts = request.table == Some(&table()) && matches!(request.operations, [Operation::Insert(_)]);
        inserts.then_some(Fault::Delay(Duration::from_secs(1)))
    });
    world.start_one(0, &Settings::default());
    world.put(0, "p", "a", "older").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let delete = world.delete(1, "p", "a").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(world.contents(1).is_empty(), "R4 looks at the tombstone after the insert");
    assert!(world.contents(0).is_empty(), "R6 takes the delete over");
    let tombstones = world.stores[0].snapshot(&SystemTable::Feed.name());
    assert!(tombstones.iter().any(|row| row.body.string("Version").as_deref() == Some(delete.as_str())));
}

#[tokio::test(start_paused = true)]
async fn a_delete_that_is_done_by_taking_a_row_out_is_announced_before() {
    let mut world = World::new(3).await;
    let version = world.put(0, "p", "a", "everywhere").await;
    for n in [1, 2] {
        let body = World::body("p", "a", "everywhere", &version);
        world.stores[n].write(&table(), &Operation::Insert(body)).await.unwrap();
    }
    // In the north a conditional delete was refused: its announcement has gone, its tombstone stands.
    let refused = world.version(1);
    let id = RowId::new(table(), "p".into(), "a".into());
    let tombstone = encode_tombstone(&Tombstone { id, version: refused.clone() });
    world.stores[1].write(&SystemTable::Feed.name(), &Operation::Insert(tombstone)).await.unwrap();
    // What is announced in the east when the row goes from the north, where nothing is.
    let (east, taken_out) = (world.stores[0].clone(), Arc::new(AtomicUsize::new(0)));
    let (announced, seen) = (refused.clone(), taken_out.clone());
    world.faults(1).set_rule(move |request| {
        if request.table == Some(&table()) && matches!(request.operations, [Operation::Delete { .. }]) {
            let open =
                records(&east).iter().any(|row| row.body.string("Version").as_deref() == Some(announced.as_str()));
            assert!(open, "were we to die now, the west would never hear of it");
            seen.fetch_add(1, Relaxed);
        }
        None
    });
    world.start_one(0, &Settings::default());
    world.settle(Duration::from_secs(100)).await;
    assert_eq!(taken_out.load(Relaxed), 1);
    for n in 0..3 {
        assert!(world.contents(n).is_empty(), "{n}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_tombstone_from_the_future_takes_nothing_out_before_its_time() {
    let mut world = World::new(2).await;
    let version = world.put(0, "p", "a", "everywhere").await;
    let body = World::body("p", "a", "everywhere", &version);
    world.stores[1].write(&table(), &Operation::Insert(body)).await.unwrap();
    // The clock of whoever wanted to delete it in the north was ahead, and the delete was refused.
    let north = Region::new("north").unwrap();
    let ahead = Version::new(world.runtime.now() + Duration::from_secs(300), &north, WriterId(9));
    let id = RowId::new(table(), "p".into(), "a".into());
    let tombstone = encode_tombstone(&Tombstone { id, version: ahead });
    world.stores[1].write(&SystemTable::Feed.name(), &Operation::Insert(tombstone)).await.unwrap();
    world.start(&Settings::default());
    world.settle(Duration::from_secs(100)).await;
    world.assert_equal();
    assert_eq!(world.contents(1).len(), 1, "R7");
    assert_eq!(world.stores[0].snapshot(&SystemTable::Quarantine.name()).len(), 1, "it is named, and waits");
    // Once its time has come it wins, as any later version does, and everywhere.
    world.until("it is deleted", 600, |world| (0..2).all(|n| world.contents(n).is_empty())).await;
}
