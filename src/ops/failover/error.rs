//! Why a failover did not take place, and what that leaves behind.

use std::fmt::Display;
use std::time::Duration;

use crate::model::{Region, Time};
use crate::topology::{Assignment, Refusal};

/// A failover that was refused, or that came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum FailoverError {
    /// The rules do not allow it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A forced one too soon after another.
    #[error(
        "the roles were moved at {at} by {who} (epoch {epoch}), and a forced failover is refused for another {} s; if this \
         is no second reaction to the same trouble, say --again",
        .left.as_secs().max(1)
    )]
    TooSoon {
        /// When they were moved.
        at: Time,
        /// By whom.
        who: String,
        /// To which epoch.
        epoch: u64,
        /// How long it is still refused.
        left: Duration,
    },
    /// A region whose word is needed does not give it.
    #[error("region {region} is needed for this and cannot be asked: {why}")]
    Unreachable {
        /// The region.
        region: Region,
        /// Why not.
        why: String,
    },
    /// Another planned failover is under way.
    #[error("a planned failover of {from} to {to} by {by} is under way until {deadline}; wait for its end")]
    UnderWay {
        /// Whose role it takes.
        from: Region,
        /// Where to.
        to: Region,
        /// Who began it.
        by: String,
        /// When it ends by itself.
        deadline: Time,
    },
    /// Somebody else was faster.
    #[error("the roles were changed meanwhile: {}; look at `tablerelay status`, then decide again", told(.now))]
    Overtaken {
        /// What is in force now.
        now: Box<Assignment>,
    },
    /// It took too long.
    #[error("given up at its deadline: {what}. Nothing has moved, and {from} serves writes again")]
    Late {
        /// What was waited for.
        what: String,
        /// The region that stays the writer.
        from: Region,
    },
    /// The target lacks what a region wrote that gave its role up by plan before, and that region does not send it.
    #[error(
        "{to} is behind: {region} gave its role up at {until}, and {to} has what {region} wrote before up to {} alone. Nothing \
         has moved. Bring {region} back or see why it does not send; if it is gone for good, take it out of the configuration",
        .last_sync.map_or_else(|| "an unknown time".to_owned(), |time| time.to_string())
    )]
    Owed {
        /// The region that owes something.
        region: Region,
        /// The target.
        to: Region,
        /// When it gave its role up.
        until: Time,
        /// What it has sent.
        last_sync: Option<Time>,
    },
    /// Somebody asked for the end before anybody was told of it.
    #[error("given up as asked, before anything was begun")]
    Unbegun,
    /// It took so long that the region took its role back.
    #[error("its time was over before the role could be moved. Nothing has moved, and {from} serves writes again")]
    Expired {
        /// The region that stays the writer.
        from: Region,
    },
    /// Somebody asked for the end.
    #[error("given up as asked. Nothing has moved, and {from} serves writes again{}", if *.told { "" } else { " when the deadline has passed" })]
    GivenUp {
        /// The region that stays the writer.
        from: Region,
        /// Whether it was told.
        told: bool,
    },
    /// Nobody knows whether the roles have moved.
    #[error(
        "whether the role has moved is not known, since {region} does not answer any more: {why}; `tablerelay status` shows it once it does"
    )]
    Unknown {
        /// The region whose copy decides.
        region: Region,
        /// What it answered last.
        why: String,
    },
}

fn told(now: &Assignment) -> String {
    let to = now.to.as_ref().map(|to| format!(" to {to}")).unwrap_or_default();
    format!("epoch {}, {}{to} by {}", now.mark.epoch, now.kind, now.who)
}

impl FailoverError {
    pub(super) fn unreachable(region: &Region, why: impl Display) -> Self {
        Self::Unreachable { region: region.clone(), why: why.to_string() }
    }
}
