//! What a daemon holds the roles to be: the highest of all copies that it has read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Assignment, Cut, FileRoles, Mark, Marks, Moving, Role, RolesRow, is_barred};
use crate::closed_list;
use crate::model::Region;
use crate::planted::{Bug, planted};

closed_list! {
    /// Whether applications may write in a region, and why not: what `/health/write` answers by.
    pub enum WriteHealth {
        Serving = "serving",
            "the region is a writer",
            "none";
        NotWriter = "not-writer",
            "the region is a replica or a standby",
            "none; `tablerelay failover` makes it a writer";
        Unconfirmed = "unconfirmed",
            "the daemon has just started and has not asked the other regions for the roles yet",
            "none: it takes no more than a few seconds once the region's own storage answers";
        Moving = "moving",
            "a planned failover is taking the role away",
            "none: it ends by itself, in one way or the other";
        CutOff = "cut-off",
            "a drill has cut the region off: `/health/read` answers 503 too",
            "none: it ends with the drill, and at its deadline at the latest";
        Unheard = "unheard",
            "the region's own copy of the roles cannot be read, so that a failover may have passed unheard",
            "check the region's first account, which holds RelayControl";
    }
}

/// What a daemon says that it goes by, in the row of its lease: by that a failover knows that it was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obeyed {
    /// The roles.
    pub mark: Mark,
    /// The planned failover for which the region takes no more writes.
    pub moving: Option<String>,
    /// The drill for which it takes a region for cut off.
    pub cut: Option<String>,
}

impl Obeyed {
    /// As text.
    pub fn encode(&self) -> String {
        let Self { mark, moving, cut } = self;
        let text = |id: &Option<String>| id.clone().unwrap_or_default();
        format!("{mark}/{}/{}", text(moving), text(cut)).trim_end_matches('/').to_owned()
    }

    /// Reads it back.
    pub fn decode(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let mark = Mark::parse(parts.next()?)?;
        let mut id = || parts.next().filter(|id| !id.is_empty()).map(str::to_owned);
        Some(Self { mark, moving: id(), cut: id() })
    }
}

/// What was found where a region keeps its copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A copy.
    Row(Box<RolesRow>),
    /// None: no daemon of the region has run yet, or its store is new.
    Nothing,
    /// Something that does not read as one. It answers, and tells nothing.
    Unreadable,
}

/// What a daemon knows of one region's copy.
#[derive(Debug, Clone, Default)]
struct Copy {
    answered: bool,
    /// When the last good reading began.
    heard: Option<Instant>,
    mark: Option<Mark>,
}

/// What a daemon holds the roles to be.
///
/// What is in force only ever rises. Where nothing was read anywhere it is what the file gives. It is *confirmed* when the own
/// copy and that of every other region was asked for once, or when those that could be were and the time for that was up:
/// before, a region that comes back would act by what was in force when it went.
#[derive(Debug)]
pub struct Presence {
    region: Region,
    file: FileRoles,
    known: Option<Arc<Assignment>>,
    first: Arc<Assignment>,
    copies: BTreeMap<Region, Copy>,
    /// What stands in the own copy beside the roles.
    moving: Option<(Mark, Moving)>,
    cut: Option<Cut>,
    /// What regions remember of others that were taken out.
    marks: BTreeMap<Region, Marks>,
    waited: bool,
    confirmed: bool,
}

impl Presence {
    /// A daemon of `region` that has read nothing.
    pub fn new(region: Region, file: FileRoles) -> Self {
        let first = Arc::new(Assignment::first(&file));
        let regions = file.roles().keys().cloned().chain([region.clone()]);
        let copies = regions.map(|region| (region, Copy::default())).collect();
        let (marks, waited, confirmed) = (BTreeMap::new(), false, false);
        Self { region, file, known: None, first, copies, moving: None, cut: None, marks, waited, confirmed }
    }

    /// The daemon's region.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// The roles that the file gives.
    pub fn file(&self) -> &FileRoles {
        &self.file
    }

