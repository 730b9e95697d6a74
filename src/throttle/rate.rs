//! Rows a second: additive increase, multiplicative decrease.

use std::time::Duration;

use tokio::time::Instant;

/// Never less than this, so that it is seen whether more is borne.
const LEAST: f64 = 20.0;
/// From half of what went to all of it in five seconds.
const STEPS: f64 = 10.0;
/// What may go out together although it was not asked for evenly.
const BURST: Duration = Duration::from_millis(50);

/// What was answered lately, in rows a second.
#[derive(Debug, Default)]
pub(super) struct Meter {
    began: Option<Instant>,
    rows: usize,
    last: f64,
}

impl Meter {
    const SPAN: Duration = Duration::from_secs(1);

    pub fn count(&mut self, rows: usize, now: Instant) {
        let began = *self.began.get_or_insert(now);
        let span = now.saturating_duration_since(began);
        if span >= Self::SPAN {
            self.last = self.rows as f64 / span.as_secs_f64();
            (self.began, self.rows) = (Some(now), 0);
        }
        self.rows += rows;
    }

    pub fn rows_per_second(&self, now: Instant) -> f64 {
        let span = self.began.map_or(Duration::ZERO, |began| now.saturating_duration_since(began));
        // What came within a part of a second is at least what comes in a whole one.
        let lately = self.rows as f64 / span.max(Self::SPAN).as_secs_f64();
        if span < Self::SPAN { lately.max(self.last) } else { lately }
    }
}

/// A limit of rows a second, once there is one. It doubles every second up to what was last borne, and grows from there by the
/// same step every second, to twice what went before the trouble: then it is over.
#[derive(Debug)]
pub(super) struct Rate {
    limit: f64,
    /// Doubled up to here.
    borne: f64,
    /// What went before the trouble.
    usual: f64,
    grown: Instant,
    cut: Instant,
    /// When the rows that were let through are paid for.
    paid: Instant,
}

impl Rate {
    /// What went until now was too much.
    pub fn begin(measured: f64, now: Instant) -> Self {
        let usual = measured.max(LEAST);
        let half = (usual / 2.0).max(LEAST);
        Self { limit: half, borne: half, usual, grown: now, cut: now, paid: now }
    }

    /// Half as much, once for all that was under way together: what was sent before the last cut tells nothing of it.
    pub fn cut(&mut self, sent: Instant, now: Instant) {
        if sent <= self.cut {
            return;
        }
        self.grow(now);
        self.borne = (self.limit / 2.0).max(LEAST);
        (self.limit, self.cut) = (self.borne, now);
    }

    /// It was shut, and answers again: from the least on, doubled while that is borne.
    pub fn restart(&mut self, now: Instant) {
        (self.limit, self.grown, self.cut, self.paid) = (LEAST, now, now, now);
    }

    pub fn grow(&mut self, now: Instant) {
        let mut seconds = now.saturating_duration_since(self.grown).as_secs_f64();
        self.grown = now;
        if self.limit < self.borne {
            let doublings = (self.borne / self.limit).log2().min(seconds);
            self.limit *= doublings.exp2();
            seconds -= doublings;
            if seconds <= 0.0 {
                return;
            }
            self.limit = self.limit.max(self.borne);
        }
        self.limit += seconds * (self.usual / STEPS).max(LEAST);
    }

    /// How long until the rows before it are paid for.
    pub fn wait(&self, now: Instant) -> Duration {
        self.paid.saturating_duration_since(now)
    }

    /// Lets rows through. The first always fits, however many they are; whoever comes next waits for them.
    pub fn take(&mut self, rows: usize, now: Instant) {
        self.grow(now);
        let from = self.paid.max(now.checked_sub(BURST).unwrap_or(now));
        self.paid = from + Duration::from_secs_f64(rows as f64 / self.limit);
    }

    pub fn limit(&self) -> f64 {
        self.limit
    }

    pub fn is_over(&self) -> bool {
        self.limit >= 2.0 * self.usual
    }
}
