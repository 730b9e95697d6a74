//! A cache in memory, by the rules of the script.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::faults::{Faults, Request, RequestKind};
use super::wire::{When, Wire};
use crate::cache::{Action, CacheMode, CachedRow, Held, MARK_TTL, Refresh, RefreshOutcome, judge};
use crate::model::Version;
use crate::runtime::Runtime;
use crate::stores::{Cache, CacheError};

/// Most batches of a cache that may be under way although their callers were told that they are lost.
const MAX_LATE: usize = 1_024;

/// A cache in memory. It refreshes as Redis does with the script, expires keys by the runtime's clock, and its
/// [`Faults`] cut it off.
#[derive(Debug)]
pub struct MemoryCache {
    manner: Manner,
    shared: Arc<Shared>,
}

/// How one client keeps the cache.
#[derive(Debug, Clone, Copy)]
struct Manner {
    mode: CacheMode,
    ttl: Option<Duration>,
}

#[derive(Debug)]
struct Shared {
    wire: Wire,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    keys: BTreeMap<Arc<str>, Stored>,
    /// The keys that have a time to live, by when it ends.
    expiries: BTreeSet<(Instant, Arc<str>)>,
    late: Vec<Late>,
}

#[derive(Debug)]
struct Stored {
    version: Version,
    entry: Option<Arc<str>>,
    expires_at: Option<Instant>,
}

#[derive(Debug)]
struct Late {
    at: Instant,
    manner: Manner,
    refreshes: Vec<Refresh>,
}

impl MemoryCache {
    /// An empty cache. `ttl` is how long entries live, `None` for ever.
    pub fn new(mode: CacheMode, ttl: Option<Duration>, runtime: Runtime) -> Arc<Self> {
        let shared = Shared { wire: Wire::new(runtime, Faults::new()), state: Mutex::default() };
        Arc::new(Self { manner: Manner { mode, ttl }, shared: Arc::new(shared) })
    }

    /// Another client of the same cache, which keeps it in another way. A cache-aside reader writes through.
    pub fn client(&self, mode: CacheMode, ttl: Option<Duration>) -> Arc<Self> {
        Arc::new(Self { manner: Manner { mode, ttl }, shared: self.shared.clone() })
    }

    /// The handle to what goes wrong with requests to this cache.
    pub fn faults(&self) -> Faults {
        self.shared.wire.faults.clone()
    }

    /// Forgets everything, as a Redis without persistence does when it restarts.
    pub fn flush(&self) {
        *self.lock() = State::default();
    }

    /// Forgets one key, as a Redis does that has no room left.
    pub fn forget(&self, key: &str) {
        self.with(|state, _| drop(state.take(key)));
    }

    /// Every key in order with what it holds, past latency and faults. For comparing a cache with its region's rows.
    pub fn snapshot(&self) -> BTreeMap<String, CachedRow> {
        let held = |state: &mut State, now| {
            state.keys.iter().map(|(key, stored)| (key.to_string(), stored.cached(now))).collect()
        };
        self.with(held)
    }

    /// How many keys it holds, marks included, past latency and faults.
    pub fn len(&self) -> usize {
        self.with(|state, _| state.keys.len())
    }

    /// Whether it holds no key.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Acts on the state as it is now: what was late has arrived, what has expired is gone.
    fn with<T>(&self, act: impl FnOnce(&mut State, Instant) -> T) -> T {
        let now = self.shared.wire.runtime.instant();
        let mut state = self.lock();
        let (arrived, late) = std::mem::take(&mut state.late).into_iter().partition(|late: &Late| late.at <= now);
        state.late = late;
        let mut arrived: Vec<Late> = arrived;
        arrived.sort_by_key(|late| late.at);
        for late in arrived {
            state.expire(late.at);
            for refresh in &late.refreshes {
                state.refresh(late.manner, refresh, late.at);
            }
        }
        state.expire(now);
        act(&mut state, now)
    }
}

impl Stored {
    fn cached(&self, now: Instant) -> CachedRow {
        CachedRow {
            version: self.version.to_string(),
            entry: self.entry.as_deref().map(str::to_owned),
            ttl: self.expires_at.map(|at| at - now),
        }
    }
}

impl State {
    fn expire(&mut self, now: Instant) {
        while let Some((at, _)) = self.expiries.first() {
            if *at > now {
                return;
            }
            if let Some((_, key)) = self.expiries.pop_first() {
                self.keys.remove(&key);
            }
        }
    }

    fn refresh(&mut self, manner: Manner, refresh: &Refresh, now: Instant) -> RefreshOutcome {
        let held = self.keys.get(refresh.key.as_str()).map(|stored| Held {
            version: stored.version.clone(),
            has_entry: stored.entry.is_some(),
            ttl: stored.expires_at.map(|at| at - now),
        });
        let (outcome, action) = judge(manner.mode, manner.ttl, held.as_ref(), refresh);
        match action {
            Action::Leave => {}
            Action::Renew(ttl) => {
                if let Some(stored) = self.take(&refresh.key) {
                    self.put(&refresh.key, Stored { expires_at: ttl.map(|ttl| now + ttl), ..stored });
                }
            }
            Action::Mark => {
                let expires_at = Some(now + MARK_TTL);
                self.put(&refresh.key, Stored { version: refresh.version.clone(), entry: None, expires_at });
            }
            Action::Put(ttl) => {
                let (version, entry) = (refresh.version.clone(), refresh.entry.clone());
                self.put(&refresh.key, Stored { version, entry, expires_at: ttl.map(|ttl| now + ttl) });
            }
        }
        outcome
    }

