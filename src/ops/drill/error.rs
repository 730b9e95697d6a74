//! Why a drill was not begun, or did not come to its end.

use crate::model::{Region, Time};
use crate::ops::FailoverError;
use crate::stores::StoreError;
use crate::topology::Refusal;

/// A drill that was refused, or a step that failed.
#[derive(Debug, thiserror::Error)]
pub enum DrillError {
    /// The region is not in the configuration.
    #[error(transparent)]
    Region(#[from] Refusal),
    /// There is nothing that it could be cut off from.
    #[error("the configuration has one region alone; there is nothing to cut it off from")]
    Alone,
    /// A region does not answer, or has no roles yet.
    #[error("region {region} cannot be asked: {why}; a drill wants all regions well")]
    Unreachable {
        /// The region.
        region: Region,
        /// Why not.
        why: String,
    },
    /// A failover or another drill is under way.
    #[error("{what} by {by} is under way until {deadline}; wait for its end")]
    UnderWay {
        /// What.
        what: String,
        /// Who began it.
        by: String,
        /// When it ends by itself.
        deadline: Time,
    },
    /// A forced failover was a moment ago.
    #[error("{who} forced a failover at {at}; a drill is refused for `failover.cool_down` after that")]
    TooSoon {
        /// Who.
        who: String,
        /// When.
        at: Time,
    },
    /// What was waited for did not come.
    #[error("not within {seconds} s: {what}")]
    Late {
        /// How long it was waited for.
        seconds: u64,
        /// What was waited for, and how far it came.
        what: String,
    },
    /// Somebody asked for the end.
    #[error("ended as asked")]
    Stopped,
    /// The role did not move, or not back.
    #[error(transparent)]
    Failover(#[from] FailoverError),
    /// Nobody serves.
    #[error("the role has moved to {region}, and no daemon there has said that it serves")]
    Silent {
        /// The region.
        region: Region,
    },
    /// The roles are not what they were.
    #[error("the roles are not as they were before the drill")]
    OtherRoles,
    /// The cut could not be taken out.
    #[error("the cut still stands in {regions}; it ends by itself at {deadline} at the latest")]
    CutStands {
        /// Where.
        regions: String,
        /// When it ends.
        deadline: Time,
    },
    /// The tables could not be read.
    #[error("the tables could not be compared: {0}")]
    Unread(#[from] StoreError),
}

impl DrillError {
    pub(super) fn unreachable(region: &Region, why: impl std::fmt::Display) -> Self {
        Self::Unreachable { region: region.clone(), why: why.to_string() }
    }
}
