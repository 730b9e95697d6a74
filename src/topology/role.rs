//! The role of a region.

use crate::closed_list;

closed_list! {
    /// What a region is for. Every region's daemon tails its feed, whatever the role.
    pub enum Role {
        Writer = "writer",
            "applications write here; `/health/write` answers 200",
            "none";
        Replica = "replica",
            "applications read here, and write elsewhere",
            "none";
        Standby = "standby",
            "kept equal for a failover; serves nobody until then",
            "none";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_a_closed_list() {
        crate::model::assert_well_formed::<Role>();
    }
}
