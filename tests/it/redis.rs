//! The cache on real Redis servers: the suite, and what only a server can do: forget, restart, refuse, move.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use async_trait::async_trait;
use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_core::time::OffsetDateTime;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tablerelay::cache::{CacheMode, Refresh, RefreshOutcome};
use tablerelay::model::{Time, Version};
use tablerelay::runtime::Runtime;
use tablerelay::stores::Cache;
use tablerelay::stores::conformance::{CacheBench, Step, VERSIONS, agree, check_cache};
use tablerelay::stores::memory::MemoryCache;
use tablerelay::stores::redis::{RedisCache, RedisTarget, RedisUrl};

use crate::support::eventually;
use crate::support::redis::{Cluster, Options, Redis};

fn target(url: &str) -> RedisTarget {
    RedisTarget::new(RedisUrl::parse(url).unwrap(), CacheMode::WriteThrough)
}

fn open(target: &RedisTarget) -> RedisCache {
    RedisCache::new(target.clone(), &Runtime::system()).unwrap()
}

fn bench(target: RedisTarget) -> CacheBench {
    // Clients are many and short; each way of keeping the cache has one connection.
    let clients = std::sync::Mutex::new(std::collections::BTreeMap::new());
    let client = move |mode: CacheMode, ttl: Option<Duration>| -> Arc<dyn Cache> {
        let open = || Arc::new(open(&RedisTarget { mode, ttl, ..target.clone() }));
        clients.lock().unwrap().entry((mode, ttl)).or_insert_with(open).clone()
    };
    CacheBench::new(client, "suite:")
}

fn refresh(key: &str, version: usize) -> Refresh {
    let version = Version::parse(VERSIONS[version]).unwrap();
    Refresh { key: key.to_owned(), entry: Some(version.as_str().into()), version }
}

async fn outcome(cache: &RedisCache, refresh: Refresh) -> RefreshOutcome {
    cache.refresh(&[refresh]).await.unwrap()[0]
}

#[tokio::test]
async fn redis_passes_the_caches_suite() {
    let redis = Redis::start();
    let report = check_cache(&bench(target(&redis.url()))).await;
    assert!(report.is_clean(), "{report}");
}

/// A locale that orders versions otherwise than bytes do, made where the system has none.
fn locale(directory: &Path) -> Vec<(String, String)> {
    let made =
        Command::new("localedef").args(["-i", "en_US", "-f", "UTF-8"]).arg(directory.join("en_US.UTF-8")).output();
    let made = made.unwrap_or_else(|err| panic!("localedef: {err}; run ./test, which installs what is missing"));
    assert!(
        directory.join("en_US.UTF-8/LC_COLLATE").exists(),
        "localedef makes no en_US.UTF-8: {}; run ./test, which installs what is missing",
        String::from_utf8_lossy(&made.stderr)
    );
    let directory = directory.to_str().unwrap().to_owned();
    vec![("LOCPATH".to_owned(), directory), ("LC_ALL".to_owned(), "en_US.UTF-8".to_owned())]
}

#[tokio::test]
async fn redis_passes_the_caches_suite_in_a_locale_that_orders_otherwise() {
    let directory = tempfile::tempdir().unwrap();
    let environment = locale(directory.path());
    let redis = Redis::with(Options { environment, ..Options::default() });
    let otherwise: i64 = redis.command(&["EVAL", "return ('a-c' < 'ab') and 1 or 0", "0"]).await;
    assert_eq!(otherwise, 0, "this server orders strings by bytes: the locale has not come through");
    let report = check_cache(&bench(target(&redis.url()))).await;
    assert!(report.is_clean(), "{report}");
}

fn step() -> impl Strategy<Value = Step> {
    let mode = proptest::sample::select(CacheMode::ALL.to_vec());
    (mode, 0..VERSIONS.len(), proptest::bool::weighted(0.3), 0u8..8)
        .prop_map(|(mode, version, deleted, minutes)| Step { mode, version, deleted, minutes })
}

