//! The tables of a region: its accounts and its cache.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::routes::routes;
use super::secret::Secret;
use super::section::Section;
use super::settings::{Access, AccountSettings, CacheSettings, CredentialChoice, RegionSettings};
use crate::cache::{CacheMode, KeyTemplate};
use crate::model::AccountName;
use crate::stores::azure::CredentialKind;
use crate::stores::redis::RedisUrl;
use crate::topology::Role;

/// Looks up a variable of the environment.
pub(super) type Variable<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// Which place belongs to which key: one storage account under two names would be replicated to itself.
#[derive(Debug, Default)]
pub(super) struct Places(BTreeMap<String, String>);

impl Places {
    fn take(&mut self, section: &Section<'_>, place: &Url) {
        let place = place.as_str().trim_end_matches('/').to_ascii_lowercase();
        match self.0.get(&place) {
            Some(other) => {
                section.problem("", format!("is the same storage account as {other}; each should be named once"));
            }
            None => drop(self.0.insert(place, section.path().to_owned())),
        }
    }
}

/// Reads `[region.NAME]`; nothing where something that is needed is missing or wrong.
pub(super) fn region(section: Section<'_>, variable: &Variable<'_>, places: &mut Places) -> Option<RegionSettings> {
    let role = section.required::<Role>("role");
    let cache = section.optional_table("cache").map(|section| cache(section, variable));
    let accounts = accounts(&section, variable, places, Reads::Queue);
    // Checked where an account is wrong too: only its name is needed.
    let names = section.named("account").into_iter().filter_map(|(name, _)| AccountName::new(name).ok());
    let routes = routes(&section, &names.collect());
    section.finish();
    let cache = match cache {
        Some(cache) => Some(cache?),
        None => None,
    };
    Some(RegionSettings { role: role?, routes: routes?, accounts: accounts?, cache })
}

/// Whether anybody reads what is announced in an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reads {
    /// The account of a region: its daemon does, and its queue may say so.
    Queue,
    /// That of a copy: nobody writes there.
    Nothing,
}

/// Reads every `[….account.NAME]` of a region or a copy; nothing where something is missing or wrong.
pub(super) fn accounts(
    section: &Section<'_>,
    variable: &Variable<'_>,
    places: &mut Places,
    reads: Reads,
) -> Option<BTreeMap<AccountName, AccountSettings>> {
    let sections = section.named("account");
    if sections.is_empty() {
        section.problem("", "has no account; each has a table of its own, as in [region.west.account.west1]");
    }
    let mut accounts = Some(BTreeMap::new());
    for (name, section) in sections {
        let named = AccountName::new(name).map_err(|err| section.problem("", err.to_string())).ok();
        match (named.zip(account(section, variable, places, reads)), &mut accounts) {
            (Some((name, settings)), Some(accounts)) => drop(accounts.insert(name, settings)),
            (None, accounts) => *accounts = None,
            (Some(_), None) => {}
        }
    }
    accounts
}

/// Reads `[….account.NAME]`.
fn account(
    section: Section<'_>,
    variable: &Variable<'_>,
    places: &mut Places,
    reads: Reads,
) -> Option<AccountSettings> {
    let connection_string = section.get::<Secret>("connection_string");
    let table_endpoint = section.get::<Secret>("table_endpoint");
    let queue_endpoint = section.get::<Secret>("queue_endpoint");
    let credential = credential(&section, &CredentialKind::ALL, variable);
    let queue = match reads {
        Reads::Queue => section.get::<bool>("queue"),
        Reads::Nothing => Some(false),
    };
    let by_string = section.has("connection_string");
    for key in ["table_endpoint", "queue_endpoint", "credential"] {
        if by_string && section.has(key) {
            section.problem(key, "should not be beside connection_string, which says it all");
        }
    }
    let access = match (connection_string, table_endpoint, credential) {
        (Some(connection_string), _, _) => Some(Access::ConnectionString { connection_string }),
        (None, Some(table_endpoint), Some(credential)) if !by_string => {
            Some(Access::Endpoints { table_endpoint, queue_endpoint, credential })
        }
        (None, ..) if by_string => None,
        (None, Some(_), None) if !section.has("credential") => {
            section.problem("credential", format!("is missing beside table_endpoint; it should be {}", kinds()));
            None
        }
        (None, None, _) if !section.has("table_endpoint") => {
            section.problem("", "should have connection_string, or table_endpoint with credential");
            None
        }
        (None, ..) => None,
    };
    let settings = access.and_then(|access| complete(&section, access, queue, places));
    section.finish();
    settings
}

/// Checks what can be known of an account before anything is sent to it.
fn complete(
    section: &Section<'_>,
    access: Access,
    queue: Option<bool>,
    places: &mut Places,
) -> Option<AccountSettings> {
    let key = match &access {
        Access::ConnectionString { .. } => "connection_string",
        Access::Endpoints { .. } => "table_endpoint",
    };
    let target = match access.target() {
        Ok(target) => target,
        Err(err) => {
            // Some of its messages begin with the name of the key.
            let message = err.to_string();
            let named = ["table_endpoint", "queue_endpoint"]
                .into_iter()
                .find_map(|key| message.strip_prefix(key)?.strip_prefix(' ').map(|message| (key, message.to_owned())));
            let (key, message) = named.unwrap_or((key, message));
            section.problem(key, message);
            return None;
        }
    };
    places.take(section, target.table_endpoint());
    if queue == Some(true) && !target.has_queue() {
        section.problem("queue", "is true, but the account has no queue endpoint; give it one, or leave this out");
        return None;
    }
    Some(AccountSettings { access, queue: queue.unwrap_or(target.has_queue()) })
}

