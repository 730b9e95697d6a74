//! From what is asked for to the store, and back.

use super::batch::{Batch, Changes};
use super::context::Context;
use super::failure;
use super::filter::{Subject, Value};
use super::options::Prefer;
use super::reply::Reply;
use super::request::{Call, Incoming, ListTables, Manner, Page};
use super::rows::{self, Writer};
use super::scan;
use crate::model::{Etag, Row, TableName, Time};
use crate::stores::{ErrorKind, Operation, StoreError, Tables, TransactionError, limits};

/// A request that the store did not answer: what became of it is not known, so there is nothing true to reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the store did not answer: {0}")]
pub struct Unanswered(pub StoreError);

/// Answers a request from a store. Whatever is wrong with it, or goes wrong in the store, is a reply too.
///
/// # Errors
/// [`Unanswered`] where the store did not say what became of it.
pub async fn answer(store: &dyn Tables, incoming: &Incoming, context: &Context) -> Result<Reply, Unanswered> {
    let result = match incoming.decode(&context.root) {
        Ok((Call::Batch(Batch::Changes(changes)), _)) => return transact(store, changes, context).await,
        Ok((Call::Batch(Batch::Read(read)), _)) => {
            let (call, manner) = *read;
            let reply = single(store, call, manner, context).await;
            let reply = reply.or_else(|error| failed(&error, None, context))?;
            return Ok(Reply::multipart(&[reply], false, &context.request_id));
        }
        Ok((call, manner)) => single(store, call, manner, context).await,
        Err(error) => Err(error),
    };
    result.or_else(|error| failed(&error, None, context))
}

fn failed(error: &StoreError, index: Option<usize>, context: &Context) -> Result<Reply, Unanswered> {
    match failure::status(error) {
        Some(status) => Ok(Reply::error(status, error, index, context)),
        None => Err(Unanswered(error.clone())),
    }
}

async fn single(store: &dyn Tables, call: Call, manner: Manner, context: &Context) -> Result<Reply, StoreError> {
    let Manner { metadata, prefer } = manner;
    match call {
        Call::ListTables(list) => list_tables(store, &list, manner, context).await,
        Call::GetTable(table) => match store.tables().await?.into_iter().find(|known| *known == table) {
            Some(known) => Ok(Reply::json(200, metadata, rows::table(context, metadata, &known))),
            None => Err(failure::not_found()),
        },
        Call::CreateTable(table) => match store.create_table(&table).await? {
            true => {
                let location = format!("{}/Tables('{table}')", context.base);
                let body = rows::table(context, metadata, &table);
                Ok(created(manner, body).with("DataServiceId", location.clone()).with("Location", location))
            }
            false => {
                let message = "The table specified already exists.";
                Err(StoreError::answered(ErrorKind::AlreadyExists, 409, "TableAlreadyExists", message))
            }
        },
        Call::DeleteTable(table) => match store.delete_table(&table).await? {
            true => Ok(Reply::empty(204)),
            false => Err(failure::not_found()),
        },
        Call::Get { table, partition, row, select } => match store.get(&table, &partition, &row).await? {
            Some(row) => {
                let writer = Writer { context, table: &table, metadata, select: select.as_deref() };
                Ok(Reply::json(200, metadata, writer.entity(&row)?).with("ETag", row.etag.as_str()))
            }
            None => Err(failure::not_found()),
        },
        Call::Query(page) => query(store, &page, manner, context).await,
        Call::Write { table, operation } => {
            let etag = store.write(&table, &operation).await?;
            let writer = Writer { context, table: &table, metadata, select: None };
            written(&operation, etag, prefer, writer)
        }
        // A batch is answered by its caller, and holds no other batch.
        Call::Batch(_) => Err(failure::unreadable("a batch should not hold a batch")),
    }
}

/// The table or the row that was made, with its content unless nobody wants it.
fn created(manner: Manner, body: String) -> Reply {
    let reply = match manner.prefer {
        Prefer::NoContent => Reply::empty(204),
        Prefer::Unsaid | Prefer::Content => Reply::json(201, manner.metadata, body),
    };
    match manner.prefer.applied() {
        Some(applied) => reply.with("Preference-Applied", applied),
        None => reply,
    }
}

