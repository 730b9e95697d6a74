//! From the raw form to the checked one.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::copy::copies;
use super::region;
use super::section::Section;
use super::settings::{
    AdminSettings, FailoverSettings, HealthSettings, HttpSettings, LogSettings, ReplicationSettings, ScrubberSettings,
    Settings, TierSettings, TombstoneSettings,
};
use super::tables::tables;
use crate::model::Region;
use crate::topology::FileRoles;

/// Reads every table of the file. What is wrong is noted, and the default or nothing stands in its place, so that the
/// rest is checked too: the result counts only where no problem was noted.
pub(super) fn settings(root: Section<'_>, variable: &region::Variable<'_>) -> Settings {
    let replication = replication(root.table("replication"));
    let admin = admin(root.table("admin"));
    let mut places = region::Places::default();
    let regions = regions(&root, variable, &mut places);
    let (tables, consistency) = tables(&root, &replication, regions.len());
    let copies = copies(&root, &regions, &tables, variable, &mut places);
    let settings = Settings {
        log: log(root.table("log")),
        admin,
        health: health(root.table("health"), &admin),
        replication,
        failover: failover(root.table("failover"), &replication),
        scrubber: scrubber(root.table("scrubber")),
        tombstones: tombstones(root.table("tombstones"), &replication),
        tiers: tiers(root.table("tiers")),
        http: http(root.table("http"), &replication),
        tables,
        consistency,
        regions,
        copies,
    };
    root.finish();
    settings
}

fn log(section: Section<'_>) -> LogSettings {
    let default = LogSettings::default();
    let log = LogSettings { format: section.or("format", default.format), level: section.or("level", default.level) };
    section.finish();
    log
}

fn admin(section: Section<'_>) -> AdminSettings {
    let admin = AdminSettings { listen: section.or("listen", AdminSettings::default().listen) };
    section.finish();
    admin
}

