//! The change feed: how records and tombstones are written down, in the table form and in the queue form.
//!
//! A *record* is an announcement in the feed, a *tombstone* what a delete leaves. Both stand in `RelayFeed` under the
//! partition of their [`Shard`]. This room turns nouns into rows and rows into nouns, and holds the limits of both; it
//! does no I/O. Whatever is written by the protocol, by an application or by a daemon, is encoded here; so is the applied
//! log, by which a destination learns what came in.
//!
//! What waits for a consumer that is down is a [`Hint`] in `RelayBacklog`.
//!
//! What cannot be decoded is [`Malformed`] for one [`Reason`], and goes to quarantine whole, as an [`Entry`]. The
//! decoders are strict where a slip of the writer would do harm later (a wrong shard hides tombstones), and lenient
//! where it cannot (a row key that a list names twice is taken once, a `Base` that does not parse is left out).

mod applied;
mod hash;
mod hint;
mod malformed;
mod message;
mod parts;
mod quarantine;
mod record;
#[cfg(test)]
pub(crate) mod samples;
mod shard;
mod split;
mod tombstone;

pub use applied::{
    Applied, arrival_of, arrivals, decode_applied, encode_applied, encode_arrivals, row_lists, rows_of_list, tells_of,
};
pub use hint::{Hint, decode_hint, encode_hint, hint_consumer, hint_keys, hint_partitions, hint_since};
pub use malformed::{Malformed, Reason};
pub use message::{decode_message, encode_message};
pub use parts::{first_units, in_parts, joined, part_name};
pub use quarantine::{Entry, Source, UnreadableEntry, entry_id, entry_keys};
pub use record::{
    Record, decode_record, encode_change, encode_numbered, encode_relayed, encode_relayed_nth, is_record_key,
    record_prefix,
};
pub use shard::{AccountShard, Shard};
pub use split::{EncodeError, MAX_DELETES, MAX_LIST_UNITS, MAX_ROWS, split};
pub use tombstone::{decode_tombstone, encode_tombstone, tombstone_key, tombstone_prefix, tombstones_prefix};
