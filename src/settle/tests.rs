use std::time::Duration;

use tokio::time::Instant;

use super::*;
use crate::model::*;
use crate::resolve::Finding;

const WINDOW: Duration = Duration::from_secs(60);
/// A delete settles half a window later than a put.
const DELETES_WINDOW: Duration = Duration::from_secs(90);

struct World {
    ledger: Ledger,
    start: Instant,
    elapsed: Duration,
}

fn rules() -> SettleRules {
    SettleRules {
        window: WINDOW,
        date_resolution: Duration::from_secs(1),
        first_retry: Duration::from_millis(15),
        last_retry: Duration::from_secs(2),
    }
}

fn version(tick: i64) -> Version {
    Version::new(Time::from_ticks(tick), &Region::new("west").unwrap(), WriterId(1))
}

fn row(name: &str) -> RowId {
    RowId::new(TableName::new("orders").unwrap(), "p".into(), name.into())
}

fn found(tick: i64) -> Finding {
    let body = RowBody::parse(r#"{"PartitionKey":"p","RowKey":"r"}"#).unwrap();
    Finding::Row { version: version(tick), body }
}

impl World {
    fn new(consumers: usize) -> Self {
        let mut ledger = Ledger::new(rules(), consumers);
        ledger.begin_pass(Some(Time::from_unix_seconds(1_000)));
        Self { ledger, start: Instant::now(), elapsed: Duration::ZERO }
    }

    fn now(&self) -> Instant {
        self.start + self.elapsed
    }

    fn storage_now(&self) -> Time {
        Time::from_unix_seconds(1_000) + self.elapsed
    }

    fn advance(&mut self, by: Duration) {
        self.elapsed += by;
    }

    fn key(tick: i64) -> RowKey {
        RowKey::new(format!("c:{}", version(tick)))
    }

    fn announce(&mut self, tick: i64, puts: &[&str], deletes: &[&str]) -> bool {
        let keys = |names: &[&str]| names.iter().map(|name| RowKey::from(*name)).collect();
        let change = Change {
            table: TableName::new("orders").unwrap(),
            partition: "p".into(),
            puts: keys(puts),
            deletes: keys(deletes),
            version: version(tick),
            base: None,
        };
        let (now, inserted) = (self.now(), self.storage_now());
        self.ledger.admit(&Self::key(tick), Etag::new("e"), inserted, &change, now)
    }

    /// Makes every look that is due; each row has what `state` says.
    fn look(&mut self, state: impl Fn(&str) -> Finding) -> Vec<Offer> {
        let (now, storage_now) = (self.now(), self.storage_now());
        let due = self.ledger.take_due(now, 1_000);
        let found = due.into_iter().map(|due| Looked {
            finding: state(due.row.row.as_str()),
            row: due.row,
            look: due.look,
            began: now,
            began_storage: Some(storage_now),
        });
        let found = found.collect();
        self.ledger.looked(found, now, Some(storage_now))
    }

    fn deliver(&mut self, offers: &[Offer]) {
        for offer in offers {
            for consumer in offer.consumers.iter() {
                self.ledger.delivered(&offer.looked.row, consumer, offer.looked.look, &offer.looked.finding);
            }
        }
    }

    fn ending(&mut self) -> Vec<RowKey> {
        let taken: Vec<RowKey> = self.ledger.take_ending(100).into_iter().map(|(key, _)| key).collect();
        self.ledger.ended(taken.clone());
        taken
    }
}

#[test]
fn a_record_ends_at_once_when_exactly_its_version_was_delivered_everywhere() {
    let mut world = World::new(2);
    assert!(world.announce(5, &["a"], &[]));
    assert!(!world.announce(5, &["a"], &[]), "known already");
    let offers = world.look(|_| found(5));
    assert_eq!(offers.len(), 1);
    assert_eq!(world.ending(), []);
    world.ledger.delivered(&row("a"), 0, offers[0].looked.look, &offers[0].looked.finding);
    assert_eq!(world.ending(), [], "one destination does not have it yet");
    world.ledger.delivered(&row("a"), 1, offers[0].looked.look, &offers[0].looked.finding);
    assert_eq!(world.ending(), [World::key(5)]);
    assert!(!world.announce(5, &["a"], &[]), "a page that was read meanwhile still shows it");
    assert_eq!((world.ledger.open_records(), world.ledger.open_rows()), (0, 0));
}

#[test]
fn a_superseded_record_waits_for_the_window_and_one_more_look() {
    let mut world = World::new(1);
    world.announce(4, &["a"], &[]);
    world.announce(5, &["a"], &[]);
    let offers = world.look(|_| found(5));
    world.deliver(&offers);
    assert_eq!(world.ending(), [World::key(5)]);
    assert!(world.look(|_| found(5)).is_empty(), "no look is due");
    world.advance(WINDOW + Duration::from_millis(990));
    assert!(world.look(|_| found(5)).is_empty());
    assert_eq!(world.ending(), [], "the storage clock may be a second behind");
    world.advance(Duration::from_millis(20));
    assert!(world.look(|_| found(5)).is_empty(), "the destination has it, nothing is sent again");
    assert_eq!(world.ending(), [World::key(4)]);
}

#[test]
fn an_older_write_that_lands_on_top_after_the_look_is_delivered_before_its_record_ends() {
    let mut world = World::new(1);
    world.announce(4, &["a"], &[]);
    world.announce(5, &["a"], &[]);
    let offers = world.look(|_| found(5));
    world.deliver(&offers);
    world.ending();
    world.advance(WINDOW + Duration::from_secs(2));
    let offers = world.look(|_| found(4));
    assert_eq!(offers.len(), 1);
    assert_eq!(world.ending(), []);
    world.deliver(&offers);
    assert_eq!(world.ending(), [World::key(4)]);
}

#[test]
fn a_lower_record_stays_while_a_higher_one_is_open() {
    let mut world = World::new(1);
    world.announce(4, &["a"], &[]);
    let offers = world.look(|_| found(4));
    world.announce(5, &["a"], &[]);
    world.deliver(&offers);
    assert_eq!(world.ending(), [], "4 was delivered exactly, but 5 is open");
    world.advance(Duration::from_millis(20));
    let offers = world.look(|_| found(5));
    world.deliver(&offers);
    assert_eq!(world.ending(), [World::key(5), World::key(4)], "the highest version first");
}

#[test]
fn an_announcement_without_a_write_ends_after_the_window_and_holds_the_sync_time_back() {
    let mut world = World::new(1);
    assert_eq!(world.ledger.last_sync(0), None, "nothing was read yet");
    let inserted = world.storage_now();
    world.announce(5, &["a"], &[]);
    let at = world.now();
    world.ledger.complete_pass(at);
    for _ in 0..40 {
        world.advance(Duration::from_secs(1));
        let now = Some(world.storage_now());
        world.ledger.begin_pass(now);
        world.announce(5, &["a"], &[]);
        let at = world.now();
        world.ledger.complete_pass(at);
        assert!(world.look(|_| Finding::Nothing).is_empty());
        assert_eq!(world.ledger.last_sync(0), Some(inserted));
    }
    world.advance(Duration::from_secs(30));
    assert!(world.look(|_| Finding::Nothing).is_empty());
    assert_eq!(world.ending(), [World::key(5)]);
    assert!(world.ledger.last_sync(0) > Some(inserted));
}

#[test]
fn a_look_that_began_before_the_record_was_known_says_nothing_of_it() {
    let mut world = World::new(1);
    world.announce(4, &["a"], &[]);
    let now = world.now();
    let due = world.ledger.take_due(now, 10);
    world.announce(5, &[], &["a"]);
    let early = Looked {
        row: row("a"),
        look: due[0].look,
        began: now,
        began_storage: Some(world.storage_now()),
        finding: Finding::Nothing,
    };
    assert!(world.ledger.looked(vec![early], now, None).is_empty(), "absent, but not by that delete");
    let offers = world.look(|_| Finding::Nothing);
    assert_eq!(
        offers[0].looked.finding,
        Finding::Deleted(version(5)),
        "R3: absent is deleted at the announced version"
    );
}

#[test]
fn looks_that_come_back_out_of_order_do_not_turn_time_back() {
    let mut world = World::new(1);
    world.announce(4, &["a"], &[]);
    let now = world.now();
    let first = world.ledger.take_due(now, 10);
    world.announce(5, &["a"], &[]);
    assert_eq!(world.look(|_| found(5)).len(), 1);
    let late = Looked {
        row: row("a"),
        look: first[0].look,
        began: now,
        began_storage: Some(world.storage_now()),
        finding: found(4),
    };
    assert!(world.ledger.looked(vec![late], now, None).is_empty());
}

#[test]
fn a_torn_transaction_is_looked_at_again_as_a_whole() {
    let mut world = World::new(1);
    world.announce(5, &["a", "b"], &["c"]);
    let torn = |name: &str| if name == "a" { found(5) } else { Finding::Nothing };
    assert!(world.look(|name| if name == "c" { found(3) } else { torn(name) }).is_empty());
    world.advance(Duration::from_millis(15));
    let whole = |name: &str| if name == "c" { Finding::Deleted(version(5)) } else { found(5) };
    let offers = world.look(whole);
    assert_eq!(offers.len(), 3);
    world.deliver(&offers);
    assert_eq!(world.ending(), [], "its delete waits for the window");
    world.advance(DELETES_WINDOW + Duration::from_secs(1));
    let offers = world.look(whole);
    assert_eq!(offers.len(), 1);
    world.deliver(&offers);
    assert_eq!(world.ending(), [World::key(5)]);
}

#[test]
fn a_delete_waits_for_the_window_and_is_delivered_once_more_then() {
    let mut world = World::new(1);
    world.announce(5, &[], &["a"]);
    let absent = |_: &str| Finding::Deleted(version(5));
    let offers = world.look(absent);
    world.deliver(&offers);
    assert_eq!(world.ending(), [], "the row may have been absent before, and the delete under way still");
    assert_eq!(world.ledger.oldest_waiting(0), None);
    world.advance(WINDOW + Duration::from_secs(1));
    assert!(world.look(absent).is_empty(), "what was read before the second step may be on its way yet");
    world.advance(WINDOW / 2);
    let offers = world.look(absent);
    assert_eq!(offers.len(), 1, "another daemon may have brought a later put there meanwhile");
    assert_eq!(world.ending(), []);
    world.deliver(&offers);
    assert_eq!(world.ending(), [World::key(5)]);
}

#[test]
fn a_coalesced_finding_does_not_end_the_record_that_it_was_exact_for() {
    let mut world = World::new(1);
    world.announce(4, &["a"], &[]);
    let first = world.look(|_| found(4));
    world.announce(5, &["a"], &[]);
    world.advance(Duration::from_millis(1));
    let second = world.look(|_| found(5));
    // The lane had both and delivered the newer one alone.
    world.deliver(&second);
    assert_eq!(world.ending(), [World::key(5)]);
    assert_eq!(world.ledger.open_records(), 1);
    // Had the older one been delivered too, it would have ended.
    world.deliver(&first);
    assert_eq!(world.ending(), [World::key(4)]);
}

#[test]
fn what_somebody_else_ended_is_forgotten_after_a_complete_pass() {
    let mut world = World::new(1);
    world.announce(5, &["a"], &[]);
    let at = world.now();
    world.ledger.complete_pass(at);
    let now = Some(world.storage_now());
    world.ledger.begin_pass(now);
    let at = world.now();
    world.ledger.complete_pass(at);
    assert_eq!((world.ledger.open_records(), world.ledger.open_rows()), (0, 0));
    assert_eq!(world.ledger.next_due(), None);
}

#[test]
fn a_slow_consumer_holds_back_its_own_sync_time_only() {
    let mut world = World::new(2);
    world.advance(Duration::from_secs(1));
    let inserted = world.storage_now();
    world.announce(5, &["a"], &[]);
    world.advance(Duration::from_secs(1));
    let now = Some(world.storage_now());
    world.ledger.begin_pass(now);
    world.announce(5, &["a"], &[]);
    let at = world.now();
    world.ledger.complete_pass(at);
    let offers = world.look(|_| found(5));
    world.ledger.delivered(&row("a"), 0, offers[0].looked.look, &offers[0].looked.finding);
    assert_eq!(world.ledger.last_sync(0), Some(inserted + Duration::from_secs(1)));
    assert_eq!(world.ledger.last_sync(1), Some(inserted));
    assert_eq!((world.ledger.oldest_waiting(0), world.ledger.oldest_waiting(1)), (None, Some(inserted)));
    assert_eq!((world.ledger.waiting_rows(0), world.ledger.waiting_rows(1)), (0, 1));
}

#[test]
fn a_consumer_that_asks_again_is_offered_again() {
    let mut world = World::new(1);
    world.announce(5, &["a"], &[]);
    let offers = world.look(|_| found(5));
    assert_eq!(offers.len(), 1);
    let now = world.now();
    world.ledger.look_again(&row("a"), 0, now);
    assert_eq!(world.look(|_| found(5)).len(), 1);
}

#[test]
fn an_announcement_whose_write_was_not_seen_makes_nobody_stale() {
    let mut world = World::new(1);
    let pass = |world: &mut World| {
        let (at, now) = (world.now(), Some(world.storage_now()));
        world.ledger.begin_pass(now);
        world.announce(5, &["a", "b"], &[]);
        world.ledger.complete_pass(at);
    };
    world.advance(Duration::from_secs(1));
    let inserted = world.storage_now();
    pass(&mut world);
    // Nobody has looked for it: it may stand there.
    assert_eq!(world.ledger.fresh_to(0), Some(inserted));
    world.advance(Duration::from_secs(10));
    let looked = world.storage_now();
    world.look(|_| Finding::Nothing);
    world.advance(Duration::from_secs(1));
    pass(&mut world);
    assert_eq!((world.ledger.last_sync(0), world.ledger.fresh_to(0)), (Some(inserted), Some(looked)));
    // Now it was written: since when, nobody knows, but not before it was announced.
    world.advance(Duration::from_secs(3));
    let offers = world.look(|_| found(5));
    assert_eq!(world.ledger.fresh_to(0), Some(inserted));
    world.deliver(&offers);
    pass(&mut world);
    assert_eq!(world.ledger.fresh_to(0), Some(world.storage_now()));
}

#[test]
fn whoever_got_a_row_that_landed_over_a_delete_does_not_have_the_delete() {
    let pass = |world: &mut World| {
        let (at, now) = (world.now(), Some(world.storage_now()));
        world.ledger.begin_pass(now);
        world.announce(3, &["a"], &[]);
        world.announce(5, &[], &["a"]);
        world.ledger.complete_pass(at);
    };
    let landed = |region: &str| {
        let version = Version::new(Time::from_ticks(4), &Region::new(region).unwrap(), WriterId(1));
        let body = RowBody::parse(r#"{"PartitionKey":"p","RowKey":"r"}"#).unwrap();
        Finding::Row { version, body }
    };
    for (region, has_it) in [("east", false), ("west", true)] {
        let mut world = World::new(1);
        world.advance(Duration::from_secs(1));
        let inserted = world.storage_now();
        pass(&mut world);
        assert_eq!(world.look(|_| Finding::Deleted(version(5))).len(), 1, "it is offered, and is on its way");
        // Both are looked at again for the put below, whose turn is not over.
        world.advance(Duration::from_secs(1));
        let now = world.now();
        world.ledger.look_again(&row("a"), 0, now);
        let offers = world.look(|_| landed(region));
        assert_eq!(offers.len(), 1, "it is above the put");
        world.deliver(&offers);
        pass(&mut world);
        assert_eq!(world.ledger.last_sync(0) > Some(inserted), has_it, "{region}");
        if !has_it {
            assert!(
                world.ledger.next_due().unwrap() <= world.now() + Duration::from_secs(2),
                "it is looked at again soon"
            );
            world.advance(Duration::from_secs(2));
            let offers = world.look(|_| Finding::Deleted(version(5)));
            world.deliver(&offers);
            pass(&mut world);
            assert!(world.ledger.last_sync(0) > Some(inserted));
        }
    }
}
