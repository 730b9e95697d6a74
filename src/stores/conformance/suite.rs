//! Cases, quirks, and the driver that runs them all and names every one that failed.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use crate::stores::{StoreError, TransactionError};

/// How long one case may take; the slowest on Azurite take a few seconds.
const DEADLINE: Duration = Duration::from_secs(120);

/// Which server is behind an adapter, for what is known to be wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// One that behaves as Azure does: Azure, or a store of ours.
    Azure,
    /// Azurite, with its [`Quirk`]s.
    Azurite,
}

/// Something that Azurite gets wrong.
#[derive(Debug, PartialEq, Eq)]
pub struct Quirk {
    /// A short name.
    pub name: &'static str,
    /// What Azure does.
    pub azure: &'static str,
    /// What Azurite does.
    pub azurite: &'static str,
}

/// Why a case failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure(pub String);

/// What a case says.
pub type Outcome = Result<(), Failure>;

type Run<S> = fn(S) -> Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// One thing that every adapter does.
pub struct Case<S> {
    /// The rule, as a sentence.
    pub name: &'static str,
    run: Run<S>,
    lax: Option<(&'static Quirk, Run<S>)>,
}

impl<S> Case<S> {
    /// A rule that holds everywhere.
    pub const fn new(name: &'static str, run: Run<S>) -> Self {
        Self { name, run, lax: None }
    }

    /// A rule that Azurite breaks: on Azurite `lax` is run instead, which holds only while the quirk shows.
    pub const fn with_quirk(name: &'static str, run: Run<S>, quirk: &'static Quirk, lax: Run<S>) -> Self {
        Self { name, run, lax: Some((quirk, lax)) }
    }

    /// The quirk that it is about, if any.
    pub fn quirk(&self) -> Option<&'static Quirk> {
        self.lax.map(|(quirk, _)| quirk)
    }

    async fn check(&self, server: Server, subject: S) -> Outcome {
        let (run, quirk) = match (server, &self.lax) {
            (Server::Azurite, Some((quirk, lax))) => (*lax, Some(*quirk)),
            _ => (self.run, None),
        };
        let outcome = tokio::time::timeout(DEADLINE, run(subject)).await;
        let outcome = outcome.unwrap_or_else(|_| fail(format!("no end after {} seconds", DEADLINE.as_secs())));
        match quirk {
            None => outcome,
            Some(quirk) => outcome.map_err(|Failure(why)| {
                Failure(format!("Azurite no longer shows the quirk \"{}\" ({}): {why}", quirk.name, quirk.azurite))
            }),
        }
    }
}

impl<S> fmt::Debug for Case<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quirk = self.quirk().map(|quirk| quirk.name);
        f.debug_struct("Case").field("name", &self.name).field("quirk", &quirk).finish()
    }
}

/// What became of a run: how many cases passed, and each failure by the name of its case.
#[derive(Debug, Default)]
#[must_use]
pub struct Report {
    /// The cases that passed.
    pub passed: Vec<&'static str>,
    /// The cases that failed, and why.
    pub failed: Vec<(&'static str, Failure)>,
}

impl Report {
    /// Whether all cases passed, and there were some.
    pub fn is_clean(&self) -> bool {
        self.failed.is_empty() && !self.passed.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cases passed, {} failed", self.passed.len(), self.failed.len())?;
        self.failed.iter().try_for_each(|(name, Failure(why))| write!(f, "\n  {name}: {why}"))
    }
}

/// Runs every case on a subject of its own, made for it from its number.
pub async fn run<S, F>(cases: &[Case<S>], server: Server, mut subject: impl FnMut(usize) -> F) -> Report
where
    F: Future<Output = Result<S, Failure>>,
{
    let mut report = Report::default();
    for (number, case) in cases.iter().enumerate() {
        let outcome = match subject(number).await {
            Ok(subject) => case.check(server, subject).await,
            Err(failure) => Err(failure),
        };
        match outcome {
            Ok(()) => report.passed.push(case.name),
            Err(failure) => report.failed.push((case.name, failure)),
        }
    }
    report
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self(error.to_string())
    }
}

impl From<TransactionError> for Failure {
    fn from(error: TransactionError) -> Self {
        Self(error.to_string())
    }
}

/// A case that failed, for this reason.
pub fn fail<T>(why: impl Into<String>) -> Result<T, Failure> {
    Err(Failure(why.into()))
}

/// Holds a case to a condition.
pub fn ensure(holds: bool, why: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { fail(why()) }
}

/// Holds a case to an exact result.
pub fn same<T: PartialEq + fmt::Debug>(what: &str, got: T, expected: T) -> Outcome {
    ensure(got == expected, || format!("{what} should be {expected:?}, not {got:?}"))
}

/// Says of a failure where it happened.
pub trait Context<T> {
    /// Puts `place` before the reason.
    fn at(self, place: impl fmt::Debug) -> Result<T, Failure>;
}

impl<T, E: Into<Failure>> Context<T> for Result<T, E> {
    fn at(self, place: impl fmt::Debug) -> Result<T, Failure> {
        self.map_err(|err| Failure(format!("{place:?}: {}", err.into())))
    }
}

/// A table of cases, each an `async fn` of this module by its name, which is the rule it checks. A case that Azurite
/// breaks names the quirk and the case that it shows instead.
macro_rules! cases {
    ($(#[$doc:meta])* $vis:vis const $table:ident: $subject:ty = [$($case:ident $(($quirk:ident => $lax:ident))?,)*];) => {
        $(#[$doc])*
        $vis const $table: &[$crate::stores::conformance::Case<$subject>] =
            &[$($crate::stores::conformance::case!($case $(, $quirk, $lax)?),)*];
    };
}

macro_rules! case {
    ($case:ident) => {
        $crate::stores::conformance::Case::new(stringify!($case), |subject| Box::pin($case(subject)))
    };
    ($case:ident, $quirk:ident, $lax:ident) => {
        $crate::stores::conformance::Case::with_quirk(
            stringify!($case),
            |subject| Box::pin($case(subject)),
            &$quirk,
            |subject| Box::pin($lax(subject)),
        )
    };
}

pub(crate) use {case, cases};

#[cfg(test)]
mod tests {
    use super::*;

    static QUIRK: Quirk = Quirk { name: "upside down", azure: "true", azurite: "false" };

    async fn it_is_true(subject: bool) -> Outcome {
        same("it", subject, true)
    }

    async fn it_is_false(subject: bool) -> Outcome {
        same("it", subject, false)
    }

    async fn it_never_ends(_: bool) -> Outcome {
        std::future::pending().await
    }

    cases! {
        const CASES: bool = [it_is_true(QUIRK => it_is_false), it_never_ends,];
    }

    async fn failures(server: Server, subject: bool) -> Vec<String> {
        let report = run(CASES, server, |_| async move { Ok(subject) }).await;
        report.failed.iter().map(|(name, why)| format!("{name}: {why}")).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn every_failure_is_named_and_a_quirk_that_is_gone_is_one() {
        let endless = "it_never_ends: no end after 120 seconds".to_owned();
        assert_eq!(failures(Server::Azure, true).await, std::slice::from_ref(&endless));
        assert_eq!(failures(Server::Azurite, false).await, [endless]);
        assert_eq!(failures(Server::Azure, false).await[0], "it_is_true: it should be true, not false");
        let gone = &failures(Server::Azurite, true).await[0];
        assert!(gone.contains("no longer shows the quirk \"upside down\""), "{gone}");
    }
}
