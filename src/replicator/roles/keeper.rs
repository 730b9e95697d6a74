//! Reading the roles of every region, obeying the highest, and bringing them to whoever is behind.
//!
//! Costs a point read per region and `poll`, by every daemon. So a failover is heard of within that time wherever it was
//! written, and one whose command was cut off is finished by the daemons: a copy that is behind is replaced, on its ETag, by
//! a daemon of its own region or by the first daemon of any other.
//!
//! Each region is asked by a loop of its own, so that one which hangs keeps nobody from hearing of another.

use std::sync::Arc;
use std::time::Duration;

use futures::future::{join, join_all};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::copies::read_roles_alone;
use super::{Roles, RolesCopy, read_roles, replace_cut, replace_roles};
use crate::model::{ClosedList, Region};
use crate::planted::{Bug, planted};
use crate::replicator::duty::Duty;
use crate::replicator::marks::read_marks;
use crate::replicator::routes::{RoutesTold, keep_routes, tell_of_routes, tell_unusable};
use crate::runtime::Runtime;
use crate::stores::{ErrorKind, RegionStore, StoreError};
use crate::telemetry::{Event, Spell, metrics};
use crate::topology::{Cut, Found, Moving, Role, RolesRow};

/// How long the other regions are waited for at the start.
const START_WITHIN: Duration = Duration::from_secs(3);
/// How long a request may take at most.
const PATIENCE: Duration = Duration::from_secs(5);

/// Keeps the roles up to date.
#[derive(Debug)]
pub(in crate::replicator) struct Keeper {
    pub roles: Arc<Roles>,
    pub local: RegionStore,
    pub others: Vec<RegionStore>,
    /// What other regions lack is brought there by the first daemon of each region.
    pub duty: Arc<Duty>,
    pub poll: Duration,
    /// Whether regions may have been taken out.
    pub minds_marks: bool,
    /// How long whoever reads this region's routes may go by them.
    pub hold: Duration,
    pub runtime: Runtime,
}

/// How long a request may take, where what is older than `stale` counts for nothing.
fn patience(stale: Duration) -> Duration {
    PATIENCE.min(stale / 2)
}

/// What a loop remembers of its region.
#[derive(Debug, Default)]
struct Told {
    /// The region's copy cannot be read.
    unheard: Spell,
    unreadable: bool,
    moving: Option<Moving>,
    cut: Option<Cut>,
    /// When the last good reading of its marks began.
    marked: Option<Instant>,
    routes: RoutesTold,
}

/// What was found, without a drill whose time is over.
pub(in crate::replicator) fn in_time(store: &RegionStore, copy: &RolesCopy, runtime: &Runtime) -> Found {
    match copy.row().filter(|row| row.cut.is_some() && !is_cut(store, row, runtime)) {
        Some(row) => Found::Row(Box::new(RolesRow { cut: None, ..row.clone() })),
        None => copy.found.clone(),
    }
}

/// Whether a drill stands in a region's copy and its time is not over.
fn is_cut(store: &RegionStore, row: &RolesRow, runtime: &Runtime) -> bool {
    let now = store.home().clock().at(runtime.instant());
    row.cut.as_ref().is_some_and(|cut| !cut.has_expired(now))
}

