//! A share of what an account bears, for work that has time and must leave the rest to others.
//!
//! Rows are paid for one after another at a rate that is never above the share. Where the account asks for less, or where those
//! who come first are late, the rate is halved, once a second at most; it grows back to the whole share in a minute, long
//! after the line has, so that it is this work which gives way.

use std::time::Duration;

use tokio::time::Instant;

use super::ACCOUNT_ROWS;

/// What remains in the worst case: a fiftieth of the share, so that it is seen whether more is borne.
const FLOOR: f64 = 50.0;
/// From nothing to the whole share.
const RECOVERY: Duration = Duration::from_secs(60);
/// Between two halvings: what was under way at the first says nothing of it.
const ONCE_IN: Duration = Duration::from_secs(1);

/// The rule of one account.
#[derive(Debug)]
pub struct Share {
    most: f64,
    limit: f64,
    grown: Instant,
    halved: Option<Instant>,
    /// When all that was let through is paid for.
    paid: Instant,
}

impl Share {
    /// What Azure allows an account, in rows a second, where nobody has agreed on more.
    pub const USUAL_ROWS: u32 = ACCOUNT_ROWS as u32;

    /// `percent` of the rows a second that an account bears.
    pub fn new(percent: u8, bears: u32, now: Instant) -> Self {
        let most = f64::from(bears.max(1)) * f64::from(percent.clamp(1, 100)) / 100.0;
        Self { most, limit: most, grown: now, halved: None, paid: now }
    }

    /// Takes the next turn of `rows`: how long until it comes.
    pub fn reserve(&mut self, rows: usize, now: Instant) -> Duration {
        let turn = self.paid.max(now);
        self.paid = turn + self.time_of(rows, now);
        turn - now
    }

    /// Rows that nobody waited for: whoever comes next waits until they are paid for.
    pub fn charge(&mut self, rows: usize, now: Instant) {
        self.paid = self.paid.max(now) + self.time_of(rows, now);
    }

    /// Half as much from now on.
    pub fn slow_down(&mut self, now: Instant) {
        if self.halved.is_some_and(|halved| now.saturating_duration_since(halved) < ONCE_IN) {
            return;
        }
        self.limit = (self.limit_at(now) / 2.0).max(self.most / FLOOR);
        self.halved = Some(now);
    }

    /// Rows a second at most, now.
    pub fn limit_at(&mut self, now: Instant) -> f64 {
        let grown = now.saturating_duration_since(self.grown).as_secs_f64() / RECOVERY.as_secs_f64();
        (self.limit, self.grown) = ((self.limit + grown * self.most).min(self.most), now);
        self.limit
    }

    fn time_of(&mut self, rows: usize, now: Instant) -> Duration {
        Duration::from_secs_f64(rows as f64 / self.limit_at(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Lets requests through until `until`, each as soon as its turn comes; returns when each went out.
    fn run(share: &mut Share, sizes: &[(usize, usize)], began: Instant) -> Vec<(Instant, usize)> {
        let mut now = began;
        let went = sizes.iter().map(|(known, more)| {
            now += share.reserve(*known, now);
            share.charge(*more, now);
            (now, known + more)
        });
        went.collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_tenth_of_an_account_is_two_thousand_rows_a_second() {
        let began = Instant::now();
        let mut share = Share::new(10, Share::USUAL_ROWS, began);
        let went = run(&mut share, &[(100, 0); 200], began);
        let (last, _) = went.last().unwrap();
        assert_eq!((*last - began).as_millis(), 199 * 100 / 2);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_told_to_slow_down_gives_way_at_once_and_comes_back_slowly() {
        let began = Instant::now();
        let mut share = Share::new(100, Share::USUAL_ROWS, began);
        share.slow_down(began);
        share.slow_down(began);
        assert_eq!(share.limit_at(began), 10_000.0, "once for all that was under way");
        assert_eq!(share.limit_at(began + Duration::from_secs(15)), 15_000.0);
        assert_eq!(share.limit_at(began + Duration::from_secs(600)), 20_000.0);
        let mut now = began + Duration::from_secs(600);
        for _ in 0..60 {
            now += ONCE_IN;
            share.slow_down(now);
        }
        let least = share.limit_at(now);
        assert!((400.0..800.0).contains(&least), "{least}: it goes on asking");
    }

    proptest! {
        /// Whatever is asked for: in no span of time more rows go out than the share allows, but for one request.
        #[test]
        fn never_more_than_the_share(
            sizes in prop::collection::vec((1usize..200, 0usize..1_000), 1..200), percent in 1u8..=100,
        ) {
            let began = Instant::now();
            let mut share = Share::new(percent, Share::USUAL_ROWS, began);
            let went = run(&mut share, &sizes, began);
            let rate = 20_000.0 * f64::from(percent) / 100.0;
            for (n, (from, _)) in went.iter().enumerate() {
                let mut rows = 0;
                for (at, size) in &went[n..] {
                    let allowed = (*at - *from).as_secs_f64() * rate + 0.5;
                    prop_assert!(rows as f64 <= allowed, "{rows} rows before a request after {:?}", *at - *from);
                    rows += size;
                }
            }
        }
    }
}