async fn list_tables(
    store: &dyn Tables,
    list: &ListTables,
    manner: Manner,
    context: &Context,
) -> Result<Reply, StoreError> {
    struct Name<'a>(&'a TableName);
    impl Subject for Name<'_> {
        fn value(&self, name: &str) -> Option<Value> {
            (name == "TableName").then(|| Value::String(self.0.as_str().to_owned()))
        }
    }
    let first = list.next.as_deref().map(str::to_ascii_lowercase).unwrap_or_default();
    let fits = |name: &TableName| {
        name.lower() >= first.as_str() && list.filter.as_ref().is_none_or(|filter| filter.holds(&Name(name)))
    };
    let mut names: Vec<_> = store.tables().await?.into_iter().filter(fits).collect();
    names.sort();
    let next = names.get(usize::from(list.top.unwrap_or(limits::MAX_PAGE))).cloned();
    names.truncate(usize::from(list.top.unwrap_or(limits::MAX_PAGE)));
    let reply = Reply::json(200, manner.metadata, rows::tables(context, manner.metadata, &names));
    Ok(match next {
        Some(next) => reply.with("x-ms-continuation-NextTableName", next.as_str()),
        None => reply,
    })
}

async fn query(store: &dyn Tables, page: &Page, manner: Manner, context: &Context) -> Result<Reply, StoreError> {
    let found = scan::read(store, page).await?;
    let writer = Writer { context, table: &page.table, metadata: manner.metadata, select: page.select.as_deref() };
    let mut reply = Reply::json(200, manner.metadata, writer.page(&found.rows)?);
    if let Some(next) = found.continuation {
        reply = reply.with("x-ms-continuation-NextPartitionKey", next.next_partition);
        if let Some(row) = next.next_row {
            reply = reply.with("x-ms-continuation-NextRowKey", row);
        }
    }
    Ok(reply)
}

/// The reply to a write that was done.
fn written(operation: &Operation, etag: Option<Etag>, prefer: Prefer, writer: Writer<'_>) -> Result<Reply, StoreError> {
    let (Some(body), Some(etag)) = (operation.body(), etag) else { return Ok(Reply::empty(204)) };
    let tag = etag.as_str().to_owned();
    if !matches!(operation, Operation::Insert(_)) {
        return Ok(Reply::empty(204).with("ETag", tag));
    }
    let keys = [body.partition().as_str(), body.row().as_str()].map(rows::encoded);
    let location = format!("{}/{}(PartitionKey='{}',RowKey='{}')", writer.context.base, writer.table, keys[0], keys[1]);
    // The store has its time from its ETag, where that is of Azure's form.
    let timestamp = rows::stamp(&etag).unwrap_or(Time::EPOCH);
    let content = match prefer {
        Prefer::NoContent => String::new(),
        Prefer::Unsaid | Prefer::Content => writer.entity(&Row { body: body.clone(), etag, timestamp })?,
    };
    let manner = Manner { metadata: writer.metadata, prefer };
    let reply = created(manner, content).with("ETag", tag);
    Ok(reply.with("DataServiceId", location.clone()).with("Location", location))
}

async fn transact(
    store: &dyn Tables,
    changes: Result<Changes, TransactionError>,
    context: &Context,
) -> Result<Reply, Unanswered> {
    let changes = match changes {
        Ok(changes) => changes,
        Err(failed) => return refused(&failed, context),
    };
    let Some(partition) = changes.operations.first().map(|operation| operation.partition().clone()) else {
        return failed(&failure::unreadable("the change set is empty"), None, context);
    };
    let etags = match store.transact(&changes.table, &partition, &changes.operations).await {
        Ok(etags) => etags,
        Err(failed) => return refused(&failed, context),
    };
    let parts = changes.operations.iter().zip(etags).zip(&changes.manners).map(|((operation, etag), (manner, id))| {
        let writer = Writer { context, table: &changes.table, metadata: manner.metadata, select: None };
        let reply = written(operation, etag, manner.prefer, writer)?;
        Ok(match id {
            Some(id) => reply.with("Content-ID", id),
            None => reply,
        })
    });
    match parts.collect::<Result<Vec<_>, StoreError>>() {
        Ok(parts) => Ok(Reply::multipart(&parts, true, &context.request_id)),
        // It was applied, and cannot be told: whoever asked has to read back.
        Err(error) => Err(Unanswered(error)),
    }
}

/// A transaction that failed: the reply to the operation at fault. What concerns the account and no operation is the
/// reply to the whole.
fn refused(transaction: &TransactionError, context: &Context) -> Result<Reply, Unanswered> {
    let TransactionError { index, error } = transaction;
    let names_one = error.message.split_once(':').is_some_and(|(index, _)| index.parse::<usize>().is_ok());
    let of_the_account =
        matches!(error.kind, ErrorKind::Throttled | ErrorKind::Server | ErrorKind::Denied | ErrorKind::BeingDeleted);
    if index.is_none() && !names_one && of_the_account {
        return failed(error, None, context);
    }
    // Azure blames the first operation for a table that is not there.
    let first = (error.kind == ErrorKind::NoTable).then_some(0);
    let reply = failed(error, index.or(first), context)?;
    Ok(Reply::multipart(&[reply], true, &context.request_id))
}
