//! From settings to stores: the one place that knows which adapter a region is reached by.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::cache::CacheMode;
use crate::config::{AccountSettings, CacheSettings, CopySettings, HttpSettings, RegionSettings};
use crate::model::{AccountName, Region};
use crate::replicator::{CacheSetup, CopySetup};
use crate::resolve::Freshness;
use crate::runtime::Runtime;
use crate::stores::azure::{AzureQueue, AzureTables, ConnectError as AzureError, Credential, HttpOptions};
use crate::stores::azure::{CredentialError, TargetError};
use crate::stores::redis::{RedisCache, RedisTarget, TargetError as RedisError};
use crate::stores::{
    Account, CHANGES_QUEUE, Cache, Metered, MeteredQueue, RegionStore, Retrying, Throttled, ThrottledQueue,
};

/// A store that cannot be reached by its settings, before anything was sent.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// An account's address or credential.
    #[error("account.{account} of {region}: {error}")]
    Target {
        /// The region.
        region: Region,
        /// The account.
        account: AccountName,
        /// What is wrong.
        error: TargetError,
    },
    /// An account's client.
    #[error("account.{account} of {region}: {error}")]
    Client {
        /// The region.
        region: Region,
        /// The account.
        account: AccountName,
        /// What is wrong.
        error: AzureError,
    },
    /// A region's cache.
    #[error("region.{region}.cache: {error}")]
    Cache {
        /// The region.
        region: Region,
        /// What is wrong.
        error: RedisError,
    },
    /// The credential of a region's cache.
    #[error("region.{region}.cache.credential: {error}")]
    CacheCredential {
        /// The region.
        region: Region,
        /// What is wrong.
        error: CredentialError,
    },
    /// A certificate file.
    #[error("{key}: {} cannot be read: {error}", .file.display())]
    File {
        /// The setting that names it.
        key: String,
        /// The file.
        file: PathBuf,
        /// What is wrong.
        error: std::io::Error,
    },
}

/// Makes stores from settings.
#[derive(Debug, Clone)]
pub struct Connector {
    options: HttpOptions,
    runtime: Runtime,
    patience: Duration,
}

/// How long a request waits for its turn at a throttled account where nobody says otherwise.
const PATIENCE: Duration = Duration::from_millis(250);

impl Connector {
    /// Takes the settings of `[http]`.
    ///
    /// # Errors
    /// [`ConnectError::File`] where its `ca_file` cannot be read.
    pub fn new(http: &HttpSettings, runtime: Runtime) -> Result<Self, ConnectError> {
        let extra_roots = http.ca_file.as_deref().map(|file| read("http.ca_file", file)).transpose()?;
        let options = HttpOptions {
            connect_timeout: http.connect_timeout,
            read_timeout: http.read_timeout,
            total_timeout: http.total_timeout,
            extra_roots: extra_roots.into_iter().collect(),
            ..HttpOptions::default()
        };
        Ok(Self { options, runtime, patience: PATIENCE })
    }

    /// The same with a shorter patience, for a person who waits at a terminal.
    #[must_use]
    pub fn within(mut self, timeout: Duration) -> Self {
        self.options.total_timeout = self.options.total_timeout.min(timeout);
        self
    }

    /// The same for a line with this settle window.
    #[must_use]
    pub fn for_window(mut self, settle_window: Duration) -> Self {
        self.patience = Freshness::patience(settle_window);
        self
    }

    /// The tables of a region, and its queues where it is the region that this daemon is for.
    ///
    /// # Errors
    /// [`ConnectError`] where an account's target or client cannot be made.
    pub fn region(&self, region: &Region, settings: &RegionSettings, own: bool) -> Result<RegionStore, ConnectError> {
        let accounts = self.accounts(region, &settings.accounts, own)?;
        Ok(RegionStore::routed(region.clone(), accounts, settings.routes.clone()))
    }

    /// A copy, and what goes there.
    ///
    /// # Errors
    /// [`ConnectError`] where an account's target or client cannot be made.
    pub fn copy(&self, name: &Region, settings: &CopySettings) -> Result<CopySetup, ConnectError> {
        let store = RegionStore::new(name.clone(), self.accounts(name, &settings.accounts, false)?);
        Ok(CopySetup { store, rule: Arc::new(settings.rule.clone()) })
    }

    fn accounts(
        &self,
        region: &Region,
        accounts: &BTreeMap<AccountName, AccountSettings>,
        own: bool,
    ) -> Result<Vec<Account>, ConnectError> {
        accounts.iter().map(|(name, settings)| self.account(region, name, settings, own)).collect()
    }

    fn account(
        &self,
        region: &Region,
        account: &AccountName,
        settings: &AccountSettings,
        own: bool,
    ) -> Result<Account, ConnectError> {
        let client = |error| ConnectError::Client { region: region.clone(), account: account.clone(), error };
        let target = settings.access.target().map_err(|error| ConnectError::Target {
            region: region.clone(),
            account: account.clone(),
            error,
        })?;
        let runtime = || self.runtime.clone();
        let tables = AzureTables::connect(region.clone(), account.clone(), &target, &self.options, runtime());
        let throttled = Throttled::new(Metered::new(tables.map_err(client)?), runtime(), self.patience);
        let tables = Retrying::new(throttled.clone(), runtime());
        if !(own && settings.queue) {
            return Ok(Account { tables, queue: None });
        }
        let queue = AzureQueue::connect(&target, CHANGES_QUEUE, &self.options, runtime()).map_err(client)?;
        let queue = MeteredQueue::new(region.clone(), account.clone(), queue);
        Ok(Account { tables, queue: Some(ThrottledQueue::beside(&throttled, queue)) })
    }

    /// A region's cache and its keys.
    ///
    /// # Errors
    /// [`ConnectError`] where its target or credential cannot be made.
    pub fn cache(&self, region: &Region, settings: &CacheSettings) -> Result<CacheSetup, ConnectError> {
        let mut target = RedisTarget::new(settings.url.clone(), settings.mode);
        target.cluster = settings.cluster;
        target.ttl = Some(settings.ttl);
        if let Some(file) = &settings.ca_file {
            target.root_certificates = Some(read(&format!("region.{region}.cache.ca_file"), file)?);
        }
        if let Some(choice) = &settings.credential {
            let error = |error| ConnectError::CacheCredential { region: region.clone(), error };
            match Credential::named(choice.kind, &choice.settings()).map_err(error)? {
                Credential::Token(token) => target.credential = Some(token),
                // The configuration allows a cache no other kind.
                Credential::SharedKey(_) | Credential::Sas(_) => {}
            }
        }
        let cache = RedisCache::new(target, &self.runtime);
        let cache = cache.map_err(|error| ConnectError::Cache { region: region.clone(), error })?;
        let markers: Arc<dyn Cache> = Arc::new(cache.client(CacheMode::WriteThrough, None));
        let warm = settings.warm_when_emptied.then_some(settings.warm_rate);
        Ok(CacheSetup { cache: Arc::new(cache), markers: Some(markers), keys: settings.key.clone(), warm })
    }
}

fn read(key: &str, file: &Path) -> Result<Vec<u8>, ConnectError> {
    std::fs::read(file).map_err(|error| ConnectError::File { key: key.to_owned(), file: file.to_owned(), error })
}
