//! [`Queue`] on the official queue client, with our transport and our signatures in its pipeline.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use azure_core::http::{RequestContent, XmlFormat};
use azure_storage_queue::models::{
    QueueClientReceiveMessagesOptions, QueueClientSendMessageOptions, QueueMessage, ReceivedMessage,
};
use azure_storage_queue::{QueueClient, QueueClientOptions};

use super::connection::AccountTarget;
use super::error::unanswered;
use super::sign::{Service, Signer};
use super::transport::{API_VERSION, ConnectError, HttpOptions, Transport, client_options, within};
use crate::runtime::Runtime;
use crate::stores::{ErrorKind, Message, Queue, StorageClock, StoreError, limits};

/// One queue of an Azure Storage account, or of Azurite. One try per call.
///
/// The official client knows bearer tokens only; shared keys and SAS come in as pipeline policies of ours, and so do
/// bearer tokens, to have one way.
pub struct AzureQueue {
    name: String,
    client: QueueClient,
    deadline: Duration,
}

impl AzureQueue {
    /// Sets up the client of the queue `name`. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ConnectError`] where the account has no queue endpoint, or TLS cannot be used.
    pub fn connect(
        target: &AccountTarget,
        name: &str,
        options: &HttpOptions,
        runtime: Runtime,
    ) -> Result<Arc<Self>, ConnectError> {
        let endpoint = target.queue.as_ref().ok_or(ConnectError::NoQueue)?;
        // Settle windows are reckoned by the tables' clock; a queue's tells nothing of them.
        let transport = Transport::new(options, Arc::new(StorageClock::new()), runtime.clone())?;
        let deadline = transport.deadline;
        let mut client_options = client_options(transport);
        client_options
            .per_try_policies
            .push(endpoint.credential()?.policy(|key| Signer::new(key, Service::Queue, runtime)));
        let mut url = endpoint.url.clone();
        url.set_path(&format!("{}/{name}", url.path().trim_end_matches('/')));
        let options = QueueClientOptions { client_options, version: API_VERSION.to_owned() };
        let client =
            QueueClient::new(url, None, Some(options)).map_err(|err| ConnectError::Queue(super::error::chain(&err)))?;
        Ok(Arc::new(Self { name: name.to_owned(), client, deadline }))
    }

    async fn call<T>(&self, call: impl Future<Output = azure_core::Result<T>>) -> Result<T, StoreError> {
        within(self.deadline, call).await?.map_err(|err| unanswered(&err))
    }
}

impl fmt::Debug for AzureQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AzureQueue").field("name", &self.name).finish_non_exhaustive()
    }
}

fn message(received: ReceivedMessage) -> Option<Message> {
    Some(Message {
        id: received.message_id?,
        pop_receipt: received.pop_receipt?,
        // An empty element is read as no text.
        text: received.message_text.unwrap_or_default(),
        dequeue_count: received.dequeue_count.and_then(|count| u32::try_from(count).ok()).unwrap_or(1),
    })
}

#[async_trait]
impl Queue for AzureQueue {
    async fn create(&self) -> Result<(), StoreError> {
        match self.call(self.client.create(None)).await {
            // It is there with metadata that somebody has set.
            Err(err) if err.kind == ErrorKind::AlreadyExists => Ok(()),
            created => created.map(drop),
        }
    }

    async fn receive(&self, max: u8, hidden: Duration) -> Result<Vec<Message>, StoreError> {
        let hidden = limits::check_receive(max, hidden)?;
        let options = QueueClientReceiveMessagesOptions {
            number_of_messages: Some(max.into()),
            visibility_timeout: i32::try_from(hidden).ok(),
            ..QueueClientReceiveMessagesOptions::default()
        };
        let reply = self.call(self.client.receive_messages(Some(options))).await?;
        let unreadable =
            |why: &str| StoreError::new(ErrorKind::Unexpected, format!("the reply is no list of messages: {why}"));
        let messages = reply.into_model().map_err(|err| unreadable(&err.to_string()))?.items.unwrap_or_default();
        messages.into_iter().map(|received| message(received).ok_or_else(|| unreadable("no id or receipt"))).collect()
    }

    async fn delete(&self, message: &Message) -> Result<(), StoreError> {
        match self.call(self.client.delete_message(&message.id, &message.pop_receipt, None)).await {
            Err(err) if err.kind == ErrorKind::NotFound || err.code == "PopReceiptMismatch" => Ok(()),
            deleted => deleted.map(drop),
        }
    }

    async fn send(&self, text: &str) -> Result<(), StoreError> {
        limits::check_message(text)?;
        let message = QueueMessage { message_text: Some(text.to_owned()) };
        let content: RequestContent<QueueMessage, XmlFormat> = message
            .try_into()
            .map_err(|err: azure_core::Error| StoreError::new(ErrorKind::Invalid, super::error::chain(&err)))?;
        let options = QueueClientSendMessageOptions::default();
        self.call(self.client.send_message(content, Some(options))).await.map(drop)
    }
}
