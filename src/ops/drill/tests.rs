//! Drills of whole lines on memory stores, in virtual time.

use std::sync::Mutex;

use super::*;
use crate::model::{ClosedList, RowBody};
use crate::ops::world::{EAST, NORTH, World, region, table};
use crate::replicator::{Settings, read_roles};
use crate::stores::{Operation, Tables};
use crate::topology::{MoveKind, Role, Role::Replica, Role::Standby, Role::Writer as W, WriteHealth};

const SOUTH: usize = 2;

fn drill(world: &World, n: usize) -> Drill {
    let (failover, _) = world.failover(n);
    Drill {
        regions: failover.regions,
        file: failover.file,
        region: region(n),
        tables: TableFilter::Every,
        who: "ada".to_owned(),
        why: "a test".to_owned(),
        hold: Duration::from_secs(20),
        deadline: Duration::from_secs(120),
        lease: Settings::default().lease,
        cool_down: Duration::from_secs(600),
        runtime: world.runtime.clone(),
    }
}

/// Holds a drill, and asks for its end where `until` says so.
async fn held(drill: &Drill, until: impl Fn(&DrillProgress) -> bool + Send + Sync) -> Result<DrillReport, DrillError> {
    let stop = CancellationToken::new();
    let asked = stop.clone();
    let tell = move |progress| {
        if until(&progress) {
            asked.cancel();
        }
    };
    drill.run(&stop, &tell).await
}

async fn cut_stands(world: &World) -> bool {
    let (failover, _) = world.failover(EAST);
    let copies = futures::future::join_all(failover.regions.iter().map(read_roles)).await;
    copies.iter().any(|copy| copy.as_ref().unwrap().row().unwrap().cut.is_some())
}

fn health(world: &World, n: usize) -> WriteHealth {
    world.roles[n].as_ref().unwrap().writing(world.runtime.instant())
}

