//! Stations hold rules and are pure: no I/O, no clock, no randomness; `now` is an argument. So the same rules run on
//! Azure, on the memory store and in a simulator, and one seed repeats a run.

use super::source::Source;
use super::tree;
use super::{Finding, lines, none};

/// The stations of the line, and the nouns.
const STATIONS: [&str; 9] = ["model", "feed", "batch", "resolve", "apply", "cache", "settle", "topology", "throttle"];

/// What waits, or asks the world.
const IMPURE: [&str; 12] = [
    "async ",
    ".await",
    "tokio::",
    "std::fs",
    "std::net",
    "std::io",
    "std::env",
    "std::process",
    "std::thread",
    "rand::",
    "SystemTime",
    "Instant::now",
];

fn impure(source: &Source) -> Vec<Finding> {
    if !source.module().first().is_some_and(|room| STATIONS.contains(room)) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (number, line) in source.shipped() {
        // The type of a moment is no clock.
        let code = line.code.replace("tokio::time::Instant;", "");
        if let Some(word) = IMPURE.iter().find(|word| code.contains(**word)) {
            let remedy = format!("a station is pure, but this has `{}`; take it as an argument", word.trim());
            findings.push(Finding::new(&source.path, number, remedy));
        }
    }
    findings
}

#[test]
fn stations_neither_wait_nor_ask_the_world() {
    none(tree::sources().iter().flat_map(impure));
}

#[test]
fn a_station_that_waits_is_found() {
    let text = "use tokio::time::Instant;\nuse std::fs;\nasync fn a() {}\nfn b() -> Instant { Instant::now() }\n";
    assert_eq!(lines(&impure(&Source::new("src/settle/window.rs", text))), [2, 3, 4]);
    assert!(impure(&Source::new("src/replicator/tail.rs", text)).is_empty());
    assert!(impure(&Source::new("src/settle/w.rs", "// async fn\n#[cfg(test)]\nmod t { use std::fs; }\n")).is_empty());
}
