//! What a reply says of its request, whatever was asked for.

use crate::model::Time;

/// Where a request came in, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// The account's name.
    pub account: String,
    /// What stands before a table in the path: `/account`, or nothing where the account is in the host's name.
    pub root: String,
    /// The address of the account, as it is written into replies: `http://127.0.0.1:10002/account`.
    pub base: String,
    /// The request's id, which replies and errors repeat.
    pub request_id: String,
    /// The server's time.
    pub now: Time,
}
