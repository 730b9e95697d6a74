//! The trait of a queue of change records.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use super::StoreError;

/// The queue of every account that change records may be sent to.
pub const CHANGES_QUEUE: &str = "relay-changes";

/// A message as it was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The service's id.
    pub id: String,
    /// What a delete must present; void once the message was received again.
    pub pop_receipt: String,
    /// The text, as it was sent: JSON or base64 of JSON.
    pub text: String,
    /// How often it was received, this time included.
    pub dequeue_count: u32,
}

/// One queue of one storage account: `relay-changes`.
#[async_trait]
pub trait Queue: fmt::Debug + Send + Sync + 'static {
    /// Creates the queue where it is missing.
    async fn create(&self) -> Result<(), StoreError>;

    /// Receives up to `max` messages (1 to 32, Azure's limit), hidden from others for `hidden`.
    async fn receive(&self, max: u8, hidden: Duration) -> Result<Vec<Message>, StoreError>;

    /// Deletes a received message. One that is gone, or was received again since, is no error: it will come back.
    async fn delete(&self, message: &Message) -> Result<(), StoreError>;

    /// Sends a text of at most 64 KiB.
    async fn send(&self, text: &str) -> Result<(), StoreError>;
}
