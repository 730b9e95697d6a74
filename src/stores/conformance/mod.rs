//! The suite that all adapters of a trait pass.
//!
//! A fake store is worth what the suite it shares with the real one is worth. Every case is a function whose name is the
//! rule it checks, listed in one table per trait; the driver runs all of them and names each that failed. Where Azurite
//! is wrong the case says so with a [`Quirk`]: on Azurite it is held to what Azurite does, and fails as soon as that is no
//! longer so, which keeps [`QUIRKS`] true.
//!
//! It is part of the library rather than of its tests since the integration tests need it as well, and so does anybody
//! with a real account or an adapter of their own. It needs nothing that the library does not.

mod account;
mod bench;
mod cache;
mod keys;
mod limits;
mod queries;
mod queue;
mod quirks;
mod suite;
mod transactions;
mod types;
mod writes;

use std::sync::Arc;

pub use bench::Bench;
pub use cache::{CacheBench, Step, VERSIONS, agree};
pub use queue::QueueBench;
pub use quirks::QUIRKS;
pub(crate) use suite::case;
pub use suite::{Case, Context, Failure, Outcome, Quirk, Report, Server, ensure, fail, run, same};

use crate::stores::{Queue, Tables};

/// The cases of [`Tables`], by what they are about.
pub const TABLES: &[&[Case<Bench>]] =
    &[keys::CASES, types::CASES, writes::CASES, transactions::CASES, limits::CASES, queries::CASES, account::CASES];

/// Holds an account to every rule of [`Tables`], in fresh tables whose names begin with `prefix`: letters and digits, at
/// most 40. They are left behind.
pub async fn check_tables(tables: &Arc<dyn Tables>, server: Server, prefix: &str) -> Report {
    let mut report = Report::default();
    for (group, cases) in TABLES.iter().enumerate() {
        let bench = |case: usize| {
            let (tables, name) = (tables.clone(), format!("{prefix}{group}n{case}"));
            async move { Bench::new(tables, &name).await }
        };
        let more = run(cases, server, bench).await;
        report.passed.extend(more.passed);
        report.failed.extend(more.failed);
    }
    report
}

/// Holds a queue adapter to every rule of [`Queue`]. `queue` makes one for a queue that does not exist yet, from a name
/// that it may begin otherwise; they are left behind.
pub async fn check_queue(queue: impl Fn(&str) -> Arc<dyn Queue>, server: Server) -> Report {
    run(queue::CASES, server, |case| {
        let queue = queue(&format!("case-{case}"));
        async move { Ok(QueueBench { queue }) }
    })
    .await
}

/// Holds a cache to every rule of [`Cache`](crate::stores::Cache). What it puts there is left behind.
pub async fn check_cache(bench: &CacheBench) -> Report {
    run(cache::CASES, Server::Azure, |case| {
        let bench = bench.of_case(case);
        async move { Ok(bench) }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::CacheMode;
    use crate::model::{AccountName, Region, Time, Version};
    use crate::runtime::Runtime;
    use crate::stores::memory::{MemoryCache, MemoryQueue, MemoryTables};
    use crate::stores::{Metered, Retrying};

    fn runtime() -> Runtime {
        Runtime::simulated(Time::from_unix_seconds(1_795_348_800), 7)
    }

    fn memory() -> Arc<dyn Tables> {
        MemoryTables::new(Region::new("west").unwrap(), AccountName::new("west1").unwrap(), runtime())
    }

    #[tokio::test(start_paused = true)]
    async fn the_memory_tables_pass() {
        let report = check_tables(&memory(), Server::Azure, "Conformance").await;
        assert!(report.is_clean(), "{report}");
    }

    #[tokio::test(start_paused = true)]
    async fn counting_and_retrying_change_nothing() {
        let tables: Arc<dyn Tables> = Metered::new(Retrying::new(memory(), runtime()));
        let report = check_tables(&tables, Server::Azure, "Conformance").await;
        assert!(report.is_clean(), "{report}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_memory_queue_passes() {
        let report = check_queue(|name| MemoryQueue::new(name, runtime()), Server::Azure).await;
        assert!(report.is_clean(), "{report}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_memory_cache_passes() {
        let cache = MemoryCache::new(CacheMode::WriteThrough, None, runtime());
        let report = check_cache(&CacheBench::new(move |mode, ttl| cache.client(mode, ttl), "")).await;
        assert!(report.is_clean(), "{report}");
    }

    #[test]
    fn the_versions_of_the_caches_suite_ascend() {
        assert!(VERSIONS.is_sorted_by(|a, b| Version::parse(a).unwrap() < Version::parse(b).unwrap()));
    }

    #[test]
    fn every_quirk_is_shown_by_a_case() {
        let quirks = TABLES.iter().flat_map(|cases| cases.iter()).filter_map(Case::quirk);
        let mut shown: Vec<_> =
            quirks.chain(queue::CASES.iter().filter_map(Case::quirk)).map(|quirk| quirk.name).collect();
        let mut listed: Vec<_> = QUIRKS.iter().map(|quirk| quirk.name).collect();
        shown.sort_unstable();
        listed.sort_unstable();
        assert_eq!(shown, listed);
    }

    #[test]
    fn every_case_has_a_name_of_its_own() {
        let mut names: Vec<_> = TABLES.iter().flat_map(|cases| cases.iter()).map(|case| case.name).collect();
        names.extend(queue::CASES.iter().map(|case| case.name));
        names.extend(cache::CASES.iter().map(|case| case.name));
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
