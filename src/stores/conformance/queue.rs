//! Queues: what is received is hidden, comes back unless it is deleted, and is deleted by its last receiver alone.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::suite::{Context, Failure, Outcome, cases, ensure, fail, same};
use crate::stores::{ErrorKind, Message, Queue};

/// A queue of the case's own; it does not exist yet.
#[derive(Debug, Clone)]
pub struct QueueBench {
    /// The queue.
    pub queue: Arc<dyn Queue>,
}

cases! {
    /// Cases about queues.
    pub(super) const CASES: QueueBench = [
        a_missing_queue_is_named_as_such,
        a_queue_is_created_as_often_as_one_likes,
        an_empty_queue_gives_nothing,
        texts_come_back_exactly,
        a_received_message_is_hidden_and_comes_back,
        a_deleted_message_does_not_come_back,
        a_stale_receipt_deletes_nothing,
        deleting_twice_is_no_error,
        at_most_32_messages_are_received_at_once,
        a_message_of_64_kib_is_accepted_and_one_beyond_is_refused,
    ];
}

const MINUTE: Duration = Duration::from_secs(60);
/// How long a message is waited for that was hidden for a second.
const PATIENCE: Duration = Duration::from_secs(20);

impl QueueBench {
    async fn send(&self, texts: &[&str]) -> Outcome {
        self.queue.create().await.at("creating the queue")?;
        for text in texts {
            self.queue.send(text).await.at("sending")?;
        }
        Ok(())
    }

    async fn receive(&self, hidden: Duration) -> Result<Vec<Message>, Failure> {
        self.queue.receive(32, hidden).await.at("receiving")
    }

    /// The one message that there is.
    async fn one(&self, hidden: Duration) -> Result<Message, Failure> {
        match self.receive(hidden).await?.as_slice() {
            [message] => Ok(message.clone()),
            messages => fail(format!("there should be one message, not {}", messages.len())),
        }
    }

    /// Waits for a hidden message to come back.
    async fn returned(&self, hidden: Duration) -> Result<Message, Failure> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(message) = self.receive(hidden).await?.pop() {
                return Ok(message);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        fail(format!("the message is not back after {} seconds", PATIENCE.as_secs()))
    }
}

async fn a_missing_queue_is_named_as_such(bench: QueueBench) -> Outcome {
    let kinds = [bench.queue.send("x").await.err(), bench.queue.receive(1, MINUTE).await.err()];
    let kinds = kinds.map(|error| error.map(|error| error.kind));
    same("the failures", kinds, [Some(ErrorKind::NoTable); 2])
}

async fn a_queue_is_created_as_often_as_one_likes(bench: QueueBench) -> Outcome {
    bench.send(&["kept"]).await?;
    bench.queue.create().await.at("creating again")?;
    same("the message", bench.one(MINUTE).await?.text.as_str(), "kept")
}

async fn an_empty_queue_gives_nothing(bench: QueueBench) -> Outcome {
    bench.send(&[]).await?;
    same("the messages", bench.receive(MINUTE).await?, Vec::new())
}

async fn texts_come_back_exactly(bench: QueueBench) -> Outcome {
    let texts = [
        r#"{"table":"Orders","partition":"it's","puts":["a","b"],"deletes":[],"version":"v"}"#,
        "eyJ0YWJsZSI6Ik9yZGVycyJ9",
        "<a href=\"x\">&amp;</a>]]>",
        "größe 日本 😀",
        "two\nlines\tand a tab",
    ];
    bench.send(&texts).await?;
    let mut received: Vec<_> = bench.receive(MINUTE).await?.into_iter().map(|message| message.text).collect();
    // A queue promises no order.
    let mut expected: Vec<_> = texts.iter().map(|text| (*text).to_owned()).collect();
    received.sort_unstable();
    expected.sort_unstable();
    same("the texts", received, expected)
}

