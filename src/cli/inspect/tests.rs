//! The sentence in every case, and the reading on the memory store.

use std::sync::Arc;

use super::picture::{Cache, Column, Held, Link, Open, Stands, Waits};
use super::regions::Unreachable;
use super::*;
use crate::feed::{
    Entry, Hint, Malformed, Reason, Source, encode_change, encode_hint, encode_tombstone, tombstone_key,
};
use crate::model::{AccountName, Change, ClosedList, Region, RowBody, SystemTable, TableName, Tombstone, Version};
use crate::settle::{LinkState, LinkStatus};
use crate::stores::memory::MemoryTables;
use crate::stores::{Account, Operation, RegionStore, Tables};

const NOW: i64 = 1_600_000_000;

fn time(seconds_ago: i64) -> Time {
    Time::from_unix_seconds(NOW - seconds_ago)
}

fn region(name: &str) -> Region {
    Region::new(name).unwrap()
}

/// The `n`th version that west issued.
fn version(n: i64) -> Version {
    Version::parse(&format!("2020-09-13T12:00:0{n}.0000000Z@west.0000000a")).unwrap()
}

fn id() -> RowId {
    RowId::new(TableName::new("orders").unwrap(), "p".into(), "r".into())
}

fn flowing(to: &str) -> Link {
    Link { destination: region(to), state: LinkState::Flowing, last_error: None, published: time(2) }
}

/// A region where nothing stands and nothing waits, and all links flow.
fn column(name: &str) -> Column {
    let others = ["north", "south", "west"].into_iter().filter(|other| *other != name);
    Column {
        region: region(name),
        account: AccountName::new("one").unwrap(),
        row: None,
        tombstone: None,
        records: vec![],
        hints: vec![],
        quarantine: vec![],
        conflicts: vec![],
        cache: Cache::None,
        links: others.map(flowing).collect(),
        unread: vec![],
    }
}

fn stands(n: i64) -> Option<Stands> {
    Some(Stands { version: version(n), implicit: false, written: time(60) })
}

fn with(name: &str, n: i64) -> Column {
    Column { row: stands(n), ..column(name) }
}

fn open(n: i64) -> Vec<Open> {
    vec![Open { version: version(n), deletes: false, announced: time(12) }]
}

fn waits(to: &str, n: i64) -> Vec<Waits> {
    vec![Waits { destination: to.to_owned(), version: version(n), since: time(200) }]
}

fn held(to: Option<&str>, n: Option<i64>) -> Vec<Held> {
    let reason = Reason::TooLarge;
    vec![Held {
        id: "0ba428e665ca6ac4".to_owned(),
        reason: reason.as_str(),
        remedy: reason.remedy(),
        destination: to.map(region),
        version: n.map(version),
        at: Some(time(100)),
    }]
}

fn picture(regions: Vec<Column>) -> Picture {
    Picture { id: id(), at: time(0), replicated: true, regions, unreachable: vec![] }
}

fn said(regions: Vec<Column>) -> (Prospect, String) {
    let Outlook { next, sentence } = outlook(&picture(regions));
    // The versions of these tests differ in one digit.
    (next, sentence.replace("2020-09-13T12:00:0", "v").replace(".0000000Z@west.0000000a", ""))
}

fn says(regions: Vec<Column>, next: Prospect, sentence: &str) {
    assert_eq!(said(regions), (next, sentence.to_owned()));
}

#[test]
fn what_is_the_same_everywhere_and_awaited_by_nothing_is_equal() {
    says(vec![with("north", 1), with("west", 1)], Prospect::Equal, "equal everywhere, at v1; nothing waits");
    let deleted = |name| Column { tombstone: Some(version(2)), ..column(name) };
    says(vec![deleted("north"), deleted("west")], Prospect::Equal, "deleted everywhere, by v2; nothing waits");
    let over = Column { tombstone: Some(version(1)), ..with("north", 2) };
    says(vec![over, with("west", 2)], Prospect::Equal, "equal everywhere, at v2; nothing waits");
    let none = "no region has the row or a tombstone of it; nothing waits";
    says(vec![column("north"), column("west")], Prospect::Nowhere, none);
    says(vec![with("west", 1)], Prospect::Equal, "equal in west, at v1; nothing waits");
}

