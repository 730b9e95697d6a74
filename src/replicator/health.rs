//! Whether a destination, or the region's cache, takes what is brought: flowing, backing off, or parked.
//!
//! Its lanes and its drain tell what succeeded and what failed; whoever has waited too long parks it. From then on lanes
//! keep hints instead of trying, until a probe finds it back.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::flag::Flag;
use crate::model::{Addressee, ClosedList, Region};
use crate::settle::LinkState;
use crate::stores::{Remedy, StoreError};
use crate::telemetry::Event;

/// How long nothing may have failed before a link that backed off flows again: one that fails every other time is one
/// trouble and not a hundred.
const CALM: Duration = Duration::from_secs(5);

/// The health of a link or of the region's cache, told by every batch that succeeds or fails; of a link, also by the heartbeat: the
/// publication of its state at the destination. One WARN when its state changes for the worse, one INFO when it is good
/// again; what failed in between is counted, not told.
#[derive(Debug)]
pub(super) struct Health {
    source: Region,
    to: Addressee,
    park_after: Duration,
    trouble: Mutex<Option<Trouble>>,
    parked: Flag,
}

/// Why a consumer is parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// Nothing got through, and what was tried last has no answer yet: that is a failure which nobody has told.
    Unanswered,
    /// Nothing got through: every try has failed.
    Failing,
    /// More waited for it than memory has room for. It may be slow, and nothing need have failed.
    Crowded,
    /// None of its hints got through: every try has failed.
    HintsFailing,
}

impl Why {
    fn sentence(self, lasting: Duration) -> String {
        match self {
            Self::Unanswered => format!("for {lasting:.1?} it has taken nothing, and the last try has no answer"),
            Self::Failing => format!("for {lasting:.1?} it has taken nothing: every try has failed"),
            Self::Crowded => format!("for {lasting:.1?} more has waited for it than memory has room for"),
            Self::HintsFailing => format!("for {lasting:.1?} it has taken none of its hints: every try has failed"),
        }
    }
}

#[derive(Debug)]
struct Trouble {
    since: Instant,
    last: Instant,
    failures: u64,
    error: Option<String>,
    /// A delivery has failed, and none has succeeded since.
    undelivered: bool,
    /// The heartbeat has failed, and none has come through since.
    silent: bool,
}

impl Trouble {
    fn begun() -> Self {
        let now = Instant::now();
        Self { since: now, last: now, failures: 0, error: None, undelivered: false, silent: false }
    }
}

impl Health {
    pub fn new(source: Region, to: Addressee, park_after: Duration) -> Self {
        Self { source, to, park_after, trouble: Mutex::default(), parked: Flag::default() }
    }

    /// How long it may take nothing before it is parked.
    pub fn park_after(&self) -> Duration {
        self.park_after
    }

    /// Something was delivered. What is parked flows again by [`recovered`](Self::recovered) alone: what a request that was
    /// long under way found says nothing of now.
    pub fn succeeded(&self) {
        self.mends(|trouble| trouble.undelivered = false);
    }

    /// The heartbeat came through: the destination answers. That is no word on whether it takes changes.
    pub fn heard(&self) {
        self.mends(|trouble| trouble.silent = false);
    }

    /// Whatever failed to be delivered is somebody else's to deliver now.
    pub fn let_go(&self) {
        self.mends(|trouble| trouble.undelivered = false);
    }

    /// What failed may be over by now, though nothing has happened since.
    pub fn calm_down(&self) {
        self.mends(|_| {});
    }

    fn mends(&self, mend: impl FnOnce(&mut Trouble)) {
        if self.is_parked() {
            return;
        }
        let over = self.lock().as_mut().is_some_and(|trouble| {
            mend(trouble);
            !trouble.undelivered && !trouble.silent && trouble.last.elapsed() >= CALM
        });
        if over {
            self.flows();
        }
    }

    /// A probe was answered and a hint delivered, where there is one.
    pub fn recovered(&self) {
        self.flows();
        self.parked.set(false);
    }

    fn flows(&self) {
        let Some(trouble) = self.lock().take() else { return };
        let (after, failures) = (trouble.since.elapsed(), trouble.failures);
        match &self.to {
            Addressee::Region(destination) => info!(event = Event::LinkFlowing.as_str(), source = %self.source,
                %destination, ?after, failures, "recovered after {after:.1?}: the destination takes changes again"),
            Addressee::Cache(region) => info!(event = Event::CacheRecovered.as_str(), %region, ?after, failures,
                "recovered after {after:.1?}: the cache takes refreshes again"),
        }
    }

