//! Integration tests, in one crate so that they are linked once.

#[path = "../support/mod.rs"]
mod support;

mod azure_auth;
mod azure_conformance;
mod azure_queue;
mod azure_tables;
mod azure_wire;
mod backfill;
mod balancers;
mod cache;
mod command;
mod conflicts;
mod consistency;
mod copies;
mod daemon;
mod demo;
mod deploy;
mod documented;
mod drill;
mod failover;
mod foreign;
mod fuzz;
mod house;
mod inspect;
mod parked;
mod poison;
mod redis;
mod rest;
mod routes;
mod three_regions;
mod two_daemons;
mod vectors;
mod verify;
mod writers;
