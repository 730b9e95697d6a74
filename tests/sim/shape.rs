//! What a seed draws before its history begins: how large the world is, who writes, what may go wrong.

mod rebalancing;

use std::time::Duration;

use tablerelay::topology::LateWrites;

use crate::dice::Dice;
use crate::kinds::Kind;

/// Which regions applications write in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topology {
    /// One writes, another stands by; all get everything.
    ActivePassive,
    /// One writes, the others serve reads.
    ActiveActive,
    /// All write.
    MultiActive,
}

/// What a history aims at: some clauses are only missed when everything happens at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Focus {
    /// Anything.
    Wide,
    /// One row, two daemons a region, one of them slow, clocks that disagree.
    Duel,
    /// Conditional deletes that are refused and leave their tombstones, under the writes of other regions.
    Refusal,
    /// A region comes back after longer than a window, and all deliver to it at once.
    Return,
    /// Regions are out of reach for minutes, writers go on, and daemons die meanwhile.
    Outage,
    /// Tales of a region with two daemons, one of them slow: writers put a row at once, by clocks that disagree.
    Twins,
    /// Tales of a region of whose two daemons one is cut off and keeps hints, which the other brings.
    Halves,
    /// Tales of a region whose line to another comes and goes, so that hints are brought while writers go on.
    Flaps,
    /// Tales of a delete that meets another region's put on its way.
    Crossing,
    /// Tales of a delete that is refused while replies to those who bring the row are lost.
    Refused,
    /// One account refuses everything for minutes, which must not make anybody ask more.
    Storm,
    /// Tales of a region that tells no other of its writes, which one of them finds there, and that is lost then.
    Orphans,
    /// Tales of a region with two daemons, one of them slow, whose line to another is back about when the window is over.
    Shared,
    /// Roles move, in all topologies; regions are lost and come back, and applications go on in regions that are no writers.
    Failover,
}

impl Focus {
    pub const ALL: [Self; 14] = [
        Self::Wide,
        Self::Duel,
        Self::Refusal,
        Self::Return,
        Self::Outage,
        Self::Twins,
        Self::Halves,
        Self::Flaps,
        Self::Crossing,
        Self::Refused,
        Self::Storm,
        Self::Orphans,
        Self::Shared,
        Self::Failover,
    ];

    /// The focus of this name, in lower case.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|focus| format!("{focus:?}").eq_ignore_ascii_case(name))
    }

    /// Of a seed's history.
    pub fn of(seed: u64) -> Self {
        Shape::of(seed, &Dice::seeded(seed)).focus
    }

    /// Whether the daemons of a seed's history compare the regions.
    pub fn scrubs(seed: u64) -> bool {
        Shape::of(seed, &Dice::seeded(seed)).scrubs.is_some()
    }

    /// Whether somebody copies tables in a seed's history.
    pub fn moves_in(seed: u64) -> bool {
        Shape::of(seed, &Dice::seeded(seed)).moves_in
    }

    /// Whether rows move to other accounts in a seed's history.
    pub fn rebalances(seed: u64) -> bool {
        Shape::of(seed, &Dice::seeded(seed)).rebalances.is_some()
    }

    /// Whether its histories are made of tales (`crowd/tales.rs`).
    pub fn is_told_in_tales(self) -> bool {
        use Focus::{Crossing, Flaps, Halves, Orphans, Refused, Shared, Twins};
        matches!(self, Twins | Halves | Flaps | Crossing | Refused | Orphans | Shared)
    }
}

/// The seeds whose histories have a limit on staleness: those that leave the second number when divided by the first.
const BOUNDED: (u64, u64) = (11, 7);

