//! Trouble: storms over the lines, daemons that die, clocks that jump, caches that forget.

use std::sync::Arc;
use std::time::Duration;

use crate::crowd::Crowd;
use crate::daemons::Fleet;
use crate::flushes::Flushes;
use crate::kinds::Kind;
use crate::moves::Moves;
use crate::shape::Focus;
use crate::sky::Storm;
use crate::world::World;

/// Something goes wrong, by one of the kinds of this history.
pub fn brew(world: &World, fleet: &mut Fleet, crowd: &Crowd, flushes: &mut Flushes, moves: &mut Moves) {
    let kinds = &world.shape.kinds;
    if kinds.is_empty() {
        return;
    }
    let kind = world.dice.pick(kinds);
    let region = world.dice.below(world.places.len());
    match kind {
        Kind::PlannedFailover | Kind::FailoverCutOff | Kind::ForcedFailover => moves.begin(world, kind),
        Kind::RegionLost => moves.lose(world, fleet),
        Kind::RolesUnread => unread(world, fleet, moves, region),
        Kind::DaemonKilled | Kind::DaemonStopped => replace(world, fleet, kind),
        Kind::TwoDaemons => two(world, fleet, region),
        Kind::StaleDaemon => stale(world, fleet),
        Kind::LeaseStolen => steal(world, fleet, region),
        Kind::DaemonClock => {
            let daemon = &fleet.daemons[world.dice.below(fleet.daemons.len())];
            let ticks = world.dice.skew(Duration::from_secs(300));
            daemon.clock.step(ticks);
            world.chronicle.fault(kind, &format!("{} by {} ms", daemon.who, ticks / 10_000));
        }
        Kind::WriterJump => crowd.jump(Duration::from_secs(4)),
        Kind::CacheFlushed | Kind::CacheRestarted => {
            flushes.flush(world, fleet, region);
            world.chronicle.fault(kind, world.places[region].name.as_str());
            if kind == Kind::CacheRestarted {
                storm(world, fleet, kind, region);
            }
        }
        _ => storm(world, fleet, kind, region),
    }
}

/// A region hears of no roles, its own neither, and somebody may take its role meanwhile; or one daemon hears nothing of one region.
fn unread(world: &World, fleet: &Fleet, moves: &mut Moves, region: usize) {
    let serving = fleet.serving();
    let (kind, most) = (Kind::RolesUnread, world.shape.window * 5);
    if serving.is_empty() || world.dice.chance(400) {
        return add(world, kind, None, Some(region), Some(other(world, region)), 1_000, most);
    }
    let region = serving[world.dice.below(serving.len())];
    add(world, kind, None, Some(region), None, 1_000, most);
    if world.dice.chance(700) {
        moves.begin(world, Kind::ForcedFailover);
    }
}

/// The standing trouble of histories that are made of tales: who is slow, or cut off, until all faults stop.
pub fn stage(world: &World, fleet: &mut Fleet) {
    let focus = world.shape.focus;
    if matches!(focus, Focus::Twins | Focus::Halves | Focus::Shared) {
        two(world, fleet, 0);
    }
    let (first, last) = (fleet.daemons[0].who.clone(), fleet.daemons[fleet.daemons.len() - 1].who.clone());
    let other = fleet.daemons[1].who.clone();
    let all: &[(Kind, &Arc<str>, usize, usize)] = match focus {
        Focus::Twins => &[(Kind::SlowReply, &last, 0, 700)],
        Focus::Halves => {
            &[(Kind::CutOneWay, &first, 1, 1_000), (Kind::SlowReply, &first, 0, 300), (Kind::SlowReply, &last, 0, 500)]
        }
        Focus::Flaps => &[(Kind::SlowReply, &first, 0, 300)],
        Focus::Crossing => &[(Kind::SlowRequest, &other, 0, 500), (Kind::SlowReply, &first, 0, 700)],
        Focus::Shared => &[(Kind::SlowReply, &last, 0, 200), (Kind::SlowRequest, &last, 1, 700)],
        Focus::Orphans => &[
            (Kind::CutOneWay, &first, 1, 1_000),
            (Kind::CutOneWay, &first, 2, 1_000),
            (Kind::SlowReply, &other, 0, 500),
        ],
        Focus::Refused => &[(Kind::ReplyLost, &first, 1, 400), (Kind::SlowReply, &other, 1, 500)],
        _ => &[],
    };
    let since = world.runtime.instant();
    for (kind, who, to, per_mille) in all {
        world.chronicle.note(&format!("{} from {who} to {}", kind.name(), world.places[*to].name));
        let until = since + Duration::from_secs(3_600);
        let (who, per_mille) = (Some((*who).clone()), *per_mille);
        world.sky.brew(Storm { kind: *kind, who, from: None, to: Some(*to), account: None, per_mille, since, until });
    }
    if focus == Focus::Flaps {
        flap(world, &first);
    }
    if focus == Focus::Shared {
        let until = since + world.shape.window + world.dice.time(Duration::from_millis(1_500));
        let (kind, from, to) = (Kind::CutOneWay, Some(0), Some(1));
        world.sky.brew(Storm { kind, who: None, from, to, account: None, per_mille: 1_000, since, until });
    }
}

