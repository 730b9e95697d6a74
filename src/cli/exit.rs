//! Exit codes, and what is said with them.

use std::process::ExitCode;

/// How a command ended. The codes are part of the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    /// 0: done.
    Done,
    /// 1: failed or refused.
    Failed,
    /// 2: usage or configuration.
    Usage,
    /// 3: differences were found.
    Differences,
    /// 4: timed out.
    TimedOut,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Differences => 3,
            Exit::TimedOut => 4,
        })
    }
}

/// A command that did not do what it was asked to.
#[derive(Debug)]
pub(super) struct Failure {
    pub exit: Exit,
    error: anyhow::Error,
}

impl Failure {
    /// Refused for what was typed or configured.
    pub fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self { exit: Exit::Usage, error: error.into() }
    }

    /// What was waited for did not come in time.
    pub fn timed_out(error: impl Into<anyhow::Error>) -> Self {
        Self { exit: Exit::TimedOut, error: error.into() }
    }

    /// What was compared is not equal.
    pub fn differences(error: impl Into<anyhow::Error>) -> Self {
        Self { exit: Exit::Differences, error: error.into() }
    }

    /// Says it on standard error, in one paragraph with its causes.
    pub fn tell(&self) {
        // A reader that has gone away has its answer.
        if self.error.downcast_ref::<std::io::Error>().is_some_and(|err| err.kind() == std::io::ErrorKind::BrokenPipe) {
            return;
        }
        eprintln!("tablerelay: {:#}", self.error);
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { exit: Exit::Failed, error: error.into() }
    }
}