#[derive(Debug, Clone)]
pub struct Shape {
    pub focus: Focus,
    pub topology: Topology,
    /// Accounts of each region.
    pub accounts: Vec<usize>,
    /// How many in a thousand regions have two daemons from the beginning.
    pub pairs: usize,
    /// How long a daemon counts as there after it was heard of last.
    pub lease: Duration,
    pub window: Duration,
    pub skew: Duration,
    /// How far writers' clocks are off at most.
    pub writers_skew: Duration,
    /// How far each region's writers are ahead or behind as a whole.
    pub regions_skew: Duration,
    pub steps: usize,
    /// The longest pause between two steps.
    pub pause: Duration,
    pub partitions: usize,
    pub rows: usize,
    pub latency: Duration,
    pub jitter: Duration,
    /// How many in a thousand steps bring trouble.
    pub trouble: usize,
    /// The kinds of trouble of this history.
    pub kinds: Vec<Kind>,
    /// What writers do, by weight.
    pub queue: bool,
    pub unversioned: bool,
    pub future: bool,
    pub deletes: usize,
    pub max_open_records: usize,
    /// The longest pause of a daemon after a failure.
    pub backoff: Duration,
    /// How long a destination may take nothing before it is parked.
    pub park_after: Duration,
    /// The region whose cache is down from half-way on until nothing else is left to do, and how.
    pub cache_down: Option<(usize, Kind)>,
    /// Whether the first region has a cache. One that held a newer version of the region's own shows that it stood there,
    /// and the line lifts what stands (R10): so a cache makes up for clauses that went before.
    pub cached: bool,
    /// Whether daemons fill a cache that was emptied.
    pub warms: bool,
    /// What becomes of what is written in a region that is no writer.
    pub late_writes: LateWrites,
    /// How far behind a region may be and still let readers in, where that is asked.
    pub limit: Option<Duration>,
    /// How often daemons compare the regions, where they do.
    pub scrubs: Option<Duration>,
    /// Whether the first region held rows before anybody replicated them, which are copied to the others.
    pub moves_in: bool,
    /// How old tombstones are at least that daemons collect, where they do: in histories that are scrubbed.
    pub collects: Option<Duration>,
    /// Whether a region was taken out before the history began, and counts.
    pub former: bool,
    /// The region whose rows move from account to account, where any do, and over how many of its accounts they are spread at first.
    pub rebalances: Option<(usize, usize)>,
    /// Whether its rows have cold places in the last of its accounts.
    pub ages: bool,
}

impl Shape {
    /// The shape of a seed's history; `dice` are those of the history.
    pub fn of(seed: u64, dice: &Dice) -> Self {
        Self::draw(dice)
            .or_storm(seed)
            .or_outage(seed)
            .or_tales(seed)
            .or_without_a_cache(seed)
            .or_bounded(seed)
            .or_failover(seed)
            .or_longer_tales(seed)
            .or_scrubbed(seed)
            .or_moving_in(seed)
            .or_collecting(seed)
            .or_rebalancing(seed)
    }

    fn draw(dice: &Dice) -> Self {
        let regions = dice.pick(&[2, 2, 2, 3, 3, 3, 3, 3, 4, 5]);
        let accounts = (0..regions).map(|_| if regions > 3 { 1 } else { dice.pick(&[1, 1, 1, 1, 1, 2, 3]) }).collect();
        let topology = match dice.below(6) {
            0 => Topology::ActivePassive,
            1 => Topology::ActiveActive,
            _ => Topology::MultiActive,
        };
        // Each history has a few kinds of trouble, so that what only shows when nothing else disturbs is seen too.
        let most = dice.pick(&[0, 150, 350, 700]);
        let apart =
            |kind: &Kind| kind.is_throttling() || kind.outlasts() || kind.is_of_movers() || kind.is_of_rebalances();
        let usual = Kind::ALL.iter().copied().filter(|kind| !apart(kind));
        let kinds = usual.filter(|_| dice.chance(most)).collect();
        let calm = dice.chance(250);
        let wide = Self {
            focus: Focus::Wide,
            topology,
            accounts,
            pairs: dice.pick(&[0, 700, 700, 1_000]),
            lease: Duration::from_secs(dice.pick(&[2, 4, 8])),
            window: Duration::from_secs(dice.pick(&[4, 8, 8, 12])),
            skew: Duration::from_secs(5),
            writers_skew: Duration::from_millis(dice.pick(&[0, 50, 200, 1_500])),
            regions_skew: Duration::from_millis(dice.pick(&[0, 0, 300, 3_000])),
            steps: 20 + dice.below(50),
            pause: Duration::from_millis(dice.pick(&[40, 200, 600, 1_200])),
            partitions: 1 + dice.below(3),
            rows: 1 + dice.below(5),
            latency: Duration::from_millis(dice.pick(&[2, 5, 20])),
            jitter: Duration::from_millis(dice.pick(&[0, 3, 10, 60])),
            trouble: if calm { 40 } else { 300 },
            kinds,
            queue: dice.chance(250),
            unversioned: dice.chance(200),
            future: dice.chance(100),
            deletes: dice.pick(&[0, 1, 2, 4]),
            max_open_records: dice.pick(&[8, 16_384, 16_384]),
            backoff: Duration::from_secs(10),
            park_after: Duration::from_secs(2),
            cache_down: None,
            cached: true,
            warms: dice.chance(500),
            late_writes: LateWrites::Merge,
            limit: None,
            scrubs: None,
            moves_in: false,
            collects: None,
            former: false,
            rebalances: None,
            ages: false,
        };
        match dice.below(10) {
            0 => wide.duel(dice),
            1 => wide.coming_back(dice),
            2 => wide.refusal(dice),
            _ => wide,
        }
    }

