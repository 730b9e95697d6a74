//! A region's accounts, and which of them holds a row.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::time::Instant;

use super::{Paced, Pacer, Queue, Severable, Severed, Tables, UnknownAccount};
use crate::model::{AccountName, PartitionKey, Region, TableName};
use crate::runtime::Runtime;
use crate::topology::{PublishedRoutes, Routes};

/// One storage account of a region.
#[derive(Debug, Clone)]
pub struct Account {
    /// Its tables.
    pub tables: Arc<dyn Tables>,
    /// Its queue of change records, where one is configured.
    pub queue: Option<Arc<dyn Queue>>,
}

/// The accounts of a region behind one rule: ask with a table and a partition key, get the tables that hold the row.
///
/// The rule is that of the routes that the region has published, as they were last [taken in](RegionStore::go_by); before any were, those
/// that it was made with. All copies of a store go by the same.
#[derive(Debug, Clone)]
pub struct RegionStore {
    region: Region,
    accounts: Vec<Account>,
    routing: Arc<Routing>,
}

/// What all copies of a store share.
#[derive(Debug)]
struct Routing {
    configured: Routes,
    present: RwLock<Arc<Present>>,
}

/// What is gone by at a time.
#[derive(Debug)]
struct Present {
    published: Option<Arc<PublishedRoutes>>,
    /// When the reading of it began, and of the first one that found the same.
    heard: Option<Instant>,
    since: Option<Instant>,
    /// Accounts that are named and were not given.
    unknown: BTreeMap<AccountName, Arc<dyn Tables>>,
}

impl RegionStore {
    /// A region of one or more accounts that share its rows by rendezvous hashing; their order does not matter.
    ///
    /// # Panics
    /// Where there is no account: the configuration refuses that before.
    pub fn new(region: Region, accounts: Vec<Account>) -> Self {
        let names = accounts.iter().map(|account| account.tables.account().clone());
        let routes = Routes::spread_over(names).unwrap_or_else(|_| panic!("region {region} has no account"));
        Self::routed(region, accounts, routes)
    }

    /// A region whose rows go where `routes` say, as long as none are published there.
    ///
    /// # Panics
    /// Where there is no account: the configuration refuses that before.
    pub fn routed(region: Region, mut accounts: Vec<Account>, routes: Routes) -> Self {
        assert!(!accounts.is_empty(), "region {region} has no account");
        accounts.sort_by(|a, b| a.tables.account().cmp(b.tables.account()));
        let unknown = unknown(&region, &accounts, [&routes]);
        let present = Present { published: None, heard: None, since: None, unknown };
        let routing = Arc::new(Routing { configured: routes, present: RwLock::new(Arc::new(present)) });
        Self { region, accounts, routing }
    }

    /// The same region by lines that can be cut off. Its queues are left out: they belong to the daemons that are there.
    #[must_use]
    pub fn severable(&self, severed: &Severed) -> Self {
        let cut = |account: &Account| -> Account {
            Account { tables: Severable::new(account.tables.clone(), severed.clone()), queue: None }
        };
        Self { accounts: self.accounts.iter().map(cut).collect(), ..self.clone() }
    }

    /// The same region for work that has time: each of its accounts is asked no more than `percent` of the rows a second that it
    /// bears. Its queues are left out. With it come those who decide the rate, one an account.
    #[must_use]
    pub fn paced(&self, (percent, bears): (u8, u32), runtime: &Runtime) -> (Self, Vec<Arc<Pacer>>) {
        let pacers: Vec<_> = self.accounts.iter().map(|_| Pacer::new(percent, bears, runtime.clone())).collect();
        let paced = |(account, pacer): (&Account, &Arc<Pacer>)| -> Account {
            Account { tables: Paced::new(account.tables.clone(), pacer.clone()), queue: None }
        };
        let accounts = self.accounts.iter().zip(&pacers).map(paced).collect();
        (Self { accounts, ..self.clone() }, pacers)
    }

    /// The region.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// Its accounts, sorted by name.
    pub fn accounts(&self) -> &[Account] {
        &self.accounts
    }

    /// The account for what belongs to the region as a whole (control, applied log, quarantine, conflicts): its first
    /// by name.
    pub fn home(&self) -> &Arc<dyn Tables> {
        &self.accounts[0].tables
    }

    /// The region with its first account alone, where what belongs to it as a whole stands.
    #[must_use]
    pub fn home_alone(&self) -> Self {
        Self::new(self.region.clone(), vec![self.accounts[0].clone()])
    }

