//! What a drill asks of the regions: whether it may begin, what is in force, what was not sent.

use std::time::Duration;

use super::cut::{no_roles, under_way};
use super::report::UnsentRows;
use super::{Drill, DrillError};
use crate::model::{PartitionKey, Region, SystemTable};
use crate::topology::{Assignment, Mark, MoveKind, Refusal, RolesRow, Unsent, too_soon};

/// The wait between two looks at something that is to happen.
const LOOK_EVERY: Duration = Duration::from_millis(250);

impl Drill {
    /// Whether a drill may begin: everything is well, and nobody else is at it. Tells of what it waits for.
    pub(super) async fn check(&self, waits: &(dyn Fn(String) + Sync)) -> Result<Assignment, DrillError> {
        let known: Vec<&str> = self.file.roles().keys().map(Region::as_str).collect();
        if !self.file.roles().contains_key(&self.region) {
            let (region, known) = (self.region.clone(), known.join(", "));
            return Err(Refusal::NoRegion { region, known }.into());
        }
        if known.len() < 2 {
            return Err(DrillError::Alone);
        }
        let now = self.quiet().await?;
        let heard = self.until_obeyed(
            |obeyed| obeyed.mark == now.mark && obeyed.cut.is_none() && obeyed.moving.is_none(),
            |far| waits(format!("by the roles in force go {far}")),
        );
        heard.await;
        self.until_synced(&self.now(), |far| waits(format!("not up to date: {far}"))).await;
        Ok(now)
    }

    /// The roles in force, where all regions have the same and nothing is under way.
    async fn quiet(&self) -> Result<Assignment, DrillError> {
        let failover = self.failover(&self.region, None, false);
        let answers = failover.ask(&[]).await;
        let now = failover.highest(&answers);
        for answer in &answers {
            let region = answer.store.region();
            let copy = answer.copy.as_ref().map_err(|error| DrillError::unreachable(region, error))?;
            let row = copy.row().ok_or_else(|| no_roles(region))?;
            if let Some(error) = under_way(row, self.clock(answer.store)) {
                return Err(error);
            }
            if row.assignment.mark != now.mark {
                return Err(DrillError::unreachable(region, "its copy of the roles is behind"));
            }
            let soon = too_soon(&now, self.clock(answer.store), self.cool_down);
            if now.kind == MoveKind::Forced && soon.is_some() {
                return Err(DrillError::TooSoon { who: now.who, at: now.at });
            }
        }
        Ok(now)
    }

    /// The roles in force, where anybody answers.
    pub(super) async fn present(&self) -> Option<Assignment> {
        let failover = self.failover(&self.region, None, false);
        let answers = failover.ask(&[]).await;
        answers.iter().any(|answer| answer.copy.is_ok()).then(|| failover.highest(&answers))
    }

    /// What the region had not sent when it lost its role, once it has counted that.
    pub(super) async fn unsent(&self, mark: &Mark) -> UnsentRows {
        let (table, partition) = (SystemTable::Control.name(), PartitionKey::from(RolesRow::PARTITION));
        let key = RolesRow::trail_key(mark);
        loop {
            let stores = self.regions.iter().filter(|store| *store.region() == self.region);
            for store in stores {
                // One that does not answer for a moment may answer again.
                let row = self.in_time(store.home().get(&table, &partition, &key)).await.ok().flatten();
                if let Some(unsent) = row.and_then(|row| Unsent::decode(&row.body)) {
                    return UnsentRows { rows: unsent.rows, later: unsent.later, unasked: unsent.unasked };
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
