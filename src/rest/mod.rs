//! The REST API of the Table service, spoken from the server's side over the store traits.
//!
//! What any Azure SDK sends is decoded into operations on a [`Tables`](crate::stores::Tables), and what that answers is
//! encoded as Azure writes it. Nothing here knows which store is behind the trait: the embedded store is served by
//! [`memory`], and whatever else has to speak this API can be served by the same code.
//!
//! Files: `address`, `body`, `select` and `filter` read the parts of a request and `request` puts them together; `batch`
//! reads transactions. `answer` asks the store. `reply`, `rows` and `failure` write what comes back. `admission` checks
//! keys and signatures; `connection` and `server` are the listener.
//!
//! Source: "Table service REST API" in Microsoft's reference of the storage services.

mod address;
mod admission;
mod answer;
mod batch;
mod body;
mod connection;
mod context;
mod failure;
mod filter;
// The embedded store as a server, with its faults over HTTP.
pub mod memory;
mod options;
mod reply;
mod request;
mod rows;
mod scan;
mod server;

pub use admission::Admission;
pub use answer::{Unanswered, answer};
pub use context::Context;
pub use reply::Reply;
pub use request::Incoming;
pub use server::{Served, Server, ServerError};
