//! Crates that may not come in, not even through another crate. deny.toml says the same to cargo-deny; this holds where
//! cargo-deny is not installed.

use super::tree;
use super::{Finding, lines, none};

/// A crate, below which major version it is banned (`u64::MAX` for always), and why.
const BANNED: [(&str, u64, &str); 5] = [
    (
        "azure_data_tables",
        u64::MAX,
        "it answers Ok to a failed transaction and does not escape keys; use stores::azure",
    ),
    ("azure_storage_queues", u64::MAX, "it is no longer maintained; use azure_storage_queue"),
    ("azure_core", 1, "it logs the Authorization header (RUSTSEC-2026-0275) before 1.0"),
    ("openssl", u64::MAX, "TLS is rustls with one provider, installed first thing in main"),
    ("native-tls", u64::MAX, "TLS is rustls with one provider, installed first thing in main"),
];

fn banned(lock: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut name = "";
    for (index, line) in lock.lines().enumerate() {
        let value = |key: &str| line.strip_prefix(key).map(|value| value.trim_matches('"'));
        if let Some(found) = value("name = ") {
            name = found;
        } else if let Some(version) = value("version = ") {
            let major: u64 = version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or_default();
            let ban = BANNED.iter().find(|(banned, below, _)| *banned == name && major < *below);
            if let Some((_, _, why)) = ban {
                let remedy = format!("{name} {version} is banned: {why}; `cargo tree -i {name}` tells who wants it");
                findings.push(Finding::new("Cargo.lock", index + 1, remedy));
            }
        }
    }
    findings
}

#[test]
fn no_banned_crate_comes_in() {
    let texts = tree::texts();
    let lock = texts.iter().find(|text| text.path == "Cargo.lock").expect("Cargo.lock is committed");
    none(banned(&lock.text));
}

#[test]
fn a_banned_crate_is_found() {
    let lock = "[[package]]\nname = \"azure_core\"\nversion = \"1.1.0\"\n\n[[package]]\nname = \"azure_core\"\n\
                version = \"0.21.0\"\n\n[[package]]\nname = \"openssl\"\nversion = \"0.10.0\"\n";
    assert_eq!(lines(&banned(lock)), [7, 11]);
}
