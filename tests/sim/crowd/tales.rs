//! Tales: a few deeds, close together, on a row that nobody touches afterwards.
//!
//! What goes wrong with a row is hidden by whatever is written to it next. Where few rows are written again and again, only what
//! happens to the last writes of all is judged; in a history of tales every row is judged by what happened to it.

use std::time::Duration;

use super::{Crowd, Deed, raw};
use crate::dice::Dice;
use crate::shape::Focus;
use crate::world::World;

/// A deed of a tale: in which region, by which of its writers, and how long after the beginning.
type Part = (usize, usize, Deed, Duration);

impl Crowd {
    pub(super) fn tell_a_tale(&mut self, world: &World) {
        let id = world.row_of_tale(self.tales);
        self.tales += 1;
        for (region, writer, deed, after) in parts(world.shape.focus, &self.dice) {
            let mut work = self.work(&self.authors[2 * region + writer]);
            if world.shape.focus == Focus::Flaps {
                // Whoever writes at once is seen at once.
                work.window = Duration::ZERO;
            }
            let id = id.clone();
            self.at_work.spawn(async move {
                tokio::time::sleep(after).await;
                work.perform(deed, id).await;
            });
        }
        while self.at_work.try_join_next().is_some() {}
    }
}

/// How far a writer's clock is ahead, in ticks. Of two writers of the first region, one is ahead and one behind; or the deletes
/// are ahead of the puts that they meet.
pub fn skew(focus: Focus, region: usize, number: usize) -> i64 {
    let millis = match (focus, region, number) {
        (Focus::Twins | Focus::Halves | Focus::Flaps, _, 0) => 2_200,
        (Focus::Twins | Focus::Halves | Focus::Flaps, ..) => -2_200,
        // Further apart than the writes are.
        (Focus::Shared, _, 0) => 4_000,
        (Focus::Shared, ..) => -4_000,
        (Focus::Crossing | Focus::Orphans, 0, _) | (Focus::Refused, 1, _) => 1_500,
        _ => -1_500,
    };
    millis * 10_000
}

/// What happens in a tale.
fn parts(focus: Focus, dice: &Dice) -> Vec<Part> {
    let within = |most| dice.time(Duration::from_millis(most));
    let between = |from, until| Duration::from_millis(from) + within(until - from);
    let (put, delete, refused) = (raw::Deed::Put, raw::Deed::Delete, raw::Deed::RefusedDelete);
    let (put, delete, refused) = (Deed::Raw(put), Deed::Raw(delete), Deed::Raw(refused));
    let first = dice.below(2);
    match focus {
        // First by the one whose clock is ahead, then by the one whose clock is behind.
        Focus::Twins => vec![(0, 0, put, Duration::ZERO), (0, 1, put, within(300))],
        Focus::Halves | Focus::Flaps => vec![(0, 0, put, Duration::ZERO), (0, 1, put, within(3_000))],
        Focus::Crossing => vec![(1, first, put, Duration::ZERO), (0, first, delete, within(600))],
        // As the twins do, but the second when the first one's window is all but over.
        Focus::Shared => vec![(0, 0, put, Duration::ZERO), (0, 1, put, between(3_500, 4_800))],
        // By the one that tells nobody, then by one whose clock is behind.
        Focus::Orphans => vec![(0, first, put, Duration::ZERO), (1, first, put, within(400))],
        Focus::Refused => vec![
            (0, first, put, Duration::ZERO),
            (1, first, refused, between(800, 1_400)),
            (0, first, put, between(900, 1_700)),
            (0, first, put, between(1_800, 2_400)),
        ],
        _ => vec![],
    }
}
