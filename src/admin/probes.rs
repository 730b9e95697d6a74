//! Probes: 200 or 503, with a word for people. What is answered is prepared a few times a second, by whoever looks at the
//! line anyway; a probe reads one number and is told what stands there for it. So thousands of them a second do nothing to
//! the line, however much it knows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::model::ClosedList;
use crate::replicator::{Roles, Snapshot};
use crate::telemetry::Event;
use crate::topology::{Reading, WriteHealth};

/// How long a part of the line may be silent before the daemon counts as stuck. Each reports several times a second,
/// whatever its storage answers, so only a daemon that a restart would help gets here.
const STUCK_AFTER: Duration = Duration::from_secs(60);

/// How long the region's own feed may not have been read before the daemon counts as not ready.
const UNREAD_AFTER: Duration = Duration::from_secs(60);

/// How often answers are prepared.
const PREPARED_EVERY: Duration = Duration::from_millis(250);
/// How often before the daemon is ready for the first time: somebody waits for that.
const SOON: Duration = Duration::from_millis(50);

/// From then on a prepared answer is too old to be given.
const TOO_OLD: Duration = Duration::from_secs(10);

/// What a probe is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Answer {
    Ok,
    LeastStale,
    NotPrepared,
    Stuck,
    NotRead,
    Unread,
    NoWriter,
    Unconfirmed,
    Moving,
    Unheard,
    NotKnown,
    Behind,
    CutOff,
    Drilled,
}

impl Answer {
    const ALL: [Self; 14] = [
        Self::Ok,
        Self::LeastStale,
        Self::NotPrepared,
        Self::Stuck,
        Self::NotRead,
        Self::Unread,
        Self::NoWriter,
        Self::Unconfirmed,
        Self::Moving,
        Self::Unheard,
        Self::NotKnown,
        Self::Behind,
        Self::CutOff,
        Self::Drilled,
    ];

    const fn text(self) -> &'static str {
        match self {
            Self::Ok => "ok\n",
            Self::LeastStale => "ok: further behind than the limit, and no fresher region is known\n",
            Self::NotPrepared => "this daemon has not looked at itself for a while\n",
            Self::Stuck => "a part of the line has been silent for over a minute\n",
            Self::NotRead => "this daemon has not read its part of the feed yet\n",
            Self::Unread => "the feed has not been read for over a minute\n",
            Self::NoWriter => "this region is no writer\n",
            Self::Unconfirmed => "the other regions were not asked for the roles yet\n",
            Self::Moving => "a planned failover is taking the role away\n",
            Self::Unheard => "this region's copy of the roles cannot be read\n",
            Self::NotKnown => "how far this region is behind is not known yet\n",
            Self::Behind => "this region is further behind than the limit, and a fresher one serves\n",
            Self::CutOff => "this region is further behind than the limit, and hears of no other\n",
            Self::Drilled => "a drill has cut this region off\n",
        }
    }

    fn is_ok(self) -> bool {
        matches!(self, Self::Ok | Self::LeastStale)
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let code = if self.is_ok() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        // A probe that a proxy answers from its memory says nothing of this moment.
        (code, [(CONTENT_TYPE, "text/plain; charset=utf-8"), (CACHE_CONTROL, "no-store")], self.text()).into_response()
    }
}

/// What is known of the line now, and the roles of regions now.
#[derive(Clone)]
pub struct Seen {
    /// What is known of the line.
    pub snapshot: Arc<dyn Fn() -> Snapshot + Send + Sync>,
    /// The roles in force.
    pub roles: Arc<Roles>,
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seen").finish_non_exhaustive()
    }
}

/// The answers that stand ready.
#[derive(Debug)]
pub struct Probes {
    live: AtomicU8,
    ready: AtomicU8,
    read: AtomicU8,
    write: AtomicU8,
    began: Instant,
    /// When they were prepared, in milliseconds since the beginning.
    prepared: AtomicU64,
}

impl Default for Probes {
    fn default() -> Self {
        let nothing = || AtomicU8::new(Answer::NotPrepared as u8);
        let (live, ready, read, write) = (nothing(), nothing(), nothing(), nothing());
        Self { live, ready, read, write, began: Instant::now(), prepared: AtomicU64::new(0) }
    }
}

impl Probes {
    /// Prepares every answer.
    pub fn prepare(&self, snapshot: &Snapshot, writing: WriteHealth) {
        let answers = [live(snapshot), ready(snapshot), read(snapshot, writing), write(writing)];
        for (slot, answer) in [&self.live, &self.ready, &self.read, &self.write].into_iter().zip(answers) {
            slot.store(answer as u8, Relaxed);
        }
        self.prepared.store(self.elapsed(), Relaxed);
    }

