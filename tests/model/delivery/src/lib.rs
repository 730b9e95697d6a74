//! A model of the delivery protocol, small enough to be explored completely.
//!
//! It is written from the protocol's text and shares nothing with the code that follows it. What it holds and how its
//! counterexamples read stands in the README beside the tests; they are in the folder above. It is a crate of its own so
//! that it can be compiled with optimisation where the tests are not.
//!
//! - `config`: what is explored; which clauses hold, what may fail, how finely steps are cut;
//! - `version`, `store`, `state`: what there is;
//! - `writer`: part 3 of the protocol; `look`, `deliver`, `disagree`, `faults`: part 4;
//! - `model`, `properties`: the same for stateright;
//! - `explore`, `rest`: exploring, and what came of it.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod config;
mod deliver;
mod disagree;
mod explore;
mod faults;
mod look;
mod model;
mod pack;
mod properties;
mod rest;
mod state;
mod store;
mod version;
mod writer;

pub use config::{Faults, Grain, Kind, Protocol, Rules, Write};
pub use explore::{Report, Story, explore, explore_at_most, shortest_story};
pub use rest::{Rest, comes_to_rest};
