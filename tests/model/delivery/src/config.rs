//! What is explored: the regions, their daemons and writes, which clauses of the protocol hold, and what may fail.

/// How a write goes about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Announces, then writes whatever stands there.
    Put,
    /// Reads, announces a version above what it read, then replaces on the ETag that it read, or inserts.
    Change,
    /// Announces with a tombstone, then deletes whatever stands there.
    Delete,
}

/// One write of an application.
#[derive(Clone, Copy, Debug)]
pub struct Write {
    /// The region it is made in: 0, 1 or 2.
    pub region: u8,
    /// Which writer of the region. One writer does one thing after another; two do them at the same time.
    pub writer: u8,
    /// How it is made.
    pub kind: Kind,
    /// What the writer's clock says. Clocks differ, so what is written later may have a lower tick.
    pub clock: u8,
}

/// Which clauses hold. A test turns one off to see that the model cannot do without.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// R1: a look that saw anything but the announced version ends a record only after the settle window.
    pub waiting: bool,
    /// R1: a lower record stays while a higher one is open.
    pub highest_first: bool,
    /// R1: an absent row is never "exactly the version" of a delete.
    pub deletes_wait: bool,
    /// R1: the feed is read between the look and the delivery, so that no higher record is overlooked.
    pub feed_after_look: bool,
    /// R1: the settle window of a record begins anew when the row goes, or when something lower comes to stand.
    pub window_from_change: bool,
    /// R4: the look at the tombstone after an insert.
    pub look_after_insert: bool,
    /// R4: the look at the tombstone after a replace.
    pub look_after_replace: bool,
    /// R4: the look at the tombstone where the row is equal.
    pub look_after_equal: bool,
    /// R5: the tombstone is raised before the row is deleted.
    pub tombstone_first: bool,
    /// R5: the row is read after the tombstone was raised, not before.
    pub row_after_tombstone: bool,
    /// R5: what stands of another region below a delete that was announced here is taken out when its window is over.
    pub leftovers_go: bool,
    /// R6: what the destination has is announced here before it is applied.
    pub announcement: bool,
    /// R9: nothing is written on a look older than half a settle window.
    pub freshness: bool,
    /// R10: a region's own version is not put back over what stands there; that is lifted.
    pub lifting: bool,
    /// R10: only what the region itself issued is lifted; against other regions its versions compete like any.
    pub lifts_own_only: bool,
    /// R10: a daemon never issues one version twice.
    pub lifts_rise: bool,
    /// Part 3: a write without a condition is not sent again under the same version.
    pub one_attempt: bool,
}

impl Rules {
    /// All of them.
    pub const ALL: Rules = Rules {
        waiting: true,
        highest_first: true,
        deletes_wait: true,
        feed_after_look: true,
        window_from_change: true,
        look_after_insert: true,
        look_after_replace: true,
        look_after_equal: true,
        tombstone_first: true,
        row_after_tombstone: true,
        leftovers_go: true,
        announcement: true,
        freshness: true,
        lifting: true,
        lifts_own_only: true,
        lifts_rise: true,
        one_attempt: true,
    };
}

/// What may fail. A run has one fault at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Faults {
    /// Nothing.
    #[default]
    None,
    /// A writer dies between its two steps.
    WriterCrash,
    /// A daemon dies in mid-delivery, or gives up what it is at.
    DaemonCrash,
    /// The outcome of a request is unknown: it takes effect at once, later, or never.
    LostReply,
}

/// How finely requests are cut into steps, and which states are told apart.
#[derive(Clone, Copy, Debug)]
pub struct Grain {
    /// Row, tombstone and feed are read in three steps; else a look is one.
    pub look: bool,
    /// Raising a tombstone at a destination is a step after reading what stands there; else the same.
    pub raise: bool,
    /// Deleting the records is a step after the last delivery; else the same.
    pub end: bool,
    /// Destinations are served in any order; else in theirs.
    pub any_order: bool,
    /// A daemon looks again and again; else only where that may end a record, or where some destination differs.
    pub idle_looks: bool,
    /// The daemons of a region are told apart; else two states that differ only in which of them does what are one.
    pub named_daemons: bool,
}

impl Grain {
    /// Every request a step, nothing left out.
    pub const FINEST: Grain =
        Grain { look: true, raise: true, end: true, any_order: true, idle_looks: true, named_daemons: true };
    /// Every request a step; looks that change nothing and twin states are left out.
    pub const FINE: Grain = Grain { idle_looks: false, named_daemons: false, ..Self::FINEST };
    /// As few steps as there can be: for large configurations.
    pub const COARSE: Grain =
        Grain { look: false, raise: false, end: false, any_order: false, idle_looks: false, named_daemons: false };
    /// Few steps and all names: for short stories.
    pub const STORY: Grain = Grain { named_daemons: true, ..Self::COARSE };
}

pub(crate) const REGIONS: usize = 3;
pub(crate) const DAEMONS: usize = 4;
pub(crate) const WRITES: usize = 6;

/// A model, of one row.
#[derive(Clone, Debug)]
pub struct Protocol {
    /// How many regions there are: two or three.
    pub regions: u8,
    /// The region of each daemon, at most four.
    pub daemons: Vec<u8>,
    /// What the writers do, six writes at most: each is explored.
    pub scenarios: Vec<Vec<Write>>,
    /// Which clauses hold.
    pub rules: Rules,
    /// What may fail.
    pub faults: Faults,
    /// How finely steps are cut.
    pub grain: Grain,
}

impl Protocol {
    /// So many regions with so many daemons each; all rules, no faults, the fine grain.
    pub fn new(regions: u8, daemons_each: u8, scenarios: Vec<Vec<Write>>) -> Self {
        let daemons = (0..daemons_each).flat_map(|_| 0..regions).collect();
        Self { regions, daemons, scenarios, rules: Rules::ALL, faults: Faults::None, grain: Grain::FINE }
    }

    /// The same with something that may fail.
    #[must_use]
    pub fn with_faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// The same cut otherwise.
    #[must_use]
    pub fn with_grain(mut self, grain: Grain) -> Self {
        self.grain = grain;
        self
    }

    /// The same with other rules.
    #[must_use]
    pub fn with_rules(mut self, change: impl FnOnce(&mut Rules)) -> Self {
        change(&mut self.rules);
        self
    }
}
