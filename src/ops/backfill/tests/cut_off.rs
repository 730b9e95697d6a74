//! Backfills that are killed, paused, stopped and taken over from.

use super::*;

/// Kills a run at its `nth` request: nothing of what is under way is heard of any more.
async fn killed(pair: &Pair, nth: u64, run: impl Future<Output = Result<Backfilled, BackfillError>>) -> bool {
    let (count, dead) = (Arc::new(AtomicU64::new(0)), Arc::new(Notify::new()));
    for faults in pair.faults() {
        let (count, dead) = (count.clone(), dead.clone());
        faults.set_rule(move |_| {
            let at = count.fetch_add(1, Relaxed);
            if at >= nth {
                dead.notify_one();
                return Some(Fault::Freeze);
            }
            None
        });
    }
    let killed = tokio::select! {
        biased;
        () = dead.notified() => true,
        ended = run => {
            ended.unwrap();
            false
        }
    };
    for faults in pair.faults() {
        faults.clear();
        faults.set_latency(Duration::from_millis(2), Duration::ZERO);
    }
    killed
}

#[tokio::test(start_paused = true)]
async fn killed_at_every_step_and_resumed_it_does_no_range_twice() {
    let (mut nth, mut most) = (0, 0);
    loop {
        let pair = Pair::new(1_200).await;
        let written = pair.watch();
        let first = pair.backfill();
        let alive = !killed(&pair, nth, start(&first)).await;
        let before = pair.ranges().await;
        let asked = pair.requests(EAST, RequestKind::Query);
        let goes_on = pair.backfill();
        let done = match goes_on.status().await {
            Err(BackfillError::NoLedger { .. }) => start(&goes_on).await,
            Ok(done) if done.is_done() => Ok(done),
            _ => resume(&goes_on).await,
        };
        let done = done.unwrap_or_else(|error| panic!("killed at request {nth}: {error}"));
        assert!(done.is_done() && done.tables[0].errors == 0, "{done:?}");
        pair.is_equal();
        assert!(written.lock().unwrap().values().all(|times| *times == 1), "killed at request {nth}");
        // What was copied is not read again as a whole: a page of versions for each thousand rows compares it.
        let copied = |range: &&Range| range.copy >= Copied::Copied;
        let kept = before.iter().filter(copied).map(|range| range.counts.rows).sum::<u64>();
        for range in before.iter().filter(copied) {
            let now = pair.ranges().await.into_iter().find(|now| now.number == range.number).unwrap();
            assert_eq!((now.copied, now.counts.rows), (range.copied, range.counts.rows), "it was not touched");
        }
        let queries = pair.requests(EAST, RequestKind::Query) - asked;
        most = most.max(kept);
        assert!(queries <= 200, "{queries} after {kept} rows were copied");
        if alive {
            break;
        }
        // Every request at first, where everything is prepared; then fewer.
        nth += if nth < 30 { 1 } else { 5 };
    }
    assert!(nth > 50 && most >= 1_000, "{nth} {most}");
}

#[tokio::test(start_paused = true)]
async fn a_range_that_was_begun_goes_on_behind_its_last_key() {
    let pair = Pair::new(4_000).await;
    for account in pair.accounts.iter().flatten() {
        account.faults().set_latency(Duration::from_millis(700), Duration::ZERO);
    }
    let stop = CancellationToken::new();
    let first = Backfill { range_rows: 5_000, ..pair.backfill() };
    let mut tell = |progress: BackfillProgress<'_>| {
        if matches!(progress, BackfillProgress::At(far) if far.rows() >= 1_000) {
            stop.cancel();
        }
    };
    let ended = first.start(false, &stop, &mut tell).await;
    assert!(matches!(ended, Err(BackfillError::Stopped)), "{ended:?}");
    let ranges = pair.ranges().await;
    assert!(ranges[0].copy == Copied::Copying && ranges[0].after.is_some(), "{ranges:?}");
    let rows: u64 = ranges.iter().map(|range| range.counts.rows).sum();
    assert!((1_000..4_000).contains(&rows), "{rows}");
    let written = pair.watch();
    // It has let go, so nobody has to wait.
    let began = Instant::now();
    assert_eq!(first.status().await.unwrap().tables[0].state, BackfillState::Interrupted);
    assert!(resume(&pair.backfill()).await.unwrap().is_done() && began.elapsed() < Duration::from_secs(60));
    assert_eq!(lock(&written).len() as u64, 4_000 - rows, "no row is brought twice");
    pair.is_equal();
}