    pub fn failed(&self, error: &StoreError) {
        self.worsens(error, |trouble| trouble.undelivered = true);
    }

    /// The heartbeat did not come through. A destination that nothing waits for is found out by that.
    pub fn unheard(&self, error: &StoreError) {
        self.worsens(error, |trouble| trouble.silent = true);
    }

    fn worsens(&self, error: &StoreError, worsen: impl FnOnce(&mut Trouble)) {
        let mut trouble = self.lock();
        let first = trouble.is_none();
        let known = trouble.get_or_insert_with(Trouble::begun);
        worsen(known);
        known.last = Instant::now();
        known.failures += 1;
        known.error = Some(error.to_string());
        drop(trouble);
        if !first {
            return;
        }
        let event = match error.remedy() {
            Remedy::FixAccess => Event::AccessDenied,
            _ => Event::LinkBackingOff,
        };
        match &self.to {
            Addressee::Region(destination) => {
                warn!(event = event.as_str(), source = %self.source, %destination, %error,
                "the destination fails; its changes are kept and tried again")
            }
            Addressee::Cache(region) => warn!(event = Event::CacheFailing.as_str(), %region, %error,
                "the cache fails; its refreshes are tried again"),
        }
    }

    /// Nothing was delivered for too long, or too much waits, since then: from now on hints are kept. That is one change of state and
    /// one line, whether it had backed off before or, as with a request that hangs, nothing had failed yet.
    pub fn park(&self, why: Why, since: Instant) {
        let told = why.sentence(since.elapsed());
        let (failures, error) = {
            let mut trouble = self.lock();
            let known = trouble.get_or_insert_with(Trouble::begun);
            known.since = known.since.min(since);
            if why == Why::Unanswered {
                known.failures += 1;
            }
            let error = known.error.clone();
            known.error.get_or_insert_with(|| told.clone());
            (known.failures, error)
        };
        if self.parked.set(true) {
            return;
        }
        let why = told.as_str();
        match &self.to {
            Addressee::Region(destination) => warn!(event = Event::LinkParked.as_str(), source = %self.source,
                %destination, why, failures, error,
                "the destination is parked: what it misses is kept as hints until it is back"),
            Addressee::Cache(region) => warn!(event = Event::CacheParked.as_str(), %region, why, failures, error,
                "the cache is parked: what it misses is kept as hints until it is back; nothing else waits for it"),
        }
    }

    /// Whether nothing has failed since something was delivered last.
    pub fn is_well(&self) -> bool {
        !self.is_parked() && self.lock().is_none()
    }

    pub fn is_parked(&self) -> bool {
        self.parked.is_up()
    }

    /// Waits until it is parked.
    pub async fn until_parked(&self) {
        self.parked.until_up().await;
    }

