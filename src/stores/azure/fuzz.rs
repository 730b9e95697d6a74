//! A door for the fuzz targets: what reads the bytes of a reply, without the wire around it. No part of the interface.

use azure_core::http::headers::Headers;

use super::error::explain;
use super::transport::Reply;
use super::{batch, tables};
use crate::model::Etag;
use crate::stores::{Operation, Page, StoreError, TransactionError};

fn reply(status: u16, headers: &[(String, String)], body: &[u8]) -> Reply {
    let mut taken = Headers::new();
    for (name, value) in headers {
        taken.insert(name.to_ascii_lowercase(), value.clone());
    }
    Reply { status, headers: taken, body: body.to_vec().into() }
}

/// What the reply to a transaction of these operations says.
///
/// # Errors
/// As for [`Tables::transact`](crate::stores::Tables::transact).
pub fn transaction(
    status: u16,
    headers: &[(String, String)],
    body: &[u8],
    operations: &[Operation],
) -> Result<Vec<Option<Etag>>, TransactionError> {
    batch::decode(&reply(status, headers, body), operations)
}

/// The error that a reply is.
pub fn error(status: u16, headers: &[(String, String)], body: &[u8]) -> StoreError {
    let reply = reply(status, headers, body);
    explain(reply.status, &reply.headers, &reply.body)
}

/// What the reply to a query says.
///
/// # Errors
/// As for [`Tables::query`](crate::stores::Tables::query).
pub fn page(status: u16, headers: &[(String, String)], body: &[u8]) -> Result<Page, StoreError> {
    tables::read_page(&reply(status, headers, body))
}
