//! Station 6: who has it. Acknowledgement, settle window, Last Sync Time.
//!
//! [`Ledger`] is the bookkeeping of one shard: pure, told of everything, asked for what is due; the protocol's R1 is held
//! there and nowhere else. [`LinkStatus`] is what both ends of a link publish in `RelayControl`, so that
//! `tablerelay status` can be asked from anywhere. [`LinkPart`] is what one daemon of several knows of a link. [`watermark`] is the protocol's R8: when
//! what a delete left may go.

mod collect;
mod consumers;
mod ledger;
mod link;
mod open;
mod part;
#[cfg(test)]
mod tests;

pub use collect::{CollectRules, HeldBy, Known, Pair, Watermark, has_gone, pair, watermark};
pub use consumers::Consumers;
pub use ledger::{DueLook, Ledger, Looked, Offer, SettleRules};
pub use link::{LinkRowError, LinkState, LinkStatus, Word};
pub use part::{LinkPart, Synced, Together, decode_parts, encode_parts};
