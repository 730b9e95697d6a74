//! What benches of commands over whole tables share: stores that are processes of their own, and the command, watched.

pub mod command;
pub mod store;

#[allow(dead_code, reason = "what processes have used, of which this needs a part")]
#[path = "../line/process.rs"]
mod process;

#[allow(dead_code, reason = "the servers of the integration tests, of which this needs a part")]
#[path = "../../tests/support/mod.rs"]
pub mod support;

use self::store::Store;
use self::support::relay::{Config, region};

/// The rows that are asked for by `--rows`, or else so many.
pub fn rows_asked_for(arguments: &[String], or_else: usize) -> usize {
    let given = arguments.iter().position(|argument| argument == "--rows").and_then(|at| arguments.get(at + 1));
    given.map_or(or_else, |rows| rows.parse().expect("--rows should be a number"))
}

/// Two regions that are written to, with the table that all of this is about.
pub fn configuration(west: &Store, north: &Store, more: &str) -> Config {
    let of = |name: &str, store: &Store| {
        // A memory store has no queue.
        let queue = if store.counts() { "queue = false\n" } else { "" };
        region(name, "writer", &store.connection_string) + queue
    };
    let regions = of("west", west) + &of("north", north);
    Config::new(&format!("[table.orders]\n{more}{regions}"))
}

/// Runs it on all cores.
pub fn block_on(run: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime").block_on(run);
}
