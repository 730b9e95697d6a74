//! What a drill found.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Drill;
use super::compare::Comparison;
use crate::closed_list;
use crate::model::{Region, Time};
use crate::ops::Risk;
use crate::topology::{Role, Topology};

closed_list! {
    /// The steps of a drill, in their order.
    pub enum DrillStep {
        Check = "check", "every region answers, its daemons go by the same roles, and no link is behind", "none";
        Cut = "cut", "the region is cut off, and every daemon has heard of it", "none";
        FailOver = "fail-over", "what is at risk is found out, the role is forced to another region, and that serves", "none";
        Rejoin = "rejoin", "the cut ends, the region knows its role, and what waited is delivered", "none";
        FailBack = "fail-back", "a planned failover brings the role back", "none";
        Compare = "compare", "all rows of all replicated tables are compared between all regions", "none";
    }
}

closed_list! {
    /// How a drill came out.
    pub enum DrillVerdict {
        Equal = "equal", "every step was done, and all regions are equal", "none";
        Different = "different",
            "every step was done, and rows differ between regions",
            "look at the rows that the report names with `tablerelay inspect`, and report it";
        Failed = "failed",
            "a step failed, and those behind it were not done",
            "do what the report says, then hold another drill";
    }
}

/// What a drill found.
#[derive(Debug, Clone, Serialize)]
pub struct DrillReport {
    /// The version of this form.
    pub schema: u32,
    /// The region that was cut off.
    pub region: Region,
    /// What kind of topology it is.
    pub topology: Topology,
    /// The roles before.
    pub roles: BTreeMap<Region, Role>,
    /// Who held it.
    pub who: String,
    /// And why.
    pub why: String,
    /// When it began, by the clock of whoever held it.
    pub began: Time,
    /// When it was over.
    pub ended: Time,
    /// What was done, and how long each took.
    pub steps: Vec<DoneStep>,
    /// How long the region was cut off.
    pub cut_seconds: Option<f64>,
    /// The failover, where the region was a writer.
    pub failover: Option<FailedOver>,
    /// From the end of the cut until the region knew its role.
    pub role_seconds: Option<f64>,
    /// From the end of the cut until everything that waited was delivered, as the links published it.
    pub recovered_seconds: Option<f64>,
    /// How long the planned failover back took.
    pub back_seconds: Option<f64>,
    /// What the comparison found.
    pub compared: Option<Comparison>,
    /// The step that failed.
    pub failed: Option<FailedStep>,
}

/// A step that was done.
#[derive(Debug, Clone, Serialize)]
pub struct DoneStep {
    /// Which.
    pub step: DrillStep,
    /// How long it took.
    pub seconds: f64,
}

/// A step that failed.
#[derive(Debug, Clone, Serialize)]
pub struct FailedStep {
    /// Which.
    pub step: DrillStep,
    /// Why.
    pub why: String,
    /// What is to be done next, each thing in a sentence.
    pub next: Vec<String>,
}

/// The failover of a drill.
#[derive(Debug, Clone, Serialize)]
pub struct FailedOver {
    /// The region that took over.
    pub to: Region,
    /// The epoch that it made.
    pub epoch: u64,
    /// What was at risk by all that others could know of the region.
    pub estimate: Option<Risk>,
    /// What was at risk, row by row, as its own store tells.
    pub exact: Risk,
    /// From the beginning of the cut until the new writer served.
    pub serving_seconds: f64,
    /// The same from the beginning of the failover.
    pub command_seconds: f64,
    /// What the region counted of it once it was back.
    pub unsent: Option<UnsentRows>,
}

/// What a region had not sent when it lost its role.
#[derive(Debug, Clone, Serialize)]
pub struct UnsentRows {
    /// How many rows.
    pub rows: u64,
    /// How many of them were written after the failover.
    pub later: u64,
    /// Regions that could not be asked whether they have some of it.
    pub unasked: Vec<Region>,
}

impl DrillReport {
    /// Of a drill of which nothing is done yet.
    pub(super) fn new(drill: &Drill, roles: BTreeMap<Region, Role>, began: Time) -> Self {
        Self {
            schema: 1,
            region: drill.region.clone(),
            topology: drill.file.topology(),
            roles,
            who: drill.who.clone(),
            why: drill.why.clone(),
            began,
            ended: began,
            steps: Vec::new(),
            cut_seconds: None,
            failover: None,
            role_seconds: None,
            recovered_seconds: None,
            back_seconds: None,
            compared: None,
            failed: None,
        }
    }

    /// How it came out.
    pub fn verdict(&self) -> DrillVerdict {
        match (&self.failed, &self.compared) {
            (None, Some(compared)) if compared.differences() == 0 && !compared.at_least => DrillVerdict::Equal,
            (None, Some(_)) => DrillVerdict::Different,
            _ => DrillVerdict::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_and_verdicts_are_closed_lists() {
        crate::model::assert_well_formed::<DrillStep>();
        crate::model::assert_well_formed::<DrillVerdict>();
    }
}
