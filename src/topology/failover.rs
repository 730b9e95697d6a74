//! What a failover may do: which roles it moves in each topology, who may be its target, and when it comes too soon.
//!
//! Where one region alone writes, the writer and the target exchange their roles: so a failover back ends where it began.
//! In multi-active a region leaves the writers and becomes a replica; back, it joins them again.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::{Assignment, FileRoles, MoveKind, Role, Topology};
use crate::model::{Region, Time};

/// A move that the rules allow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Move {
    /// The region that gives its role up; `None` where nobody has to, since every region may write.
    pub from: Option<Region>,
    /// The region that is a writer afterwards.
    pub to: Region,
    /// The roles of all regions afterwards.
    pub roles: BTreeMap<Region, Role>,
}

/// A move that the rules refuse.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The target is not in the configuration.
    #[error("there is no region {region}; the configuration has {known}")]
    NoRegion {
        /// What was asked for.
        region: Region,
        /// Those that there are.
        known: String,
    },
    /// It is where it should go.
    #[error("{region} is the writer already")]
    WriterAlready {
        /// The target.
        region: Region,
    },
    /// Several regions could leave.
    #[error("{writers} are writers beside {to}; say with --from which of them is to leave")]
    WhichLeaves {
        /// The target.
        to: Region,
        /// The other writers.
        writers: String,
    },
    /// What is to leave has nothing to give up.
    #[error("{from} is no writer, so it has no role to give up; the writers are {writers}")]
    NoWriter {
        /// What was to leave.
        from: Region,
        /// Those that could.
        writers: String,
    },
    /// The writer is not in the configuration, so nothing can be asked of it.
    #[error(
        "{writer} is the writer by the roles in force, and this configuration lacks it; use the one that its daemons run by, or \
         --force where it is gone for good"
    )]
    UnknownWriter {
        /// The region.
        writer: Region,
    },
    /// The target serves readers, and another is kept for this.
    #[error("{to} is a replica, and {standbys} stands by for a failover; take that, or --force this one")]
    NotKeptForIt {
        /// The target.
        to: Region,
        /// The standbys.
        standbys: String,
    },
}

/// What a failover to `to` does to the roles in force. `from` says who is to leave where the rules leave a choice.
///
/// # Errors
/// [`Refusal`]: why it may not be.
pub fn plan_move(
    file: &FileRoles,
    now: &Assignment,
    to: &Region,
    from: Option<&Region>,
    kind: MoveKind,
) -> Result<Move, Refusal> {
    let roles = now.effective(file);
    let known = |region: &Region| roles.get(region).copied();
    for region in from.into_iter().chain([to]) {
        if known(region).is_none() {
            let known = joined(roles.keys());
            return Err(Refusal::NoRegion { region: region.clone(), known });
        }
    }
    let writers: Vec<&Region> = roles.iter().filter(|(_, role)| **role == Role::Writer).map(|(name, _)| name).collect();
    if let Some(from) = from.filter(|from| !writers.contains(from) || *from == to) {
        let others = joined(writers.iter().copied().filter(|writer| *writer != to));
        return Err(Refusal::NoWriter { from: from.clone(), writers: others });
    }
    let joins = known(to) != Some(Role::Writer);
    let others: Vec<&Region> = writers.iter().copied().filter(|writer| *writer != to).collect();
    let leaves = match (from, others.as_slice(), file.topology()) {
        (Some(from), ..) => Some(from),
        (None, _, Topology::MultiActive) if joins => None,
        (None, [], _) if !joins => return Err(Refusal::WriterAlready { region: to.clone() }),
        (None, [], _) => unknown_writer(now, file),
        (None, [only], _) => Some(*only),
        (None, several, _) => {
            return Err(Refusal::WhichLeaves { to: to.clone(), writers: joined(several.iter().copied()) });
        }
    };
    if let Some(writer) = leaves.filter(|region| known(region).is_none() && kind == MoveKind::Planned) {
        return Err(Refusal::UnknownWriter { writer: writer.clone() });
    }
    may_be_target(file, &roles, to, kind)?;
    let left = match (file.topology(), known(to)) {
        (Topology::MultiActive, _) | (_, None | Some(Role::Writer)) => Role::Replica,
        (_, Some(role)) => role,
    };
    let from = leaves.cloned();
    let mut after = roles;
    after.extend(from.clone().map(|from| (from, left)));
    after.insert(to.clone(), Role::Writer);
    Ok(Move { from, to: to.clone(), roles: after })
}

/// A writer by the roles in force that the configuration lacks.
fn unknown_writer<'a>(now: &'a Assignment, file: &FileRoles) -> Option<&'a Region> {
    let unknown = now.roles.iter().find(|(region, role)| **role == Role::Writer && !file.roles().contains_key(*region));
    unknown.map(|(region, _)| region)
}

