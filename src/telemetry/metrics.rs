//! Every metric, as a function with typed labels.
//!
//! The names are constants here and nowhere else. Without a recorder (the simulator, tests) a call does nothing. Handles
//! are not kept: a look-up costs some hundred nanoseconds, and calls come once a request or once a batch, not once a row.

use std::time::Duration;

use metrics::{counter, describe_counter, describe_gauge, gauge};

use crate::closed_list;
use crate::feed::Reason;
use crate::model::{AccountName, Addressee, ClosedList, Region, Time};
use crate::settle::LinkState;
use crate::stores::{ErrorKind, Loss, RefreshOutcome};
use crate::topology::Role;

/// Age of the oldest change that was seen and is not in the destination, in seconds; zero while there is none.
pub const LAG_SECONDS: &str = "tablerelay_lag_seconds";
/// Last Sync Time of a link, in seconds since 1970.
pub const LAST_SYNC_TIMESTAMP_SECONDS: &str = "tablerelay_last_sync_timestamp_seconds";
/// Rows settled at a destination, by what became of them: an [`ApplyOutcome`].
pub const CHANGES_APPLIED_TOTAL: &str = "tablerelay_changes_applied_total";
/// Rows of which the destination held a newer version, by the region whose version won.
pub const CONFLICTS_TOTAL: &str = "tablerelay_conflicts_total";
/// How long ago the time is up to which a region has everything that was written anywhere, in seconds; where a table has a limit.
pub const STALENESS_SECONDS: &str = "tablerelay_staleness_seconds";
/// 1 while `/health/read` lets readers in, as far as staleness goes, 0 while it does not; where a table has a limit.
pub const READS_SERVED: &str = "tablerelay_reads_served";
/// Distinct rows that wait for a destination.
pub const BACKLOG_ROWS: &str = "tablerelay_backlog_rows";
/// 1 for the state that a link is in, 0 for every other [`LinkState`].
pub const LINK_STATE: &str = "tablerelay_link_state";
/// Rows that lie in quarantine, by destination (`*`: all of them) and [`Reason`].
pub const QUARANTINED_ROWS: &str = "tablerelay_quarantined_rows";
/// Requests to storage accounts, each try counted: by [`StoreOperation`] and `ok` or an [`ErrorKind`].
pub const STORE_REQUESTS_TOTAL: &str = "tablerelay_store_requests_total";
/// 1 while a storage account asks for less and is asked less, 0 otherwise.
pub const ACCOUNT_THROTTLED: &str = "tablerelay_account_throttled";
/// Requests that were not sent, since their account asks for less.
pub const REQUESTS_HELD_BACK_TOTAL: &str = "tablerelay_requests_held_back_total";
/// Cache keys refreshed, by what became of them: a [`CacheOutcome`].
pub const CACHE_REFRESHES_TOTAL: &str = "tablerelay_cache_refreshes_total";
/// How often a cache was found to have lost something: a [`Loss`].
pub const CACHE_LOSSES_TOTAL: &str = "tablerelay_cache_losses_total";
/// Records in an account's feed that are not settled yet.
pub const FEED_RECORDS: &str = "tablerelay_feed_records";
/// 1 for the role that the daemon's region has, 0 for every other [`Role`].
pub const REGION_ROLE: &str = "tablerelay_region_role";
/// The epoch of the roles that the daemon goes by: it counts failovers.
pub const ROLE_EPOCH: &str = "tablerelay_role_epoch";
/// When the scrubber's last complete pass over a pair of regions began, in seconds since 1970.
pub const VERIFIED_TIMESTAMP_SECONDS: &str = "tablerelay_verified_timestamp_seconds";
/// Rows that that pass found to differ.
pub const VERIFY_DIFFERENCES: &str = "tablerelay_verify_differences";
/// Tombstones of an account that stood after the last sweep of the collector.
pub const TOMBSTONES: &str = "tablerelay_tombstones";
/// Tombstones of an account that the collector has deleted.
pub const TOMBSTONES_COLLECTED_TOTAL: &str = "tablerelay_tombstones_collected_total";
/// Tombstones of a region that are older than the minimum age and stay, since something else holds them back.
pub const TOMBSTONES_OVERDUE: &str = "tablerelay_tombstones_overdue";
/// Up to when tombstones of a region may go, in seconds since 1970; 0 while none may.
pub const TOMBSTONE_WATERMARK_TIMESTAMP_SECONDS: &str = "tablerelay_tombstone_watermark_timestamp_seconds";
/// Rows that the mover has demoted, by the account that they went to.
pub const ROWS_DEMOTED_TOTAL: &str = "tablerelay_rows_demoted_total";
/// Rows of a region in their cold places after the mover's last pass.
pub const COLD_ROWS: &str = "tablerelay_cold_rows";
/// When the mover's last complete pass over a region began, in seconds since 1970.
pub const DEMOTED_TIMESTAMP_SECONDS: &str = "tablerelay_demoted_timestamp_seconds";
/// Rows that were written in a region while it was no writer, by what became of them: a [`LateOutcome`].
pub const LATE_WRITES_TOTAL: &str = "tablerelay_late_writes_total";

