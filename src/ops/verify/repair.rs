//! What differs made equal, by what the line delivers and settles by; then looked at again, since only that tells.

use super::Verify;
use super::judge::{Judge, Judged};
use super::report::Fate;
use crate::model::{Region, Version};
use crate::ops::patient::patiently;
use crate::planted::{Bug, planted};
use crate::replicator::{Mender, Setup, Uneven, create_missing};
use crate::resolve::{Mend, Sight, difference, has_passed};
use crate::stores::{RegionStore, StoreError};

/// How many rows are mended together: they are read whole.
const TOGETHER: usize = 32;
/// How often a row is tried: one that is lifted there is taken over here next.
const ROUNDS: usize = 3;

/// What is done about a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// Nothing: it is found.
    No,
    /// Nothing either; what would be done is said.
    DryRun,
    /// It is mended.
    Yes,
}

/// A row on its way to be equal.
struct Open<'a> {
    n: usize,
    judged: &'a Judged,
    /// What stands by the last look.
    sights: [Sight; 2],
    why: Option<String>,
}

/// What became of each of many rows.
pub(super) type Fates = Vec<(Fate, Option<String>)>;

impl Verify {
    /// What mends, where anything is to be mended.
    pub(super) fn mender(&self, from: &RegionStore) -> Option<Mender> {
        if self.repair != Repair::Yes {
            return None;
        }
        let others = self.regions.iter().filter(|store| *store.region() != self.from);
        let setup = Setup {
            local: from.clone(),
            destinations: others.cloned().collect(),
            copies: self.copies.clone(),
            cache: None,
            tables: self.tables.clone(),
            roles: self.roles.clone(),
            reading: None,
            settings: self.line.clone(),
            runtime: self.runtime.clone(),
        };
        Mender::new(setup, &self.to)
    }

    /// Mends what differs and waits for nothing; says what became of each.
    pub(super) async fn mend(
        &self,
        mender: &Mender,
        judge: &Judge<'_>,
        judged: &[Judged],
    ) -> Result<Fates, (Region, StoreError)> {
        let mut fates: Fates = vec![(Fate::Found, None); judged.len()];
        let due = judged.iter().enumerate().filter(|(_, judged)| judged.waits.is_none());
        let (due, left): (Vec<_>, Vec<_>) = due.partition(|(_, judged)| self.mends(judged) != Mend::Nothing);
        for (n, _) in left {
            fates[n] = (Fate::Left, Some("nothing is taken over from a copy".to_owned()));
        }
        let stores = self.regions.iter().chain(self.copies.iter().map(|copy| &copy.store));
        let pair = stores.filter(|store| [&self.from, &self.to].contains(&store.region()));
        for store in pair.filter(|_| !due.is_empty()) {
            // No daemon may have run there yet, to create what is announced in.
            let created = patiently(|| create_missing(store)).await;
            created.map_err(|error| (store.region().clone(), error))?;
        }
        for together in due.chunks(TOGETHER) {
            let open = |(n, judged): &(usize, &'_ Judged)| (*n, judged.sights.clone());
            let open = together.iter().map(open).collect::<Vec<_>>();
            let open = open.into_iter().map(|(n, sights)| Open { n, judged: &judged[n], sights, why: None });
            for left in self.mend_together(mender, judge, open.collect(), &mut fates).await? {
                fates[left.n] = (Fate::Left, left.why.or_else(|| Some("it was written again meanwhile".to_owned())));
            }
        }
        Ok(fates)
    }

    async fn mend_together<'a>(
        &self,
        mender: &Mender,
        judge: &Judge<'_>,
        mut open: Vec<Open<'a>>,
        fates: &mut Fates,
    ) -> Result<Vec<Open<'a>>, (Region, StoreError)> {
        for _ in 0..ROUNDS {
            mender.hear().await?;
            // In a copy it is written anew, as it stands here.
            let twice = |open: &Open<'_>| twice(&open.sights).filter(|_| self.copy().is_none());
            let rows = open.iter().map(|open| Uneven { id: open.judged.id.clone(), twice: twice(open) });
            let failed = mender.mend(&rows.collect::<Vec<_>>()).await;
            let ids: Vec<_> = open.iter().map(|open| &open.judged.id).collect();
            let now = judge.pair(&ids).await.map_err(|error| (self.to.clone(), error))?;
            for ((open, why), sights) in open.iter_mut().zip(failed).zip(now) {
                (open.why, open.sights) = (why, sights);
            }
            open.retain(|open| still_open(open, difference(&open.sights[0], &open.sights[1]).is_none(), fates));
            if open.is_empty() {
                return Ok(open);
            }
        }
        // What came through, and was written again since, is on its way as every change is.
        open.retain(|open| still_open(open, has_come_through(open), fates));
        Ok(open)
    }
}

/// The version that stands on both sides for two things.
fn twice([here, there]: &[Sight; 2]) -> Option<Version> {
    let version = here.newest()?;
    let same = planted(Bug::MendedAnew) || there.newest() == Some(version) && difference(here, there).is_some();
    same.then(|| version.clone())
}

fn still_open(open: &Open<'_>, mended: bool, fates: &mut Fates) -> bool {
    if mended {
        fates[open.n] = (Fate::Mended, None);
    }
    !mended
}

fn has_come_through(open: &Open<'_>) -> bool {
    let highest = open.judged.sights.iter().filter_map(Sight::newest).max();
    highest.is_some_and(|highest| has_passed(highest, &open.sights[0], &open.sights[1]))
}
