//! What went wrong at a store, classified once, with its remedy.

use std::fmt;
use std::time::Duration;

use crate::model::{AccountName, Version};

/// What kind of failure a store's reply is. Each has one [`Remedy`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ErrorKind {
    /// The row is not there (404 `ResourceNotFound`, `EntityNotFound`).
    NotFound,
    /// The table or queue is not there (404 `TableNotFound`, `QueueNotFound`).
    NoTable,
    /// The row or table is there already (409 `EntityAlreadyExists`, `TableAlreadyExists`).
    AlreadyExists,
    /// The table is being deleted (409 `TableBeingDeleted`).
    BeingDeleted,
    /// The ETag does not match (412 `UpdateConditionNotSatisfied`).
    Precondition,
    /// The server asks for less: 429, 503 `ServerBusy`, 500 `OperationTimedOut`.
    Throttled,
    /// The server failed in another way: any other 5xx.
    Server,
    /// No reply, or half of one. A write may have taken effect.
    Unreachable,
    /// The credentials are wrong or do not suffice: 401, 403.
    Denied,
    /// The request can never succeed as it is: 400, 413, and whatever we refuse ourselves before sending.
    Invalid,
    /// A reply that is none of the above or that we cannot read.
    Unexpected,
}

/// What to do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Somebody else wrote: look again and decide anew.
    StartOver,
    /// Create the table, then try again.
    CreateTable,
    /// Try again later, and send less meanwhile.
    SlowDown,
    /// The outcome is unknown: read back and compare versions before anything is sent again.
    ReadBack,
    /// A person must act: credentials, roles, firewall.
    FixAccess,
    /// This row will never be accepted as it is.
    GiveUp,
}

impl ErrorKind {
    /// The one remedy of this kind.
    pub fn remedy(self) -> Remedy {
        match self {
            Self::NotFound | Self::AlreadyExists | Self::Precondition => Remedy::StartOver,
            Self::NoTable => Remedy::CreateTable,
            Self::Throttled | Self::BeingDeleted => Remedy::SlowDown,
            Self::Server | Self::Unreachable | Self::Unexpected => Remedy::ReadBack,
            Self::Denied => Remedy::FixAccess,
            Self::Invalid => Remedy::GiveUp,
        }
    }

    /// A short fixed name, for metrics and log fields.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "not-found",
            Self::NoTable => "no-table",
            Self::AlreadyExists => "already-exists",
            Self::BeingDeleted => "being-deleted",
            Self::Precondition => "precondition",
            Self::Throttled => "throttled",
            Self::Server => "server",
            Self::Unreachable => "unreachable",
            Self::Denied => "denied",
            Self::Invalid => "invalid",
            Self::Unexpected => "unexpected",
        }
    }
}

/// Our own code of a request that was not sent, since its account has asked for less.
const HELD_BACK: &str = "HeldBack";

/// Our own code of what stands in the store and cannot be gone by.
const UNUSABLE: &str = "Unusable";

/// Our own code of what would come into force too early.
const AHEAD: &str = "Ahead";

/// A failed request to a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreError {
    /// What kind of failure it is.
    pub kind: ErrorKind,
    /// The HTTP status, where there was a reply.
    pub status: Option<u16>,
    /// The service's error code (`x-ms-error-code` or `odata.error.code`), or one of ours; may be empty.
    pub code: String,
    /// The service's message, or what failed; never holds credentials or row contents.
    pub message: String,
    /// The service's request id, which Azure's support asks for.
    pub request_id: Option<String>,
    /// How long the service asked us to wait.
    pub retry_after: Option<Duration>,
}

impl StoreError {
    /// A failure without a reply of the service.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, status: None, code: String::new(), message: message.into(), request_id: None, retry_after: None }
    }

    /// A failure that the service answered.
    pub fn answered(kind: ErrorKind, status: u16, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { status: Some(status), code: code.into(), ..Self::new(kind, message) }
    }

    /// The failure of a request that was not sent, since what it rests on was looked at too long ago (R9).
    pub fn stale_look() -> Self {
        Self::new(ErrorKind::Precondition, "the look is older than half a settle window")
    }

    /// The failure of a request that was not sent, since the account asks for less; it makes sense again after `again`.
    pub fn held_back(again: Duration) -> Self {
        let error = Self::new(ErrorKind::Throttled, "the account asks for less, so this was not sent");
        Self { code: HELD_BACK.to_owned(), retry_after: Some(again), ..error }
    }

    /// What stands in the store cannot be gone by: nobody but a person can help that.
    pub fn unusable(why: impl Into<String>) -> Self {
        Self { code: UNUSABLE.to_owned(), ..Self::new(ErrorKind::Unexpected, why) }
    }

    /// Whether it is one of what stands in the store.
    pub fn is_unusable(&self) -> bool {
        self.status.is_none() && self.code == UNUSABLE
    }

    /// A version from the future stands where a row is to be, or its tombstone does (R7): the row cannot go there before the clock has passed it.
    pub fn ahead(account: &AccountName, version: &Version) -> Self {
        let why = format!(
            "account {account} has version {version} of it already, or its tombstone, which is from the future"
        );
        Self { code: AHEAD.to_owned(), ..Self::new(ErrorKind::Invalid, why) }
    }

    /// Whether it is one of a version from the future.
    pub fn is_ahead(&self) -> bool {
        self.status.is_none() && self.code == AHEAD
    }

    /// Whether it is the failure of a request that was not sent.
    pub fn was_held_back(&self) -> bool {
        self.kind == ErrorKind::Throttled && self.status.is_none() && self.code == HELD_BACK
    }

    /// What to do about it.
    pub fn remedy(&self) -> Remedy {
        self.kind.remedy()
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            Some(status) if self.code.is_empty() => write!(f, "{status}: {}", self.message)?,
            Some(status) => write!(f, "{status} {}: {}", self.code, self.message)?,
            None => write!(f, "{}: {}", self.kind.as_str(), self.message)?,
        }
        match &self.request_id {
            Some(id) => write!(f, " (request {id})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for StoreError {}

/// A transaction that failed as a whole: nothing of it was applied, unless the error's remedy is to read back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{error}", .index.map(|index| format!("operation {index} of the transaction: ")).unwrap_or_default())]
pub struct TransactionError {
    /// The operation at fault, from 0, where the service names one.
    pub index: Option<usize>,
    /// What it failed with.
    pub error: StoreError,
}

impl From<StoreError> for TransactionError {
    fn from(error: StoreError) -> Self {
        Self { index: None, error }
    }
}
