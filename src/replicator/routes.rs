//! The routes of this region, published and kept so: what the file says where nothing is published, and from then on what is
//! published, with the names, addresses and tiers of the file.
//!
//! Rows do not move because a file says something else. A daemon whose file wants them elsewhere tells of it, and goes by what is
//! published.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::model::{AccountName, ClosedList, Region};
use crate::stores::{RegionStore, StoreError};
use crate::telemetry::Event;
use crate::topology::PublishedRoutes;

/// How often the copies of a region's other accounts are compared with what is published.
const COPIES_EVERY: Duration = Duration::from_secs(30);

/// What a loop remembers of its region's routes.
#[derive(Debug, Default)]
pub(super) struct RoutesTold {
    epoch: Option<u64>,
    unusable: bool,
    unknown: Vec<AccountName>,
    pending: bool,
    /// The epoch that is published, and since when that is known.
    stands: Option<(u64, Instant)>,
    /// What every account has, and when it was seen to.
    copied: Option<(u64, Instant)>,
}

impl RoutesTold {
    /// How long routes may be gone by, where the file says `wanted`. Whoever has read a longer time goes by what he has read for half of
    /// it, and `rebalance` waits for the time that it reads. So it is halved at the most, and not again before the longer one is over.
    fn hold(&mut self, published: &PublishedRoutes, wanted: Duration) -> Duration {
        let since = match self.stands {
            Some((epoch, since)) if epoch == published.epoch => since,
            _ => Instant::now(),
        };
        self.stands = Some((published.epoch, since));
        match since.elapsed() < published.hold {
            true => wanted.max(published.hold),
            false => wanted.max(published.hold / 2),
        }
    }
}

/// Publishes the routes of the own region where none are, and brings what is published up to date: names and addresses, and the
/// copies of its other accounts. All but the first is done by the first daemon of the region.
///
/// # Errors
/// Whatever the store answers.
pub(super) async fn keep_routes(
    local: &RegionStore,
    told: &mut RoutesTold,
    (first, hold): (bool, Duration),
) -> Result<(), StoreError> {
    let Some(published) = local.published() else {
        let copy = local.read_routes().await?;
        if copy.published.is_none() {
            local.replace_routes(&copy, &first_routes(local, hold)).await?;
        }
        return Ok(());
    };
    if !first {
        return Ok(());
    }
    let wanted = up_to_date(local, &published, told.hold(&published, hold));
    if wanted != *published {
        let copy = local.read_routes().await?;
        if copy.published.as_ref() == Some(&*published) {
            local.replace_routes(&copy, &PublishedRoutes { epoch: published.epoch + 1, ..wanted }).await?;
        }
        return Ok(());
    }
    let copied = told.copied.is_some_and(|(epoch, at)| epoch == published.epoch && at.elapsed() < COPIES_EVERY);
    if !copied {
        local.spread_routes(&published).await?;
        told.copied = Some((published.epoch, Instant::now()));
    }
    Ok(())
}

/// What is published where nothing is: rows are taken to be where the file wants them.
fn first_routes(local: &RegionStore, hold: Duration) -> PublishedRoutes {
    PublishedRoutes {
        region: local.region().clone(),
        epoch: 1,
        home: local.home().account().clone(),
        hold,
        endpoints: endpoints(local),
        rules: local.configured().clone(),
        moving: None,
    }
}

/// The addresses of a region's accounts, as far as they are known.
pub(crate) fn endpoints(local: &RegionStore) -> BTreeMap<AccountName, String> {
    let tables = local.accounts().iter().map(|account| &account.tables);
    tables.filter_map(|tables| Some((tables.account().clone(), tables.endpoint()?.to_owned()))).collect()
}

/// The same routes by the names and addresses of the file. An account that the file lacks keeps its address.
fn up_to_date(local: &RegionStore, published: &PublishedRoutes, hold: Duration) -> PublishedRoutes {
    let mut wanted = PublishedRoutes { hold, ..published.clone() };
    wanted.endpoints.extend(endpoints(local));
    if published.moving.is_none() && published.rules.lead_as(local.configured()) {
        wanted.rules = local.configured().clone();
    }
    wanted
}

/// Tells of a region's routes what is news, after they could be read.
pub(super) fn tell_of_routes(store: &RegionStore, own: bool, told: &mut RoutesTold) {
    let region = store.region();
    told.unusable = false;
    let Some(published) = store.published() else { return };
    if told.epoch != Some(published.epoch) {
        if told.epoch.is_some() || !own {
            info!(event = Event::RoutesChanged.as_str(), %region, epoch = published.epoch, "a region's routes are in force");
        }
        told.epoch = Some(published.epoch);
    }
    let unknown = store.unknown_accounts();
    if unknown != told.unknown {
        for account in &unknown {
            error!(event = Event::RoutesUnusable.as_str(), %region, %account,
                "the routes in force lead to an account that this daemon's configuration does not have: what belongs there waits");
        }
        told.unknown = unknown;
    }
    let pending = own && (published.moving.is_some() || !published.rules.lead_as(store.configured()));
    if pending && !told.pending {
        let moving = published.moving.as_ref().map(|moving| moving.state.as_str());
        let text = match moving {
            None => {
                "the configuration wants rows in other accounts than they are in; `tablerelay rebalance` moves them"
            }
            Some(_) => {
                "rows are on their way to other accounts; if no `tablerelay rebalance` is at work, run it again: it goes on"
            }
        };
        warn!(event = Event::RoutesPending.as_str(), %region, epoch = published.epoch, moving, "{text}");
    }
    told.pending = pending;
}

/// Tells that a region's routes are there and cannot be gone by.
pub(super) fn tell_unusable(region: &Region, error: &StoreError, told: &mut RoutesTold) {
    if error.is_unusable() && !told.unusable {
        told.unusable = true;
        error!(event = Event::RoutesUnusable.as_str(), %region, %error, "a region's routes cannot be gone by: nothing is brought there");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Region;
    use crate::topology::Routes;

    #[tokio::test(start_paused = true)]
    async fn a_longer_time_gives_way_to_a_shorter_one_by_halves_each_once_the_longer_is_over() {
        let minutes = |n: u64| Duration::from_secs(60 * n);
        let account = AccountName::new("west1").unwrap();
        let mut published = PublishedRoutes {
            region: Region::new("west").unwrap(),
            epoch: 1,
            home: account.clone(),
            hold: minutes(10),
            endpoints: BTreeMap::new(),
            rules: Routes::new(vec![], [account]).unwrap(),
            moving: None,
        };
        let mut told = RoutesTold::default();
        assert_eq!(told.hold(&published, minutes(20)), minutes(20), "a longer one counts at once");
        let (began, mut steps) = (Instant::now(), Vec::new());
        while published.hold > minutes(1) {
            let next = told.hold(&published, minutes(1));
            if next != published.hold {
                steps.push((next.as_secs(), began.elapsed().as_secs() / 60));
                (published.hold, published.epoch) = (next, published.epoch + 1);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(steps, [(300, 10), (150, 15), (75, 17), (60, 18)]);
    }
}
