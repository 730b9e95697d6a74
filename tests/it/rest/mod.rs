//! The memory store as a server, by the real clients.

mod conformance;
mod faults;
