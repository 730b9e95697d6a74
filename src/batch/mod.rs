//! Station 2: what waits for one consumer, coalesced per row, and taken in batches.
//!
//! [`Pending`] holds one finding per row: a newer look replaces an older one, so a row that changes faster than a
//! destination can take it costs the destination one write, not one per change. [`Limits`] bound a batch by rows and
//! bytes; whatever comes first always fits.

mod limits;
mod pending;

pub use limits::Limits;
pub use pending::{Parcel, Pending};
