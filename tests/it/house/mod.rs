//! The house rules: what the compiler and clippy do not hold, held by tests.
//!
//! ARCHITECTURE.md says why each rule is there. A rule is a function from sources to findings; a finding names the file,
//! the line and what to do. Every rule is shown to fail on a small fixture beside it, since a rule that cannot fail
//! holds nothing.

mod dependencies;
mod documents;
mod habits;
mod imports;
mod purity;
mod runbook;
mod sizes;
mod source;
mod text;
mod tree;

use std::fmt;

/// A broken rule: where, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    path: String,
    line: usize,
    remedy: String,
}

impl Finding {
    fn new(path: &str, line: usize, remedy: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, remedy: remedy.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.remedy)
    }
}

/// Fails with all findings at once.
#[track_caller]
fn none(findings: impl IntoIterator<Item = Finding>) {
    let mut findings: Vec<_> = findings.into_iter().collect();
    findings.sort();
    findings.dedup();
    let list: Vec<_> = findings.iter().map(|finding| format!("\n  {finding}")).collect();
    assert!(findings.is_empty(), "{} broken house rules:{}", findings.len(), list.concat());
}

/// The line numbers of findings, for fixtures.
fn lines(findings: &[Finding]) -> Vec<usize> {
    findings.iter().map(|finding| finding.line).collect()
}
