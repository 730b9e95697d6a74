//! What can be typed.

mod whole;

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};

use super::rebalance::RebalanceCommand;
use super::route::RouteCommand;
use crate::config::typed_duration;
use crate::model::{ClosedList, Region, TableName, Version};
use crate::stores::azure::DEVELOPMENT_ACCOUNT;
use crate::telemetry::{LogFormat, LogLevel};

pub(super) use self::whole::{BackfillCommand, BackfillPair, BackfillStart, BackfillWork, VerifyCommand};

/// Replicates Azure Table Storage between regions and keeps each region's Redis cache fresh.
///
/// Exit codes: 0 done, 1 failed or refused, 2 usage or configuration, 3 differences found (verify, drill), 4 timed out (wait).
#[derive(Debug, Parser)]
#[command(name = "tablerelay", version, propagate_version = true, arg_required_else_help = true)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub log: Log,
    #[command(subcommand)]
    pub command: Command,
}

/// How log lines are written to standard error.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct Log {
    /// The form of log lines; goes before [log] format
    #[arg(long = "log-format", global = true, value_name = "FORMAT", value_parser = words::<LogFormat>())]
    pub format: Option<LogFormat>,
    /// The level of log lines; goes before [log] level
    #[arg(long = "log-level", global = true, value_name = "LEVEL", env = "TABLERELAY_LOG", hide_env_values = true,
        value_parser = words::<LogLevel>())]
    pub level: Option<LogLevel>,
}

/// The words of a closed list, each with its meaning.
fn words<L: ClosedList + Send + Sync>() -> impl TypedValueParser<Value = L> {
    let words = L::ALL.iter().map(|item| clap::builder::PossibleValue::new(item.as_str()).help(item.meaning()));
    PossibleValuesParser::new(words).try_map(|word| L::parse(&word).ok_or("no such word"))
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the daemon of one region
    Run(Run),
    /// Watch three regions in one process: conflicts, crashes, a region cut off; nothing to install
    ///
    /// Six writers, two in each region and with clocks that are wrong, write rows of their own and a few rows that all
    /// of them write. One region is cut off from the others and healed. When the writers have stopped and the feeds are
    /// empty, all regions and caches are compared row by row; exit code 1 where they differ.
    ///
    /// What the table shows of a link: lag is the age of the oldest change that was seen and is not at the destination;
    /// up to its last sync everything that was announced is there (a writer that crashed before it wrote holds that back
    /// for the settle window); backlog counts the rows that wait. Of a region: feed counts the announcements that are
    /// not settled yet, cache behind the rows that its cache does not hold as its table does.
    Demo(Demo),
    /// Show every link: state, lag, Last Sync Time, what waits
    Status(Status),
    /// Show one row in every region: versions, what waits, what is held, and what will happen to it next
    Inspect(Inspect),
    /// Wait until a region has a write, to read there what one wrote elsewhere
    ///
    /// With --table, --partition and --row it ends when that row stands in the region at the version or above, or is
    /// absent there with such a tombstone. Without, when Last Sync Time of the link from the version's region has passed the
    /// version's time: everything up to it is there. Exit code 4 where that does not come in time.
    #[command(disable_version_flag = true)]
    Wait(Wait),
    /// Move the role of a writer to another region
    ///
    /// Planned, which is the default, loses nothing: the old writer takes no more writes, what it wrote is delivered, and
    /// only then the role moves. It may be interrupted at any time; until the role has moved, the old writer goes on.
    ///
    /// Forced works with the old region gone. It says first what is at risk: exactly, row by row, where the old store can be
    /// read, and an estimate by what was published last where it cannot.
    Failover(FailoverCommand),
    /// Rehearse the loss of a region: cut it off, fail over, come back, compare all rows, and report as Markdown
    ///
    /// The daemons of all regions take the region for cut off: nothing passes between it and the others, and its health
    /// endpoints answer 503. If it is a writer, its role is forced to another region and brought back by a planned failover at
    /// the end. Storage cannot be cut off: applications that go on writing there do so, and what they write comes late. The cut
    /// ends by itself at its deadline, also where this command is killed. Exit code 3 where rows differ at the end.
    Drill(DrillCommand),
    /// Compare two regions row by row, and make them equal with --repair
    ///
    /// All replicated tables of both regions are read side by side. A row that differs is looked at again once it had time to be
    /// brought, and counts then. What an open announcement, a hint or the quarantine names is told by that, and is no
    /// difference. How far it is stands in RelayControl of the first region, for --resume.
    ///
    /// With --repair each difference is settled as daemons settle it: the higher version stands on both sides, a row that was deleted stays
    /// deleted, and what the second region has newer is announced in the first one. It may run beside daemons, and again where
    /// it was cut off. Exit code 3 where rows differ and are not mended.
    Verify(VerifyCommand),
    /// Copy the tables of a region that holds data already to another region, while both are in use
    #[command(subcommand)]
    Backfill(BackfillCommand),
    /// Move rows to the accounts that the configuration wants them in, while everybody reads and writes
    ///
    /// First start all daemons with the configuration that has the new routes or accounts. Rows are copied, then the new routes are put
    /// in force, what is still written by the old ones is brought over, and only what was seen at its new place is deleted at the old
    /// one. It may be stopped or killed at any time: run it again, and it goes on. A configuration that was put back meanwhile takes it back,
    /// as long as the new routes are not in force.
    Rebalance(RebalanceCommand),
    /// Say which account of a region holds a row
    ///
    /// By the routes in force, which the region's daemons have published; before they have, by the configuration.
    Route(RouteCommand),
    /// Bring rows of a copy back into a region, from where every region gets them
    ///
    /// Each row that differs is written in the region as an application would write it: with a new version, announced, and only if
    /// nobody has written it meanwhile. A row that was deleted is written over its tombstone. Where the copy has a part of the
    /// properties, the others stay as they are in the region. What is newer in the region is left, unless --over-newer is given. Run
    /// again, it writes nothing where it is done. Exit code 1 where rows could not be written.
    Restore(super::restore::RestoreCommand),
    /// Check or print the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Look at what could not be replicated, and deal with it
    #[command(subcommand)]
    Quarantine(QuarantineCommand),
    /// Fill a region's cache
    #[command(subcommand)]
    Cache(CacheCommand),
    /// Look at what two regions changed at the same time
    #[command(subcommand)]
    Conflicts(ConflictsCommand),
    /// Serve the embedded store, for tests and benchmarks
    #[command(subcommand)]
    Store(StoreCommand),
}