#[test]
fn of_what_nobody_can_read_nothing_is_known() {
    says(vec![], Prospect::Unknown, "no region can be read, so nothing is known of the row");
}

#[test]
fn a_change_with_a_record_or_a_hint_is_on_its_way() {
    let west = Column { records: open(2), ..with("west", 2) };
    let sentence = "west's v2 is on its way to north: a record of 12 s ago waits";
    says(vec![with("north", 1), west.clone()], Prospect::OnItsWay, sentence);
    let both = vec![with("north", 1), column("south"), west];
    let sentence = format!("{sentence}; {}", sentence.replace("north", "south"));
    says(both, Prospect::OnItsWay, &sentence);
    let west = Column { hints: waits("north", 2), ..with("west", 2) };
    let sentence = "west's v2 is on its way to north: a hint of 3 min 20 s ago waits";
    says(vec![column("north"), west], Prospect::OnItsWay, sentence);
    let west = Column { tombstone: Some(version(2)), records: open(2), ..column("west") };
    let sentence = "west's delete v2 is on its way to north: a record of 12 s ago waits";
    says(vec![with("north", 1), west.clone()], Prospect::OnItsWay, sentence);
    let under_way = Column { tombstone: Some(version(2)), ..with("north", 1) };
    says(vec![under_way, west], Prospect::OnItsWay, sentence);
    // The older one is announced: its daemon finds the newer one.
    let north = Column { records: open(1), ..with("north", 1) };
    let sentence = "west's v2 is on its way to north: a record of 12 s ago waits in north";
    says(vec![north, with("west", 2)], Prospect::OnItsWay, sentence);
}

#[test]
fn what_a_destination_or_a_daemon_holds_up_says_so() {
    let to = |link: Link| Column { records: open(2), links: vec![link], ..with("west", 2) };
    let failing = Link { state: LinkState::BackingOff, last_error: Some("503: busy".to_owned()), ..flowing("north") };
    let sentence = "west's v2 waits for north, which fails (503: busy): a record of 12 s ago in west is tried again";
    says(vec![with("north", 1), to(failing.clone())], Prospect::Waiting, sentence);
    let silent = Link { published: time(600), ..flowing("north") };
    let sentence = "west's v2 waits for north: a record of 12 s ago, but the daemon of west has said nothing for 10 min 0 s; start it";
    says(vec![with("north", 1), to(silent.clone())], Prospect::Waiting, sentence);
    let never = Column { links: vec![], ..to(silent) };
    let sentence =
        "west's v2 waits for north: a record of 12 s ago, but the daemon of west has said nothing yet; start it";
    says(vec![with("north", 1), never], Prospect::Waiting, sentence);
    let parked = Link { state: LinkState::Parked, ..failing };
    let west = Column { hints: waits("north", 2), records: vec![], ..to(parked) };
    let sentence = "parked: a hint of 3 min 20 s ago in west waits until north is back, with west's v2";
    says(vec![with("north", 1), west], Prospect::Parked, sentence);
}

#[test]
fn what_lies_in_quarantine_says_where_and_what_to_do() {
    let remedy = Reason::TooLarge.remedy();
    let west = Column { quarantine: held(Some("north"), Some(2)), ..with("west", 2) };
    let sentence = format!("held in quarantine in west for north as 0ba428e665ca6ac4 (too-large): {remedy}");
    says(vec![with("north", 1), west.clone()], Prospect::Quarantined, &sentence);
    // For another destination, and of an older version, it says nothing.
    let south = Column { records: open(2), quarantine: held(Some("south"), Some(2)), ..with("west", 2) };
    assert_eq!(said(vec![with("north", 1), south]).0, Prospect::OnItsWay);
    let older = Column { quarantine: held(Some("north"), Some(1)), ..with("west", 2) };
    says(vec![with("north", 2), older], Prospect::Equal, "equal everywhere, at v2; nothing waits");
    // A change that stands nowhere.
    for n in [None, Some(3)] {
        let west = Column { quarantine: held(None, n), ..with("west", 2) };
        let sentence = format!("equal everywhere, at v2; {}", sentence.replace(" for north", ""));
        says(vec![with("north", 2), west], Prospect::Quarantined, &sentence);
    }
}