closed_list! {
    /// What became of a row that was delivered.
    pub enum ApplyOutcome {
        Inserted = "inserted",
            "the row was absent and was inserted",
            "none";
        Replaced = "replaced",
            "an older version was replaced",
            "none";
        Deleted = "deleted",
            "a delete was delivered: the tombstone stands and the row is gone",
            "none";
        Equal = "equal",
            "the destination had this version already",
            "none";
        Superseded = "superseded",
            "the destination had a newer version, which stands",
            "none; where a change was lost by it, `tablerelay conflicts list` names it";
        Lifted = "lifted",
            "a version of the destination's own region was lifted above one that its store had overruled",
            "if it is frequent, synchronise the clocks of that region's writers";
        Quarantined = "quarantined",
            "the row cannot be applied as it is and lies in RelayQuarantine",
            "run `tablerelay quarantine list`, mend the cause";
        Journaled = "journaled",
            "the row was written where nobody may write, and stands in the conflict journal instead of here",
            "run `tablerelay conflicts list`";
        Kept = "kept",
            "the row was deleted, and the copy keeps such rows as they were",
            "none";
        Filtered = "filtered",
            "the row does not go to this copy, by the copy's filter",
            "none";
    }
}

closed_list! {
    /// What became of a late write: of one in a region that is no writer.
    pub enum LateOutcome {
        Merged = "merged",
            "it was brought to the writer's region like any other",
            "find out which application still writes there, unless a failover has just passed";
        Journaled = "journaled",
            "it is in the conflict journal, and what the writer has stands everywhere",
            "find out which application still writes there; write what was lost once more, in the writer's region, where it matters";
    }
}

closed_list! {
    /// What was asked of a storage account.
    pub enum StoreOperation {
        Get = "get", "one row read by its keys", "none";
        Query = "query", "one page of a range of rows", "none";
        Write = "write", "one row inserted, replaced, merged or deleted", "none";
        Transact = "transact", "an entity group transaction", "none";
        CreateTable = "create-table", "a table created", "none";
        DeleteTable = "delete-table", "a table deleted", "none";
        ListTables = "list-tables", "the names of all tables", "none";
        CreateQueue = "create-queue", "the queue created", "none";
        QueueReceive = "queue-receive", "messages received from the queue", "none";
        QueueDelete = "queue-delete", "a message deleted from the queue", "none";
        QueueSend = "queue-send", "a message sent to the queue", "none";
    }
}

