//! Caches: a newer version always wins, whoever sends it and in whichever order, and what was refreshed can be read.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::suite::{Context, Failure, Outcome, cases, ensure, fail, same};
use crate::cache::{CacheMode, CachedRow, MARK_TTL, Refresh, RefreshOutcome};
use crate::model::{Time, Version};
use crate::runtime::Runtime;
use crate::stores::{Cache, CacheError};

type Client = dyn Fn(CacheMode, Option<Duration>) -> Arc<dyn Cache> + Send + Sync;

/// One cache, and how to make a client that keeps it in a given way, with a given time to live.
#[derive(Clone)]
pub struct CacheBench {
    client: Arc<Client>,
    prefix: String,
}

impl fmt::Debug for CacheBench {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheBench").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// One step of a history: somebody sends one refresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// How he keeps the cache.
    pub mode: CacheMode,
    /// The version, by its number in [`VERSIONS`]; what is beyond counts from the beginning again.
    pub version: usize,
    /// Whether the row is deleted.
    pub deleted: bool,
    /// Minutes that an entry lives; 0 for ever.
    pub minutes: u8,
}

/// Versions in ascending order. Locales order many of them otherwise: they leave out dashes and dots at first, or put
/// letters before digits.
pub const VERSIONS: [&str; 16] = [
    "2026-11-22T12:17:59.9999999Z@zzz.ffffffff",
    "2026-11-22T12:18:00.0000000Z@-.00000001",
    "2026-11-22T12:18:00.0000000Z@0.00000001",
    "2026-11-22T12:18:00.0000000Z@a--b.00000001",
    "2026-11-22T12:18:00.0000000Z@a-.00000001",
    "2026-11-22T12:18:00.0000000Z@a-b.00000001",
    "2026-11-22T12:18:00.0000000Z@a-b.0000000a",
    "2026-11-22T12:18:00.0000000Z@a-b.a0000000",
    "2026-11-22T12:18:00.0000000Z@a-c.00000001",
    "2026-11-22T12:18:00.0000000Z@a.00000001",
    "2026-11-22T12:18:00.0000000Z@a.0000000b",
    "2026-11-22T12:18:00.0000000Z@a0.00000001",
    "2026-11-22T12:18:00.0000000Z@ab.00000000",
    "2026-11-22T12:18:00.0000000Z@ab.a0000000",
    "2026-11-22T12:18:00.0000001Z@a.00000000",
    "2026-11-22T12:18:00.0000001Z@a.00000001",
];

cases! {
    /// Cases about caches.
    pub(super) const CASES: CacheBench = [
        what_was_stored_is_read_back,
        a_key_that_was_never_refreshed_holds_nothing,
        every_key_is_its_own,
        a_batch_has_an_outcome_per_key_in_order,
        a_batch_may_be_large,
        versions_are_ordered_by_their_bytes,
        a_deleted_row_leaves_a_mark_for_five_minutes,
        a_slow_reader_cannot_put_an_older_row_back,
        an_entry_wins_over_a_mark_of_its_version,
        the_same_version_again_only_lengthens_its_life,
        refreshing_what_exists_puts_nothing_new_in,
        a_refreshed_entry_leaves_when_its_reader_wanted,
        invalidating_takes_out_what_is_older,
        an_entry_is_gone_when_its_time_is_over,
        an_entry_without_a_time_to_live_stays,
        the_highest_version_stands_whatever_the_order,
    ];
}

const HOUR: Duration = Duration::from_secs(3_600);
/// How long the requests of one step may take, as far as it shows in a time to live.
const SLACK: Duration = Duration::from_secs(30);
/// How long an entry is waited for that should be gone at once.
const PATIENCE: Duration = Duration::from_secs(20);

use CacheMode::{Invalidate, RefreshExisting, WriteThrough};
use RefreshOutcome::{Absent, Current, Invalidated, Marked, Newer, Stored};

impl CacheBench {
    /// A cache to be held to the rules. `client` makes clients of that one cache; keys begin with `prefix`.
    pub fn new(
        client: impl Fn(CacheMode, Option<Duration>) -> Arc<dyn Cache> + Send + Sync + 'static,
        prefix: impl Into<String>,
    ) -> Self {
        Self { client: Arc::new(client), prefix: prefix.into() }
    }

    pub(super) fn of_case(&self, case: usize) -> Self {
        Self { client: self.client.clone(), prefix: format!("{}{case}:", self.prefix) }
    }