#[test]
fn what_differs_and_is_awaited_by_nothing_is_stuck() {
    let sentence = "north lacks west's v2 and nothing waits for it: write the row once more";
    says(vec![with("north", 1), with("west", 2)], Prospect::Stuck, sentence);
    let implicit = Some(Stands { implicit: true, ..stands(2).unwrap() });
    let west = Column { row: implicit, ..column("west") };
    let sentence =
        "north lacks west's v2 (written without a version) and nothing waits for it: write the row once more";
    says(vec![column("north"), west], Prospect::Stuck, sentence);
    let under_way = Column { tombstone: Some(version(2)), ..with("west", 1) };
    let (next, sentence) = said(vec![Column { tombstone: Some(version(2)), ..column("north") }, under_way]);
    assert_eq!(next, Prospect::Stuck, "{sentence}");
    assert!(sentence.starts_with("west lacks north's delete v2 "), "{sentence}");
}

#[test]
fn what_has_yet_to_end_while_all_are_equal_says_so() {
    let announced = Column { records: open(3), ..with("west", 2) };
    let sentence = "equal everywhere, at v2; v3 was announced in west 12 s ago and has not been written so far";
    says(vec![with("north", 2), announced], Prospect::Announced, sentence);
    let first = Column { records: open(3), ..column("west") };
    let sentence =
        "no region has the row or a tombstone of it; v3 was announced in west 12 s ago and has not been written so far";
    says(vec![column("north"), first], Prospect::Announced, sentence);
    let ending = Column { records: open(2), hints: waits("north", 2), ..with("west", 2) };
    let sentence = "equal everywhere, at v2; a record of 12 s ago in west has yet to end; \
                    a hint of 3 min 20 s ago in west for north has yet to end";
    says(vec![with("north", 2), ending], Prospect::OnItsWay, sentence);
}

#[test]
fn a_region_that_cannot_be_read_is_said_beside_what_waits_for_it() {
    let beyond = |west: Column| {
        let lost = Unreachable { region: region("south"), error: "no reply".to_owned() };
        let Outlook { next, sentence } =
            outlook(&Picture { unreachable: vec![lost], ..picture(vec![with("north", 2), west]) });
        (next, sentence.split_once("; ").unwrap().1.to_owned())
    };
    let nothing = "south cannot be read, and nothing is known to wait for it";
    assert_eq!(beyond(with("west", 2)), (Prospect::Unknown, nothing.to_owned()));
    let hint = "south cannot be read: a hint of 3 min 20 s ago in west waits until it is back";
    let west = Column { hints: waits("south", 2), ..with("west", 2) };
    assert_eq!(beyond(west), (Prospect::Parked, hint.to_owned()));
    let west = Column { quarantine: held(Some("south"), Some(2)), hints: waits("south", 2), ..with("west", 2) };
    let (next, sentence) = beyond(west);
    assert!(
        next == Prospect::Quarantined && sentence.starts_with("held in quarantine in west for south"),
        "{sentence}"
    );
    let (next, sentence) = beyond(Column { records: open(2), ..with("west", 2) });
    assert_eq!(next, Prospect::Waiting);
    assert_eq!(sentence, "south cannot be read: a record of 12 s ago in west waits for it");
}

#[test]
fn a_cache_that_holds_another_version_than_its_table_is_told() {
    let holds = |n: i64, deleted| {
        let cache = Cache::Entry { version: version(n).to_string(), deleted };
        said(vec![with("north", 2), Column { cache, ..with("west", 2) }])
    };
    assert_eq!(holds(2, false).0, Prospect::Equal);
    let behind =
        "equal everywhere, at v2; the cache of west holds v1, older than the table; it lives no longer than its ttl";
    assert_eq!(holds(1, false), (Prospect::CacheBehind, behind.to_owned()));
    assert_eq!(holds(2, true).0, Prospect::CacheBehind, "the mark of a delete over a row");
    assert!(holds(3, false).1.contains("newer than the table"));
}