fn kinds() -> String {
    use super::section::Setting;
    CredentialKind::expected()
}

/// Reads a credential and what it needs. What it needs may also be in the variables that every Azure SDK reads.
fn credential(section: &Section<'_>, allowed: &[CredentialKind], variable: &Variable<'_>) -> Option<CredentialChoice> {
    let kind = section.get::<CredentialKind>("credential");
    let mut choice = CredentialChoice {
        kind: kind.unwrap_or(CredentialKind::ManagedIdentity),
        tenant_id: section.get("tenant_id"),
        client_id: section.get("client_id"),
        client_secret: section.get("client_secret"),
        sas: if allowed.contains(&CredentialKind::Sas) { section.get("sas") } else { None },
    };
    let kind = kind?;
    if !allowed.contains(&kind) {
        let words: Vec<_> = allowed.iter().map(|kind| kind.as_str()).collect();
        section.problem("credential", format!("should be one of {}, but is {kind}", words.join(", ")));
        return None;
    }
    for key in ["tenant_id", "client_id", "client_secret", "sas"] {
        if section.has(key) && !takes(kind, key) {
            section.problem(key, format!("means nothing to the credential {kind}; take it out"));
        }
    }
    if kind == CredentialKind::ClientSecret {
        let found = |name| variable(name).filter(|value: &String| !value.is_empty());
        choice.tenant_id = choice.tenant_id.or_else(|| found("AZURE_TENANT_ID"));
        choice.client_id = choice.client_id.or_else(|| found("AZURE_CLIENT_ID"));
        choice.client_secret =
            choice.client_secret.or_else(|| found("AZURE_CLIENT_SECRET").map(|text| Secret::new(&text)));
        let given = [choice.tenant_id.is_some(), choice.client_id.is_some(), choice.client_secret.is_some()];
        for (key, given) in ["tenant_id", "client_id", "client_secret"].into_iter().zip(given) {
            if !given && !section.has(key) {
                let variable = format!("AZURE_{}", key.to_ascii_uppercase());
                section.problem(key, format!("is missing; the credential {kind} needs it, here or in {variable}"));
            }
        }
        given.iter().all(|given| *given).then_some(())?;
    }
    Some(choice)
}

fn takes(kind: CredentialKind, key: &str) -> bool {
    match kind {
        CredentialKind::ManagedIdentity => key == "client_id",
        CredentialKind::WorkloadIdentity => matches!(key, "client_id" | "tenant_id"),
        CredentialKind::ClientSecret => key != "sas",
        CredentialKind::Sas => key == "sas",
        CredentialKind::DeveloperTools => false,
    }
}

/// What may stand for a password of Redis: a Microsoft Entra token, however it is come by.
const CACHE_CREDENTIALS: [CredentialKind; 4] = [
    CredentialKind::ManagedIdentity,
    CredentialKind::WorkloadIdentity,
    CredentialKind::ClientSecret,
    CredentialKind::DeveloperTools,
];

/// How long an entry lives where nothing else is said: long enough to be of use, short enough to be gone by itself.
const TTL: Duration = Duration::from_secs(3_600);

/// Reads `[region.NAME.cache]`.
fn cache(section: Section<'_>, variable: &Variable<'_>) -> Option<CacheSettings> {
    let url = section.required::<RedisUrl>("url");
    let cluster = section.or("cluster", false);
    let mode = section.or("mode", CacheMode::WriteThrough);
    let ttl = section.within("ttl", TTL, Duration::from_secs(1)..=Duration::from_secs(365 * 86_400));
    let key = section.or("key", KeyTemplate::default());
    let warm_when_emptied = section.or("warm_when_emptied", false);
    if warm_when_emptied && mode != CacheMode::WriteThrough {
        let mode = mode.as_str();
        section.problem(
            "warm_when_emptied",
            format!(
                "is true, but only with mode = \"write-through\" is a cache filled by \
            anybody but its readers, and the mode is {mode}; change one of the two"
            ),
        );
    }
    let warm_rate = section.within("warm_rate", 500u32, 1..=100_000);
    let ca_file = section.get::<String>("ca_file").map(PathBuf::from);
    let credential = credential(&section, &CACHE_CREDENTIALS, variable);
    let together = |url: &RedisUrl| url.check(cluster, section.has("credential"), ca_file.is_some());
    if let Some(Err(err)) = url.as_ref().map(together) {
        section.problem("url", err.to_string());
    }
    section.finish();
    Some(CacheSettings { url: url?, cluster, mode, ttl, key, warm_when_emptied, warm_rate, ca_file, credential })
}
