//! Reading from a store that may fail for a moment.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::stores::{ErrorKind, Remedy, StoreError};

/// How long one try may take, how often it is tried, and the first pause, which grows.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(250);

/// The same where each request has to wait for its turn, since an account is asked no more than a share of what it bears.
const TURN_WITHIN: Duration = Duration::from_secs(60);

/// Asks until it is answered, a few times. What is asked must do no harm when it is done twice.
pub(super) async fn patiently<T, F: Future<Output = Result<T, StoreError>>>(
    what: impl Fn() -> F,
) -> Result<T, StoreError> {
    within(ANSWER_WITHIN, what).await
}

/// As [`patiently`], of accounts that are asked no more than their share.
pub(super) async fn in_turn<T, F: Future<Output = Result<T, StoreError>>>(
    what: impl Fn() -> F,
) -> Result<T, StoreError> {
    within(TURN_WITHIN, what).await
}

async fn within<T, F: Future<Output = Result<T, StoreError>>>(
    limit: Duration,
    what: impl Fn() -> F,
) -> Result<T, StoreError> {
    let mut tries = 0;
    loop {
        tries += 1;
        let late = |_| StoreError::new(ErrorKind::Unreachable, format!("no answer within {limit:?}"));
        match timeout(limit, what()).await.map_err(late).and_then(|answer| answer) {
            Err(error) if tries < TRIES && is_worth_it(&error) => {
                sleep(error.retry_after.unwrap_or_default().max(PAUSE * tries)).await;
            }
            answer => return answer,
        }
    }
}

/// Whether another try may be answered otherwise.
fn is_worth_it(error: &StoreError) -> bool {
    matches!(error.remedy(), Remedy::SlowDown | Remedy::ReadBack)
}

/// A table that is not there holds nothing.
pub(super) fn or_nothing<T: Default>(read: Result<T, StoreError>) -> Result<T, StoreError> {
    match read {
        Err(error) if error.kind == ErrorKind::NoTable => Ok(T::default()),
        read => read,
    }
}
