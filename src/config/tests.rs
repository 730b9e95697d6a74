//! What is accepted, what is said of what is not, and that files and defaults are one.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::model::{Consistency, TableName};

const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

fn connection(name: &str) -> String {
    format!("DefaultEndpointsProtocol=https;AccountName={name};AccountKey={KEY};EndpointSuffix=core.windows.net")
}

/// Every variable that the files in `config/` name.
fn environment() -> Environment {
    let accounts = ["WEST1", "WEST2", "NORTH1", "EAST1", "WEST", "NORTH", "SOUTH", "BACKUP1"]
        .map(|name| (name, connection(&name.to_lowercase())));
    let others = [("CLIENT_SECRET", "c"), ("WEST2_SAS", "sig=s"), ("PASSWORD", "p")];
    let redis = [("WEST_REDIS_PASSWORD", "w"), ("NORTH_REDIS_PASSWORD", "n")];
    let accounts = accounts.iter().map(|(name, value)| (*name, value.as_str()));
    Environment::of(accounts.chain(others).chain(redis))
}

fn with(text: &str, variables: &[(&str, &str)]) -> Result<Settings, Problems> {
    read(Path::new("relay.toml"), text, &Environment::of(variables.iter().copied()))
}

/// What is wrong with `text`, in the environment of the examples.
fn wrong(text: &str) -> String {
    read(Path::new("relay.toml"), text, &environment()).map(|_| String::new()).unwrap_or_else(|err| err.to_string())
}

const SMALL: &str = "
[table.orders]
[region.west]
role = \"writer\"
[region.west.account.west1]
connection_string = \"UseDevelopmentStorage=true\"
";

fn repository(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|err| panic!("{}: {err}", path.display()))
}

