//! What lies in quarantine, and what comes out of it by itself.

use super::*;
use crate::feed::{Entry, Reason};

impl World {
    fn quarantine(&self, n: usize) -> Vec<Entry> {
        let rows = self.stores[n].snapshot(&SystemTable::Quarantine.name());
        rows.iter().map(|row| Entry::decode(row).unwrap()).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_from_the_future_is_tried_again_when_the_clock_has_passed_it() {
    let mut world = World::new(2).await;
    world.start(&Settings::default());
    world.put(0, "p", "a", "1").await;
    world.settle(Duration::from_secs(5)).await;
    let queue = world.regions[0].accounts()[0].queue.clone().unwrap();
    let east = Region::new("east").unwrap();
    let version = Version::new(world.runtime.now() + Duration::from_secs(90), &east, WriterId(9));
    // Its delete is done: what it tells of is a fact, which needs its tombstone as well as its record.
    world.stores[0]
        .write(&table(), &Operation::Delete { partition: "p".into(), row: "a".into(), condition: Condition::Present })
        .await
        .unwrap();
    let (partition, deletes) = ("p".into(), vec!["a".into()]);
    let change = Change { table: table(), partition, puts: Vec::new(), deletes, version: version.clone(), base: None };
    queue.send(&encode_message(&change)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let [entry] = world.quarantine(0).try_into().unwrap();
    assert_eq!((entry.reason, entry.version.as_deref()), (Reason::FutureVersion, Some(version.as_str())));
    assert_eq!(world.contents(1).len(), 1, "a version from the future is not applied");

    tokio::time::sleep(Duration::from_secs(130)).await;
    world.settle(Duration::from_secs(100)).await;
    world.assert_equal();
    assert_eq!((world.quarantine(0), world.contents(1).len()), (Vec::new(), 0));
    let id = RowId::new(table(), "p".into(), "a".into());
    let stone = encode_tombstone(&Tombstone { id, version });
    let feed = world.stores[1].snapshot(&SystemTable::Feed.name());
    assert!(feed.iter().any(|row| row.body == stone), "{feed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_row_that_its_version_makes_too_large_is_named_as_that() {
    let mut world = World::new(2).await;
    world.start(&Settings::default());
    // Written past the feed with all the properties that Azure allows, and announced afterwards.
    let row = (0..252).fold(RowBody::builder(&"p".into(), &"full".into()), |row, n| row.string(&format!("P{n}"), "x"));
    world.stores[0].write(&table(), &Operation::Insert(row.finish())).await.unwrap();
    let version = world.version(0);
    world.announce(0, "p", &["full"], &[], &version).await;
    world.put(0, "p", "fine", "x").await;
    world.settle(Duration::from_secs(80)).await;
    let [entry] = world.quarantine(0).try_into().unwrap();
    assert_eq!(entry.reason, Reason::TooLarge, "{entry:?}");
    assert!(entry.detail.contains("252"), "{entry:?}");
    assert_eq!(entry.destination, Some(Region::new("north").unwrap()));
    assert_eq!(world.contents(1).len(), 1);
}
