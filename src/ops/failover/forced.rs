//! A forced failover: the old writer's region may be gone.
//!
//! It is told first what that leaves behind, and only then done. The copy of the target's region decides; the old region hears of it
//! when it is back, before it does anything else. What it had not delivered is then late.

use std::collections::BTreeMap;

use futures::future::join;
use serde::Serialize;

use super::risk::encode;
use super::{Done, Failover, FailoverError, Owed, Risk, Tell, over_older};
use crate::model::Region;
use crate::stores::StoreError;
use crate::topology::{Assignment, Move, MoveKind, RolesRow, plan_move, too_soon};

/// What a forced failover would do.
#[derive(Debug, Clone, Serialize)]
pub struct Survey {
    /// The roles in force.
    pub now: Assignment,
    /// The move.
    #[serde(rename = "move")]
    pub planned: Move,
    /// What is at risk; none where nobody loses a role.
    pub risk: Option<Risk>,
    /// What the new writer lacks beside that: of regions that gave the role up by plan before, and have yet to deliver it.
    pub owed: Vec<Owed>,
    /// Regions that answer and whose trail could not be read: there may be more of that.
    pub untold: Vec<Region>,
    /// Regions that did not answer: they are not waited for again.
    #[serde(skip)]
    silent: Vec<Region>,
}

impl Failover {
    /// Finds out what a forced failover would do, and changes nothing. `again`: it may follow another soon.
    ///
    /// # Errors
    /// [`FailoverError`]: why it may not be, or cannot be.
    pub async fn survey(&self, again: bool) -> Result<Survey, FailoverError> {
        let answers = self.ask(&[]).await;
        let now = self.highest(&answers);
        let planned = plan_move(&self.file, &now, &self.to, self.from.as_ref(), MoveKind::Forced)?;
        let target = self.store(&self.to)?;
        self.copy(target).await?;
        if let Some(left) = too_soon(&now, self.clock(target), self.cool_down).filter(|_| !again) {
            let (at, who, epoch) = (now.at, now.who, now.mark.epoch);
            return Err(FailoverError::TooSoon { at, who, epoch, left });
        }
        let silent = answers.iter().filter_map(|answer| {
            let error = answer.copy.as_ref().err()?;
            Some((answer.store.region().clone(), error.clone()))
        });
        let silent: BTreeMap<Region, StoreError> = silent.collect();
        let risk = async {
            let from = planned.from.as_ref()?;
            Some(self.risk(from, silent.get(from).cloned()).await)
        };
        let (risk, (owed, untold)) = join(risk, self.owed(&now, planned.from.as_ref(), &silent)).await;
        Ok(Survey { now, planned, risk, owed, untold, silent: silent.into_keys().collect() })
    }

    /// Moves the role whatever it leaves behind.
    ///
    /// # Errors
    /// [`FailoverError`]: why it did not take place.
    pub async fn force(&self, survey: &Survey, tell: &mut Tell<'_>) -> Result<Done, FailoverError> {
        let started = self.runtime.instant();
        let answers = self.ask(&survey.silent).await;
        let now = self.highest(&answers);
        // The old region may be back with the word of somebody else.
        if now.mark > survey.now.mark {
            return Err(FailoverError::Overtaken { now: Box::new(now) });
        }
        let target = self.store(&self.to)?;
        let at = self.clock(target);
        let (planned, risk) = (&survey.planned, encode(survey.risk.as_ref(), &survey.owed));
        let assignment = self.assignment(&survey.now, planned, MoveKind::Forced, at, risk);
        let row = RolesRow::still(assignment.clone());
        self.settle(target, &row, &over_older(&row)).await?;
        self.finish(&assignment, started, tell).await
    }
}