closed_list! {
    /// What became of a cache refresh.
    pub enum CacheOutcome {
        Stored = "stored",
            "the cache holds the row now",
            "none";
        Marked = "marked",
            "the cache holds the mark of a deleted row now",
            "none";
        Invalidated = "invalidated",
            "an older entry was taken out",
            "none";
        Current = "current",
            "the cache held this version already",
            "none";
        Newer = "newer",
            "the cache held a newer version, which stays",
            "none";
        Absent = "absent",
            "the row is not in the cache and the mode does not put it there",
            "none";
        Full = "full",
            "the cache is out of memory and did not take the row; readers find it in the table",
            "give the cache more memory, or a maxmemory-policy that evicts";
        Foreign = "foreign",
            "the row's key holds something else, which was left alone; readers find the row in the table",
            "remove the key, or give the cache a key template of its own";
        Failed = "failed",
            "the cache refused or could not be reached; the refresh is tried again",
            "check the cache's health, URL and credentials";
    }
}

impl From<RefreshOutcome> for CacheOutcome {
    fn from(outcome: RefreshOutcome) -> Self {
        match outcome {
            RefreshOutcome::Stored => Self::Stored,
            RefreshOutcome::Marked => Self::Marked,
            RefreshOutcome::Invalidated => Self::Invalidated,
            RefreshOutcome::Current => Self::Current,
            RefreshOutcome::Newer => Self::Newer,
            RefreshOutcome::Absent => Self::Absent,
            RefreshOutcome::Full => Self::Full,
            RefreshOutcome::Foreign => Self::Foreign,
        }
    }
}

/// Rows that were settled at a destination.
pub fn change_applied(destination: &Region, outcome: ApplyOutcome, rows: u64) {
    counter!(CHANGES_APPLIED_TOTAL, "destination" => text(destination), "outcome" => outcome.as_str()).increment(rows);
}

/// A change of the destination's own that was lost to a newer write of another region; `winner` is the region whose
/// version stands.
pub fn conflict(destination: &Region, winner: &Region) {
    counter!(CONFLICTS_TOTAL, "destination" => text(destination), "winner" => text(winner)).increment(1);
}

/// The lag of a link.
pub fn lag(source: &Region, destination: &Region, lag: Duration) {
    gauge!(LAG_SECONDS, "source" => text(source), "destination" => text(destination)).set(lag.as_secs_f64());
}

/// The Last Sync Time of a link.
pub fn last_sync(source: &Region, destination: &Region, time: Time) {
    gauge!(LAST_SYNC_TIMESTAMP_SECONDS, "source" => text(source), "destination" => text(destination))
        .set(time.unix_seconds());
}

/// How far a region is behind what was written anywhere.
pub fn staleness(region: &Region, staleness: Duration) {
    gauge!(STALENESS_SECONDS, "region" => text(region)).set(staleness.as_secs_f64());
}

/// Whether a region lets readers in.
pub fn reads_served(region: &Region, served: bool) {
    gauge!(READS_SERVED, "region" => text(region)).set(if served { 1.0 } else { 0.0 });
}

/// How many distinct rows wait for a destination, or for the region's own cache.
pub fn backlog(destination: &Addressee, rows: u64) {
    gauge!(BACKLOG_ROWS, "destination" => destination.to_string()).set(rows as f64);
}

/// The state of a link.
pub fn link_state(source: &Region, destination: &Region, state: LinkState) {
    for &each in LinkState::ALL {
        let labels = [("source", text(source)), ("destination", text(destination)), ("state", each.to_string())];
        gauge!(LINK_STATE, &labels).set(if each == state { 1.0 } else { 0.0 });
    }
}

/// How many rows lie in quarantine for a destination (`None`: for all of them) and a reason.
pub fn quarantined(destination: Option<&Region>, reason: Reason, rows: u64) {
    let destination = destination.map_or_else(|| "*".to_owned(), text);
    gauge!(QUARANTINED_ROWS, "destination" => destination, "reason" => reason.as_str()).set(rows as f64);
}

/// One request to a storage account, and how it ended.
pub fn store_request(
    region: &Region,
    account: &AccountName,
    operation: StoreOperation,
    outcome: Result<(), ErrorKind>,
) {
    let status = outcome.map_or_else(ErrorKind::as_str, |()| "ok");
    let labels = [
        ("region", text(region)),
        ("account", account.as_str().to_owned()),
        ("operation", operation.to_string()),
        ("status", status.to_owned()),
    ];
    counter!(STORE_REQUESTS_TOTAL, &labels).increment(1);
}

