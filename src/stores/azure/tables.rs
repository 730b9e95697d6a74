//! [`Tables`] on the REST API of the Table service.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use azure_core::http::{Method, Request};
use serde::Deserialize;
use serde_json::value::RawValue;
use tracing::debug;

use super::batch;
use super::connection::AccountTarget;
use super::error::{answered, malformed};
use super::request::{Address, Verb, header, request};
use super::sign::{Service, Signer};
use super::transport::{ConnectError, HttpOptions, Reply, Transport, Wire};
use crate::model::{AccountName, Etag, PartitionKey, Region, Row, RowKey, TableName};
use crate::runtime::Runtime;
use crate::stores::{
    Continuation, ErrorKind, Operation, Page, Query, StorageClock, StoreError, Tables, TransactionError, limits,
};

/// The tables of one Azure Storage account, or of Azurite. One try per call.
pub struct AzureTables {
    region: Region,
    account: AccountName,
    clock: Arc<StorageClock>,
    wire: Wire,
    address: Address,
    endpoint: String,
    runtime: Runtime,
}

impl AzureTables {
    /// Sets up the client. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ConnectError`] where TLS or a certificate cannot be used.
    pub fn connect(
        region: Region,
        account: AccountName,
        target: &AccountTarget,
        options: &HttpOptions,
        runtime: Runtime,
    ) -> Result<Arc<Self>, ConnectError> {
        let clock = Arc::new(StorageClock::new());
        let transport = Transport::new(options, clock.clone(), runtime.clone())?;
        let admission = target.tables.credential()?.policy(|key| Signer::new(key, Service::Tables, runtime.clone()));
        let address = Address::new(&target.tables.url);
        let endpoint = target.table_endpoint().as_str().trim_end_matches('/').to_owned();
        Ok(Arc::new(Self { region, account, clock, wire: Wire::new(transport, admission), address, endpoint, runtime }))
    }

    async fn send(&self, request: Request) -> Result<Reply, StoreError> {
        self.wire.send(request).await
    }
}

impl fmt::Debug for AzureTables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AzureTables")
            .field("region", &self.region)
            .field("account", &self.account)
            .finish_non_exhaustive()
    }
}

/// A page of rows: `{"odata.metadata":…,"value":[…]}`, each row left as text.
#[derive(Deserialize)]
struct Rows<'a> {
    #[serde(borrow)]
    value: Vec<&'a RawValue>,
}

/// A page of tables.
#[derive(Deserialize)]
struct Names {
    value: Vec<Name>,
}

#[derive(Deserialize)]
struct Name {
    #[serde(rename = "TableName")]
    name: String,
}

fn etag(reply: &Reply) -> Option<Etag> {
    reply.header("etag").filter(|etag| !etag.is_empty()).map(Etag::new)
}

pub(super) fn read_page(reply: &Reply) -> Result<Page, StoreError> {
    let rows: Rows<'_> = serde_json::from_str(reply.text()?)
        .map_err(|err| malformed(reply, format!("the reply is no page of rows: {err}")))?;
    let row = |json: &&RawValue| Row::from_wire(json.get(), None).map_err(|err| malformed(reply, err.to_string()));
    let continuation = reply.header("x-ms-continuation-nextpartitionkey").map(|partition| Continuation {
        next_partition: partition.to_owned(),
        next_row: reply.header("x-ms-continuation-nextrowkey").map(str::to_owned),
    });
    Ok(Page { rows: rows.value.iter().map(row).collect::<Result<_, _>>()?, continuation })
}

#[async_trait]
impl Tables for AzureTables {
    fn region(&self) -> &Region {
        &self.region
    }

    fn account(&self) -> &AccountName {
        &self.account
    }

    fn endpoint(&self) -> Option<&str> {
        Some(&self.endpoint)
    }

    fn clock(&self) -> &StorageClock {
        &self.clock
    }

    async fn get(&self, table: &TableName, partition: &PartitionKey, row: &RowKey) -> Result<Option<Row>, StoreError> {
        limits::check_keys(partition, row)?;
        let reply = self.send(request(Method::Get, &self.address.row(table, partition, row))?).await?;
        if reply.status != 200 {
            let error = answered(&reply);
            return if error.kind == ErrorKind::NotFound { Ok(None) } else { Err(error) };
        }
        let row = Row::from_wire(reply.text()?, etag(&reply)).map_err(|err| malformed(&reply, err.to_string()))?;
        Ok(Some(row))
    }

