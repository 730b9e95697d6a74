//! The command, as a shell sees it: exit codes and messages.

use std::net::TcpListener;
use std::path::Path;

use crate::support::ports;
use crate::support::process::Process;
use crate::support::relay::{Config, PROGRAM, region};

/// Azurite's account on a port where nobody listens.
fn nowhere() -> String {
    let port = ports::free();
    format!("AccountName=a;AccountKey=aHVudGVyMg==;TableEndpoint=http://127.0.0.1:{port}/a{port}")
}

fn two_regions() -> Config {
    let regions = [region("west", "writer", &nowhere()), region("north", "standby", "${NORTH}")].concat();
    Config::new(&format!("[table.orders]\n{regions}"))
}

#[test]
fn a_bad_configuration_exits_with_2_and_names_file_key_and_remedy_all_at_once() {
    let config = Config::new("[table.orders]\n[region.west]\nrole = \"writr\"\n[replication]\nsettle_windw = \"5s\"\n");
    for command in [&["config", "check"][..], &["config", "print"], &["run", "--region", "west"], &["status"]] {
        let ended = config.run(command, &[("TABLERELAY__LOG__LEVEL", "loud")]);
        assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""), "{command:?}: {}", ended.err);
        let path = config.path().display().to_string();
        for words in [
            "has 4 things wrong",
            &format!("{path}:2: region.west: has no account"),
            &format!("{path}:3: region.west.role: should be one of \"writer\", \"replica\" and \"standby\""),
            &format!("{path}:5: replication.settle_windw: there is no such key; did you mean settle_window?"),
            "overridden by TABLERELAY__LOG__LEVEL in the environment: log.level",
        ] {
            assert!(ended.err.contains(words), "{command:?} lacks {words}: {}", ended.err);
        }
    }
}

#[test]
fn a_good_configuration_exits_with_0_and_is_printed_without_secrets() {
    let (config, secret) = (two_regions(), "AccountName=n;AccountKey=aHVudGVyMg==");
    let checked = config.run(&["config", "check"], &[("NORTH", secret)]);
    assert_eq!((checked.code, checked.err.as_str()), (Some(0), ""));
    assert!(checked.out.contains("is right: north (standby), west (writer)"), "{}", checked.out);
    let printed = config.run(&["config", "print"], &[("NORTH", secret)]);
    assert_eq!((printed.code, printed.err.as_str()), (Some(0), ""));
    assert!(
        printed.out.contains("connection_string = \"***\"") && !printed.out.contains("aHVudGVyMg"),
        "{}",
        printed.out
    );
}

#[test]
fn wrong_usage_exits_with_2_and_says_what_there_is() {
    let config = two_regions();
    let environment = [("NORTH", "AccountName=n;AccountKey=QUJD")];
    for (arguments, words) in [
        (&["statu"][..], "a similar subcommand exists: 'status'"),
        (&["run"], "--region <NAME>"),
        (&["run", "--region", "West"], "1 to 24 characters of a-z"),
        (&["run", "--region", "east"], "there is no region east; the configuration has north, west"),
        (&["quarantine", "show", "1"], "16 lower-case hex digits"),
        (&["status", "--output", "yaml"], "[possible values: table, json]"),
        (&["inspect", "--table", "1x", "--partition", "p", "--row", "r"], "is no table name"),
        (&["inspect", "--table", "orders", "--partition", "a/b", "--row", "r"], "which Azure forbids in a key"),
        (&["inspect", "--table", "RelayFeed", "--partition", "p", "--row", "r"], "one of the program's own"),
        (&["inspect", "--table", "orders", "--partition", "p"], "--row <KEY>"),
        (&["run", "--log-level", "loud", "--region", "west"], "error, warn, info, debug, trace"),
    ] {
        let ended = config.run(arguments, &environment);
        assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""), "{arguments:?}: {}", ended.err);
        assert!(ended.err.contains(words), "{arguments:?}: {}", ended.err);
    }
}

