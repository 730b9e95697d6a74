//! The cache: refreshes by the script, many in a pipeline.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use redis::{Cmd, Pipeline, RedisError, RedisResult, Script, Value, from_redis_value};

use super::failure::{explain, is_foreign, is_unknown_script};
use super::link::Link;
use super::{RedisTarget, TargetError};
use crate::cache::{CacheMode, CachedRow, Refresh, RefreshOutcome, SCRIPT};
use crate::runtime::Runtime;
use crate::stores::{Cache, CacheError};

/// Most refreshes in one pipeline.
const MAX_COMMANDS: usize = 256;
/// Most bytes of entries in one pipeline; the first always fits.
const MAX_BYTES: usize = 1 << 20;

/// A region's cache on Redis.
///
/// Nothing is sent before the first request, and no task runs beside the requests but those of the connection itself. A
/// request to a Redis that does not answer fails within twice the target's two timeouts.
pub struct RedisCache {
    target: RedisTarget,
    script: Script,
    ttl_ms: u64,
    link: Arc<Link>,
}

impl RedisCache {
    /// A cache that will connect when it is first asked.
    ///
    /// # Errors
    /// [`TargetError`] where the target contradicts itself. Whether a Redis is there is [`check`](Self::check)'s to say.
    pub fn new(target: RedisTarget, runtime: &Runtime) -> Result<Self, TargetError> {
        let link = Arc::new(Link::new(&target, runtime)?);
        Ok(Self { ttl_ms: milliseconds(target.ttl), target, script: Script::new(SCRIPT), link })
    }

    /// Another client of the same cache, by the same connection, which keeps it in another way.
    pub fn client(&self, mode: CacheMode, ttl: Option<Duration>) -> Self {
        let target = RedisTarget { mode, ttl, ..self.target.clone() };
        Self { ttl_ms: milliseconds(ttl), target, script: Script::new(SCRIPT), link: self.link.clone() }
    }

    /// Connects, signs in and loads the script: what has to work before a refresh can.
    ///
    /// # Errors
    /// [`CacheError`] that says what is wrong and what to do about it.
    pub async fn check(&self) -> Result<(), CacheError> {
        let mut load = Cmd::new();
        load.arg("SCRIPT").arg("LOAD").arg(SCRIPT);
        let [loaded] = self.send([load]).await?;
        loaded.map(drop).map_err(|err| explain(&self.target, &err))
    }

    /// Refreshes as many keys as go into one pipeline.
    async fn refresh_batch(&self, refreshes: &[Refresh]) -> Result<Vec<RefreshOutcome>, CacheError> {
        let commands = refreshes.iter().map(|refresh| self.command("EVALSHA", self.script.get_hash(), refresh));
        let mut results = self.send_all(commands).await?;
        let unknown = |result: &RedisResult<Value>| result.as_ref().is_err_and(is_unknown_script);
        let again: Vec<usize> = (0..results.len()).filter(|at| unknown(&results[*at])).collect();
        if !again.is_empty() {
            // The server is new or has forgotten the script. EVAL teaches it, whichever node of a cluster it is.
            let commands = again.iter().map(|at| self.command("EVAL", SCRIPT, &refreshes[*at]));
            for (at, result) in again.iter().zip(self.send_all(commands).await?) {
                results[*at] = result;
            }
        }
        refreshes.iter().zip(results).map(|(refresh, result)| self.outcome(refresh, result)).collect()
    }

    fn command(&self, name: &str, script: &str, refresh: &Refresh) -> Cmd {
        let mut command = Cmd::new();
        command.arg(name).arg(script).arg(1).arg(&refresh.key).arg(self.target.mode.as_str());
        command.arg(refresh.version.as_str()).arg(self.ttl_ms).arg(refresh.entry.as_deref().unwrap_or_default());
        command
    }

    fn outcome(&self, refresh: &Refresh, result: RedisResult<Value>) -> Result<RefreshOutcome, CacheError> {
        let value = result.map_err(|err| self.about(&refresh.key, &err))?;
        let text: String = from_redis_value(value).map_err(|err| self.about(&refresh.key, &err.into()))?;
        RefreshOutcome::parse(&text).ok_or_else(|| {
            CacheError(format!("key {:?}: the script returned {text:?}, which it never does", refresh.key))
        })
    }

    fn about(&self, key: &str, error: &RedisError) -> CacheError {
        CacheError(format!("key {key:?}: {}", explain(&self.target, error)))
    }

    async fn send_all(&self, commands: impl Iterator<Item = Cmd>) -> Result<Vec<RedisResult<Value>>, CacheError> {
        let mut pipeline = Pipeline::new();
        pipeline.ignore_errors();
        for command in commands {
            pipeline.add_command(command);
        }
        self.link.send(&pipeline).await.map_err(|err| explain(&self.target, &err))
    }

    async fn send<const N: usize>(&self, commands: [Cmd; N]) -> Result<[RedisResult<Value>; N], CacheError> {
        let results = self.send_all(commands.into_iter()).await?;
        <[_; N]>::try_from(results)
            .map_err(|results| CacheError(format!("Redis answered {} of {N} commands", results.len())))
    }
}

/// A time to live as the script takes it: 0 for none.
fn milliseconds(ttl: Option<Duration>) -> u64 {
    ttl.map_or(0, |ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).clamp(1, 1 << 53))
}

/// Cuts refreshes into pipelines: by count, and by the bytes of their entries.
fn batches(mut refreshes: &[Refresh]) -> impl Iterator<Item = &[Refresh]> {
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = refreshes.iter().take(MAX_COMMANDS).take_while(|refresh| {
            let first = bytes == 0;
            bytes += refresh.key.len() + refresh.entry.as_ref().map_or(0, |entry| entry.len());
            first || bytes <= MAX_BYTES
        });
        let (batch, rest) = refreshes.split_at(fits.count());
        refreshes = rest;
        (!batch.is_empty()).then_some(batch)
    })
}

#[async_trait]
impl Cache for RedisCache {
    async fn refresh(&self, refreshes: &[Refresh]) -> Result<Vec<RefreshOutcome>, CacheError> {
        let mut outcomes = Vec::with_capacity(refreshes.len());
        for batch in batches(refreshes) {
            outcomes.extend(self.refresh_batch(batch).await?);
        }
        Ok(outcomes)
    }

    async fn get(&self, key: &str) -> Result<Option<CachedRow>, CacheError> {
        let (mut fields, mut ttl) = (Cmd::new(), Cmd::new());
        fields.arg("HMGET").arg(key).arg("v").arg("e");
        ttl.arg("PTTL").arg(key);
        let [fields, ttl] = self.send([fields, ttl]).await?;
        let fields = match fields {
            Err(err) if is_foreign(&err) => return Ok(None),
            fields => fields.map_err(|err| self.about(key, &err))?,
        };
        let (version, entry): (Option<String>, Option<String>) =
            from_redis_value(fields).map_err(|err| self.about(key, &err.into()))?;
        let ttl = ttl.and_then(|ttl| Ok(from_redis_value::<i64>(ttl)?)).map_err(|err| self.about(key, &err))?;
        // -1 is for ever; -2 is that the key has gone between the two commands.
        let ttl = match ttl {
            -1 => None,
            ttl => match u64::try_from(ttl) {
                Ok(ttl) => Some(Duration::from_millis(ttl)),
                Err(_) => return Ok(None),
            },
        };
        Ok(version.map(|version| CachedRow { version, entry, ttl }))
    }
}

impl fmt::Debug for RedisCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisCache").field("target", &self.target).finish_non_exhaustive()
    }
}
