//! Failovers of whole lines on memory stores, in virtual time, cut off wherever they can be.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use super::risk::encode;
use super::*;
use crate::ops::world::{EAST, NORTH, World, region, table};
use crate::stores::memory::{Fault, RequestKind};
use crate::topology::{Role::Replica, Role::Standby, Role::Writer as W};

#[tokio::test(start_paused = true)]
async fn a_planned_failover_and_back_under_writes_loses_nothing_in_any_topology() {
    for roles in [&[W, Standby][..], &[W, Standby, Replica], &[W, W]] {
        let world = World::new(roles).await;
        let before = world.file.roles().clone();
        for to in [NORTH, EAST] {
            let (failover, _) = world.failover(to);
            let (stop, began, mut left) = (CancellationToken::new(), world.runtime.instant(), None);
            // Nothing is written by then, and nothing is missing.
            let mut tell = |progress| {
                if matches!(progress, Progress::Moved { .. }) {
                    left = Some(world.contents(1 - to) == world.contents(to));
                }
            };
            let moving = failover.planned(Duration::from_secs(60), &stop, &mut tell);
            let done = world.writing_under(moving).await.unwrap();
            // Of two writers the other goes on.
            assert!(left == Some(true) || roles[NORTH] == W, "{roles:?}: the role moved with something left");
            assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
            assert!(done.serving && done.unreached.is_empty(), "{done:?}");
            assert!(world.serving().contains(&to), "{roles:?}");
            world.writing_under(tokio::time::sleep(Duration::from_secs(3))).await;
        }
        world.nothing_is_lost().await;
        let after = world.trail(EAST);
        assert_eq!(after.last().unwrap().roles, before, "it ended where it began");
        assert_eq!(after.iter().map(|each| each.mark.epoch).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!((&*after[1].who, &*after[1].why, after[1].kind), ("ada", "a test", MoveKind::Planned));
    }
}

/// Where a command is cut off: at which request, and whether that still arrives.
#[derive(Debug, Clone, Copy)]
struct Cut {
    at: usize,
    arrives: bool,
}

/// Runs a planned failover and ends it at a request as a kill does. Says whether it came to that.
async fn cut_off(world: &World, cut: Cut) -> bool {
    let (failover, faults) = world.failover(NORTH);
    let (count, killed) = (Arc::new(AtomicUsize::new(0)), Arc::new(tokio::sync::Notify::new()));
    for line in &faults {
        let (count, killed) = (count.clone(), killed.clone());
        line.set_rule(move |request| {
            // Reads change nothing: of those that repeat while it waits, the first few stand for all.
            let writes = request.kind == RequestKind::Transact;
            if !writes && count.load(SeqCst) >= 12 {
                return None;
            }
            (count.fetch_add(1, SeqCst) == cut.at).then(|| {
                killed.notify_one();
                if cut.arrives { Fault::lost_reply() } else { Fault::lost_request() }
            })
        });
    }
    let stop = CancellationToken::new();
    let mut deaf = |_| {};
    let run = failover.planned(Duration::from_secs(20), &stop, &mut deaf);
    tokio::select! {
        biased;
        () = async { killed.notified().await; tokio::time::sleep(Duration::from_millis(1)).await } => true,
        done = run => { done.unwrap(); false }
    }
}

#[tokio::test(start_paused = true)]
async fn a_planned_failover_that_is_killed_at_any_request_ends_in_one_way_or_the_other() {
    let (mut moved, mut kept) = (0, 0);
    for arrives in [false, true] {
        for at in 0.. {
            let mut world = World::new(&[W, Standby]).await;
            let seen = Arc::new(Mutex::new(BTreeSet::new()));
            let watch = async {
                loop {
                    seen.lock().unwrap().insert(world.serving());
                    tokio::time::sleep(Duration::from_millis(7)).await;
                }
            };
            let story = async {
                let killed = cut_off(&world, Cut { at, arrives }).await;
                world.until("somebody serves", 30, |world| !world.serving().is_empty()).await;
                tokio::time::sleep(Duration::from_secs(25)).await;
                killed
            };
            let killed = tokio::select! { biased; killed = story => killed, () = watch => false };
            assert!(seen.lock().unwrap().iter().all(|serving| serving.len() < 2), "two served: {at} {arrives}");
            let serving = world.serving();
            match serving.as_slice() {
                [EAST] => kept += 1,
                [NORTH] => moved += 1,
                _ => panic!("{serving:?} serve after a cut at {at}, {arrives}"),
            }
            let trails = [EAST, NORTH].map(|n| world.trail(n).last().cloned());
            assert_eq!(trails[0], trails[1], "one of them was not told");
            // And the next command is not in its way.
            let to = if serving == [EAST] { NORTH } else { EAST };
            world.planned(to).await.unwrap();
            assert_eq!(world.serving(), [to]);
            world.stops.iter_mut().for_each(|stop| stop.cancel());
            if !killed {
                break;
            }
        }
    }
    assert!(moved > 2 && kept > 10, "{moved} moved, {kept} kept: it was not cut off everywhere");
}

#[tokio::test(start_paused = true)]
async fn a_planned_failover_that_is_asked_to_end_leaves_the_old_writer_serving_at_once() {
    let world = World::new(&[W, Standby]).await;
    // What north does not get holds it up.
    world.lines[&(EAST, NORTH)].faults().cut(true);
    let (stop, waiting) = (CancellationToken::new(), AtomicUsize::new(0));
    let asked = stop.clone();
    let mut tell = |progress| {
        if matches!(progress, Progress::Draining { .. }) && waiting.fetch_add(1, SeqCst) == 20 {
            asked.cancel();
        }
    };
    world.write(1).await;
    let error = world.failover(NORTH).0.planned(Duration::from_secs(60), &stop, &mut tell).await.unwrap_err();
    assert!(matches!(error, FailoverError::GivenUp { told: true, .. }), "{error}");
    world.until("east serves again", 2, |world| world.serving() == [EAST]).await;

    let late = world.failover(NORTH).0.planned(Duration::from_secs(5), &CancellationToken::new(), &mut |_| {}).await;
    let late = late.unwrap_err().to_string();
    assert!(late.contains("given up at its deadline: north has what east wrote up to"), "{late}");
    world.until("east serves again", 2, |world| world.serving() == [EAST]).await;
}

#[tokio::test(start_paused = true)]
async fn a_region_that_a_third_one_still_owes_something_is_no_target() {
    let mut world = World::new(&[W, Standby, Standby]).await;
    world.lines[&(EAST, NORTH)].faults().cut(true);
    for number in 0..3 {
        world.write(number).await;
    }
    // South has all of it, and north nothing, when east gives up its role and is lost.
    world.planned(2).await.unwrap();
    world.lose(EAST);
    let (failover, _) = world.failover(NORTH);
    let refused = failover.planned(Duration::from_secs(5), &CancellationToken::new(), &mut |_| {}).await.unwrap_err();
    assert!(matches!(&refused, FailoverError::Owed { .. }), "{refused}");
    assert!(refused.to_string().starts_with("north is behind: east gave its role up at"), "{refused}");
    assert_eq!(world.serving(), [2], "south has been asked for nothing");
    let stop = CancellationToken::new();
    stop.cancel();
    let stopped = failover.planned(Duration::from_secs(5), &stop, &mut |_| {}).await.unwrap_err();
    assert!(matches!(stopped, FailoverError::Unbegun), "{stopped}");

    // Who forces it is told: as an estimate, and row by row once the store can be read.
    let (forced, faults) = world.failover(NORTH);
    for (dark, exact, rows) in [(true, false, None), (false, true, Some(3))] {
        faults[EAST].cut(dark);
        let survey = forced.survey(true).await.unwrap();
        let [Owed { from, link, .. }] = &survey.owed[..] else { panic!("{survey:?}") };
        assert_eq!((from.as_str(), link.to.as_str(), link.exact), ("east", "north", exact), "{link:?}");
        assert!(rows.is_none_or(|rows| link.rows == Some(rows) && link.named.len() == 3), "{link:?}");
        assert!(link.why.is_some() == dark, "{link:?}");
        assert_eq!(survey.untold, []);
    }
    // One who answers and does not tell its trail is named: there may be more.
    faults[2].set_rule(|request| (request.kind == RequestKind::Query).then(Fault::lost_request));
    let survey = forced.survey(true).await.unwrap();
    assert_eq!((survey.owed.len(), survey.untold), (1, vec![region(2)]));
    faults[2].set_rule(|_| None);

    world.bring_back(EAST);
    world.planned(NORTH).await.unwrap();
    assert_eq!((world.serving(), world.contents(NORTH).len()), (vec![NORTH], 3));
    assert_eq!(world.failover(2).0.survey(true).await.unwrap().owed, []);
    // What it owes nobody, it may be gone with.
    world.lose(EAST);
    world.planned(2).await.unwrap();
    assert_eq!(world.serving(), [2]);
}

#[tokio::test(start_paused = true)]
async fn a_planned_failover_needs_a_daemon_and_is_alone() {
    let mut world = World::new(&[W, Standby]).await;
    world.lines[&(EAST, NORTH)].faults().cut(true);
    world.write(1).await;
    let (one, other) = (world.planned(NORTH), async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let error = world.planned(NORTH).await.unwrap_err();
        assert!(error.to_string().contains("a planned failover of east to north by ada is under way"), "{error}");
        world.lines[&(EAST, NORTH)].faults().cut(false);
    });
    let (done, ()) = tokio::join!(one, other);
    done.unwrap();
    world.stops[NORTH].cancel();
    world.roles[NORTH] = None;
    tokio::time::sleep(Duration::from_secs(20)).await;
    let (failover, _) = world.failover(EAST);
    let error = failover.planned(Duration::from_secs(5), &CancellationToken::new(), &mut |_| {}).await.unwrap_err();
    assert!(error.to_string().contains("no daemon of north runs"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_forced_failover_works_with_the_old_region_gone_and_says_what_is_at_risk() {
    let mut world = World::new(&[W, Standby, Replica]).await;
    for number in 0..20 {
        world.write(number).await;
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    world.lose(EAST);
    let (failover, faults) = world.failover(NORTH);
    // It hangs, which is worse than to refuse.
    faults[EAST].set_rule(|_| Some(Fault::Freeze));
    let began = world.runtime.instant();
    let survey = failover.survey(false).await.unwrap();
    let link = &survey.risk.as_ref().unwrap().links[0];
    assert_eq!((link.exact, link.rows, link.to.as_str()), (false, Some(0), "north"), "{link:?}");
    assert!(link.last_sync.is_some() && link.published.is_some() && link.why.is_some(), "{link:?}");
    let done = failover.force(&survey, &mut |_| {}).await.unwrap();
    world.until("north serves", 5, |world| world.serving() == [NORTH]).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!((done.serving, done.unreached), (true, vec![region(EAST)]));
    let trail = world.trail(2);
    let risk = trail.last().unwrap().risk.clone().unwrap();
    assert!(risk.contains("\"exact\":false"), "{risk}");

    let error = world.failover(2).0.survey(false).await.unwrap_err();
    assert!(error.to_string().contains("were moved at") && error.to_string().contains("--again"), "{error}");
    assert!(world.failover(2).0.survey(true).await.is_ok());

    world.bring_back(EAST);
    let back = world.roles[EAST].clone().unwrap();
    world.until("east has heard", 5, |_| back.is_confirmed()).await;
    assert_eq!((back.role(), world.serving()), (Standby, vec![NORTH]));
    tokio::time::sleep(Duration::from_secs(5)).await;
    world.planned(EAST).await.unwrap();
    assert_eq!(world.serving(), [EAST]);
    world.nothing_is_lost().await;
}

#[tokio::test(start_paused = true)]
async fn what_the_old_store_still_tells_is_exact_row_by_row() {
    let world = World::new(&[W, Standby, Replica]).await;
    for number in 0..5 {
        world.write(number).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    world.lines[&(EAST, NORTH)].faults().cut(true);
    for number in 3..8 {
        world.write(number).await;
    }
    world.writers[EAST]
        .delete(&table(), &"p".into(), &"r0".into(), crate::stores::Condition::Present, None)
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    for wait in [0, 60] {
        tokio::time::sleep(Duration::from_secs(wait)).await;
        let risk = world.failover(NORTH).0.survey(false).await.unwrap().risk.unwrap();
        let (north, south) = (&risk.links[0], &risk.links[1]);
        assert_eq!((north.exact, north.at_least, north.rows, south.rows), (true, false, Some(6), Some(0)), "{risk:?}");
        let named: Vec<_> = north.named.iter().map(|row| (row.row.as_str(), row.deleted)).collect();
        let expected = [("r0", true), ("r3", false), ("r4", false), ("r5", false), ("r6", false), ("r7", false)];
        assert_eq!(named, expected, "after {wait} s, {}", if wait > 0 { "as hints" } else { "in the feed" });
    }
}

#[tokio::test(start_paused = true)]
async fn who_decided_by_old_roles_moves_nothing() {
    let world = World::new(&[W, Standby, Standby]).await;
    let (failover, _) = world.failover(NORTH);
    let survey = failover.survey(false).await.unwrap();
    world.planned(2).await.unwrap();
    let error = failover.force(&survey, &mut |_| {}).await.unwrap_err();
    assert!(error.to_string().contains("epoch 2, planned to south by ada"), "{error}");
    assert_eq!(world.serving(), [2]);
}

#[test]
fn what_the_trail_keeps_fits_into_a_property() {
    let row = |n: usize| RiskRow {
        table: "orders".to_owned(),
        partition: "é".repeat(300),
        row: n.to_string(),
        version: "v".to_owned(),
        deleted: false,
    };
    let link = LinkRisk {
        to: region(NORTH),
        exact: true,
        why: None,
        rows: Some(1_000),
        at_least: false,
        named: (0..1_000).map(row).collect(),
        last_sync: None,
        published: None,
    };
    let owed = Owed { from: region(2), until: Time::EPOCH, link: link.clone() };
    let text = encode(Some(&Risk { from: region(EAST), at: Time::EPOCH, links: vec![link] }), &[owed]).unwrap();
    assert!((5_000..30_000).contains(&text.encode_utf16().count()), "{}", text.len());
    let back: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&back["links"][0]["rows"], &back["owed"][0]["link"]["rows"]), (&1_000.into(), &1_000.into()));
    assert_eq!(encode(None, &[]), None);
}
