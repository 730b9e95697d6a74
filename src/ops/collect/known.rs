//! What all regions tell of links, passes and each other.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::{join_all, try_join4};
use tokio::time::timeout;

use crate::model::{Etag, Region, Time};
use crate::ops::patient::{or_nothing, patiently};
use crate::ops::verify::{LastPass, PassKind, last_passes};
use crate::replicator::{CopySetup, read_links, read_marks};
use crate::settle::{Known, LinkStatus, Pair, pair};
use crate::stores::{RegionStore, StoreError};
use crate::topology::Marks;

/// How long a region is asked.
const WITHIN: Duration = Duration::from_secs(60);

/// What was read of all regions that could be.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub known: Known,
    /// What each remembers of others.
    pub marks: BTreeMap<Region, Marks>,
    etags: BTreeMap<Region, Etag>,
    /// Regions that are not in the configuration, and when anything was told last of a link to or from one.
    pub strangers: BTreeMap<Region, Time>,
    /// When the last whole repair of each pair began.
    pub repaired: BTreeMap<Pair, Time>,
}

impl Gathered {
    /// By what a region's marks may be replaced.
    pub fn etag(&self, region: &Region) -> Option<Etag> {
        self.etags.get(region).cloned()
    }

    /// When anything was told last of a link to or from a region that is not in the configuration.
    pub fn seen(&self, region: &Region) -> Time {
        self.strangers.get(region).copied().unwrap_or(Time::EPOCH)
    }

    fn take_links(&mut self, links: Vec<LinkStatus>, newest: &mut BTreeMap<(Region, Region), LinkStatus>) {
        for link in links {
            if link.copy && !self.known.copies.contains(&link.destination) {
                // One that nothing waits for, or that was taken out: it never brings anything back.
                continue;
            }
            for end in [&link.source, &link.destination] {
                if !self.known.regions.contains(end) && !self.known.copies.contains(end) {
                    let seen = self.strangers.entry(end.clone()).or_insert(link.published);
                    *seen = link.published.max(*seen);
                }
            }
            let ends = (link.source.clone(), link.destination.clone());
            if newest.get(&ends).is_none_or(|known| link.published > known.published) {
                newest.insert(ends, link);
            }
        }
    }

    fn take_passes(&mut self, passes: Vec<LastPass>, repairs: bool) {
        for pass in passes {
            let of = pair(&pass.from, &pass.to);
            let took = |all: &mut BTreeMap<Pair, Time>| {
                let began = all.entry(of.clone()).or_insert(pass.began);
                *began = pass.began.max(*began);
            };
            took(&mut self.known.passes);
            if repairs {
                took(&mut self.repaired);
            }
        }
    }
}

type Told = (Vec<LinkStatus>, (Marks, Option<Etag>), Vec<LastPass>, Vec<LastPass>);

async fn ask(store: &RegionStore) -> Result<Told, StoreError> {
    try_join4(
        patiently(|| async { or_nothing(read_links(store).await) }),
        patiently(|| read_marks(store)),
        last_passes(PassKind::Scrubbed, store),
        last_passes(PassKind::Repaired, store),
    )
    .await
}

/// Asks all regions, side by side.
pub(super) async fn gather(regions: &[RegionStore], copies: &[CopySetup]) -> Gathered {
    let mut gathered = Gathered::default();
    let told = copies.iter().filter(|copy| copy.rule.applies_deletes());
    gathered.known.copies = told.map(|copy| copy.store.region().clone()).collect();
    gathered.known.regions = regions.iter().map(|store| store.region().clone()).collect::<BTreeSet<_>>();
    let asked = regions.iter().map(|store| async move { (store.region(), timeout(WITHIN, ask(store)).await) });
    let mut newest = BTreeMap::new();
    for (region, told) in join_all(asked).await {
        let (links, (marks, etag), scrubbed, repaired) = match told {
            Ok(Ok(told)) => told,
            Ok(Err(error)) => {
                tracing::debug!(%region, %error, "it cannot be asked what is known of it");
                gathered.known.unreachable.insert(region.clone());
                continue;
            }
            Err(_) => {
                gathered.known.unreachable.insert(region.clone());
                continue;
            }
        };
        gathered.take_links(links, &mut newest);
        gathered.take_passes(scrubbed, false);
        gathered.take_passes(repaired, true);
        gathered.marks.insert(region.clone(), marks);
        gathered.etags.extend(etag.map(|etag| (region.clone(), etag)));
    }
    let synced = newest.into_iter().filter_map(|(ends, link)| Some((ends, link.last_sync?)));
    gathered.known.links = synced.collect();
    gathered
}
