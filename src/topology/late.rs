//! What becomes of what is written in a region that is no writer any more.

use super::{Assignment, FileRoles, Role};
use crate::closed_list;
use crate::model::Region;

closed_list! {
    /// What becomes of late writes: of what applications wrote in a region while it was no writer.
    pub enum LateWrites {
        Merge = "merge",
            "they are delivered like any other write: the highest version of a row wins everywhere, and what loses is in the conflict journal",
            "none";
        Journal = "journal",
            "they are not delivered: each goes to the conflict journal for a person, and the row of the current writer is lifted above it",
            "none";
    }
}

impl Assignment {
    /// The writer that has the word on what `region` issued, where `region` itself is none: what this writer does not have of it
    /// is late. Where several regions are writers it is the one that the last move made one, else the first by name: all
    /// daemons ask the same.
    pub fn writer_over(&self, region: &Region, file: &FileRoles) -> Option<Region> {
        if self.role_of(region, file) == Role::Writer {
            return None;
        }
        let mut writers = self.writers(file);
        let moved = writers.iter().position(|writer| Some(writer) == self.to.as_ref());
        (!writers.is_empty()).then(|| writers.swap_remove(moved.unwrap_or(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{MoveKind, plan_move};
    use Role::{Replica, Standby, Writer};
    use proptest::prelude::*;

    const NAMES: [&str; 4] = ["east", "north", "south", "west"];

    fn region(n: usize) -> Region {
        Region::new(NAMES[n]).unwrap()
    }

    fn file(roles: [Role; 4]) -> FileRoles {
        FileRoles::new(roles.into_iter().enumerate().map(|(n, role)| (region(n), role)).collect())
    }

    #[test]
    fn policies_are_a_closed_list() {
        crate::model::assert_well_formed::<LateWrites>();
    }

    #[test]
    fn a_writer_has_the_word_on_its_own_and_the_target_of_the_last_move_on_that_of_others() {
        let file = file([Writer; 4]);
        let begun = Assignment::first(&file);
        assert!((0..4).all(|n| begun.writer_over(&region(n), &file).is_none()), "in multi-active nothing is late");
        let done = plan_move(&file, &begun, &region(3), Some(&region(1)), MoveKind::Forced).unwrap();
        let moved = Assignment { roles: done.roles, to: Some(done.to), from: done.from, ..begun };
        assert_eq!(moved.writer_over(&region(1), &file), Some(region(3)));
        assert_eq!(moved.writer_over(&region(0), &file), None);
    }

    proptest! {
        /// Whatever was moved: exactly the regions that are no writers have somebody over them, and that is a writer, the same
        /// for all.
        #[test]
        fn whoever_is_no_writer_has_one_over_it(shape in 0usize..3, moves in prop::collection::vec((0usize..4, prop::option::of(0usize..4)), 0..6)) {
            let file = file([[Writer, Standby, Standby, Replica], [Writer, Replica, Replica, Standby], [Writer; 4]][shape]);
            let mut now = Assignment::first(&file);
            for (to, from) in moves {
                let Ok(done) = plan_move(&file, &now, &region(to), from.map(region).as_ref(), MoveKind::Forced) else { continue };
                now = Assignment { mark: now.mark.next(1), roles: done.roles, to: Some(done.to), from: done.from, ..now };
            }
            let writers = now.writers(&file);
            let over: Vec<_> = (0..4).map(region).filter_map(|region| {
                let over = now.writer_over(&region, &file);
                assert_eq!(over.is_none(), writers.contains(&region));
                over
            }).collect();
            prop_assert!(over.iter().all(|writer| writers.contains(writer) && *writer == over[0]));
        }
    }
}
