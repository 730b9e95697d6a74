//! The memory store as a server, by the real clients.

mod clients;
mod command;
mod conformance;
mod differential;
mod faults;
mod replies;
