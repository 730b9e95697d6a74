//! What `/status` tells, as JSON.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use tokio::time::Instant;

use super::Admin;
use crate::feed::AccountShard;
use crate::model::{AccountName, ClosedList, Region, Time};
use crate::ops::{Collection, Demotion, LastPass};
use crate::replicator::{CacheStatus, ReadStatus, RolesStatus};
use crate::settle::LinkStatus;
use crate::stores::ThrottledAccount;
use crate::topology::{PublishedRoutes, Role};

/// The state of a daemon. Holds no settings, and so no secrets.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// The version of this form.
    pub schema: u32,
    /// The daemon's region.
    pub region: Region,
    /// Its role now.
    pub role: Role,
    /// The roles of all regions, how they came to be, and whether this one is written to.
    pub roles: RolesStatus,
    /// The version of the program.
    pub version: &'static str,
    /// When the daemon began.
    pub started: Time,
    /// Whether every shard of the feed is tailed.
    pub ready: bool,
    /// Every link out of this region.
    pub links: Vec<LinkStatus>,
    /// What readers get; null where no table has a limit on staleness.
    pub reading: Option<ReadStatus>,
    /// The region's cache, where it has one.
    pub cache: Option<CacheStatus>,
    /// This daemon's name among those of its region; null before it has joined them.
    pub daemon: Option<String>,
    /// The shards of the region's feeds that it carries.
    pub shards: Shards,
    /// The other daemons of the region that are there, and what they carry.
    pub others: BTreeMap<String, Shards>,
    /// Records of those shards, by account, that are not settled yet.
    pub feed_records: BTreeMap<AccountName, usize>,
    /// Accounts, of this region and of destinations, that ask for less.
    pub throttled: Vec<ThrottledAccount>,
    /// The last complete pass of the scrubber over each pair of regions that is this one's part.
    pub verified: Vec<LastPass>,
    /// What the last sweep over the region's tombstones has found, and what holds them; null before the first.
    pub tombstones: Option<Collection>,
    /// What the last pass of the mover has done with the region's old rows; null before the first.
    pub tiers: Option<Demotion>,
    /// The routes that the region's rows are placed by; null before any are published.
    pub routes: Option<RoutesStatus>,
    /// Regions that were taken out, have come back, and have to be empty before anything passes between them and this one.
    pub barred: Vec<Region>,
}

/// The routes in force.
#[derive(Debug, Clone, Serialize)]
pub struct RoutesStatus {
    /// Their epoch.
    pub epoch: u64,
    /// How far rows have moved to where other routes lead; null where none move. No tombstone is collected in any region meanwhile.
    pub moving: Option<&'static str>,
}

impl RoutesStatus {
    fn of(published: &PublishedRoutes) -> Self {
        let moving = published.moving.as_ref().map(|moving| moving.state.as_str());
        Self { epoch: published.epoch, moving }
    }
}

/// Shards by account, two hex digits each.
pub type Shards = BTreeMap<AccountName, Vec<String>>;

fn by_account(shards: &BTreeSet<AccountShard>) -> Shards {
    let mut all = Shards::new();
    for AccountShard { account, shard } in shards {
        all.entry(account.clone()).or_default().push(shard.to_string());
    }
    all
}

impl Status {
    pub(super) fn of(admin: &Admin) -> Self {
        let snapshot = (admin.seen.snapshot)();
        Self {
            schema: 1,
            region: admin.region.clone(),
            role: admin.seen.roles.role(),
            roles: admin.seen.roles.status(Instant::now()),
            version: env!("CARGO_PKG_VERSION"),
            started: admin.started,
            ready: snapshot.ready,
            links: snapshot.links,
            reading: snapshot.reading,
            cache: snapshot.cache,
            daemon: snapshot.daemon.map(|id| id.to_string()),
            shards: by_account(&snapshot.shards),
            others: snapshot.others.iter().map(|(id, shards)| (id.to_string(), by_account(shards))).collect(),
            feed_records: snapshot.feed_records,
            throttled: snapshot.throttled,
            verified: admin.passes.all(),
            tombstones: admin.collected.last(),
            tiers: admin.demotions.last(),
            routes: admin.waits.routes().as_deref().map(RoutesStatus::of),
            barred: admin.seen.roles.barred_of_all(),
        }
    }
}
