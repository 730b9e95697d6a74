//! A region or a copy that changes are delivered to, and what is remembered of it.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};

use lru::LruCache;
use tokio::sync::Semaphore;

use super::Settings;
use super::applied_sender::AppliedSender;
use super::backlog::Backlog;
use super::consumer::Reception;
use super::health::Health;
use super::single::Single;
use super::tasks::Spawner;
use super::tombstones::Tombstones;
use crate::model::{Addressee, Etag, Region, RowId, TableName, Version, WriterId};
use crate::planted::{Bug, planted};
use crate::runtime::Runtime;
use crate::stores::RegionStore;
use crate::topology::CopyRule;

/// Rows whose ETag is remembered per destination: some 20 MiB at the usual length of keys.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(65_536).unwrap();

/// A destination.
#[derive(Debug)]
pub(super) struct Destination {
    pub store: RegionStore,
    pub tombstones: Tombstones,
    pub single: Single,
    /// What tells it what came in; nobody reads that in a copy.
    pub applied: Option<AppliedSender>,
    /// What of the tables goes there, where it is a copy.
    pub copy: Option<Arc<CopyRule>>,
    pub reception: Reception,
    /// Bounds the requests under way to the region.
    pub permits: Semaphore,
    etags: Mutex<LruCache<RowId, (Etag, Version)>>,
    absent: Mutex<BTreeMap<TableName, bool>>,
}

impl Destination {
    pub fn new(
        local: &RegionStore,
        (store, copy): (RegionStore, Option<Arc<CopyRule>>),
        settings: &Settings,
        writer: WriterId,
        runtime: &Runtime,
        tasks: &Spawner,
    ) -> Arc<Self> {
        let addressee = Addressee::Region(store.region().clone());
        let health = Health::new(local.region().clone(), addressee.clone(), settings.park_after);
        let applied = || AppliedSender::start(local.region().clone(), store.clone(), writer, runtime.clone(), tasks);
        let applied = copy.is_none().then(applied);
        Arc::new(Self {
            tombstones: Tombstones::new(store.clone(), settings.tombstone_scan),
            single: Single::new(store.clone(), runtime.clone(), settings.settle_window),
            reception: Reception::new(health, Backlog::new(local, addressee)),
            permits: Semaphore::new(settings.requests_in_flight),
            etags: Mutex::new(LruCache::new(REMEMBERED)),
            absent: Mutex::default(),
            applied,
            copy,
            store,
        })
    }

    pub fn region(&self) -> &Region {
        self.store.region()
    }

    /// What we wrote or read last of a row, so that a steady stream of updates needs no read before the write. It may be
    /// out of date: the ETag decides.
    pub fn remembered(&self, id: &RowId) -> Option<(Etag, Version)> {
        lock(&self.etags).get(id).cloned()
    }

    pub fn remember(&self, id: &RowId, etag: Etag, version: Version) {
        lock(&self.etags).put(id.clone(), (etag, version));
    }

    pub fn forget(&self, id: &RowId) {
        lock(&self.etags).pop(id);
    }

    /// Whether a row that we know nothing of is likely to be absent there, as the last ones of its table were, and may be inserted without a
    /// look. One that may be in another account than at home would be inserted over what stands there.
    pub fn expects_absent(&self, id: &RowId) -> bool {
        let elsewhere = || self.store.may_be_elsewhere(&id.table, &id.partition) && !planted(Bug::InsertedUnlooked);
        lock(&self.absent).get(&id.table).copied().unwrap_or(true) && !elsewhere()
    }

    pub fn learned_absent(&self, table: &TableName, absent: bool) {
        let mut known = lock(&self.absent);
        if known.get(table) != Some(&absent) {
            known.insert(table.clone(), absent);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
