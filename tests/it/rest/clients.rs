//! Microsoft's clients in Python and JavaScript find the same at the memory store's server and at Azurite.

use std::path::{Path, PathBuf};

use crate::support::azurite::Azurite;
use crate::support::programs::{example, node, python, run_in};
use crate::support::served::ServedStore;

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk")
}

/// Runs a script on both, one after the other, beside the runtime that the server is on.
/// `ran` is said where more than ten tests did.
async fn pass_on_both(program: PathBuf, arguments: &'static [&'static str], ran: &str) {
    let server = ServedStore::start().await;
    for (name, connection) in [
        ("the memory store", server.connection_string.clone()),
        ("Azurite", Azurite::shared().account().connection_string()),
    ] {
        let program = program.clone();
        let packages = example("javascript").join("node_modules");
        let said = tokio::task::spawn_blocking(move || {
            let packages = packages.display().to_string();
            let environment = [("TABLES_CONNECTION", &*connection), ("NODE_PATH", &packages)];
            run_in(&program, &scripts(), arguments, &environment)
        });
        let said = said.await.unwrap_or_else(|err| panic!("on {name}: {err}"));
        assert!(said.contains(ran), "on {name}: {said}");
    }
}

#[tokio::test]
async fn microsofts_python_client_finds_the_same_at_both() {
    pass_on_both(python(), &["-m", "unittest", "conformance.py"], "Ran 1").await;
}

#[tokio::test]
async fn microsofts_javascript_client_finds_the_same_at_both() {
    pass_on_both(node(), &["--test", "conformance.cjs"], "pass 1").await;
}

#[tokio::test]
async fn microsofts_python_client_meets_the_faults_that_it_asked_for() {
    let server = ServedStore::start().await;
    let (connection, control) = (server.connection_string.clone(), server.control.clone());
    let ran = tokio::task::spawn_blocking(move || {
        let environment = [("TABLES_CONNECTION", &*connection), ("TABLES_CONTROL", &*control)];
        run_in(&python(), &scripts(), &["-m", "unittest", "faults.py"], &environment)
    });
    let said = ran.await.unwrap();
    assert!(said.contains("Ran 5 tests"), "{said}");
}