/// A line that comes and goes: for a minute, `who` is cut off from the second region again and again.
fn flap(world: &World, who: &Arc<str>) {
    let begin = world.runtime.instant();
    let (mut until, kind) = (begin, Kind::CutOneWay);
    while until < begin + Duration::from_secs(60) {
        let since = until + Duration::from_millis(500) + world.dice.time(Duration::from_secs(2));
        until = since + world.shape.park_after + world.dice.time(Duration::from_millis(2_500));
        let (who, to) = (Some(who.clone()), Some(1));
        world.sky.brew(Storm { kind, who, from: None, to, account: None, per_mille: 1_000, since, until });
    }
}

/// A cache goes down, until nothing else is left to do.
pub fn cache_goes_down(world: &World) {
    let Some((region, kind)) = world.shape.cache_down else { return };
    world.chronicle.note(&format!("{}: {}", kind.name(), world.places[region].name));
    let until = world.runtime.instant() + Duration::from_secs(86_400);
    let since = world.runtime.instant();
    world.sky.brew(Storm {
        kind,
        who: None,
        from: None,
        to: Some(region),
        account: None,
        per_mille: 1_000,
        since,
        until,
    });
}

/// What a storm of this kind covers, how dense it is, and how long it lasts.
fn storm(world: &World, fleet: &Fleet, kind: Kind, region: usize) {
    let window = world.shape.window;
    let (from, to, per_mille, most) = match kind {
        Kind::RequestLost
        | Kind::ReplyLost
        | Kind::EffectLate
        | Kind::Duplicate
        | Kind::SlowRequest
        | Kind::SlowReply
        | Kind::Throttled
        | Kind::ThrottledAfter
        | Kind::Busy
        | Kind::BusyAfter
        | Kind::ServerError
        | Kind::ServerErrorAfter
        | Kind::Reordered => (None, Some(region), world.dice.pick(&[50, 200, 500]), window),
        Kind::BusyStorm => (None, Some(region), 1_000, window / 2),
        Kind::ErrorStorm => (None, Some(region), 800, window),
        Kind::AccountStorm | Kind::AccountStormAfter => return long_storm(world, kind, region),
        Kind::TokenExpired => (Some(region), None, 1_000, window / 2),
        Kind::CutOneWay => (Some(region), Some(other(world, region)), 1_000, world.shape.lasting(window * 2)),
        Kind::CutBothWays => {
            let other = other(world, region);
            add(world, kind, None, Some(other), Some(region), 1_000, window * 2);
            (Some(region), Some(other), 1_000, window * 2)
        }
        Kind::RegionDown => (None, Some(region), 1_000, world.shape.lasting(window * 4)),
        Kind::StoreFrozen => (None, Some(region), 1_000, world.shape.lasting(window / 4)),
        Kind::RoutesUnread => {
            let to = world.shape.rebalances.map(|(region, _)| region);
            // By those of one region, of which applications of its own go by the old ones for too long.
            return add(
                world,
                kind,
                None,
                Some(if world.dice.chance(700) { to.unwrap_or(region) } else { region }),
                to,
                1_000,
                window * 5,
            );
        }
        Kind::LeaseStuck => {
            let who = fleet.daemons[world.dice.below(fleet.daemons.len())].who.clone();
            return add(world, kind, Some(who), None, None, 1_000, world.shape.lease * 3);
        }
        Kind::CacheCut | Kind::CacheRestarted => (None, Some(region), 1_000, window),
        Kind::CacheReplyLost | Kind::CacheLate => (None, Some(region), 400, window),
        _ => return,
    };
    // Now and then it is one daemon's own trouble.
    if kind.befalls_one() && world.dice.chance(400) {
        let who = fleet.daemons[world.dice.below(fleet.daemons.len())].who.clone();
        return add(world, kind, Some(who), None, None, per_mille, most);
    }
    // One daemon of a pair keeps hints then, which the other brings at the same time.
    if kind == Kind::CutOneWay && world.shape.focus == Focus::Outage && world.dice.chance(500) {
        let who = fleet.daemons[world.dice.below(fleet.daemons.len())].who.clone();
        return add(world, kind, Some(who), None, to, per_mille, most);
    }
    add(world, kind, None, from, to, per_mille, most);
}