/// Whether a storage account asks for less.
pub fn account_throttled(region: &Region, account: &AccountName, throttled: bool) {
    let labels = [("region", text(region)), ("account", account.as_str().to_owned())];
    gauge!(ACCOUNT_THROTTLED, &labels).set(if throttled { 1.0 } else { 0.0 });
}

/// A request that was not sent, since its account asks for less.
pub fn held_back(region: &Region, account: &AccountName) {
    let labels = [("region", text(region)), ("account", account.as_str().to_owned())];
    counter!(REQUESTS_HELD_BACK_TOTAL, &labels).increment(1);
}

/// Cache keys that were refreshed.
pub fn cache_refresh(region: &Region, outcome: CacheOutcome, keys: u64) {
    counter!(CACHE_REFRESHES_TOTAL, "region" => text(region), "outcome" => outcome.as_str()).increment(keys);
}

/// A cache lost something: so many times more.
pub fn cache_lost(region: &Region, loss: Loss, times: u64) {
    counter!(CACHE_LOSSES_TOTAL, "region" => text(region), "loss" => loss.as_str()).increment(times);
}

/// How many records an account's feed holds.
pub fn feed_records(account: &AccountName, records: u64) {
    gauge!(FEED_RECORDS, "account" => account.as_str().to_owned()).set(records as f64);
}

/// The role of the daemon's region.
pub fn region_role(region: &Region, role: Role) {
    for &each in Role::ALL {
        let labels = [("region", text(region)), ("role", each.to_string())];
        gauge!(REGION_ROLE, &labels).set(if each == role { 1.0 } else { 0.0 });
    }
}

/// The epoch of the roles that a daemon of the region goes by.
pub fn role_epoch(region: &Region, epoch: u64) {
    gauge!(ROLE_EPOCH, "region" => text(region)).set(epoch as f64);
}

/// A late write of a region was found.
pub fn late_write(region: &Region, outcome: LateOutcome) {
    counter!(LATE_WRITES_TOTAL, "region" => text(region), "outcome" => outcome.as_str()).increment(1);
}

/// The last complete pass of the scrubber over a pair: when it began, and how many rows differed.
pub fn verified(source: &Region, destination: &Region, began: Time, different: u64) {
    let labels = [("source", text(source)), ("destination", text(destination))];
    gauge!(VERIFIED_TIMESTAMP_SECONDS, &labels).set(began.unix_seconds());
    gauge!(VERIFY_DIFFERENCES, &labels).set(different as f64);
}

/// What stood of an account's tombstones after a sweep.
pub fn tombstones(account: &AccountName, standing: u64) {
    gauge!(TOMBSTONES, "account" => account.as_str().to_owned()).set(standing as f64);
}

/// Tombstones of an account were deleted.
pub fn tombstones_collected(account: &AccountName, rows: u64) {
    counter!(TOMBSTONES_COLLECTED_TOTAL, "account" => account.as_str().to_owned()).increment(rows);
}

/// Rows were demoted to a cold place in this account.
pub fn rows_demoted(account: &AccountName, rows: u64) {
    counter!(ROWS_DEMOTED_TOTAL, "account" => account.as_str().to_owned()).increment(rows);
}

/// The last complete pass of a region's mover: when it began, and how many rows are cold.
pub fn demotion(region: &Region, began: Time, cold: u64) {
    gauge!(DEMOTED_TIMESTAMP_SECONDS, "region" => text(region)).set(began.unix_seconds());
    gauge!(COLD_ROWS, "region" => text(region)).set(cold as f64);
}

/// Up to when tombstones of a region may go, and how many stay for want of that.
pub fn tombstone_watermark(region: &Region, before: Option<Time>, overdue: u64) {
    let seconds = before.map_or(0.0, Time::unix_seconds);
    gauge!(TOMBSTONE_WATERMARK_TIMESTAMP_SECONDS, "region" => text(region)).set(seconds);
    gauge!(TOMBSTONES_OVERDUE, "region" => text(region)).set(overdue as f64);
}

