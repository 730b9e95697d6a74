//! Waiting until every link has passed a time: until then everything is delivered.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;

use super::Drill;
use crate::model::{Region, Time};
use crate::replicator::read_links;
use crate::settle::{LinkState, LinkStatus};

/// The wait between two readings: links are published every few seconds.
const LOOK_EVERY: Duration = Duration::from_millis(250);

impl Drill {
    /// Now, by the clock of each region.
    pub(super) fn now(&self) -> BTreeMap<Region, Time> {
        self.regions.iter().map(|store| (store.region().clone(), self.clock(store))).collect()
    }

    /// Waits until every link flows and has passed `since` of its source; `far` is told which do not.
    pub(super) async fn until_synced(&self, since: &BTreeMap<Region, Time>, mut far: impl FnMut(String) + Send) {
        loop {
            let asked = self.regions.iter().map(|store| async move {
                // One that does not answer for a moment may answer again.
                (store.region(), self.in_time(read_links(store)).await.unwrap_or_default())
            });
            let published: BTreeMap<&Region, Vec<LinkStatus>> = join_all(asked).await.into_iter().collect();
            let behind = self.links().filter(|(source, to)| {
                let links = published.get(source).into_iter().flatten();
                let link = links.into_iter().find(|link| link.source == **source && link.destination == **to);
                !link
                    .is_some_and(|link| link.state == LinkState::Flowing && link.last_sync > since.get(source).copied())
            });
            let behind: Vec<String> = behind.map(|(source, to)| format!("{source} to {to}")).collect();
            if behind.is_empty() {
                return;
            }
            far(behind.join(", "));
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn links(&self) -> impl Iterator<Item = (&Region, &Region)> {
        let regions = || self.regions.iter().map(crate::stores::RegionStore::region);
        regions().flat_map(move |source| regions().filter(move |to| *to != source).map(move |to| (source, to)))
    }
}