fn other(world: &World, region: usize) -> usize {
    (region + 1 + world.dice.below(world.places.len() - 1)) % world.places.len()
}

fn add(
    world: &World,
    kind: Kind,
    who: Option<Arc<str>>,
    from: Option<usize>,
    to: Option<usize>,
    per_mille: usize,
    most: Duration,
) {
    let lasts = world.dice.time(most);
    let name = |at: Option<usize>| at.map_or("everybody", |at| world.places[at].name.as_str());
    let whose = who.as_deref().unwrap_or(name(from));
    let text = format!("{} from {whose} to {} for {lasts:?}", kind.name(), name(to));
    world.chronicle.note(&text);
    let since = world.runtime.instant();
    let until = since + lasts;
    world.sky.brew(Storm { kind, who, from, to, account: None, per_mille, since, until });
}

/// One account of a region refuses everything from everybody, for long.
fn long_storm(world: &World, kind: Kind, region: usize) {
    let account = world.dice.below(world.places[region].accounts.len());
    let lasts = Duration::from_secs(20) + world.dice.time(Duration::from_secs(100));
    world.chronicle.note(&format!(
        "{} in {}, account {account}, for {lasts:?}",
        kind.name(),
        world.places[region].name
    ));
    let since = world.runtime.instant();
    let until = since + lasts;
    let account = Some(account);
    world.sky.brew(Storm { kind, who: None, from: None, to: Some(region), account, per_mille: 1_000, since, until });
}

/// A daemon dies, or is asked to end, and another takes its place.
fn replace(world: &World, fleet: &mut Fleet, kind: Kind) {
    let at = world.dice.below(fleet.daemons.len());
    world.chronicle.fault(kind, &fleet.daemons[at].who.clone());
    let region = if kind == Kind::DaemonKilled { fleet.kill(at) } else { fleet.stop(at) };
    if fleet.of(region) == 0 {
        fleet.start(world, region);
    }
}

/// A second daemon joins the first.
fn two(world: &World, fleet: &mut Fleet, region: usize) {
    if fleet.of(region) < 2 {
        world.chronicle.fault(Kind::TwoDaemons, world.places[region].name.as_str());
        fleet.start(world, region);
    }
}

/// Somebody who knows no better removes the rows of a region's daemons.
fn steal(world: &World, fleet: &mut Fleet, region: usize) {
    world.chronicle.fault(Kind::LeaseStolen, world.places[region].name.as_str());
    world.steal_leases(region);
    // Whoever begins now knows nothing of whose rows they were, until those have noticed.
    fleet.stolen.insert(region, world.runtime.instant() + world.shape.lease);
}

/// A daemon stalls for minutes, and somebody starts another one meanwhile.
fn stale(world: &World, fleet: &mut Fleet) {
    let at = world.dice.below(fleet.daemons.len());
    let (who, region) = (fleet.daemons[at].who.clone(), fleet.daemons[at].region);
    let since = world.runtime.instant();
    let until = since + world.shape.window + world.dice.time(Duration::from_secs(60));
    fleet.stalled_until = fleet.stalled_until.max(Some(until + world.shape.window));
    world.chronicle.note(&format!("{who} stalls"));
    let (kind, who) = (Kind::StaleDaemon, Some(who));
    world.sky.brew(Storm { kind, who, from: None, to: None, account: None, per_mille: 1_000, since, until });
    if fleet.of(region) < 2 {
        fleet.start(world, region);
    }
}
