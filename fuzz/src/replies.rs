//! What Azure answers: the status on the first line, headers, an empty line, the body.

use std::time::Duration;

use tablerelay::model::{Etag, RowBody};
use tablerelay::stores::azure::fuzz;
use tablerelay::stores::{Condition, ErrorKind, Operation, StoreError};

use super::feed::same_body;
use super::input::Input;

/// No server's wish for patience is believed beyond this.
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);
/// Most bytes of what an error keeps of a body: of its message, and of its code.
const MOST_KEPT: usize = 2_000;

fn status(input: &Input<'_>) -> u16 {
    input.first.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(202)
}

/// The reply to a transaction. The first line may say behind the status which operations there were: `202 put delete`.
pub fn transaction_reply(bytes: &[u8]) -> bool {
    let input = Input::read(bytes);
    let row = RowBody::parse(r#"{"PartitionKey":"p","RowKey":"r"}"#).expect("a row");
    let delete = || Operation::Delete { partition: "p".into(), row: "r".into(), condition: Condition::Present };
    let operation = |word: &str| match word {
        "delete" => delete(),
        _ => Operation::Insert(row.clone()),
    };
    let operations: Vec<_> = input.first.split(' ').skip(1).take(100).map(operation).collect();
    match fuzz::transaction(status(&input), &input.headers, input.body, &operations) {
        Ok(etags) => {
            let shape = |operation: &Operation| !matches!(operation, Operation::Delete { .. });
            assert_eq!(
                etags.iter().map(Option::is_some).collect::<Vec<_>>(),
                operations.iter().map(shape).collect::<Vec<_>>(),
                "each row that was written has an ETag"
            );
            taken_whole(&input, &operations);
            true
        }
        Err(failed) => {
            assert!(failed.index.is_none_or(|index| index < operations.len()), "{failed}");
            error(&failed.error);
            // Whose fault it was, is what is to be understood of a failure.
            failed.index.is_some()
        }
    }
}

/// A reply that means success has a part of 2xx for each operation, and is closed: cut short anywhere before that, it does
/// not mean success any more.
fn taken_whole(input: &Input<'_>, operations: &[Operation]) {
    let text = std::str::from_utf8(input.body).expect("it was understood");
    assert!(text.matches("HTTP/1.").count() >= operations.len(), "{text}");
    let boundary = input.header("content-type").and_then(|kind| kind.split("boundary=").nth(1)).expect("it was read");
    let boundary = boundary.split(';').next().unwrap_or_default().trim().trim_matches('"');
    let end = text.find(&format!("--{boundary}--")).expect("it is closed");
    for cut in [end, end / 2, end.saturating_sub(1)] {
        let cut = &input.body[..cut];
        let again = fuzz::transaction(status(input), &input.headers, cut, operations);
        assert!(again.is_err(), "half a reply is no success: {}", String::from_utf8_lossy(cut));
    }
}

/// A reply that is an error.
pub fn error_reply(bytes: &[u8]) -> bool {
    let input = Input::read(bytes);
    let status = status(&input);
    let found = fuzz::error(status, &input.headers, input.body);
    assert_eq!(found.status, Some(status));
    error(&found);
    let exists = found.kind == ErrorKind::AlreadyExists;
    assert!(!exists || status == 409 && found.code.ends_with("AlreadyExists"), "{found}");
    let absent = found.kind == ErrorKind::NotFound;
    assert!(!absent || status == 404 && found.code.ends_with("NotFound"), "a proxy's 404 is no absent row: {found}");
    !found.code.is_empty() || found.retry_after.is_some()
}

fn error(error: &StoreError) {
    assert!(!error.to_string().is_empty());
    assert!(error.message.len() <= MOST_KEPT && !error.message.contains('\n'), "{error}");
    assert!(error.code.len() <= MOST_KEPT && !error.code.contains('\n'), "{error}");
    assert!(error.retry_after.is_none_or(|wait| wait <= LONGEST_WAIT), "{:?}", error.retry_after);
}

/// A page of rows.
pub fn page_reply(bytes: &[u8]) -> bool {
    let input = Input::read(bytes);
    match fuzz::page(200, &input.headers, input.body) {
        Ok(page) => {
            assert!(page.rows.len() <= input.body.len());
            for row in &page.rows {
                same_body(&row.body);
                assert_ne!(row.etag, Etag::new(""), "a condition on no ETag would be none");
            }
            true
        }
        Err(failed) => {
            assert_eq!(failed.kind, ErrorKind::Unexpected);
            assert!(failed.message.contains("row") || failed.message.contains("UTF-8"), "{failed}");
            false
        }
    }
}
