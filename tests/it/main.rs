//! Integration tests, in one crate so that they are linked once.

mod documented;
mod house;
mod vectors;