    /// The tables that hold the rows of this partition, and its records and tombstones.
    pub fn holding(&self, table: &TableName, partition: &PartitionKey) -> Arc<dyn Tables> {
        if let [only] = self.accounts.as_slice()
            && self.present().unknown.is_empty()
        {
            return only.tables.clone();
        }
        let present = self.present();
        let place = self.rules(&present).place(table, partition);
        self.tables_of(&present, place.account)
    }

    /// The region by these rules alone, whatever is published.
    #[must_use]
    pub fn by(&self, rules: &Routes) -> Self {
        Self::routed(self.region.clone(), self.accounts.clone(), rules.clone())
    }

    /// The account of that name.
    pub fn account(&self, name: &AccountName) -> Option<&Arc<dyn Tables>> {
        self.accounts.iter().map(|account| &account.tables).find(|tables| tables.account() == name)
    }

    /// The epoch of the routes that are gone by: the first, where none were read, since that is what is published of a configuration.
    pub fn routes_epoch(&self) -> u64 {
        self.present().published.as_ref().map_or(1, |published| published.epoch)
    }

    /// What is published of the routes, as it was last taken in.
    pub fn published(&self) -> Option<Arc<PublishedRoutes>> {
        self.present().published.clone()
    }

    /// When the reading of the routes began that was last taken in, whether or not any were published.
    pub fn routes_heard(&self) -> Option<Instant> {
        self.present().heard
    }

    /// Since when the routes that are gone by now are published, as is known from the clock of the account that has them; or since the first
    /// reading began that found them.
    pub fn routes_since(&self) -> Option<Instant> {
        self.present().since
    }

    /// The rules that this store was made with: where its configuration wants rows to be.
    pub fn configured(&self) -> &Routes {
        &self.routing.configured
    }

    /// Takes in what a reading of the published routes found that began at `heard`. Says whether other routes are gone by since.
    pub fn go_by(&self, published: Option<PublishedRoutes>, heard: Instant) -> bool {
        self.go_by_since(published, heard, heard)
    }

    /// As [`go_by`](Self::go_by), of routes that were published at `since` or before.
    pub(super) fn go_by_since(&self, published: Option<PublishedRoutes>, heard: Instant, since: Instant) -> bool {
        let mut present = self.routing.present.write().unwrap_or_else(PoisonError::into_inner);
        let epoch = |published: &PublishedRoutes| published.epoch;
        let (was, is) = (present.published.as_deref().map(epoch), published.as_ref().map(epoch));
        // A reading that began earlier may end later; and what is published never goes back.
        if is < was || present.heard.is_some_and(|before| before > heard) {
            return false;
        }
        let named = published.as_ref().map_or(&self.routing.configured, |published| &published.rules);
        let other = published.as_ref().and_then(|published| published.moving.as_ref()).map(|moving| &moving.rules);
        *present = Arc::new(Present {
            unknown: unknown(&self.region, &self.accounts, std::iter::once(named).chain(other)),
            published: published.map(Arc::new),
            heard: Some(heard),
            since: present.since.filter(|_| is == was).or(Some(since)),
        });
        is != was
    }

    /// Accounts that the routes in force name and this store was not given.
    pub fn unknown_accounts(&self) -> Vec<AccountName> {
        self.present().unknown.keys().cloned().collect()
    }

    /// The tables of an account that routes name.
    pub(super) fn tables_named(&self, account: &AccountName) -> Arc<dyn Tables> {
        self.tables_of(&self.present(), account)
    }

    fn present(&self) -> Arc<Present> {
        self.routing.present.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn rules<'a>(&'a self, present: &'a Present) -> &'a Routes {
        present.published.as_ref().map_or(&self.routing.configured, |published| &published.rules)
    }

    fn tables_of(&self, present: &Present, account: &AccountName) -> Arc<dyn Tables> {
        let known = self.accounts.binary_search_by(|known| known.tables.account().cmp(account));
        match known {
            Ok(at) => self.accounts[at].tables.clone(),
            // Whatever rules are gone by, all that they name and that was not given is there.
            Err(_) => present.unknown.get(account).unwrap_or(self.home()).clone(),
        }
    }
}

/// Accounts that `routes` name and that are none of `accounts`.
fn unknown<'a>(
    region: &Region,
    accounts: &[Account],
    routes: impl IntoIterator<Item = &'a Routes>,
) -> BTreeMap<AccountName, Arc<dyn Tables>> {
    let named = routes.into_iter().flat_map(Routes::accounts);
    let unknown = named.filter(|name| !accounts.iter().any(|account| account.tables.account() == *name));
    let stub = |name: &AccountName| -> Arc<dyn Tables> { UnknownAccount::new(region.clone(), name.clone()) };
    unknown.map(|name| (name.clone(), stub(name))).collect()
}