/// The file that describes every region.
#[derive(Debug, Clone, Args)]
pub(super) struct ConfigFile {
    /// The configuration file
    #[arg(long = "config", value_name = "FILE", env = "TABLERELAY_CONFIG", hide_env_values = true)]
    pub file: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct Run {
    #[command(flatten)]
    pub config: ConfigFile,
    /// The region whose daemon this is
    #[arg(long, value_name = "NAME", env = "TABLERELAY_REGION", hide_env_values = true, value_parser = Region::new)]
    pub region: Region,
}

#[derive(Debug, Args)]
pub(super) struct Demo {
    /// How long the writers write, 1s to 10m
    #[arg(long = "for", value_name = "TIME", default_value = "10s", value_parser = demo_time)]
    pub writing: Duration,
    /// Most changes a second, by all six writers together
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    pub rate: u32,
    /// What the writers' choices are drawn from, to see the same again
    #[arg(long, value_name = "N")]
    pub seed: Option<u32>,
    /// Change a row behind the line's back before the end, to see that the comparison notices
    #[arg(long)]
    pub spoil: bool,
    /// The form of the verdict
    #[arg(long, value_name = "FORM", default_value = "table")]
    pub output: Output,
}

fn demo_time(text: &str) -> Result<Duration, String> {
    let time = typed_duration(text)?;
    let fits = (Duration::from_secs(1)..=Duration::from_secs(600)).contains(&time);
    fits.then_some(time).ok_or_else(|| "it should be from 1s to 10m".to_owned())
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// For people
    Table,
    /// For programs
    Json,
}

#[derive(Debug, Args)]
pub(super) struct Status {
    #[command(flatten)]
    pub config: ConfigFile,
    /// The form of the result
    #[arg(long, value_name = "FORM", default_value = "table")]
    pub output: Output,
}

#[derive(Debug, Args)]
pub(super) struct Wait {
    #[command(flatten)]
    pub config: ConfigFile,
    /// The version that the write was given
    #[arg(long, value_name = "VERSION", value_parser = Version::parse)]
    pub version: Version,
    /// The region that is to have it
    #[arg(long, value_name = "NAME", env = "TABLERELAY_REGION", hide_env_values = true, value_parser = Region::new)]
    pub region: Region,
    /// The table of one row that is waited for
    #[arg(long, value_name = "NAME", value_parser = TableName::new, requires_all = ["partition", "row"])]
    pub table: Option<TableName>,
    /// The row's PartitionKey; may be empty
    #[arg(long, value_name = "KEY", allow_hyphen_values = true, requires_all = ["table", "row"])]
    pub partition: Option<String>,
    /// The row's RowKey; may be empty
    #[arg(long, value_name = "KEY", allow_hyphen_values = true, requires_all = ["table", "partition"])]
    pub row: Option<String>,
    /// How long at most
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = typed_duration)]
    pub timeout: Duration,
    /// The form of the result
    #[arg(long, value_name = "FORM", default_value = "table")]
    pub output: Output,
}

