//! Faults over HTTP. There is nobody to keep out: what listens here holds nothing but what tests have put there.
//!
//! | request | body | what it does |
//! |---|---|---|
//! | `GET /_control/{account}` | | how many requests of each kind there were, how many are frozen, whether it is cut off |
//! | `POST /_control/{account}/faults` | [`Asked`] | the next `times` requests of this kind meet the fault |
//! | `DELETE /_control/{account}/faults` | | forgets all faults, heals the line, lets frozen requests go |
//! | `PUT /_control/{account}/line` | [`Line`] | latency, short pages, cut off or not |
//! | `POST /_control/{account}/release` | | lets frozen requests go |
//!
//! A fault is `before` (fails with `status`, `code`, `message`, `retry_after_ms`, at operation `index` of a transaction,
//! and nothing takes effect), `after` (takes effect and fails all the same), `lost-request` and `lost-reply` (the
//! connection is closed without a reply, before and after the effect), `delay` and `delay-reply` (by `for_ms`), `late`
//! (closed at once, takes effect after `for_ms`), `freeze` (until released).

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;

use crate::stores::memory::{Fault, Faults, RequestKind};
use crate::stores::{ErrorKind, StoreError};

type Accounts = Arc<BTreeMap<String, Faults>>;

/// What can be asked of the Table service, by its name here.
const KINDS: [(&str, RequestKind); 7] = [
    ("get", RequestKind::Get),
    ("query", RequestKind::Query),
    ("write", RequestKind::Write),
    ("transact", RequestKind::Transact),
    ("create-table", RequestKind::CreateTable),
    ("delete-table", RequestKind::DeleteTable),
    ("list-tables", RequestKind::ListTables),
];

pub(super) fn router(accounts: BTreeMap<String, Faults>) -> Router {
    Router::new()
        .route("/_control/{account}", get(counts))
        .route("/_control/{account}/faults", post(fail).delete(clear))
        .route("/_control/{account}/line", put(line))
        .route("/_control/{account}/release", post(release))
        .with_state(Arc::new(accounts))
}

/// A fault that is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    request: String,
    fault: String,
    status: Option<u16>,
    code: Option<String>,
    message: Option<String>,
    retry_after_ms: Option<u64>,
    index: Option<u8>,
    for_ms: Option<u64>,
    times: Option<u16>,
}

/// How the line to an account is. What is not named stays as it is.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    latency_ms: Option<u64>,
    jitter_ms: Option<u64>,
    cut: Option<bool>,
    short_pages: Option<u16>,
}

/// What is wrong with a request, in a sentence.
struct Refused(StatusCode, String);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, self.1 + "\n").into_response()
    }
}

fn bad(why: impl Into<String>) -> Refused {
    Refused(StatusCode::BAD_REQUEST, why.into())
}

fn faults<'a>(accounts: &'a Accounts, account: &str) -> Result<&'a Faults, Refused> {
    let known = || accounts.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    let none = || Refused(StatusCode::NOT_FOUND, format!("there is no account {account:?}; there is {}", known()));
    accounts.get(account).ok_or_else(none)
}

async fn counts(
    State(accounts): State<Accounts>,
    Path(account): Path<String>,
) -> Result<Json<serde_json::Value>, Refused> {
    let faults = faults(&accounts, &account)?;
    let requests: BTreeMap<_, _> = KINDS.iter().map(|(name, kind)| (*name, faults.requests(*kind))).collect();
    Ok(Json(json!({ "requests": requests, "frozen": faults.frozen(), "cut": faults.is_cut() })))
}

