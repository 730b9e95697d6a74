//! The role that this region has, and those of the others: what everybody in the line asks.
//!
//! The [`keeper`] reads every region's [copy](copies) again and again, and leaves here what is in force. Its rules are
//! [`Presence`]'s.

mod copies;
mod keeper;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::model::Region;
use crate::topology::{
    Assignment, Cut, FileRoles, Found, Mark, Marks, Moving, Obeyed, Presence, Role, Topology, WriteHealth,
};

pub(super) use self::copies::read_beside;
pub use self::copies::{RolesCopy, read_roles, read_trail, replace_cut, replace_roles};
pub(super) use self::keeper::{Keeper, in_time};

/// The roles in force, as far as this daemon knows.
#[derive(Debug)]
pub struct Roles {
    presence: Mutex<Presence>,
    changed: Notify,
    /// How old the own copy may be while the region is said to be written to.
    stale: Duration,
}

/// What `/status` tells of roles.
#[derive(Debug, Clone, Serialize)]
pub struct RolesStatus {
    /// What kind of topology the configuration describes.
    pub topology: Topology,
    /// The roles in force, and how they came to be.
    #[serde(flatten)]
    pub assignment: Assignment,
    /// The planned failover for which the region takes no more writes.
    pub moving: Option<Moving>,
    /// The drill that cuts a region off.
    pub cut: Option<Cut>,
    /// Whether applications may write here, and why not.
    pub writing: WriteHealth,
    /// How many seconds ago each region's copy was last read; null for one that never was.
    pub heard_seconds: BTreeMap<Region, Option<f64>>,
}

impl Roles {
    /// Those that the file gives, for a daemon of `region` that has heard nothing. `stale` is how old the region's own copy may be
    /// while the region is said to be written to.
    pub fn new(region: Region, file: FileRoles, stale: Duration) -> Self {
        Self { presence: Mutex::new(Presence::new(region, file)), changed: Notify::new(), stale }
    }

    /// What is in force.
    pub fn present(&self) -> Arc<Assignment> {
        self.lock().assignment().clone()
    }

    /// The role of a region.
    pub fn role_of(&self, region: &Region) -> Role {
        self.lock().role_of(region)
    }

    /// The role of the daemon's own region.
    pub fn role(&self) -> Role {
        let presence = self.lock();
        presence.role_of(presence.region())
    }

    /// The regions that are writers.
    pub fn writers(&self) -> Vec<Region> {
        let presence = self.lock();
        presence.assignment().writers(presence.file())
    }

    /// The one region that is a writer; `None` where several are, or none.
    pub fn writer(&self) -> Option<Region> {
        let mut writers = self.writers();
        writers.pop().filter(|_| writers.is_empty())
    }

    /// The writer that has the word on what `region` issued, where `region` itself is none.
    pub fn writer_over(&self, region: &Region) -> Option<Region> {
        let presence = self.lock();
        presence.assignment().writer_over(region, presence.file())
    }

    /// When the last good reading of a region's copy began; `None` before the first.
    pub fn heard(&self, region: &Region) -> Option<Instant> {
        self.lock().heard(region)
    }

    /// Whether the other regions were asked once, or could not be: before, nobody decides anything by a role.
    pub fn is_confirmed(&self) -> bool {
        self.lock().is_confirmed()
    }

    /// Whether applications may write in this region at `now`, and why not.
    pub fn writing(&self, now: Instant) -> WriteHealth {
        self.lock().write_health(now, self.stale)
    }

    /// What this daemon goes by.
    pub fn obeyed(&self) -> Obeyed {
        self.lock().obeyed()
    }

    /// Waits until this daemon goes by something else than `seen`.
    pub async fn until_changed(&self, seen: &Obeyed) {
        self.until(|presence| presence.obeyed() != *seen).await;
    }

    /// Waits until other roles are in force than those of `mark`.
    pub(super) async fn until_moved(&self, mark: &Mark) {
        self.until(|presence| presence.assignment().mark != *mark).await;
    }

    /// Waits until the roles are confirmed.
    pub async fn until_confirmed(&self) {
        self.until(Presence::is_confirmed).await;
    }

    /// Waits until they are confirmed no more: this region was cut off, and is back.
    async fn until_unconfirmed(&self) {
        self.until(|presence| !presence.is_confirmed()).await;
    }

    async fn until(&self, holds: impl Fn(&Presence) -> bool) {
        loop {
            // Who begins to wait before looking misses nothing that changes after the look.
            let changed = self.changed.notified();
            if holds(&self.lock()) {
                return;
            }
            changed.await;
        }
    }

    /// What there is to tell of it at `now`.
    pub fn status(&self, now: Instant) -> RolesStatus {
        let presence = self.lock();
        let age = |region: &Region| {
            let heard = presence.heard(region)?;
            Some(now.saturating_duration_since(heard).as_secs_f64())
        };
        RolesStatus {
            topology: presence.file().topology(),
            assignment: presence.assignment().as_ref().clone(),
            moving: presence.moving().cloned(),
            cut: presence.cut(now, self.stale).cloned(),
            writing: presence.write_health(now, self.stale),
            heard_seconds: presence.file().roles().keys().map(|region| (region.clone(), age(region))).collect(),
        }
    }

    /// Takes in a reading that began at `began`; says whether other roles are in force since.
    pub fn read(&self, region: &Region, began: Instant, found: Found) -> bool {
        self.change(|presence| presence.read(region, began, found))
    }

    /// The time to ask others at the start is up; says who has not answered.
    fn waited(&self) -> Vec<Region> {
        self.change(Presence::waited)
    }

    /// The drill for which nothing passes at `now` between this daemon's region and `other`.
    pub(super) fn severed_from(&self, other: &Region, now: Instant) -> Option<Cut> {
        let presence = self.lock();
        presence.cut(now, self.stale).filter(|cut| cut.severs(presence.region(), other)).cloned()
    }

    /// Takes in what a region remembers of regions that were taken out.
    pub(super) fn remember(&self, region: &Region, marks: Marks) {
        self.lock().remember(region, marks);
    }

    /// Of the daemon's region and another one, the one that was gone and has to come back empty first.
    pub fn barred(&self, other: &Region) -> Option<Region> {
        self.lock().barred(other).cloned()
    }

    /// The regions of the configuration that were gone and have to come back empty first.
    pub fn barred_of_all(&self) -> Vec<Region> {
        let presence = self.lock();
        let regions = presence.file().roles().keys();
        regions.filter(|region| presence.is_barred(region)).cloned().collect()
    }

    /// The drill that cuts a region off at `now`.
    fn cut(&self, now: Instant) -> Option<Cut> {
        self.lock().cut(now, self.stale).cloned()
    }

    fn is_behind(&self, region: &Region) -> bool {
        self.lock().is_behind(region)
    }

    fn moving(&self) -> Option<Moving> {
        self.lock().moving().cloned()
    }

    fn change<T>(&self, change: impl FnOnce(&mut Presence) -> T) -> T {
        let mut presence = self.lock();
        let before = (presence.obeyed(), presence.is_confirmed());
        let result = change(&mut presence);
        let after = (presence.obeyed(), presence.is_confirmed());
        drop(presence);
        if after != before {
            self.changed.notify_waiters();
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, Presence> {
        self.presence.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