#[derive(Debug, Args)]
pub(super) struct Inspect {
    #[command(flatten)]
    pub config: ConfigFile,
    /// The row's table
    #[arg(long, value_name = "NAME", value_parser = TableName::new)]
    pub table: TableName,
    /// The row's PartitionKey; may be empty
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    pub partition: String,
    /// The row's RowKey; may be empty
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    pub row: String,
    /// The form of the result
    #[arg(long, value_name = "FORM", default_value = "table")]
    pub output: Output,
}

#[derive(Debug, Args)]
pub(super) struct FailoverCommand {
    #[command(flatten)]
    pub config: ConfigFile,
    /// The region that is to be a writer
    #[arg(long, value_name = "NAME", value_parser = Region::new)]
    pub to: Region,
    /// The region that is to give its role up, where several are writers
    #[arg(long, value_name = "NAME", value_parser = Region::new)]
    pub from: Option<Region>,
    /// Wait until nothing is left behind; this is the default
    #[arg(long, conflicts_with_all = ["force", "again"])]
    pub planned: bool,
    /// Do not wait for the old writer's region, which may be gone
    #[arg(long)]
    pub force: bool,
    /// Do not ask for confirmation of what a forced one puts at risk
    #[arg(long)]
    pub yes: bool,
    /// Force it although the roles were moved just now
    #[arg(long, requires = "force")]
    pub again: bool,
    /// How long a planned failover may take before it is given up, 1s to 1h
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = failover_time, conflicts_with = "force")]
    pub deadline: Duration,
    /// Why, for the trail
    #[arg(long, value_name = "TEXT")]
    pub why: Option<String>,
    /// Who, for the trail, in the place of the user and machine
    #[arg(long, value_name = "TEXT")]
    pub who: Option<String>,
    /// The form of the result
    #[arg(long, value_name = "FORM", default_value = "table")]
    pub output: Output,
}

fn failover_time(text: &str) -> Result<Duration, String> {
    let time = typed_duration(text)?;
    let fits = (Duration::from_secs(1)..=Duration::from_secs(3_600)).contains(&time);
    fits.then_some(time).ok_or_else(|| "it should be from 1s to 1h".to_owned())
}

#[derive(Debug, Args)]
pub(super) struct DrillCommand {
    #[command(flatten)]
    pub config: ConfigFile,
    /// The region that is cut off
    #[arg(long, value_name = "NAME", value_parser = Region::new)]
    pub region: Region,
    /// Do it: without this nothing is done
    #[arg(long)]
    pub yes: bool,
    /// How long the region is cut off at least, 1s to 1h
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = failover_time)]
    pub hold: Duration,
    /// After how long the cut ends by itself, 1s to 1h: longer than --hold by what a failover takes
    #[arg(long, value_name = "TIME", default_value = "3m", value_parser = failover_time)]
    pub deadline: Duration,
    /// Why, for the trail and the report
    #[arg(long, value_name = "TEXT")]
    pub why: Option<String>,
    /// Who, for the trail and the report, in the place of the user and machine
    #[arg(long, value_name = "TEXT")]
    pub who: Option<String>,
    /// The form of the report
    #[arg(long, value_name = "FORM", default_value = "markdown")]
    pub output: ReportForm,
}

/// How a report is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ReportForm {
    /// For people
    Markdown,
    /// For programs
    Json,
}

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Say everything that is wrong with it; exit 0 or 2
    Check(ConfigFile),
    /// Print the effective settings as TOML, secrets masked
    Print(ConfigFile),
}

#[derive(Debug, Subcommand)]
pub(super) enum QuarantineCommand {
    /// List what lies in quarantine, in every region
    List(List),
    /// Show one entry whole, with what it means and what to do about it
    Show(Show),
    /// Announce it again, after the cause was mended
    Replay(Replayed),
    /// Take it out of quarantine and leave everything else as it is
    Drop(Dropped),
}

#[derive(Debug, Subcommand)]
pub(super) enum CacheCommand {
    /// Put every row of the replicated tables into the cache, as after a flush
    ///
    /// Reads the region's tables page by page. A row never replaces a newer one, so it may run beside daemons, and be run
    /// again where it was cut off. Refused where the mode of the cache is not write-through: there, readers fill it.
    Warm(Warm),
}

#[derive(Debug, Args)]
pub(super) struct Warm {
    #[command(flatten)]
    pub config: ConfigFile,
    /// The region whose cache it is
    #[arg(long, value_name = "NAME", env = "TABLERELAY_REGION", hide_env_values = true, value_parser = Region::new)]
    pub region: Region,
    /// One table alone
    #[arg(long, value_name = "NAME", value_parser = TableName::new)]
    pub table: Option<TableName>,
    /// Most rows a second; goes before the cache's warm_rate
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rate: Option<u32>,
    /// The form of the result
    #[arg(long, value_name = "FORM", default_value = "table")]
    pub output: Output,
}

