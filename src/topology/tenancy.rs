//! What one daemon of a region carries, and when it takes shards or gives them up: the rules of leases.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::{Member, MemberId, shares};
use crate::feed::AccountShard;
use crate::model::Time;
use crate::planted::{Bug, leases_ignored, planted};

/// The times that leases go by.
#[derive(Debug, Clone, Copy)]
pub struct LeaseRules {
    /// How long a daemon counts as there after its row was written.
    pub lease: Duration,
    /// How long what a daemon began may still take effect after it has ended.
    pub window: Duration,
    /// How much later than the storage clock's estimate the server may be.
    pub date_resolution: Duration,
}

/// A daemon's view of who carries what, and its own part in it.
///
/// Every daemon writes its row (its claims, on its ETag), then reads the rows of all, again and again. It wants what
/// [`shares`] deals it among those that are there. It *gives up* what is dealt to another, and its row says so only once
/// nothing of it works on the shard any more. It *claims* what is dealt to it and nobody there claims, and *takes* it when
/// a reading that began after the claim was written shows that still nobody else claims it. Of two that claim a shard at a
/// time, at least one sees the other, and takes nothing. So two daemons never hold a shard at a time.
///
/// Who is there is decided by one clock, the storage server's: a row counts for a lease from the time that the server wrote
/// it. A daemon holds itself to three quarters of that, by its own monotonic clock, from before it sent the row. One that
/// stalls wakes up without a lease, begins nothing, and joins anew.
///
/// Even so nothing that leads to a wrong row depends on this: writes are conditional and fresh (R9), and two that carry one
/// shard do no harm but one. A record that ends at once, because its very version was seen and delivered, may end while
/// another daemon has something older under way. Hence [`Turn::gained`] says from when on a shard is carried alone: a
/// window after it was taken, where anybody else was seen within the time that matters.
#[derive(Debug)]
pub struct Tenancy {
    me: MemberId,
    shards: Vec<AccountShard>,
    rules: LeaseRules,
    /// The others, as they were read last. One whose row is gone stays until it can have nothing under way any more: who
    /// leaves says so first.
    others: BTreeMap<MemberId, Member>,
    held: BTreeSet<AccountShard>,
    /// What the next row claims beside that.
    wanted: BTreeSet<AccountShard>,
    /// What the last row claimed beside that.
    claimed: BTreeSet<AccountShard>,
    /// What is dealt to this daemon.
    share: BTreeSet<AccountShard>,
    first: bool,
    joined: bool,
    until: Option<Instant>,
}

/// What follows from a reading.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Shards to carry from now on, and from when on alone.
    pub gained: Vec<(AccountShard, Instant)>,
    /// Shards to let go.
    pub given_up: Vec<AccountShard>,
    /// The next renewal says something new: it need not wait.
    pub urgent: bool,
    /// Somebody has to give something up, or to be found gone, first: look again soon.
    pub waiting: bool,
    /// Rows of those that can have nothing under way any more: nobody needs them.
    pub traceless: Vec<MemberId>,
}

impl Tenancy {
    /// A daemon that has not joined. `shards` are all of the region.
    pub fn new(me: MemberId, shards: Vec<AccountShard>, rules: LeaseRules) -> Self {
        Self {
            me,
            shards,
            rules,
            others: BTreeMap::new(),
            held: BTreeSet::new(),
            wanted: BTreeSet::new(),
            claimed: BTreeSet::new(),
            share: BTreeSet::new(),
            first: false,
            joined: false,
            until: None,
        }
    }

    /// Its name.
    pub fn me(&self) -> &MemberId {
        &self.me
    }

    /// What its next row claims.
    pub fn claims(&self) -> BTreeSet<AccountShard> {
        self.held.union(&self.wanted).cloned().collect()
    }

    /// What it carries.
    pub fn held(&self) -> &BTreeSet<AccountShard> {
        &self.held
    }

