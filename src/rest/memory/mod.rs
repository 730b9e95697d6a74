//! The embedded store as a server: accounts in memory for any Azure SDK, with faults on demand.
//!
//! A failure that the store answers is a reply. One that it does not answer is a connection that is closed without a
//! reply: before the request took effect, or after. What goes wrong is said through
//! [`Faults`](crate::stores::memory::Faults), or over HTTP, for programs in other languages and for people: see
//! [`control`].

mod control;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use tokio_util::sync::CancellationToken;

use super::{Admission, Served, Server, ServerError};
use crate::model::{AccountName, NameError, Region};
use crate::runtime::Runtime;
use crate::stores::SharedKey;
use crate::stores::memory::MemoryTables;

/// A name and a key.
#[derive(Clone)]
pub struct MemoryAccount {
    name: AccountName,
    key: Vec<u8>,
    shared: SharedKey,
}

/// An account that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// Its name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Its key.
    #[error("the key of the account {0} should have at least one byte")]
    Key(AccountName),
}

impl MemoryAccount {
    /// An account of this name, `[a-z0-9-]{1,24}`, for whoever has its key.
    ///
    /// # Errors
    /// [`AccountError`] where the name is none, or the key is empty.
    pub fn new(name: &str, key: &[u8]) -> Result<Self, AccountError> {
        let name = AccountName::new(name)?;
        let shared = SharedKey::new(name.as_str(), key).ok_or_else(|| AccountError::Key(name.clone()))?;
        Ok(Self { name, key: key.to_vec(), shared })
    }
}

impl fmt::Debug for MemoryAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryAccount").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A listener for accounts in memory. They are empty at first, and gone with it.
#[derive(Debug)]
pub struct MemoryServer {
    server: Server,
    accounts: BTreeMap<String, (MemoryAccount, Arc<MemoryTables>)>,
}

impl MemoryServer {
    /// Listens on an address, with port 0 on one that the system chooses. `runtime` is the clock of the accounts.
    ///
    /// # Errors
    /// [`ServerError`] where the address cannot be had.
    pub async fn bind(
        address: SocketAddr,
        accounts: impl IntoIterator<Item = MemoryAccount>,
        runtime: Runtime,
    ) -> Result<Self, ServerError> {
        let region = Region::new(REGION).unwrap_or_else(|_| unreachable!("the name is lower case and short"));
        let accounts: BTreeMap<_, _> = accounts
            .into_iter()
            .map(|account| {
                let tables = MemoryTables::new(region.clone(), account.name.clone(), runtime.clone());
                (account.name.as_str().to_owned(), (account, tables))
            })
            .collect();
        let served = accounts.iter().map(|(name, (account, tables))| {
            let admission = Admission::Key(account.shared.clone());
            (name.clone(), Served { tables: tables.clone(), admission })
        });
        let server = Server::bind(address, served.collect(), runtime).await?;
        Ok(Self { server, accounts })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// What a client of this account is given; `None` where there is no such account. It holds the key.
    pub fn connection_string(&self, account: &str) -> Option<String> {
        let (name, (account, _)) = self.accounts.get_key_value(account)?;
        Some(format!(
            "DefaultEndpointsProtocol=http;AccountName={name};AccountKey={};TableEndpoint=http://{}/{name};",
            BASE64.encode(&account.key),
            self.address()
        ))
    }

    /// The store of this account, past the listener: its rows, and the handle to its faults.
    pub fn store(&self, account: &str) -> Option<&Arc<MemoryTables>> {
        self.accounts.get(account).map(|(_, tables)| tables)
    }

    /// Answers requests until it is stopped.
    ///
    /// # Errors
    /// Where the listener fails.
    pub async fn run(self, stop: CancellationToken) -> std::io::Result<()> {
        let faults = self.accounts.into_iter().map(|(name, (_, tables))| (name, tables.faults()));
        self.server.run(control::router(faults.collect()), stop).await
    }
}

/// Rows without a version have an implicit one of their region; nobody asks this store for it.
const REGION: &str = "local";
