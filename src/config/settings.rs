//! The checked form: what the rest of the program works with. Whoever holds one need not look at it twice.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::secret::Secret;
use super::{duration, kinds};
use crate::cache::{CacheMode, KeyTemplate};
use crate::model::{AccountName, ClosedList, Consistency, Region, TableConsistency};
use crate::stores::azure::{AccountTarget, CredentialKind, CredentialSettings, TargetError};
use crate::stores::redis::RedisUrl;
use crate::telemetry::{LogFormat, LogLevel};
use crate::topology::{Alone, CopyRule, FileRoles, LateWrites, Role, Routes, TableFilter};

/// The settings of all regions: one file for every daemon.
///
/// Serialized it is that file again, with every default written out and secrets masked.
#[derive(Debug, Clone, Serialize)]
pub struct Settings {
    /// `[log]`
    pub log: LogSettings,
    /// `[admin]`
    pub admin: AdminSettings,
    /// `[health]`
    pub health: HealthSettings,
    /// `[replication]`
    pub replication: ReplicationSettings,
    /// `[failover]`
    pub failover: FailoverSettings,
    /// `[scrubber]`
    pub scrubber: ScrubberSettings,
    /// `[tombstones]`
    pub tombstones: TombstoneSettings,
    /// `[tiers]`
    pub tiers: TierSettings,
    /// `[http]`
    pub http: HttpSettings,
    /// `[table.NAME]`: which tables are replicated.
    #[serde(skip)]
    pub tables: TableFilter,
    /// What their readers may count on.
    #[serde(rename = "table", serialize_with = "as_tables")]
    pub consistency: TableConsistency,
    /// `[region.NAME]`: at least one.
    #[serde(rename = "region")]
    pub regions: BTreeMap<Region, RegionSettings>,
    /// `[copy.NAME]`: destinations that are no regions. No name is that of a region.
    #[serde(rename = "copy", skip_serializing_if = "BTreeMap::is_empty")]
    pub copies: BTreeMap<Region, CopySettings>,
}

/// `[log]`: what is logged to standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LogSettings {
    /// In which form.
    pub format: LogFormat,
    /// From which level on.
    pub level: LogLevel,
}

/// `[admin]`: the endpoint for probes, metrics and people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct AdminSettings {
    /// Where it listens.
    pub listen: SocketAddr,
}

/// `[health]`: who is answered what by the probes of load balancers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct HealthSettings {
    /// Where probes alone are answered; with `None`, where `[admin]` listens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// What a region does that is too far behind and hears of no other.
    pub alone: Alone,
}

/// `[replication]`: the protocol's windows, and how hard the line works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ReplicationSettings {
    /// How long after its announcement a write may still arrive.
    #[serde(serialize_with = "duration::serialize")]
    pub settle_window: Duration,
    /// How far ahead of the storage clock a version may lie.
    #[serde(serialize_with = "duration::serialize")]
    pub max_clock_skew: Duration,
    /// How long to wait before a shard is read again while changes come in.
    #[serde(serialize_with = "duration::serialize")]
    pub poll_busy: Duration,
    /// The same while none come.
    #[serde(serialize_with = "duration::serialize")]
    pub poll_idle: Duration,
    /// Most open records of one shard in memory; more stay in the feed until there is room.
    pub max_open_records: u32,
    /// Most requests under way to one region at a time.
    pub requests_in_flight: u32,
    /// Most rows that one batch takes to a destination.
    pub batch_rows: u32,
    /// While a shard holds at most this many tombstones, they are read in one query instead of one by one.
    pub tombstone_scan: u32,
    /// How long a conflict stays in the journal.
    #[serde(serialize_with = "duration::serialize")]
    pub keep_conflicts: Duration,
    /// Most conflicts in a region's journal.
    pub most_conflicts: u32,
    /// How long a destination may take nothing before it is parked.
    #[serde(serialize_with = "duration::serialize")]
    pub park_after: Duration,
    /// How long a daemon of a region counts as there after the others heard of it last.
    #[serde(serialize_with = "duration::serialize")]
    pub lease: Duration,
}

/// `[failover]`: how roles move, and what becomes of what is written in the wrong place meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct FailoverSettings {
    /// How soon after a failover a forced one is refused.
    #[serde(serialize_with = "duration::serialize")]
    pub cool_down: Duration,
    /// What becomes of what is written in a region that is no writer.
    pub late_writes: LateWrites,
    /// How often every daemon reads the roles of every region.
    #[serde(serialize_with = "duration::serialize")]
    pub poll: Duration,
}

/// `[scrubber]`: how often, and how fast, daemons compare the regions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ScrubberSettings {
    /// From the beginning of a pass over a pair of regions to that of the next; zero for never.
    #[serde(serialize_with = "duration::serialize")]
    pub every: Duration,
    /// How many rows of a pair are compared in a second at most.
    pub rows_per_second: u32,
}

impl Default for ScrubberSettings {
    fn default() -> Self {
        Self { every: Duration::from_secs(24 * 3_600), rows_per_second: 1_000 }
    }
}

