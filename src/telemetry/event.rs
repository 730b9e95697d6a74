//! The closed list of the log field `event`.
//!
//! A log line that somebody may want to alert on carries `event = Event::….as_str()`; its message may change, the word
//! may not.

use crate::closed_list;

closed_list! {
    /// What a log line tells of. Level ERROR means that a person must act.
    pub enum Event {
        DaemonStarting = "daemon-starting",
            "the daemon has read its configuration and begins",
            "none";
        DaemonReady = "daemon-ready",
            "system tables are there and the feed is tailed; `/readyz` answers 200 from here on",
            "none";
        DaemonStopping = "daemon-stopping",
            "a signal or a failed task asked the daemon to end",
            "none where it was asked to; otherwise look for the task-failed line before it";
        DaemonStopped = "daemon-stopped",
            "the daemon has ended, with everything that was acknowledged on disk",
            "none";
        ShutdownLate = "shutdown-late",
            "tasks had not ended by the shutdown's deadline and were cut off; the line names them",
            "none for the data, which is replayed; report it, with the names of the tasks";
        TaskFailed = "task-failed",
            "a task panicked, failed, or ended before it should have",
            "the daemon ends and its supervisor starts it again; if it repeats, report it with the line";
        TableCreated = "table-created",
            "a table that was missing was created",
            "none";
        ShardsMoved = "shards-moved",
            "this daemon carries other shards than before, since another one of its region came or went",
            "none";
        LeaseLost = "lease-lost",
            "this daemon's lease could not be renewed in time, or somebody removed its row; it carries nothing until it has one again",
            "check the region's first account, which holds RelayControl; other daemons of the region carry its shards meanwhile";
        LeaseHeld = "lease-held",
            "the lease is renewed again after it was lost",
            "none";
        RolesConfirmed = "roles-confirmed",
            "the regions were asked for their roles, and this one knows its own",
            "none";
        RolesUnconfirmed = "roles-unconfirmed",
            "at its start the daemon could not ask every region for the roles; its region keeps the role of its own copy",
            "see why the regions that the line names do not answer; if one of them has taken this region's role over, keep writers away from here";
        RolesChanged = "roles-changed",
            "other roles are in force: somebody has moved the role of a writer",
            "none";
        RolesUnheard = "roles-unheard",
            "the region's copy of the roles cannot be read; `/health/write` answers 503 meanwhile",
            "check the region's first account, which holds RelayControl";
        RolesHeard = "roles-heard",
            "the region's copy of the roles can be read again",
            "none";
        RoutesChanged = "routes-changed",
            "a region's routes are others than before, or were heard of for the first time",
            "none";
        RoutesPending = "routes-pending",
            "the configuration wants rows of this region in other accounts than they are in; the routes in force are gone by meanwhile",
            "run `tablerelay rebalance` for the region, or put the routes in force back into the configuration";
        RoutesUnusable = "routes-unusable",
            "a region's routes cannot be gone by, or lead to an account that this daemon's configuration does not have",
            "give every daemon the same configuration, and start it again; the error of the line says more";
        RoleMoving = "role-moving",
            "a planned failover is under way in this region: it takes no more writes",
            "none";
        RoleKept = "role-kept",
            "a planned failover ended without moving the role: it was given up, or its time was over",
            "none";
        CutOff = "cut-off",
            "a drill cuts a region off: nothing passes between it and the others, and its health endpoints answer 503",
            "none where somebody holds a drill; it ends by itself at the deadline that the line names";
        CutEnded = "cut-ended",
            "the region that a drill had cut off is joined to the others again",
            "none";
        UnsentCounted = "unsent-counted",
            "a region that lost its role by a forced failover is back, and has added to the trail how many rows it had not sent, and which",
            "none; what becomes of them says `failover.late_writes`";
        UnsentUnknown = "unsent-unknown",
            "what a region had not sent when it lost its role could not be counted within a minute, and is brought uncounted",
            "see why the other regions do not answer; `tablerelay conflicts list` still names what is lost";
        SurvivorsEqual = "survivors-equal",
            "a region has lost its role by a forced failover; what had come in here from it is announced, so that all others get it too",
            "none";
        LateWrites = "late-writes",
            "a region that is no writer holds what its writer does not have: applications write there, or it had not sent this when it lost its role",
            "unless a failover has just passed, find out which application writes there; with `journal`, see `tablerelay conflicts list`";
        LinkBackingOff = "link-backing-off",
            "a destination fails or asks for less; its changes are tried again",
            "if it stays, check the destination's health, credentials and firewall";
        LinkFlowing = "link-flowing",
            "a link delivers again",
            "none";
        LinkParked = "link-parked",
            "a destination is down; what it misses is kept as hints",
            "bring the destination back, or take it out of the configuration";
        BacklogFailing = "backlog-failing",
            "hints for a parked destination cannot be written; its changes stay in the feed and are tried again",
            "check the region's first account, which holds RelayBacklog: its health, credentials and firewall";
        BacklogRecovered = "backlog-recovered",
            "hints can be written again",
            "none";
        SourceUnreachable = "source-unreachable",
            "the region's own storage cannot be read; its feed stands still",
            "check the account's health, credentials and firewall";
        SourceReachable = "source-reachable",
            "the region's own storage answers after it did not",
            "none";
        AccountThrottled = "account-throttled",
            "a storage account asks for less (429, 503 ServerBusy, 500 OperationTimedOut); it is asked less until it bears more",
            "see `throttled` in `/status`: if one partition is hot, spread its rows; if the whole account is, spread tables over accounts";
        AccountUnthrottled = "account-unthrottled",
            "a storage account bears again what it bore before",
            "none";
        AccessDenied = "access-denied",
            "a storage account refused the credentials",
            "check the credential and its role assignments (Storage Table Data Contributor); they take minutes to spread";
        RecordQuarantined = "record-quarantined",
            "a change cannot be replicated as it is; it lies in RelayQuarantine with its reason",
            "run `tablerelay quarantine show` on it, mend the cause";
        VersionFromFuture = "version-from-future",
            "a version is further ahead of the storage clock than the allowed skew; it waits in quarantine",
            "correct the clock of the writer that the version names";
        RegionsCompared = "regions-compared",
            "the scrubber is through a pair of regions, and they are equal but for what is on its way",
            "none";
        RegionsDiffer = "regions-differ",
            "the scrubber has found rows that differ between two regions and that nothing known will bring",
            "run `tablerelay verify` on the two regions, which names the rows, then with `--repair`; find out who writes without announcing";
        RegionsNotCompared = "regions-not-compared",
            "the scrubber cannot read what it has to compare; it tries again, and goes on where it was",
            "none where a region is down; else see the error of the line";
        TombstonesCollected = "tombstones-collected",
            "tombstones that nothing can need any more were deleted",
            "none";
        TombstonesHeld = "tombstones-held",
            "tombstones are older than `tombstones.minimum_age` and stay all the same; the fields say what holds them",
            "what the word in `held_by` asks for: see operations, Tombstones";
        TombstonesNotCollected = "tombstones-not-collected",
            "a sweep over the region's tombstones could not go on; it tries again",
            "none where a region is down; else see the error of the line";
        RowsDemoted = "rows-demoted",
            "rows that have grown old were moved to their cold places",
            "none";
        RowsNotDemoted = "rows-not-demoted",
            "a pass of the mover could not go on: old rows stay at home; it tries again",
            "none where an account is down; else see the error of the line";
        RegionTakenOut = "region-taken-out",
            "a region that was replicated is no longer in the configuration; what it has not brought is not known",
            "run `tablerelay verify --repair` for every pair of the regions that are left";
        RegionGone = "region-gone",
            "a region that was taken out counts no more: every pair of the others was repaired since",
            "none; should it come back, empty its tables first";
        RegionNotEmpty = "region-not-empty",
            "this region was taken out, tombstones were collected without it, and it has come back with rows or tombstones",
            "empty its replicated tables and RelayFeed, then run `tablerelay backfill` to it";
        RegionSeenEmpty = "region-seen-empty",
            "this region was taken out, has come back empty, and takes part again",
            "run `tablerelay backfill` to it";
        Conflict = "conflict",
            "two regions changed a row, and neither knew of the other's change; the higher version stands everywhere",
            "run `tablerelay conflicts show` on its id: both rows are in it; write what was lost once more where it matters";
        RowLifted = "row-lifted",
            "writers of one region disagreed in their clocks; what the region's store holds was given a version above",
            "if it is frequent, synchronise the clocks of that region's writers";
        CacheFailing = "cache-failing",
            "the region's cache refuses or cannot be reached; refreshes are tried again",
            "check the cache's health, URL and credentials; entries live no longer than their ttl meanwhile";
        CacheParked = "cache-parked",
            "the region's cache has taken nothing for a while; what it misses is kept as hints, and nothing waits for it",
            "bring the cache back: it is refreshed from the hints by itself";
        CacheRecovered = "cache-recovered",
            "the region's cache takes refreshes again",
            "none";
        CacheTokenFailing = "cache-token-failing",
            "no new Entra token for the region's cache can be had; the old one serves until it expires",
            "check the credential and the reach of its token service; without a token the cache is lost when the old one expires";
        CacheTokenRenewed = "cache-token-renewed",
            "there is a new Entra token for the region's cache after there was none",
            "none";
        CacheLost = "cache-lost",
            "the region's cache has been emptied, or holds what it held some time ago: it was flushed or restarted",
            "run `tablerelay cache warm` for the region, or let readers fill it; see the field loss";
        CacheUnwatched = "cache-unwatched",
            "the cache's markers cannot be read or written, so nobody would notice that it was flushed",
            "let the cache's user write the keys that the template makes of the table relaycontrol";
        CacheWatched = "cache-watched",
            "the cache's markers can be read and written again after `cache-unwatched`",
            "none";
        CacheWarming = "cache-warming",
            "a cache that was emptied is being filled from its region's tables",
            "none";
        CacheWarmed = "cache-warmed",
            "a cache has been filled from its region's tables",
            "none";
        CacheNotWarmed = "cache-not-warmed",
            "a cache that was emptied could not be filled; it is tried again",
            "read the error; `tablerelay cache warm` does the same by hand";
        QueueFailing = "queue-failing",
            "the queue relay-changes cannot be read; messages stay in it",
            "check that the account has queues, and the credential's role (Storage Queue Data Contributor)";
        QueueRecovered = "queue-recovered",
            "the queue relay-changes can be read again",
            "none";
        ReadersRefused = "readers-refused",
            "the region is further behind than a table's max_staleness allows, and `/health/read` answers 503",
            "see which link into the region is behind (`tablerelay status`); it serves again by itself";
        ReadersServedStale = "readers-served-stale",
            "the region is further behind than a table's max_staleness allows, and serves all the same: none is known to be fresher",
            "see which link into the region is behind (`tablerelay status`), and whether the other regions can be reached";
        ReadersServed = "readers-served",
            "the region is within its limit on staleness",
            "none";
        RowUnreadable = "row-unreadable",
            "a row of a system table cannot be read and is passed over; the line names it",
            "see whether a newer version of the program runs somewhere, or another program writes system tables";
        ConnectionFailing = "connection-failing",
            "`store serve` cannot take a connection, or not as it should; it goes on",
            "raise the limit of open files where that is what the line says";
        Panicked = "panicked",
            "a thread panicked; the line says where, and the task-failed line behind it which task died of it",
            "the daemon ends and its supervisor starts it again; report it, with both lines";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_a_closed_list() {
        crate::model::assert_well_formed::<Event>();
    }
}
