//! `tablerelay` replicates Azure Table Storage between regions: a change feed, last-writer-wins, fresh Redis caches.
//!
//! A change travels one way, and the modules are its stations, in this order. ARCHITECTURE.md has the picture and what
//! each may import.

#![forbid(unsafe_code)]
#![deny(missing_docs)]

// A blank line between two modules keeps rustfmt from sorting them. Their documentation is inside them, where its links
// resolve.

// The nouns: region, account, table, keys, version, row, change, tombstone.
pub mod model;

// 1: the change feed; how records, messages and tombstones are written down, and what is malformed.
pub mod feed;

// 2: what waits for one consumer, coalesced per row and taken in batches.
pub mod batch;

// 3: last-writer-wins, and every other verdict of the protocol.
pub mod resolve;

// 4: from verdicts to conditional transactions, and what a failed one means.
pub mod apply;

// 5: which key of the cache a row has, and the version-guarded refresh.
pub mod cache;

// 6: who has it; settlement, and the state of links that both ends publish.
pub mod settle;

// Roles of regions, and which tables are replicated.
pub mod topology;

// How much an account is asked: rates, the retry budget, what a storm may cost.
pub mod throttle;

// The line assembled: it carries, and decides nothing that a station could decide.
pub mod replicator;

// The shore: traits of what is stored elsewhere, and their adapters.
pub mod stores;

// Announce and write in one call, for applications and for whatever else writes by the protocol.
pub mod writer;

// The REST API of the Table service from the server's side, over the store traits.
pub mod rest;

// Other ways in to what the line does: whole tables at a time, when somebody asks for it.
pub mod ops;

// What was typed into the file, then what is usable.
pub mod config;

// Every metric, log event and log form, in one place.
pub mod telemetry;

// Clock and randomness behind one handle.
pub mod runtime;

// Bugs that the simulator plants, to see whether it would catch them.
pub mod planted;

// The program around the line: tasks and what their death means, an end with a deadline.
pub mod daemon;

// Probes, metrics, status and a page, over HTTP.
pub mod admin;

// Three regions in one process on the memory store.
pub mod demo;

// The commands.
pub mod cli;

// The examples of README.md compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
