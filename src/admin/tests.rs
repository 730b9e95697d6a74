//! The endpoint as a client sees it.

use std::collections::BTreeMap;
use std::sync::Mutex;

use tokio::time::Instant;

use super::*;
use crate::cache::Loss;
use crate::feed::AccountShard;
use crate::model::{AccountName, ClosedList};
use crate::replicator::{CacheStatus, ReadStatus, Roles, Snapshot};
use crate::runtime::Runtime;
use crate::settle::{LinkState, LinkStatus};
use crate::stores::memory::MemoryTables;
use crate::stores::{Account, RegionStore, ThrottledAccount};
use crate::topology::{FileRoles, Found, MemberId, Reading, Role, TableFilter};

struct Endpoint {
    url: String,
    snapshot: Arc<Mutex<Snapshot>>,
    probes: Arc<Probes>,
    roles: Arc<Roles>,
    stop: CancellationToken,
    server: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Endpoint {
    async fn start(role: Role) -> Self {
        Self::with(role, true).await
    }

    /// With the probes of load balancers, or without.
    async fn with(role: Role, health: bool) -> Self {
        let snapshot = Arc::new(Mutex::new(Snapshot::default()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (url, stop) = (format!("http://{}", listener.local_addr().unwrap()), CancellationToken::new());
        let shown = snapshot.clone();
        let runtime = Runtime::simulated(Time::from_unix_seconds(1_600_000_000), 1);
        let probes = Arc::<Probes>::default();
        let roles = roles(role);
        probes.prepare(&Snapshot::default(), roles.writing(Instant::now()));
        let admin = Admin {
            region: Region::new("west").unwrap(),
            started: Time::from_unix_seconds(1_600_000_000),
            seen: Seen { snapshot: Arc::new(move || shown.lock().unwrap().clone()), roles: roles.clone() },
            probes: probes.clone(),
            passes: Arc::default(),
            collected: Arc::default(),
            demotions: Arc::default(),
            health,
            waits: Waits::new(Region::new("west").unwrap(), regions(), TableFilter::Every, runtime, stop.clone()),
            recorder: Recorder::detached(),
        };
        let server = tokio::runtime::Handle::current().spawn(serve(listener, admin, stop.clone()));
        Self { url, snapshot, probes, roles, stop, server }
    }

    fn set(&self, change: impl FnOnce(&mut Snapshot)) {
        let mut snapshot = self.snapshot.lock().unwrap();
        change(&mut snapshot);
        self.probes.prepare(&snapshot, self.roles.writing(Instant::now()));
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let reply = reqwest::get(format!("{}{path}", self.url)).await.unwrap();
        (reply.status().as_u16(), reply.text().await.unwrap())
    }

    async fn codes(&self) -> [u16; 4] {
        let mut codes = [0; 4];
        for (code, path) in codes.iter_mut().zip(["/livez", "/readyz", "/health/read", "/health/write"]) {
            *code = self.get(path).await.0;
        }
        codes
    }
}

/// West has this role, and every region was asked.
fn roles(role: Role) -> Arc<Roles> {
    let north = if role == Role::Writer { Role::Standby } else { Role::Writer };
    let regions = [("west", role), ("north", north)].map(|(name, role)| (Region::new(name).unwrap(), role));
    let roles =
        Roles::new(Region::new("west").unwrap(), FileRoles::new(regions.clone().into()), Duration::from_secs(30));
    for (region, _) in regions {
        roles.read(&region, Instant::now(), Found::Nothing);
    }
    Arc::new(roles)
}

/// West and north, on the memory store, with nothing in them.
fn regions() -> Vec<RegionStore> {
    let runtime = Runtime::simulated(Time::from_unix_seconds(1_600_000_000), 1);
    let region = |name| {
        let name = Region::new(name).unwrap();
        let tables = MemoryTables::new(name.clone(), AccountName::new("one").unwrap(), runtime.clone());
        RegionStore::new(name, vec![Account { tables, queue: None }])
    };
    ["west", "north"].map(region).into()
}

fn whole() -> Snapshot {
    let second = Some(Duration::from_secs(1));
    let link = LinkStatus {
        source: Region::new("west").unwrap(),
        destination: Region::new("north").unwrap(),
        state: LinkState::BackingOff,
        last_sync: Some(Time::from_unix_seconds(1_600_000_100)),
        fresh_to: None,
        word: None,
        lag: Duration::from_millis(1_500),
        backlog_rows: 3,
        oldest_waiting: None,
        last_error: Some("503 <ServerBusy> & \"slow\"".to_owned()),
        published: Time::from_unix_seconds(1_600_000_200),
        copy: false,
    };
    let all = AccountShard::all(&[AccountName::new("west1").unwrap()]);
    let throttled = ThrottledAccount {
        region: Region::new("north").unwrap(),
        account: AccountName::new("north1").unwrap(),
        since: Time::from_unix_seconds(1_600_000_150),
        shut: false,
        rows_per_second: Some(700),
        partitions: 5,
        throttled: 12,
        held_back: 34,
    };
    let cache = CacheStatus {
        state: LinkState::Parked,
        backlog_rows: 2,
        oldest_waiting: None,
        last_error: Some("no <answer>".to_owned()),
        loss: Some(Loss::Emptied),
        lost: Some(Time::from_unix_seconds(1_600_000_150)),
        warmed: None,
    };
    let feed_records = BTreeMap::from([(AccountName::new("west1").unwrap(), 7)]);
    Snapshot {
        links: vec![link],
        cache: Some(cache),
        feed_records,
        throttled: vec![throttled],
        daemon: Some(MemberId::new(123)),
        shards: all[..2].iter().cloned().collect(),
        others: BTreeMap::from([(MemberId::new(255), all[2..3].iter().cloned().collect())]),
        ready: true,
        since_progress: second,
        since_report: second,
        ..Snapshot::default()
    }
}

#[tokio::test]
async fn probes_say_what_is_so() {
    let writer = Endpoint::start(Role::Writer).await;
    assert_eq!(writer.codes().await, [200, 503, 503, 200], "just begun");
    writer.set(|snapshot| *snapshot = whole());
    assert_eq!(writer.codes().await, [200; 4], "whole");
    writer.set(|snapshot| snapshot.since_progress = Some(Duration::from_secs(61)));
    assert_eq!(writer.codes().await, [200, 503, 503, 200], "own storage is down: no restart helps");
    writer.set(|snapshot| snapshot.spare = true);
    assert_eq!(writer.codes().await, [200; 4], "there is nothing for it to read");
    writer.set(|snapshot| snapshot.spare = false);
    writer.set(|snapshot| snapshot.since_report = Some(Duration::from_secs(61)));
    assert_eq!(writer.codes().await, [503, 503, 503, 200], "stuck");

    for role in [Role::Replica, Role::Standby] {
        let other = Endpoint::start(role).await;
        other.set(|snapshot| *snapshot = whole());
        assert_eq!(other.codes().await, [200, 200, 200, 503], "{role}");
    }
}

#[tokio::test]
async fn readers_are_refused_where_the_region_is_too_far_behind_and_let_in_where_it_is_the_freshest() {
    let endpoint = Endpoint::start(Role::Replica).await;
    for reading in Reading::ALL {
        let staleness = Duration::from_secs(9);
        let status = ReadStatus { reading: *reading, fresh_to: Time::from_unix_seconds(1_600_000_000), staleness };
        endpoint.set(|snapshot| *snapshot = Snapshot { reading: Some(status), ..whole() });
        let (code, text) = endpoint.get("/health/read").await;
        assert_eq!(code, if reading.serves() { 200 } else { 503 }, "{reading}: {text}");
        assert_eq!(endpoint.codes().await[..2], [200, 200], "{reading}: no restart helps");
        endpoint.set(|snapshot| snapshot.ready = false);
        assert_eq!(endpoint.get("/health/read").await.0, 503, "{reading}, but not ready");
    }
    let status: serde_json::Value = serde_json::from_str(&endpoint.get("/status").await.1).unwrap();
    assert_eq!(status["reading"]["staleness_seconds"], 9.0, "{status:#}");
    assert_eq!(status["reading"]["reading"], "cut-off", "{status:#}");
}

#[tokio::test]
async fn load_balancers_have_a_listener_of_their_own_with_nothing_else_on_it() {
    let admin = Endpoint::with(Role::Writer, false).await;
    admin.set(|snapshot| *snapshot = whole());
    assert_eq!(admin.codes().await, [200, 200, 404, 404]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = serve_probes(listener, admin.probes.clone(), admin.stop.clone());
    let server = tokio::runtime::Handle::current().spawn(server);
    let health = Endpoint { url, server, ..admin };
    assert_eq!(health.codes().await, [200; 4]);
    for path in ["/status", "/metrics", "/wait", "/"] {
        assert_eq!(health.get(path).await.0, 404, "{path}");
    }
}

#[tokio::test]
async fn what_cannot_be_waited_for_is_named_and_what_does_not_come_is_told() {
    const VERSION: &str = "2020-09-13T12:26:40.0000000Z@west.00000001";
    let endpoint = Endpoint::start(Role::Writer).await;
    for (query, words) in [
        ("", "version is missing"),
        ("?version=1", "version: \"1\" is no version"),
        (
            &format!("?version={VERSION}&region=south"),
            "region: there is no region south; the configuration has north, west",
        ),
        (&format!("?version={}", VERSION.replace("west", "south")), "version: there is no region south"),
        (&format!("?version={VERSION}&table=orders"), "give all three, or none"),
        (&format!("?version={VERSION}&table=a&partition=p&row=r"), "table: \"a\" is no table name"),
        (&format!("?version={VERSION}&timeout=5"), "timeout: it should be a duration"),
        (&format!("?version={VERSION}&timeout=1h"), "timeout: it should be at most 300s"),
        (&format!("?version={VERSION}&regoin=west"), "there is no parameter \"regoin\""),
    ] {
        let (code, text) = endpoint.get(&format!("/wait{query}")).await;
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let error = value["error"].as_str().unwrap_or_default();
        assert!(code == 400 && error.contains(words), "{query}: {code} {text}");
    }
    let (code, text) = endpoint.get(&format!("/wait?version={VERSION}")).await;
    assert!(code == 200 && text.contains("\"by\":\"source\""), "{code} {text}");
    for more in ["region=north", "region=north&table=orders&partition=p&row="] {
        let (code, text) = endpoint.get(&format!("/wait?version={VERSION}&timeout=50ms&{more}")).await;
        assert!(code == 504 && text.contains("\"reached\":false"), "{code} {text}");
    }
}

#[tokio::test]
async fn only_so_many_wait_at_a_time_and_the_end_of_the_daemon_is_the_end_of_waiting() {
    let endpoint = Endpoint::start(Role::Writer).await;
    let path = "/wait?version=2020-09-13T12:26:40.0000000Z@west.00000001&region=north&timeout=60s";
    let url = format!("{}{path}", endpoint.url);
    let handle = tokio::runtime::Handle::current();
    let waiting: Vec<_> = (0..64).map(|_| handle.spawn(reqwest::get(url.clone()))).collect();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    let away = loop {
        let reply = reqwest::get(format!("{url}&timeout=1ms").replace("timeout=60s&", "")).await.unwrap();
        if reply.status() == 503 {
            break reply;
        }
        assert!(tokio::time::Instant::now() < deadline, "{reply:?}");
    };
    assert_eq!(away.headers()["retry-after"], "1");
    endpoint.stop.cancel();
    for each in waiting {
        assert_eq!(each.await.unwrap().unwrap().status(), 503);
    }
}

#[tokio::test]
async fn head_has_no_body_and_nothing_can_be_changed() {
    let endpoint = Endpoint::start(Role::Writer).await;
    let client = reqwest::Client::new();
    for path in ["/livez", "/readyz", "/health/read", "/health/write", "/metrics", "/status", "/"] {
        let url = format!("{}{path}", endpoint.url);
        let (get, head) = (client.get(&url).send().await.unwrap(), client.head(&url).send().await.unwrap());
        assert_eq!(get.status(), head.status(), "{path}");
        assert!(head.bytes().await.unwrap().is_empty(), "{path}");
        assert_eq!(client.post(&url).send().await.unwrap().status(), 405, "{path}");
    }
    assert_eq!(endpoint.get("/nothing").await.0, 404);
}

#[tokio::test]
async fn status_is_versioned_json() {
    let endpoint = Endpoint::start(Role::Writer).await;
    endpoint.set(|snapshot| *snapshot = whole());
    let (code, text) = endpoint.get("/status").await;
    let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(code, 200);
    let roles = value["roles"].take();
    let told = ["epoch", "kind", "topology", "writing", "moving", "to"].map(|key| roles[key].clone());
    let expected = serde_json::json!([1, "first", "active-passive", "serving", null, null]);
    assert_eq!(serde_json::Value::from(told.to_vec()), expected, "{roles:#}");
    assert_eq!(roles["roles"], serde_json::json!({ "west": "writer", "north": "standby" }));
    assert!(roles["heard_seconds"]["north"].is_number(), "{roles:#}");
    assert_eq!(
        value,
        serde_json::json!({
            "schema": 1, "region": "west", "role": "writer", "roles": null, "version": env!("CARGO_PKG_VERSION"), "ready": true,
            "started": "2020-09-13T12:26:40.0000000Z", "feed_records": { "west1": 7 },
            "verified": [],
            "tombstones": null,
            "tiers": null,
            "routes": null,
            "barred": [],
            "throttled": [{
                "region": "north", "account": "north1", "since": "2020-09-13T12:29:10.0000000Z", "shut": false,
                "rows_per_second": 700, "partitions": 5, "throttled": 12, "held_back": 34
            }],
            "daemon": "000000000000007b", "shards": { "west1": ["00", "01"] },
            "others": { "00000000000000ff": { "west1": ["02"] } },
            "cache": {
                "state": "parked", "backlog_rows": 2, "oldest_waiting": null, "last_error": "no <answer>",
                "loss": "emptied", "lost": "2020-09-13T12:29:10.0000000Z", "warmed": null
            },
            "reading": null,
            "links": [{
                "source": "west", "destination": "north", "state": "backing-off", "lag_seconds": 1.5,
                "last_sync": "2020-09-13T12:28:20.0000000Z", "fresh_to": null, "backlog_rows": 3, "copy": false, "oldest_waiting": null,
                "last_error": "503 <ServerBusy> & \"slow\"", "published": "2020-09-13T12:30:00.0000000Z"
            }]
        })
    );
}

#[tokio::test]
async fn the_page_shows_links_and_escapes_what_came_from_outside() {
    let endpoint = Endpoint::start(Role::Writer).await;
    assert!(endpoint.get("/").await.1.contains("There are none"));
    endpoint.set(|snapshot| *snapshot = whole());
    let (code, page) = endpoint.get("/").await;
    assert_eq!(code, 200);
    for words in [
        "<td>north</td>",
        "backing-off",
        "1.500 s",
        "2020-09-13T12:28:20",
        "503 &lt;ServerBusy&gt; &amp; &quot;",
        "2 rows wait. no &lt;answer&gt;",
        "found emptied at",
    ] {
        assert!(page.contains(words), "{words}: {page}");
    }
    assert!(!page.contains("<ServerBusy>"), "{page}");
}

#[tokio::test]
async fn it_ends_when_it_is_stopped_though_a_client_holds_on() {
    let endpoint = Endpoint::start(Role::Writer).await;
    let address = endpoint.url.trim_start_matches("http://").to_owned();
    // Half a request: the client never goes on.
    let held = tokio::net::TcpStream::connect(address).await.unwrap();
    held.writable().await.unwrap();
    assert_eq!(held.try_write(b"GET /livez HTTP/1.1\r\n").unwrap(), 21);
    endpoint.stop.cancel();
    let ended = tokio::time::timeout(GRACE * 2, endpoint.server).await;
    assert!(ended.expect("it should end").unwrap().is_ok());
}
