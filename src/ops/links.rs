//! Which links have not passed a time yet.

use std::collections::BTreeMap;

use futures::future::join_all;

use super::failover::in_time;
use crate::model::{Region, Time};
use crate::replicator::read_links;
use crate::settle::{LinkState, LinkStatus};
use crate::stores::RegionStore;

/// The links between these regions, and to this copy, that do not flow, or have not passed `since` of their source, as the sources publish them. One
/// whose source does not answer has not.
pub(super) async fn behind<'a>(
    regions: &'a [RegionStore],
    copy: Option<&'a Region>,
    since: &BTreeMap<Region, Time>,
) -> Vec<(&'a Region, &'a Region)> {
    let asked = regions.iter().map(|store| async move {
        // One that does not answer for a moment may answer again.
        (store.region(), in_time(read_links(store)).await.unwrap_or_default())
    });
    let published: BTreeMap<&Region, Vec<LinkStatus>> = join_all(asked).await.into_iter().collect();
    let names = || regions.iter().map(RegionStore::region);
    let links =
        names().flat_map(|source| names().chain(copy).filter(move |to| *to != source).map(move |to| (source, to)));
    let passed = |(source, to): &(&Region, &Region)| {
        let links = published.get(source).into_iter().flatten();
        let link = links.into_iter().find(|link| link.source == **source && link.destination == **to);
        link.is_some_and(|link| link.state == LinkState::Flowing && link.last_sync > since.get(source).copied())
    };
    links.filter(|link| !passed(link)).collect()
}
