//! The line assembled.