    /// Until when its lease holds.
    pub fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Whether it is the first of those that are there: what the region needs once is its part.
    pub fn is_first(&self) -> bool {
        self.first
    }

    /// Whether it has all that is dealt to it.
    pub fn is_complete(&self) -> bool {
        self.joined && self.share.is_subset(&self.held)
    }

    /// The others that are there, or left things behind.
    pub fn others(&self) -> impl Iterator<Item = &Member> {
        self.others.values()
    }

    /// Whether it holds something without a lease at `now`.
    pub fn has_lapsed(&self, now: Instant) -> bool {
        self.joined && self.until.is_none_or(|until| now >= until) && !planted(Bug::LeaseOutlived)
    }

    /// Its lease ran out, or its row is gone: it has nothing, and joins anew. Returns what it held.
    pub fn lapse(&mut self) -> BTreeSet<AccountShard> {
        (self.joined, self.first, self.until) = (false, false, None);
        self.wanted.clear();
        self.claimed.clear();
        std::mem::take(&mut self.held)
    }

    /// Its row was written with [`claims`](Self::claims), by a request that was sent at `sent`.
    pub fn renewed(&mut self, sent: Instant) {
        self.until = Some(sent + self.rules.lease * 3 / 4);
        self.claimed = self.wanted.clone();
    }

    /// Takes in the rows of a reading that began after the last renewal; its own among them is passed over.
    pub fn seen(&mut self, rows: Vec<Member>, storage_now: Option<Time>, now: Instant) -> Turn {
        let mut turn = Turn::default();
        for row in rows.into_iter().filter(|row| row.id != self.me && !leases_ignored()) {
            if self.is_traceless(&row, storage_now) {
                turn.traceless.push(row.id.clone());
            }
            self.others.insert(row.id.clone(), row);
        }
        let traceless = self.others.values().filter(|row| self.is_traceless(row, storage_now));
        let traceless: Vec<MemberId> = traceless.map(|row| row.id.clone()).collect();
        traceless.iter().for_each(|id| drop(self.others.remove(id)));
        let there: Vec<&Member> = self.others.values().filter(|row| self.is_there(row, storage_now)).collect();
        let members: BTreeSet<MemberId> = there.iter().map(|row| row.id.clone()).chain([self.me.clone()]).collect();
        self.first = members.first() == Some(&self.me);
        self.joined = true;
        let taken: BTreeSet<AccountShard> = there.iter().flat_map(|row| row.claims.iter().cloned()).collect();
        let dealt = shares(&members, &self.shards);
        self.share = dealt.into_iter().filter(|(_, id)| *id == self.me).map(|(shard, _)| shard).collect();
        if !planted(Bug::ShardsKept) {
            turn.given_up = self.held.difference(&self.share).cloned().collect();
            self.held.retain(|shard| self.share.contains(shard));
        }
        let alone_from = match self.others.is_empty() {
            // Without leases others always carry what it carries.
            true if planted(Bug::ExactThoughShared) => now + self.rules.window * 1_000,
            true => now,
            false => now + self.rules.window,
        };
        let confirmed = |shard: &AccountShard| self.claimed.contains(shard) || planted(Bug::ClaimNotConfirmed);
        let lacking: Vec<AccountShard> = self.share.difference(&self.held).cloned().collect();
        self.wanted.clear();
        for shard in lacking {
            if taken.contains(&shard) {
                turn.waiting = true;
            } else if confirmed(&shard) {
                turn.gained.push((shard.clone(), alone_from));
                self.held.insert(shard);
            } else {
                self.wanted.insert(shard);
            }
        }
        self.claimed.clear();
        turn.urgent = !turn.given_up.is_empty() || !self.wanted.is_empty();
        turn
    }

    /// How long until the next of those that are there is found gone, should it not renew.
    pub fn next_expiry(&self, storage_now: Option<Time>) -> Option<Duration> {
        let now = storage_now?;
        let there = self.others.values().filter(|row| self.is_there(row, storage_now));
        there.map(|row| (row.renewed + self.rules.lease).since(now)).min()
    }

