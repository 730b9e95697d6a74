//! What will happen to a row next, in one sentence. A rule: it reads what is given and asks nobody.

use super::super::output;
use super::picture::{Cache, Column, Held, Link, Picture, Standing};
use crate::closed_list;
use crate::model::{Addressee, Region, Time, Version};
use crate::settle::{LinkState, LinkStatus};

closed_list! {
    /// What will happen to a row next, the worst last.
    pub(super) enum Prospect {
        Equal = "equal",
            "all regions that could be read have the same, and nothing waits",
            "none";
        Nowhere = "nowhere",
            "no region has the row or a tombstone of it, and nothing waits",
            "see that table and keys are written as the application writes them";
        Announced = "announced",
            "a version was announced and is not written yet, or never will be",
            "none; the announcement ends after a settle window";
        CacheBehind = "cache-behind",
            "the tables are equal, and a cache holds another version",
            "none where a record waits; else remove the key, or wait for its time to live";
        OnItsWay = "on-its-way",
            "a record or a hint waits and is being delivered",
            "none";
        Unknown = "unknown",
            "a region cannot be read, and nothing is known to wait for it",
            "bring the region back, then look again";
        Waiting = "waiting",
            "a record or a hint waits, and the destination fails or the daemon says nothing",
            "check the destination, or start the daemon";
        Parked = "parked",
            "the destination is down; a hint waits until it is back",
            "bring the destination back";
        NotReplicated = "not-replicated",
            "the configuration does not replicate the table",
            "add the table to the configuration, then write the row once more";
        Quarantined = "quarantined",
            "the change lies in quarantine",
            "run `tablerelay quarantine show` on it, mend the cause";
        Stuck = "stuck",
            "regions differ, and nothing waits that would make them equal",
            "write the row once more, by the protocol";
    }
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(super) struct Outlook {
    /// In one word.
    pub next: Prospect,
    /// In one sentence.
    pub sentence: String,
}

/// A part of the sentence, and how bad it is.
type Clause = (Prospect, String);

/// What will happen to the row.
pub(super) fn outlook(picture: &Picture) -> Outlook {
    if !picture.replicated {
        let table = &picture.id.table;
        let sentence = format!("not replicated: the configuration does not name the table {table}");
        return Outlook { next: Prospect::NotReplicated, sentence };
    }
    if picture.regions.is_empty() {
        let sentence = "no region can be read, so nothing is known of the row".to_owned();
        return Outlook { next: Prospect::Unknown, sentence };
    }
    let newest = newest(&picture.regions);
    let behind: Vec<&Column> =
        picture.regions.iter().filter(|column| newest.is_some_and(|newest| !same(column, newest))).collect();
    let mut clauses: Vec<Clause> = match newest {
        Some(newest) if !behind.is_empty() => {
            behind.iter().map(|column| brought(picture, newest, &column.region)).collect()
        }
        newest => settled(picture, newest),
    };
    clauses.extend(picture.unreachable.iter().map(|unreachable| beyond(picture, newest, &unreachable.region)));
    let next = clauses.iter().map(|(prospect, _)| *prospect).max().unwrap_or(Prospect::Equal);
    let sentence = clauses.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join("; ");
    Outlook { next, sentence }
}

/// The region that has the newest; the one that issued it where several have it.
fn newest(regions: &[Column]) -> Option<&Column> {
    let standing = regions.iter().filter(|column| column.standing() != Standing::Nothing);
    standing.max_by_key(|column| {
        let version = column.standing().version().cloned();
        let issued = version.as_ref().is_some_and(|version| version.is_of(&column.region));
        let settled = !matches!(column.standing(), Standing::Deleting(_));
        (version, settled, issued)
    })
}

fn same(column: &Column, newest: &Column) -> bool {
    !matches!(column.standing(), Standing::Deleting(_)) && column.standing() == newest.standing()
}

/// What brings `to` the newest.
fn brought(picture: &Picture, newest: &Column, to: &Region) -> Clause {
    let version = newest.standing().version().cloned();
    if let Some((column, held)) = holding(picture, version.as_ref(), to) {
        return quarantined(&column.region, held);
    }
    let what = match newest.standing() {
        Standing::Row(version) => format!("{}'s {version}", newest.region),
        _ => format!("{}'s delete", newest.region) + &version.map(|version| format!(" {version}")).unwrap_or_default(),
    };
    for column in &picture.regions {
        if let Some(hint) = column.hints.iter().find(|hint| hint.destination == to.as_str()) {
            let age = ago(picture.at, hint.since);
            return delivered(picture.at, column, to, &what, &format!("a hint of {age}"));
        }
    }
    // Any record of the row leads to a look at it, and that to what is newest; that of the region which has it, the sooner.
    let others = picture.regions.iter().filter(|column| column.region != newest.region);
    let open = std::iter::once(newest).chain(others).find_map(|column| Some((column, column.records.first()?)));
    match open {
        Some((column, record)) => {
            let age = ago(picture.at, record.announced);
            delivered(picture.at, column, to, &what, &format!("a record of {age}"))
        }
        None => {
            let how =
                if newest.row.as_ref().is_some_and(|row| row.implicit) { " (written without a version)" } else { "" };
            let text = format!("{to} lacks {what}{how} and nothing waits for it: write the row once more");
            (Prospect::Stuck, text)
        }
    }
}

/// `what` is delivered to `to` by the daemon of `column`, where `waits` stands.
fn delivered(at: Time, column: &Column, to: &Region, what: &str, waits: &str) -> Clause {
    let from = &column.region;
    match column.link_to(to) {
        // A region's own record is looked at like any other.
        _ if from == to => (Prospect::OnItsWay, format!("{what} is on its way to {to}: {waits} waits in {from}")),
        None => (
            Prospect::Waiting,
            format!("{what} waits for {to}: {waits}, but the daemon of {from} has said nothing yet; start it"),
        ),
        Some(link) if at.since(link.published) > LinkStatus::STALE => {
            let silent = output::age(at.since(link.published));
            let text = format!(
                "{what} waits for {to}: {waits}, but the daemon of {from} has said nothing for {silent}; start it"
            );
            (Prospect::Waiting, text)
        }
        Some(Link { state: LinkState::Parked, .. }) => {
            (Prospect::Parked, format!("parked: {waits} in {from} waits until {to} is back, with {what}"))
        }
        Some(Link { state: LinkState::BackingOff, last_error, .. }) => {
            let why = last_error.as_deref().map(|error| format!(" ({error})")).unwrap_or_default();
            let text = format!("{what} waits for {to}, which fails{why}: {waits} in {from} is tried again");
            (Prospect::Waiting, text)
        }
        Some(Link { state: LinkState::Flowing, .. }) => {
            (Prospect::OnItsWay, format!("{what} is on its way to {to}: {waits} waits"))
        }
    }
}

/// All that could be read have the same.
fn settled(picture: &Picture, newest: Option<&Column>) -> Vec<Clause> {
    let version = newest.and_then(|column| column.standing().version().cloned());
    let place = match picture.regions.as_slice() {
        regions if picture.unreachable.is_empty() && regions.len() > 1 => "everywhere".to_owned(),
        regions => format!("in {}", list(regions.iter().map(|column| &column.region))),
    };
    let (calm, mut text) = match (newest.map(Column::standing), &version) {
        (Some(Standing::Row(_)), Some(version)) => (Prospect::Equal, format!("equal {place}, at {version}")),
        (Some(_), Some(version)) => (Prospect::Equal, format!("deleted {place}, by {version}")),
        _ if picture.unreachable.is_empty() => {
            (Prospect::Nowhere, "no region has the row or a tombstone of it".to_owned())
        }
        _ => (Prospect::Nowhere, format!("neither the row nor a tombstone of it is {place}")),
    };
    let mut clauses = Vec::new();
    for column in &picture.regions {
        let reachable = |name: &str| picture.regions.iter().any(|other| other.region.as_str() == name);
        let above = |held: &&Held| {
            let here = held.destination.as_ref().is_none_or(|to| reachable(to.as_str()));
            here && (held.version.is_none() || held.version > version)
        };
        clauses.extend(column.quarantine.iter().filter(above).map(|held| quarantined(&column.region, held)));
        if let Some(record) = column.records.iter().find(|record| Some(&record.version) > version.as_ref()) {
            let (announced, age) = (&record.version, ago(picture.at, record.announced));
            let text = format!("{announced} was announced in {} {age} and has not been written so far", column.region);
            clauses.push((Prospect::Announced, text));
        } else if let (Some(record), true) = (column.records.first(), picture.unreachable.is_empty()) {
            let age = ago(picture.at, record.announced);
            clauses.push((Prospect::OnItsWay, format!("a record of {age} in {} has yet to end", column.region)));
        }
        if let Some(hint) = column.hints.iter().find(|hint| reachable(&hint.destination)) {
            let (age, to) = (ago(picture.at, hint.since), &hint.destination);
            clauses.push((Prospect::OnItsWay, format!("a hint of {age} in {} for {to} has yet to end", column.region)));
        }
        clauses.extend(cache(column, picture.at));
    }
    if clauses.is_empty() && picture.unreachable.is_empty() {
        text.push_str("; nothing waits");
    }
    clauses.insert(0, (calm, text));
    // That the row is nowhere is what to say only where nothing waits.
    if clauses.len() > 1 && calm == Prospect::Nowhere {
        clauses[0].0 = Prospect::Equal;
    }
    clauses
}

/// What is known of a region that cannot be read.
fn beyond(picture: &Picture, newest: Option<&Column>, to: &Region) -> Clause {
    let version = newest.and_then(|column| column.standing().version().cloned());
    let meant = |(_, held): &(&Column, &Held)| held.destination.as_ref() == Some(to);
    if let Some((column, held)) = holding(picture, version.as_ref(), to).filter(meant) {
        return quarantined(&column.region, held);
    }
    for column in &picture.regions {
        if let Some(hint) = column.hints.iter().find(|hint| hint.destination == to.as_str()) {
            let age = ago(picture.at, hint.since);
            let text = format!("{to} cannot be read: a hint of {age} in {} waits until it is back", column.region);
            return (Prospect::Parked, text);
        }
    }
    for column in &picture.regions {
        if let Some(record) = column.records.first() {
            let age = ago(picture.at, record.announced);
            let text = format!("{to} cannot be read: a record of {age} in {} waits for it", column.region);
            return (Prospect::Waiting, text);
        }
    }
    (Prospect::Unknown, format!("{to} cannot be read, and nothing is known to wait for it"))
}

/// An entry that keeps `to` from having `newest`.
fn holding<'a>(picture: &'a Picture, newest: Option<&Version>, to: &Region) -> Option<(&'a Column, &'a Held)> {
    let holds = |held: &&Held| {
        let meant = held.destination.as_ref().is_none_or(|destination| destination == to);
        meant && held.version.as_ref().is_none_or(|version| Some(version) >= newest)
    };
    picture.regions.iter().find_map(|column| Some((column, column.quarantine.iter().find(holds)?)))
}

