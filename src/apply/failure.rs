//! What a failed transaction means for each of its rows.

use crate::stores::{Remedy, TransactionError};

/// What to do about a row whose transaction failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterFailure {
    /// Read what stands there now and decide anew, in this batch.
    StartOver,
    /// Create the table, then send it again.
    CreateTable,
    /// The row itself is refused for good; the others of its transaction are not.
    Refused,
    /// One of them is refused for good, and nobody said which: each is sent alone.
    Alone,
    /// Later: the account is busy, unreachable, or refuses us.
    Later,
}

/// What to do about row `index` of a transaction of `rows` that failed with `failure`.
///
/// A lost reply is `Later`, not `StartOver`: the outcome is unknown, and the next attempt reads before it writes
/// because the failure made us forget what we knew of the row.
pub fn after_failure(failure: &TransactionError, index: usize, rows: usize) -> AfterFailure {
    match failure.error.remedy() {
        Remedy::StartOver => AfterFailure::StartOver,
        Remedy::CreateTable => AfterFailure::CreateTable,
        Remedy::GiveUp => match failure.index {
            Some(at_fault) if at_fault != index => AfterFailure::StartOver,
            None if rows > 1 => AfterFailure::Alone,
            _ => AfterFailure::Refused,
        },
        Remedy::SlowDown | Remedy::ReadBack | Remedy::FixAccess => AfterFailure::Later,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stores::{ErrorKind, StoreError};

    fn failure(kind: ErrorKind, index: Option<usize>) -> TransactionError {
        TransactionError { index, error: StoreError::new(kind, "x") }
    }

    #[test]
    fn one_bad_row_does_not_condemn_its_neighbours() {
        let bad = failure(ErrorKind::Invalid, Some(2));
        assert_eq!(after_failure(&bad, 2, 3), AfterFailure::Refused);
        assert_eq!(after_failure(&bad, 1, 3), AfterFailure::StartOver);
        let nameless = failure(ErrorKind::Invalid, None);
        assert_eq!(after_failure(&nameless, 0, 2), AfterFailure::Alone);
        assert_eq!(after_failure(&nameless, 0, 1), AfterFailure::Refused);
    }

    #[test]
    fn conflicts_start_over_and_outages_wait() {
        for kind in [ErrorKind::Precondition, ErrorKind::AlreadyExists, ErrorKind::NotFound] {
            assert_eq!(after_failure(&failure(kind, Some(0)), 1, 2), AfterFailure::StartOver);
        }
        for kind in [ErrorKind::Throttled, ErrorKind::Unreachable, ErrorKind::Server, ErrorKind::Denied] {
            assert_eq!(after_failure(&failure(kind, None), 0, 2), AfterFailure::Later);
        }
        assert_eq!(after_failure(&failure(ErrorKind::NoTable, None), 0, 2), AfterFailure::CreateTable);
    }
}