/// Gives the recorder the help text of every metric.
pub fn describe() {
    describe_gauge!(LAG_SECONDS, "Age of the oldest change that was seen and is not in the destination, in seconds.");
    describe_gauge!(LAST_SYNC_TIMESTAMP_SECONDS, "Last Sync Time of a link, in seconds since 1970.");
    describe_counter!(CHANGES_APPLIED_TOTAL, "Rows settled at a destination, by what became of them.");
    describe_counter!(CONFLICTS_TOTAL, "Rows of which the destination held a newer version, by the winning region.");
    describe_gauge!(
        BACKLOG_ROWS,
        "Distinct rows that wait for a destination, or for the region's cache (cache@REGION)."
    );
    describe_gauge!(STALENESS_SECONDS, "How far a region is behind what was written anywhere, in seconds.");
    describe_gauge!(
        READS_SERVED,
        "1 while a region is within its limit on staleness or the freshest, 0 while readers are refused."
    );
    describe_gauge!(LINK_STATE, "1 for the state that a link is in, 0 for the others.");
    describe_gauge!(QUARANTINED_ROWS, "Rows in quarantine, by destination (* for all) and reason.");
    describe_counter!(STORE_REQUESTS_TOTAL, "Requests to storage accounts, each try counted.");
    describe_gauge!(ACCOUNT_THROTTLED, "1 while a storage account asks for less and is asked less, 0 otherwise.");
    describe_counter!(REQUESTS_HELD_BACK_TOTAL, "Requests that were not sent, since their account asks for less.");
    describe_counter!(CACHE_REFRESHES_TOTAL, "Cache keys refreshed, by what became of them.");
    describe_counter!(CACHE_LOSSES_TOTAL, "How often a cache was found emptied or set back.");
    describe_gauge!(REGION_ROLE, "1 for the role that the daemon's region has, 0 for the others.");
    describe_gauge!(ROLE_EPOCH, "Epoch of the roles that the daemon goes by: it counts failovers.");
    describe_counter!(LATE_WRITES_TOTAL, "Rows that were written in a region while it was no writer.");
    describe_gauge!(
        VERIFIED_TIMESTAMP_SECONDS,
        "When the scrubber's last complete pass over a pair of regions began, in seconds since 1970."
    );
    describe_gauge!(VERIFY_DIFFERENCES, "Rows that the scrubber's last complete pass over a pair found to differ.");
    describe_gauge!(TOMBSTONES, "Tombstones of an account that stood after the last sweep of the collector.");
    describe_counter!(
        TOMBSTONES_COLLECTED_TOTAL,
        "Tombstones of an account that were deleted, since nothing needs them."
    );
    describe_gauge!(
        TOMBSTONES_OVERDUE,
        "Tombstones older than the minimum age that stay, since something else holds them back."
    );
    describe_gauge!(
        TOMBSTONE_WATERMARK_TIMESTAMP_SECONDS,
        "Up to when tombstones of a region may go, in seconds since 1970; 0 while none may."
    );
    describe_gauge!(FEED_RECORDS, "Records in an account's feed that are not settled yet.");
}

