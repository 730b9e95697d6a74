//! A part of a table compared and mended for somebody who keeps a ledger of their own.

use std::collections::BTreeSet;

use super::judge::{Judge, Judged};
use super::narrow::Narrowed;
use super::report::{Fate, Waits};
use super::rows::{Join, Span};
use super::{MOST_SUSPECTS, Verify};
use crate::model::{Region, Row, RowId, TableName};
use crate::replicator::Mender;
use crate::resolve::{Content, Difference, Mend, Sight, Standing, difference};
use crate::stores::{RegionStore, StoreError};

/// What was found of a part of a table.
#[derive(Debug, Default)]
pub(in crate::ops) struct Part {
    /// Distinct rows of both regions.
    pub rows: u64,
    /// Those that differed, as far as they were to be mended or wait for something.
    pub different: Vec<PartRow>,
    /// Those that differed and were to be left; and those of them that are known to wait for something.
    pub left: u64,
    pub waiting: u64,
}

/// A row that differed.
#[derive(Debug)]
pub(in crate::ops) struct PartRow {
    pub id: RowId,
    pub kind: Difference,
    pub waits: Option<Waits>,
    pub fate: Fate,
    pub why: Option<String>,
}

/// A row that differs, for who decides whether it is to be mended.
#[derive(Debug, Clone, Copy)]
pub(in crate::ops) struct Suspect<'a> {
    pub kind: Difference,
    pub here: &'a Sight,
    pub there: &'a Sight,
}

impl Verify {
    /// Compares the rows of `span`, looks again at those that differ, and mends those of them that `brings` names. What waits for
    /// something is left to what brings it. The ledger of passes is not touched.
    ///
    /// # Errors
    /// What one of the regions goes on answering. Nothing is known of the span then.
    pub(in crate::ops) async fn part(
        &self,
        mender: &Mender,
        [from, to]: [&RegionStore; 2],
        table: &TableName,
        span: &Span,
        brings: &(dyn Fn(Suspect<'_>) -> bool + Sync),
    ) -> Result<Part, StoreError> {
        let (mut judge, mut join) = (Judge::new(self, from, to), Join::new([from, to], table, span, self.content));
        let mut part = Part::default();
        loop {
            let (mut suspects, mut through) = (BTreeSet::new(), true);
            while let Some((key, mut found)) = join.next().await? {
                let narrowed = self.narrow(table, &key, &mut found);
                part.rows += u64::from(narrowed == Narrowed::Compared);
                if narrowed == Narrowed::Compared && self.differ(&found) {
                    suspects.insert(RowId::new(table.clone(), key.0, key.1));
                }
                if suspects.len() >= MOST_SUSPECTS {
                    through = false;
                    break;
                }
            }
            let judged = judge.judge(&suspects).await?;
            let (brought, left): (Vec<Judged>, _) = judged.into_iter().partition(|judged| {
                let [here, there] = &judged.sights;
                brings(Suspect { kind: judged.kind, here, there }) && self.mends(judged) != Mend::Nothing
            });
            part.left += left.iter().filter(|judged| judged.waits.is_none()).count() as u64;
            part.waiting += left.iter().filter(|judged| judged.waits.is_some()).count() as u64;
            let fates = self.mend(mender, &judge, &brought).await.map_err(|(_, error)| error)?;
            let row = |(judged, (fate, why)): (Judged, (Fate, Option<String>))| PartRow {
                id: judged.id,
                kind: judged.kind,
                waits: judged.waits,
                fate,
                why,
            };
            part.different.extend(brought.into_iter().zip(fates).map(row));
            if through {
                return Ok(part);
            }
        }
    }

    /// Whether a row differs, by what a page of each region says.
    pub(super) fn differ(&self, found: &[Option<Row>]) -> bool {
        let sight = |row: &Option<Row>, region: &Region| {
            let version = row.as_ref().map(|row| row.version(region));
            Sight { standing: Standing { row: version, tombstone: None }, content: None }
        };
        let [here, there] = found else { return false };
        let (mut ours, mut theirs) = (sight(here, &self.from), sight(there, &self.to));
        if let (Some(here), Some(there), true) = (here, there, self.content)
            && here.body.json() != there.body.json()
        {
            (ours.content, theirs.content) = (Some(Content::of(&here.body)), Some(Content::of(&there.body)));
        }
        difference(&ours, &theirs).is_some()
    }
}
