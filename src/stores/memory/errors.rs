//! Azure's answers, status and code.

use crate::model::TableName;
use crate::stores::{ErrorKind, StoreError, TransactionError};

pub(super) fn no_table(table: &TableName) -> StoreError {
    StoreError::answered(ErrorKind::NoTable, 404, "TableNotFound", format!("the table {table} does not exist"))
}

pub(super) fn no_row() -> StoreError {
    StoreError::answered(ErrorKind::NotFound, 404, "ResourceNotFound", "the row does not exist")
}

pub(super) fn row_exists() -> StoreError {
    StoreError::answered(ErrorKind::AlreadyExists, 409, "EntityAlreadyExists", "the row exists already")
}

pub(super) fn condition_not_met() -> StoreError {
    let message = "the row's ETag is not the one in the request";
    StoreError::answered(ErrorKind::Precondition, 412, "UpdateConditionNotSatisfied", message)
}

pub(super) fn no_queue() -> StoreError {
    StoreError::answered(ErrorKind::NoTable, 404, "QueueNotFound", "the queue does not exist")
}

pub(super) fn invalid(code: &str, message: impl Into<String>) -> StoreError {
    StoreError::answered(ErrorKind::Invalid, 400, code, message)
}

/// What the shared checks of Azure's limits refuse, with the status that the service would answer.
pub(super) fn refused(error: StoreError) -> StoreError {
    let status = if error.code == "RequestBodyTooLarge" { 413 } else { 400 };
    StoreError { status: Some(status), ..error }
}

pub(super) fn refused_transaction(error: TransactionError) -> TransactionError {
    TransactionError { error: refused(error.error), ..error }
}