/// `[tombstones]`: when what a delete left behind is deleted in its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct TombstoneSettings {
    /// Whether it ever is.
    pub collect: bool,
    /// How old a tombstone is at least that goes.
    #[serde(serialize_with = "duration::serialize")]
    pub minimum_age: Duration,
    /// From the beginning of a sweep over a region's tombstones to that of the next.
    #[serde(serialize_with = "duration::serialize")]
    pub every: Duration,
    /// How many tombstones of a region are gone through in a second at most.
    pub rows_per_second: u32,
}

impl Default for TombstoneSettings {
    fn default() -> Self {
        let day = Duration::from_secs(24 * 3_600);
        Self { collect: true, minimum_age: day * 7, every: day / 4, rows_per_second: 500 }
    }
}

/// `[tiers]`: how often, and how fast, old rows are moved to the cold places that routes name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct TierSettings {
    /// From the beginning of a pass over a region's rows to that of the next.
    #[serde(serialize_with = "duration::serialize")]
    pub every: Duration,
    /// How many rows of a region are gone through in a second at most.
    pub rows_per_second: u32,
}

impl Default for TierSettings {
    fn default() -> Self {
        Self { every: Duration::from_secs(3_600), rows_per_second: 5_000 }
    }
}

/// `[http]`: requests to storage accounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HttpSettings {
    /// How long a connection may take to be made.
    #[serde(serialize_with = "duration::serialize")]
    pub connect_timeout: Duration,
    /// How long a reply may be silent.
    #[serde(serialize_with = "duration::serialize")]
    pub read_timeout: Duration,
    /// How long one try of a request may take in all; at most half the settle window.
    #[serde(serialize_with = "duration::serialize")]
    pub total_timeout: Duration,
    /// A PEM file of certificate authorities to trust besides the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

/// `[region.NAME]`
#[derive(Debug, Clone, Serialize)]
pub struct RegionSettings {
    /// What the region is for.
    pub role: Role,
    /// `[region.NAME.route.NAME]` and `spread`: which account holds which rows.
    #[serde(flatten, serialize_with = "super::routes::written")]
    pub routes: Routes,
    /// `[region.NAME.account.NAME]`: at least one.
    #[serde(rename = "account")]
    pub accounts: BTreeMap<AccountName, AccountSettings>,
    /// `[region.NAME.cache]`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheSettings>,
}

/// `[copy.NAME]`
#[derive(Debug, Clone, Serialize)]
pub struct CopySettings {
    /// What of the tables goes there.
    #[serde(flatten, serialize_with = "super::copy::written")]
    pub rule: CopyRule,
    /// `[copy.NAME.account.NAME]`: at least one.
    #[serde(rename = "account", serialize_with = "super::copy::written_accounts")]
    pub accounts: BTreeMap<AccountName, AccountSettings>,
}

/// `[region.NAME.account.NAME]` or `[copy.NAME.account.NAME]`: a storage account.
#[derive(Debug, Clone, Serialize)]
pub struct AccountSettings {
    /// Where it is and how it lets us in.
    #[serde(flatten)]
    pub access: Access,
    /// Whether its queue `relay-changes` is read.
    pub queue: bool,
}

/// Where an account is and how it lets us in.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Access {
    /// By a connection string, as Azure writes it.
    ConnectionString {
        /// The string.
        connection_string: Secret,
    },
    /// By endpoints and a credential.
    Endpoints {
        /// The URL of its tables. A query (a "SAS URL") is a secret and is not shown.
        #[serde(serialize_with = "without_query")]
        table_endpoint: Secret,
        /// The URL of its queues.
        #[serde(skip_serializing_if = "Option::is_none", serialize_with = "maybe_without_query")]
        queue_endpoint: Option<Secret>,
        /// How it lets us in.
        #[serde(flatten)]
        credential: CredentialChoice,
    },
}

/// A credential by its name, with what it needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CredentialChoice {
    /// Which one.
    #[serde(rename = "credential", serialize_with = "as_text")]
    pub kind: CredentialKind,
    /// Microsoft Entra tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<String>,
    /// The application, or the user-assigned identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// The application's secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<Secret>,
    /// A shared access signature.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sas: Option<Secret>,
}

/// `[region.NAME.cache]`: the region's Redis.
#[derive(Debug, Clone, Serialize)]
pub struct CacheSettings {
    /// Where it is. A password in it is not shown.
    #[serde(serialize_with = "as_text")]
    pub url: RedisUrl,
    /// Whether it is a Redis cluster.
    pub cluster: bool,
    /// How it is kept.
    #[serde(serialize_with = "as_mode")]
    pub mode: CacheMode,
    /// How long an entry lives after its last refresh.
    #[serde(serialize_with = "duration::serialize")]
    pub ttl: Duration,
    /// How the key of a row is made.
    #[serde(serialize_with = "as_text")]
    pub key: KeyTemplate,
    /// Whether the daemon fills it by itself once it was emptied.
    pub warm_when_emptied: bool,
    /// Most rows a second that warming reads and puts in.
    pub warm_rate: u32,
    /// A PEM file of the certificate authorities to trust instead of the public ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// A Microsoft Entra credential, where the URL has no password.
    #[serde(flatten)]
    pub credential: Option<CredentialChoice>,
}

