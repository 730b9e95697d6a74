//! What Microsoft's clients wrote in one region, they read in the other.

use std::path::PathBuf;

use super::{Pair, TABLE, rows, table};
use crate::support::deployment::Site;
use crate::support::eventually;
use crate::support::programs::{node, python, run};

/// The script that writes and checks, in each language.
fn scripts() -> [(&'static str, PathBuf, &'static str); 2] {
    [("python", python(), "roundtrip.py"), ("javascript", node(), "roundtrip.mjs")]
}

/// Runs the scripts of both languages in a region, side by side.
async fn both(site: &Site, arguments: &[&str]) {
    let connection = site.account.connection_string();
    let runs = scripts().map(|(folder, program, script)| {
        let connection = connection.clone();
        let arguments: Vec<_> = std::iter::once(script).chain(arguments.iter().copied()).map(str::to_owned).collect();
        tokio::task::spawn_blocking(move || {
            let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
            run(&program, folder, &arguments, &[("TABLES_CONNECTION", &connection)])
        })
    });
    for run in runs {
        run.await.expect("the script ends well");
    }
}

#[tokio::test]
async fn microsofts_clients_read_at_the_destination_exactly_what_they_wrote_and_changed_at_the_source() {
    let pair = Pair::start(&[]).await;
    let west = pair.source.region.as_str();
    both(&pair.source, &["write", TABLE, west]).await;
    both(&pair.destination, &["check", TABLE, "--wait", "30"]).await;
    both(&pair.source, &["check", TABLE, "--wait", "0"]).await;

    // What is deleted now has been at the destination.
    both(&pair.source, &["change", TABLE, west]).await;
    both(&pair.destination, &["check", TABLE, "--changed", "--wait", "30"]).await;
    both(&pair.source, &["check", TABLE, "--changed", "--wait", "0"]).await;

    // Not only as these clients read it.
    eventually("both regions hold the same JSON", || async {
        let [here, there] = [rows(&pair.source, &table()).await, rows(&pair.destination, &table()).await];
        let bodies = |rows: &[tablerelay::model::Row]| rows.iter().map(|row| row.body.clone()).collect::<Vec<_>>();
        !here.is_empty() && bodies(&here) == bodies(&there)
    })
    .await;
    pair.end().await;
}