#[tokio::test(start_paused = true)]
async fn the_writer_is_cut_off_fails_over_and_comes_back_under_writes_and_all_is_equal() {
    for roles in [&[W, Standby, Replica][..], &[W, W]] {
        let world = World::new(roles).await;
        let drill = Drill { hold: Duration::from_secs(6), ..drill(&world, EAST) };
        let cut = Mutex::new(Vec::new());
        let held = held(&drill, |progress| {
            if matches!(progress, DrillProgress::Begins(DrillStep::FailOver)) {
                cut.lock().unwrap().push((health(&world, EAST), health(&world, NORTH) == WriteHealth::CutOff));
            }
            false
        });
        let report = world.writing_under(held).await.unwrap();
        assert_eq!(*cut.lock().unwrap(), [(WriteHealth::CutOff, false)], "{roles:?}");
        assert_eq!((report.verdict(), report.failed.as_ref().map(|it| &it.why)), (DrillVerdict::Equal, None));
        let steps: Vec<DrillStep> = report.steps.iter().map(|done| done.step).collect();
        assert_eq!(steps, DrillStep::ALL);
        let failover = report.failover.as_ref().unwrap();
        assert_eq!((&failover.to, failover.epoch), (&region(NORTH), 2));
        assert!(failover.serving_seconds < 8.0 && failover.command_seconds < 5.0, "{failover:?}");
        assert!(report.cut_seconds.unwrap() >= 6.0 && report.recovered_seconds.unwrap() < 60.0, "{report:?}");
        let (estimate, unsent) = (failover.estimate.as_ref().unwrap(), failover.unsent.as_ref().unwrap());
        assert!(!estimate.links[0].exact && failover.exact.links[0].exact, "{failover:?}");
        assert!(unsent.rows > 0 && unsent.later == 0, "what was written until its health was heard of: {unsent:?}");
        assert!(report.compared.as_ref().unwrap().rows() > 10);
        let text = report.markdown();
        for words in
            ["# Drill: east cut off", "**equal**", "## Failover to north", &format!("**{} rows**", unsent.rows)]
        {
            assert!(text.contains(words), "{words} is missing in {text}");
        }
        world.until("the role is back", 5, |world| world.serving().contains(&EAST)).await;
        let trail = world.trail(EAST);
        let kinds: Vec<MoveKind> = trail.iter().map(|each| each.kind).collect();
        assert_eq!(kinds, [MoveKind::First, MoveKind::Forced, MoveKind::Planned]);
        assert_eq!(trail[1].why, "a drill: east cut off (a test)");
        assert!(!cut_stands(&world).await);
        world.writing_under(tokio::time::sleep(Duration::from_secs(2))).await;
        world.nothing_is_lost().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_region_that_is_no_writer_is_cut_off_and_recovers_without_a_failover() {
    let world = World::new(&[W, Standby, Replica]).await;
    let drill = drill(&world, SOUTH);
    let report = world.writing_under(held(&drill, |_| false)).await.unwrap();
    assert_eq!(report.verdict(), DrillVerdict::Equal, "{report:?}");
    assert!(report.failover.is_none() && report.back_seconds.is_none());
    assert!(report.markdown().contains("south is no writer"), "{}", report.markdown());
    assert_eq!((world.serving(), world.trail(EAST).len()), (vec![EAST], 1));
    world.nothing_is_lost().await;
}

#[tokio::test(start_paused = true)]
async fn rows_that_differ_at_the_end_are_found_and_named() {
    let world = World::new(&[W, Standby]).await;
    world.write(1).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    // Nobody has announced it.
    let body = RowBody::builder(&"p".into(), &"stray".into()).string("N", "0").finish();
    world.stores[NORTH].write(&table(), &Operation::Insert(body)).await.unwrap();
    let report = held(&drill(&world, EAST), |_| false).await.unwrap();
    assert_eq!(report.verdict(), DrillVerdict::Different, "{report:?}");
    let compared = report.compared.as_ref().unwrap();
    assert_eq!((compared.rows(), compared.differences(), compared.named[0].row.as_str()), (2, 1, "stray"));
    assert!(
        report.markdown().contains("`orders(\"p\",\"stray\")`: east has nothing, north has"),
        "{}",
        report.markdown()
    );
}

#[tokio::test(start_paused = true)]
async fn whoever_ends_it_anywhere_leaves_no_cut_and_is_told_what_to_do() {
    for step in [DrillStep::Cut, DrillStep::FailOver, DrillStep::Rejoin, DrillStep::FailBack, DrillStep::Compare] {
        let world = World::new(&[W, Standby]).await;
        world.write(1).await;
        let report = held(&drill(&world, EAST), |progress| *progress == DrillProgress::Begins(step)).await.unwrap();
        assert_eq!(report.verdict(), DrillVerdict::Failed);
        let failed = report.failed.as_ref().unwrap();
        assert_eq!(failed.step, step);
        assert!(failed.next[0].starts_with("The cut has ended"), "{failed:?}");
        assert!(!cut_stands(&world).await, "{step}");
        let moved = matches!(step, DrillStep::Rejoin | DrillStep::FailBack);
        assert_eq!(failed.next[1].contains("failover --planned --to east"), moved, "{failed:?}");
        world.until("somebody serves", 10, |world| world.serving() == [if moved { NORTH } else { EAST }]).await;
        world.nothing_is_lost().await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_is_killed_leaves_a_cut_that_ends_by_itself_and_another_is_refused_until_then() {
    let world = World::new(&[W, Standby]).await;
    let killed = Drill { deadline: Duration::from_secs(30), ..drill(&world, EAST) };
    let (at, stop) = (tokio::sync::Notify::new(), CancellationToken::new());
    let tell = |progress| {
        if progress == DrillProgress::Begins(DrillStep::FailOver) {
            at.notify_one();
        }
    };
    tokio::select! {
        biased;
        () = at.notified() => {}
        _ = killed.run(&stop, &tell) => panic!("it was to be killed"),
    }
    assert_eq!(health(&world, EAST), WriteHealth::CutOff);
    let error = held(&drill(&world, NORTH), |_| false).await.unwrap_err();
    assert!(error.to_string().contains("a drill that cuts east off by ada is under way"), "{error}");
    let refused = world.failover(NORTH).0.survey(false).await.unwrap();
    assert_eq!(refused.now.mark.epoch, 1);
    world.until("the cut is over", 32, |world| world.serving() == [EAST]).await;
    world.write(1).await;
    world.nothing_is_lost().await;
    assert!(!cut_stands(&world).await);
}

#[tokio::test(start_paused = true)]
async fn it_is_refused_where_not_all_is_well_and_nothing_is_changed() {
    let mut world = World::new(&[W, Standby, Replica]).await;
    let mut elsewhere = drill(&world, EAST);
    elsewhere.region = Region::new("west").unwrap();
    let error = held(&elsewhere, |_| false).await.unwrap_err();
    assert!(matches!(error, DrillError::Region(_)) && error.to_string().contains("no region west"), "{error}");

    world.lines[&(EAST, SOUTH)].faults().cut(true);
    world.write(1).await;
    let error = held(&drill(&world, EAST), |_| false).await.unwrap_err().to_string();
    assert!(error.contains("not within 60 s") && error.contains("east to south"), "{error}");
    world.lines[&(EAST, SOUTH)].faults().cut(false);

    let (forced, _) = world.failover(NORTH);
    let survey = forced.survey(false).await.unwrap();
    forced.force(&survey, &mut |_| {}).await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let error = held(&drill(&world, NORTH), |_| false).await.unwrap_err().to_string();
    assert!(error.contains("forced a failover at"), "{error}");

    world.stops[SOUTH].cancel();
    world.roles[SOUTH] = None;
    tokio::time::sleep(Duration::from_secs(600)).await;
    let error = held(&drill(&world, EAST), |_| false).await.unwrap_err().to_string();
    assert!(error.contains("0 of 0 daemons of south"), "{error}");
    assert!(!cut_stands(&world).await);
}

#[test]
fn a_region_without_a_role_to_lose_is_known() {
    let roles = |roles: &[Role]| FileRoles::new(roles.iter().enumerate().map(|(n, role)| (region(n), *role)).collect());
    for (file, to) in [
        (roles(&[W, Standby, Replica]), Some(NORTH)),
        (roles(&[W, Replica, Standby]), Some(SOUTH)),
        (roles(&[W, Replica]), Some(NORTH)),
        (roles(&[W, W]), Some(NORTH)),
        (roles(&[Replica, W]), None),
    ] {
        let now = crate::topology::Assignment::first(&file);
        assert_eq!(crate::topology::stand_in(&file, &now, &region(EAST)), to.map(region), "{file:?}");
    }
}
