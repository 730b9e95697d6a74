//! The weather over all lines: which requests meet which fault.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tablerelay::model::PartitionKey;
use tablerelay::stores::memory::{Fault, Request, RequestKind};
use tablerelay::stores::{ErrorKind, StoreError};
use tokio::time::Instant;

use crate::chronicle::Chronicle;
use crate::crowd::raw::POISON;
use crate::dice::Dice;
use crate::kinds::Kind;
use crate::oracle::Restraint;
use crate::shape::Shape;
use crate::world::ACCOUNTS;

/// A line from somebody to a place.
#[derive(Debug, Clone)]
pub struct Line {
    pub who: Arc<str>,
    pub from: usize,
    pub to: usize,
    /// The number of the account in the region.
    pub account: usize,
    pub cache: bool,
}

/// Trouble that lasts.
#[derive(Debug, Clone)]
pub struct Storm {
    pub kind: Kind,
    /// Whose requests; everybody's where it is empty.
    pub who: Option<Arc<str>>,
    pub from: Option<usize>,
    pub to: Option<usize>,
    pub account: Option<usize>,
    pub per_mille: usize,
    pub since: Instant,
    pub until: Instant,
}

impl Storm {
    /// Nothing gets through.
    fn cuts(&self) -> bool {
        self.per_mille == 1_000
            && matches!(self.kind, Kind::CutOneWay | Kind::CutBothWays | Kind::RegionDown | Kind::RegionLost)
    }

    fn hits(&self, line: &Line, request: &Request<'_>) -> bool {
        let concerned = match self.kind {
            // Only what keeps the lease is hit: its row is not written.
            Kind::LeaseStuck => is_lease(request),
            Kind::RolesUnread => is_reading_of(request, "roles"),
            Kind::RoutesUnread => is_reading_of(request, "routes"),
            _ => true,
        };
        concerned && self.falls_on(line)
    }

    fn falls_on(&self, line: &Line) -> bool {
        let cache = self.kind.outlasts()
            || matches!(self.kind, Kind::CacheCut | Kind::CacheReplyLost | Kind::CacheLate | Kind::CacheRestarted);
        line.cache == cache
            && self.since <= Instant::now()
            && self.who.as_ref().is_none_or(|who| line.who.starts_with(&**who))
            && self.from.is_none_or(|from| line.from == from)
            && self.to.is_none_or(|to| line.to == to)
            && self.account.is_none_or(|account| line.account == account)
    }
}

/// Whether a request renews a lease.
fn is_lease(request: &Request<'_>) -> bool {
    request.kind == RequestKind::Write
        && request.table.is_some_and(|table| table.as_str() == "RelayControl")
        && request.partition.is_some_and(|partition| partition.as_str() == "daemon")
}

/// Whether a request reads the roles of a region, or its routes.
fn is_reading_of(request: &Request<'_>, what: &str) -> bool {
    matches!(request.kind, RequestKind::Get | RequestKind::Query)
        && request.table.is_some_and(|table| table.as_str() == "RelayControl")
        && request.partition.is_some_and(|partition| partition.as_str() == what)
}

/// Who looked at which row, and where.
type Seen = (Arc<str>, usize, String);

/// Shared by all lines of a world.
pub struct Sky {
    /// With the moment at which each broke out.
    storms: Mutex<Vec<(Instant, Storm)>>,
    /// Until when something goes wrong, or did.
    stormy: Mutex<Instant>,
    restraint: Restraint,
    dice: Dice,
    chronicle: Chronicle,
    quarter: Duration,
    /// The region whose rows move from account to account.
    rebalances: Option<usize>,
    regions: Vec<String>,
    /// When each daemon last began to read a partition of a region.
    looks: Mutex<BTreeMap<Seen, Instant>>,
    /// When a request of somebody was last let through to a place.
    reached: Mutex<BTreeMap<(Arc<str>, usize), Instant>>,
}

impl Sky {
    pub fn new(dice: Dice, chronicle: Chronicle, shape: &Shape, regions: Vec<String>) -> Arc<Self> {
        let (quarter, rebalances) = (shape.quarter(), shape.rebalances.map(|(region, _)| region));
        let (storms, restraint, looks, reached) = Default::default();
        let stormy = Mutex::new(Instant::now());
        Arc::new(Self { storms, stormy, restraint, dice, chronicle, quarter, rebalances, regions, looks, reached })
    }

    pub fn brew(&self, storm: Storm) {
        let mut stormy = self.stormy.lock().unwrap_or_else(PoisonError::into_inner);
        *stormy = (*stormy).max(storm.until);
        drop(stormy);
        self.storms.lock().unwrap_or_else(PoisonError::into_inner).push((storm.since, storm));
    }

