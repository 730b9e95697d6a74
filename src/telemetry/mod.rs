//! What the program tells of itself: every metric, log event and log form, in one place.
//!
//! Names of metrics and words of closed lists are written in this room (or, for a list that a station owns, in that
//! station) and nowhere else, so that a dashboard breaks in one diff. Labels are typed: no call site can make up a value.

pub mod event;
#[cfg(test)]
mod heard;
pub mod log;
pub mod metrics;
mod recorder;
mod seldom;
mod spell;

pub use event::Event;
#[cfg(test)]
pub(crate) use heard::Heard;
pub use log::{LogFormat, LogLevel};
pub use recorder::{Recorder, RecorderError};
pub use seldom::Seldom;
pub use spell::{Past, Spell};