#[test]
fn redis_and_the_memory_cache_agree_step_by_step() {
    let threads = tokio::runtime::Runtime::new().unwrap();
    let redis = Redis::start();
    let real = bench(target(&redis.url()));
    let memory = threads.block_on(async { MemoryCache::new(CacheMode::WriteThrough, None, Runtime::system()) });
    let memory = CacheBench::new(move |mode, ttl| memory.client(mode, ttl), "suite:");
    let mut runner = TestRunner::new(Config { cases: 200, failure_persistence: None, ..Config::default() });
    let key = std::cell::Cell::new(0);
    let history = proptest::collection::vec(step(), 1..12);
    let agreed = runner.run(&history, |history| {
        key.set(key.get() + 1);
        let agreed = threads.block_on(agree(&memory, &real, &key.get().to_string(), &history));
        agreed.map_err(|failure| TestCaseError::fail(failure.to_string()))
    });
    agreed.unwrap_or_else(|failure| panic!("{failure}"));
}

#[tokio::test]
async fn a_script_that_was_flushed_is_loaded_again() {
    let redis = Redis::start();
    let cache = open(&target(&redis.url()));
    assert_eq!(outcome(&cache, refresh("a", 1)).await, RefreshOutcome::Stored);
    let () = redis.command(&["SCRIPT", "FLUSH"]).await;
    let batch: Vec<_> = (0..600).map(|number| refresh(&number.to_string(), 1)).collect();
    assert_eq!(cache.refresh(&batch).await.unwrap(), vec![RefreshOutcome::Stored; 600]);
    let calls: String = redis.command(&["INFO", "commandstats"]).await;
    assert!(calls.contains("cmdstat_evalsha"), "{calls}");
}

#[tokio::test]
async fn a_server_that_is_down_is_an_error_in_time_and_one_that_is_back_is_found() {
    let redis = Redis::start();
    let cache = open(&target(&redis.url()));
    assert_eq!(outcome(&cache, refresh("a", 1)).await, RefreshOutcome::Stored);
    redis.stop();
    for _ in 0..3 {
        let said = cache.refresh(&[refresh("a", 1)]).await.unwrap_err().to_string();
        assert!(said.contains(&format!("Redis at 127.0.0.1:{}", redis.port())), "{said}");
    }
    redis.start_again();
    assert_eq!(outcome(&cache, refresh("a", 1)).await, RefreshOutcome::Stored, "the first request finds it");
    redis.start_again();
    assert_eq!(outcome(&cache, refresh("a", 1)).await, RefreshOutcome::Stored, "a restart between two is not noticed");
}

#[tokio::test]
async fn a_server_that_hangs_is_an_error_in_time() {
    let redis = Redis::start();
    let cache = open(&RedisTarget { response_timeout: Duration::from_millis(200), ..target(&redis.url()) });
    assert_eq!(outcome(&cache, refresh("a", 1)).await, RefreshOutcome::Stored);
    let () = redis.command(&["CLIENT", "PAUSE", "60000", "ALL"]).await;
    let started = tokio::time::Instant::now();
    let said = cache.refresh(&[refresh("a", 2)]).await.unwrap_err().to_string();
    assert!(started.elapsed() < Duration::from_secs(12), "{:?}", started.elapsed());
    assert!(said.contains("timed out") || said.contains("too long"), "{said}");
}

#[tokio::test]
async fn what_is_wrong_with_the_password_is_said_without_saying_it() {
    let redis = Redis::with(Options { password: Some("right-secret".to_owned()), ..Options::default() });
    let port = redis.port();
    let said = |url: String| async move { open(&target(&url)).check().await.unwrap_err().to_string() };
    let wrong = said(format!("redis://:wrong-secret@127.0.0.1:{port}")).await;
    assert!(wrong.contains("correct the user name or password in the cache's url"), "{wrong}");
    assert!(!wrong.contains("secret"), "{wrong}");
    let none = said(format!("redis://127.0.0.1:{port}")).await;
    assert!(none.contains("asks for a password"), "{none}");
    open(&target(&redis.url())).check().await.unwrap();
}

#[tokio::test]
async fn a_user_who_may_too_little_is_told_what_he_should_be_allowed() {
    let redis = Redis::start();
    let () = redis.command(&["ACL", "SETUSER", "me", "on", ">pw", "~*", "+ping", "+client"]).await;
    let cache = open(&target(&format!("redis://me:pw@127.0.0.1:{}", redis.port())));
    let said = cache.check().await.unwrap_err().to_string();
    assert!(said.contains("+evalsha"), "{said}");
    let needed = said.split("should be allowed ").nth(1).unwrap();
    let words = ["ACL", "SETUSER", "me"].into_iter().chain(needed.split(' '));
    let () = redis.command(&words.collect::<Vec<_>>()).await;
    cache.check().await.unwrap();
    let report = check_cache(&bench(target(&format!("redis://me:pw@127.0.0.1:{}", redis.port())))).await;
    assert!(report.is_clean(), "{report}");
}

