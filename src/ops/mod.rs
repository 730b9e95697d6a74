//! What is done when somebody asks for it: whole tables at a time through what the line does, tables copied that hold data
//! already, waiting for it, two regions compared, rows of a copy brought back, the role of a writer moved, and all of that rehearsed.

mod backfill;
mod collect;
mod drill;
mod failover;
mod links;
mod patient;
mod rebalance;
mod restore;
mod scrub;
mod stand;
mod tier;
mod verify;
mod wait;
mod warm;

pub use backfill::{
    Backfill, BackfillError, BackfillProgress, BackfillState, Backfilled, BackfilledTable, Copied, Planned,
    PlannedTable, TellBackfill,
};
pub use collect::{Collected, Collection, Collector, Kept, read_collection};
pub use drill::{
    ComparedTable, Comparison, Difference, DoneStep, Drill, DrillError, DrillProgress, DrillReport, DrillStep,
    DrillVerdict, FailedOver, FailedStep, Held, TellDrill, UnsentRows,
};
pub use failover::{Done, Failover, FailoverError, LinkRisk, Owed, Progress, Risk, RiskRow, Survey, Tell};
pub use rebalance::{Rebalance, RebalanceError, RebalanceStep, Rebalanced, TellRebalance};
pub use restore::{Restore, RestoreError, Restored, RestoredRow, Restoring, TellRestored};
pub use scrub::{Passes, Scrubber};
pub use tier::{Demotion, Demotions, Mover};
pub use verify::{
    Differs, Fate, Has, LastPass, Ledger, Repair, TellVerified, Verified, VerifiedTable, Verify, VerifyError, Waits,
};
pub use wait::{Reached, Wait, Waited};
pub use warm::{WarmError, Warmed, WarmedTable, Warming};

#[cfg(test)]
mod copied;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;
