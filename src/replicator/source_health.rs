//! Whether the region's own storage answers, told by all carriers of an account.

use std::collections::BTreeSet;
use std::sync::Mutex;

use tracing::{debug, info, warn};

use crate::feed::Shard;
use crate::model::{AccountName, ClosedList};
use crate::stores::{Remedy, StoreError};
use crate::telemetry::{Event, Spell};

/// What a carrier asks of its account. Each is good or bad by itself: what can be read may not be writable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Work {
    Read,
    Look,
    End,
}

/// The health of one account of this region. One WARN when the first of its carriers fails, one INFO when none does any
/// more; what failed in between is counted, not told.
#[derive(Debug, Default)]
pub(super) struct SourceHealth {
    failing: Mutex<BTreeSet<(Shard, Work)>>,
    spell: Spell,
}

impl SourceHealth {
    /// Work that others were faster at, or that routes which have just changed put off, says nothing of the account.
    pub fn failed(&self, account: &AccountName, shard: Shard, work: Work, error: &StoreError) {
        if error.remedy() == Remedy::StartOver {
            debug!(%account, %shard, ?work, %error, "it is done again");
            return;
        }
        self.lock().insert((shard, work));
        if !self.spell.failed() {
            return;
        }
        let event = match error.remedy() {
            Remedy::FixAccess => Event::AccessDenied,
            _ => Event::SourceUnreachable,
        };
        warn!(event = event.as_str(), %account, %shard, %error, "this region's own storage fails; trying again");
    }

    pub fn succeeded(&self, account: &AccountName, shard: Shard, work: Work) {
        let mut failing = self.lock();
        failing.remove(&(shard, work));
        let none = failing.is_empty();
        drop(failing);
        if none && let Some(past) = self.spell.worked() {
            let (after, failures) = (past.after, past.failures);
            info!(event = Event::SourceReachable.as_str(), %account, ?after, failures,
                "recovered after {after:.1?}: this region's own storage answers again");
        }
    }

    /// A shard is carried here no more: whatever failed for it says nothing of the account any longer.
    pub fn forget(&self, shard: Shard) {
        self.lock().retain(|(of, _)| *of != shard);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<(Shard, Work)>> {
        self.failing.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::stores::ErrorKind;
    use crate::telemetry::{LogFormat, LogLevel, log};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_account_that_fails_in_all_shards_is_told_of_once_and_so_is_its_return() {
        let lines = Lines::default();
        let sink = lines.clone();
        let _guard =
            tracing::subscriber::set_default(log::subscriber(LogFormat::Human, LogLevel::Info, false, move || {
                sink.clone()
            }));
        let (health, account) = (SourceHealth::default(), AccountName::new("west1").unwrap());
        let error = StoreError::new(ErrorKind::Unreachable, "no reply");
        health.failed(
            &account,
            Shard::all().next().unwrap(),
            Work::Look,
            &StoreError::new(ErrorKind::Precondition, "other routes"),
        );
        for _ in 0..10 {
            Shard::all().for_each(|shard| health.failed(&account, shard, Work::Read, &error));
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let mut shards: Vec<Shard> = Shard::all().collect();
        let last = shards.pop().unwrap();
        tokio::time::sleep(Duration::from_secs(10)).await;
        // What works beside it is no recovery: another kind of work, other shards.
        Shard::all().for_each(|shard| health.succeeded(&account, shard, Work::Look));
        shards.iter().for_each(|shard| health.succeeded(&account, *shard, Work::Read));
        let said = |lines: &Lines| String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(said(&lines).lines().count(), 1, "{}", said(&lines));
        Shard::all().for_each(|_| health.succeeded(&account, last, Work::Read));
        let said = said(&lines);
        let words: Vec<_> = said.lines().map(|line| line.split_whitespace().nth(1).unwrap()).collect();
        assert_eq!(words, ["WARN", "INFO"], "{said}");
        assert!(said.contains("source-unreachable") && said.contains("recovered after 20.0s"), "{said}");
        assert!(said.contains("failures=160"), "{said}");
    }
}