fn text(region: &Region) -> String {
    region.as_str().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::assert_well_formed;
    use metrics_exporter_prometheus::PrometheusBuilder;

    fn every_metric_once() {
        let (west, north) = (Region::new("west").unwrap(), Region::new("north").unwrap());
        let account = AccountName::new("west1").unwrap();
        change_applied(&north, ApplyOutcome::Inserted, 3);
        conflict(&north, &west);
        lag(&west, &north, Duration::from_millis(1_500));
        last_sync(&west, &north, Time::from_unix_seconds(1_000));
        backlog(&Addressee::Region(north.clone()), 4);
        backlog(&Addressee::Cache(west.clone()), 5);
        staleness(&north, Duration::from_millis(2_500));
        reads_served(&north, true);
        link_state(&west, &north, LinkState::Parked);
        link_state(&west, &north, LinkState::Flowing);
        quarantined(None, Reason::BadJson, 2);
        store_request(&west, &account, StoreOperation::Get, Ok(()));
        store_request(&west, &account, StoreOperation::Get, Err(ErrorKind::Throttled));
        account_throttled(&west, &account, true);
        held_back(&west, &account);
        cache_refresh(&west, CacheOutcome::from(RefreshOutcome::Stored), 5);
        cache_lost(&west, Loss::Emptied, 1);
        feed_records(&account, 6);
        region_role(&west, Role::Standby);
        role_epoch(&west, 2);
        verified(&north, &west, Time::from_unix_seconds(1_000), 3);
        tombstones(&account, 8);
        tombstones_collected(&account, 9);
        tombstone_watermark(&west, Some(Time::from_unix_seconds(900)), 2);
    }

    #[test]
    fn every_metric_is_rendered_under_the_name_and_labels_that_are_promised() {
        let recorder = PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, || {
            describe();
            every_metric_once();
        });
        let mut lines: Vec<_> = recorder.handle().render().lines().map(str::to_owned).collect();
        lines.retain(|line| !line.starts_with('#') && !line.is_empty());
        lines.sort();
        insta::assert_snapshot!(lines.join("\n"), @r#"
        tablerelay_account_throttled{region="west",account="west1"} 1
        tablerelay_backlog_rows{destination="cache@west"} 5
        tablerelay_backlog_rows{destination="north"} 4
        tablerelay_cache_losses_total{region="west",loss="emptied"} 1
        tablerelay_cache_refreshes_total{region="west",outcome="stored"} 5
        tablerelay_changes_applied_total{destination="north",outcome="inserted"} 3
        tablerelay_conflicts_total{destination="north",winner="west"} 1
        tablerelay_feed_records{account="west1"} 6
        tablerelay_lag_seconds{source="west",destination="north"} 1.5
        tablerelay_last_sync_timestamp_seconds{source="west",destination="north"} 1000
        tablerelay_link_state{source="west",destination="north",state="backing-off"} 0
        tablerelay_link_state{source="west",destination="north",state="flowing"} 1
        tablerelay_link_state{source="west",destination="north",state="parked"} 0
        tablerelay_quarantined_rows{destination="*",reason="bad-json"} 2
        tablerelay_reads_served{region="north"} 1
        tablerelay_region_role{region="west",role="replica"} 0
        tablerelay_region_role{region="west",role="standby"} 1
        tablerelay_region_role{region="west",role="writer"} 0
        tablerelay_requests_held_back_total{region="west",account="west1"} 1
        tablerelay_role_epoch{region="west"} 2
        tablerelay_staleness_seconds{region="north"} 2.5
        tablerelay_store_requests_total{region="west",account="west1",operation="get",status="ok"} 1
        tablerelay_store_requests_total{region="west",account="west1",operation="get",status="throttled"} 1
        tablerelay_tombstone_watermark_timestamp_seconds{region="west"} 900
        tablerelay_tombstones_collected_total{account="west1"} 9
        tablerelay_tombstones_overdue{region="west"} 2
        tablerelay_tombstones{account="west1"} 8
        tablerelay_verified_timestamp_seconds{source="north",destination="west"} 1000
        tablerelay_verify_differences{source="north",destination="west"} 3
        "#);
    }

    #[test]
    fn every_metric_has_a_help_text() {
        let recorder = PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, || {
            describe();
            every_metric_once();
        });
        let text = recorder.handle().render();
        let about = |word: &str| text.lines().filter(|line| line.starts_with(word)).count();
        assert_eq!((about("# HELP"), about("# TYPE")), (23, 23), "{text}");
    }

    #[test]
    fn labels_are_closed_lists() {
        assert_well_formed::<ApplyOutcome>();
        assert_well_formed::<StoreOperation>();
        assert_well_formed::<CacheOutcome>();
    }
}
