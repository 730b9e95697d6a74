//! From a request to what it asks for.

use bytes::Bytes;
use http::{HeaderMap, Method};

use super::address::{self, Resource};
use super::batch::{self, Batch};
use super::body;
use super::failure::{invalid, unreadable};
use super::filter::{self, Filter, Scan};
use super::options::{Metadata, Options, Prefer, condition, header, method};
use crate::model::{PartitionKey, RowKey, TableName};
use crate::stores::{Continuation, ErrorKind, Operation, StoreError};

/// A request as it came in, behind the account.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// Its method.
    pub method: Method,
    /// Its path behind the account, percent-encoded as it was sent.
    pub path: String,
    /// Its query string, percent-encoded as it was sent; may be empty.
    pub query: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, in whole.
    pub body: Bytes,
}

/// What a request asks for.
#[derive(Debug)]
pub(super) enum Call {
    ListTables(ListTables),
    GetTable(TableName),
    CreateTable(TableName),
    DeleteTable(TableName),
    Get { table: TableName, partition: PartitionKey, row: RowKey, select: Option<Vec<String>> },
    Query(Page),
    Write { table: TableName, operation: Operation },
    Batch(Batch),
}

/// Which tables are listed.
#[derive(Debug)]
pub(super) struct ListTables {
    pub(super) filter: Option<Filter>,
    pub(super) top: Option<u16>,
    /// The first name that is listed.
    pub(super) next: Option<String>,
}

/// Which rows are read.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) table: TableName,
    pub(super) scan: Scan,
    pub(super) top: Option<u16>,
    pub(super) select: Option<Vec<String>>,
    pub(super) continuation: Option<Continuation>,
}

/// How it is to be answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    pub(super) metadata: Metadata,
    pub(super) prefer: Prefer,
}

impl Incoming {
    /// Decodes it. `root` is what stands before a table in the addresses of a transaction's operations.
    ///
    /// # Errors
    /// 400 and others that say what is wrong with it.
    pub(super) fn decode(&self, root: &str) -> Result<(Call, Manner), StoreError> {
        let options = Options::parse(&self.query)?;
        let manner =
            Manner { metadata: Metadata::wanted(&options, &self.headers)?, prefer: Prefer::wanted(&self.headers) };
        if let Some(component) = options.get("comp") {
            let message = format!("?comp={component} is not served: no access policies, no properties of the service");
            return Err(StoreError::answered(ErrorKind::Invalid, 501, "NotImplemented", message));
        }
        let resource = Resource::parse(&self.path)?;
        if resource == Resource::Batch && self.method == Method::POST {
            let content_type = header(&self.headers, "content-type").unwrap_or_default();
            let text = std::str::from_utf8(&self.body).map_err(|_| unreadable("a transaction should be UTF-8"))?;
            return Ok((Call::Batch(batch::decode(content_type, text, root)?), manner));
        }
        Ok((self.call(resource, &options)?, manner))
    }

    /// What is asked for, transactions apart.
    pub(super) fn call(&self, resource: Resource, options: &Options) -> Result<Call, StoreError> {
        let method = method(&self.method, &self.headers);
        match (method, resource) {
            ("GET", Resource::Tables) => Ok(Call::ListTables(ListTables {
                filter: options.get("$filter").map(filter::parse).transpose()?,
                top: options.top()?,
                next: options.get("NextTableName").map(str::to_owned),
            })),
            ("POST", Resource::Tables) => Ok(Call::CreateTable(address::table(&body::table_name(&self.body)?)?)),
            ("GET", Resource::Table(table)) => Ok(Call::GetTable(table)),
            ("DELETE", Resource::Table(table)) => Ok(Call::DeleteTable(table)),
            ("GET", Resource::Row(table, partition, row)) => {
                Ok(Call::Get { table, partition, row, select: options.select() })
            }
            ("GET", Resource::Rows(table)) => Ok(Call::Query(page(table, options)?)),
            ("POST", Resource::Rows(table)) => {
                Ok(Call::Write { table, operation: Operation::Insert(body::row(&self.body)?) })
            }
            (method, Resource::Row(table, partition, row)) => {
                Ok(Call::Write { table, operation: self.keyed(method, partition, row)? })
            }
            (method, _) => Err(not_allowed(method)),
        }
    }

    /// A write of the row that the path names.
    fn keyed(&self, method: &str, partition: PartitionKey, row: RowKey) -> Result<Operation, StoreError> {
        let condition = condition(&self.headers);
        let body = || body::row_at(&self.body, &partition, &row);
        Ok(match (method, condition) {
            ("PUT", Some(condition)) => Operation::Replace(body()?, condition),
            ("PUT", None) => Operation::InsertOrReplace(body()?),
            ("MERGE" | "PATCH", Some(condition)) => Operation::Merge(body()?, condition),
            ("MERGE" | "PATCH", None) => Operation::InsertOrMerge(body()?),
            ("DELETE", Some(condition)) => Operation::Delete { partition, row, condition },
            ("DELETE", None) => {
                return Err(invalid("MissingRequiredHeader", "a delete should have the header If-Match"));
            }
            (method, _) => return Err(not_allowed(method)),
        })
    }
}

fn page(table: TableName, options: &Options) -> Result<Page, StoreError> {
    let continuation = options.get("NextPartitionKey").map(|partition| Continuation {
        next_partition: partition.to_owned(),
        next_row: options.get("NextRowKey").map(str::to_owned),
    });
    Ok(Page {
        table,
        scan: filter::scan(options.get("$filter").map(filter::parse).transpose()?),
        top: options.top()?,
        select: options.select(),
        continuation,
    })
}

fn not_allowed(method: &str) -> StoreError {
    let message = format!("{method} is nothing that can be done to this resource");
    StoreError::answered(ErrorKind::Invalid, 405, "MethodNotAllowed", message)
}