    fn duel(self, dice: &Dice) -> Self {
        Self {
            focus: Focus::Duel,
            topology: Topology::MultiActive,
            accounts: vec![1; 2 + dice.below(2)],
            pairs: 600,
            window: Duration::from_secs(4),
            writers_skew: Duration::from_millis(1_500),
            regions_skew: Duration::ZERO,
            steps: 25 + 25 * dice.below(3),
            pause: Duration::from_millis(dice.pick(&[30, 100, 400])),
            partitions: 1,
            rows: 1,
            trouble: 400,
            kinds: vec![
                Kind::SlowRequest,
                Kind::SlowReply,
                Kind::DaemonKilled,
                Kind::TwoDaemons,
                Kind::LeaseStuck,
                Kind::StaleDaemon,
            ],
            unversioned: false,
            future: false,
            deletes: dice.below(2),
            ..self
        }
    }

    fn refusal(self, dice: &Dice) -> Self {
        Self {
            focus: Focus::Refusal,
            topology: Topology::MultiActive,
            accounts: vec![1; 2 + dice.below(2)],
            window: Duration::from_secs(4),
            writers_skew: Duration::from_millis(200),
            regions_skew: Duration::from_secs(3),
            steps: 50,
            pause: Duration::from_millis(dice.pick(&[100, 400])),
            partitions: 1,
            rows: 1,
            trouble: 300,
            kinds: vec![
                Kind::RefusedDelete,
                Kind::RefusedDelete,
                Kind::SlowRequest,
                Kind::ReplyLost,
                Kind::DaemonKilled,
            ],
            queue: false,
            unversioned: false,
            future: false,
            deletes: 1 + dice.below(3),
            backoff: Duration::from_millis(200),
            ..self
        }
    }

    fn coming_back(self, dice: &Dice) -> Self {
        Self {
            focus: Focus::Return,
            topology: Topology::MultiActive,
            accounts: vec![1; 3],
            window: Duration::from_secs(4),
            regions_skew: Duration::ZERO,
            steps: 30,
            pause: Duration::from_millis(dice.pick(&[200, 600])),
            partitions: 1,
            rows: 1,
            latency: Duration::from_millis(5),
            // Half a window has to be enough for a hint that takes a disagreement with it: some twenty requests, one after the other.
            jitter: Duration::from_millis(dice.pick(&[60, 100])),
            trouble: 200,
            kinds: vec![Kind::RegionDown, Kind::RegionDown, Kind::ReplyLost, Kind::CutOneWay, Kind::DaemonKilled],
            queue: false,
            unversioned: false,
            future: false,
            deletes: 4,
            backoff: Duration::from_millis(200),
            ..self
        }
    }

    /// One history in ten is about an outage instead, drawn from dice of its own.
    fn or_outage(self, seed: u64) -> Self {
        let dice = Dice::seeded(seed ^ 0x6f75_7461_6765);
        if !dice.chance(100) {
            return self;
        }
        let most = dice.pick(&[1, 1, 2]);
        Self {
            focus: Focus::Outage,
            topology: Topology::MultiActive,
            accounts: vec![1; 2 + dice.below(2)],
            pairs: dice.pick(&[0, 600]),
            window: Duration::from_secs(4),
            writers_skew: Duration::from_millis(dice.pick(&[50, 1_500])),
            regions_skew: Duration::ZERO,
            steps: 60,
            pause: Duration::from_millis(dice.pick(&[600, 2_000])),
            partitions: most,
            rows: 1 + dice.below(3),
            trouble: 120,
            kinds: vec![
                Kind::RegionDown,
                Kind::RegionDown,
                Kind::CutOneWay,
                Kind::StoreFrozen,
                Kind::DaemonKilled,
                Kind::SlowRequest,
                Kind::ReplyLost,
                Kind::Throttled,
            ],
            queue: false,
            unversioned: false,
            future: false,
            deletes: dice.below(3),
            park_after: Duration::from_millis(dice.pick(&[500, 1_000])),
            ..self
        }
    }