#[derive(Debug, Subcommand)]
pub(super) enum ConflictsCommand {
    /// List the conflicts that every region's journal names
    List(Conflicts),
    /// Show one conflict with both rows
    Show(ShowConflict),
}

#[derive(Debug, Subcommand)]
pub(super) enum StoreCommand {
    /// Speak the Table REST API over a store in memory, as strict as Azure, until SIGTERM
    ///
    /// Prints a connection string for each account, a line each, once it listens. What was written is gone when it ends.
    /// Without --account it is the emulators' well-known account, so that on port 10002 UseDevelopmentStorage=true finds
    /// it. Faults can be asked for over HTTP, at /_control/ACCOUNT.
    Serve(Serve),
}

#[derive(Debug, Args)]
pub(super) struct Serve {
    /// Where to listen; port 0 is one that the system chooses
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:10002")]
    pub listen: std::net::SocketAddr,
    /// An account by its name; once for each
    #[arg(long = "account", value_name = "NAME")]
    pub accounts: Vec<String>,
    /// The key of all accounts, in base64
    #[arg(long, value_name = "KEY", env = "TABLERELAY_STORE_KEY", hide_env_values = true,
        default_value = DEVELOPMENT_ACCOUNT.1, hide_default_value = true, value_parser = key)]
    pub key: Key,
}

/// An account's key, which is not shown.
#[derive(Clone)]
pub(super) struct Key(pub Vec<u8>);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

fn key(text: &str) -> Result<Key, &'static str> {
    let bytes = BASE64.decode(text).ok().filter(|bytes| !bytes.is_empty());
    bytes.map(Key).ok_or("it should be base64 of at least one byte")
}

#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    pub config: ConfigFile,
    /// Most entries of each region
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub limit: u32,
    /// The form of the result
    #[arg(long, value_name = "FORM", default_value = "table")]
    pub output: Output,
}

#[derive(Debug, Args)]
pub(super) struct Show {
    /// The entry, as `quarantine list` names it: 16 hex digits
    #[arg(value_name = "ID", value_parser = entry_id)]
    pub id: String,
    #[command(flatten)]
    pub config: ConfigFile,
    /// The form of the result
    #[arg(long, value_name = "FORM", default_value = "table")]
    pub output: Output,
}

#[derive(Debug, Args)]
pub(super) struct Replayed {
    /// The entry, as `quarantine list` names it: 16 hex digits
    #[arg(value_name = "ID", value_parser = entry_id)]
    pub id: String,
    /// Give its rows a new version of the region that holds them instead, which is replicated like any other change
    #[arg(long)]
    pub restamp: bool,
    #[command(flatten)]
    pub config: ConfigFile,
    /// The form of the result
    #[arg(long, value_name = "FORM", default_value = "table")]
    pub output: Output,
}

#[derive(Debug, Args)]
pub(super) struct Dropped {
    /// The entry, as `quarantine list` names it: 16 hex digits
    #[arg(value_name = "ID", value_parser = entry_id)]
    pub id: String,
    #[command(flatten)]
    pub config: ConfigFile,
    /// The form of the result
    #[arg(long, value_name = "FORM", default_value = "table")]
    pub output: Output,
}

#[derive(Debug, Args)]
pub(super) struct Conflicts {
    #[command(flatten)]
    pub config: ConfigFile,
    /// Those of one table alone
    #[arg(long, value_name = "TABLE")]
    pub table: Option<String>,
    /// Most conflicts of each region
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub limit: u32,
    /// The form of the result
    #[arg(long, value_name = "FORM", default_value = "table")]
    pub output: Output,
}

#[derive(Debug, Args)]
pub(super) struct ShowConflict {
    /// The conflict, as `conflicts list` names it: 16 hex digits
    #[arg(value_name = "ID", value_parser = entry_id)]
    pub id: String,
    #[command(flatten)]
    pub config: ConfigFile,
    /// The form of the result
    #[arg(long, value_name = "FORM", default_value = "table")]
    pub output: Output,
}

fn entry_id(text: &str) -> Result<String, &'static str> {
    let hex = text.len() == 16 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if hex { Ok(text.to_owned()) } else { Err("it should be 16 lower-case hex digits, as `list` shows them") }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_demo_lasts_from_a_second_to_ten_minutes() {
        assert_eq!(demo_time("1500ms"), Ok(Duration::from_millis(1_500)));
        for bad in ["999ms", "11m", "10", "soon"] {
            assert!(demo_time(bad).unwrap_err().starts_with("it should be"), "{bad}");
        }
    }
}
