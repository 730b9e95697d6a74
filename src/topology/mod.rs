//! Who does what: the roles of regions, which tables are replicated, and which daemon of a region carries which shards.

mod filter;
mod member;
mod role;
mod share;
mod tenancy;

pub use filter::TableFilter;
pub use member::{Member, MemberId, MemberRowError};
pub use role::Role;
pub use share::shares;
pub use tenancy::{LeaseRules, Tenancy, Turn};