    /// Whether a daemon counts. The storage clock is a lower bound: a lease never ends too soon by it.
    pub fn is_there(&self, row: &Member, storage_now: Option<Time>) -> bool {
        let ended = storage_now.is_some_and(|now| now >= row.renewed + self.rules.lease);
        !row.left && (!ended || planted(Bug::DeadCounted))
    }

    /// Whether it can have nothing under way any more.
    fn is_traceless(&self, row: &Member, storage_now: Option<Time>) -> bool {
        let lease = if row.left { Duration::ZERO } else { self.rules.lease };
        let last = row.renewed + lease + self.rules.window + self.rules.date_resolution;
        !self.is_there(row, storage_now) && storage_now.is_some_and(|now| now >= last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::AccountName;
    use proptest::prelude::*;

    const LEASE: Duration = Duration::from_secs(8);
    const WINDOW: Duration = Duration::from_secs(60);

    fn shards() -> Vec<AccountShard> {
        AccountShard::all(&[AccountName::new("one").unwrap()])
    }

    /// A table of rows under one server's clock, and daemons that write and read it.
    struct Region {
        start: Instant,
        now: Duration,
        rows: BTreeMap<MemberId, Member>,
        daemons: Vec<Tenancy>,
    }

    impl Region {
        fn new(daemons: u64) -> Self {
            let rules = LeaseRules { lease: LEASE, window: WINDOW, date_resolution: Duration::from_secs(1) };
            let daemons = (0..daemons).map(|n| Tenancy::new(MemberId::new(n), shards(), rules)).collect();
            Self { start: Instant::now(), now: Duration::ZERO, rows: BTreeMap::new(), daemons }
        }

        fn instant(&self) -> Instant {
            self.start + self.now
        }

        fn storage(&self) -> Time {
            Time::from_unix_seconds(1_000) + self.now
        }

        fn write(&mut self, at: usize, left: bool) {
            let (renewed, instant) = (self.storage(), self.instant());
            let daemon = &mut self.daemons[at];
            if daemon.has_lapsed(instant) {
                daemon.lapse();
            }
            let (id, claims) = (daemon.me().clone(), daemon.claims());
            daemon.renewed(instant);
            let (read, links) = (BTreeSet::new(), Vec::new());
            self.rows.insert(
                id.clone(),
                Member { id, claims, left, renewed, read, links, published: renewed, obeyed: None },
            );
        }

        fn read(&mut self, at: usize) -> Turn {
            let (rows, storage, instant) = (self.rows.values().cloned().collect(), self.storage(), self.instant());
            self.daemons[at].seen(rows, Some(storage), instant)
        }

        fn round(&mut self, at: usize) -> Turn {
            self.write(at, false);
            self.read(at)
        }

        /// Whoever holds a shard with a lease.
        fn holders(&self, shard: &AccountShard) -> usize {
            let now = self.instant();
            self.daemons.iter().filter(|daemon| !daemon.has_lapsed(now) && daemon.held().contains(shard)).count()
        }
    }

    fn count(region: &Region, at: usize) -> usize {
        region.daemons[at].held().len()
    }

    #[test]
    fn the_first_daemon_takes_everything_and_is_alone_at_once() {
        let mut region = Region::new(1);
        let turn = region.round(0);
        assert!(turn.gained.is_empty() && turn.urgent && !region.daemons[0].is_complete(), "claimed first: {turn:?}");
        let turn = region.round(0);
        assert!(turn.gained.len() == 16 && turn.gained.iter().all(|(_, from)| *from == region.instant()), "{turn:?}");
        assert!(region.daemons[0].is_complete() && region.daemons[0].is_first() && !turn.urgent);
    }

    #[test]
    fn a_second_one_gets_half_once_the_first_has_given_it_up() {
        let mut region = Region::new(2);
        (0..2).for_each(|_| drop(region.round(0)));
        let turn = region.round(1);
        assert!(turn.gained.is_empty() && turn.waiting && count(&region, 0) == 16, "{turn:?}");
        assert_eq!(region.round(0).given_up.len(), 8);
        assert!(region.round(1).gained.is_empty(), "the first one's row still claims them");
        region.write(0, false);
        assert!(region.round(1).urgent);
        let turn = region.round(1);
        assert_eq!((turn.gained.len(), count(&region, 0)), (8, 8));
        assert!(
            turn.gained.iter().all(|(_, from)| *from == region.instant() + WINDOW),
            "the first may have some under way"
        );
    }

    #[test]
    fn what_a_dead_one_held_is_taken_when_its_lease_is_over_and_what_one_that_left_held_at_once() {
        for left in [false, true] {
            let mut region = Region::new(2);
            (0..4).for_each(|_| drop((region.round(0), region.round(1))));
            assert_eq!((count(&region, 0), count(&region, 1)), (8, 8));
            if left {
                region.daemons[0].lapse();
                region.write(0, true);
            }
            region.now += LEASE - Duration::from_secs(1);
            (0..3).for_each(|_| drop(region.round(1)));
            assert_eq!(count(&region, 1), if left { 16 } else { 8 });
            region.now += Duration::from_secs(1);
            (0..3).for_each(|_| drop(region.round(1)));
            assert_eq!(count(&region, 1), 16);
            assert!(region.daemons[1].is_first());
        }
    }

    #[test]
    fn one_that_stalls_holds_nothing_when_it_wakes_up() {
        let mut region = Region::new(2);
        (0..4).for_each(|_| drop((region.round(0), region.round(1))));
        for _ in 0..10 {
            region.now += LEASE / 4;
            region.round(1);
        }
        assert!(region.daemons[0].has_lapsed(region.instant()) && count(&region, 1) == 16);
        let turn = region.round(0);
        assert!(turn.gained.is_empty() && turn.waiting && count(&region, 0) == 0, "{turn:?}");
    }

    #[test]
    fn a_row_that_vanishes_counts_until_its_time_is_up_and_old_rows_are_named() {
        let mut region = Region::new(2);
        (0..4).for_each(|_| drop((region.round(0), region.round(1))));
        let gone = region.rows.remove(&MemberId::new(0)).unwrap();
        assert!(region.round(1).gained.is_empty() && count(&region, 1) == 8);
        region.rows.insert(gone.id.clone(), gone.clone());
        region.now += LEASE + WINDOW + Duration::from_secs(1);
        assert_eq!(region.round(1).traceless, [gone.id]);
        assert_eq!(region.daemons[1].others().count(), 0);
    }

    proptest! {
        /// Any order of writes and readings, stalls and deaths: never two holders, and then everything is held, evenly.
        #[test]
        fn a_shard_has_one_holder_at_most_and_in_the_end_exactly_one(steps in prop::collection::vec((0usize..4, 0u8..4, 0u64..3_000), 0..200)) {
            let mut region = Region::new(4);
            let mut written = [false; 4];
            for (at, what, millis) in steps {
                region.now += Duration::from_millis(millis);
                match what {
                    0 | 1 => {
                        region.write(at, false);
                        written[at] = true;
                    }
                    _ if written[at] => drop(region.read(at)),
                    _ => {}
                }
                for shard in shards() {
                    prop_assert!(region.holders(&shard) <= 1, "{shard} is held twice");
                }
            }
            for _ in 0..20 {
                region.now += LEASE / 4;
                (0..4).for_each(|at| drop(region.round(at)));
            }
            for shard in shards() {
                prop_assert_eq!(region.holders(&shard), 1);
            }
            prop_assert!((0..4).all(|at| count(&region, at) == 4));
        }
    }
}
