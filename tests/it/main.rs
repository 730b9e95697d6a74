//! Integration tests, in one crate so that they are linked once.

mod house;
mod vectors;
