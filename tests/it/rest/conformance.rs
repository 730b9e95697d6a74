//! What every adapter passes, over HTTP: the real client on the memory store's server, with none of Azurite's quirks.

use std::sync::Arc;

use tablerelay::stores::azure::{AccountTarget, AzureTables, HttpOptions};
use tablerelay::stores::conformance::{Server, check_tables};
use tablerelay::stores::{ErrorKind, Tables};

use crate::azure_tables;
use crate::support::served::ServedStore;

pub fn connect(server: &ServedStore) -> Arc<AzureTables> {
    let target = AccountTarget::from_connection_string(&server.connection_string).unwrap();
    azure_tables::connect(&target, &HttpOptions::default())
}

#[tokio::test]
async fn the_memory_store_passes_over_http_without_a_quirk() {
    let server = ServedStore::start().await;
    let tables: Arc<dyn Tables> = connect(&server);
    let report = check_tables(&tables, Server::Azure, "Conformance").await;
    assert!(report.is_clean(), "{report}");
}

#[tokio::test]
async fn a_wrong_key_and_an_unknown_account_are_denied() {
    let server = ServedStore::start().await;
    for (wrong, right) in [("AccountKey=d3Jvbmc=", "AccountKey"), ("TableEndpoint=", "TableEndpoint")] {
        let parts = server.connection_string.split(';').map(|part| match part.starts_with(right) {
            true if right == "AccountKey" => wrong.to_owned(),
            true => part.replace("acct1", "acct2"),
            false => part.to_owned(),
        });
        let text = parts.collect::<Vec<_>>().join(";");
        let target = AccountTarget::from_connection_string(&text).unwrap();
        let err = azure_tables::connect(&target, &HttpOptions::default()).tables().await.unwrap_err();
        assert_eq!((err.kind, err.status, &*err.code), (ErrorKind::Denied, Some(403), "AuthenticationFailed"), "{err}");
    }
}

#[tokio::test]
async fn a_server_tells_its_own_time_to_the_second() {
    let server = ServedStore::skewed(-600).await;
    let tables = connect(&server);
    tables.create_table(&azure_tables::table()).await.unwrap();
    let runtime = tablerelay::runtime::Runtime::system();
    let behind = runtime.now().since(tables.clock().at(runtime.instant()).unwrap());
    assert!((599..=603).contains(&behind.as_secs()), "{behind:?}");
}