    pub fn state(&self) -> (LinkState, Option<String>) {
        let trouble = self.lock();
        let error = trouble.as_ref().and_then(|trouble| trouble.error.clone());
        match trouble.as_ref() {
            _ if self.is_parked() => (LinkState::Parked, error),
            Some(_) => (LinkState::BackingOff, error),
            None => (LinkState::Flowing, None),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Trouble>> {
        self.trouble.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Waits between tries: doubling, with full jitter, never less than a server asked for.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    last: Duration,
    failures: u32,
}

impl Backoff {
    pub fn new(first: Duration, last: Duration) -> Self {
        Self { first, last, failures: 0 }
    }

    pub fn is_failing(&self) -> bool {
        self.failures > 0
    }

    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// The next wait. At least a tenth of the doubled one, so that jitter never makes a tight loop.
    pub fn next(&mut self, runtime: &crate::runtime::Runtime, asked: Option<Duration>) -> Duration {
        let most = self.first.saturating_mul(1 << self.failures.min(16)).min(self.last);
        self.failures = self.failures.saturating_add(1);
        (most / 10 + runtime.jitter(most - most / 10)).max(asked.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stores::ErrorKind;
    use crate::telemetry::Heard;

    fn health() -> Health {
        let region = |name| Region::new(name).unwrap();
        Health::new(region("west"), Addressee::Region(region("north")), Duration::from_secs(10))
    }

    #[tokio::test(start_paused = true)]
    async fn a_parked_link_stays_parked_until_a_probe_finds_it_back() {
        let health = health();
        let error = StoreError::new(ErrorKind::Unreachable, "no reply");
        assert_eq!(health.state(), (LinkState::Flowing, None));
        health.failed(&error);
        assert_eq!(health.state(), (LinkState::BackingOff, Some(error.to_string())));
        health.park(Why::Failing, Instant::now());
        health.succeeded();
        assert_eq!(health.state(), (LinkState::Parked, Some(error.to_string())));
        health.until_parked().await;
        health.recovered();
        assert_eq!(health.state(), (LinkState::Flowing, None));
        let parked = tokio::time::timeout(Duration::from_secs(1), health.until_parked()).await;
        assert!(parked.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_fails_every_other_time_backs_off_all_the_while() {
        let (health, error) = (health(), StoreError::new(ErrorKind::Throttled, "busy"));
        for _ in 0..20 {
            health.failed(&error);
            tokio::time::sleep(CALM / 2).await;
            health.succeeded();
            assert_eq!(health.state().0, LinkState::BackingOff);
        }
        tokio::time::sleep(CALM / 2).await;
        health.calm_down();
        assert_eq!(health.state().0, LinkState::Flowing, "nothing has failed for a while");
    }

    #[tokio::test(start_paused = true)]
    async fn what_answers_and_takes_no_changes_backs_off_until_it_takes_one() {
        let (health, error) = (health(), StoreError::new(ErrorKind::Unreachable, "no reply"));
        health.unheard(&error);
        assert_eq!(health.state().0, LinkState::BackingOff, "it is idle, and does not answer");
        health.failed(&error);
        tokio::time::sleep(CALM).await;
        health.heard();
        assert_eq!(health.state().0, LinkState::BackingOff, "it answers, and that is all");
        health.succeeded();
        assert_eq!(health.state().0, LinkState::Flowing);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_hangs_is_parked_at_once_and_one_line_says_why_and_since_when() {
        let (health, heard) = (health(), Heard::new());
        let began = Instant::now();
        tokio::time::sleep(Duration::from_secs(10)).await;
        health.park(Why::Unanswered, began);
        health.park(Why::Unanswered, began);
        health.failed(&StoreError::new(ErrorKind::Unreachable, "no reply to a probe"));
        let lines = heard.lines();
        assert_eq!(heard.events(), [("WARN".to_owned(), "link-parked".to_owned())], "{lines:?}");
        let why = "for 10.0s it has taken nothing, and the last try has no answer";
        assert_eq!((&lines[0]["why"], &lines[0]["failures"]), (&why.into(), &1.into()), "{lines:?}");
        assert!(lines[0]["error"].is_null(), "none was told: {lines:?}");
        health.recovered();
        let back = &heard.lines()[1];
        let text = back["message"].as_str().unwrap();
        assert!(text.starts_with("recovered after 10.0s"), "since nothing got through: {back}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_fails_first_is_told_when_it_fails_and_when_it_is_parked() {
        let (health, heard) = (health(), Heard::new());
        let began = Instant::now();
        for _ in 0..3 {
            health.failed(&StoreError::new(ErrorKind::Unreachable, "reset"));
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
        health.park(Why::Failing, began);
        let told = heard.events().into_iter().map(|(_, event)| event).collect::<Vec<_>>();
        assert_eq!(told, ["link-backing-off", "link-parked"]);
        let parked = &heard.lines()[1];
        assert_eq!(parked["why"], "for 10.0s it has taken nothing: every try has failed");
        assert_eq!(parked["failures"], 3, "{parked}");
        assert!(parked["error"].as_str().is_some_and(|error| error.contains("reset")), "{parked}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_parked_without_an_error_shows_why() {
        let (health, since) = (health(), Instant::now());
        tokio::time::sleep(Duration::from_secs(2)).await;
        health.park(Why::Crowded, since);
        let (state, why) = health.state();
        assert_eq!(state, LinkState::Parked);
        assert_eq!(why.as_deref(), Some("for 2.0s more has waited for it than memory has room for"));
    }
}