    /// For how long no request of somebody has reached a place, its home account at least, where a cut is why.
    pub fn cut_for(&self, who: &Arc<str>, from: usize, to: usize) -> Option<Duration> {
        let line = Line { who: who.clone(), from, to, account: 0, cache: false };
        let (now, key) = (Instant::now(), (who.clone(), to));
        let storms = self.storms.lock().unwrap_or_else(PoisonError::into_inner);
        let over = storms.iter().filter(|(_, storm)| storm.cuts() && storm.falls_on(&line) && storm.until > now);
        let since = over.map(|(since, _)| *since).min()?;
        // Other weather may go before the cut, and let something through.
        let reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner).get(&key).copied();
        Some(now - reached.map_or(since, |reached| reached.max(since)))
    }

    /// For how long nothing has gone wrong on any line, but for a region that is lost.
    pub fn calm(&self) -> Duration {
        let now = Instant::now();
        let storms = self.storms.lock().unwrap_or_else(PoisonError::into_inner);
        let mut raging = storms.iter().filter(|(_, storm)| storm.kind != Kind::RegionLost && storm.until > now);
        if raging.any(|(_, storm)| storm.since <= now) {
            return Duration::ZERO;
        }
        now - self.stormy.lock().unwrap_or_else(PoisonError::into_inner).min(now)
    }

    /// Whether anything goes wrong on somebody's line to a place.
    pub fn is_hit(&self, who: &Arc<str>, from: usize, to: usize) -> bool {
        let line = Line { who: who.clone(), from, to, account: 0, cache: false };
        let storms = self.storms.lock().unwrap_or_else(PoisonError::into_inner);
        storms.iter().any(|(_, storm)| storm.until > Instant::now() && storm.falls_on(&line))
    }

    /// A region that was lost is back, and its lines with it.
    pub fn end(&self, region: usize) {
        let of = |storm: &Storm| storm.kind == Kind::RegionLost && storm.to == Some(region);
        let cut = |storm: &Storm| storm.kind == Kind::CutOneWay && storm.from == Some(region);
        self.retain(|storm| !of(storm) && !cut(storm));
    }

    /// The faults stop, but for a region that is lost.
    pub fn clear_but(&self, lost: usize) {
        self.retain(|storm| storm.kind == Kind::RegionLost && storm.to == Some(lost));
    }

    fn retain(&self, keep: impl Fn(&Storm) -> bool) {
        self.storms.lock().unwrap_or_else(PoisonError::into_inner).retain(|(_, storm)| keep(storm));
        *self.stormy.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// The faults stop, but for those that outlast the others.
    pub fn clear(&self) {
        *self.stormy.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.storms.lock().unwrap_or_else(PoisonError::into_inner).retain(|(_, storm)| storm.kind.outlasts());
    }

    pub fn clear_all(&self) {
        self.storms.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// What a request meets. Every request is a part of the trace.
    pub fn meet(&self, line: &Line, request: &Request<'_>) -> Option<Fault> {
        let now = Instant::now();
        let (who, to) = (&line.who, ACCOUNTS[line.account]);
        tracing::trace!(%who, region = self.regions[line.to], account = to, ?request, "asks");
        self.watch_age(line, request, now);
        if let Some(refused) = self.refused(line, request) {
            self.chronicle.trace(format_args!("{}>{} refused", line.who, line.to));
            return Some(refused);
        }
        let hit = {
            let mut storms = self.storms.lock().unwrap_or_else(PoisonError::into_inner);
            storms.retain(|(_, storm)| storm.until > now);
            let mut hits = storms.iter().map(|(_, storm)| storm).filter(|storm| storm.hits(line, request));
            let one = hits.clone().find(|storm| storm.kind.is_throttling());
            one.or_else(|| hits.find(|storm| self.dice.chance(storm.per_mille))).cloned()
        };
        if !line.cache && !hit.as_ref().is_some_and(Storm::cuts) {
            let mut reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
            reached.insert((line.who.clone(), line.to), now);
        }
        let fault = hit.as_ref().and_then(|storm| self.fault(storm, line, request, now));
        if line.who.contains("daemon") {
            self.restraint.watch(&self.chronicle, line, request, hit.as_ref(), fault.as_ref());
        }
        self.chronicle.trace(format_args!("{}>{} {:?} {}", line.who, line.to, request.kind, fault.is_some()));
        if let (Some(storm), Some(_)) = (&hit, &fault) {
            self.chronicle.count(storm.kind);
        }
        fault
    }

    /// A row that this region refuses, whoever brings it.
    fn refused(&self, line: &Line, request: &Request<'_>) -> Option<Fault> {
        let mut bodies = request.operations.iter().filter_map(|operation| operation.body());
        let refused = bodies.any(|body| body.string(POISON).as_deref() == Some(self.regions[line.to].as_str()));
        let error =
            StoreError::answered(ErrorKind::Invalid, 400, "PropertyValueTooLarge", "the region refuses it for good");
        refused.then_some(Fault::Before(error))
    }

    /// R9: no daemon sends a write to another region later than half a window after it began to look. What it looked at is
    /// not known here, only when it last read that partition; that is late enough to be caught. What it brings was looked
    /// at in its own region; what it lifts, in the region whose version it stamps, from which it may have brought it as well.
    fn watch_age(&self, line: &Line, request: &Request<'_>, now: Instant) {
        let Some(table) = request.table else { return };
        if line.who.contains("writer") || table.as_str().starts_with("Relay") {
            return;
        }
        let key = |region, partition: &str| (line.who.clone(), region, format!("{table}/{partition}"));
        let Some(partition) = request.partition.map(PartitionKey::as_str) else {
            // Whoever copies tables looks at whole ones, a page at a time.
            if line.who.contains("mover") {
                self.looks.lock().unwrap_or_else(PoisonError::into_inner).insert(key(line.to, ""), now);
            }
            return;
        };
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bodies = request.operations.iter().filter_map(|operation| operation.body()).peekable();
        if bodies.peek().is_none() {
            looks.insert(key(line.to, partition), now);
        } else if line.from != line.to {
            let own = format!("@{}.", self.regions[line.to]);
            let lifts = bodies.all(|body| body.string("RelayVersion").is_some_and(|version| version.contains(&own)));
            let brought = looks.get(&key(line.from, partition)).max(looks.get(&key(line.from, "")));
            // What is brought from account to account was looked at there.
            let lifts = lifts || self.rebalances == Some(line.to);
            let began = if lifts { brought.max(looks.get(&key(line.to, partition))) } else { brought };
            let age = began.map(|began| now - *began);
            if age.is_none_or(|age| age > self.quarter * 2) {
                let mut book = self.chronicle.book();
                book.violations.push(format!("{} wrote to {table}/{partition} by a look of {age:?} ago", line.who));
            }
        }
    }

    fn fault(&self, storm: &Storm, line: &Line, request: &Request<'_>, now: Instant) -> Option<Fault> {
        let some_time = || self.dice.time(self.quarter);
        let writes = matches!(request.kind, RequestKind::Write | RequestKind::Transact | RequestKind::Refresh);
        let answered = |kind, status, code: &str| StoreError::answered(kind, status, code, "the weather is bad");
        let after =
            |error: StoreError| StoreError { retry_after: Some(self.dice.time(Duration::from_secs(3))), ..error };
        let throttled = || answered(ErrorKind::Throttled, 429, "TooManyRequests");
        let busy = || answered(ErrorKind::Throttled, 503, "ServerBusy");
        let error = || answered(ErrorKind::Server, 500, "InternalError");
        Some(match storm.kind {
            Kind::RequestLost
            | Kind::CutOneWay
            | Kind::CutBothWays
            | Kind::RegionDown
            | Kind::RegionLost
            | Kind::RolesUnread
            | Kind::RoutesUnread
            | Kind::LeaseStuck
            | Kind::CacheCut
            | Kind::CacheDown
            | Kind::CacheRestarted => Fault::lost_request(),
            Kind::ReplyLost | Kind::CacheReplyLost => Fault::lost_reply(),
            Kind::EffectLate | Kind::CacheLate if writes => Fault::Late(some_time()),
            // A writer's library that sends twice knows it, and announces again: `BlindRepeat`.
            Kind::Duplicate if writes && !line.who.contains("writer") => Fault::Twice(some_time()),
            Kind::SlowRequest => Fault::Delay(some_time()),
            Kind::SlowReply => Fault::DelayReply(some_time()),
            Kind::Reordered => Fault::Delay(self.dice.time(Duration::from_millis(300))),
            Kind::Throttled => Fault::Before(throttled()),
            Kind::ThrottledAfter => Fault::Before(after(throttled())),
            Kind::Busy | Kind::BusyStorm => Fault::Before(busy()),
            Kind::BusyAfter => Fault::Before(after(busy())),
            Kind::ServerError => Fault::Before(error()),
            Kind::ServerErrorAfter => Fault::After(error()),
            Kind::AccountStorm => Fault::Before(busy()),
            Kind::AccountStormAfter => {
                let after = self.dice.time(Duration::from_secs(20));
                Fault::Before(StoreError { retry_after: Some(after), ..busy() })
            }
            Kind::ErrorStorm => match self.dice.below(5) {
                0 => Fault::lost_request(),
                1 => Fault::lost_reply(),
                2 => Fault::Before(after(busy())),
                3 => Fault::After(error()),
                _ => Fault::Before(throttled()),
            },
            Kind::TokenExpired => Fault::Before(answered(ErrorKind::Denied, 401, "InvalidAuthenticationInfo")),
            // Nobody waits for the whole of it, and who has gone leaves no effect.
            Kind::CacheFrozen => Fault::Delay(storm.until - now),
            Kind::StoreFrozen => Fault::Delay((storm.until - now).min(self.quarter)),
            // Its requests go out, and it learns of the replies when it comes back.
            Kind::StaleDaemon => Fault::DelayReply(storm.until - now + some_time()),
            _ => return None,
        })
    }
}