#[tokio::test]
async fn a_key_that_is_not_ours_is_left_alone() {
    let redis = Redis::start();
    let cache = open(&target(&redis.url()));
    let () = redis.command(&["SET", "text", "theirs"]).await;
    let () = redis.command(&["HSET", "hash", "field", "theirs"]).await;
    let () = redis.command(&["HSET", "vector", "v", "1", "w", "2"]).await;
    for key in ["text", "hash", "vector"] {
        assert_eq!(outcome(&cache, refresh(key, 1)).await, RefreshOutcome::Foreign, "{key}");
    }
    assert_eq!(cache.get("text").await.unwrap(), None);
    assert_eq!(cache.get("hash").await.unwrap(), None);
    let text: String = redis.command(&["GET", "text"]).await;
    assert_eq!(text, "theirs");
}

#[tokio::test]
async fn a_full_redis_takes_nothing_new_and_keeps_nothing_stale() {
    let redis = Redis::start();
    let cache = open(&target(&redis.url()));
    assert_eq!(outcome(&cache, refresh("held", 1)).await, RefreshOutcome::Stored);
    let () = redis.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", "1"]).await;
    assert_eq!(outcome(&cache, refresh("new", 1)).await, RefreshOutcome::Full);
    let deleted = Refresh { entry: None, ..refresh("held", 2) };
    assert_eq!(outcome(&cache, deleted).await, RefreshOutcome::Marked);
    assert_eq!(cache.get("new").await.unwrap(), None);
    let held = cache.get("held").await.unwrap().unwrap();
    assert_eq!((held.version.as_str(), held.entry), (VERSIONS[2], None));
}

#[tokio::test]
async fn a_replica_is_named_as_one() {
    let redis = Redis::start();
    let cache = open(&target(&redis.url()));
    assert_eq!(outcome(&cache, refresh("a", 1)).await, RefreshOutcome::Stored);
    let () = redis.command(&["REPLICAOF", "127.0.0.1", "1"]).await;
    let said = cache.refresh(&[refresh("a", 2)]).await.unwrap_err().to_string();
    assert!(said.contains("it is a replica"), "{said}");
    let () = redis.command(&["REPLICAOF", "NO", "ONE"]).await;
    assert_eq!(outcome(&cache, refresh("a", 2)).await, RefreshOutcome::Stored);
}

#[tokio::test]
async fn tls_connects_where_the_authority_is_known_and_says_so_where_not() {
    let redis = Redis::with(Options { tls: true, ..Options::default() });
    let known = RedisTarget { root_certificates: Some(redis.authority()), ..target(&redis.tls_url()) };
    let cache = open(&known);
    cache.check().await.unwrap();
    assert_eq!(outcome(&cache, refresh("a", 1)).await, RefreshOutcome::Stored);
    let unknown = open(&target(&redis.tls_url())).check().await.unwrap_err().to_string();
    assert!(unknown.contains("root certificates"), "{unknown}");
    let other_name = redis.tls_url().replace("localhost", "127.0.0.1");
    let other_name = RedisTarget { url: RedisUrl::parse(&other_name).unwrap(), ..known };
    let other_name = open(&other_name).check().await.unwrap_err().to_string();
    assert!(other_name.contains("should be for the host"), "{other_name}");
    let connect_timeout = Duration::from_millis(300);
    let plain = RedisTarget { connect_timeout, ..target(&redis.url().replace("redis://", "rediss://")) };
    let plain = open(&plain).check().await.unwrap_err().to_string();
    assert!(plain.contains("that the port speaks TLS"), "{plain}");
    let secret = target(&redis.tls_url().replace("rediss://", "redis://"));
    let secret = open(&RedisTarget { connect_timeout, ..secret }).check().await.unwrap_err().to_string();
    assert!(secret.contains("does not want TLS"), "{secret}");
}

