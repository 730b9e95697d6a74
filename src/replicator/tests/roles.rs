//! Roles, as the daemons of all regions hold and spread them.

use super::*;
use crate::stores::RegionStore;
use crate::topology::{Assignment, Member, MoveKind, Moving, Role, RolesRow, WriteHealth, plan_move};

impl World {
    /// East is the writer, north stands by, west serves readers.
    pub(super) async fn with_roles() -> Self {
        let mut world = Self::new(3).await;
        let roles = [Role::Writer, Role::Standby, Role::Replica];
        world.roles = NAMES.iter().zip(roles).map(|(name, role)| (Region::new(name).unwrap(), role)).collect();
        world
    }

    fn writing(&self, n: usize) -> WriteHealth {
        self.boards[n].roles().writing(self.runtime.instant())
    }

    async fn until_writing(&self, expected: &[WriteHealth]) {
        let deadline = self.runtime.instant() + Duration::from_secs(10);
        loop {
            let now: Vec<_> = (0..expected.len()).map(|n| self.writing(n)).collect();
            if now == expected {
                return;
            }
            assert!(self.runtime.instant() < deadline, "{now:?}, not {expected:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn copy(&self, n: usize) -> RolesCopy {
        read_roles(&self.regions[n]).await.unwrap()
    }

    async fn row(&self, n: usize) -> RolesRow {
        self.copy(n).await.row().expect("a copy").clone()
    }

    /// North takes the role over, as far as the copy in region `n` is concerned.
    pub(super) async fn moved(&self, n: usize, kind: MoveKind) -> Assignment {
        let (now, file) = (self.row(n).await.assignment, FileRoles::new(self.roles.clone()));
        let done = plan_move(&file, &now, &Region::new("north").unwrap(), None, kind).unwrap();
        let mark = now.mark.next(self.runtime.random());
        let assignment = Assignment {
            at: self.runtime.now(),
            mark,
            kind,
            roles: done.roles,
            from: done.from,
            to: Some(done.to),
            who: "ada".into(),
            ..now
        };
        self.write(&self.regions[n], &self.copy(n).await, RolesRow::still(assignment.clone())).await;
        assignment
    }

    async fn write(&self, store: &RegionStore, copy: &RolesCopy, row: RolesRow) {
        assert!(replace_roles(store, copy, &row).await.unwrap(), "nobody else writes it now");
    }

    pub(super) async fn until_spread(&self, assignment: &Assignment) {
        let deadline = self.runtime.instant() + Duration::from_secs(10);
        for (n, name) in NAMES.iter().enumerate().take(self.regions.len()) {
            while self.copy(n).await.row().map(|row| &row.assignment) != Some(assignment) {
                assert!(self.runtime.instant() < deadline, "{name} has {:?}", self.copy(n).await);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    /// The epochs that a region's trail tells of.
    fn trail(&self, n: usize) -> Vec<u64> {
        let rows = self.stores[n].snapshot(&SystemTable::Control.name());
        let rows = rows.iter().filter(|row| row.body.row().as_str().starts_with(RolesRow::TRAIL));
        rows.map(|row| RolesRow::decode(&row.body).unwrap().assignment.mark.epoch).collect()
    }
}

use WriteHealth::{NotWriter, Serving, Unconfirmed};

#[tokio::test(start_paused = true)]
async fn the_file_gives_the_first_roles_and_they_stand_in_every_region() {
    let mut world = World::with_roles().await;
    world.start(&Settings::default());
    assert_eq!(world.writing(0), Unconfirmed);
    world.until_writing(&[Serving, NotWriter, NotWriter]).await;
    let first = Assignment::first(&FileRoles::new(world.roles.clone()));
    world.until_spread(&first).await;
    assert_eq!([0, 1, 2].map(|n| world.trail(n)), [[1], [1], [1]]);
}

#[tokio::test(start_paused = true)]
async fn a_move_that_one_region_knows_of_is_obeyed_everywhere_and_replication_follows_it() {
    let mut world = World::with_roles().await;
    world.start(&Settings::default());
    world.until_writing(&[Serving, NotWriter, NotWriter]).await;
    world.until_spread(&Assignment::first(&FileRoles::new(world.roles.clone()))).await;
    // The command was cut off after its first write: the daemons do the rest.
    let began = world.runtime.instant();
    let moved = world.moved(1, MoveKind::Forced).await;
    world.until_writing(&[NotWriter, Serving, NotWriter]).await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    world.until_spread(&moved).await;
    assert_eq!([0, 1, 2].map(|n| world.trail(n)), [[1, 2], [1, 2], [1, 2]]);
    world.put(1, "p", "a", "north's").await;
    world.settle(Duration::from_secs(5)).await;
    world.assert_equal();
    assert_eq!(world.contents(2).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_planned_failover_is_acknowledged_at_once_and_expires_by_itself() {
    let mut world = World::with_roles().await;
    world.start(&Settings::default());
    world.until_writing(&[Serving, NotWriter, NotWriter]).await;
    world.until_spread(&Assignment::first(&FileRoles::new(world.roles.clone()))).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (north, deadline) = (Region::new("north").unwrap(), world.runtime.now() + Duration::from_secs(20));
    let moving = Moving::new(north, deadline, "ada".into(), world.runtime.random());
    let row = RolesRow { moving: Some(moving.clone()), ..world.row(0).await };
    world.write(&world.regions[0], &world.copy(0).await, row).await;
    let began = world.runtime.instant();
    let said = |world: &World| {
        let rows = world.stores[0].snapshot(&SystemTable::Control.name());
        let daemons = rows.iter().filter(|row| row.body.partition().as_str() == Member::PARTITION);
        let said: Vec<_> = daemons.map(|row| Member::decode(row).unwrap().obeyed.unwrap()).collect();
        said.iter().all(|said| said.moving.as_ref() == Some(&moving.id))
    };
    while !said(&world) {
        assert!(began.elapsed() < Duration::from_millis(1_200), "a poll and a write");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(world.writing(0), WriteHealth::Moving);
    // A command that wakes up when its time is over finds another ETag.
    let old = world.copy(0).await;
    world.until_writing(&[WriteHealth::Moving, NotWriter, NotWriter]).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    world.until_writing(&[Serving, NotWriter, NotWriter]).await;
    assert!(!replace_roles(&world.regions[0], &old, &world.row(0).await).await.unwrap());
    assert_eq!(world.row(0).await.moving, None);
}

#[tokio::test(start_paused = true)]
async fn a_region_that_comes_back_never_serves_under_the_roles_that_it_left_with() {
    let mut world = World::with_roles().await;
    world.start(&Settings::default());
    world.until_spread_first().await;
    world.stops[0].cancel();
    tokio::time::sleep(Duration::from_secs(10)).await;
    world.faults(0).cut(true);
    let moved = world.moved(1, MoveKind::Forced).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    world.faults(0).cut(false);
    let old = world.row(0).await;
    assert!(old.assignment.mark < moved.mark, "nobody could tell it");
    world.start_one(0, &Settings::default());
    let back = world.boards.last().unwrap().clone();
    while !back.snapshot().ready {
        assert_ne!(back.roles().writing(world.runtime.instant()), Serving);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!((back.roles().role(), back.roles().writer()), (Role::Standby, Some(Region::new("north").unwrap())));
    world.until_spread(&moved).await;
}

#[tokio::test(start_paused = true)]
async fn a_region_whose_peers_are_all_down_comes_up_with_its_own_role_and_learns_better_later() {
    let mut world = World::with_roles().await;
    world.start(&Settings::default());
    world.until_spread_first().await;
    for stop in &world.stops {
        stop.cancel();
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    let moved = world.moved(1, MoveKind::Forced).await;
    world.faults(1).cut(true);
    world.faults(2).cut(true);
    world.start_one(0, &Settings::default());
    let (back, began) = (world.boards.last().unwrap().clone(), world.runtime.instant());
    back.roles().until_confirmed().await;
    assert!((2..5).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    assert_eq!(back.roles().writing(world.runtime.instant()), Serving);
    world.faults(1).cut(false);
    while back.roles().writing(world.runtime.instant()) != NotWriter {
        assert!(began.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    world.faults(2).cut(false);
    world.until_spread(&moved).await;
}

impl World {
    pub(super) async fn until_spread_first(&self) {
        self.until_writing(&[Serving, NotWriter, NotWriter]).await;
        self.until_spread(&Assignment::first(&FileRoles::new(self.roles.clone()))).await;
    }
}
