//! Who does what: the roles of regions and how a failover moves them, which tables are replicated and what of them goes to copies,
//! which daemon of a region carries which shards, and which account of a region holds which rows.

mod assignment;
mod copies;
mod cut;
mod failover;
mod filter;
mod late;
mod marks;
mod member;
mod pattern;
mod presence;
mod reading;
mod role;
mod routes;
mod shape;
mod share;
mod tenancy;
mod trail;

pub use assignment::{Assignment, Mark, MoveKind, Moving, RolesRow, RolesRowError};
pub use copies::{CopiedTable, CopyRule, Deletes, Properties};
pub use cut::Cut;
pub use failover::{Move, Refusal, plan_move, stand_in, too_soon};
pub use filter::{NotReplicated, TableFilter};
pub use late::LateWrites;
pub use marks::{Marks, MarksRowError, is_barred};
pub use member::{Member, MemberId, MemberRowError};
pub use pattern::PartitionPattern;
pub use presence::{Found, Obeyed, Presence, WriteHealth};
pub use reading::{Alone, Door, Inbound, ReadRules, Reading, View};
pub use role::Role;
pub use routes::{
    Ageing, MoveState, MovingRows, Partitions, Place, PublishedRoutes, Route, RoutedTables, Routes, RoutesError,
    RoutesRowError, Tier, highest,
};
pub use shape::{Contradiction, FileRoles, Topology};
pub use share::shares;
pub use tenancy::{LeaseRules, Tenancy, Turn};
pub use trail::Unsent;