#[test]
fn what_waits_for_a_cache_is_told_with_the_cache() {
    let holds =
        |cache| said(vec![with("north", 2), Column { cache, hints: waits("cache@west", 2), ..with("west", 2) }]);
    let entry = |n: i64| Cache::Entry { version: version(n).to_string(), deleted: false };
    assert_eq!(holds(entry(2)).0, Prospect::Equal, "it was refreshed since");
    let (next, sentence) = holds(entry(1));
    assert_eq!(next, Prospect::CacheBehind);
    assert!(sentence.ends_with("older than the table; a hint of 3 min 20 s ago waits to refresh it"), "{sentence}");
    assert!(
        holds(Cache::Absent).1.ends_with("the cache of west lacks it: a hint of 3 min 20 s ago waits to refresh it")
    );
    let (next, sentence) = holds(Cache::Unreachable { error: "no reply".to_owned() });
    assert_eq!(next, Prospect::Parked);
    let down = "the cache of west cannot be reached (no reply): a hint of 3 min 20 s ago waits until it is back";
    assert!(sentence.ends_with(down), "{sentence}");
    assert_eq!(said(vec![with("north", 2), Column { cache: Cache::Absent, ..with("west", 2) }]).0, Prospect::Equal);
}

#[test]
fn a_table_that_is_not_replicated_is_told_before_all_else() {
    let not = Picture { replicated: false, ..picture(vec![with("north", 1), with("west", 2)]) };
    let Outlook { next, sentence } = outlook(&not);
    assert_eq!(next, Prospect::NotReplicated);
    assert_eq!(sentence, "not replicated: the configuration does not name the table orders");
}

#[test]
fn the_words_are_a_closed_list_and_documented() {
    crate::model::assert_well_formed::<Prospect>();
    let document = include_str!("../../../docs/operations.md");
    for word in Prospect::ALL {
        let line = format!("| `{word}` | {} | {} |", word.meaning(), word.remedy());
        assert!(document.contains(&line), "docs/operations.md should have the line\n{line}");
    }
}

/// A region of two accounts on the memory store, with the system tables and `orders`.
async fn site(name: &str, runtime: &Runtime) -> (Site, Vec<Arc<MemoryTables>>) {
    let tables: Vec<_> = ["one", "two"]
        .map(|account| MemoryTables::new(region(name), AccountName::new(account).unwrap(), runtime.clone()))
        .into();
    for account in &tables {
        for table in SystemTable::ALL.map(SystemTable::name).into_iter().chain([id().table]) {
            account.create_table(&table).await.unwrap();
        }
    }
    let accounts = tables.iter().map(|tables| Account { tables: tables.clone(), queue: None }).collect();
    (Site { store: RegionStore::new(region(name), accounts), cache: None }, tables)
}

async fn put(tables: &dyn Tables, table: SystemTable, body: RowBody) {
    tables.write(&table.name(), &Operation::Insert(body)).await.unwrap();
}

/// West's link to north as its daemon publishes it.
fn parked() -> LinkStatus {
    LinkStatus {
        source: region("west"),
        destination: region("north"),
        state: LinkState::Parked,
        last_sync: None,
        fresh_to: None,
        word: None,
        lag: Duration::ZERO,
        backlog_rows: 1,
        oldest_waiting: None,
        last_error: None,
        published: time(1),
        copy: false,
    }
}

