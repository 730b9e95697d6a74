//! Copies: filled, verified and restored from, by whole lines in virtual time.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::world::{EAST, NORTH, World, region, table};
use super::{Backfill, Repair, Restore, RestoreError, Restored, Restoring, Verified, Verify};
use crate::feed::{hint_keys, is_record_key};
use crate::model::*;
use crate::replicator;
use crate::resolve::{Difference, Mend};
use crate::stores::memory::MemoryTables;
use crate::stores::{Condition, Operation, Tables};
use crate::topology::{CopiedTable, CopyRule, Deletes, PartitionPattern, Properties, Role, TableFilter};
use crate::writer::WriterOptions;

const TWO: [Role; 2] = [Role::Writer, Role::Writer];

/// Partitions that begin with `a`, without the property `Secret`.
fn rule(deletes: Deletes) -> CopyRule {
    let every = CopiedTable {
        partitions: vec![PartitionPattern::new("a*")],
        properties: Properties::Without(["Secret".to_owned()].into()),
        deletes,
    };
    CopyRule { tables: TableFilter::Every, every, named: BTreeMap::new() }
}

fn body(partition: &str, row: &str, text: &str) -> RowBody {
    RowBody::builder(&partition.into(), &row.into()).string("Text", text).string("Secret", "s").finish()
}

/// What a store has, by key: the text of each row.
fn texts(store: &MemoryTables) -> BTreeMap<String, String> {
    let rows = store.snapshot(&table()).into_iter().map(|row| row.body);
    let key = |row: &RowBody| format!("{}/{}", row.partition(), row.row());
    rows.map(|row| (key(&row), row.string("Text").unwrap_or_default())).collect()
}

fn pairs<'a>(rows: impl IntoIterator<Item = (&'a str, &'a str)>) -> BTreeMap<String, String> {
    rows.into_iter().map(|(key, text)| (key.to_owned(), text.to_owned())).collect()
}

impl World {
    async fn put(&self, n: usize, partition: &str, row: &str, text: &str) {
        self.writers[n].insert_or_replace(&table(), &body(partition, row, text), None).await.unwrap();
    }

    async fn delete(&self, n: usize, partition: &str, row: &str) {
        let (partition, row) = (partition.into(), row.into());
        self.writers[n].delete(&table(), &partition, &row, Condition::Present, None).await.unwrap();
    }

    async fn settled(&self) {
        self.until("no record is left", 200, |world| world.records() == 0).await;
    }

    /// Compares the first region with a copy, by lines of its own.
    fn verify(&self, copy: usize) -> Verify {
        let (failover, _) = self.failover(EAST);
        let (to, line) = (self.copies[copy].store.region().clone(), replicator::Settings::default());
        let of = (&region(EAST), &to);
        let of = Verify::of(failover.regions, of, TableFilter::Every, self.file.clone(), line, self.runtime.clone());
        Verify { content: true, copies: self.copies.clone(), ..of }
    }

    fn restore(&self, copy: usize) -> Restore {
        Restore {
            regions: self.failover(EAST).0.regions,
            copies: self.copies.clone(),
            from: self.copies[copy].store.region().clone(),
            to: region(EAST),
            table: table(),
            partition: None,
            row: None,
            over_newer: false,
            dry_run: false,
            roles: self.file.clone(),
            options: WriterOptions::default(),
            runtime: self.runtime.clone(),
        }
    }
}

async fn verified(verify: &Verify) -> Verified {
    verify.run(&CancellationToken::new(), &mut |_| {}).await.unwrap()
}

async fn restored(restore: &Restore) -> Restored {
    restore.run(&mut |_| {}).await.unwrap()
}