#[tokio::test(start_paused = true)]
async fn one_at_a_time_pauses_are_heard_and_whoever_was_stopped_for_long_writes_nothing_more() {
    let pair = Pair::new(20_000).await;
    for account in pair.accounts.iter().flatten() {
        account.faults().set_latency(Duration::from_millis(200), Duration::ZERO);
    }
    let mut first = pair.backfill();
    first.share_percent = 10;
    let others = async {
        sleep(Duration::from_secs(8)).await;
        let other = pair.backfill();
        let refused = start(&other).await.unwrap_err().to_string();
        assert!(refused.contains("orders is being copied to north by somebody 0"), "{refused}");
        let refused = resume(&other).await.unwrap_err().to_string();
        assert!(refused.contains("by somebody 0"), "{refused}");
        let seen = other.status().await.unwrap();
        assert_eq!(
            (seen.tables[0].state, seen.tables[0].owner.as_deref()),
            (BackfillState::Running, Some("somebody 0"))
        );
        assert!(seen.rows() == 0 && seen.seconds_left.is_none(), "samples are taken: {seen:?}");
        let (mut seen, deadline) = (seen, Instant::now() + Duration::from_secs(60));
        while seen.rows() < 3_000 {
            assert!(Instant::now() < deadline, "{seen:?}");
            sleep(Duration::from_millis(500)).await;
            seen = other.status().await.unwrap();
        }
        assert!(seen.rows_per_second > 100.0 && seen.seconds_left.is_some_and(|left| left > 1.0), "{seen:?}");
        let paused = other.pause().await.unwrap();
        assert_eq!(paused.tables[0].state, BackfillState::Paused, "{paused:?}");
        paused
    };
    let (ended, paused) = tokio::join!(start(&first), others);
    let ended = ended.unwrap();
    assert_eq!((ended.tables[0].state, ended.rows()), (BackfillState::Paused, paused.rows()));
    assert!(ended.rows() < 20_000, "{ended:?}");
    let refused = start(&pair.backfill()).await.unwrap_err().to_string();
    assert!(refused.contains("is paused") && refused.contains("resume") && refused.contains("--again"), "{refused}");

    // It goes on, and stalls: another one takes over.
    let stalled = pair.backfill();
    let cut = async {
        sleep(Duration::from_secs(5)).await;
        pair.faults().iter().for_each(|faults| faults.set_rule(|_| Some(Fault::Freeze)));
        sleep(LEASE + Duration::from_secs(1)).await;
        let lines: Vec<_> =
            pair.accounts.iter().map(|of| of.iter().map(|one| one.by_another_line()).collect()).collect();
        let lines: Vec<RegionStore> = lines
            .into_iter()
            .enumerate()
            .map(|(n, of): (usize, Vec<Arc<MemoryTables>>)| {
                let of = of.into_iter().map(|tables| Account { tables: tables as Arc<dyn Tables>, queue: None });
                RegionStore::new(region(n), of.collect())
            })
            .collect();
        let done = resume(&backfill(lines, &pair.runtime, 99)).await.unwrap();
        for faults in pair.faults() {
            faults.clear();
            faults.release();
        }
        done
    };
    let (lost, done) = tokio::join!(resume(&stalled), cut);
    assert!(done.is_done(), "{done:?}");
    assert!(matches!(lost, Err(BackfillError::Lost { .. })), "{lost:?}");
    pair.is_equal();
    assert!(pair.backfill().status().await.unwrap().is_done(), "nothing of the ledger was written over");
    let done = resume(&pair.backfill()).await.unwrap_err().to_string();
    assert!(done.contains("is done"), "{done}");
}

/// A start without `--table` is about all tables, and whoever goes on with it too, wherever it was killed.
#[tokio::test(start_paused = true)]
async fn of_several_tables_that_are_begun_together_none_is_left_out() {
    let (stock, mut nth, mut noted) = (TableName::new("stock").unwrap(), 0, 0);
    loop {
        let pair = Pair::new(30).await;
        pair.stores[EAST].home().create_table(&stock).await.unwrap();
        pair.stores[EAST].home().write(&stock, &Operation::Insert(body(&id(7), "a"))).await.unwrap();
        let first = pair.backfill();
        let alive = !killed(&pair, nth, start(&first)).await;
        let goes_on = pair.backfill();
        let done = match goes_on.status().await {
            Err(BackfillError::NoLedger { .. }) => start(&goes_on).await,
            Ok(begun) if begun.is_done() => Ok(begun),
            Ok(begun) => {
                assert_eq!(begun.tables.len(), 2, "killed at request {nth}: {begun:?}");
                noted += 1;
                resume(&goes_on).await
            }
            Err(error) => panic!("killed at request {nth}: {error}"),
        };
        let done = done.unwrap_or_else(|error| panic!("killed at request {nth}: {error}"));
        assert!(done.is_done() && done.tables.len() == 2, "killed at request {nth}: {done:?}");
        let there: usize = pair.accounts[NORTH].iter().map(|account| account.snapshot(&stock).len()).sum();
        assert_eq!(there, 1, "killed at request {nth}");
        if alive {
            break;
        }
        nth += 1;
    }
    assert!(noted > 10, "{noted}");
}
