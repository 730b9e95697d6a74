//! The histories in which rows of a region move from account to account, and grow old.

use std::time::Duration;

use super::{Focus, Shape};
use crate::dice::Dice;
use crate::kinds::Kind;

/// Their seeds: those that leave the second number when divided by the first.
const REBALANCING: (u64, u64) = (14, 11);
/// And those of these in which rows have cold places, too.
const AGEING: (u64, u64) = (28, 25);

impl Shape {
    /// In about one history in twenty rows of a region move from account to account. Not where roles move, or where a row is touched but a few times;
    /// nor where requests are counted, or regions compared: those who compare go by routes that the daemon beside them reads. As where somebody
    /// moves in, no region is lost.
    pub(super) fn or_rebalancing(self, seed: u64) -> Self {
        let dice = Dice::seeded(seed ^ 0x726f_7574_6573);
        let counts = self.focus == Focus::Storm || self.limit.is_some() || self.scrubs.is_some() || self.moves_in;
        let told = self.focus == Focus::Failover || self.focus.is_told_in_tales();
        if seed % REBALANCING.0 != REBALANCING.1 || counts || told {
            return self;
        }
        let (region, mut accounts) = (dice.below(self.regions()), self.accounts);
        let ages = seed % AGEING.0 == AGEING.1;
        accounts[region] = 2 + dice.below(3);
        let first = 1 + dice.below(accounts[region] - 1);
        if ages {
            accounts[region] = accounts[region].max(3);
        }
        let first = first.min(accounts[region] - usize::from(ages));
        let mut kinds: Vec<Kind> = self.kinds.into_iter().filter(|kind| *kind != Kind::RegionLost).collect();
        if dice.chance(400) {
            kinds.push(Kind::RoutesUnread);
        }
        if dice.chance(500) {
            kinds.push(Kind::RoutesOutlived);
        }
        Self {
            accounts,
            window: Duration::from_secs(4),
            steps: 60 + dice.below(40),
            pause: Duration::from_millis(dice.pick(&[300, 600, 1_200])),
            partitions: 3 + dice.below(5),
            rows: 1 + dice.below(2),
            deletes: 1 + dice.below(3),
            kinds,
            rebalances: Some((region, first)),
            ages,
            ..self
        }
    }

    /// The region whose rows have cold places, where one's have.
    pub fn cold_region(&self) -> Option<usize> {
        self.rebalances.filter(|_| self.ages).map(|(region, _)| region)
    }

    /// How many accounts of a region may be homes of rows: the last one is not, where it is a cold place.
    pub fn homes(&self, region: usize) -> usize {
        self.accounts[region] - usize::from(self.cold_region() == Some(region))
    }
}