fn kinds(verified: &Verified) -> Vec<(&str, Difference, Mend)> {
    verified.named.iter().map(|differs| (differs.row.as_str(), differs.kind, differs.mend)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_copy_has_what_its_filter_takes_of_every_region_and_keeps_or_applies_deletes() {
    let world = World::with_copies(&TWO, vec![("backup", rule(Deletes::Keep)), ("report", rule(Deletes::Apply))]).await;
    world.put(EAST, "a1", "one", "east").await;
    world.put(NORTH, "a1", "two", "north").await;
    world.put(EAST, "a2", "gone", "before").await;
    world.put(EAST, "b", "other", "not for copies").await;
    world.settled().await;
    world.delete(NORTH, "a2", "gone").await;
    world.delete(NORTH, "b", "other").await;
    world.put(NORTH, "a1", "one", "north over it").await;
    world.settled().await;

    let both = [("a1/one", "north over it"), ("a1/two", "north")];
    assert_eq!((texts(&world.stores[EAST]), texts(&world.stores[NORTH])), (pairs(both), pairs(both)));
    assert_eq!(texts(&world.copied[1]), pairs(both));
    assert_eq!(texts(&world.copied[0]), pairs(both.into_iter().chain([("a2/gone", "before")])));
    for copy in &world.copied {
        assert!(copy.snapshot(&table()).iter().all(|row| row.body.string("Secret").is_none()));
        assert_eq!(copy.snapshot(&SystemTable::Applied.name()), [], "nobody reads there what came in");
        assert!(copy.snapshot(&SystemTable::Feed.name()).iter().all(|row| !is_record_key(row.body.row())));
    }
    let graves = |n: usize| world.copied[n].snapshot(&SystemTable::Feed.name()).len();
    assert_eq!((graves(0), graves(1)), (0, 1), "of what the filter takes alone");
    for (copy, kept) in [(0, 1), (1, 0)] {
        let found = verified(&world.verify(copy)).await;
        assert_eq!((found.different(), found.waits(), found.rows()), (0, 0, 2), "{:?}", found.named);
        assert_eq!(found.tables[0].kept, kept);
    }
    // What comes again is above what was kept.
    world.put(EAST, "a2", "gone", "again").await;
    world.settled().await;
    assert_eq!((texts(&world.copied[0])["a2/gone"].as_str(), texts(&world.copied[1]).len()), ("again", 3));
}

#[tokio::test(start_paused = true)]
async fn what_a_copy_misses_while_it_is_down_waits_and_no_region_waits_for_it() {
    let world = World::with_copies(&TWO, vec![("backup", rule(Deletes::Apply))]).await;
    world.put(EAST, "a", "gone", "before").await;
    world.settled().await;
    world.copied[0].faults().cut(true);
    world.put(EAST, "a", "r0", "east").await;
    // Parked by then, so that whatever comes into its lanes becomes a hint.
    tokio::time::sleep(std::time::Duration::from_secs(30)).await;
    for n in 0..5 {
        world.put(EAST, "a", &format!("r{n}"), "east").await;
        world.put(EAST, "b", &format!("r{n}"), "not for copies").await;
    }
    world.delete(EAST, "a", "gone").await;
    world.until("the other region has all of it", 5, |world| texts(&world.stores[NORTH]).len() == 10).await;
    world.settled().await;
    let hints = world.stores[EAST].snapshot(&SystemTable::Backlog.name());
    let id = |row: &str| RowId::new(table(), "a".into(), row.into());
    let keys = hint_keys("backup", &id("gone"));
    assert!(hints.iter().any(|row| *row.body.row() == keys.1));
    assert_eq!(hints.len(), 6, "what the filter leaves out is no change for it");
    world.copied[0].faults().cut(false);
    world.until("the copy has all of it", 60, |world| texts(&world.copied[0]).len() == 5).await;
    world
        .until("no hint is left", 60, |world| world.stores[EAST].snapshot(&SystemTable::Backlog.name()).is_empty())
        .await;
    assert_eq!(verified(&world.verify(0)).await.different(), 0);
}

#[tokio::test(start_paused = true)]
async fn another_filter_is_told_by_verify_and_brought_in_the_place_of_the_old_one() {
    let mut world = World::with_copies(&TWO, vec![("backup", rule(Deletes::Keep))]).await;
    for (partition, row) in [("a", "one"), ("a", "two"), ("c", "new")] {
        world.put(EAST, partition, row, "east").await;
    }
    world.settled().await;
    let versions = |world: &World| world.contents(EAST).iter().map(|row| row.version().cloned()).collect::<Vec<_>>();
    let before = versions(&world);
    // The secret goes there from now on, the partition "c" too, and row by row "a" no more but its first.
    let every = CopiedTable {
        partitions: vec![PartitionPattern::new("c"), PartitionPattern::new("a")],
        ..CopiedTable::default()
    };
    world.copies[0].rule = Arc::new(CopyRule { tables: TableFilter::Every, every, named: BTreeMap::new() });
    let found = verified(&world.verify(0)).await;
    let expected = [
        ("one", Difference::Content, Mend::Copy),
        ("two", Difference::Content, Mend::Copy),
        ("new", Difference::Missing, Mend::Copy),
    ];
    assert_eq!(kinds(&found), expected);
    let backfill = Backfill {
        regions: world.failover(EAST).0.regions,
        copies: world.copies.clone(),
        from: region(EAST),
        to: Region::new("backup").unwrap(),
        tables: TableFilter::Every,
        only: None,
        share_percent: 100,
        account_rows: Backfill::ACCOUNT_ROWS,
        stamp: false,
        range_rows: Backfill::RANGE_ROWS,
        owner: "a test".to_owned(),
        roles: world.file.clone(),
        line: replicator::Settings::default(),
        runtime: world.runtime.clone(),
    };
    let done = backfill.start(false, &CancellationToken::new(), &mut |_| {}).await.unwrap();
    assert_eq!((done.is_done(), done.tables[0].written), (true, 3));
    assert_eq!(verified(&world.verify(0)).await.different(), 0);
    assert!(world.copied[0].snapshot(&table()).iter().all(|row| row.body.string("Secret").is_some()));
    assert_eq!(versions(&world), before, "no region has anything to do with it");
    // What no longer goes there stays, is told, and is not mended.
    let every = CopiedTable { partitions: vec![PartitionPattern::new("a")], ..CopiedTable::default() };
    world.copies[0].rule = Arc::new(CopyRule { tables: TableFilter::Every, every, named: BTreeMap::new() });
    let found = verified(&Verify { repair: Repair::Yes, ..world.verify(0) }).await;
    assert_eq!((kinds(&found), found.mended()), (vec![("new", Difference::Extra, Mend::Nothing)], 0));
    assert_eq!(restored(&world.restore(0)).await.of(Restoring::LeftOut), 1);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_taken_over_from_a_copy_and_a_region_keeps_its_own_order() {
    let world = World::with_copies(&TWO, vec![("backup", rule(Deletes::Keep))]).await;
    for row in ["own", "other", "both"] {
        world.put(EAST, "a", row, "east").await;
    }
    world.settled().await;
    let now = world.runtime.now();
    let plant = |row: &str, by: &Region| {
        let version = Version::new(now, by, WriterId(9));
        Operation::InsertOrReplace(body("a", row, "planted").stamped(&version))
    };
    for (row, by) in [("own", region(EAST)), ("other", region(NORTH)), ("alone", region(NORTH))] {
        world.copied[0].write(&table(), &plant(row, &by)).await.unwrap();
    }
    tokio::time::sleep(std::time::Duration::from_secs(300)).await;
    let verify =
        Verify { repair: Repair::Yes, rows_per_second: NonZeroU32::new(1_000), content: false, ..world.verify(0) };
    let found = verified(&verify).await;
    // A row that the regions do not have is as one that was deleted.
    assert_eq!(kinds(&found), [("other", Difference::Newer, Mend::Nothing), ("own", Difference::Newer, Mend::Lift)]);
    assert_eq!((found.mended(), found.tables[0].kept), (1, 1));
    world.settled().await;
    for store in &world.stores {
        assert_eq!(texts(store), pairs([("a/own", "east"), ("a/other", "east"), ("a/both", "east")]));
    }
    assert_eq!(texts(&world.copied[0])["a/own"], "east");
    assert_eq!(texts(&world.copied[0])["a/other"], "planted");
}

#[tokio::test(start_paused = true)]
async fn what_is_restored_comes_to_every_region_and_to_no_row_that_somebody_else_changed() {
    let world = World::with_copies(&TWO, vec![("backup", rule(Deletes::Keep))]).await;
    for row in ["gone", "same", "newer", "older"] {
        world.put(EAST, "a", row, "good").await;
    }
    world.settled().await;
    world.delete(NORTH, "a", "gone").await;
    world.settled().await;
    world.copied[0].faults().cut(true);
    for row in ["newer", "older"] {
        world.put(NORTH, "a", row, "bad").await;
    }
    world.until("both regions have it", 60, |world| texts(&world.stores[EAST]) == texts(&world.stores[NORTH])).await;
    world.settled().await;
    // The command reaches the copy; the daemons do not yet.
    let mut restore = world.restore(0);
    restore.copies[0].store = world.copy_line(0);
    let planned = restored(&Restore { dry_run: true, ..restore.clone() }).await;
    let done = restored(&restore).await;
    let expected = [(Restoring::Undeleted, 1), (Restoring::Equal, 1), (Restoring::Newer, 2)];
    assert_eq!((planned.outcomes, done.outcomes.clone()), (expected.into(), expected.into()));
    assert!(planned.named.iter().all(|row| row.version.is_none()), "nothing was written");
    let gone = done.named.iter().find(|row| row.row == "gone").unwrap();
    assert!(gone.version > gone.had && gone.had.as_deref() > Some(gone.copy.as_str()), "{gone:?}");
    let one = Restore { over_newer: true, partition: Some("a".into()), row: Some("older".into()), ..restore.clone() };
    assert_eq!(restored(&one).await.outcomes, [(Restoring::Merged, 1)].into());
    assert_eq!(restored(&one).await.outcomes, [(Restoring::Equal, 1)].into(), "it is done");
    world.settled().await;
    let expected = [("a/gone", "good"), ("a/same", "good"), ("a/newer", "bad"), ("a/older", "good")];
    for store in &world.stores {
        assert_eq!(texts(store), pairs(expected));
        let secret = |key: &str| {
            let rows = store.snapshot(&table()).into_iter();
            rows.filter(|row| row.body.row().as_str() == key).all(|row| row.body.string("Secret").is_some())
        };
        assert!(secret("older") && !secret("gone"), "what the copy does not have is kept where the row stands");
    }
    world.copied[0].faults().cut(false);
    world.until("the copy follows", 120, |world| texts(&world.copied[0]) == pairs(expected)).await;
}

#[tokio::test(start_paused = true)]
async fn a_restore_to_what_is_no_writer_or_from_what_is_no_copy_is_refused() {
    let world = World::with_copies(&[Role::Writer, Role::Standby], vec![("backup", rule(Deletes::Keep))]).await;
    let refused = async |restore: Restore| restore.run(&mut |_| {}).await.unwrap_err();
    let standby = Restore { to: region(NORTH), ..world.restore(0) };
    assert!(matches!(refused(standby).await, RestoreError::NoWriter { writers, .. } if writers == "east"));
    let error = refused(Restore { from: region(NORTH), ..world.restore(0) }).await;
    assert!(error.is_usage() && error.to_string().contains("there is no copy north; the configuration has backup"));
    world.planned(NORTH).await.unwrap();
    assert!(matches!(refused(world.restore(0)).await, RestoreError::NoWriter { writers, .. } if writers == "north"));
}
