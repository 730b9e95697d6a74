use super::*;
use proptest::prelude::*;

const PATIENCE: Duration = Duration::from_secs(1);

fn none(_: Duration) -> Duration {
    Duration::ZERO
}

fn most(most: Duration) -> Duration {
    most
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn table() -> TableName {
    TableName::new("orders").unwrap()
}

/// An account that is asked by the clock, answers at once, and counts.
struct Asked {
    throttle: Throttle,
    now: Instant,
    table: TableName,
    sent: usize,
    refused: usize,
    rows: usize,
}

impl Asked {
    fn new() -> Self {
        let throttle = Throttle::new(PATIENCE);
        Self { throttle, now: Instant::now(), table: table(), sent: 0, refused: 0, rows: 0 }
    }

    /// One request of so many rows to a partition; waits are taken as they come. Says whether it went out.
    fn ask(&mut self, partition: u64, rows: usize, reply: Reply) -> bool {
        let key = PartitionKey::new(format!("p{partition}"));
        let target = Target { partition: Some((&self.table, &key)), rows };
        let at = match self.throttle.admit(&target, self.now, none) {
            Turn::Go => self.now,
            Turn::Wait(wait) => self.now + wait,
            Turn::HeldBack(again) => {
                assert!(again > Duration::ZERO, "it says when to ask again");
                return false;
            }
        };
        self.sent += 1;
        match reply {
            Reply::Answered => self.rows += rows,
            _ => self.refused += 1,
        }
        self.throttle.ended(&target, at, reply, at, none);
        true
    }

    /// So many rows a second, in requests of ten over so many partitions, for so long; says how many were answered.
    fn load(&mut self, rows_per_second: usize, partitions: u64, lasts: Duration, reply: Reply) -> usize {
        let (before, until, pause) = (self.rows, self.now + lasts, ms(10_000) / rows_per_second as u32);
        let mut n = 0;
        while self.now < until {
            self.ask(n % partitions, 10, reply);
            (self.now, n) = (self.now + pause, n + 1);
        }
        self.rows - before
    }
}

const BUSY: Reply = Reply::Throttled(None);

#[test]
fn an_account_that_is_well_is_asked_whatever_comes() {
    let mut asked = Asked::new();
    assert_eq!(asked.load(50_000, 3, ms(2_000), Reply::Answered), 100_000);
    assert_eq!(asked.throttle.trouble(asked.now), None);
}

#[test]
fn a_storm_costs_the_budget_and_probes_whatever_comes() {
    let mut asked = Asked::new();
    asked.load(4_000, 50, ms(5_000), Reply::Answered);
    asked.sent = 0;
    asked.load(4_000, 50, ms(3_600_000), BUSY);
    // Ten to begin with, five probes at growing intervals, then one within two and a half to five seconds.
    let bound = 10 + 5 + 3_600 * 10 / 25;
    assert!(asked.sent <= bound && asked.sent > 700, "{} requests in an hour, {bound} are allowed", asked.sent);
    assert!(asked.throttle.trouble(asked.now).unwrap().shut);
}

#[test]
fn after_a_storm_all_goes_as_before_within_thirty_seconds() {
    for partitions in [1, 3, 500] {
        let mut asked = Asked::new();
        let usual = asked.load(1_500, partitions, ms(10_000), Reply::Answered);
        asked.load(1_500, partitions, ms(600_000), BUSY);
        asked.load(1_500, partitions, ms(30_000), Reply::Answered);
        let after = asked.load(1_500, partitions, ms(10_000), Reply::Answered);
        assert!(after * 100 >= usual * 95, "{after} of {usual} rows in ten seconds, {partitions} partitions");
        asked.load(1_500, partitions, ms(60_000), Reply::Answered);
        assert_eq!(asked.throttle.trouble(asked.now), None, "and nothing is remembered in the end");
    }
}

#[test]
fn it_grows_gradually_after_a_storm() {
    let mut asked = Asked::new();
    asked.load(4_000, 1, ms(5_000), Reply::Answered);
    asked.load(4_000, 1, ms(20_000), BUSY);
    asked.load(4_000, 1, ms(6_000), Reply::Answered);
    let seconds: Vec<usize> = (0..6).map(|_| asked.load(4_000, 1, ms(1_000), Reply::Answered)).collect();
    assert!(seconds.windows(2).all(|pair| pair[1] <= pair[0] * 21 / 10 + 40), "{seconds:?}");
}

/// What share of the requests is refused, and how many rows go through in a minute, where a server bears 500 rows a second and
/// is offered twice as much.
fn half_of_it_is_borne() -> (f64, usize) {
    let mut asked = Asked::new();
    asked.load(1_000, 1, ms(3_000), Reply::Answered);
    (asked.sent, asked.refused, asked.rows) = (0, 0, 0);
    let (mut left, mut refill) = (0.0, asked.now);
    let until = asked.now + ms(60_000);
    while asked.now < until {
        left = f64::min(left + (asked.now - refill).as_secs_f64() * 500.0, 100.0);
        refill = asked.now;
        let reply = if left >= 10.0 { Reply::Answered } else { BUSY };
        if asked.ask(0, 10, reply) && reply == Reply::Answered {
            left -= 10.0;
        }
        asked.now += ms(10);
    }
    (asked.refused as f64 / asked.sent as f64, asked.rows)
}

#[test]
fn a_server_that_bears_less_gets_less() {
    let (share, rows) = half_of_it_is_borne();
    // The budget alone would keep it from a storm, and shut it again and again: without the decrease 3.2 % are refused, and 13,100 rows
    // go through.
    assert!(share < 0.02, "{share:.3} of the requests were refused");
    assert!(rows > 60 * 500 * 8 / 10, "{rows} of 30,000 rows");
}

#[test]
fn a_partition_in_trouble_slows_no_other() {
    let mut asked = Asked::new();
    for n in 0..4_000 {
        asked.ask(0, 1, if n % 4 == 0 { BUSY } else { Reply::Answered });
        assert!((1..=20).all(|partition| asked.ask(partition, 1, Reply::Answered)), "after {n}");
        asked.now += ms(5);
    }
    let trouble = asked.throttle.trouble(asked.now).unwrap();
    assert_eq!((trouble.shut, trouble.partitions, trouble.rows_per_second), (false, 1, None));
}

#[test]
fn partitions_in_trouble_are_remembered_within_bounds() {
    let mut asked = Asked::new();
    for partition in 0..5_000 {
        asked.ask(partition, 1, BUSY);
        asked.now += ms(5_000);
    }
    assert!(asked.throttle.trouble(asked.now).unwrap().partitions <= REMEMBERED.get());
}

#[test]
fn an_answer_from_before_the_storm_does_not_end_it() {
    let mut asked = Asked::new();
    let before = asked.now;
    asked.now += ms(10);
    (0..10).for_each(|n| assert!(asked.ask(n, 1, BUSY)));
    let target = Target { partition: None, rows: 1 };
    asked.throttle.ended(&target, before, Reply::Answered, asked.now, none);
    assert!(asked.throttle.trouble(asked.now).unwrap().shut);
    assert!(!asked.ask(99, 1, Reply::Answered));
}

#[test]
fn a_request_that_waited_is_held_back_where_the_storm_came_meanwhile() {
    let mut asked = Asked::new();
    asked.load(1_000, 1, ms(2_000), Reply::Answered);
    asked.ask(0, 1, BUSY);
    let (table, key) = (table(), PartitionKey::from("p0"));
    let target = Target { partition: Some((&table, &key)), rows: 100 };
    let admitted = asked.now;
    asked.throttle.admit(&target, admitted, none);
    assert!(matches!(asked.throttle.admit(&target, admitted, none), Turn::Wait(_)));
    assert_eq!(asked.throttle.still(&target, admitted, admitted + ms(50)), Ok(()));
    asked.now += ms(20);
    (0..10).for_each(|n| asked.throttle.ended(&target, admitted, BUSY, asked.now + ms(n), none));
    assert!(asked.throttle.still(&target, admitted, asked.now + ms(50)).is_err());
}

#[test]
fn failures_that_tell_nothing_of_load_use_up_repeats_and_shut_nothing() {
    let mut asked = Asked::new();
    assert!(asked.throttle.spares_a_repeat(asked.now));
    (0..100).for_each(|_| assert!(asked.ask(0, 1, Reply::Failed)));
    assert!(!asked.throttle.spares_a_repeat(asked.now));
    assert_eq!((asked.sent, asked.throttle.trouble(asked.now)), (100, None));
    (0..60).for_each(|_| assert!(asked.ask(0, 1, Reply::Answered)));
    assert!(asked.throttle.spares_a_repeat(asked.now), "ten successes are worth one repeat");
}

proptest! {
    #[test]
    fn what_the_server_asks_to_wait_is_waited_for(
        steps in proptest::collection::vec((0u64..400, 0u64..4, proptest::option::of(0u64..3_000), any::<bool>()), 1..200),
    ) {
        let mut asked = Asked::new();
        let mut asked_to_wait = [asked.now; 4];
        for (pause, partition, after, busy) in steps {
            asked.now += ms(pause);
            let reply = if busy { Reply::Throttled(after.map(ms)) } else { Reply::Answered };
            let until = asked_to_wait[partition as usize];
            if asked.ask(partition, 1, reply) {
                prop_assert!(asked.now + PATIENCE >= until);
                prop_assert!(asked.now >= until, "{:?} too early", until - asked.now);
                if let (Reply::Throttled(_), Some(after)) = (reply, after) {
                    asked_to_wait[partition as usize] = asked.now + ms(after);
                }
            }
        }
    }

    #[test]
    fn over_any_storm_the_refused_are_a_tenth_of_what_succeeds_and_a_handful_and_probes(
        refused in 0u32..=100, seed in any::<u64>(), partitions in 1u64..30,
    ) {
        let mut asked = Asked::new();
        let (mut n, mut chance, mut answered) = (0, seed | 1, 0);
        let (began, until) = (asked.now, asked.now + Duration::from_secs(100));
        while asked.now < until {
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let busy = ((chance >> 33) % 100) < u64::from(refused);
            let went = asked.ask(n % partitions, 1, if busy { BUSY } else { Reply::Answered });
            answered += usize::from(went && !busy);
            (n, asked.now) = (n + 1, asked.now + ms(10));
        }
        // A shut account opens with half of its budget, at intervals of an eighth of a second and more.
        let eighths = (asked.now - began).as_millis() as usize / 125;
        let bound = 10 + answered / 10 + eighths * 6;
        prop_assert!(asked.refused <= bound, "{} refused, {answered} answered, {bound} allowed", asked.refused);
        if refused == 100 {
            prop_assert!(asked.sent <= 10 + 5 + 40, "{} sent", asked.sent);
        }
    }

    #[test]
    fn a_rate_lets_no_more_through_than_it_says(steps in proptest::collection::vec((1u64..300, 1usize..100), 1..100)) {
        let now = Instant::now();
        let mut rate = rate::Rate::begin(1_000.0, now);
        let (mut at, mut rows) = (now, 0.0);
        for (pause, each) in steps {
            at += ms(pause);
            rate.grow(at);
            if rate.wait(at) == Duration::ZERO {
                rate.take(each, at);
                rows += each as f64;
            }
            // The last request always fits, and a twentieth of a second's worth may come together.
            let bound = rate.limit() * ((at - now).as_secs_f64() + 0.05) + 100.0;
            prop_assert!(rows <= bound, "{rows} rows, {bound} are allowed");
        }
    }
}

#[test]
fn probes_are_spread_by_chance_within_the_upper_half_of_their_interval() {
    for (jitter, longest) in [(none as fn(Duration) -> Duration, 2_500), (most, 5_000)] {
        let mut throttle = Throttle::new(PATIENCE);
        let (mut now, mut gaps, mut last) = (Instant::now(), Vec::new(), None);
        let target = Target { partition: None, rows: 1 };
        for _ in 0..60_000 {
            if !matches!(throttle.admit(&target, now, jitter), Turn::HeldBack(_)) {
                throttle.ended(&target, now, BUSY, now, jitter);
                gaps.extend(last.replace(now).map(|last: Instant| (now - last).as_millis()));
            }
            now += ms(1);
        }
        assert_eq!(gaps.iter().max(), Some(&longest));
        assert!(gaps[9..].windows(2).all(|pair| pair[1] >= pair[0].min(longest)), "{gaps:?}");
    }
}
