//! Last-writer-wins, and every other verdict of the protocol.
//!
//! Each file is one rule: what is known goes in, what must be done comes out. Nothing here reads, writes, waits or
//! knows a clock; who calls decides nothing that could be decided here.
//!
//! - [`meaning`]: what a look at the source says about an announcement (R2, R3);
//! - [`deliver_row`], [`deliver_delete`]: what must happen at a destination (R4, R5, R6, R10);
//! - [`may_conflict`], [`is_conflict`]: which change was lost to a region that did not know it (R6);
//! - [`from_the_future`]: which versions are not applied (R7);
//! - [`lateness`], [`is_unsent`]: what a region that is no writer has and its writer does not, and what it had not sent;
//! - [`difference`], [`mend`]: how a row differs between two regions, and what makes it equal;
//! - [`Freshness`]: until when a look may be acted on (R9).

mod conflict;
mod deliver;
mod differ;
mod finding;
mod freshness;
mod future;
mod late;
mod meaning;

pub use conflict::{Decision, Evidence, decision, is_conflict, may_conflict};
pub use deliver::{Verdict, deliver_delete, deliver_row};
pub use differ::{Content, Difference, Mend, Sight, difference, has_passed, keeper, mend, mend_copy};
pub use finding::{Finding, Standing};
pub use freshness::Freshness;
pub use future::from_the_future;
pub use late::{Lateness, is_unsent, lateness};
pub use meaning::{Meaning, meaning};
