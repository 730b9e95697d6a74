//! The queue adapter against Azurite.

use std::sync::Arc;
use std::time::Duration;

use tablerelay::runtime::Runtime;
use tablerelay::stores::azure::{AccountTarget, AzureQueue, ConnectError, HttpOptions};
use tablerelay::stores::{CHANGES_QUEUE, ErrorKind, Message, Queue};

use crate::support::azurite::Azurite;

pub fn connect(target: &AccountTarget, options: &HttpOptions) -> Arc<AzureQueue> {
    AzureQueue::connect(target, CHANGES_QUEUE, options, Runtime::system()).unwrap()
}

fn fresh() -> Arc<AzureQueue> {
    let account = Azurite::shared().account();
    connect(&AccountTarget::from_connection_string(&account.connection_string()).unwrap(), &HttpOptions::default())
}

const HIDDEN: Duration = Duration::from_secs(30);

#[tokio::test]
async fn messages_go_through_as_they_are() {
    let queue = fresh();
    queue.create().await.unwrap();
    queue.create().await.unwrap();
    assert_eq!(queue.receive(32, HIDDEN).await.unwrap(), []);
    let texts = [
        r#"{"table":"Orders","partition":"it's <&> \"é\"","puts":["a"],"deletes":[],"version":"x"}"#,
        "eyJ0YWJsZSI6Ik9yZGVycyJ9",
        "日本 😀",
        " spaces ",
    ];
    for text in texts {
        queue.send(text).await.unwrap();
    }
    let messages = queue.receive(32, HIDDEN).await.unwrap();
    assert_eq!(messages.iter().map(|message| message.text.as_str()).collect::<Vec<_>>(), texts);
    assert!(messages.iter().all(|message| message.dequeue_count == 1 && !message.id.is_empty()));
    assert_eq!(queue.receive(32, HIDDEN).await.unwrap(), [], "they are hidden");
    for message in &messages {
        queue.delete(message).await.unwrap();
        queue.delete(message).await.unwrap();
    }
}

#[tokio::test]
async fn a_receipt_that_is_void_deletes_nothing_and_is_no_error() {
    let queue = fresh();
    queue.create().await.unwrap();
    queue.send("one").await.unwrap();
    let message = queue.receive(1, HIDDEN).await.unwrap().remove(0);
    let stale = Message { pop_receipt: "AAAAAAAAAAAAAAAA".to_owned(), ..message.clone() };
    queue.delete(&stale).await.unwrap();
    queue.delete(&message).await.unwrap();
}

#[tokio::test]
async fn a_queue_that_is_missing_is_named_as_such() {
    let queue = fresh();
    assert_eq!(queue.receive(1, HIDDEN).await.unwrap_err().kind, ErrorKind::NoTable);
    assert_eq!(queue.send("text").await.unwrap_err().kind, ErrorKind::NoTable);
}

#[tokio::test]
async fn a_message_over_64_kib_is_refused_before_it_is_sent() {
    let queue = fresh();
    queue.create().await.unwrap();
    queue.send(&"x".repeat(64 * 1024)).await.unwrap();
    let err = queue.send(&"x".repeat(64 * 1024 + 1)).await.unwrap_err();
    assert_eq!((err.kind, err.status), (ErrorKind::Invalid, None));
}

#[test]
fn an_account_without_a_queue_endpoint_has_no_queue() {
    let text = "TableEndpoint=http://127.0.0.1:1/a;SharedAccessSignature=sig=x";
    let target = AccountTarget::from_connection_string(text).unwrap();
    let refused = AzureQueue::connect(&target, CHANGES_QUEUE, &HttpOptions::default(), Runtime::system());
    assert_eq!(refused.unwrap_err(), ConnectError::NoQueue);
}
