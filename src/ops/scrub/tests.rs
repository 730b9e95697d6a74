//! The scrubber over whole lines on memory stores, in virtual time.

use std::time::Duration;

use super::*;
use crate::model::SystemTable;
use crate::ops::verify::Ledger;
use crate::ops::world::{EAST, NORTH, World, region, table};
use crate::replicator;
use crate::stores::Operation;
use crate::telemetry::Heard;
use crate::topology::{Role, TableFilter};

const EVERY: Duration = Duration::from_secs(200);

fn scrubber(world: &World, of: usize) -> Scrubber {
    let pass = Verify {
        resume: true,
        ledger: Ledger::Scrubber,
        ..Verify::of(
            (0..3).map(|n| world.line(of, n)).collect(),
            (&region(of), &region(of)),
            TableFilter::Every,
            world.file.clone(),
            replicator::Settings::default(),
            world.runtime.clone(),
        )
    };
    Scrubber { pass, region: region(of), every: EVERY, passes: Arc::default() }
}

/// Starts the scrubber of a region in its daemon, as the daemon does.
fn start(world: &World, of: usize) -> (Arc<Passes>, CancellationToken) {
    let scrubber = scrubber(world, of);
    let (passes, stop) = (scrubber.passes.clone(), CancellationToken::new());
    #[expect(clippy::disallowed_methods, reason = "the test is the supervisor")]
    tokio::spawn(scrubber.run(world.board(of), stop.clone()));
    (passes, stop)
}

fn found(passes: &Passes) -> Vec<(String, u64, u64)> {
    passes.all().iter().map(|pass| (pass.to.to_string(), pass.rows, pass.different())).collect()
}

#[tokio::test(start_paused = true)]
async fn every_pair_is_compared_by_the_region_that_comes_first_and_what_differs_is_told_once() {
    let heard = Heard::new();
    let world = World::new(&[Role::Writer, Role::Standby, Role::Replica]).await;
    for number in 0..20 {
        world.write(number).await;
    }
    let running: Vec<_> = (0..3).map(|of| start(&world, of)).collect();
    tokio::time::sleep(EVERY / 2).await;
    assert!(running.iter().all(|(passes, _)| passes.all().is_empty()), "a daemon has just started");
    tokio::time::sleep(EVERY * 2).await;
    let all = |rows, different| {
        let pair = |to: &str, different| (to.to_owned(), rows, different);
        vec![vec![pair("north", different), pair("south", 0)], vec![pair("south", different)], vec![]]
    };
    assert_eq!(running.iter().map(|(passes, _)| found(passes)).collect::<Vec<_>>(), all(20, 0));

    // Somebody takes a row out and announces nothing.
    let (partition, row) = ("p".into(), "r3".into());
    let gone = Operation::Delete { partition, row, condition: crate::stores::Condition::Present };
    world.line(NORTH, NORTH).home().write(&table(), &gone).await.unwrap();
    tokio::time::sleep(EVERY * 2).await;
    assert_eq!(running.iter().map(|(passes, _)| found(passes)).collect::<Vec<_>>(), all(20, 1));
    let told: Vec<_> = heard.events().into_iter().filter(|(_, event)| event == "regions-differ").collect();
    assert_eq!(
        told,
        vec![("WARN".to_owned(), "regions-differ".to_owned()); 2],
        "once for each pair, not for each pass"
    );
    let line = heard.lines().into_iter().find(|line| line["event"] == "regions-differ").unwrap();
    assert_eq!((&line["example"], &line["different"]), (&"orders(\"p\",\"r3\")".into(), &1.into()), "{line}");

    // Another daemon knows what was found before it has compared anything.
    let (after, _stop) = start(&world, EAST);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(found(&after), found(&running[EAST].0));
    running.iter().for_each(|(_, stop)| stop.cancel());
}

#[tokio::test(start_paused = true)]
async fn a_region_that_is_down_is_told_once_and_compared_when_it_is_back() {
    let heard = Heard::new();
    let world = World::new(&[Role::Writer, Role::Standby, Role::Replica]).await;
    for number in 0..20 {
        world.write(number).await;
    }
    tokio::time::sleep(Duration::from_secs(90)).await;
    let (passes, stop) = start(&world, NORTH);
    tokio::time::sleep(EVERY - Duration::from_secs(1)).await;
    world.lines[&(NORTH, 2)].faults().cut(true);
    tokio::time::sleep(EVERY).await;
    assert_eq!(passes.all(), []);
    let failed = |heard: &Heard| heard.events().iter().filter(|(_, event)| event == "regions-not-compared").count();
    assert_eq!(failed(&heard), 1);
    world.lines[&(NORTH, 2)].faults().cut(false);
    tokio::time::sleep(EVERY * 2).await;
    assert_eq!(found(&passes), [("south".to_owned(), 20, 0)]);
    assert_eq!(heard.events().last().unwrap().1, "regions-compared");
    let control = world.stores[NORTH].snapshot(&SystemTable::Control.name());
    let of = |partition: &str| control.iter().filter(|row| row.body.partition().as_str() == partition).count();
    assert_eq!((of("scrubbed"), of("scrub"), of("verify")), (1, 1, 0), "a pass, its ledger, and nobody else's");
    stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn what_may_wait_in_a_region_that_does_not_answer_is_no_difference() {
    let heard = Heard::new();
    let world = World::new(&[Role::Writer, Role::Writer, Role::Writer]).await;
    for number in 0..20 {
        world.write(number).await;
    }
    tokio::time::sleep(Duration::from_secs(90)).await;
    let gone = |n: usize| {
        let (partition, row) = ("p".into(), format!("r{n}").as_str().into());
        Operation::Delete { partition, row, condition: crate::stores::Condition::Present }
    };
    world.line(NORTH, NORTH).home().write(&table(), &gone(3)).await.unwrap();
    world.lines[&(EAST, 2)].faults().cut(true);
    let (passes, stop) = start(&world, EAST);
    tokio::time::sleep(EVERY * 2).await;
    assert_eq!(passes.all(), []);
    let told = |event: &str| heard.events().iter().filter(|(_, told)| told == event).count();
    assert_eq!(
        (told("regions-not-compared"), told("regions-differ")),
        (2, 0),
        "south is down, and may hold what north lacks"
    );
    world.lines[&(EAST, 2)].faults().cut(false);
    tokio::time::sleep(EVERY).await;
    assert_eq!(found(&passes), [("north".to_owned(), 20, 1), ("south".to_owned(), 20, 0)]);
    assert_eq!(told("regions-differ"), 1);
    stop.cancel();
}