#[tokio::test]
async fn a_cluster_passes_the_caches_suite_and_holds_rows_on_every_node() {
    let cluster = Cluster::start().await;
    let target = RedisTarget { cluster: true, ..target(&cluster.nodes[0].url()) };
    let report = check_cache(&bench(target.clone())).await;
    assert!(report.is_clean(), "{report}");
    let mut sizes = BTreeSet::new();
    for node in &cluster.nodes {
        let keys: i64 = node.command(&["DBSIZE"]).await;
        sizes.insert(keys);
        let () = node.command(&["SCRIPT", "FLUSH"]).await;
    }
    assert!(sizes.first() > Some(&100), "{sizes:?}");
    let cache = open(&target);
    let batch: Vec<_> = (0..300).map(|number| refresh(&format!("after:{number}"), 1)).collect();
    assert_eq!(cache.refresh(&batch).await.unwrap(), vec![RefreshOutcome::Stored; 300]);

    cluster.nodes[1].stop();
    cache.refresh(&batch).await.unwrap_err();
    cluster.nodes[1].start_again();
    cluster.ready().await;
    eventually("the node that is back is found", || async { cache.refresh(&batch).await.is_ok() }).await;
}

#[tokio::test]
async fn a_cluster_that_is_not_configured_as_one_is_named_as_one_and_the_other_way_round() {
    let cluster = Cluster::start().await;
    let single = open(&target(&cluster.nodes[0].url()));
    let batch: Vec<_> = (0..50).map(|number| refresh(&number.to_string(), 1)).collect();
    let said = single.refresh(&batch).await.unwrap_err().to_string();
    assert!(said.contains("set cluster = true"), "{said}");
    let redis = Redis::start();
    let cluster = open(&RedisTarget { cluster: true, ..target(&redis.url()) });
    let said = cluster.refresh(&batch).await.unwrap_err().to_string();
    assert!(said.contains("set cluster = false"), "{said}");
}

/// A credential whose tokens are numbered and live for two seconds.
#[derive(Debug, Default)]
struct ShortLived(AtomicU32);

#[async_trait]
impl TokenCredential for ShortLived {
    async fn get_token(&self, _: &[&str], _: Option<TokenRequestOptions<'_>>) -> azure_core::Result<AccessToken> {
        let number = self.0.fetch_add(1, Relaxed);
        let claims = BASE64_URL_SAFE_NO_PAD.encode(format!(r#"{{"oid":"0f3a-identity","number":{number}}}"#));
        let expires = (Runtime::system().now() + Duration::from_secs(2)).ticks() / Time::TICKS_PER_SECOND;
        let expires = OffsetDateTime::from_unix_timestamp(expires).unwrap();
        Ok(AccessToken::new(format!("e30.{claims}.secret"), expires))
    }
}

async fn sign_ins(redis: &Redis) -> u32 {
    let stats: String = redis.command(&["INFO", "commandstats"]).await;
    let calls = stats.split("cmdstat_auth:calls=").nth(1).and_then(|stats| stats.split(',').next());
    calls.map_or(0, |calls| calls.parse().unwrap())
}

#[tokio::test]
async fn an_entra_identity_signs_in_and_stays_signed_in() {
    let redis = Redis::with(Options { tls: true, ..Options::default() });
    let target = RedisTarget {
        credential: Some(Arc::new(ShortLived::default())),
        root_certificates: Some(redis.authority()),
        ..target(&redis.tls_url())
    };
    let cache = open(&target);
    let said = cache.check().await.unwrap_err().to_string();
    assert!(said.contains("the identity should be a user of this Redis"), "{said}");
    assert!(!said.contains("e30.") && !format!("{cache:?}").contains("e30."), "{said}");

    let () = redis.command(&["ACL", "SETUSER", "0f3a-identity", "on", "nopass", "~*", "+@all"]).await;
    assert_eq!(outcome(&cache, refresh("a", 1)).await, RefreshOutcome::Stored);
    let (connected, before) = (client(&redis).await, sign_ins(&redis).await);
    eventually("the connection signs in with two more tokens", || async { sign_ins(&redis).await >= before + 2 }).await;
    assert_eq!(client(&redis).await, connected, "it is the same connection");
    assert_eq!(outcome(&cache, refresh("a", 2)).await, RefreshOutcome::Stored);
}

/// The id of the connection that is signed in as the identity.
async fn client(redis: &Redis) -> String {
    let clients: String = redis.command(&["CLIENT", "LIST"]).await;
    let line = clients.lines().find(|line| line.contains("user=0f3a-identity"));
    line.unwrap_or_else(|| panic!("nobody is signed in: {clients}")).split(' ').next().unwrap().to_owned()
}
