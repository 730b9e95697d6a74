//! What becomes of what is written in a region that is no writer any more.

use crate::closed_list;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_a_closed_list() {
        crate::model::assert_well_formed::<LateWrites>();
    }
}