#[test]
fn a_small_file_has_every_default() {
    let settings = with(SMALL, &[]).unwrap();
    insta::assert_snapshot!(settings.to_toml().unwrap(), @r#"
    [log]
    format = "human"
    level = "info"

    [admin]
    listen = "127.0.0.1:9464"

    [health]
    alone = "serve"

    [replication]
    settle_window = "1m"
    max_clock_skew = "1m"
    poll_busy = "20ms"
    poll_idle = "1400ms"
    max_open_records = 16384
    requests_in_flight = 64
    batch_rows = 500
    tombstone_scan = 1000
    keep_conflicts = "30d"
    most_conflicts = 10000
    park_after = "10s"
    lease = "8s"

    [failover]
    cool_down = "10m"
    late_writes = "merge"
    poll = "1s"

    [scrubber]
    every = "1d"
    rows_per_second = 1000

    [tombstones]
    collect = true
    minimum_age = "7d"
    every = "6h"
    rows_per_second = 500

    [tiers]
    every = "1h"
    rows_per_second = 5000

    [http]
    connect_timeout = "5s"
    read_timeout = "15s"
    total_timeout = "25s"

    [table.orders]
    consistency = "eventual"

    [region.west]
    role = "writer"
    spread = ["west1"]

    [region.west.account.west1]
    connection_string = "***"
    queue = true
    "#);
}

/// Something wrong in every table.
const WRONG: &str = r#"
[logg]
level = "debug"
[log]
format = "jsn"
level = 3
[admin]
listen = "localhost"
[replication]
settle_windw = "5s"
settle_window = "5"
max_clock_skew = "2d"
batch_rows = 0
tombstone_scan = 1.5
[http]
connect_timeout = "-1s"
[table.Orders]
[table.orders]
[table.RelayFeed]
[table.ab]
[region.West]
role = "writer"
[region.north]
role = "stanby"
cach = 1
[region.north.account.n1]
table_endpoint = "http://north1.table.core.windows.net"
credential = "managed-identity"
sas = "sig=hunter2"
[region.north.account.n2]
connection_string = "AccountName=x"
credential = "sas"
[region.north.account.n3]
table_endpoint = "https://n3.table.core.windows.net"
[region.north.account.n4]
[region.north.account.n5]
table_endpoint = "https://n5.table.core.windows.net"
credential = "client-secret"
client_id = "x"
[region.north.account.n6]
connection_string = "${NO_SUCH}"
[region.north.account.n7]
table_endpoint = "https://n7.table.core.windows.net"
credential = "client_secret"
[region.north.cache]
url = "http://hunter2"
mode = "write"
ttl = "0s"
key = "{table}{rowKey}"
credential = "sas"
[region.east]
account = "x"
"#;

#[test]
fn every_problem_is_said_at_once_with_file_line_key_and_what_it_should_be() {
    insta::assert_snapshot!(wrong(WRONG), @r#"
    relay.toml:2: logg: there is no such key; did you mean log?
    relay.toml:5: log.format: should be one of "human" and "json", but is "jsn"; did you mean "json"?
    relay.toml:6: log.level: should be one of "error", "warn", "info", "debug" and "trace", but is 3
    relay.toml:8: admin.listen: should be an address and a port, as in "127.0.0.1:9464" or "[::1]:9464", but is "localhost"
    relay.toml:10: replication.settle_windw: there is no such key; did you mean settle_window?
    relay.toml:11: replication.settle_window: should be a duration with its unit, as in "250ms", "60s", "5m", "1h" or "7d", but is "5"
    relay.toml:12: replication.max_clock_skew: should be from "0s" to "1h", but is "2d"
    relay.toml:13: replication.batch_rows: should be from 1 to 10000, but is 0
    relay.toml:14: replication.tombstone_scan: should be a whole number, but is a number with a fraction
    relay.toml:16: http.connect_timeout: should be a duration with its unit, as in "250ms", "60s", "5m", "1h" or "7d", but is "-1s"
    relay.toml:18: table.orders: another name differs from it only in case, - or _; names should differ in more
    relay.toml:19: table.RelayFeed: names that begin with Relay are reserved; such tables are not replicated
    relay.toml:20: table.ab: "ab" is no table name: it should be 3 to 63 letters and digits and begin with a letter
    relay.toml:21: region.West: "West" is no region name: it should be 1 to 24 characters of a-z, 0-9 and -
    relay.toml:21: region.West: has no account; each has a table of its own, as in [region.west.account.west1]
    relay.toml:24: region.north.role: should be one of "writer", "replica" and "standby", but is "stanby"; did you mean "standby"?
    relay.toml:25: region.north.cach: there is no such key; did you mean cache?
    relay.toml:27: region.north.account.n1.table_endpoint: should begin with https://, since managed-identity sends a bearer token
    relay.toml:29: region.north.account.n1.sas: means nothing to the credential managed-identity; take it out
    relay.toml:31: region.north.account.n2.connection_string: the connection string should have AccountKey or SharedAccessSignature
    relay.toml:32: region.north.account.n2.credential: should not be beside connection_string, which says it all
    relay.toml:33: region.north.account.n3.credential: is missing beside table_endpoint; it should be one of "managed-identity", "workload-identity", "client-secret", "sas" and "developer-tools"
    relay.toml:35: region.north.account.n4: should have connection_string, or table_endpoint with credential
    relay.toml:36: region.north.account.n5.client_secret: is missing; the credential client-secret needs it, here or in AZURE_CLIENT_SECRET
    relay.toml:36: region.north.account.n5.tenant_id: is missing; the credential client-secret needs it, here or in AZURE_TENANT_ID
    relay.toml:41: region.north.account.n6.connection_string: the environment variable NO_SUCH is not set; set it before starting
    relay.toml:44: region.north.account.n7.credential: should be one of "managed-identity", "workload-identity", "client-secret", "sas" and "developer-tools", but is "client_secret"; did you mean "client-secret"?
    relay.toml:46: region.north.cache.url: should be redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE], or rediss:// for TLS; its scheme is neither redis nor rediss
    relay.toml:47: region.north.cache.mode: should be one of "write-through", "refresh-existing" and "invalidate", but is "write"; did you mean "write-through"?
    relay.toml:48: region.north.cache.ttl: should be from "1s" to "365d", but is "0s"
    relay.toml:49: region.north.cache.key: should be a template with {table}, {partitionKey} and {rowKey}, but is "{table}{rowKey}"; it lacks {partitionKey}, without which rows would share a key: it should be like {table}:{partitionKey}:{rowKey}
    relay.toml:50: region.north.cache.credential: should be one of managed-identity, workload-identity, client-secret, developer-tools, but is sas
    relay.toml:51: region.east: has no account; each has a table of its own, as in [region.west.account.west1]
    relay.toml:51: region.east.role: is missing; it should be one of "writer", "replica" and "standby"
    relay.toml:52: region.east.account: should be a table, but is "x"
    "#);
}

#[test]
fn an_empty_file_is_told_what_it_should_have() {
    insta::assert_snapshot!(wrong(""), @r#"
    relay.toml: region: there is no region; each has a table of its own, as in [region.west]
    relay.toml: table: no table is replicated; name them, as in [table.orders], or take [table."*"] for every one
    "#);
}

#[test]
fn what_is_no_toml_does_not_hide_the_rest() {
    insta::assert_snapshot!(wrong("[region.west]\nrole = writer\n[log]\nlevl = \"info\"\n"), @r#"
    relay.toml:1: region.west: has no account; each has a table of its own, as in [region.west.account.west1]
    relay.toml:2: this is not TOML: string values must be quoted, expected literal string
    relay.toml:4: log.levl: there is no such key; did you mean level?
    relay.toml: table: no table is replicated; name them, as in [table.orders], or take [table."*"] for every one
    "#);
}

#[test]
fn what_does_not_go_together_is_said() {
    let text = r#"
[table."*"]
[table.orders]
[replication]
settle_window = "10s"
poll_idle = "10ms"
[http]
total_timeout = "6s"
[region.west]
role = "replica"
[region.west.account.one]
connection_string = "${WEST1}"
[region.west.account.two]
table_endpoint = "https://two.table.core.windows.net?sig=hunter2"
credential = "sas"
queue = true
[region.west.cache]
url = "redis://:hunter2@127.0.0.1:6379"
credential = "developer-tools"
[region.north]
role = "standby"
[region.north.account.n]
connection_string = "${WEST1}"
"#;
    insta::assert_snapshot!(wrong(text), @r#"
    relay.toml:2: table: [table."*"] is every table; there should be no other one beside it
    relay.toml:5: replication.settle_window: settle_window (10s) should be at least max_clock_skew (1m)
    relay.toml:6: replication.poll_idle: poll_idle should be at least poll_busy
    relay.toml:8: http.total_timeout: should be at most half the settle window, 5s
    relay.toml:11: region.west.account.one: is the same storage account as region.north.account.n; each should be named once
    relay.toml:16: region.west.account.two.queue: is true, but the account has no queue endpoint; give it one, or leave this out
    relay.toml:18: region.west.cache.url: the cache's credential sends a token, so its url should begin with rediss://, not redis://
    "#);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let err = load(Path::new("no/such/relay.toml"), &Environment::default()).unwrap_err().to_string();
    assert!(err.contains("no/such/relay.toml") && err.contains("--config or TABLERELAY_CONFIG"), "{err}");
}

#[test]
fn the_environment_overrides_the_file() {
    let settings = with(
        SMALL,
        &[
            ("TABLERELAY__REGION__WEST__ROLE", "standby"),
            ("TABLERELAY__REGION__NORTH__ROLE", "writer"),
            ("TABLERELAY__REGION__NORTH__ACCOUNT__N_1__CONNECTION_STRING", "AccountName=n;AccountKey=QUJD"),
            ("TABLERELAY__REPLICATION__BATCH_ROWS", "7"),
            ("TABLERELAY__REGION__WEST__ACCOUNT__WEST1__QUEUE", "false"),
            ("tablerelay__admin__listen", "[::1]:1"),
        ],
    );
    let settings = settings.unwrap_or_else(|err| panic!("{err}"));
    let region = |name: &str| &settings.regions[&crate::model::Region::new(name).unwrap()];
    assert_eq!(region("west").role.to_string(), "standby");
    assert_eq!(region("north").accounts.keys().map(ToString::to_string).collect::<Vec<_>>(), ["n-1"]);
    assert_eq!(settings.replication.batch_rows, 7);
    assert!(!region("west").accounts.values().any(|account| account.queue));
    assert_eq!(settings.admin.listen.to_string(), "[::1]:1");
}

#[test]
fn what_the_environment_has_wrong_names_the_variable() {
    let err =
        with(SMALL, &[("TABLERELAY__REGION__WEST__ROLE", "boss"), ("TABLERELAY__LOG__LEVL", "info")]).unwrap_err();
    insta::assert_snapshot!(err.to_string(), @r#"
    relay.toml, overridden by TABLERELAY__LOG__LEVL in the environment: log.levl: there is no such key; did you mean level?
    relay.toml, overridden by TABLERELAY__REGION__WEST__ROLE in the environment: region.west.role: should be one of "writer", "replica" and "standby", but is "boss"
    "#);
}

#[test]
fn the_printed_settings_read_back_as_the_same() {
    let text = format!("{SMALL}[region.west.cache]\nurl = \"redis://localhost\"\nmode = \"invalidate\"\n");
    let printed = with(&text, &[]).unwrap().to_toml().unwrap();
    assert!(!printed.contains("UseDevelopmentStorage"), "a connection string is a secret: {printed}");
    let again = printed.replace("\"***\"", "\"UseDevelopmentStorage=true\"");
    assert_eq!(with(&again, &[]).unwrap_or_else(|err| panic!("{err}\n{printed}")).to_toml().unwrap(), printed);
}

const TWO_MORE: &str = "
[region.north]
role = \"replica\"
[region.north.account.n1]
connection_string = \"UseDevelopmentStorage=true;AccountName=n\"
[region.south]
role = \"replica\"
[region.south.account.s1]
connection_string = \"UseDevelopmentStorage=true;AccountName=s\"
";

#[test]
fn a_table_has_the_consistency_that_it_is_given_and_comes_out_as_it_went_in() {
    let small = SMALL.replace("[table.orders]", "").replace("UseDevelopmentStorage=true", &connection("west1"));
    let more = TWO_MORE.replace("UseDevelopmentStorage=true;AccountName=n", &connection("n"));
    let more = more.replace("UseDevelopmentStorage=true;AccountName=s", &connection("s"));
    let tables = "
[table.orders]
consistency = \"bounded\"
max_staleness = \"30s\"
[table.carts]
consistency = \"synchronous\"
copies = 2
[table.stock]
";
    let settings = with(&format!("{small}{tables}{more}"), &[]).unwrap_or_else(|err| panic!("{err}"));
    let of = |name| settings.consistency.of(&TableName::new(name).unwrap());
    let seconds = Duration::from_secs;
    assert_eq!(of("Orders"), Consistency::Bounded { max_staleness: seconds(30) });
    assert_eq!(of("carts"), Consistency::Synchronous { copies: 2, within: seconds(10) });
    assert_eq!(of("stock"), Consistency::Eventual);
    assert_eq!(settings.consistency.max_staleness(), Some(seconds(30)));
    let printed = settings.to_toml().unwrap();
    for line in ["max_staleness = \"30s\"", "copies = 2", "copies_within = \"10s\""] {
        assert!(printed.contains(line), "{line}: {printed}");
    }
    let every = format!("{small}[table.\"*\"]\nconsistency = \"bounded\"\nmax_staleness = \"1m\"\n{more}");
    let every = with(&every, &[]).unwrap_or_else(|err| panic!("{err}"));
    assert_eq!(
        every.consistency.of(&TableName::new("any").unwrap()),
        Consistency::Bounded { max_staleness: seconds(60) }
    );
    assert!(every.to_toml().unwrap().contains("[table.\"*\"]"), "{}", every.to_toml().unwrap());
}

#[test]
fn a_consistency_that_cannot_be_is_named_by_its_key() {
    let wrong = |lines: &str| wrong(&SMALL.replace("[table.orders]", &format!("[table.orders]\n{lines}")));
    for (lines, key, words) in [
        ("consistency = \"bound\"", "table.orders.consistency", "did you mean \"bounded\"?"),
        ("consistency = \"bounded\"", "table.orders.max_staleness", "is missing"),
        ("consistency = \"bounded\"\nmax_staleness = \"9s\"", "table.orders.max_staleness", "from \"10s\""),
        ("consistency = \"bounded\"\nmax_staleness = \"30\"", "table.orders.max_staleness", "with its unit"),
        ("max_staleness = \"30s\"", "table.orders.max_staleness", "consistency = \"bounded\" alone"),
        ("copies = 1", "table.orders.copies", "consistency = \"synchronous\" alone"),
        ("copies_within = \"5s\"", "table.orders.copies_within", "consistency = \"synchronous\" alone"),
        ("consistency = \"synchronous\"", "table.orders.consistency", "needs another region"),
    ] {
        let said = wrong(lines);
        assert!(said.contains(&format!("{key}: ")) && said.contains(words), "{lines}: {said}");
    }
    let synchronous = SMALL.replace("[table.orders]", "[table.orders]\nconsistency = \"synchronous\"\ncopies = 3");
    let said = super::tests::wrong(&format!("{synchronous}{TWO_MORE}"));
    assert!(said.contains("table.orders.copies: should be from 1 to 2"), "{said}");
    let slow = "consistency = \"bounded\"\nmax_staleness = \"30s\"\n[replication]\npoll_idle = \"10s\"";
    assert!(wrong(slow).contains("from \"50s\""), "{}", wrong(slow));
    let same = wrong("[health]\nlisten = \"127.0.0.1:9464\"\nalone = \"refused\"");
    assert!(same.contains("health.listen: should be another address than admin.listen"), "{same}");
    assert!(same.contains("health.alone: should be one of \"serve\" and \"refuse\""), "{same}");
}

/// Lines of the reference file that stand for a setting without a default.
const EXAMPLE: &str = "#: ";

#[test]
fn the_reference_file_says_the_defaults() {
    let reference = repository("config/reference.toml");
    let (settings, findings) = examine(&reference, &environment());
    assert_eq!(findings.into_parts().0, [], "config/reference.toml has problems");
    let needed = ["role", "connection_string", "table_endpoint", "credential", "url", "tables", "accounts"];
    let kept = |line: &&str| {
        let key = line.split(" = ").next().unwrap_or_default();
        !line.contains(" = ") || line.starts_with('#') || needed.contains(&key)
    };
    let bare: Vec<&str> = reference.lines().filter(kept).collect();
    assert!(bare.len() + 15 < reference.lines().count(), "no default was taken out");
    let (defaults, findings) = examine(&bare.join("\n"), &environment());
    assert_eq!(findings.into_parts().0, []);
    assert_eq!(settings.to_toml().unwrap(), defaults.to_toml().unwrap());
}

#[test]
fn every_setting_stands_in_the_reference_file() {
    let reference = repository("config/reference.toml").replace(EXAMPLE, "");
    let (_, findings) = examine(&reference, &environment());
    let (problems, keys) = findings.into_parts();
    let unknown: Vec<_> = problems.iter().filter(|problem| problem.message.contains("no such key")).collect();
    assert!(unknown.is_empty(), "config/reference.toml names settings that are not there: {unknown:#?}");
    let table = parse(&reference, &mut Vec::new());
    let mut written = BTreeSet::new();
    collect(&table, "", &mut written);
    let missing: Vec<_> = keys.difference(&written).collect();
    assert!(missing.is_empty(), "config/reference.toml lacks {missing:?}");
}

fn collect(table: &Table, path: &str, into: &mut BTreeSet<String>) {
    for (key, node) in table {
        let is_named = matches!(path, "region" | "table" | "copy" | "copy.*.table");
        let is_named = is_named || path.ends_with(".account") || path.ends_with(".route");
        let name = if is_named { "*" } else { key };
        let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        if let document::Value::Table(table) = &node.value {
            collect(table, &path, into);
        }
        into.insert(path);
    }
}

#[test]
fn every_example_is_right() {
    for name in ["active-passive", "active-active", "multi-active"] {
        let text = repository(&format!("config/examples/{name}.toml"));
        assert_eq!(wrong(&text), "", "config/examples/{name}.toml");
    }
    assert_eq!(wrong(&repository("deploy/config.toml")), "", "deploy/config.toml");
}

#[test]
fn no_secret_is_in_any_form_of_the_settings_or_in_a_message() {
    let secret = "hunter2";
    let file = format!(
        "{SMALL}
        [region.north]
        role = \"replica\"
        [region.north.account.a]
        connection_string = \"${{CONNECTION}}\"
        [region.north.account.b]
        table_endpoint = \"https://b.table.core.windows.net?sv=1&sig={secret}b\"
        credential = \"sas\"
        [region.north.account.c]
        table_endpoint = \"https://c.table.core.windows.net\"
        credential = \"sas\"
        sas = \"sig={secret}c\"
        [region.north.account.d]
        table_endpoint = \"https://d.table.core.windows.net\"
        credential = \"client-secret\"
        client_id = \"i\"
        tenant_id = \"t\"
        client_secret = \"{secret}d\"
        [region.north.cache]
        url = \"rediss://me:{secret}e@localhost\"
        "
    );
    let connection = format!("AccountName=a;AccountKey={}", "aHVudGVyMg=="); // hunter2
    let variables = [("CONNECTION", connection.as_str()), ("TABLERELAY__X__Y", "hunter2f"), ("OTHER", "hunter2g")];
    let good = with(&file, &variables[..1]).unwrap_or_else(|err| panic!("{err}"));
    // The same with something wrong in every table, so that messages speak of all of them.
    let bad = file.replace("connection_string", "connection_strin").replace(" = \"sas\"", " = \"sa\"");
    let bad = bad.replace("client_secret", "client_secre").replace("rediss://me", "reds://me").replace("\"t\"", "\"\"");
    let bad = with(&bad, &variables).unwrap_err();
    let environment = Environment::of(variables);
    let forms = format!(
        "{good:?} {good:#?} {} {} {bad} {bad:?} {environment:?}",
        good.to_toml().unwrap(),
        serde_json::to_string(&good).unwrap()
    );
    assert!(bad.iter().count() >= 7, "{bad}");
    assert!(!forms.contains(secret) && !forms.contains("aHVudGVyMg"), "{forms}");
}

#[test]
fn roles_that_do_not_go_together_are_refused() {
    let regions = |roles: &[&str]| {
        let region = |(n, role): (usize, &&str)| {
            format!(
                "[region.r{n}]\nrole = \"{role}\"\n[region.r{n}.account.a]\nconnection_string = \"AccountName=a{n};AccountKey=a2V5\"\n"
            )
        };
        format!("[table.orders]\n{}", roles.iter().enumerate().map(region).collect::<String>())
    };
    let said = wrong(&regions(&["writer", "replica", "writer"]));
    assert!(said.contains("region: r0, r2 are writers beside r1; there should be one writer"), "{said}");
    let said = wrong(&regions(&["replica", "standby"]));
    assert!(said.contains("no region is a writer"), "{said}");
    for good in [&["writer", "standby", "replica"][..], &["writer", "writer"], &["writer", "replica"]] {
        let settings = with(&regions(good), &[]).unwrap();
        assert_eq!(settings.roles().warning().is_some(), good == ["writer", "replica"], "{good:?}");
    }
}

#[test]
fn roles_are_read_often_enough_for_the_window() {
    let text = format!("{SMALL}[replication]\nsettle_window = \"4s\"\nmax_clock_skew = \"4s\"\n");
    assert_eq!(with(&text, &[]).unwrap().failover.poll, Duration::from_millis(500), "a shorter window shortens it");
    let said = wrong(&format!("{text}[failover]\npoll = \"1s\"\nlate_writes = \"drop\"\n"));
    assert!(said.contains("failover.poll: should be at most an eighth of the settle window, 500ms"), "{said}");
    assert!(said.contains("failover.late_writes: should be one of \"merge\" and \"journal\""), "{said}");
}