    /// One history in eight is made of tales instead, drawn from dice of its own.
    fn or_tales(self, seed: u64) -> Self {
        let dice = Dice::seeded(seed ^ 0x7461_6c65_7321);
        if !dice.chance(125) {
            return self;
        }
        let focus = dice.pick(&[Focus::Twins, Focus::Halves, Focus::Flaps, Focus::Crossing, Focus::Refused]);
        self.tales(focus, &dice)
    }

    fn tales(self, focus: Focus, dice: &Dice) -> Self {
        let tales = Self {
            focus,
            topology: Topology::MultiActive,
            accounts: vec![1; 2 + dice.below(2)],
            pairs: 0,
            window: Duration::from_secs(4),
            // Clocks that are wrong on purpose (`tales::skew`), and those of the daemons.
            writers_skew: Duration::from_millis(200),
            regions_skew: Duration::ZERO,
            steps: 60,
            pause: Duration::from_millis(dice.pick(&[150, 400])),
            partitions: 1 + dice.below(3),
            latency: Duration::from_millis(dice.pick(&[2, 5])),
            jitter: Duration::from_millis(dice.pick(&[3, 10])),
            trouble: 0,
            kinds: vec![],
            queue: false,
            unversioned: false,
            future: false,
            max_open_records: 16_384,
            backoff: Duration::from_millis(200),
            park_after: Duration::from_millis(dice.pick(&[500, 1_000])),
            cached: dice.chance(300),
            ..self
        };
        match tales.focus {
            // Nothing is parked where it is not about hints.
            Focus::Twins | Focus::Crossing | Focus::Refused | Focus::Orphans | Focus::Shared => {
                Self { park_after: Duration::from_secs(10), ..tales }
            }
            _ => tales,
        }
    }

    /// One history in twenty is about a storm instead, drawn from dice of its own.
    fn or_storm(self, seed: u64) -> Self {
        let dice = Dice::seeded(seed ^ 0x7374_6f72_6d73);
        if !dice.chance(50) {
            return self;
        }
        Self {
            focus: Focus::Storm,
            topology: Topology::MultiActive,
            accounts: (0..2 + dice.below(2)).map(|_| 1 + dice.below(2)).collect(),
            pairs: 200,
            window: Duration::from_secs(8),
            regions_skew: Duration::ZERO,
            steps: 60,
            pause: Duration::from_millis(dice.pick(&[1_000, 4_000])),
            partitions: 1 + dice.below(3),
            trouble: 40,
            kinds: vec![
                Kind::AccountStorm,
                Kind::AccountStormAfter,
                Kind::AccountStormAfter,
                Kind::DaemonKilled,
                Kind::ReplyLost,
                Kind::ThrottledAfter,
            ],
            unversioned: false,
            future: false,
            ..self
        }
    }

    /// In one history in eight a cache is down until nothing else is left to do, drawn from dice of its own.
    fn or_without_a_cache(self, seed: u64) -> Self {
        let dice = Dice::seeded(seed ^ 0x6361_6368_653a);
        if self.focus.is_told_in_tales() || !dice.chance(125) {
            return self;
        }
        let kind = dice.pick(&[Kind::CacheDown, Kind::CacheFrozen]);
        Self { cache_down: Some((dice.below(self.regions()), kind)), cached: true, ..self }
    }

    /// One history in eleven has a limit on staleness. It costs requests, so the others are left as they are.
    fn or_bounded(self, seed: u64) -> Self {
        let dice = Dice::seeded(seed ^ 0x0062_6f75_6e64);
        if seed % BOUNDED.0 != BOUNDED.1 {
            return self;
        }
        Self { limit: Some(Duration::from_secs(8 + dice.below(12) as u64)), ..self }
    }