/// A standby is kept for this. A replica serves readers: it is taken where the file calls it the writer (so it was once), where
/// there is no standby, or where somebody insists.
fn may_be_target(file: &FileRoles, roles: &BTreeMap<Region, Role>, to: &Region, kind: MoveKind) -> Result<(), Refusal> {
    let replica = roles.get(to) == Some(&Role::Replica);
    let at_home = file.roles().get(to) == Some(&Role::Writer);
    let standbys: Vec<&Region> =
        roles.iter().filter(|(_, role)| **role == Role::Standby).map(|(name, _)| name).collect();
    if !replica || at_home || standbys.is_empty() || kind == MoveKind::Forced {
        return Ok(());
    }
    Err(Refusal::NotKeptForIt { to: to.clone(), standbys: joined(standbys) })
}

/// The region that a failover takes in the place of a writer that is gone: a standby, which is kept for that, or another writer
/// where there is one, or a replica; of several the first by name. None for a region that is no writer.
pub fn stand_in(file: &FileRoles, now: &Assignment, region: &Region) -> Option<Region> {
    let roles = now.effective(file);
    if roles.get(region) != Some(&Role::Writer) {
        return None;
    }
    let first = |role| roles.iter().find(|(name, of)| **of == role && *name != region).map(|(name, _)| name.clone());
    [Role::Standby, Role::Writer, Role::Replica].into_iter().find_map(first)
}

fn joined<'a>(regions: impl IntoIterator<Item = &'a Region>) -> String {
    regions.into_iter().map(Region::as_str).collect::<Vec<_>>().join(", ")
}

