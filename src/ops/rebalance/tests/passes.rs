//! Rows that are written and deleted between two passes, or in the middle of one.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::*;
use crate::feed::{
    Entry, Malformed, Reason, Shard, Source, encode_change, encode_message, encode_tombstone, record_prefix,
    tombstone_key,
};
use crate::model::{Change, ClosedList, Tombstone};
use crate::stores::memory::{Fault, RequestKind};
use crate::topology::{Ageing, Partitions, Route, RoutedTables, Tier};
use crate::writer::Over;

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
async fn pass(store: &RegionStore, fills: bool) -> Counted {
    bringing(store, fills, &over(4)).pass(&CancellationToken::new(), &mut |_| {}).await.unwrap()
}

/// As a command has it that knows the routes of the first epoch.
fn bringing<'a>(store: &RegionStore, fills: bool, was: &'a Routes) -> Bringing<'a> {
    Bringing {
        store: store.clone(),
        places: store.by(&over(5)),
        was,
        tables: &TableFilter::Every,
        fresh: HOLD / 2,
        settles: HOLD * 2,
        mirrors: fills,
        epoch: 1,
    }
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
        // Where it goes from is what everybody reads: nobody else may tell the other regions.
        let place = store.by(&over(5)).holding(&id.table, &id.partition);
        let records = Query::prefix(Shard::of(&id.table, &id.partition).partition(), record_prefix());
        let announced = place.query(&SystemTable::Feed.name(), &records).await.unwrap().rows;
        assert_eq!(announced.len(), usize::from(!mirrors));
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
}

/// What announces a row that a writer by other routes has put where rows are copied to.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Told {
    Nowhere,
    InFeed,
    InQuarantine,
    /// In quarantine, and it was found where the row is written.
    OfTheOther,
    /// In quarantine, and it puts another row.
    OfAnother,
}

