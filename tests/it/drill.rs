//! Drills by the command, on real servers, while applications write.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tablerelay::model::RowBody;
use tablerelay::stores::Operation;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::daemon::get;
use crate::failover::{NORTH, SOUTH, WEST, World, orders};
use crate::support::azurite::Azurite;
use crate::support::deployment::warnings;
use crate::support::eventually;
use crate::support::relay::PROGRAM;

impl World {
    async fn answer(&self, n: usize, path: &str) -> (u16, String) {
        get(self.daemons[n].as_ref().expect("it runs"), path).await
    }

    async fn enough_is_written(&self) {
        eventually("some rows", || async { self.written.lock().expect("one at a time").len() > 20 }).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_writer_is_cut_off_fails_over_comes_back_and_the_report_says_how_it_went() {
    let azurite = Arc::new(Azurite::start());
    let world = World::new(&["writer", "standby", "replica"], |_| azurite.clone()).await;
    let stop = CancellationToken::new();
    let story = async {
        world.enough_is_written().await;
        let refused = world.command(&["drill", "--region", "west"]).await;
        assert_eq!((refused.code, refused.out.as_str()), (Some(1), ""), "{refused:?}");
        assert!(refused.err.contains("--yes") && refused.err.contains("cut west off"), "{refused:?}");
        let wrong = world.command(&["drill", "--region", "east", "--yes"]).await;
        assert_eq!((wrong.code, wrong.err.contains("there is no region east")), (Some(2), true), "{wrong:?}");
        let endless = world.command(&["drill", "--region", "west", "--yes", "--hold", "3m"]).await;
        assert_eq!((endless.code, endless.err.contains("--deadline")), (Some(2), true), "{endless:?}");
        assert_eq!((world.kinds(WEST).await.as_str(), world.serving().await), ("first", vec!["west"]));

        let drill = ["drill", "--region", "west", "--yes", "--hold", "5s", "--who", "ada", "--why", "the yearly one"];
        let (ended, seen) = tokio::join!(world.command(&drill), async {
            eventually("west is cut off", || async { world.answer(WEST, "/health/write").await.1.contains("drill") })
                .await;
            let read = world.answer(WEST, "/health/read").await;
            eventually("north serves", || world.serves(NORTH)).await;
            (read, world.answer(WEST, "/health/write").await, world.answer(SOUTH, "/health/read").await)
        });
        println!("{}", ended.out);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let (read, write, other) = seen;
        assert_eq!((read.0, write.0, other.0), (503, 503, 200), "{read:?} {write:?} {other:?}");
        assert!(read.1.contains("a drill has cut this region off"), "{read:?}");
        for words in [
            "# Drill: west cut off",
            "**equal**",
            "| Held by | ada |",
            "active-active: north (standby), south (replica), west (writer)",
            "## Failover to north",
            "| west to north |",
            "Truly unsent, as west counted when it was back: **",
            "The planned failover back took",
            "| orders | ",
        ] {
            assert!(ended.out.contains(words), "{words} is missing: {}", ended.out);
        }
        assert!(ended.err.contains("compare: all rows"), "it said how far it was: {}", ended.err);
        eventually("west serves again", || async { world.serving().await == ["west"] }).await;
        stop.cancel();
    };
    tokio::join!(story, world.write(&stop));
    world.all_are_equal().await;
    for n in [WEST, NORTH, SOUTH] {
        assert_eq!(world.kinds(n).await, "first forced planned");
        let epochs = world.epochs(n).await;
        assert_eq!(epochs[1].string("Why").as_deref(), Some("a drill: west cut off (the yearly one)"));
        assert!(epochs[1].string("Unsent").is_some(), "it was counted: {:?}", epochs[1]);
    }
    let said: String = world.daemons.iter().flatten().map(warnings).collect();
    assert!(said.contains("cut-off") && !said.contains("\"ERROR\""), "{said}");

    // A row that nobody has announced stands in one region alone: the next drill finds it.
    let stray = RowBody::builder(&"p0".into(), &"stray".into()).string("N", "0").finish();
    let tables = world.sites[SOUTH].store.home();
    tables.write(&orders(), &Operation::Insert(stray)).await.expect("Azurite takes it");
    let ended = world.command(&["drill", "--region", "south", "--yes", "--hold", "1s", "--output", "json"]).await;
    assert_eq!(ended.code, Some(3), "{ended:?}");
    let report: serde_json::Value = serde_json::from_str(&ended.out).expect("JSON");
    assert_eq!((&report["schema"], &report["failover"]), (&1.into(), &serde_json::Value::Null), "{report:#}");
    assert_eq!(report["compared"]["named"][0]["row"], "stray", "{report:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drill_that_is_killed_ends_by_itself() {
    let azurite = Arc::new(Azurite::start());
    let world = World::new(&["writer", "standby"], |_| azurite.clone()).await;
    let stop = CancellationToken::new();
    let some = async {
        world.enough_is_written().await;
        stop.cancel();
    };
    tokio::join!(some, world.write(&stop));
    let mut drill = Command::new(PROGRAM)
        .args(["drill", "--region", "north", "--yes", "--hold", "10s", "--deadline", "12s"])
        .env_clear()
        .env("TABLERELAY_CONFIG", world.config.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    eventually("north is cut off", || async { world.answer(NORTH, "/health/read").await.0 == 503 }).await;
    let began = Instant::now();
    drill.kill().expect("it runs");
    drill.wait().expect("it has ended");
    let body = RowBody::builder(&"p0".into(), &"meanwhile".into()).string("N", "meanwhile").finish();
    world.writers[WEST].insert_or_replace(&orders(), &body, None).await.expect("Azurite takes it");
    world.written.lock().expect("one at a time").insert("p0/meanwhile".to_owned(), "meanwhile".to_owned());
    let other = world.command(&["drill", "--region", "west", "--yes"]).await;
    assert_eq!((other.code, other.err.contains("a drill that cuts north off")), (Some(1), true), "{other:?}");
    eventually("north is joined to the others", || async { world.answer(NORTH, "/health/read").await.0 == 200 }).await;
    assert!(began.elapsed() > Duration::from_secs(8), "it lasted until its deadline: {:?}", began.elapsed());
    world.all_are_equal().await;
    assert_eq!((world.kinds(WEST).await.as_str(), world.serving().await), ("first", vec!["west"]));
    world.daemons[NORTH].as_ref().expect("it runs").event("cut-ended");
}
