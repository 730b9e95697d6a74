//! A region that a drill cuts off: nothing passes, and it comes back as one that was down.

use super::*;
use crate::settle::LinkState;
use crate::topology::{Cut, MoveKind, Role, RolesRow, WriteHealth};

const EAST: usize = 0;
const NORTH: usize = 1;
const WEST: usize = 2;

impl World {
    /// Says in the copies of all regions that `n` is cut off, for so many seconds.
    async fn cut_off(&self, n: usize, seconds: u64) {
        let deadline = self.runtime.now() + Duration::from_secs(seconds);
        let cut = Cut::new(self.regions[n].region().clone(), deadline, "ada".into(), 9);
        self.set_cut(Some(cut)).await;
        self.until("all take it for cut off", 30, |world| world.cut() == [true; 3]).await;
    }

    async fn set_cut(&self, cut: Option<Cut>) {
        for region in &self.regions {
            // A daemon may write its copy in between.
            while !replace_cut(region, &read_roles(region).await.unwrap(), cut.clone()).await.unwrap() {}
        }
    }

    fn cut(&self) -> Vec<bool> {
        let now = self.runtime.instant();
        self.boards.iter().map(|board| board.roles().status(now).cut.is_some()).collect()
    }

    fn health(&self, n: usize) -> WriteHealth {
        self.boards[n].roles().writing(self.runtime.instant())
    }

    fn state(&self, from: usize, to: usize) -> LinkState {
        let links = self.boards[from].snapshot().links;
        links.iter().find(|link| link.destination == *self.regions[to].region()).unwrap().state
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_passes_either_way_while_the_cut_lasts_and_all_of_it_does_afterwards() {
    let mut world = World::new(3).await;
    world.start(&Settings::default());
    tokio::time::sleep(Duration::from_secs(5)).await;
    world.cut_off(EAST, 40).await;
    assert_eq!([EAST, NORTH, WEST].map(|n| world.health(n)), [CutOff, Serving, Serving]);
    world.put(EAST, "p", "east's", "1").await;
    world.put(NORTH, "p", "north's", "1").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!([EAST, NORTH, WEST].map(|n| world.contents(n).len()), [1, 1, 1], "north and west go on");
    assert_ne!(world.contents(EAST), world.contents(NORTH));
    assert_eq!(world.contents(NORTH), world.contents(WEST));
    assert_eq!(world.state(NORTH, WEST), LinkState::Flowing);
    tokio::time::sleep(Duration::from_secs(15)).await;
    for (from, to) in [(EAST, NORTH), (EAST, WEST), (NORTH, EAST)] {
        assert_eq!(world.state(from, to), LinkState::Parked, "{from} to {to}");
    }
    assert_eq!(world.state(WEST, EAST), LinkState::BackingOff, "it has nothing to bring, and is not heard");
    let hints = |n: usize| world.stores[n].snapshot(&SystemTable::Backlog.name()).len();
    assert_eq!([EAST, NORTH].map(hints), [2, 1], "as for a region that is down");
    // Its deadline is all that ends it.
    world.until("the cut is over", 30, |world| world.cut() == [false; 3]).await;
    world.settle(Duration::from_secs(100)).await;
    world.until("all are equal", 30, |world| (1..3).all(|n| world.contents(n) == world.contents(0))).await;
    assert_eq!(world.contents(EAST).len(), 2);
    world
        .until("the cut stands nowhere any more", 30, |world| {
            let rows = world.stores.iter().flat_map(|store| store.snapshot(&SystemTable::Control.name()));
            rows.filter(|row| *row.body.row() == RolesRow::current()).all(|row| row.body.string("Cut").is_none())
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_region_that_was_cut_off_learns_of_the_higher_epoch_before_it_serves_or_sends_anything() {
    let mut world = World::with_roles().await;
    world.start(&Settings { late_writes: crate::topology::LateWrites::Journal, ..Settings::default() });
    world.until_spread_first().await;
    world.cut_off(EAST, 60).await;
    // It is not so long that the fence would hold anything back by itself.
    world.put(EAST, "p", "unsent", "1").await;
    let moved = world.moved(NORTH, MoveKind::Forced).await;
    world.until("north serves", 30, |world| world.health(NORTH) == Serving).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(world.health(EAST), CutOff);
    assert_eq!(world.boards[EAST].roles().role(), Role::Writer, "nobody could tell it");
    assert!(read_roles(&world.regions[WEST]).await.unwrap().row().unwrap().cut.is_some(), "a move leaves the cut");
    world.set_cut(None).await;
    world
        .until("east is back", 30, |world| {
            assert_ne!(world.health(EAST), Serving);
            assert!(world.contents(NORTH).is_empty(), "what it had not sent is late");
            world.health(EAST) == WriteHealth::NotWriter
        })
        .await;
    world.until_spread(&moved).await;
    world.settle(Duration::from_secs(200)).await;
    let trail = world.stores[EAST].snapshot(&SystemTable::Control.name());
    let trail = trail.iter().find(|row| *row.body.row() == RolesRow::trail_key(&moved.mark)).unwrap();
    assert_eq!(trail.body.string("Unsent").as_deref(), Some("1"), "it was counted before anything of it went on");
    let journal: Vec<_> = world.stores.iter().flat_map(|one| one.snapshot(&SystemTable::Conflicts.name())).collect();
    assert!(journal.iter().any(|row| row.body.string("Decision").as_deref() == Some("late-write")), "{journal:?}");
}

use WriteHealth::{CutOff, Serving};
