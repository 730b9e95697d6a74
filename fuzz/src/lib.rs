//! What must hold whatever bytes come in from outside: one function for each kind of input, which panics where it does not.
//!
//! The targets in `fuzz_targets/` call these functions on what libFuzzer finds; `tests/it/fuzz` calls them on the corpus, on
//! mutations of it and on arbitrary bytes, with every run of the tests. Beyond that nothing panics: what was understood
//! is written down again and understood as the same, what was not has an error that names it, and no claim of a
//! size, a time or a count is believed beyond a bound. What a function returns is whether it understood the input: an input
//! of the corpus is understood if its name begins with `good-`, and no other is.

mod feed;
mod input;
mod replies;
mod request;
mod settings;

pub use feed::{feed_row, queue_message};
pub use replies::{error_reply, page_reply, transaction_reply};
pub use request::table_request;
pub use settings::{configuration, connection_string};

/// Panics where something does not hold; else says whether the input was understood.
pub type Property = fn(&[u8]) -> bool;

/// Every kind of input, by the name of its target and of the folder of its corpus.
pub const TARGETS: [(&str, Property); 8] = [
    ("configuration", configuration),
    ("connection_string", connection_string),
    ("error_reply", error_reply),
    ("feed_row", feed_row),
    ("page_reply", page_reply),
    ("queue_message", queue_message),
    ("table_request", table_request),
    ("transaction_reply", transaction_reply),
];