impl Settings {
    /// The roles that the file gives to all regions.
    pub fn roles(&self) -> FileRoles {
        FileRoles::new(self.regions.iter().map(|(name, region)| (name.clone(), region.role)).collect())
    }
}

impl Access {
    /// What the storage client is made from.
    ///
    /// # Errors
    /// What is wrong with it; no secret is repeated.
    pub fn target(&self) -> Result<AccountTarget, TargetError> {
        match self {
            Self::ConnectionString { connection_string } => {
                AccountTarget::from_connection_string(connection_string.expose())
            }
            Self::Endpoints { table_endpoint, queue_endpoint, credential } => AccountTarget::new(
                table_endpoint.expose(),
                queue_endpoint.as_ref().map(Secret::expose),
                credential.kind,
                &credential.settings(),
            ),
        }
    }
}

impl CredentialChoice {
    /// The same in the words of the storage client.
    pub fn settings(&self) -> CredentialSettings {
        let secret = |secret: &Option<Secret>| secret.as_ref().map(|secret| SecretString::from(secret.expose()));
        CredentialSettings {
            tenant_id: self.tenant_id.clone(),
            client_id: self.client_id.clone(),
            client_secret: secret(&self.client_secret),
            sas: secret(&self.sas),
        }
    }
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { format: LogFormat::Human, level: LogLevel::Info }
    }
}

impl Default for AdminSettings {
    fn default() -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9464)) }
    }
}

impl Default for HealthSettings {
    fn default() -> Self {
        Self { listen: None, alone: Alone::Serve }
    }
}

impl Default for ReplicationSettings {
    fn default() -> Self {
        Self {
            settle_window: Duration::from_secs(60),
            max_clock_skew: Duration::from_secs(60),
            poll_busy: Duration::from_millis(20),
            poll_idle: Duration::from_millis(1_400),
            max_open_records: 16_384,
            requests_in_flight: 64,
            batch_rows: 500,
            tombstone_scan: 1_000,
            keep_conflicts: Duration::from_secs(30 * 24 * 3_600),
            most_conflicts: 10_000,
            park_after: Duration::from_secs(10),
            lease: Duration::from_secs(8),
        }
    }
}

impl Default for FailoverSettings {
    fn default() -> Self {
        Self { cool_down: Duration::from_secs(600), late_writes: LateWrites::Merge, poll: Duration::from_secs(1) }
    }
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            read_timeout: Duration::from_secs(15),
            total_timeout: Duration::from_secs(25),
            ca_file: None,
        }
    }
}

fn as_text<T: ToString, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&value.to_string())
}

fn as_mode<S: Serializer>(mode: &CacheMode, serializer: S) -> Result<S::Ok, S::Error> {
    let word = kinds::CACHE_MODES.iter().find(|(_, each)| each == mode).map_or("", |(word, _)| word);
    serializer.serialize_str(word)
}

/// A table as the file has it.
#[derive(Serialize)]
struct Promised {
    consistency: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_staleness: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    copies: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    copies_within: Option<String>,
}

impl Promised {
    fn of(consistency: Consistency) -> Self {
        let bare = |kind: kinds::Kind| Self {
            consistency: kind.as_str(),
            max_staleness: None,
            copies: None,
            copies_within: None,
        };
        match consistency {
            Consistency::Eventual => bare(kinds::Kind::Eventual),
            Consistency::Bounded { max_staleness } => {
                Self { max_staleness: Some(duration::render(max_staleness)), ..bare(kinds::Kind::Bounded) }
            }
            Consistency::Synchronous { copies, within } => {
                let within = Some(duration::render(within));
                Self { copies: Some(copies), copies_within: within, ..bare(kinds::Kind::Synchronous) }
            }
        }
    }
}

/// `[table."*"]` stands for all where no table has a name.
fn as_tables<S: Serializer>(tables: &TableConsistency, serializer: S) -> Result<S::Ok, S::Error> {
    let named = tables.named.iter().map(|(table, consistency)| (table.as_str(), *consistency));
    let every = tables.named.is_empty().then_some(("*", tables.every));
    let mut map = serializer.serialize_map(None)?;
    for (name, consistency) in named.chain(every) {
        map.serialize_entry(name, &Promised::of(consistency))?;
    }
    map.end()
}

fn without_query<S: Serializer>(endpoint: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
    let (url, query) = endpoint.expose().split_once('?').map_or((endpoint.expose(), ""), |(url, _)| (url, "?***"));
    serializer.collect_str(&format_args!("{url}{query}"))
}

#[expect(clippy::ref_option, reason = "the shape that serde asks for")]
fn maybe_without_query<S: Serializer>(endpoint: &Option<Secret>, serializer: S) -> Result<S::Ok, S::Error> {
    match endpoint {
        Some(endpoint) => without_query(endpoint, serializer),
        None => serializer.serialize_none(),
    }
}
