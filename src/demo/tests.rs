//! The demo on a paused runtime, where it takes no time and a seed repeats it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::frame::frame;
use super::script::Stage;
use super::show::Show;
use super::words::Paint;
use super::*;
use crate::model::{SystemTable, Time};
use crate::stores::memory::Fault;
use crate::stores::{ErrorKind, Operation, StoreError, Tables};

fn options(writing: Duration) -> Options {
    Options { writing, seed: 7, rate: 150, spoil: false }
}

fn runtime() -> Runtime {
    Runtime::simulated(Time::from_unix_seconds(1_795_348_800), 7)
}

const SHORT: Duration = Duration::from_millis(600);

/// A run whose feeds are empty.
async fn settled() -> Show {
    let mut show = Show::start(options(SHORT), &runtime()).await.unwrap();
    show.write(&mut Screen::hidden()).await.unwrap();
    assert!(show.settle(&mut Screen::hidden()).await.unwrap());
    show
}

fn narrow(text: &str) {
    let wide: Vec<_> = text.lines().filter(|line| line.chars().count() > 80).collect();
    assert!(wide.is_empty(), "{wide:#?}");
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn all_regions_end_equal_after_conflicts_crashes_and_a_cut() {
    let lines = Lines::default();
    let mut screen = Screen::lines(Box::new(lines.clone()));
    let verdict = run(options(Duration::from_secs(2)), &runtime(), &mut screen).await.unwrap();
    let shown = verdict.render(false);
    assert!(verdict.is_equal() && verdict.difference_count == 0, "{shown}");
    assert!(verdict.rows > 50 && verdict.cached == 3 * verdict.rows && verdict.owed > 50, "{shown}");
    let written = &verdict.written;
    let kinds = [written.inserts, written.merges, written.replaces, written.deletes, written.transactions];
    assert!(kinds.iter().all(|kind| *kind > 0) && written.crashes == 3 && written.failed == 0, "{written:?}");
    assert!(verdict.conflicts > 0 && verdict.applied >= verdict.changes, "{shown}");
    assert!(verdict.elapsed < Duration::from_secs(15), "{shown}");
    let log = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    for news in ["All regions write", "north is cut off", "north is back", "writers have stopped", "been compared"] {
        assert!(log.contains(news), "{news}: {log}");
    }
    narrow(&log);
    narrow(&shown);
    let json = serde_json::to_value(&verdict).unwrap();
    assert_eq!((&json["schema"], &json["outcome"], &json["seed"]), (&1.into(), &"equal".into(), &7.into()), "{json:#}");
}

#[tokio::test(start_paused = true)]
async fn a_row_that_was_changed_behind_the_lines_back_is_noticed() {
    let spoilt = Options { spoil: true, ..options(SHORT) };
    let verdict = run(spoilt, &runtime(), &mut Screen::hidden()).await.unwrap();
    assert_eq!(verdict.outcome, Outcome::Differ);
    let kinds: Vec<_> = verdict.differences.iter().map(|difference| difference.kind).collect();
    assert_eq!(kinds, [DifferenceKind::Regions, DifferenceKind::Cache]);
    let found = &verdict.differences[0].found;
    assert!(found[1].by == "north" && found[1].has.ends_with("other properties"), "{found:?}");
    let shown = verdict.render(false);
    assert!(shown.contains("do not agree: 2 differences") && shown.contains("orders("), "{shown}");
    narrow(&shown);
}

#[tokio::test(start_paused = true)]
async fn a_row_that_is_missing_in_one_region_and_one_too_many_are_named() {
    let show = settled().await;
    let (west, east) = (&show.world.places[0], &show.world.places[2]);
    let orders = &show.world.tables.orders;
    let row = west.tables.snapshot(orders).remove(0).body;
    let (partition, key) = (row.partition().clone(), row.row().clone());
    let gone = Operation::Delete { partition, row: key, condition: crate::stores::Condition::Present };
    east.tables.write(orders, &gone).await.unwrap();
    let verdict = show.end(true, &mut Screen::hidden()).await.unwrap();
    let told: Vec<_> = verdict.differences.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("east         absent"), "{told:?}");
    assert!(
        told[1].starts_with("orders:") && told[1].contains("east         absent"),
        "an entry without a row: {told:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_write_that_was_lost_everywhere_alike_is_noticed() {
    let show = settled().await;
    let orders = show.world.tables.orders.clone();
    let row = show.world.places[0].tables.snapshot(&orders).remove(0).body;
    for place in &show.world.places {
        let older = Operation::InsertOrMerge(
            crate::model::RowBody::builder(row.partition(), row.row()).int64("Step", 0).finish(),
        );
        place.tables.write(&orders, &older).await.unwrap();
    }
    let verdict = show.end(true, &mut Screen::hidden()).await.unwrap();
    let lost: Vec<_> = verdict.differences.iter().filter(|found| found.kind == DifferenceKind::Lost).collect();
    assert_eq!(lost.len(), 1, "{:?}", verdict.differences);
    assert!(lost[0].to_string().contains("step 0"), "{}", lost[0]);
    assert!(verdict.differences.iter().all(|found| found.kind != DifferenceKind::Regions));
}

#[tokio::test(start_paused = true)]
async fn a_cache_that_has_forgotten_everything_is_noticed() {
    let show = settled().await;
    show.world.places[2].cache.flush();
    let verdict = show.end(true, &mut Screen::hidden()).await.unwrap();
    assert_eq!((verdict.outcome, verdict.difference_count), (Outcome::Differ, verdict.rows));
    let shown = verdict.render(false);
    assert!(verdict.differences.len() == 10 && shown.contains(&format!("and {} more", verdict.rows - 10)), "{shown}");
}

#[tokio::test(start_paused = true)]
async fn feeds_that_do_not_empty_in_time_are_said_to_be_unsettled() {
    let mut show = Show::start(options(SHORT), &runtime()).await.unwrap();
    show.write(&mut Screen::hidden()).await.unwrap();
    let feed = SystemTable::Feed.name();
    show.world.places[0].tables.faults().set_rule(move |request| {
        let ends = |operation: &Operation| matches!(operation, Operation::Delete { .. });
        let refused = request.table == Some(&feed) && request.operations.iter().any(ends);
        refused.then(|| Fault::Before(StoreError::answered(ErrorKind::Denied, 403, "AuthorizationFailure", "no")))
    });
    let settled = show.settle(&mut Screen::hidden()).await.unwrap();
    let verdict = show.end(settled, &mut Screen::hidden()).await.unwrap();
    assert_eq!((verdict.outcome, verdict.left.len()), (Outcome::Unsettled, 1));
    let shown = verdict.render(false);
    assert!(shown.contains("not empty 60.") && shown.contains("in west"), "{shown}");
    narrow(&shown);
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_does_the_same_and_another_one_does_not() {
    let mut written = Vec::new();
    for seed in [1, 1, 2] {
        let mut show = Show::start(Options { seed, ..options(SHORT) }, &runtime()).await.unwrap();
        show.write(&mut Screen::hidden()).await.unwrap();
        written.push(show.picture(Stage::Settling).counts);
    }
    assert_eq!(written[0], written[1]);
    assert_ne!(written[1], written[2]);
}

#[tokio::test(start_paused = true)]
async fn every_stage_fits_a_terminal_of_eighty_columns_and_twenty_four_rows() {
    let show = settled().await;
    let stages = [
        Stage::Flowing,
        Stage::CutOff,
        Stage::CatchingUp,
        Stage::CaughtUp(Duration::from_millis(1_234)),
        Stage::Settling,
        Stage::Compared,
    ];
    for stage in stages {
        let mut picture = show.picture(stage);
        picture.options.seed = u32::MAX.into();
        let counts = &mut picture.counts;
        (counts.inserts, counts.merges, counts.deletes, counts.transactions) = (12_345, 12_345, 12_345, 12_345);
        picture.links.iter_mut().for_each(|link| {
            (link.lag, link.backlog) = (Duration::from_millis(61_250), 123_456);
            (link.applied, link.conflicts) = (1_234_567, 12_345);
        });
        let text = frame(&picture, Paint(false));
        narrow(&text);
        assert!(text.lines().count() < 24 && !text.contains('\u{1b}'), "{text}");
        assert!(frame(&picture, Paint(true)).contains('\u{1b}'));
    }
    show.end(true, &mut Screen::hidden()).await.unwrap();
}
