//! Who does what: the roles of regions, and which tables are replicated.

mod filter;
mod role;

pub use filter::TableFilter;
pub use role::Role;
