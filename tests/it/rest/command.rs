//! The store as a process of its own.

use std::path::Path;

use tablerelay::model::TableName;
use tablerelay::stores::azure::{AccountTarget, HttpOptions};
use tablerelay::stores::{Operation, Tables};

use crate::azure_tables::{self, body, table};
use crate::support::process::Process;
use crate::support::relay::PROGRAM;

fn serve(arguments: &[&str]) -> Process {
    let arguments = [&["store", "serve", "--listen", "127.0.0.1:0"], arguments].concat();
    Process::start(Path::new(PROGRAM), &arguments, &[], &std::env::temp_dir())
}

fn connection_string(process: &Process, account: &str) -> String {
    let says = format!("DefaultEndpointsProtocol=http;AccountName={account};");
    process.wait_for("a connection string", |line| line.starts_with(&says).then(|| line.to_owned()))
}

#[tokio::test]
async fn a_store_that_is_served_prints_how_each_account_is_reached() {
    let process = serve(&["--account", "west", "--account", "north", "--key", "c2VjcmV0"]);
    let accounts = ["west", "north"].map(|account| {
        let target = AccountTarget::from_connection_string(&connection_string(&process, account)).unwrap();
        azure_tables::connect(&target, &HttpOptions::default())
    });
    accounts[0].create_table(&table()).await.unwrap();
    accounts[0].write(&table(), &Operation::Insert(body("p", "r", ""))).await.unwrap();
    assert_eq!(accounts[1].tables().await.unwrap(), [] as [TableName; 0], "accounts are apart");
}

#[tokio::test]
async fn without_a_name_it_is_the_account_of_the_emulators() {
    let process = serve(&[]);
    let text = connection_string(&process, "devstoreaccount1");
    let tables = azure_tables::connect(&AccountTarget::from_connection_string(&text).unwrap(), &HttpOptions::default());
    assert_eq!(tables.create_table(&table()).await, Ok(true));
}

#[test]
fn an_account_that_cannot_be_is_refused_as_usage() {
    for (arguments, says) in [
        (["--account", "West"], "West\" is no account name"),
        (["--key", "not base64"], "base64 of at least one byte"),
        (["--listen", "nowhere"], "invalid socket address"),
    ] {
        let arguments = [&["store", "serve"], &arguments[..]].concat();
        let ended = crate::support::relay::Config::new("").run(&arguments, &[]);
        assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""), "{arguments:?}: {}", ended.err);
        assert!(ended.err.contains(says), "{arguments:?}: {}", ended.err);
    }
}
