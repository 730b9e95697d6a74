use super::silence::Silence;
use super::*;
use crate::cli::exit::Exit;
use crate::model::{AccountName, RowBody};
use crate::stores::memory::MemoryTables;
use crate::stores::{Account, Operation};

fn region(name: &str) -> (std::sync::Arc<MemoryTables>, RegionStore) {
    let runtime = Runtime::simulated(Time::from_unix_seconds(1_600_000_000), 1);
    let name = Region::new(name).unwrap();
    let tables = MemoryTables::new(name.clone(), AccountName::new("one").unwrap(), runtime);
    (tables.clone(), RegionStore::new(name, vec![Account { tables, queue: None }]))
}

fn link(source: &str, destination: &str, published: i64) -> LinkStatus {
    LinkStatus {
        source: Region::new(source).unwrap(),
        destination: Region::new(destination).unwrap(),
        state: LinkState::Flowing,
        last_sync: Some(Time::from_unix_seconds(published - 2)),
        copy: false,
        fresh_to: None,
        word: None,
        lag: Duration::from_millis(40),
        backlog_rows: 0,
        oldest_waiting: None,
        last_error: None,
        published: Time::from_unix_seconds(published),
    }
}

async fn publish(store: &RegionStore, links: &[LinkStatus]) {
    let control = SystemTable::Control.name();
    store.home().create_table(&control).await.unwrap();
    for link in links {
        store.home().write(&control, &Operation::Insert(link.encode())).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn the_newest_word_on_each_link_counts_whoever_has_it() {
    let ((_, west), (north_tables, north), (_, east)) = (region("west"), region("north"), region("east"));
    publish(&west, &[link("west", "north", 1_000), link("north", "west", 2_000), link("gone", "west", 2_000)]).await;
    let failing = LinkState::BackingOff;
    let newer = LinkStatus { state: failing, last_error: Some("503: busy".into()), ..link("west", "north", 1_990) };
    publish(&east, &[newer, link("north", "west", 1_500)]).await;
    north_tables.faults().cut(true);
    let report = collect(&[east, north, west], &[], Time::from_unix_seconds(2_025)).await;
    insta::assert_snapshot!(report.render(), @r#"
    SOURCE  DESTINATION  STATE        LAG      LAST SYNC TIME        WAITING  OLDEST WAITING  PUBLISHED         LAST ERROR
    north   west         flowing      0.040 s  1970-01-01T00:33:18Z  0        -               25 s ago
    west    north        backing-off  0.040 s  1970-01-01T00:33:08Z  0        -               35 s ago (stale)  503: busy
    east    north        unknown      -        -                     -        -               -
    east    west         unknown      -        -                     -        -               never
    north   east         unknown      -        -                     -        -               -
    west    east         unknown      -        -                     -        -               never
    west to north: the last that could be read of it is 35 s old; see whether the daemon of the source runs, and start it (docs/runbook.md#daemon-down)
    east to north: unknown: north cannot be read, and no state of the link stands in east
    east to west: unknown: its state stands neither in east nor in west; see whether the daemon of the source runs, and start it (docs/runbook.md#daemon-down)
    north to east: unknown: north cannot be read, and no state of the link stands in east
    west to east: unknown: its state stands neither in west nor in east; see whether the daemon of the source runs, and start it (docs/runbook.md#daemon-down)
    "#);
    assert_eq!(report.unreachable.len(), 1, "{report:?}");
    assert_eq!(report.unreachable[0].region.as_str(), "north");
    let json = serde_json::to_value(&report).unwrap();
    let (fresh, stale) = (&json["links"][0], &json["links"][1]);
    assert_eq!((&json["schema"], &stale["state"]), (&1.into(), &"backing-off".into()), "{json:#}");
    assert_eq!((&stale["stale"], &stale["published_age_seconds"]), (&true.into(), &35.0.into()), "{json:#}");
    assert_eq!((&fresh["stale"], &fresh["remedy"]), (&false.into(), &"none".into()), "{json:#}");
    assert_eq!(stale["unread"], serde_json::json!(["north"]), "{json:#}");
    let silent = &json["unknown"][0];
    assert_eq!((&silent["source"], &silent["why"]), (&"east".into(), &"half-read".into()), "{json:#}");
    assert!(report.concluded().is_err(), "what north holds of its links is not known");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_said_of_a_link_of_which_neither_end_can_be_read() {
    let ((_, west), (north_tables, north), (east_tables, east)) = (region("west"), region("north"), region("east"));
    publish(&west, &[link("west", "north", 2_000), link("north", "west", 1_900), link("west", "east", 2_000)]).await;
    for tables in [&north_tables, &east_tables] {
        tables.faults().cut(true);
    }
    let stores = [east, north, west];
    let report = collect(&stores, &[], Time::from_unix_seconds(2_010)).await;
    insta::assert_snapshot!(report.render(), @r#"
    SOURCE  DESTINATION  STATE    LAG      LAST SYNC TIME        WAITING  OLDEST WAITING  PUBLISHED          LAST ERROR
    north   west         flowing  0.040 s  1970-01-01T00:31:38Z  0        -               110 s ago (stale)
    west    east         flowing  0.040 s  1970-01-01T00:33:18Z  0        -               10 s ago
    west    north        flowing  0.040 s  1970-01-01T00:33:18Z  0        -               10 s ago
    east    north        unknown  -        -                     -        -               -
    east    west         unknown  -        -                     -        -               -
    north   east         unknown  -        -                     -        -               -
    north to west: the last that could be read of it is 110 s old; the region of the source cannot be read, so nobody knows whether its daemon runs; see why, then look again
    east to north: unknown: neither east nor north can be read
    east to west: unknown: east cannot be read, and no state of the link stands in west
    north to east: unknown: neither north nor east can be read
    "#);
    let json = serde_json::to_value(&report).unwrap();
    let unknown = json["unknown"].as_array().unwrap();
    let of = |source: &str, destination: &str| {
        unknown.iter().find(|link| link["source"] == source && link["destination"] == destination).unwrap()
    };
    let between = of("east", "north");
    assert_eq!((&between["why"], &between["unread"]), (&"unread".into(), &serde_json::json!(["east", "north"])));
    assert_eq!(of("east", "west")["unread"], serde_json::json!(["east"]), "{json:#}");
    assert!(!json["unknown"].to_string().contains("daemon"), "nobody knows what those daemons do: {json:#}");
    let unreachable = json["unreachable"].as_array().unwrap();
    assert!(unreachable.iter().all(|region| region["error"].as_str().is_some_and(|why| !why.is_empty())), "{json:#}");
    assert_eq!(report.concluded().unwrap_err().exit, Exit::Failed);

    // Once they can be read it is known that nobody has told of some links, and that is all there is to know.
    for tables in [&north_tables, &east_tables] {
        tables.faults().cut(false);
    }
    let report = collect(&stores, &[], Time::from_unix_seconds(2_010)).await;
    assert!(report.concluded().is_ok(), "{report:?}");
    assert!(
        report.render().contains("east to north: unknown: its state stands neither in east nor in north; see whether")
    );
}

#[tokio::test(start_paused = true)]
async fn a_region_that_others_tell_of_all_the_same_is_no_failure() {
    let ((_, west), (north_tables, north)) = (region("west"), region("north"));
    publish(&west, &[link("west", "north", 2_000), link("north", "west", 2_000)]).await;
    north_tables.faults().cut(true);
    let report = collect(&[north, west], &[], Time::from_unix_seconds(2_010)).await;
    assert_eq!((report.links.len(), report.unknown.len(), report.unreachable.len()), (2, 0, 1), "{report:?}");
    assert!(report.concluded().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_state_in_a_form_that_is_not_known_is_not_taken_for_none() {
    let ((_, west), (_, north)) = (region("west"), region("north"));
    publish(&west, &[link("north", "west", 2_000)]).await;
    let key = LinkStatus::row_key(west.region(), north.region());
    let newer = RowBody::builder(&LinkStatus::PARTITION.into(), &key).string("State", "resting").finish();
    west.home().write(&SystemTable::Control.name(), &Operation::Insert(newer)).await.unwrap();
    let report = collect(&[north, west], &[], Time::from_unix_seconds(2_010)).await;
    assert_eq!(report.unknown[0].why, Silence::Unreadable, "{report:?}");
    assert!(report.render().contains("(docs/runbook.md#row-unreadable)"), "{}", report.render());
    assert!(report.concluded().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_region_where_no_daemon_has_run_is_empty_and_not_unreachable() {
    let ((_, west), (_, north)) = (region("west"), region("north"));
    let report = collect(&[north, west], &[], Time::EPOCH).await;
    assert_eq!((report.links.len(), report.unknown.len(), report.unreachable.len()), (0, 2, 0), "{report:?}");
    assert!(report.render().contains("see whether the daemon of the source runs"));
    assert!(report.concluded().is_ok());
}

#[test]
fn why_nothing_is_known_of_a_link_is_a_closed_list_and_documented() {
    crate::model::assert_well_formed::<Silence>();
    let document = include_str!("../../../docs/operations.md");
    for silence in Silence::ALL {
        let line = format!("| `{silence}` | {} | {} |", silence.meaning(), silence.remedy());
        assert!(document.contains(&line), "docs/operations.md should have the line\n{line}");
    }
}