    /// Prepares answers until it is stopped, and says once that `/readyz` answers 200: whoever reads that line and asks finds it so.
    ///
    /// # Errors
    /// None.
    pub async fn keep(self: Arc<Self>, seen: Seen, stop: CancellationToken) -> Result<(), std::convert::Infallible> {
        let mut was_ready = false;
        loop {
            self.prepare(&(seen.snapshot)(), seen.roles.writing(Instant::now()));
            if !was_ready && self.answer(&self.ready) == Answer::Ok {
                was_ready = true;
                info!(event = Event::DaemonReady.as_str(), "every shard of the feed is tailed");
            }
            let every = if was_ready { PREPARED_EVERY } else { SOON };
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(every) => {}
            }
        }
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn answer(&self, slot: &AtomicU8) -> Answer {
        if u128::from(self.elapsed().saturating_sub(self.prepared.load(Relaxed))) > TOO_OLD.as_millis() {
            return Answer::NotPrepared;
        }
        Answer::ALL.get(usize::from(slot.load(Relaxed))).copied().unwrap_or(Answer::NotPrepared)
    }
}

/// Whether the line turns. Peers, and even the region's own storage, have no say in it: no restart would bring them
/// back.
fn live(snapshot: &Snapshot) -> Answer {
    if snapshot.since_report.is_some_and(|silent| silent > STUCK_AFTER) { Answer::Stuck } else { Answer::Ok }
}

/// Whether the feed is tailed.
fn ready(snapshot: &Snapshot) -> Answer {
    if !snapshot.ready {
        return Answer::NotRead;
    }
    match snapshot.since_progress {
        // It stands by for the others of its region.
        _ if snapshot.spare => Answer::Ok,
        Some(since) if since <= UNREAD_AFTER => Answer::Ok,
        Some(_) => Answer::Unread,
        None => Answer::NotRead,
    }
}

/// Whether this region may be read.
fn read(snapshot: &Snapshot, writing: WriteHealth) -> Answer {
    if writing == WriteHealth::CutOff {
        return Answer::Drilled;
    }
    match (ready(snapshot), snapshot.reading.map(|status| status.reading)) {
        (Answer::Ok, None | Some(Reading::Fresh)) => Answer::Ok,
        (Answer::Ok, Some(Reading::LeastStale)) => Answer::LeastStale,
        (Answer::Ok, Some(Reading::Unknown)) => Answer::NotKnown,
        (Answer::Ok, Some(Reading::Behind)) => Answer::Behind,
        (Answer::Ok, Some(Reading::CutOff)) => Answer::CutOff,
        (not_ready, _) => not_ready,
    }
}

/// Whether this region is a writer now, by the roles in force.
fn write(health: WriteHealth) -> Answer {
    match health {
        WriteHealth::Serving => Answer::Ok,
        WriteHealth::NotWriter => Answer::NoWriter,
        WriteHealth::Unconfirmed => Answer::Unconfirmed,
        WriteHealth::Moving => Answer::Moving,
        WriteHealth::CutOff => Answer::Drilled,
        WriteHealth::Unheard => Answer::Unheard,
    }
}

/// What a supervisor asks: on every listener.
pub(super) fn of_the_process() -> Router<Arc<Probes>> {
    Router::new()
        .route("/livez", get(|State(probes): State<Arc<Probes>>| async move { probes.answer(&probes.live) }))
        .route("/readyz", get(|State(probes): State<Arc<Probes>>| async move { probes.answer(&probes.ready) }))
}

/// What load balancers ask: on the listener of its own, where there is one.
pub(super) fn of_the_region() -> Router<Arc<Probes>> {
    Router::new()
        .route("/health/read", get(|State(probes): State<Arc<Probes>>| async move { probes.answer(&probes.read) }))
        .route("/health/write", get(|State(probes): State<Arc<Probes>>| async move { probes.answer(&probes.write) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn answers_that_nobody_prepares_any_more_are_not_given() {
        let probes = Probes::default();
        let second = Some(Duration::from_secs(1));
        let whole = Snapshot { ready: true, since_progress: second, since_report: second, ..Snapshot::default() };
        let all = || [&probes.live, &probes.ready, &probes.read, &probes.write].map(|slot| probes.answer(slot));
        assert_eq!(all(), [Answer::NotPrepared; 4]);
        probes.prepare(&whole, WriteHealth::Serving);
        tokio::time::advance(TOO_OLD).await;
        assert_eq!(all(), [Answer::Ok; 4]);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(all(), [Answer::NotPrepared; 4]);
    }

    #[test]
    fn what_was_never_read_is_not_said_to_have_been_read_a_minute_ago() {
        let snapshot = Snapshot { ready: true, ..Snapshot::default() };
        assert_eq!(ready(&snapshot), Answer::NotRead);
        let long = Snapshot { since_progress: Some(UNREAD_AFTER + Duration::from_secs(1)), ..snapshot.clone() };
        assert_eq!(ready(&long), Answer::Unread);
        assert_eq!(ready(&Snapshot { spare: true, ..snapshot }), Answer::Ok);
    }

    #[test]
    fn every_answer_is_found_by_its_number() {
        for (number, answer) in Answer::ALL.into_iter().enumerate() {
            assert_eq!((answer as usize, answer.text().ends_with('\n')), (number, true), "{answer:?}");
        }
    }
}