    fn key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    fn put(&self, key: &str, number: usize) -> Result<Refresh, Failure> {
        let version = Version::parse(VERSIONS[number % VERSIONS.len()]).map_err(|err| Failure(err.to_string()))?;
        let entry = Some(format!(r#"{{"RelayVersion":"{version}"}}"#).into());
        Ok(Refresh { key: self.key(key), version, entry })
    }

    fn delete(&self, key: &str, number: usize) -> Result<Refresh, Failure> {
        Ok(Refresh { entry: None, ..self.put(key, number)? })
    }

    /// Sends one refresh that has to come out like this.
    async fn yields(&self, mode: CacheMode, refresh: &Refresh, outcome: RefreshOutcome) -> Outcome {
        let outcomes = (self.client)(mode, Some(HOUR)).refresh(std::slice::from_ref(refresh)).await.at(refresh)?;
        same(&format!("the outcome of {refresh:?} ({mode:?})"), outcomes, vec![outcome])
    }

    async fn get(&self, key: &str) -> Result<Option<CachedRow>, Failure> {
        (self.client)(WriteThrough, None).get(&self.key(key)).await.at(key)
    }

    /// What a key has to hold: a version, and whether there is an entry.
    async fn expect_held(&self, key: &str, number: usize, entry: bool) -> Result<CachedRow, Failure> {
        let Some(row) = self.get(key).await? else { return fail(format!("{key} should hold something")) };
        same("field v", row.version.as_str(), VERSIONS[number])?;
        let expected = entry.then_some(self.put(key, number)?.entry).flatten();
        same("field e", row.entry.as_deref(), expected.as_deref())?;
        Ok(row)
    }

    /// Does one step of a history and says what came of it: the outcome, and what the key holds then.
    async fn step(&self, key: &str, step: &Step) -> Result<(RefreshOutcome, Option<CachedRow>), Failure> {
        let refresh = if step.deleted { self.delete(key, step.version)? } else { self.put(key, step.version)? };
        let ttl = (step.minutes > 0).then(|| 60 * Duration::from_secs(step.minutes.into()));
        match (self.client)(step.mode, ttl).refresh(&[refresh]).await.at(step)?.as_slice() {
            [outcome] => Ok((*outcome, self.get(key).await?)),
            outcomes => fail(format!("one refresh should have one outcome, not {outcomes:?}")),
        }
    }
}

impl From<CacheError> for Failure {
    fn from(error: CacheError) -> Self {
        Self(error.to_string())
    }
}

/// Holds two caches to the same answers, step by step: outcomes, what the key holds, and times to live within seconds.
/// `key` is to be a new one in both.
pub async fn agree(one: &CacheBench, other: &CacheBench, key: &str, history: &[Step]) -> Outcome {
    for (number, step) in history.iter().enumerate() {
        let (mut a, mut b) = (one.step(key, step).await?, other.step(key, step).await?);
        let [left, right] = [&mut a, &mut b].map(|(_, row)| row.as_mut().and_then(|row| row.ttl.take()));
        ensure(near(left, right), || format!("step {number}, {step:?}: {left:?} to live here, {right:?} there"))?;
        same(&format!("what came of step {number}, {step:?},"), a, b)?;
    }
    Ok(())
}

fn near(a: Option<Duration>, b: Option<Duration>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a.abs_diff(b) < SLACK,
        (a, b) => a == b,
    }
}

fn about(ttl: Option<Duration>, expected: Duration) -> Outcome {
    let fits = ttl.is_some_and(|ttl| ttl <= expected && near(Some(ttl), Some(expected)));
    ensure(fits, || format!("it should have {expected:?} to live, or a little less, not {ttl:?}"))
}

async fn what_was_stored_is_read_back(bench: CacheBench) -> Outcome {
    let large = format!(r#"{{"B":"{}"}}"#, "x".repeat(1 << 20));
    let entries =
        ["{}", r#"{"it's":"\"\\ \u0000 \r\n日本😀","D@odata.type":"Edm.Double","D":-0.0}"#, "é\r\n$5\r\n", &large];
    for (number, entry) in entries.into_iter().enumerate() {
        let refresh = Refresh { entry: Some(entry.into()), ..bench.put("k", number)? };
        bench.yields(WriteThrough, &refresh, Stored).await?;
        let Some(row) = bench.get("k").await? else { return fail("the key should hold the row") };
        same("field v", row.version.as_str(), VERSIONS[number])?;
        ensure(row.entry.as_deref() == Some(entry), || format!("entry {number} came back changed"))?;
        about(row.ttl, HOUR)?;
    }
    Ok(())
}

async fn a_key_that_was_never_refreshed_holds_nothing(bench: CacheBench) -> Outcome {
    same("the key", bench.get("nobody").await?, None)
}

async fn every_key_is_its_own(bench: CacheBench) -> Outcome {
    let keys = ["", " ", "a", "A", "a:", "a%3A", "{a}", "{a}b", "日本", "x\r\ny", "*", "a*"];
    for (number, key) in keys.into_iter().enumerate() {
        bench.yields(WriteThrough, &bench.put(key, number)?, Stored).await?;
    }
    for (number, key) in keys.into_iter().enumerate() {
        bench.expect_held(key, number, true).await.at(key)?;
    }
    Ok(())
}

async fn a_batch_has_an_outcome_per_key_in_order(bench: CacheBench) -> Outcome {
    let key = |number: usize| format!("k{number}");
    let daemon = (bench.client)(WriteThrough, Some(HOUR));
    let first: Result<Vec<_>, _> = (0..1_000).step_by(2).map(|number| bench.put(&key(number), 3)).collect();
    let outcomes = daemon.refresh(&first?).await?;
    same("the outcomes of new keys", outcomes, vec![Stored; 500])?;
    let second: Result<Vec<_>, _> = (0..1_000)
        .map(|number| match number % 5 {
            0 => bench.delete(&key(number), 4),
            fifth => bench.put(&key(number), fifth),
        })
        .collect();
    let expected = (0..1_000).map(|number| match (number % 5, number % 2) {
        (0, _) => Marked,
        (1 | 2, 0) => Newer,
        (3, 0) => Current,
        _ => Stored,
    });
    let outcomes = daemon.refresh(&second?).await?;
    same("how many outcomes there are", outcomes.len(), 1_000)?;
    for (number, (outcome, expected)) in outcomes.into_iter().zip(expected).enumerate() {
        same(&format!("the outcome of {}", key(number)), outcome, expected)?;
    }
    same("the outcomes of nothing", daemon.refresh(&[]).await?, Vec::new())
}

async fn a_batch_may_be_large(bench: CacheBench) -> Outcome {
    let entry: Arc<str> = "x".repeat(300_000).into();
    let one = |number: usize| Ok(Refresh { entry: Some(entry.clone()), ..bench.put(&format!("k{number}"), 1)? });
    let batch: Result<Vec<_>, Failure> = (0..20).map(one).collect();
    let outcomes = (bench.client)(WriteThrough, Some(HOUR)).refresh(&batch?).await?;
    same("the outcomes", outcomes, vec![Stored; 20])
}

async fn versions_are_ordered_by_their_bytes(bench: CacheBench) -> Outcome {
    for high in 1..VERSIONS.len() {
        for low in 0..high {
            let key = format!("{low}-{high}");
            bench.yields(WriteThrough, &bench.put(&key, low)?, Stored).await?;
            bench.yields(WriteThrough, &bench.put(&key, high)?, Stored).await?;
            bench.yields(WriteThrough, &bench.put(&key, low)?, Newer).await?;
        }
    }
    Ok(())
}

async fn a_deleted_row_leaves_a_mark_for_five_minutes(bench: CacheBench) -> Outcome {
    for (key, before) in [("was there", true), ("was not there", false)] {
        for (at, mode) in CacheMode::ALL.into_iter().enumerate() {
            let key = format!("{key} {at}");
            if before {
                bench.yields(WriteThrough, &bench.put(&key, 3)?, Stored).await?;
            }
            bench.yields(mode, &bench.delete(&key, 4)?, Marked).await?;
            about(bench.expect_held(&key, 4, false).await?.ttl, MARK_TTL)?;
            bench.yields(mode, &bench.delete(&key, 4)?, Current).await?;
        }
    }
    Ok(())
}

async fn a_slow_reader_cannot_put_an_older_row_back(bench: CacheBench) -> Outcome {
    for (at, mode) in CacheMode::ALL.into_iter().enumerate() {
        for (key, before) in [("was there", true), ("was not there", false)] {
            let (changed, deleted) = (format!("{key} {at}, changed"), format!("{key} {at}, deleted"));
            for newer in [bench.put(&changed, 6)?, bench.delete(&deleted, 6)?] {
                let read = Refresh { key: newer.key.clone(), ..bench.put("", 5)? };
                if before {
                    bench.yields(WriteThrough, &read, Stored).await?;
                }
                (bench.client)(mode, Some(HOUR)).refresh(&[newer]).await?;
                bench.yields(WriteThrough, &read, Newer).await?;
            }
        }
    }
    Ok(())
}

async fn an_entry_wins_over_a_mark_of_its_version(bench: CacheBench) -> Outcome {
    bench.yields(Invalidate, &bench.put("k", 5)?, Absent).await?;
    bench.yields(WriteThrough, &bench.put("k", 5)?, Stored).await?;
    bench.yields(WriteThrough, &bench.delete("k", 5)?, Current).await?;
    about(bench.expect_held("k", 5, true).await?.ttl, HOUR)
}

async fn the_same_version_again_only_lengthens_its_life(bench: CacheBench) -> Outcome {
    let put = bench.put("k", 5)?;
    bench.yields(WriteThrough, &put, Stored).await?;
    let clients = [
        (WriteThrough, Some(HOUR / 2), Some(HOUR)),
        (RefreshExisting, Some(2 * HOUR), Some(HOUR)),
        (Invalidate, Some(2 * HOUR), Some(HOUR)),
        (WriteThrough, Some(2 * HOUR), Some(2 * HOUR)),
        (WriteThrough, None, None),
        (WriteThrough, Some(HOUR), None),
    ];
    for (mode, ttl, expected) in clients {
        let outcomes = (bench.client)(mode, ttl).refresh(std::slice::from_ref(&put)).await?;
        same("the outcome", outcomes, vec![Current])?;
        let left = bench.expect_held("k", 5, true).await?.ttl;
        ensure(near(left, expected), || format!("after {mode:?} for {ttl:?}: {left:?} to live, not {expected:?}"))?;
    }
    Ok(())
}

async fn refreshing_what_exists_puts_nothing_new_in(bench: CacheBench) -> Outcome {
    bench.yields(RefreshExisting, &bench.put("k", 3)?, Absent).await?;
    about(bench.expect_held("k", 3, false).await?.ttl, MARK_TTL)?;
    bench.yields(RefreshExisting, &bench.put("k", 4)?, Absent).await?;
    bench.yields(WriteThrough, &bench.put("k", 4)?, Stored).await?;
    bench.yields(RefreshExisting, &bench.put("k", 5)?, Stored).await?;
    bench.expect_held("k", 5, true).await.map(drop)
}

async fn a_refreshed_entry_leaves_when_its_reader_wanted(bench: CacheBench) -> Outcome {
    let minute = Duration::from_secs(60);
    for (key, given, left) in [("long", 30 * minute, 30 * minute), ("short", minute, MARK_TTL)] {
        let reader = (bench.client)(WriteThrough, Some(given));
        same("the outcome", reader.refresh(&[bench.put(key, 3)?]).await?, vec![Stored])?;
        bench.yields(RefreshExisting, &bench.put(key, 4)?, Stored).await?;
        about(bench.expect_held(key, 4, true).await?.ttl, left)?;
    }
    Ok(())
}

async fn invalidating_takes_out_what_is_older(bench: CacheBench) -> Outcome {
    bench.yields(WriteThrough, &bench.put("k", 3)?, Stored).await?;
    bench.yields(Invalidate, &bench.put("k", 2)?, Newer).await?;
    bench.yields(Invalidate, &bench.put("k", 3)?, Current).await?;
    bench.expect_held("k", 3, true).await?;
    bench.yields(Invalidate, &bench.put("k", 4)?, Invalidated).await?;
    about(bench.expect_held("k", 4, false).await?.ttl, MARK_TTL)?;
    bench.yields(WriteThrough, &bench.put("k", 4)?, Stored).await
}

async fn an_entry_is_gone_when_its_time_is_over(bench: CacheBench) -> Outcome {
    let client = (bench.client)(WriteThrough, Some(Duration::from_millis(50)));
    client.refresh(&[bench.put("k", 3)?]).await?;
    eventually_gone(&bench, "k").await?;
    bench.yields(WriteThrough, &bench.put("k", 2)?, Stored).await
}

async fn eventually_gone(bench: &CacheBench, key: &str) -> Outcome {
    let deadline = Instant::now() + PATIENCE;
    while bench.get(key).await?.is_some() {
        ensure(Instant::now() < deadline, || format!("{key} should be gone by now"))?;
        sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

async fn an_entry_without_a_time_to_live_stays(bench: CacheBench) -> Outcome {
    (bench.client)(WriteThrough, None).refresh(&[bench.put("k", 3)?]).await?;
    same("the time to live", bench.expect_held("k", 3, true).await?.ttl, None)?;
    bench.yields(RefreshExisting, &bench.put("k", 4)?, Stored).await?;
    same("the time to live", bench.expect_held("k", 4, true).await?.ttl, None)
}

async fn the_highest_version_stands_whatever_the_order(bench: CacheBench) -> Outcome {
    for seed in 0..60 {
        let random = Runtime::simulated(Time::EPOCH, seed);
        let draw = |below: usize| random.random() as usize % below;
        let key = format!("seed {seed}");
        let history: Vec<_> = (0..2 + draw(12))
            .map(|_| Step {
                mode: CacheMode::ALL[draw(3)],
                version: draw(VERSIONS.len()),
                deleted: draw(3) == 0,
                minutes: 60,
            })
            .collect();
        let mut held = None;
        for step in &history {
            let (_, row) = bench.step(&key, step).await?;
            let version = row.map(|row| row.version);
            ensure(version >= held, || format!("{key}, {history:?}: the version fell at {step:?}"))?;
            held = version;
        }
        let highest = history.iter().map(|step| VERSIONS[step.version]).max();
        same(&format!("what stands after {history:?} ({key})"), held.as_deref(), highest)?;
    }
    Ok(())
}