    /// What is in force.
    pub fn assignment(&self) -> &Arc<Assignment> {
        self.known.as_ref().unwrap_or(&self.first)
    }

    /// What it says that it goes by.
    pub fn obeyed(&self) -> Obeyed {
        Obeyed {
            mark: self.assignment().mark.clone(),
            moving: self.moving().map(|moving| moving.id.clone()),
            cut: self.cut.as_ref().map(|cut| cut.id.clone()),
        }
    }

    /// Takes in a reading that began at `began`. Says whether other roles are in force since.
    pub fn read(&mut self, region: &Region, began: Instant, found: Found) -> bool {
        let copy = self.copies.entry(region.clone()).or_default();
        copy.answered = true;
        let row = match found {
            Found::Unreadable => None,
            Found::Nothing => {
                (copy.heard, copy.mark) = (Some(began), None);
                None
            }
            Found::Row(row) => {
                (copy.heard, copy.mark) = (Some(began), Some(row.assignment.mark.clone()));
                Some(*row)
            }
        };
        if *region == self.region {
            let of = |row: &RolesRow| Some((row.assignment.mark.clone(), row.moving.clone()?));
            self.moving = row.as_ref().and_then(of);
            self.cut_is(row.as_ref().and_then(|row| row.cut.clone()));
        }
        let higher = |row: &RolesRow| self.known.as_ref().is_none_or(|known| row.assignment.mark > known.mark);
        let before = self.assignment().mark.clone();
        if let Some(row) = row.filter(higher) {
            self.known = Some(Arc::new(row.assignment));
        }
        self.confirm();
        self.assignment().mark != before
    }

    /// What stands in the own copy of a drill. A region that was cut off comes back like one that was down: it has heard nothing
    /// of the others until it has asked them anew.
    fn cut_is(&mut self, cut: Option<Cut>) {
        let own = |cut: &Option<Cut>| cut.as_ref().is_some_and(|cut| cut.region == self.region);
        if own(&self.cut) && !own(&cut) {
            let others = self.copies.iter_mut().filter(|(region, _)| **region != self.region);
            others.for_each(|(_, copy)| *copy = Copy::default());
            (self.waited, self.confirmed) = (false, false);
        }
        self.cut = cut;
    }

    /// Takes in what a region remembers of regions that were taken out.
    pub fn remember(&mut self, region: &Region, marks: Marks) {
        self.marks.insert(region.clone(), marks);
    }

    /// Of this region and another one, the one that has to come back empty first.
    pub fn barred<'a>(&'a self, other: &'a Region) -> Option<&'a Region> {
        [&self.region, other].into_iter().find(|region| self.is_barred(region))
    }

    /// Whether a region has to come back empty first.
    pub fn is_barred(&self, region: &Region) -> bool {
        is_barred(region, &self.marks)
    }

    /// The time to ask others at the start is up. Says who has not answered.
    pub fn waited(&mut self) -> Vec<Region> {
        self.waited = true;
        self.confirm();
        let silent = self.copies.iter().filter(|(_, copy)| !copy.answered);
        silent.map(|(region, _)| region.clone()).collect()
    }

    fn confirm(&mut self) {
        let own = self.copies.get(&self.region).is_some_and(|copy| copy.answered);
        self.confirmed |= own && (self.waited || self.copies.values().all(|copy| copy.answered));
    }

    /// Whether what is in force was confirmed once.
    pub fn is_confirmed(&self) -> bool {
        self.confirmed
    }

    /// When the last good reading of a region's copy began.
    pub fn heard(&self, region: &Region) -> Option<Instant> {
        self.copies.get(region)?.heard
    }

    /// Whether a region's copy, as it was read last, is not what is in force.
    pub fn is_behind(&self, region: &Region) -> bool {
        let copy = self.copies.get(region).filter(|copy| copy.heard.is_some());
        copy.is_some_and(|copy| copy.mark.as_ref().is_none_or(|mark| *mark < self.assignment().mark))
    }

    /// The planned failover for which this region takes no more writes. It ends with the roles that it began under.
    pub fn moving(&self) -> Option<&Moving> {
        let (mark, moving) = self.moving.as_ref()?;
        (*mark == self.assignment().mark).then_some(moving)
    }

