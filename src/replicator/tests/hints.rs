//! A destination that is down is parked, and brought what its hints name when it is back.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use super::*;
use crate::feed::{Entry, Reason, decode_hint, hint_since};
use crate::model::ClosedList;
use crate::settle::{LinkState, LinkStatus};

const PARTITIONS: usize = 40;

impl World {
    pub(super) fn hints(&self, n: usize) -> Vec<Row> {
        self.stores[n].snapshot(&SystemTable::Backlog.name())
    }

    /// The newest board's word on a link, from the first second on.
    fn link(&self, to: &str) -> Option<LinkStatus> {
        self.boards.last()?.snapshot().links.into_iter().find(|link| link.destination.as_str() == to)
    }

    /// Waits for a condition, up to `seconds` of virtual time.
    pub(super) async fn until(&self, what: &str, seconds: u64, condition: impl Fn(&Self) -> bool) {
        let deadline = self.runtime.instant() + Duration::from_secs(seconds);
        while !condition(self) {
            assert!(self.runtime.instant() < deadline, "not within {seconds} s: {what}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn until_state(&self, state: LinkState) {
        let is = |world: &Self| world.link("north").is_some_and(|link| link.state == state);
        self.until(state.as_str(), 30, is).await;
    }

    pub(super) async fn until_drained(&self, n: usize) {
        self.until("the backlog is empty", 60, |world| world.hints(n).is_empty()).await;
    }

    async fn until_counted(&self, rows: u64) {
        let counted = |world: &Self| world.link("north").is_some_and(|link| link.backlog_rows == rows);
        self.until("the hints are counted", 5, counted).await;
    }

    async fn until_synced(&self, what: &str, is: impl Fn(Time) -> bool) {
        let last_sync = |world: &Self| world.link("north").and_then(|link| link.last_sync);
        self.until(what, 10, |world| last_sync(world).is_some_and(&is)).await;
    }

    async fn write_all(&mut self, value: &str) {
        for partition in 0..PARTITIONS {
            self.put(0, &format!("p{partition}"), "r", value).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_is_down_is_parked_and_the_feed_drains_on() {
    let mut world = World::new(3).await;
    world.start_one(0, &Settings::default());
    world.faults(1).cut(true);
    world.write_all("1").await;
    world.until_state(LinkState::Parked).await;
    for round in 2..6 {
        world.write_all(&round.to_string()).await;
    }
    // A version that another followed before anybody looked waits for its window.
    world.settle(Duration::from_secs(65)).await;
    assert_eq!(world.contents(0), world.contents(2), "the other destination has it all");
    assert_eq!(world.hints(0).len(), PARTITIONS, "one hint per distinct row");
    world.until_counted(PARTITIONS as u64).await;
    world.faults(1).cut(false);
    world.until_drained(0).await;
    assert_eq!(world.contents(0), world.contents(1));
    world.until_state(LinkState::Flowing).await;
    world.until_counted(0).await;
    let applied = world.stores[1].snapshot(&SystemTable::Applied.name());
    assert!(!applied.is_empty(), "the applied log tells of what hints brought, too");
}

#[tokio::test(start_paused = true)]
async fn one_that_hangs_without_an_answer_is_parked_as_well() {
    let mut world = World::new(3).await;
    world.start_one(0, &Settings::default());
    world.faults(1).set_latency(Duration::from_secs(3_600), Duration::ZERO);
    world.write_all("1").await;
    world.until_state(LinkState::Parked).await;
    world.settle(Duration::from_secs(5)).await;
    assert_eq!(world.hints(0).len(), PARTITIONS);
    world.faults(1).set_latency(Duration::from_millis(5), Duration::ZERO);
    world.until_drained(0).await;
    assert_eq!(world.contents(0), world.contents(1));
}

#[tokio::test(start_paused = true)]
async fn a_hint_keeps_the_time_of_the_oldest_announcement_and_holds_last_sync_time_there() {
    let mut world = World::new(2).await;
    world.start_one(0, &Settings::default());
    world.until_synced("Last Sync Time is known", |_| true).await;
    world.faults(1).cut(true);
    world.put(0, "p", "r", "1").await;
    let announced = records(&world.stores[0])[0].timestamp;
    world.until_state(LinkState::Parked).await;
    world.settle(Duration::from_secs(5)).await;
    let etag = world.hints(0)[0].etag.clone();
    tokio::time::sleep(Duration::from_secs(90)).await;
    let version = world.put(0, "p", "r", "2").await;
    world.settle(Duration::from_secs(5)).await;
    let hints = world.hints(0);
    assert_ne!(hints[0].etag, etag, "renewed");
    let hint = decode_hint(&hints[0]).unwrap();
    assert_eq!((hints.len(), hint.since, hint.version), (1, announced, version));
    world.until_synced("Last Sync Time is held", |time| time == announced).await;
    let lag = world.link("north").unwrap().lag;
    assert!(lag >= Duration::from_secs(90), "{lag:?}");
    world.faults(1).cut(false);
    world.until_drained(0).await;
    world.until_synced("Last Sync Time moves on", |time| time > announced).await;
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_starts_anew_finds_the_hints_that_are_there() {
    let mut world = World::new(2).await;
    world.start_one(0, &Settings::default());
    world.faults(1).cut(true);
    world.write_all("1").await;
    world.until_state(LinkState::Parked).await;
    world.settle(Duration::from_secs(5)).await;
    world.stops[0].cancel();
    world.faults(1).cut(false);
    world.start_one(0, &Settings::default());
    world.until_drained(0).await;
    assert_eq!(world.contents(0), world.contents(1));
}

#[tokio::test(start_paused = true)]
async fn deletes_that_only_hints_wait_for_are_delivered_and_what_left_no_trace_is_not() {
    let mut world = World::new(2).await;
    world.start_one(0, &Settings::default());
    for row in ["deleted", "gone", "kept"] {
        world.put(0, "p", row, "1").await;
    }
    world.settle(Duration::from_secs(5)).await;
    world.faults(1).cut(true);
    for row in ["gone", "kept"] {
        world.put(0, "p", row, "2").await;
    }
    world.delete(0, "p", "deleted").await;
    world.until_state(LinkState::Parked).await;
    world.settle(Duration::from_secs(90)).await;
    // Nobody announced this one.
    let gone = Operation::Delete { partition: "p".into(), row: "gone".into(), condition: Condition::Present };
    world.stores[0].write(&table(), &gone).await.unwrap();
    world.faults(1).cut(false);
    world.until("the backlog is empty", 90, |world| world.hints(0).is_empty()).await;
    let rows: Vec<String> = world.contents(1).iter().map(|body| body.row().to_string()).collect();
    assert_eq!(rows, ["gone", "kept"], "what was removed without an announcement stays where it is");
}

#[tokio::test(start_paused = true)]
async fn a_hint_that_was_renewed_while_it_was_delivered_stays() {
    let mut world = World::new(2).await;
    world.start_one(0, &Settings::default());
    world.faults(1).cut(true);
    world.put(0, "p", "r", "1").await;
    world.until_state(LinkState::Parked).await;
    world.settle(Duration::from_secs(5)).await;
    let before = world.hints(0)[0].clone();
    // The request that ends it takes long enough for somebody to renew it meanwhile.
    let ending = Arc::new(AtomicBool::new(false));
    let seen = ending.clone();
    world.faults(0).set_rule(move |request| {
        let backlog = request.table.is_some_and(|table| *table == SystemTable::Backlog.name());
        let ends = backlog && request.operations.iter().any(|operation| operation.body().is_none());
        (ends && !seen.swap(true, Relaxed)).then_some(Fault::Delay(Duration::from_secs(3)))
    });
    world.faults(1).cut(false);
    world.until("its end is under way", 30, |_| ending.load(Relaxed)).await;
    assert_eq!(world.contents(1).len(), 1, "delivered");
    let mut hint = decode_hint(&before).unwrap();
    hint.version =
        Version::new(hint.version.time() + Duration::from_secs(30), &Region::new("east").unwrap(), WriterId(7));
    let renewed = crate::feed::encode_hint("north", &hint);
    let operation = Operation::Replace(renewed, Condition::Matches(before.etag));
    world.stores[0].write(&SystemTable::Backlog.name(), &operation).await.unwrap();
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(world.hints(0).len(), 1, "it names a version that the destination does not have");
    // A settle window later, nothing of that version can be under way any more.
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.hints(0).len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_hint_whose_delivery_fails_is_delivered_later() {
    let mut world = World::new(2).await;
    world.start_one(0, &Settings::default());
    world.faults(1).cut(true);
    world.write_all("1").await;
    world.until_state(LinkState::Parked).await;
    world.settle(Duration::from_secs(5)).await;
    let requests = AtomicUsize::new(0);
    world.faults(1).set_rule(move |_| (requests.fetch_add(1, Relaxed) % 9 == 8).then(Fault::lost_request));
    world.faults(1).cut(false);
    world.until_drained(0).await;
    assert_eq!(world.contents(0), world.contents(1));
}

#[tokio::test(start_paused = true)]
async fn what_is_no_hint_goes_to_quarantine_whole() {
    let mut world = World::new(2).await;
    let row = RowBody::builder(&"north:00".into(), &"x".into()).string("Mark", "garbage").finish();
    world.stores[0].write(&SystemTable::Backlog.name(), &Operation::Insert(row)).await.unwrap();
    world.start_one(0, &Settings::default());
    world.until_drained(0).await;
    let entries = world.stores[0].snapshot(&SystemTable::Quarantine.name());
    let entry = Entry::decode(&entries[0]).unwrap();
    assert_eq!((entries.len(), entry.reason), (1, Reason::UnreadableHint));
    assert!(entry.whole.contains("garbage"));
    let since = hint_since(&entries[0]);
    assert_eq!(since, entries[0].timestamp, "what says nothing of its time waits since it was written");
}

#[tokio::test(start_paused = true)]
async fn an_idle_destination_that_cannot_be_reached_backs_off_and_flows_again_by_itself() {
    let mut world = World::new(3).await;
    world.start(&Settings::default());
    world.until_state(LinkState::Flowing).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let synced = |world: &World| world.link("north").unwrap().last_sync.unwrap();
    world.faults(1).cut(true);
    world.until_state(LinkState::BackingOff).await;
    let link = world.link("north").unwrap();
    assert!(link.last_error.is_some() && link.backlog_rows == 0 && link.lag.is_zero(), "{link:?}");
    // Nothing waits for it: it stays so, is not parked, and Last Sync Time says what is true.
    let before = synced(&world);
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(world.link("north").unwrap().state, LinkState::BackingOff);
    assert!(synced(&world) - before.since(Time::EPOCH) >= Time::from_unix_seconds(110), "it moves on while idle");
    world.faults(1).cut(false);
    world.until_state(LinkState::Flowing).await;
    assert_eq!(world.link("north").unwrap().last_error, None);
}
