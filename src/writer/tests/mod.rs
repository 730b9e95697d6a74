//! The writer on the memory store: what is announced when, and what becomes of it when things go wrong.

mod bench;
mod copies;
mod deletes;
mod faults;
mod races;
mod relay;
mod steps;