#[test]
fn every_command_that_help_lists_is_there() {
    let help = two_regions().run(&["--help"], &[]);
    assert_eq!(help.code, Some(0), "{}", help.err);
    let listed = help.out.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names: Vec<_> = listed.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.starts_with(&["run"]) && names.len() >= 5, "{names:?}");
    for name in names {
        let help = two_regions().run(&["help", name], &[]);
        assert_eq!(help.code, Some(0), "{name}: {}", help.err);
    }
}

#[test]
fn regions_that_cannot_be_reached_are_named_and_the_exit_is_1_when_none_can() {
    let (config, north) = (two_regions(), nowhere());
    let inspect = ["inspect", "--table", "orders", "--partition", "-p", "--row", ""];
    for command in [&["status"][..], &["quarantine", "list"], &["quarantine", "show", "0123456789abcdef"], &inspect] {
        let ended = config.run(command, &[("NORTH", &north)]);
        assert_eq!(ended.code, Some(1), "{command:?}: {}", ended.err);
        for words in ["region west cannot be reached", "region north cannot be reached", "no region answers; check"] {
            assert!(ended.err.contains(words), "{command:?} lacks {words}: {}", ended.err);
        }
        assert!(!ended.err.contains("aHVudGVyMg"), "{}", ended.err);
    }
    let json = config.run(&["status", "--output", "json"], &[("NORTH", &north)]);
    let value: serde_json::Value = serde_json::from_str(&json.out).expect("JSON even then");
    assert_eq!((&value["schema"], value["unreachable"].as_array().map(Vec::len)), (&1.into(), Some(2)), "{value:#}");
}

#[test]
fn status_says_nothing_of_a_link_between_two_regions_that_are_down_and_exits_with_1() {
    let serve = ["store", "serve", "--listen", "127.0.0.1:0", "--account", "east"];
    let store = Process::start(Path::new(PROGRAM), &serve, &[], &std::env::temp_dir());
    let east = store.wait_for("a connection string", |line| {
        line.starts_with("DefaultEndpointsProtocol=http;AccountName=east;").then(|| line.to_owned())
    });
    let regions = [("east", east.as_str()), ("north", &nowhere()), ("west", &nowhere())];
    let regions = regions.map(|(name, account)| region(name, "writer", account)).concat();
    let config = Config::new(&format!("[table.orders]\n{regions}"));
    let table = config.run(&["status"], &[]);
    assert_eq!(table.code, Some(1), "{}", table.err);
    assert!(table.out.contains("north to west: unknown: neither north nor west can be read"), "{}", table.out);
    assert!(!table.out.contains("daemon-down"), "nobody knows that: {}", table.out);
    for words in ["region north cannot be reached", "region west cannot be reached", "6 of 6 links could not be read"] {
        assert!(table.err.contains(words), "{words}: {}", table.err);
    }
    let json = config.run(&["status", "--output", "json"], &[]);
    assert_eq!(json.code, Some(1), "{}", json.err);
    let status: serde_json::Value = serde_json::from_str(&json.out).expect("JSON even then");
    let why = |n: usize| status["unknown"][n]["why"].as_str().unwrap_or_default();
    assert_eq!([0, 1, 2, 3, 4, 5].map(why), ["half-read", "half-read", "half-read", "unread", "half-read", "unread"]);
}

#[test]
fn an_address_that_is_taken_exits_with_1_and_says_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let environment = [("NORTH", nowhere()), ("TABLERELAY__ADMIN__LISTEN", address.clone())];
    let environment = environment.each_ref().map(|(name, value)| (*name, value.as_str()));
    let ended = two_regions().run(&["run", "--region", "west"], &environment);
    assert_eq!((ended.code, ended.out.as_str()), (Some(1), ""), "{}", ended.err);
    assert!(ended.err.contains(&address) && ended.err.contains("choose another address"), "{}", ended.err);
}
