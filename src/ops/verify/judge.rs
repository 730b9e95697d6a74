//! Rows that differed when their pages were compared, looked at again before they count.
//!
//! The pages of two regions are not of one moment, and applications go on writing. So a row that differs is a suspect: what
//! it is known to wait for is found out, then it is looked at by itself. What differs still and was stored a while ago, wherever
//! it was, is judged at once. The rest may be on its way, and is looked at once more when the links have passed it, or when its
//! time is up.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::try_join;
use tokio::time::sleep;

use super::Verify;
use super::named::{Names, names};
use super::report::Waits;
use crate::model::{Region, RowId, Time, Version};
use crate::ops::links::behind;
use crate::ops::patient::patiently;
use crate::planted::{Bug, planted};
use crate::replicator::Sights;
use crate::resolve::{Difference, Sight, difference};
use crate::stores::{DATE_RESOLUTION, RegionStore, StoreError};

/// How many rows are looked at together: by versions alone, and whole.
const TOGETHER: usize = 200;
const TOGETHER_WHOLE: usize = 16;
/// How long what was written may take beyond the settle window until it counts as a difference.
const GRACE: Duration = Duration::from_secs(10);
/// The first pause and the longest one while links are waited for.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(2));

/// A row that differs.
#[derive(Debug, Clone)]
pub(super) struct Judged {
    pub id: RowId,
    pub kind: Difference,
    /// What stands in the first region, and in the other one.
    pub sights: [Sight; 2],
    pub waits: Option<Waits>,
}

/// What one look at a suspect found.
struct Looked {
    judged: Judged,
    /// When the younger of what stands was stored, by its own region's clock: how long ago.
    age: Option<Duration>,
}

/// Looks at rows of both regions.
#[derive(Debug)]
pub(super) struct Judge<'a> {
    verify: &'a Verify,
    from: Sights,
    to: Sights,
    /// Regions that could not be asked what waits there.
    pub unasked: BTreeSet<Region>,
}

impl<'a> Judge<'a> {
    pub fn new(verify: &'a Verify, from: &RegionStore, to: &RegionStore) -> Self {
        let sights = |store: &RegionStore| Sights::new(store.clone(), verify.line.tombstone_scan, verify.content);
        let from = sights(from).narrowed_by(verify.copy().map(|copy| copy.rule.clone()));
        Self { verify, from, to: sights(to), unasked: BTreeSet::new() }
    }

    /// Those of the suspects that differ.
    pub async fn judge(&mut self, suspects: &BTreeSet<RowId>) -> Result<Vec<Judged>, StoreError> {
        let (mut judged, mut young) = (Vec::new(), BTreeMap::<RowId, Version>::new());
        let settled = self.settled_after();
        for looked in self.look(&suspects.iter().collect()).await? {
            let highest = looked.judged.sights.iter().filter_map(Sight::newest).max().cloned();
            match highest.filter(|_| looked.age.is_none_or(|age| age < settled) && !planted(Bug::SuspectsCount)) {
                Some(highest) => drop(young.insert(looked.judged.id, highest)),
                None => judged.push(looked.judged),
            }
        }
        if young.is_empty() {
            return Ok(judged);
        }
        self.until_passed().await;
        for Looked { judged: again, .. } in self.look(&young.keys().collect()).await? {
            // Written anew since: what was seen has gone, and this is on its way, or is found by the next pass.
            let newest = again.sights.iter().filter_map(Sight::newest).max();
            if newest <= young.get(&again.id) {
                judged.push(again);
            }
        }
        judged.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(judged)
    }

    /// After how long what was written is in all regions, or waits by a name.
    fn settled_after(&self) -> Duration {
        self.verify.line.settle_window + DATE_RESOLUTION + GRACE
    }

    /// Looks at rows once; returns those that differ.
    async fn look(&mut self, ids: &BTreeSet<&RowId>) -> Result<Vec<Looked>, StoreError> {
        let (mut found, ids) = (Vec::new(), ids.iter().copied().collect::<Vec<_>>());
        if ids.is_empty() {
            return Ok(found);
        }
        let pair = [&self.verify.from, &self.verify.to];
        let (names, unasked) = names(&self.verify.regions, &pair, &ids.iter().copied().collect()).await?;
        self.unasked.extend(unasked);
        let together = if self.verify.content { TOGETHER_WHOLE } else { TOGETHER };
        for ids in ids.chunks(together) {
            found.extend(self.look_together(ids, &names).await?);
        }
        Ok(found)
    }

    async fn look_together(&self, ids: &[&RowId], names: &Names) -> Result<Vec<Looked>, StoreError> {
        let (here, there) = try_join(patiently(|| self.from.of(ids)), patiently(|| self.to.of(ids))).await?;
        let mut found = Vec::new();
        for ((id, (here, ours)), (there, theirs)) in ids.iter().zip(here).zip(there) {
            let [here, there] = self.verify.narrow_sights(id, [here, there]);
            let Some(kind) = difference(&here, &there) else { continue };
            let waits =
                names.get(*id).and_then(|named| named.waits(&here, &there)).filter(|_| !planted(Bug::WaitsUnasked));
            let age = |stored: Option<Time>, at: &Sights| Some(self.verify.clock(at.store()).since(stored?));
            let age = [age(ours, &self.from), age(theirs, &self.to)].into_iter().flatten().min();
            let judged = Judged { id: (*id).clone(), kind, sights: [here, there], waits };
            found.push(Looked { judged, age });
        }
        Ok(found)
    }

    /// What stands of rows in both regions, in the order asked.
    pub async fn pair(&self, ids: &[&RowId]) -> Result<Vec<[Sight; 2]>, StoreError> {
        let (here, there) = try_join(patiently(|| self.from.of(ids)), patiently(|| self.to.of(ids))).await?;
        let pairs = ids.iter().zip(here.into_iter().zip(there));
        Ok(pairs.map(|(id, ((here, _), (there, _)))| self.verify.narrow_sights(id, [here, there])).collect())
    }

    /// Waits until every link that leads to one of the two regions has passed this moment, or until it should have.
    async fn until_passed(&self) {
        let verify = self.verify;
        let deadline = verify.runtime.instant() + self.settled_after();
        let since = verify.regions.iter().map(|store| (store.region().clone(), verify.clock(store))).collect();
        let mut pause = PAUSES.0;
        loop {
            let behind = behind(&verify.regions, verify.copy().map(|copy| copy.store.region()), &since).await;
            let ours = |to: &Region| *to == verify.from || *to == verify.to;
            let left = deadline.saturating_duration_since(verify.runtime.instant());
            if left.is_zero() || !behind.iter().any(|(_, to)| ours(to)) {
                return;
            }
            sleep(pause.min(left)).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }
}
