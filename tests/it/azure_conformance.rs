//! The suite that all adapters pass, against Azurite.

use std::sync::Arc;

use tablerelay::runtime::Runtime;
use tablerelay::stores::azure::{AccountTarget, AzureQueue, HttpOptions};
use tablerelay::stores::conformance::{Server, check_queue, check_tables};
use tablerelay::stores::{Queue, Tables};

use crate::azure_tables;
use crate::support::azurite::Azurite;

#[tokio::test]
async fn azurites_tables_pass_but_for_its_quirks() {
    let account = Azurite::shared().account();
    let target = AccountTarget::from_connection_string(&account.connection_string()).unwrap();
    let tables: Arc<dyn Tables> = azure_tables::connect(&target, &HttpOptions::default());
    let report = check_tables(&tables, Server::Azurite, "Conformance").await;
    assert!(report.is_clean(), "{report}");
}

#[tokio::test]
async fn azurites_queue_passes() {
    let account = Azurite::shared().account();
    let target = AccountTarget::from_connection_string(&account.connection_string()).unwrap();
    let queue = |name: &str| -> Arc<dyn Queue> {
        AzureQueue::connect(&target, name, &HttpOptions::default(), Runtime::system()).unwrap()
    };
    let report = check_queue(queue, Server::Azurite).await;
    assert!(report.is_clean(), "{report}");
}
