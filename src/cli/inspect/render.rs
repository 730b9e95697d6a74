//! The picture as a table for people: a column for each region.

use super::super::output;
use super::outlook::Outlook;
use super::picture::{Cache, Column, Picture};

type Cell = fn(&Picture, &Column) -> String;

const ASPECTS: [(&str, Cell); 9] = [
    ("row", row),
    ("written", written),
    ("tombstone", tombstone),
    ("records", records),
    ("hints", hints),
    ("quarantine", quarantine),
    ("conflicts", conflicts),
    ("cache", cache),
    ("links", links),
];

/// The sentence first, since it is what was asked for.
pub(super) fn render(outlook: &Outlook, picture: &Picture) -> String {
    let id = &picture.id;
    let mut text = format!("{} {:?} {:?}: {}\n\n", id.table, id.partition, id.row, outlook.sentence);
    let names = picture.regions.iter().map(|column| column.region.as_str().to_uppercase());
    let heads: Vec<String> = std::iter::once(String::new()).chain(names).collect();
    let mut table = output::table(&heads.iter().map(String::as_str).collect::<Vec<_>>());
    for (name, cell) in ASPECTS {
        let cells = picture.regions.iter().map(|column| or_dash(cell(picture, column)));
        table.add_row(std::iter::once(name.to_owned()).chain(cells));
    }
    text.push_str(&output::render(&table));
    for column in &picture.regions {
        for unread in &column.unread {
            text.push_str(&format!("\n{} cannot be read whole: {unread}", column.region));
        }
    }
    text
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

fn lines(lines: impl Iterator<Item = String>) -> String {
    lines.collect::<Vec<_>>().join("\n")
}

fn row(_: &Picture, column: &Column) -> String {
    column.row.as_ref().map_or_else(String::new, |row| match row.implicit {
        true => format!("{} (made of its Timestamp)", row.version),
        false => row.version.to_string(),
    })
}

fn written(picture: &Picture, column: &Column) -> String {
    column.row.as_ref().map_or_else(String::new, |row| ago(picture, row.written))
}

fn tombstone(_: &Picture, column: &Column) -> String {
    column.tombstone.as_ref().map(ToString::to_string).unwrap_or_default()
}

fn records(picture: &Picture, column: &Column) -> String {
    lines(column.records.iter().map(|record| {
        let what = if record.deletes { "delete" } else { "put" };
        format!("{what} {}, {}", record.version, ago(picture, record.announced))
    }))
}

fn hints(picture: &Picture, column: &Column) -> String {
    lines(
        column
            .hints
            .iter()
            .map(|hint| format!("for {}: {}, {}", hint.destination, hint.version, ago(picture, hint.since))),
    )
}

fn quarantine(_: &Picture, column: &Column) -> String {
    lines(column.quarantine.iter().map(|held| {
        let to = held.destination.as_ref().map(|to| format!(" for {to}")).unwrap_or_default();
        let version = held.version.as_ref().map(|version| format!(": {version}")).unwrap_or_default();
        format!("{} {}{to}{version}", held.id, held.reason)
    }))
}

fn conflicts(_: &Picture, column: &Column) -> String {
    lines(column.conflicts.iter().map(|conflict| format!("{} over {}", conflict.winner, conflict.loser)))
}

fn cache(_: &Picture, column: &Column) -> String {
    match &column.cache {
        Cache::None => "no cache".to_owned(),
        Cache::Absent => String::new(),
        Cache::Entry { version, deleted: false } => version.clone(),
        Cache::Entry { version, deleted: true } => format!("{version} (deleted)"),
        Cache::Unreachable { error } => format!("cannot be reached: {error}"),
    }
}

fn links(picture: &Picture, column: &Column) -> String {
    lines(
        column
            .links
            .iter()
            .map(|link| format!("to {}: {}, as of {}", link.destination, link.state, ago(picture, link.published))),
    )
}

fn ago(picture: &Picture, then: crate::model::Time) -> String {
    format!("{} ago", output::age(picture.at.since(then)))
}