fn health(section: Section<'_>, admin: &AdminSettings) -> HealthSettings {
    let default = HealthSettings::default();
    let health = HealthSettings { listen: section.get("listen"), alone: section.or("alone", default.alone) };
    if health.listen.is_some_and(|listen| listen == admin.listen && listen.port() != 0) {
        section.problem("listen", "should be another address than admin.listen; without it, probes are answered there");
    }
    section.finish();
    health
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const HOUR: Duration = Duration::from_secs(3_600);

fn replication(section: Section<'_>) -> ReplicationSettings {
    let default = ReplicationSettings::default();
    let settle_window = section.within("settle_window", default.settle_window, ms(1_000)..=HOUR);
    let replication = ReplicationSettings {
        settle_window,
        max_clock_skew: section.within("max_clock_skew", default.max_clock_skew, ms(0)..=HOUR),
        poll_busy: section.within("poll_busy", default.poll_busy, ms(1)..=ms(60_000)),
        poll_idle: section.within("poll_idle", default.poll_idle, ms(1)..=ms(60_000)),
        max_open_records: section.within("max_open_records", default.max_open_records, 100..=1_000_000),
        requests_in_flight: section.within("requests_in_flight", default.requests_in_flight, 1..=1_000),
        batch_rows: section.within("batch_rows", default.batch_rows, 1..=10_000),
        tombstone_scan: section.within("tombstone_scan", default.tombstone_scan, 0..=1_000),
        // The server's clock has whole seconds where it is read most often.
        lease: section.within("lease", default.lease, ms(2_000)..=ms(60_000)),
        keep_conflicts: section.within("keep_conflicts", default.keep_conflicts, ms(60_000)..=HOUR * 24 * 3_650),
        most_conflicts: section.within("most_conflicts", default.most_conflicts, 1..=1_000_000),
        // A shorter window shortens what nobody has set.
        park_after: section.within("park_after", default.park_after.min(settle_window / 4), ms(100)..=HOUR),
    };
    if replication.park_after > settle_window / 2 {
        let most = super::duration::render(settle_window / 2);
        section.problem("park_after", format!("should be at most half the settle window, {most}"));
    }
    if replication.settle_window < replication.max_clock_skew {
        let key = if section.has("settle_window") { "settle_window" } else { "max_clock_skew" };
        section.problem(
            key,
            format!(
                "settle_window ({}) should be at least max_clock_skew ({})",
                super::duration::render(replication.settle_window),
                super::duration::render(replication.max_clock_skew),
            ),
        );
    }
    if replication.poll_idle < replication.poll_busy {
        let key = if section.has("poll_idle") { "poll_idle" } else { "poll_busy" };
        section.problem(key, "poll_idle should be at least poll_busy");
    }
    section.finish();
    replication
}

fn failover(section: Section<'_>, replication: &ReplicationSettings) -> FailoverSettings {
    let default = FailoverSettings::default();
    // A region may be written to while its copy of the roles is younger than half a settle window.
    let most = replication.settle_window / 8;
    let failover = FailoverSettings {
        cool_down: section.within("cool_down", default.cool_down, ms(0)..=HOUR * 24),
        late_writes: section.or("late_writes", default.late_writes),
        // A shorter window shortens what nobody has set.
        poll: section.within("poll", default.poll.min(most), ms(100)..=ms(10_000)),
    };
    if failover.poll > most {
        let most = super::duration::render(most);
        section.problem("poll", format!("should be at most an eighth of the settle window, {most}"));
    }
    section.finish();
    failover
}

fn scrubber(section: Section<'_>) -> ScrubberSettings {
    let default = ScrubberSettings::default();
    let scrubber = ScrubberSettings {
        every: section.within("every", default.every, ms(0)..=HOUR * 24 * 365),
        rows_per_second: section.within("rows_per_second", default.rows_per_second, 1..=100_000),
    };
    section.finish();
    scrubber
}

fn tombstones(section: Section<'_>, replication: &ReplicationSettings) -> TombstoneSettings {
    let default = TombstoneSettings::default();
    let least = replication.settle_window + replication.max_clock_skew;
    let tombstones = TombstoneSettings {
        collect: section.or("collect", default.collect),
        minimum_age: section.within("minimum_age", default.minimum_age, ms(1_000)..=HOUR * 24 * 3_650),
        every: section.within("every", default.every, ms(1_000)..=HOUR * 24 * 365),
        rows_per_second: section.within("rows_per_second", default.rows_per_second, 1..=100_000),
    };
    if tombstones.minimum_age < least {
        let least = super::duration::render(least);
        section
            .problem("minimum_age", format!("should be at least settle_window and max_clock_skew together, {least}"));
    }
    section.finish();
    tombstones
}

fn tiers(section: Section<'_>) -> TierSettings {
    let default = TierSettings::default();
    let tiers = TierSettings {
        every: section.within("every", default.every, ms(1_000)..=HOUR * 24 * 365),
        rows_per_second: section.within("rows_per_second", default.rows_per_second, 1..=100_000),
    };
    section.finish();
    tiers
}

fn http(section: Section<'_>, replication: &ReplicationSettings) -> HttpSettings {
    let default = HttpSettings::default();
    let http = HttpSettings {
        connect_timeout: section.within("connect_timeout", default.connect_timeout, ms(100)..=ms(60_000)),
        read_timeout: section.within("read_timeout", default.read_timeout, ms(100)..=ms(300_000)),
        // A shorter window shortens what nobody has set.
        total_timeout: section.within(
            "total_timeout",
            default.total_timeout.min(replication.settle_window / 2),
            ms(100)..=ms(300_000),
        ),
        ca_file: section.get::<String>("ca_file").map(PathBuf::from),
    };
    if http.total_timeout > replication.settle_window / 2 {
        let most = super::duration::render(replication.settle_window / 2);
        section.problem("total_timeout", format!("should be at most half the settle window, {most}"));
    }
    section.finish();
    http
}

fn regions(
    root: &Section<'_>,
    variable: &region::Variable<'_>,
    places: &mut region::Places,
) -> BTreeMap<Region, super::RegionSettings> {
    let sections = root.named("region");
    if sections.is_empty() {
        root.problem("region", "there is no region; each has a table of its own, as in [region.west]");
    }
    let mut regions = BTreeMap::new();
    let mut complete = true;
    for (name, section) in sections {
        let region = Region::new(name).map_err(|err| section.problem("", err.to_string())).ok();
        let settings = region::region(section, variable, places);
        complete &= settings.is_some();
        regions.extend(region.zip(settings));
    }
    let roles = FileRoles::new(regions.iter().map(|(name, settings)| (name.clone(), settings.role)).collect());
    if let (true, false, Err(contradiction)) = (complete, regions.is_empty(), roles.check()) {
        root.problem("region", contradiction.to_string());
    }
    regions
}
