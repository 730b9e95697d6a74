//! Whoever is told to slow down does: no storm is amplified, and what a server asks to wait is waited for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tablerelay::stores::memory::{Fault, Request};
use tokio::time::Instant;

use crate::chronicle::Chronicle;
use crate::sky::{Line, Storm};

/// The interval of probes that a daemon may send while nothing is answered, and those of its beginning, which are closer.
const PROBE: Duration = Duration::from_millis(2_500);
const FIRST_PROBES: u64 = 5;
/// What may be under way before the first refusal is back: the sixteen shards of an account are read side by side, and so are
/// the rows that are looked at.
const UNDER_WAY: u64 = 64;
/// Longer than any request of these histories is on its way back.
const ON_ITS_WAY: Duration = Duration::from_millis(500);

/// Who asked, in which region, which of its accounts, for which partition.
type Place = (Arc<str>, usize, usize, String);

/// What every daemon was told, and what it asked since then.
#[derive(Default)]
pub struct Restraint {
    book: Mutex<Book>,
}

/// A server asked somebody to wait.
struct Wait {
    told: Instant,
    until: Instant,
    /// Until when the one who did not hear of it was to wait.
    forgiven: Instant,
}

#[derive(Default)]
struct Book {
    /// By daemon, region, account, and the end of the storm.
    storms: BTreeMap<(Arc<str>, usize, usize, Instant), Asked>,
    /// By daemon, region, account, and partition: when it was told, and until when to wait.
    waits: BTreeMap<Place, Wait>,
}

struct Asked {
    began: Instant,
    requests: u64,
    announced_before: u64,
}

impl Restraint {
    /// A daemon's request meets `fault` in `storm`.
    pub fn watch(
        &self,
        chronicle: &Chronicle,
        line: &Line,
        request: &Request<'_>,
        storm: Option<&Storm>,
        fault: Option<&Fault>,
    ) {
        let now = Instant::now();
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        let early = book.too_early(line, request, fault, now);
        book.told(line, request, fault, now);
        let many = storm.filter(|storm| storm.kind.is_throttling()).and_then(|storm| {
            let announced = chronicle.book().announced;
            book.too_many(line, storm, now, announced)
        });
        chronicle.book().violations.extend(early.into_iter().chain(many));
    }
}

impl Book {
    fn too_many(&mut self, line: &Line, storm: &Storm, now: Instant, announced: u64) -> Option<String> {
        let key = (line.who.clone(), line.to, line.account, storm.until);
        let begun = || Asked { began: now, requests: 0, announced_before: announced };
        let asked = self.storms.entry(key).or_insert_with(begun);
        asked.requests += 1;
        let (lasted, changes) = (now - asked.began, announced - asked.announced_before);
        let probes = FIRST_PROBES + (lasted.as_millis() / PROBE.as_millis()) as u64;
        let bound = changes * 11 / 10 + probes + UNDER_WAY;
        (asked.requests > bound).then(|| {
            let Asked { requests, .. } = asked;
            format!(
                "{} sent {requests} requests in {lasted:?} to an account that refuses all, for {changes} changes: {bound} are \
                 allowed",
                line.who
            )
        })
    }

    /// Once is forgiven, and what was asked for forgotten with it: who lets go of a request that is under way, as a lane does
    /// that parks its destination, never hears of it. From then on the next answer counts.
    fn too_early(&mut self, line: &Line, request: &Request<'_>, fault: Option<&Fault>, now: Instant) -> Option<String> {
        let key = key(line, request)?;
        let wait = self.waits.get_mut(&key)?;
        if now <= wait.told + ON_ITS_WAY || now >= wait.until {
            return None;
        }
        let (again, left) = (now < wait.forgiven, wait.until - now);
        let text = again.then(|| format!("{} asked {key:?} again {left:?} too early", line.who));
        (wait.forgiven, wait.until) = (wait.until, now);
        // Answered, if slowly: the daemon goes by that from then on.
        if matches!(fault, None | Some(Fault::Delay(_))) {
            self.waits.remove(&key);
        }
        text
    }

    fn told(&mut self, line: &Line, request: &Request<'_>, fault: Option<&Fault>, now: Instant) {
        let (Some(Fault::Before(error)), Some(key)) = (fault, key(line, request)) else { return };
        let Some(after) = error.retry_after else { return };
        let wait = self.waits.entry(key).or_insert(Wait { told: now, until: now, forgiven: now });
        (wait.told, wait.until) = (now, wait.until.max(now + after));
    }
}

fn key(line: &Line, request: &Request<'_>) -> Option<(Arc<str>, usize, usize, String)> {
    Some((line.who.clone(), line.to, line.account, format!("{}/{}", request.table?, request.partition?)))
}
