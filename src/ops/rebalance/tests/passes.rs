//! Rows that are written and deleted between two passes, or in the middle of one.

use super::*;
use crate::feed::{Shard, encode_change, encode_tombstone, tombstone_key};
use crate::model::{Change, Tombstone};
use crate::stores::memory::Fault;

/// A tombstone where these routes have the row, with a version of this second.
async fn bury(store: &RegionStore, rules: &Routes, id: &RowId, second: i64) {
    let version = Version::new(Time::from_unix_seconds(1_700_000_000 + second), &west(), WriterId(1));
    let body = encode_tombstone(&Tombstone { id: id.clone(), version });
    let place = store.by(rules).holding(&id.table, &id.partition);
    place.write(&SystemTable::Feed.name(), &Operation::InsertOrReplace(body)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
}

/// Takes the row out where these routes have it.
async fn take_out(store: &RegionStore, rules: &Routes, id: &RowId) {
    let place = store.by(rules).holding(&id.table, &id.partition);
    let (partition, row) = (id.partition.clone(), id.row.clone());
    place.write(&id.table, &Operation::Delete { partition, row, condition: Condition::Present }).await.unwrap();
}

/// A pass from four accounts to five, while it fills or afterwards.
async fn pass(store: &RegionStore, mirrors: bool) -> Counted {
    let (was, tables) = (over(4), TableFilter::Every);
    let (places, store) = (store.by(&over(5)), store.clone());
    let bringing = Bringing { places, store, was: &was, tables: &tables, fresh: HOLD / 2, mirrors, epoch: 1 };
    bringing.pass(&CancellationToken::new(), &mut |_| {}).await.unwrap()
}

/// What a row says in the new place alone.
async fn in_its_place(store: &RegionStore, id: &RowId) -> Option<String> {
    let place = store.by(&over(5)).holding(&id.table, &id.partition);
    place.get(&id.table, &id.partition, &id.row).await.unwrap().and_then(|row| row.body.string("A"))
}

#[tokio::test(start_paused = true)]
async fn a_row_that_is_copied_while_it_is_deleted_goes_with_the_next_pass() {
    for mirrors in [true, false] {
        let world = World::new(1).await;
        let (store, id) = (world.store(5), id(moved()));
        put(&store, &over(4), &id, ("old", 10)).await;
        // Its tombstone is raised, and the row about to go.
        bury(&store, &over(4), &id, 20).await;
        pass(&store, mirrors).await;
        assert_eq!(in_its_place(&store, &id).await.as_deref(), Some("old"));
        take_out(&store, &over(4), &id).await;
        assert!(pass(&store, mirrors).await.brought > 0);
        assert_eq!(in_its_place(&store, &id).await, None);
        assert_eq!(pass(&store, mirrors).await.brought, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_row_whose_delete_was_refused_in_its_new_place_stays_and_one_that_came_in_below_a_tombstone_goes() {
    for refused in [true, false] {
        let world = World::new(1).await;
        let (store, id) = (world.store(5), id(moved()));
        put(&store, &over(4), &id, ("old", 10)).await;
        switch(&store).await;
        if !refused {
            bury(&store, &over(5), &id, 20).await;
        }
        put(&store, &over(5), &id, ("old", 10)).await;
        if refused {
            bury(&store, &over(5), &id, 20).await;
        }
        store.passage(&id.table, &id.partition).expect("it moves").bring(&id).await.unwrap();
        assert_eq!(in_its_place(&store, &id).await.is_some(), refused);
    }
}

#[tokio::test(start_paused = true)]
async fn while_it_fills_a_copy_is_what_stands_where_rows_are_written_whatever_the_clocks_say() {
    let world = World::new(1).await;
    let (store, id) = (world.store(5), id(moved()));
    put(&store, &over(4), &id, ("by a clock ahead", 20)).await;
    pass(&store, true).await;
    take_out(&store, &over(4), &id).await;
    put(&store, &over(4), &id, ("later", 10)).await;
    pass(&store, true).await;
    assert_eq!(in_its_place(&store, &id).await.as_deref(), Some("later"));
    // What was deleted by a clock that is behind.
    bury(&store, &over(4), &id, 5).await;
    take_out(&store, &over(4), &id).await;
    pass(&store, true).await;
    assert_eq!(in_its_place(&store, &id).await, None);
    // What a writer by other routes has put there is announced there, and is left to those who follow that.
    put(&store, &over(5), &id, ("elsewhere", 30)).await;
    let version = Version::new(Time::from_unix_seconds(1_700_000_030), &west(), WriterId(1));
    let (table, partition) = (id.table.clone(), id.partition.clone());
    let change = Change { table, partition, puts: vec![id.row.clone()], deletes: vec![], version, base: None };
    let place = store.by(&over(5)).holding(&id.table, &id.partition);
    for record in encode_change(&change).unwrap() {
        place.write(&SystemTable::Feed.name(), &Operation::Insert(record)).await.unwrap();
    }
    put(&store, &over(4), &id, ("here", 15)).await;
    pass(&store, true).await;
    assert_eq!(in_its_place(&store, &id).await.as_deref(), Some("elsewhere"));
}

#[tokio::test(start_paused = true)]
async fn a_row_and_its_tombstone_come_over_in_the_order_in_which_they_came_there() {
    for second in [10, 30] {
        let world = World::new(1).await;
        let (store, id) = (world.store(5), id(moved()));
        bury(&store, &over(4), &id, 20).await;
        put(&store, &over(4), &id, ("put over it", second)).await;
        assert_eq!(pass(&store, true).await.brought, 1);
        assert_eq!(in_its_place(&store, &id).await.as_deref(), Some("put over it"));
        let place = store.by(&over(5)).holding(&id.table, &id.partition);
        let row = place.get(&id.table, &id.partition, &id.row).await.unwrap().unwrap();
        let (shard, key) = (Shard::of(&id.table, &id.partition).partition(), tombstone_key(&id));
        let tomb = place.get(&SystemTable::Feed.name(), &shard, &key).await.unwrap().unwrap();
        assert!(row.timestamp > tomb.timestamp);
        // And stay so, once the tombstone is there.
        assert_eq!(pass(&store, true).await.brought, 0);
        assert_eq!(in_its_place(&store, &id).await.as_deref(), Some("put over it"));
    }
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_deleted_where_no_route_leads_is_not_forgotten() {
    let world = World::new(1).await;
    let (id, was, tables) = (id(moved()), over(4), TableFilter::Every);
    let refuses = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let line = |tables: &Arc<MemoryTables>| {
        let (line, refuses) = (tables.by_another_line(), refuses.clone());
        line.faults().set_rule(move |request| {
            let deletes = request.operations.iter().any(|operation| matches!(operation, Operation::Delete { .. }));
            let refused = deletes && refuses.load(std::sync::atomic::Ordering::Relaxed);
            refused.then(Fault::lost_request)
        });
        Account { tables: line, queue: None }
    };
    let store = RegionStore::routed(west(), world.accounts.iter().map(line).collect(), over(5));
    put(&store, &over(4), &id, ("moved", 10)).await;
    pass(&store, false).await;
    let places = store.by(&over(5));
    let bringing = Bringing { places, store, was: &was, tables: &tables, fresh: HOLD / 2, mirrors: false, epoch: 1 };
    let (stop, tell) = (CancellationToken::new(), &mut |_| {});
    let cleaned = bringing.clean(&stop, tell).await.unwrap();
    assert_eq!((cleaned.deleted, cleaned.open), (0, 1), "it is to be tried again");
    refuses.store(false, std::sync::atomic::Ordering::Relaxed);
    let cleaned = bringing.clean(&stop, tell).await.unwrap();
    assert_eq!((cleaned.deleted, cleaned.open, world.held().len()), (1, 0, 1));
}