    /// One history in twelve is about roles instead, drawn from dice of its own.
    fn or_failover(self, seed: u64) -> Self {
        let dice = Dice::seeded(seed ^ 0x6661_696c_6f76);
        if !dice.chance(85) {
            return self;
        }
        let trouble = [
            Kind::RegionDown,
            Kind::CutBothWays,
            Kind::CutOneWay,
            Kind::DaemonKilled,
            Kind::SlowRequest,
            Kind::ReplyLost,
        ];
        let most = dice.pick(&[0, 200, 600]);
        let mut kinds = vec![
            Kind::PlannedFailover,
            Kind::PlannedFailover,
            Kind::FailoverCutOff,
            Kind::ForcedFailover,
            Kind::RegionLost,
            Kind::RegionLost,
            Kind::RolesUnread,
        ];
        kinds.extend(trouble.into_iter().filter(|_| dice.chance(most)));
        Self {
            focus: Focus::Failover,
            topology: dice.pick(&[Topology::ActivePassive, Topology::ActiveActive, Topology::MultiActive]),
            accounts: vec![1; dice.pick(&[2, 3, 3, 3, 4])],
            pairs: dice.pick(&[0, 500]),
            lease: Duration::from_secs(2),
            window: Duration::from_secs(4),
            writers_skew: Duration::from_millis(dice.pick(&[0, 50, 500])),
            regions_skew: Duration::from_millis(dice.pick(&[0, 300])),
            steps: 60,
            pause: Duration::from_millis(dice.pick(&[300, 1_000])),
            partitions: 1 + dice.below(3),
            rows: 1 + dice.below(5),
            trouble: 120,
            kinds,
            queue: false,
            unversioned: false,
            future: false,
            deletes: dice.below(3),
            max_open_records: 16_384,
            backoff: Duration::from_secs(2),
            park_after: Duration::from_millis(dice.pick(&[1_000, 2_000])),
            cache_down: None,
            late_writes: dice.pick(&[LateWrites::Merge, LateWrites::Journal, LateWrites::Journal]),
            limit: None,
            ..self
        }
    }

    /// One history in thirty is made of tales that need longer, drawn from dice of its own: of what a lost region wrote last, or of what
    /// two daemons share when a window is over.
    fn or_longer_tales(self, seed: u64) -> Self {
        let dice = Dice::seeded(seed ^ 0x6f72_7068_616e);
        if !dice.chance(33) {
            return self;
        }
        let plain = Self { cache_down: None, limit: None, late_writes: LateWrites::Merge, ..self };
        let tales = plain.tales(dice.pick(&[Focus::Orphans, Focus::Shared]), &dice);
        match tales.focus {
            Focus::Orphans => Self { accounts: vec![1; 3], steps: 40, lease: Duration::from_secs(2), ..tales },
            // All begin while the line is cut.
            _ => Self { accounts: vec![1; 2], pause: Duration::from_millis(50), ..tales },
        }
    }

    /// In one history in nine daemons compare the regions again and again. It costs requests, so the others are left as they are, and those
    /// that count requests. What is told by queue stands in a table before anything names it, so there it may be found.
    fn or_scrubbed(self, seed: u64) -> Self {
        let dice = Dice::seeded(seed ^ 0x7363_7275_6273);
        if self.focus == Focus::Storm || self.limit.is_some() || self.queue || !dice.chance(125) {
            return self;
        }
        Self { scrubs: Some(Duration::from_secs(2 + dice.below(8) as u64)), ..self }
    }

    /// In one history in twelve the first region held rows before, which somebody copies. Nothing tells its cache of them, so it has none.
    /// Not where roles move: what a region has that is no writer is late there; nor where something is counted. And no region is lost, since of what
    /// was copied to one survivor by then the others know nothing yet.
    fn or_moving_in(self, seed: u64) -> Self {
        let dice = Dice::seeded(seed ^ 0x6d6f_7665_6469);
        let counts = self.focus == Focus::Storm || self.limit.is_some() || self.scrubs.is_some();
        if self.focus == Focus::Failover || self.focus.is_told_in_tales() || counts || !dice.chance(150) {
            return self;
        }
        let kinds = self.kinds.iter().copied().filter(|kind| *kind != Kind::RegionLost).collect();
        Self { moves_in: true, cached: false, cache_down: None, kinds, ..self }
    }

    /// In half of the histories that are scrubbed daemons collect tombstones, too; in a quarter of these somebody has taken a region
    /// out of the file. What collecting costs in requests would change the others.
    fn or_collecting(self, seed: u64) -> Self {
        let dice = Dice::seeded(seed ^ 0x7469_6479);
        if self.scrubs.is_none() || !dice.chance(500) {
            return self;
        }
        let collects = Some(Duration::from_secs(dice.pick(&[5, 5, 12, 30])));
        Self { collects, former: dice.chance(250), ..self }
    }

    /// How long trouble of a place lasts at most, which is `usual` but for outages.
    pub fn lasting(&self, usual: Duration) -> Duration {
        if self.focus == Focus::Outage { Duration::from_secs(100) } else { usual }
    }

    pub fn regions(&self) -> usize {
        self.accounts.len()
    }

    /// Whether applications write in this region at first.
    pub fn writes(&self, region: usize) -> bool {
        self.topology == Topology::MultiActive || region == 0
    }

    /// The longest that a request may be under way and still do what the protocol promises.
    pub fn quarter(&self) -> Duration {
        self.window / 4
    }

    pub fn may(&self, kind: Kind) -> bool {
        self.kinds.contains(&kind)
    }
}
