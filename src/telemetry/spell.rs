//! A lasting failure, told at its beginning and at its end.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

/// How long nothing may have failed before a success counts as recovery: what fails every other time is one trouble and not
/// a hundred.
const CALM: Duration = Duration::from_secs(5);

/// Something that works, or has failed for a while: one line when it turns bad, one when it is good again, and in between a
/// count.
#[derive(Debug, Default)]
pub struct Spell(Mutex<Option<Course>>);

#[derive(Debug, Clone, Copy)]
struct Course {
    since: Instant,
    last: Instant,
    failures: u64,
}

/// A failure that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Past {
    /// How long it lasted.
    pub after: Duration,
    /// How often it failed.
    pub failures: u64,
}

impl Spell {
    /// It failed; says whether that is news.
    pub fn failed(&self) -> bool {
        let (mut course, now) = (self.lock(), Instant::now());
        let first = course.is_none();
        let known = course.get_or_insert(Course { since: now, last: now, failures: 0 });
        known.last = now;
        known.failures += 1;
        first
    }

    /// It worked: what is over now, where it had failed and did so for the last time a while ago.
    pub fn worked(&self) -> Option<Past> {
        let mut course = self.lock();
        let is_over = course.is_some_and(|course| course.last.elapsed() >= CALM);
        is_over.then(|| course.take()).flatten().map(Course::past)
    }

    /// It works again, beyond doubt: what is over now.
    pub fn ended(&self) -> Option<Past> {
        self.lock().take().map(Course::past)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Course>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Course {
    fn past(self) -> Past {
        Past { after: self.since.elapsed(), failures: self.failures }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_news_once_and_its_end_once() {
        let spell = Spell::default();
        assert_eq!(spell.worked(), None);
        let news: Vec<bool> = (0..3).map(|_| spell.failed()).collect();
        assert_eq!(news, [true, false, false]);
        tokio::time::sleep(CALM).await;
        assert_eq!(spell.worked(), Some(Past { after: CALM, failures: 3 }));
        assert_eq!((spell.worked(), spell.ended()), (None, None));
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_every_other_time_is_one_trouble() {
        let spell = Spell::default();
        let mut news = 0;
        for _ in 0..100 {
            news += usize::from(spell.failed());
            tokio::time::sleep(CALM / 2).await;
            assert_eq!(spell.worked(), None);
        }
        assert_eq!(news, 1);
        assert_eq!(spell.ended(), Some(Past { after: CALM * 50, failures: 100 }), "told by who knows");
    }
}
