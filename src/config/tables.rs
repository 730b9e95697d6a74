//! `[table.NAME]`: which tables are replicated, and what their readers may count on.

use std::collections::BTreeSet;
use std::time::Duration;

use super::kinds::Kind;
use super::section::Section;
use super::settings::ReplicationSettings;
use crate::model::{Consistency, TableConsistency, TableName};
use crate::topology::TableFilter;

/// The least limit on staleness. How far behind a region is gets known by one publication and one reading of it, each a
/// quarter of the limit apart at most, on top of what an idle feed's reading takes.
const LEAST_LIMIT: Duration = Duration::from_secs(10);
/// Of the time between two readings of an idle feed, the limit is so many at the least.
const IDLE_READINGS: u32 = 5;
const MOST_LIMIT: Duration = Duration::from_secs(7 * 24 * 3_600);
/// How long a synchronous write waits for its copies, where nobody says.
const WITHIN: Duration = Duration::from_secs(10);

pub(super) fn tables(
    root: &Section<'_>,
    replication: &ReplicationSettings,
    regions: usize,
) -> (TableFilter, TableConsistency) {
    let mut consistency = TableConsistency::default();
    let mut named = BTreeSet::new();
    let mut every = false;
    let sections = root.named("table");
    if sections.is_empty() {
        root.problem(
            "table",
            "no table is replicated; name them, as in [table.orders], or take [table.\"*\"] for every one",
        );
    }
    for (name, section) in sections {
        let promised = promise(&section, replication, regions);
        match TableName::new(name) {
            _ if name == "*" => (every, consistency.every) = (true, promised),
            Ok(table) if table.is_system() => {
                section.problem("", "names that begin with Relay are reserved; such tables are not replicated");
            }
            Ok(table) => {
                named.insert(table.clone());
                consistency.named.insert(table, promised);
            }
            Err(err) => section.problem("", err.to_string()),
        }
        section.finish();
    }
    if every && !named.is_empty() {
        root.problem("table", "[table.\"*\"] is every table; there should be no other one beside it");
    }
    (if every { TableFilter::Every } else { TableFilter::Named(named) }, consistency)
}

/// The consistency of one table, with what belongs to it; a key that belongs to another one is a problem.
fn promise(section: &Section<'_>, replication: &ReplicationSettings, regions: usize) -> Consistency {
    let kind = section.or("consistency", Kind::Eventual);
    let (limit, copies) = (section.get::<Duration>("max_staleness"), section.get::<u32>("copies"));
    let within = section.within("copies_within", WITHIN, Duration::from_millis(100)..=Duration::from_secs(300));
    for (key, of) in
        [("max_staleness", Kind::Bounded), ("copies", Kind::Synchronous), ("copies_within", Kind::Synchronous)]
    {
        if section.has(key) && kind != of {
            section.problem(key, format!("goes with consistency = \"{of}\" alone, and here it is \"{kind}\""));
        }
    }
    match kind {
        Kind::Eventual => Consistency::Eventual,
        Kind::Bounded => Consistency::Bounded { max_staleness: bounded(section, limit, replication) },
        Kind::Synchronous => Consistency::Synchronous { copies: copied(section, copies, regions), within },
    }
}

fn bounded(section: &Section<'_>, limit: Option<Duration>, replication: &ReplicationSettings) -> Duration {
    let least = LEAST_LIMIT.max(replication.poll_idle * IDLE_READINGS);
    let Some(limit) = limit else {
        if !section.has("max_staleness") {
            section.problem("max_staleness", "is missing; it should be how far behind a region may be, as in \"30s\"");
        }
        return least;
    };
    if !(least..=MOST_LIMIT).contains(&limit) {
        let [least, most, is] = [least, MOST_LIMIT, limit].map(super::duration::render);
        let why = format!("at least 10s and {IDLE_READINGS} times replication.poll_idle");
        section.problem("max_staleness", format!("should be from \"{least}\" to \"{most}\" ({why}), but is \"{is}\""));
    }
    limit
}

fn copied(section: &Section<'_>, copies: Option<u32>, regions: usize) -> u32 {
    let others = u32::try_from(regions).unwrap_or(u32::MAX).saturating_sub(1);
    let copies = copies.unwrap_or(1);
    if others == 0 {
        section.problem("consistency", "\"synchronous\" needs another region, and there is none");
    } else if !(1..=others).contains(&copies) {
        section
            .problem("copies", format!("should be from 1 to {others}, the number of other regions, but is {copies}"));
    }
    copies
}