fn quarantined(region: &Region, held: &Held) -> Clause {
    let to = held.destination.as_ref().map(|to| format!(" for {to}")).unwrap_or_default();
    let (id, reason, remedy) = (&held.id, held.reason, held.remedy);
    (Prospect::Quarantined, format!("held in quarantine in {region}{to} as {id} ({reason}): {remedy}"))
}

/// Where the cache of a region does not hold what the region does, what will set it right.
fn cache(column: &Column, now: Time) -> Option<Clause> {
    let (region, own) = (&column.region, Addressee::Cache(column.region.clone()).to_string());
    let hint = column.hints.iter().find(|hint| hint.destination == own).map(|hint| ago(now, hint.since));
    let (version, deleted) = match &column.cache {
        Cache::Entry { version, deleted } => (version, *deleted),
        Cache::Unreachable { error } => {
            let text = format!(
                "the cache of {region} cannot be reached ({error}): a hint of {} waits until it is back",
                hint?
            );
            return Some((Prospect::Parked, text));
        }
        Cache::Absent => {
            let text = format!("the cache of {region} lacks it: a hint of {} waits to refresh it", hint?);
            return Some((Prospect::CacheBehind, text));
        }
        Cache::None => return None,
    };
    let standing = column.standing();
    let stands = standing.version().map(Version::as_str);
    let right = stands == Some(version) && deleted == matches!(standing, Standing::Deleted(_));
    // A deleted row's mark leaves before its tombstone does.
    let gone = stands.is_none() && deleted;
    if right || gone {
        return None;
    }
    let order = if Some(version.as_str()) > stands { "newer" } else { "older" };
    let refreshed = match hint {
        _ if !column.records.is_empty() => "it is refreshed with the record".to_owned(),
        Some(age) => format!("a hint of {age} waits to refresh it"),
        None => "it lives no longer than its ttl".to_owned(),
    };
    Some((Prospect::CacheBehind, format!("the cache of {region} holds {version}, {order} than the table; {refreshed}")))
}

fn ago(now: Time, then: Time) -> String {
    format!("{} ago", output::age(now.since(then)))
}

fn list<'a>(regions: impl Iterator<Item = &'a Region>) -> String {
    let names: Vec<&str> = regions.map(Region::as_str).collect();
    match names.as_slice() {
        [before @ .., last] if !before.is_empty() => format!("{} and {last}", before.join(", ")),
        names => names.concat(),
    }
}