/// Announces a put or a delete of the row where the fifth account has it, with a version of this second.
async fn announce(store: &RegionStore, (id, delete): (&RowId, bool), second: i64, told: Told) {
    let version = Version::new(Time::from_unix_seconds(1_700_000_000 + second), &west(), WriterId(1));
    let row = if told == Told::OfAnother { "another".into() } else { id.row.clone() };
    let named = RowId::new(id.table.clone(), id.partition.clone(), row);
    let record = encode_change(&Change::of_row(&named, &version, delete)).unwrap().remove(0);
    let place = store.by(&over(5)).holding(&id.table, &id.partition);
    let (table, body) = match told {
        Told::Nowhere => return,
        Told::InFeed => (SystemTable::Feed, record),
        _ => {
            let why = Malformed::new(Reason::FutureVersion, "it is ahead");
            let mut entry = Entry::new(Source::Record, &why, Time::EPOCH, record.json().to_string());
            let found_in = if told == Told::OfTheOther { store.by(&over(4)) } else { store.by(&over(5)) };
            entry.account = Some(found_in.holding(&id.table, &id.partition).account().clone());
            (entry.table, entry.partition) = (Some(id.table.to_string()), Some(id.partition.as_str().to_owned()));
            entry.version = Some(version.to_string());
            (SystemTable::Quarantine, entry.identified().encode())
        }
    };
    let tables = if told == Told::InFeed { &place } else { store.home() };
    tables.write(&table.name(), &Operation::Insert(body)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_a_writer_by_other_routes_has_put_there_is_no_copy_while_its_announcement_is_somewhere() {
    let cases = [
        (Told::Nowhere, false),
        (Told::InFeed, true),
        (Told::InQuarantine, true),
        (Told::OfTheOther, false),
        (Told::OfAnother, false),
    ];
    for ((told, stays), versioned) in cases.into_iter().flat_map(|case| [(case, true), (case, false)]) {
        for bug in [None, Some(Bug::QuarantinedTakenForCopy)] {
            let world = World::new(1).await;
            let (store, id) = (world.store(5), id(moved()));
            tokio::time::sleep(HOLD * 3).await;
            // One without a version has that of the moment at which it came there, whatever it was announced with.
            match versioned {
                true => put(&store, &over(5), &id, ("elsewhere", 40)).await,
                false => {
                    let body = RowBody::builder(&id.partition, &id.row).string("A", "elsewhere").finish();
                    let place = store.by(&over(5)).holding(&id.table, &id.partition);
                    place.write(&id.table, &Operation::Insert(body)).await.unwrap();
                }
            }
            announce(&store, (&id, false), 40, told).await;
            put(&store, &over(4), &id, ("here", 20)).await;
            plant(bug);
            pass(&store, true).await;
            plant(None);
            let stays = stays && (bug.is_none() || told == Told::InFeed);
            let stands = if stays { "elsewhere" } else { "here" };
            assert_eq!(in_its_place(&store, &id).await.as_deref(), Some(stands), "{told:?} {versioned} {bug:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn no_row_goes_to_where_something_from_the_future_was_written() {
    let cases = [(false, Told::InQuarantine), (false, Told::InFeed), (true, Told::InQuarantine), (true, Told::Nowhere)];
    for (delete, told) in cases {
        let world = World::new(1).await;
        let (store, id, was) = (world.store(5), id(moved()), over(4));
        put(&store, &over(4), &id, ("here", 10)).await;
        match delete {
            false => put(&store, &over(5), &id, ("ahead", 90)).await,
            true => bury(&store, &over(5), &id, 90).await,
        }
        announce(&store, (&id, delete), 90, told).await;
        let pass = async || bringing(&store, true, &was).pass(&CancellationToken::new(), &mut |_| {}).await;
        let refused = pass().await.unwrap_err();
        let RebalanceError::Ahead { row, .. } = &refused else { panic!("{refused}") };
        assert_eq!(**row, id);
        assert!(refused.to_string().contains("account w5 has version"), "{refused}");
        // The clock has passed it, and what is later wins.
        tokio::time::sleep(HOLD * 5).await;
        assert_eq!(pass().await.unwrap().brought, 0);
        assert_eq!(in_its_place(&store, &id).await.as_deref(), if delete { None } else { Some("ahead") });
    }
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
    let (id, was) = (id(moved()), over(4));
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
    let bringing = bringing(&store, false, &was);
    let (stop, tell) = (CancellationToken::new(), &mut |_| {});
    let cleaned = bringing.clean(&stop, tell).await.unwrap();
    assert_eq!((cleaned.deleted, cleaned.open), (0, 1), "it is to be tried again");
    refuses.store(false, std::sync::atomic::Ordering::Relaxed);
    let cleaned = bringing.clean(&stop, tell).await.unwrap();
    assert_eq!((cleaned.deleted, cleaned.open, world.held().len()), (1, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_command_that_still_copies_leaves_alone_what_is_written_by_routes_that_came_into_force_meanwhile() {
    for planted in [false, true] {
        let world = World::new(1).await;
        let (store, id, was) = (world.store(5), id(moved()), over(4));
        put(&store, &over(4), &id, ("old", 10)).await;
        assert_eq!(pass(&store, true).await.brought, 1);
        // Another command was faster, a writer follows its routes, and what it has written was delivered and is announced no more.
        let slow = bringing(&store, true, &was);
        switch(&world.store(5)).await;
        take_out(&store, &over(5), &id).await;
        put(&store, &over(5), &id, ("new", 20)).await;
        plant(planted.then_some(Bug::CopiedByOldRoutes));
        let brought = slow.passage(&id).expect("its account is there").bring(&id).await;
        plant(None);
        assert_eq!(brought.is_err(), !planted, "{brought:?}");
        let stands = if planted { "old" } else { "new" };
        assert_eq!(in_its_place(&store, &id).await.as_deref(), Some(stands));
    }
}

#[tokio::test(start_paused = true)]
async fn a_row_whose_delete_was_refused_where_it_was_is_still_there_when_it_has_moved() {
    for bug in [None, Some(Bug::RefusedLeftAlone)] {
        let (world, id) = (World::new(1).await, id(moved()));
        let fails_after = Arc::new(AtomicUsize::new(usize::MAX));
        let line = |tables: &Arc<MemoryTables>| {
            let (line, left) = (tables.by_another_line(), fails_after.clone());
            line.faults().set_rule(move |request| {
                let deletes = request.operations.iter().any(|operation| matches!(operation, Operation::Delete { .. }));
                let fails = deletes && left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_err();
                fails.then(|| Fault::throttled(Duration::ZERO))
            });
            Account { tables: line, queue: None }
        };
        let store = RegionStore::routed(west(), world.accounts.iter().map(line).collect(), over(5));
        put(&store, &over(4), &id, ("kept", 10)).await;
        bury(&store, &over(4), &id, 20).await;
        pass(&store, false).await;
        let was = over(4);
        let bringing = bringing(&store, false, &was);
        let (stop, tell) = (CancellationToken::new(), &mut |_| {});
        plant(bug);
        if bug.is_none() {
            let young = bringing.clean(&stop, tell).await.unwrap();
            assert_eq!((young.deleted, young.open), (0, 2), "its delete may be under way: both wait");
        }
        tokio::time::sleep(HOLD * 3).await;
        // The command is killed, or held up, after the first of the two was deleted.
        fails_after.store(1, Relaxed);
        assert_eq!(bringing.clean(&stop, tell).await.unwrap().deleted, 1);
        fails_after.store(usize::MAX, Relaxed);
        pass(&store, false).await;
        plant(None);
        assert_eq!(in_its_place(&store, &id).await.as_deref(), bug.is_none().then_some("kept"));
        if bug.is_none() {
            assert_eq!(bringing.clean(&stop, tell).await.unwrap().deleted, 1);
            assert_eq!(in_its_place(&store, &id).await.as_deref(), Some("kept"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_row_whose_delete_was_refused_is_carried_home_and_stays() {
    let world = World::new(1).await;
    let (store, id) = (world.store(5), id(moved()));
    put(&store, &over(4), &id, ("kept", 10)).await;
    bury(&store, &over(4), &id, 20).await;
    let was = over(4);
    let carry = async || bringing(&store, false, &was).passage(&id).expect("it moves").carry(&id).await.unwrap();
    assert_eq!(carry().await, Over::Brought);
    assert_eq!(world.held().len(), 2, "its delete may be under way where it was");
    tokio::time::sleep(HOLD * 3).await;
    for _ in 0..2 {
        carry().await;
        assert_eq!(world.held().len(), 1);
        assert_eq!(in_its_place(&store, &id).await.as_deref(), Some("kept"));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_carried_home_leaves_nothing_behind() {
    let world = World::new(1).await;
    let (store, id, was) = (world.store(5), id(moved()), over(4));
    put(&store, &over(4), &id, ("astray", 10)).await;
    let passage = bringing(&store, false, &was).passage(&id).expect("its account is there");
    assert_eq!(passage.carry(&id).await.unwrap(), Over::Brought);
    assert_eq!(in_its_place(&store, &id).await.as_deref(), Some("astray"));
    assert_eq!(world.held().len(), 1);
    assert_eq!(passage.carry(&id).await.unwrap(), Over::Nothing);
}

#[tokio::test(start_paused = true)]
async fn what_is_told_by_the_queue_of_an_account_that_no_route_leads_to_is_carried_home() {
    for bug in [None, Some(Bug::PreviousPlaceForgotten)] {
        let (world, id) = (World::new(1).await, id(moved()));
        let account =
            |tables: &Arc<MemoryTables>| Account { queue: Some(tables.queue("relay-changes")), ..World::line(tables) };
        let store = RegionStore::routed(west(), world.accounts.iter().map(account).collect(), over(4));
        create_missing(&store).await.unwrap();
        world.daemon(store.clone(), world.store_of_north());
        world.daemon(world.store_of_north(), world.store(5));
        tokio::time::sleep(HOLD).await;
        plant(bug);
        put(&store, &over(5), &id, ("late", 10)).await;
        let version = Version::new(Time::from_unix_seconds(1_700_000_010), &west(), WriterId(1));
        let told = encode_message(&Change::of_row(&id, &version, false));
        let place = over(5).place(&id.table, &id.partition).account.clone();
        let at = world.accounts.iter().find(|tables| *tables.account() == place).expect("it is there");
        crate::stores::Queue::send(at.queue("relay-changes").as_ref(), &told).await.unwrap();
        tokio::time::sleep(HOLD).await;
        world.until_quiet().await.unwrap();
        plant(None);
        world.stop.cancel();
        let in_north = world.north.snapshot(&orders()).iter().any(|row| *row.body.row() == id.row);
        let [(_, stands, _)] = world.held().try_into().expect("there is one row");
        assert_eq!((stands == place.as_str(), in_north), (bug.is_some(), bug.is_none()));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_written_behind_the_back_of_who_deletes_is_carried_home() {
    for bug in [None, Some(Bug::BroughtNotCarried)] {
        let world = World::new(1).await;
        let (store, id) = (world.store(5), id(moved()));
        world.daemon(world.store(5), world.store_of_north());
        tokio::time::sleep(HOLD).await;
        switch(&store).await;
        tokio::time::sleep(HOLD * 3).await;
        plant(bug);
        // By routes that nobody may go by any more; the command has gone through that table already.
        put(&store, &over(4), &id, ("late", 10)).await;
        let version = Version::new(Time::from_unix_seconds(1_700_000_010), &west(), WriterId(1));
        let record = encode_change(&Change::of_row(&id, &version, false)).unwrap().remove(0);
        let record = Operation::Insert(record);
        let place = store.by(&over(4)).holding(&id.table, &id.partition);
        place.write(&SystemTable::Feed.name(), &record).await.unwrap();
        world.until_quiet().await.unwrap();
        plant(None);
        assert_eq!(in_its_place(&store, &id).await.as_deref(), Some("late"));
        assert_eq!(world.held().len(), if bug.is_none() { 1 } else { 2 });
        world.stop.cancel();
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_comes_to_life_that_lay_where_rows_are_going_to_be() {
    let world = World::new(1).await;
    let (store, id) = (world.store(5), id(moved()));
    put(&store, &over(5), &id, ("left there long ago", 10)).await;
    world.daemon(world.store(5), world.store_of_north());
    tokio::time::sleep(HOLD).await;
    let (stop, rebalance) = (CancellationToken::new(), world.rebalance(5));
    let refused = rebalance.run(&stop, &mut |_, _| {}).await.unwrap_err();
    let RebalanceError::Strays { account, rows, first } = &refused else { panic!("{refused}") };
    assert_eq!((account, *rows, first), (&named("w5"), 1, &id), "{refused}");
    assert_eq!(store.read_routes().await.unwrap().published.unwrap().moving, None, "nothing has begun");
    take_out(&store, &over(5), &id).await;
    // Of this table the new account gets no row; it may hold those that are written next.
    let others = TableName::new("others").unwrap();
    world.accounts[0].create_table(&others).await.unwrap();
    let mut steps = Vec::new();
    rebalance.run(&stop, &mut |step, _| steps.push(step)).await.unwrap();
    assert!(world.accounts[4].tables().await.unwrap().contains(&others));
    assert!(steps.is_sorted_by_key(|step| RebalanceStep::ALL.iter().position(|it| it == step)), "{steps:?}");
    world.stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_row_that_its_place_will_never_take_is_named() {
    let world = World::new(1).await;
    let (store, id, was) = (world.store(5), id(moved()), over(4));
    // As many properties as a row may have, and none of them its version.
    let full = (0..252).fold(RowBody::builder(&id.partition, &id.row), |row, n| row.string(&format!("P{n}"), "x"));
    let place = store.by(&was).holding(&id.table, &id.partition);
    place.write(&id.table, &Operation::Insert(full.finish())).await.unwrap();
    let stop = CancellationToken::new();
    let refused = bringing(&store, true, &was).pass(&stop, &mut |_| {}).await.unwrap_err();
    assert!(matches!(&refused, RebalanceError::Row { row, .. } if **row == id), "{refused}");
    assert!(refused.to_string().contains("room for a RelayVersion"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn what_another_has_brought_once_all_was_deleted_does_not_stay_where_it_was() {
    for bug in [None, Some(Bug::BroughtByAnother)] {
        let (world, id) = (World::new(1).await, id(moved()));
        let direct = world.accounts.iter().map(|tables| Account { tables: tables.clone(), queue: None }).collect();
        let direct = RegionStore::routed(west(), direct, over(5));
        put(&direct, &over(4), &id, ("old", 10)).await;
        switch(&direct).await;
        let (was, lines) = (over(4).place(&id.table, &id.partition).account.clone(), world.accounts.iter());
        let deleted = Arc::new(AtomicUsize::new(0));
        let accounts = lines.map(|tables| {
            let (line, direct, id, deleted) = (tables.by_another_line(), direct.clone(), id.clone(), deleted.clone());
            if *tables.account() == was {
                line.faults().set_rule(move |request| {
                    let deletes = request.operations.iter().any(|it| matches!(it, Operation::Delete { .. }));
                    deleted.fetch_add(usize::from(deletes), Relaxed);
                    // A late write by old routes, and another command that meets it first.
                    if request.kind == RequestKind::ListTables && deleted.load(Relaxed) == 1 {
                        deleted.fetch_add(1, Relaxed);
                        let version = Version::new(Time::from_unix_seconds(1_700_000_050), &west(), WriterId(1));
                        let body = RowBody::builder(&id.partition, &id.row).string("A", "late").finish();
                        let insert = Operation::Insert(body.stamped(&version));
                        let was = over(4);
                        let place = direct.by(&was).holding(&id.table, &id.partition);
                        place.write(&id.table, &insert).now_or_never().expect("at once").unwrap();
                        let passage = bringing(&direct, false, &was).passage(&id).expect("it moves");
                        assert_eq!(passage.bring(&id).now_or_never().expect("at once").unwrap(), Over::Brought);
                    }
                    None
                });
            }
            Account { tables: line, queue: None }
        });
        let store = RegionStore::routed(west(), accounts.collect(), over(5));
        plant(bug);
        let done = Rebalance { store: store.clone(), ..world.rebalance(5) }
            .run(&CancellationToken::new(), &mut |_, _| {})
            .await
            .unwrap();
        plant(None);
        assert_eq!(in_its_place(&store, &id).await.as_deref(), Some("late"));
        assert_eq!((done.deleted, world.held().len()), if bug.is_none() { (2, 1) } else { (1, 2) });
    }
}

#[tokio::test(start_paused = true)]
async fn who_has_just_started_knows_since_when_the_routes_are_published() {
    let world = World::new(1).await;
    switch(&world.store(5)).await;
    tokio::time::sleep(HOLD * 3).await;
    let store = world.store(5);
    assert_eq!(store.routes_since(), None);
    store.follow_routes().await.unwrap();
    store.follow_routes().await.unwrap();
    let since = store.routes_since().expect("they were read").elapsed();
    assert!(since > HOLD * 3 - Duration::from_secs(2) && since < HOLD * 3 + Duration::from_secs(2), "{since:?}");
}

#[tokio::test(start_paused = true)]
async fn a_move_ends_where_what_was_the_home_of_a_row_is_its_cold_place_now() {
    let (world, id, was) = (World::new(1).await, id(moved()), over(4));
    let aged = Route {
        name: "old".to_owned(),
        tables: RoutedTables::Every,
        partitions: Partitions::Every,
        accounts: vec![was.place(&id.table, &id.partition).account.clone()],
        tier: Some(Tier::Archive),
        ageing: Some(Ageing { date: "Placed".to_owned(), after: HOLD * 1_000 }),
    };
    let wanted = Routes::new(vec![aged], (1..=ACCOUNTS).map(|n| named(&format!("w{n}")))).unwrap();
    let store = RegionStore::routed(west(), world.accounts.iter().map(World::line).collect(), wanted.clone());
    put(&store, &was, &id, ("old", 10)).await;
    let copy = store.read_routes().await.unwrap();
    let moving = Some(MovingRows { state: MoveState::Reading, rules: was });
    let next = PublishedRoutes { epoch: 2, rules: wanted, moving, ..copy.published.clone().unwrap() };
    assert!(store.replace_routes(&copy, &next).await.unwrap());
    let rebalance = Rebalance { store: store.clone(), ..world.rebalance(5) };
    let done = rebalance.run(&CancellationToken::new(), &mut |_, _| {}).await.unwrap();
    assert_eq!((done.epoch, in_its_place(&store, &id).await.as_deref()), (3, Some("old")));
}