/// How long it still is until a forced failover may follow the last move, where it is too soon now.
///
/// Two forced failovers in a row leave behind twice what was not delivered, and often the second undoes the first because two
/// people, or two scripts, see the same trouble. A planned one loses nothing and may come at any time.
pub fn too_soon(last: &Assignment, now: Time, cool_down: Duration) -> Option<Duration> {
    let over = last.at + cool_down;
    (last.kind != MoveKind::First && now < over).then(|| over.since(now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Role::{Replica, Standby, Writer};
    use proptest::prelude::*;

    const NAMES: [&str; 4] = ["east", "north", "south", "west"];

    fn region(n: usize) -> Region {
        Region::new(NAMES[n]).unwrap()
    }

    fn file(roles: &[Role]) -> FileRoles {
        FileRoles::new(roles.iter().enumerate().map(|(n, role)| (region(n), *role)).collect())
    }

    fn after(now: &Assignment, done: &Move, kind: MoveKind) -> Assignment {
        let Move { from, to, roles } = done.clone();
        Assignment { mark: now.mark.next(1), roles, from, to: Some(to), kind, ..now.clone() }
    }

    fn planned(file: &FileRoles, now: &Assignment, to: usize) -> Result<Move, Refusal> {
        plan_move(file, now, &region(to), None, MoveKind::Planned)
    }

    fn roles(done: &Move) -> Vec<Role> {
        done.roles.values().copied().collect()
    }

    #[test]
    fn the_writer_and_the_target_exchange_their_roles_and_back_it_ends_where_it_began() {
        for first in [vec![Writer, Standby], vec![Writer, Standby, Replica], vec![Writer, Standby, Standby]] {
            let file = file(&first);
            let begun = Assignment::first(&file);
            let there = planned(&file, &begun, 1).unwrap();
            assert_eq!((roles(&there)[..2].to_vec(), &there.from), (vec![Standby, Writer], &Some(region(0))));
            assert_eq!(roles(&there)[2..], first[2..]);
            let back = planned(&file, &after(&begun, &there, MoveKind::Planned), 0).unwrap();
            assert_eq!(roles(&back), first);
        }
    }

    #[test]
    fn a_replica_is_a_target_where_it_must_be() {
        let with = file(&[Writer, Standby, Replica]);
        let begun = Assignment::first(&with);
        let refused = planned(&with, &begun, 2).unwrap_err();
        assert!(refused.to_string().contains("south is a replica, and north stands by"), "{refused}");
        let forced = plan_move(&with, &begun, &region(2), None, MoveKind::Forced).unwrap();
        assert_eq!(roles(&forced), [Replica, Standby, Writer]);
        let back = planned(&with, &after(&begun, &forced, MoveKind::Forced), 0).unwrap();
        assert_eq!(roles(&back), [Writer, Standby, Replica], "home again");
        let without = file(&[Writer, Replica, Replica]);
        assert_eq!(roles(&planned(&without, &Assignment::first(&without), 1).unwrap()), [Replica, Writer, Replica]);
    }

    #[test]
    fn in_multi_active_a_region_leaves_the_writers_and_joins_them_again() {
        let two = file(&[Writer, Writer]);
        let begun = Assignment::first(&two);
        let there = planned(&two, &begun, 1).unwrap();
        assert_eq!((roles(&there), &there.from), (vec![Replica, Writer], &Some(region(0))));
        let gone = after(&begun, &there, MoveKind::Planned);
        let back = planned(&two, &gone, 0).unwrap();
        assert_eq!((roles(&back), &back.from), (vec![Writer, Writer], &None));
        assert!(matches!(planned(&two, &gone, 1), Err(Refusal::WriterAlready { .. })));

        let three = file(&[Writer, Writer, Writer]);
        let begun = Assignment::first(&three);
        let refused = planned(&three, &begun, 1).unwrap_err().to_string();
        assert!(refused.contains("east, south are writers beside north"), "{refused}");
        let there = plan_move(&three, &begun, &region(1), Some(&region(2)), MoveKind::Planned).unwrap();
        assert_eq!(roles(&there), [Writer, Writer, Replica]);
        let gone = after(&begun, &there, MoveKind::Planned);
        let refused = plan_move(&three, &gone, &region(1), Some(&region(2)), MoveKind::Planned).unwrap_err();
        assert!(matches!(refused, Refusal::NoWriter { .. }), "{refused}");
        let swapped = plan_move(&three, &gone, &region(2), Some(&region(0)), MoveKind::Planned).unwrap();
        assert_eq!(roles(&swapped), [Replica, Writer, Writer]);
    }

    #[test]
    fn what_is_not_there_or_there_already_is_refused_by_name() {
        let two = file(&[Writer, Standby]);
        let begun = Assignment::first(&two);
        let refused = planned(&two, &begun, 3).unwrap_err().to_string();
        assert!(refused.contains("no region west; the configuration has east, north"), "{refused}");
        assert!(matches!(planned(&two, &begun, 0), Err(Refusal::WriterAlready { .. })));
        // The writer was taken out of the configuration: nothing can be asked of it, and it is told when it is heard of again.
        let rest = FileRoles::new([(region(1), Standby), (region(2), Replica)].into());
        let refused = planned(&rest, &begun, 1).unwrap_err().to_string();
        assert!(
            refused.starts_with("east is the writer by the roles in force, and this configuration lacks"),
            "{refused}"
        );
        let done = plan_move(&rest, &begun, &region(1), None, MoveKind::Forced).unwrap();
        assert_eq!((&done.from, roles(&done)), (&Some(region(0)), vec![Standby, Writer, Replica]));
        // Once it has given its role up, nobody misses it.
        let gone = after(&begun, &done, MoveKind::Forced);
        assert_eq!(roles(&planned(&rest, &gone, 2).unwrap()), [Replica, Writer]);
    }

    proptest! {
        /// Whatever is moved wherever: there is a writer, where one region alone writes there is exactly one, and it is the target.
        #[test]
        fn there_is_always_a_writer_and_never_one_too_many(shape in 0usize..4, moves in prop::collection::vec((0usize..4, prop::option::of(0usize..4), any::<bool>()), 1..12)) {
            let shapes = [[Writer, Standby, Standby, Standby], [Writer, Replica, Standby, Replica], [Writer, Replica, Replica, Replica], [Writer; 4]];
            let file = file(&shapes[shape]);
            let mut now = Assignment::first(&file);
            for (to, from, forced) in moves {
                let kind = if forced { MoveKind::Forced } else { MoveKind::Planned };
                let Ok(done) = plan_move(&file, &now, &region(to), from.map(region).as_ref(), kind) else { continue };
                now = after(&now, &done, kind);
                let writers = now.writers(&file);
                prop_assert!(writers.contains(&region(to)), "{:?}", done);
                prop_assert!(shape == 3 || writers.len() == 1, "{:?}", done);
                if shape < 2 {
                    let count = |role| now.roles.values().filter(|each| **each == role).count();
                    prop_assert_eq!(count(Standby), shapes[shape].iter().filter(|role| **role == Standby).count());
                }
            }
        }
    }

    #[test]
    fn a_forced_move_soon_after_another_is_too_soon() {
        let file = file(&[Writer, Standby]);
        let (begun, cool_down) = (Assignment::first(&file), Duration::from_secs(600));
        let at = Time::from_unix_seconds(1_000);
        assert_eq!(too_soon(&begun, at, cool_down), None, "nothing has moved yet");
        let moved = Assignment { kind: MoveKind::Planned, at, ..begun };
        assert_eq!(too_soon(&moved, Time::from_unix_seconds(1_100), cool_down), Some(Duration::from_secs(500)));
        assert_eq!(too_soon(&moved, Time::from_unix_seconds(1_600), cool_down), None);
    }
}