async fn a_received_message_is_hidden_and_comes_back(bench: QueueBench) -> Outcome {
    bench.send(&["x"]).await?;
    let start = Instant::now();
    let first = bench.one(Duration::from_secs(2)).await?;
    same("the dequeue count", first.dequeue_count, 1)?;
    same("the messages meanwhile", bench.receive(MINUTE).await?, Vec::new())?;
    let second = bench.returned(MINUTE).await?;
    let hidden = start.elapsed();
    ensure(hidden >= Duration::from_secs(1), || format!("it should be hidden for 2 seconds, not {hidden:?}"))?;
    same("the id and the text", (&second.id, &second.text), (&first.id, &first.text))?;
    same("the dequeue count", second.dequeue_count, 2)?;
    ensure(second.pop_receipt != first.pop_receipt, || "each receiving should make a new receipt".to_owned())
}

async fn a_deleted_message_does_not_come_back(bench: QueueBench) -> Outcome {
    bench.send(&["a", "b"]).await?;
    let messages = bench.receive(Duration::from_secs(1)).await?;
    same("the number of messages", messages.len(), 2)?;
    let (deleted, kept): (Vec<_>, Vec<_>) = messages.iter().partition(|message| message.text == "a");
    for message in deleted {
        bench.queue.delete(message).await.at("deleting")?;
    }
    // Both were hidden for as long: when the one is back, the other would be.
    let returned = bench.returned(MINUTE).await?;
    same("the message that came back", Some(&returned.id), kept.first().map(|message| &message.id))?;
    same("the other messages", bench.receive(MINUTE).await?, Vec::new())
}

async fn a_stale_receipt_deletes_nothing(bench: QueueBench) -> Outcome {
    bench.send(&["x"]).await?;
    let first = bench.one(Duration::from_secs(1)).await?;
    let second = bench.returned(Duration::from_secs(1)).await?;
    bench.queue.delete(&first).await.at("deleting on a stale receipt")?;
    let third = bench.returned(Duration::from_secs(1)).await.at("after the delete on a stale receipt")?;
    same("the dequeue count", (second.dequeue_count, third.dequeue_count), (2, 3))?;
    bench.queue.delete(&third).await.at("deleting on the last receipt")?;
    same("the messages", bench.receive(MINUTE).await?, Vec::new())
}

async fn deleting_twice_is_no_error(bench: QueueBench) -> Outcome {
    bench.send(&["x"]).await?;
    let message = bench.one(MINUTE).await?;
    bench.queue.delete(&message).await.at("deleting")?;
    bench.queue.delete(&message).await.at("deleting again")
}

async fn at_most_32_messages_are_received_at_once(bench: QueueBench) -> Outcome {
    let texts: Vec<_> = (0..40).map(|i| i.to_string()).collect();
    bench.send(&texts.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    let mut received = bench.queue.receive(5, MINUTE).await?;
    same("five", received.len(), 5)?;
    let more = bench.receive(MINUTE).await?;
    same("the most", more.len(), 32)?;
    received.extend(more);
    received.extend(bench.receive(MINUTE).await?);
    let mut numbers: Vec<u32> = received.iter().filter_map(|message| message.text.parse().ok()).collect();
    numbers.sort_unstable();
    same("the texts", numbers, (0..40).collect())?;
    for bad in [0, 33] {
        let kind = bench.queue.receive(bad, MINUTE).await.err().map(|error| error.kind);
        same(&format!("receiving {bad}"), kind, Some(ErrorKind::Invalid))?;
    }
    Ok(())
}

async fn a_message_of_64_kib_is_accepted_and_one_beyond_is_refused(bench: QueueBench) -> Outcome {
    let (full, beyond) = ("m".repeat(64 * 1024), "m".repeat(64 * 1024 + 1));
    bench.send(&[&full]).await?;
    let kind = bench.queue.send(&beyond).await.err().map(|error| error.kind);
    same("sending one byte more", kind, Some(ErrorKind::Invalid))?;
    ensure(bench.one(MINUTE).await?.text == full, || "the message should come back whole".to_owned())
}
