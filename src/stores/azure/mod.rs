//! The adapter for Azure Storage: the Table service's REST API, and a queue through the official client.
//!
//! There is no official Tables crate for Rust, so [`AzureTables`] is a thin client of our own on azure_core's pipeline.
//! It sends each request exactly once: whether to send a read again is for
//! [`Retrying`](crate::stores::Retrying) to say, and a write whose outcome is not known must be read back, never sent
//! again. azure_core's own retry policy is switched off.
//!
//! Files: `connection` says where an account is and `credential` how it lets us in; `sign` puts that into requests;
//! `transport` is the wire; `request` and `batch` are what is sent over it; `error` is what comes back when it fails;
//! `tables` and `queue` are the two traits.

mod batch;
mod connection;
mod credential;
mod error;
#[doc(hidden)]
pub mod fuzz;
mod queue;
mod request;
mod sign;
mod tables;
mod transport;

pub use crate::stores::SharedKey;
pub use connection::{AccountTarget, DEVELOPMENT_ACCOUNT, TargetError};
pub use credential::{Credential, CredentialError, CredentialKind, CredentialSettings};
pub use queue::AzureQueue;
pub use sign::Sas;
pub use tables::AzureTables;
pub use transport::{ConnectError, HttpOptions};