async fn fail(
    State(accounts): State<Accounts>,
    Path(account): Path<String>,
    body: String,
) -> Result<StatusCode, Refused> {
    let faults = faults(&accounts, &account)?;
    let asked: Asked = serde_json::from_str(&body).map_err(|err| bad(format!("the fault: {err}")))?;
    let kind = KINDS.iter().find(|(name, _)| *name == asked.request).map(|(_, kind)| *kind);
    let kinds = KINDS.map(|(name, _)| name).join(", ");
    let kind = kind.ok_or_else(|| bad(format!("request should be one of {kinds}, not {:?}", asked.request)))?;
    let fault = asked.fault()?;
    for _ in 0..asked.times.unwrap_or(1).min(MAX_TIMES) {
        faults.fail_next(kind, fault.clone());
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Most times that one request can ask for: a script holds ten thousand faults.
const MAX_TIMES: u16 = 1_000;

async fn clear(State(accounts): State<Accounts>, Path(account): Path<String>) -> Result<StatusCode, Refused> {
    faults(&accounts, &account)?.clear();
    Ok(StatusCode::NO_CONTENT)
}

async fn release(State(accounts): State<Accounts>, Path(account): Path<String>) -> Result<StatusCode, Refused> {
    faults(&accounts, &account)?.release();
    Ok(StatusCode::NO_CONTENT)
}

async fn line(
    State(accounts): State<Accounts>,
    Path(account): Path<String>,
    body: String,
) -> Result<StatusCode, Refused> {
    let faults = faults(&accounts, &account)?;
    let line: Line = serde_json::from_str(&body).map_err(|err| bad(format!("the line: {err}")))?;
    if line.latency_ms.is_some() || line.jitter_ms.is_some() {
        let span = |ms: Option<u64>| Duration::from_millis(ms.unwrap_or_default());
        faults.set_latency(span(line.latency_ms), span(line.jitter_ms));
    }
    if let Some(cut) = line.cut {
        faults.cut(cut);
    }
    if let Some(rows) = line.short_pages {
        faults.set_short_pages(NonZeroU16::new(rows));
    }
    Ok(StatusCode::NO_CONTENT)
}

impl Asked {
    fn fault(&self) -> Result<Fault, Refused> {
        let span = || match self.for_ms {
            Some(ms) => Ok(Duration::from_millis(ms)),
            None => Err(bad(format!("the fault {:?} should have for_ms", self.fault))),
        };
        Ok(match self.fault.as_str() {
            "before" => Fault::Before(self.error()?),
            "after" => Fault::After(self.error()?),
            "lost-request" => Fault::lost_request(),
            "lost-reply" => Fault::lost_reply(),
            "delay" => Fault::Delay(span()?),
            "delay-reply" => Fault::DelayReply(span()?),
            "late" => Fault::Late(span()?),
            "freeze" => Fault::Freeze,
            other => {
                return Err(bad(format!(
                    "fault should be one of before, after, lost-request, lost-reply, delay, delay-reply, late, freeze, \
                     not {other:?}"
                )));
            }
        })
    }

    /// What the service answers. The index of an operation is where Azure has it: before the message.
    fn error(&self) -> Result<StoreError, Refused> {
        let status = self.status.filter(|status| (400..=599).contains(status));
        let status =
            status.ok_or_else(|| bad(format!("the fault {:?} should have a status of 400 to 599", self.fault)))?;
        let code = self.code.clone().unwrap_or_else(|| default_code(status).to_owned());
        let kind = match (status, code.as_str()) {
            (429 | 503, _) | (500, "OperationTimedOut") => ErrorKind::Throttled,
            (500..=599, _) => ErrorKind::Server,
            (401 | 403, _) => ErrorKind::Denied,
            (404, "TableNotFound") => ErrorKind::NoTable,
            (404, _) => ErrorKind::NotFound,
            (409, _) => ErrorKind::AlreadyExists,
            (412, _) => ErrorKind::Precondition,
            _ => ErrorKind::Invalid,
        };
        let message = self.message.clone().unwrap_or_else(|| "This failure was asked for.".to_owned());
        let message = match self.index {
            Some(index) => format!("{index}:{message}"),
            None => message,
        };
        let retry_after = self.retry_after_ms.map(Duration::from_millis);
        Ok(StoreError { retry_after, ..StoreError::answered(kind, status, code, message) })
    }
}

fn default_code(status: u16) -> &'static str {
    match status {
        429 => "TooManyRequests",
        500 => "InternalError",
        503 => "ServerBusy",
        403 => "AuthorizationFailure",
        404 => "ResourceNotFound",
        409 => "EntityAlreadyExists",
        412 => "UpdateConditionNotSatisfied",
        _ => "InvalidInput",
    }
}