    async fn query(&self, table: &TableName, query: &Query) -> Result<Page, StoreError> {
        limits::check_query(query)?;
        let reply = self.send(request(Method::Get, &self.address.query(table, query))?).await?;
        if reply.status == 200 { read_page(&reply) } else { Err(answered(&reply)) }
    }

    async fn write(&self, table: &TableName, operation: &Operation) -> Result<Option<Etag>, StoreError> {
        limits::check_operation(operation)?;
        let verb = Verb::of(operation)?;
        let url = match verb.keyed {
            true => self.address.row(table, operation.partition(), operation.row()),
            false => self.address.table(table),
        };
        let mut request = request(verb.method, &url)?;
        if let Some(etag) = verb.if_match {
            header(&mut request, "if-match", etag.to_owned());
        }
        if let Some(body) = operation.body() {
            header(&mut request, "prefer", "return-no-content");
            self.address.set_json(&mut request, body.json());
        }
        let reply = self.send(request).await?;
        if !matches!(reply.status, 201 | 204) {
            return Err(answered(&reply));
        }
        match (operation.body(), etag(&reply)) {
            (None, _) => Ok(None),
            (Some(_), Some(etag)) => Ok(Some(etag)),
            (Some(_), None) => Err(malformed(&reply, "the reply to a write has no ETag")),
        }
    }

    async fn transact(
        &self,
        table: &TableName,
        partition: &PartitionKey,
        operations: &[Operation],
    ) -> Result<Vec<Option<Etag>>, TransactionError> {
        limits::check_transaction(partition, operations)?;
        let boundary = format!("{:016x}{:016x}", self.runtime.random(), self.runtime.random());
        let body = batch::encode(&self.address, table, operations, &boundary)?;
        let mut request = request(Method::Post, &self.address.batch())?;
        header(&mut request, "content-type", batch::content_type(&boundary));
        request.set_body(body);
        let reply = self.send(request).await?;
        if !matches!(reply.status, 200 | 202) {
            return Err(answered(&reply).into());
        }
        batch::decode(&reply, operations)
    }

    async fn create_table(&self, table: &TableName) -> Result<bool, StoreError> {
        let mut request = request(Method::Post, &self.address.tables(None))?;
        header(&mut request, "prefer", "return-no-content");
        self.address.set_json(&mut request, &format!(r#"{{"TableName":"{table}"}}"#).into());
        let reply = self.send(request).await?;
        if matches!(reply.status, 201 | 204) {
            return Ok(true);
        }
        let error = answered(&reply);
        if error.kind == ErrorKind::AlreadyExists { Ok(false) } else { Err(error) }
    }

    async fn delete_table(&self, table: &TableName) -> Result<bool, StoreError> {
        let reply = self.send(request(Method::Delete, &self.address.named(table))?).await?;
        if reply.status == 204 {
            return Ok(true);
        }
        let error = answered(&reply);
        // Azure speaks of a missing resource here, of a missing table elsewhere.
        if matches!(error.kind, ErrorKind::NotFound | ErrorKind::NoTable) { Ok(false) } else { Err(error) }
    }

    async fn tables(&self) -> Result<Vec<TableName>, StoreError> {
        let mut tables = Vec::new();
        let mut next: Option<String> = None;
        loop {
            let reply = self.send(request(Method::Get, &self.address.tables(next.as_deref()))?).await?;
            if reply.status != 200 {
                return Err(answered(&reply));
            }
            let names: Names = serde_json::from_str(reply.text()?)
                .map_err(|err| malformed(&reply, format!("the reply is no page of tables: {err}")))?;
            for Name { name } in names.value {
                match TableName::new(&name) {
                    Ok(table) => tables.push(table),
                    // $Metrics… and the like: the service's own.
                    Err(_) => {
                        debug!(account = %self.account, table = name, "left out a table that is not named as ours are")
                    }
                }
            }
            let following = reply.header("x-ms-continuation-nexttablename").map(str::to_owned);
            if following.is_none() {
                return Ok(tables);
            }
            if following == next {
                return Err(malformed(&reply, "the list of tables goes on where it began"));
            }
            next = following;
        }
    }
}
