//! How the roles of all regions go together.

use std::collections::BTreeMap;

use super::Role;
use crate::closed_list;
use crate::model::Region;

closed_list! {
    /// How the roles of all regions go together. The configuration says it; a failover changes who has which role and never
    /// this.
    pub enum Topology {
        ActivePassive = "active-passive",
            "one region is a writer, every other a standby",
            "none";
        ActiveActive = "active-active",
            "one region is a writer, others are replicas, a standby is kept for a failover",
            "none";
        MultiActive = "multi-active",
            "every region is a writer",
            "none";
    }
}

/// Roles that do not go together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Contradiction {
    /// Nobody may write.
    #[error("no region is a writer; at least one should have role = \"writer\"")]
    NoWriter,
    /// Several, but not all, may write: nobody could say whose place a failover takes.
    #[error(
        "{writers} are writers beside {others}; there should be one writer with replicas and standbys, or every region \
         should be one (multi-active)"
    )]
    WritersAmongOthers {
        /// The writers.
        writers: String,
        /// Those that are none.
        others: String,
    },
}

/// The roles that the configuration gives: the first ones, and the word on what kind of topology it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRoles {
    roles: BTreeMap<Region, Role>,
    topology: Topology,
}

impl FileRoles {
    /// Takes the roles of all regions as they are.
    pub fn new(roles: BTreeMap<Region, Role>) -> Self {
        let any = |role| roles.values().any(|each| *each == role);
        let topology = match (any(Role::Replica), any(Role::Standby)) {
            (false, false) => Topology::MultiActive,
            (false, true) => Topology::ActivePassive,
            (true, _) => Topology::ActiveActive,
        };
        Self { roles, topology }
    }

    /// Every region a writer.
    pub fn multi_active(regions: impl IntoIterator<Item = Region>) -> Self {
        Self::new(regions.into_iter().map(|region| (region, Role::Writer)).collect())
    }

    /// What kind of topology it is.
    pub fn topology(&self) -> Topology {
        self.topology
    }

    /// The roles as the file gives them.
    pub fn roles(&self) -> &BTreeMap<Region, Role> {
        &self.roles
    }

    /// Whether they go together.
    ///
    /// # Errors
    /// [`Contradiction`]: why they do not.
    pub fn check(&self) -> Result<(), Contradiction> {
        let named = |writers| {
            let regions = self.roles.iter().filter(|(_, role)| (**role == Role::Writer) == writers);
            regions.map(|(region, _)| region.as_str()).collect::<Vec<_>>()
        };
        let (writers, others) = (named(true), named(false));
        match (writers.len(), others.len()) {
            (0, _) => Err(Contradiction::NoWriter),
            (1, _) | (_, 0) => Ok(()),
            _ => Err(Contradiction::WritersAmongOthers { writers: writers.join(", "), others: others.join(", ") }),
        }
    }

    /// What is allowed and worth a word.
    pub fn warning(&self) -> Option<&'static str> {
        let standby = self.roles.values().any(|role| *role == Role::Standby);
        (self.topology == Topology::ActiveActive && !standby)
            .then_some("no region is a standby, so a failover has to make one of the replicas the writer")
    }

    /// The role of a region that the roles in force do not name, since it was added after they were given. Where one region
    /// alone writes, a newcomer is not a second writer, whatever the file calls it: a failover makes it one.
    pub(super) fn of_newcomer(&self, region: &Region) -> Role {
        match (self.topology, self.roles.get(region)) {
            (Topology::MultiActive, _) => Role::Writer,
            (_, Some(Role::Standby)) => Role::Standby,
            _ => Role::Replica,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Role::{Replica, Standby, Writer};

    fn of(roles: &[Role]) -> FileRoles {
        let names = ["west", "north", "east"];
        let named = names.iter().zip(roles).map(|(name, role)| (Region::new(name).unwrap(), *role));
        FileRoles::new(named.collect())
    }

    #[test]
    fn the_three_topologies_are_told_apart() {
        let topologies = [
            (&[Writer, Standby][..], Topology::ActivePassive),
            (&[Writer, Standby, Standby], Topology::ActivePassive),
            (&[Writer, Replica], Topology::ActiveActive),
            (&[Writer, Replica, Standby], Topology::ActiveActive),
            (&[Writer, Writer, Writer], Topology::MultiActive),
            (&[Writer], Topology::MultiActive),
        ];
        for (roles, topology) in topologies {
            assert_eq!((of(roles).topology(), of(roles).check()), (topology, Ok(())), "{roles:?}");
        }
    }

    #[test]
    fn roles_that_do_not_go_together_are_refused_and_a_missing_standby_is_worth_a_word() {
        assert_eq!(of(&[Replica, Standby]).check(), Err(Contradiction::NoWriter));
        for others in [[Writer, Writer, Replica], [Writer, Writer, Standby]] {
            let why = of(&others).check().unwrap_err().to_string();
            assert!(why.contains("north, west are writers beside east"), "{why}");
        }
        let warned = |roles: &[Role]| of(roles).warning().is_some();
        assert!(warned(&[Writer, Replica]) && !warned(&[Writer, Replica, Standby]));
        assert!(!warned(&[Writer, Standby]) && !warned(&[Writer, Writer]) && !warned(&[Writer]));
    }

    #[test]
    fn a_newcomer_is_no_second_writer() {
        let new = Region::new("south").unwrap();
        assert_eq!(of(&[Writer, Standby]).of_newcomer(&new), Replica);
        assert_eq!(of(&[Writer, Standby]).of_newcomer(&Region::new("west").unwrap()), Replica);
        assert_eq!(of(&[Writer, Standby]).of_newcomer(&Region::new("north").unwrap()), Standby);
        assert_eq!(of(&[Writer, Writer]).of_newcomer(&new), Writer);
    }

    #[test]
    fn topologies_are_a_closed_list() {
        crate::model::assert_well_formed::<Topology>();
    }
}