#[tokio::test(start_paused = true)]
async fn everything_is_found_of_rows_with_odd_keys_in_whichever_account_they_are() {
    let runtime = Runtime::simulated(time(0), 1);
    for (partition, row) in [("", ""), ("it's", "50% & more"), ("Ümlaut 漢字", "\u{1f600}\"'"), ("-x", "--y")] {
        let ((west, _), (north, cut)) = (site("west", &runtime).await, site("north", &runtime).await);
        let id = RowId::new(id().table, partition.into(), row.into());
        let (own, home) = (west.store.holding(&id.table, &id.partition).clone(), west.store.home().clone());
        let body = RowBody::builder(&id.partition, &id.row).finish().stamped(&version(2));
        own.write(&id.table, &Operation::Insert(body)).await.unwrap();
        let change = Change {
            table: id.table.clone(),
            partition: id.partition.clone(),
            puts: vec![id.row.clone()],
            deletes: vec![],
            version: version(2),
            base: None,
        };
        let record = encode_change(&change).unwrap().remove(0);
        put(own.as_ref(), SystemTable::Feed, record.clone()).await;
        let tombstone = encode_tombstone(&Tombstone { id: id.clone(), version: version(1) });
        assert_eq!(tombstone.row(), &tombstone_key(&id));
        put(own.as_ref(), SystemTable::Feed, tombstone).await;
        let hint = Hint { id: id.clone(), version: version(2), since: time(5) };
        for addressee in ["north", "cache@west"] {
            put(home.as_ref(), SystemTable::Backlog, encode_hint(addressee, &hint)).await;
        }
        let why = Malformed::new(Reason::Refused, "no");
        let mut entry = Entry::new(Source::Row, &why, time(4), record.json().to_string());
        entry.destination = Some(region("north"));
        entry.version = Some(version(2).to_string());
        // What is malformed does not say which row it is about, but may be asked.
        entry.row = Some(row.to_owned()).filter(|_| partition.is_empty());
        put(home.as_ref(), SystemTable::Quarantine, entry.identified().encode()).await;
        put(home.as_ref(), SystemTable::Control, parked().encode()).await;

        let sites = [north, west];
        let report = look(&sites, &id, true, || time(0)).await;
        let seen = &report.picture.regions[1];
        assert_eq!(seen.account, *own.account());
        assert_eq!(
            (seen.row.as_ref().unwrap().version.clone(), seen.tombstone.clone()),
            (version(2), Some(version(1)))
        );
        assert_eq!((seen.records.len(), seen.hints.len(), seen.quarantine.len()), (1, 2, 1), "{id}: {seen:#?}");
        assert_eq!((seen.links.len(), seen.unread.len()), (1, 0), "{seen:#?}");
        assert_eq!(report.outlook.next, Prospect::Quarantined, "{}", report.outlook.sentence);
        let other = RowId::new(id.table.clone(), id.partition.clone(), format!("{row}2").as_str().into());
        let report = look(&sites, &other, true, || time(0)).await;
        assert_eq!(report.outlook.next, Prospect::Nowhere, "{}", report.outlook.sentence);

        cut.iter().for_each(|tables| tables.faults().cut(true));
        let report = look(&sites, &id, true, || time(0)).await;
        assert_eq!((report.picture.regions.len(), report.picture.unreachable.len()), (1, 1));
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(
            (&json["next"], &json["row"], &json["schema"]),
            (&"quarantined".into(), &row.into(), &1.into()),
            "{json:#}"
        );
        let text = render::render(&report.outlook, &report.picture);
        assert!(text.contains("WEST") && !text.contains("NORTH"), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_looks_stuck_is_looked_at_twice() {
    let runtime = Runtime::simulated(time(0), 1);
    let ((west, _), (north, _)) = (site("west", &runtime).await, site("north", &runtime).await);
    let body = RowBody::builder(&id().partition, &id().row).finish().stamped(&version(2));
    west.store
        .holding(&id().table, &id().partition)
        .write(&id().table, &Operation::Insert(body.clone()))
        .await
        .unwrap();
    let (there, sites) = (north.store.holding(&id().table, &id().partition).clone(), [north, west]);
    let id = id();
    let report = look(&sites, &id, true, || time(0));
    let arrives = async {
        tokio::time::sleep(SECOND_LOOK / 2).await;
        there.write(&id.table, &Operation::Insert(body)).await.unwrap();
    };
    let (report, ()) = tokio::join!(report, arrives);
    assert_eq!(report.outlook.next, Prospect::Equal, "{}", report.outlook.sentence);
}
