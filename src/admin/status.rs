//! What `/status` tells, as JSON.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Admin;
use crate::model::{AccountName, Region, Time};
use crate::settle::LinkStatus;
use crate::stores::ThrottledAccount;
use crate::topology::Role;

/// The state of a daemon. Holds no settings, and so no secrets.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// The version of this form.
    pub schema: u32,
    /// The daemon's region.
    pub region: Region,
    /// Its role.
    pub role: Role,
    /// The version of the program.
    pub version: &'static str,
    /// When the daemon began.
    pub started: Time,
    /// Whether every shard of the feed is tailed.
    pub ready: bool,
    /// Every link out of this region.
    pub links: Vec<LinkStatus>,
    /// Records in the feed of each account that are not settled yet.
    pub feed_records: BTreeMap<AccountName, usize>,
    /// Accounts, of this region and of destinations, that ask for less.
    pub throttled: Vec<ThrottledAccount>,
}

impl Status {
    pub(super) fn of(admin: &Admin) -> Self {
        let snapshot = (admin.snapshot)();
        Self {
            schema: 1,
            region: admin.region.clone(),
            role: admin.role,
            version: env!("CARGO_PKG_VERSION"),
            started: admin.started,
            ready: snapshot.ready,
            links: snapshot.links,
            feed_records: snapshot.feed_records,
            throttled: snapshot.throttled,
        }
    }
}