    /// The drill that cuts a region off, as the own copy tells of it; none where that could not be read for as long as `stale`.
    pub fn cut(&self, now: Instant, stale: Duration) -> Option<&Cut> {
        self.cut.as_ref().filter(|_| self.hears_itself(now, stale))
    }

    fn hears_itself(&self, now: Instant, stale: Duration) -> bool {
        self.heard(&self.region).is_some_and(|heard| now.saturating_duration_since(heard) <= stale)
    }

    /// The role of a region.
    pub fn role_of(&self, region: &Region) -> Role {
        self.assignment().role_of(region, &self.file)
    }

    /// Whether applications may write here at `now`, where the own copy may be as old as `stale`.
    pub fn write_health(&self, now: Instant, stale: Duration) -> WriteHealth {
        if self.cut(now, stale).is_some_and(|cut| cut.region == self.region) {
            WriteHealth::CutOff
        } else if !self.confirmed && !planted(Bug::EarlyServing) {
            WriteHealth::Unconfirmed
        } else if self.role_of(&self.region) != Role::Writer {
            WriteHealth::NotWriter
        } else if self.moving().is_some() {
            WriteHealth::Moving
        } else if !self.hears_itself(now, stale) {
            WriteHealth::Unheard
        } else {
            WriteHealth::Serving
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Time;
    use proptest::prelude::*;

    const STALE: Duration = Duration::from_secs(30);
    const NAMES: [&str; 3] = ["east", "north", "west"];

    fn region(n: usize) -> Region {
        Region::new(NAMES[n]).unwrap()
    }

    fn file() -> FileRoles {
        let roles = [Role::Replica, Role::Standby, Role::Writer];
        FileRoles::new((0..3).map(|n| (region(n), roles[n])).collect())
    }

    /// The roles with the writer at `n`, moved there at some epoch.
    fn at(n: usize, epoch: u64, id: u64) -> Assignment {
        let role = |m| if m == n { Role::Writer } else { Role::Standby };
        Assignment {
            mark: Mark { epoch, id: format!("{id:016x}") },
            roles: (0..3).map(|m| (region(m), role(m))).collect(),
            ..Assignment::first(&file())
        }
    }

    fn row(assignment: Assignment) -> Found {
        Found::Row(Box::new(RolesRow::still(assignment)))
    }

    fn west() -> Presence {
        Presence::new(region(2), file())
    }

    #[test]
    fn a_region_that_comes_back_does_not_serve_before_it_has_asked_the_others() {
        let (mut west, now) = (west(), Instant::now());
        assert_eq!(west.write_health(now, STALE), WriteHealth::Unconfirmed);
        west.read(&region(2), now, row(at(2, 3, 0)));
        west.read(&region(0), now, Found::Nothing);
        assert_eq!(west.write_health(now, STALE), WriteHealth::Unconfirmed);
        assert!(west.read(&region(1), now, row(at(1, 4, 0))));
        assert_eq!((west.is_confirmed(), west.write_health(now, STALE)), (true, WriteHealth::NotWriter));
        assert!(west.is_behind(&region(2)) && west.is_behind(&region(0)) && !west.is_behind(&region(1)));
    }

    #[test]
    fn a_region_that_nobody_answers_keeps_its_own_role_when_the_time_is_up() {
        let (mut west, now) = (west(), Instant::now());
        assert_eq!(west.waited().len(), 3);
        assert!(!west.is_confirmed(), "not before its own storage answers");
        assert!(west.read(&region(2), now, row(at(2, 3, 0))), "other roles than those of the file");
        assert_eq!(west.write_health(now, STALE), WriteHealth::Serving);
        assert_eq!(west.write_health(now + STALE * 2, STALE), WriteHealth::Unheard);
        west.read(&region(2), now + STALE * 2, Found::Unreadable);
        assert_eq!(west.write_health(now + STALE * 2, STALE), WriteHealth::Unheard);
    }

    #[test]
    fn a_planned_failover_counts_in_its_own_region_and_under_its_own_roles_alone() {
        let (mut west, now) = (west(), Instant::now());
        west.waited();
        let moving = Moving::new(region(1), Time::from_unix_seconds(100), String::new(), 7);
        let with =
            |assignment| Found::Row(Box::new(RolesRow { moving: Some(moving.clone()), ..RolesRow::still(assignment) }));
        west.read(&region(2), now, row(at(2, 3, 0)));
        west.read(&region(1), now, with(at(2, 3, 0)));
        assert_eq!(west.write_health(now, STALE), WriteHealth::Serving);
        assert!(!west.read(&region(2), now, with(at(2, 3, 0))), "the roles are the same");
        assert_eq!(west.write_health(now, STALE), WriteHealth::Moving);
        let said = west.obeyed();
        assert_eq!((said.moving.as_deref(), Obeyed::decode(&said.encode())), (Some(&*moving.id), Some(said.clone())));
        west.read(&region(1), now, row(at(2, 4, 0)));
        assert_eq!(west.write_health(now, STALE), WriteHealth::Serving, "somebody moved the roles over its head");
        assert_eq!(west.obeyed().moving, None);
    }

    #[test]
    fn a_region_that_was_cut_off_comes_back_as_if_it_had_been_down_and_others_go_on() {
        let now = Instant::now();
        let cut = Cut::new(region(2), Time::from_unix_seconds(100), String::new(), 9);
        let with =
            |assignment| Found::Row(Box::new(RolesRow { cut: Some(cut.clone()), ..RolesRow::still(assignment) }));
        let (mut west, mut north) = (west(), Presence::new(region(1), file()));
        for presence in [&mut west, &mut north] {
            for n in 0..3 {
                presence.read(&region(n), now, row(at(2, 3, 0)));
            }
            assert!(presence.is_confirmed());
            let own = presence.region().clone();
            presence.read(&own, now, with(at(2, 3, 0)));
            assert!(presence.cut(now, STALE).is_some() && presence.cut(now + STALE * 2, STALE).is_none());
            let said = presence.obeyed();
            assert_eq!((said.cut.as_ref(), Obeyed::decode(&said.encode())), (Some(&cut.id), Some(said.clone())));
        }
        assert_eq!(north.write_health(now, STALE), WriteHealth::NotWriter);
        assert_eq!(west.write_health(now, STALE), WriteHealth::CutOff);
        north.read(&region(1), now, row(at(1, 4, 0)));
        assert!(north.is_confirmed() && north.heard(&region(2)).is_some());
        assert_eq!(north.write_health(now, STALE), WriteHealth::Serving);
        west.read(&region(2), now, row(at(2, 3, 0)));
        assert_eq!((west.write_health(now, STALE), west.heard(&region(1))), (WriteHealth::Unconfirmed, None));
        west.read(&region(0), now, row(at(2, 3, 0)));
        assert!(!west.is_confirmed());
        west.read(&region(1), now, row(at(1, 4, 0)));
        assert_eq!((west.is_confirmed(), west.write_health(now, STALE)), (true, WriteHealth::NotWriter));
    }

    proptest! {
        /// In whatever order copies are read, and however often, the highest is in force, and it never goes down.
        #[test]
        fn the_highest_copy_is_in_force_in_any_order(copies in prop::collection::vec((0usize..3, 0usize..3, 1u64..5, 0u64..3), 1..20)) {
            let (mut west, now) = (west(), Instant::now());
            let mut last = None;
            for (of, writer, epoch, id) in &copies {
                west.read(&region(*of), now, row(at(*writer, *epoch, *id)));
                let mark = Some(west.assignment().mark.clone());
                prop_assert!(mark >= last);
                last = mark;
            }
            let highest = copies.iter().map(|(_, _, epoch, id)| at(0, *epoch, *id).mark).max();
            prop_assert_eq!(last, highest);
        }
    }

    #[test]
    fn words_on_writing_are_a_closed_list() {
        crate::model::assert_well_formed::<WriteHealth>();
    }
}