impl Keeper {
    /// Reads, obeys and brings until it is stopped.
    pub async fn run(self, stop: CancellationToken) {
        let regions = std::iter::once(&self.local).chain(&self.others);
        let work = join(join_all(regions.map(|store| self.follow(store))), self.start());
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            _ = work => {}
        }
    }

    /// Waits for the other regions' word, at the start and whenever this region was cut off.
    async fn start(&self) {
        loop {
            self.confirm().await;
            self.roles.until_unconfirmed().await;
        }
    }

    /// Waits for the other regions' word, for a while.
    async fn confirm(&self) {
        if timeout(START_WITHIN, self.roles.until_confirmed()).await.is_err() {
            let silent: Vec<String> = self.roles.waited().iter().map(Region::to_string).collect();
            warn!(event = Event::RolesUnconfirmed.as_str(), region = %self.local.region(), silent = silent.join(", "),
                "regions could not be asked for the roles: this one keeps the role of its own copy until they answer");
        }
        self.roles.until_confirmed().await;
        let (present, role) = (self.roles.present(), self.roles.role());
        info!(event = Event::RolesConfirmed.as_str(), region = %self.local.region(), %role, epoch = present.mark.epoch,
            kind = %present.kind, "the region's role is known");
    }

    async fn follow(&self, store: &RegionStore) {
        let mut told = Told::default();
        loop {
            self.round(store, &mut told).await;
            if planted(Bug::RoleReadOnce) && self.roles.is_confirmed() && self.roles.heard(store.region()).is_some() {
                return std::future::pending().await;
            }
            tokio::time::sleep(self.poll - self.runtime.jitter(self.poll / 8)).await;
        }
    }

    /// Reads what a region remembers of others, where that was not read of late; says when it was. Nothing is known of its roles
    /// without that, so that nothing is brought to it.
    async fn marks(&self, store: &RegionStore, told: &mut Told) -> Result<Instant, StoreError> {
        let now = self.runtime.instant();
        if !self.minds_marks {
            return Ok(now);
        }
        if let Some(marked) = told.marked.filter(|marked| now.saturating_duration_since(*marked) < self.roles.stale / 8)
        {
            return Ok(marked);
        }
        let (marks, _) = read_marks(store).await?;
        self.roles.remember(store.region(), marks);
        told.marked = Some(now);
        Ok(now)
    }

    /// When the routes that a region has published were read, where that was of late: an idle daemon has no need to ask for them with every
    /// reading of the roles.
    fn routes_read(&self, store: &RegionStore) -> Option<Instant> {
        let now = self.runtime.instant();
        let is_late = |read: &Instant| now.saturating_duration_since(*read) >= self.roles.stale / 8;
        store.routes_heard().filter(|read| !is_late(read) && store.published().is_some())
    }

    async fn round(&self, store: &RegionStore, told: &mut Told) {
        let patience = patience(self.roles.stale);
        let late = |_| StoreError::new(ErrorKind::Unreachable, format!("no answer within {patience:?}"));
        let read = async {
            let began = self.marks(store, told).await?;
            match self.routes_read(store) {
                Some(read) => Ok((began.min(read), read_roles_alone(store).await?)),
                None => Ok((began, read_roles(store).await?)),
            }
        };
        let (began, copy) = match timeout(patience, read).await.map_err(late).and_then(|read| read) {
            Ok(read) => read,
            Err(error) => return self.failed(store, told, &error),
        };
        let changed = self.roles.read(store.region(), began, in_time(store, &copy, &self.runtime));
        if changed {
            self.tell_of_change(store.region());
        }
        self.tell_of_copy(store, &copy, told);
        tell_of_routes(store, self.is_own(store), &mut told.routes);
        match timeout(patience, self.mend(store, &copy)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => debug!(region = %store.region(), %error, "the roles could not be written there yet"),
            Err(_) => debug!(region = %store.region(), "the roles could not be written there in time"),
        }
        if self.is_own(store) {
            let kept = keep_routes(store, &mut told.routes, (self.duty.is_first(), self.hold));
            match timeout(patience, kept).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => debug!(region = %store.region(), %error, "the routes could not be published yet"),
                Err(_) => debug!(region = %store.region(), "the routes could not be published in time"),
            }
        }
    }

    fn is_own(&self, store: &RegionStore) -> bool {
        store.region() == self.local.region()
    }

    /// Brings a copy up to date that is behind. In the own region, takes out a planned failover whose time is over: on its
    /// ETag, and the region serves writes again only once that is done. So a command that wakes up too late finds
    /// another ETag, and moves nothing.
    async fn mend(&self, store: &RegionStore, copy: &RolesCopy) -> Result<(), StoreError> {
        if copy.found == Found::Unreadable || !self.roles.is_confirmed() {
            return Ok(());
        }
        let own = self.is_own(store);
        if self.roles.is_behind(store.region()) {
            if own || self.duty.is_first() {
                let row = RolesRow::still(self.roles.present().as_ref().clone());
                replace_roles(store, copy, &row).await?;
            }
            return Ok(());
        }
        let now = store.home().clock().at(self.runtime.instant());
        let expired = copy.row().filter(|row| row.moving.as_ref().is_some_and(|moving| moving.has_expired(now)));
        if let Some(row) = expired.filter(|_| own) {
            replace_roles(store, copy, &RolesRow::still(row.assignment.clone())).await?;
        } else if own && copy.row().is_some_and(|row| row.cut.is_some() && !is_cut(store, row, &self.runtime)) {
            replace_cut(store, copy, None).await?;
        }
        Ok(())
    }

    fn failed(&self, store: &RegionStore, told: &mut Told, error: &StoreError) {
        debug!(region = %store.region(), %error, "the roles could not be read");
        tell_unusable(store.region(), error, &mut told.routes);
        let now = self.runtime.instant();
        // Of other regions their links tell, and of the own one at the start what creates its tables.
        let heard = self.roles.heard(store.region()).filter(|_| self.is_own(store));
        let stale = heard.is_some_and(|heard| now.saturating_duration_since(heard) > self.roles.stale);
        if stale && told.unheard.failed() {
            warn!(event = Event::RolesUnheard.as_str(), region = %store.region(), %error,
                "this region's copy of the roles cannot be read: a failover may have passed unheard, and /health/write answers 503");
        }
    }

    /// What has become of the region's copy, where that is news.
    fn tell_of_copy(&self, store: &RegionStore, copy: &RolesCopy, told: &mut Told) {
        let region = store.region();
        if let Some(error) = &copy.error
            && !told.unreadable
        {
            warn!(event = Event::RowUnreadable.as_str(), %region, %error,
                "a region's roles cannot be read, and are left alone; is a newer version running?");
        }
        told.unreadable = copy.error.is_some();
        if !self.is_own(store) {
            return;
        }
        let present = self.roles.present();
        metrics::region_role(region, self.roles.role());
        metrics::role_epoch(region, present.mark.epoch);
        if !told.unreadable
            && let Some(past) = told.unheard.ended()
        {
            let (after, failures) = (past.after, past.failures);
            info!(event = Event::RolesHeard.as_str(), %region, ?after, failures,
                "recovered after {after:.1?}: this region's copy of the roles can be read again");
        }
        let moving = self.roles.moving();
        match (&told.moving, &moving) {
            (None, Some(Moving { to, deadline, by, .. })) => {
                info!(event = Event::RoleMoving.as_str(), %region, %to, %deadline, by,
                    "a planned failover is under way: /health/write answers 503");
            }
            (Some(past), None) if self.roles.role() == Role::Writer => {
                info!(event = Event::RoleKept.as_str(), %region, to = %past.to, by = past.by,
                    "a planned failover has ended without moving the role: the region is written to again");
            }
            _ => {}
        }
        told.moving = moving;
        let cut = self.roles.cut(self.runtime.instant());
        match (&told.cut, &cut) {
            (None, Some(Cut { region: lost, deadline, by, .. })) => {
                warn!(event = Event::CutOff.as_str(), %region, %lost, %deadline, by,
                    "a drill cuts a region off: nothing passes between it and the others, and its health answers 503");
            }
            (Some(past), None) => {
                info!(event = Event::CutEnded.as_str(), %region, lost = %past.region, by = past.by,
                    "the region that a drill had cut off is joined to the others again");
            }
            _ => {}
        }
        told.cut = cut;
    }

    fn tell_of_change(&self, heard_from: &Region) {
        let (present, region, role) = (self.roles.present(), self.local.region(), self.roles.role());
        let to = present.to.as_ref().map_or("-", Region::as_str);
        let from = present.from.as_ref().map_or("-", Region::as_str);
        info!(event = Event::RolesChanged.as_str(), %region, %role, epoch = present.mark.epoch, kind = %present.kind,
            from, to, who = present.who, why = present.why, %heard_from, "other roles are in force");
    }
}