    fn put(&mut self, key: &str, stored: Stored) {
        self.take(key);
        let key: Arc<str> = key.into();
        if let Some(at) = stored.expires_at {
            self.expiries.insert((at, key.clone()));
        }
        self.keys.insert(key, stored);
    }

    fn take(&mut self, key: &str) -> Option<Stored> {
        let (key, stored) = self.keys.remove_entry(key)?;
        if let Some(at) = stored.expires_at {
            self.expiries.remove(&(at, key));
        }
        Some(stored)
    }
}

#[async_trait]
impl Cache for MemoryCache {
    async fn refresh(&self, refreshes: &[Refresh]) -> Result<Vec<RefreshOutcome>, CacheError> {
        let manner = self.manner;
        let effect = |when| {
            self.with(|state, now| match when {
                When::Now => Ok(refreshes.iter().map(|refresh| state.refresh(manner, refresh, now)).collect()),
                When::At(at) => {
                    if state.late.len() < MAX_LATE {
                        state.late.push(Late { at, manner, refreshes: refreshes.to_vec() });
                    }
                    Ok(Vec::new())
                }
            })
        };
        self.shared.wire.carry(&Request::new(RequestKind::Refresh), effect).await
    }

    async fn get(&self, key: &str) -> Result<Option<CachedRow>, CacheError> {
        let effect = |_| self.with(|state, now| Ok(state.keys.get(key).map(|stored| stored.cached(now))));
        self.shared.wire.carry(&Request::new(RequestKind::GetCached), effect).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Time;
    use crate::stores::memory::Fault;

    fn cache(mode: CacheMode, ttl: Duration) -> Arc<MemoryCache> {
        MemoryCache::new(mode, Some(ttl), Runtime::simulated(Time::from_unix_seconds(1_795_348_800), 7))
    }

    fn refresh(key: &str, tick: u32) -> Refresh {
        let version = format!("2026-11-22T12:18:00.{tick:07}Z@west.00000001");
        Refresh { key: key.into(), version: Version::parse(&version).unwrap(), entry: Some(format!("{tick}").into()) }
    }

    async fn entry(cache: &MemoryCache, key: &str) -> Option<String> {
        cache.get(key).await.unwrap().and_then(|row| row.entry)
    }

    #[tokio::test(start_paused = true)]
    async fn keys_are_gone_when_their_time_is_over() {
        let cache = cache(CacheMode::WriteThrough, Duration::from_secs(10));
        let deleted = Refresh { entry: None, ..refresh("b", 1) };
        cache.refresh(&[refresh("a", 1), deleted]).await.unwrap();
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(cache.get("a").await.unwrap().unwrap().ttl, Some(Duration::from_secs(1)));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!((cache.get("a").await.unwrap(), cache.len()), (None, 1), "the mark is still there");
        tokio::time::advance(MARK_TTL).await;
        assert!(cache.is_empty() && cache.lock().expiries.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_cache_that_is_cut_off_says_so_and_works_again_when_it_is_healed() {
        let cache = cache(CacheMode::WriteThrough, Duration::from_secs(10));
        cache.faults().cut(true);
        assert!(cache.refresh(&[refresh("a", 1)]).await.unwrap_err().to_string().contains("cut off"));
        assert!(cache.get("a").await.is_err());
        cache.faults().cut(false);
        assert_eq!(cache.refresh(&[refresh("a", 1)]).await.unwrap(), [RefreshOutcome::Stored]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_that_arrives_late_puts_nothing_old_over_what_is_newer() {
        let cache = cache(CacheMode::WriteThrough, Duration::from_secs(100));
        cache.faults().fail_next(RequestKind::Refresh, Fault::Late(Duration::from_secs(5)));
        cache.refresh(&[refresh("a", 1), refresh("b", 1)]).await.unwrap_err();
        assert_eq!(cache.refresh(&[refresh("a", 2)]).await.unwrap(), [RefreshOutcome::Stored]);
        assert_eq!(cache.get("b").await.unwrap(), None);
        tokio::time::advance(Duration::from_secs(6)).await;
        assert_eq!(entry(&cache, "a").await.as_deref(), Some("2"));
        let late = cache.get("b").await.unwrap().unwrap();
        assert_eq!((late.entry.as_deref(), late.ttl), (Some("1"), Some(Duration::from_secs(99))));
    }

    #[tokio::test(start_paused = true)]
    async fn clients_of_one_cache_keep_it_each_in_its_way() {
        let daemon = cache(CacheMode::Invalidate, Duration::from_secs(10));
        let reader = daemon.client(CacheMode::WriteThrough, None);
        assert_eq!(reader.refresh(&[refresh("a", 1)]).await.unwrap(), [RefreshOutcome::Stored]);
        assert_eq!(daemon.refresh(&[refresh("a", 2)]).await.unwrap(), [RefreshOutcome::Invalidated]);
        assert_eq!(entry(&reader, "a").await, None);
        let held = daemon.snapshot();
        assert_eq!((held["a"].version.ends_with("west.00000001"), &held["a"].entry), (true, &None), "a mark is held");
        daemon.flush();
        assert!(reader.is_empty());
    }
}
