//! What a writer does next.

use crate::runtime::Runtime;

/// One thing that a writer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// Inserts an order.
    Insert,
    /// Merges into an order of its own.
    Merge,
    /// Replaces an order of its own, on its ETag.
    Replace,
    /// Deletes an order of its own.
    Delete,
    /// Inserts an order with its lines, in one transaction.
    Transaction,
    /// Writes a hot row, whatever stands there.
    HotReplace,
    /// Merges into a hot row, whatever stands there.
    HotMerge,
    /// Reads a hot row and writes it back on its ETag.
    HotSwap,
    /// Deletes a hot row.
    HotDelete,
}

/// How often each is done.
const WEIGHTS: [(Act, u64); 9] = [
    (Act::Insert, 28),
    (Act::Merge, 15),
    (Act::Replace, 10),
    (Act::Delete, 8),
    (Act::Transaction, 6),
    (Act::HotReplace, 16),
    (Act::HotMerge, 10),
    (Act::HotSwap, 5),
    (Act::HotDelete, 2),
];

impl Act {
    /// Draws one by the weights.
    pub fn draw(runtime: &Runtime) -> Self {
        let mut roll = runtime.random() % WEIGHTS.iter().map(|(_, weight)| weight).sum::<u64>();
        for (act, weight) in WEIGHTS {
            match roll.checked_sub(weight) {
                Some(rest) => roll = rest,
                None => return act,
            }
        }
        Self::Insert
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Time;

    #[tokio::test]
    async fn everything_is_done_and_the_same_seed_does_the_same() {
        let draws = |seed| {
            let runtime = Runtime::simulated(Time::EPOCH, seed);
            (0..2_000).map(|_| Act::draw(&runtime)).collect::<Vec<_>>()
        };
        assert_eq!(draws(1), draws(1));
        assert_ne!(draws(1), draws(2));
        assert!(WEIGHTS.iter().all(|(act, _)| draws(1).contains(act)));
    }
}
