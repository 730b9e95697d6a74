//! The picture as a frame of text for a terminal of 80 columns.

use comfy_table::presets::NOTHING;
use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, Table, TableComponent};

use super::headline::{Tone, headline};
use super::picture::{LinkLine, Picture, RegionLine};
use super::script::Stage;
use super::words::{Paint, count, given, span};
use crate::settle::LinkState;

/// Columns of the bar.
const BAR: u32 = 58;
/// A lag from which on it is shown as a warning.
const LATE: std::time::Duration = std::time::Duration::from_secs(1);

/// The whole frame, with a newline at its end, so that what comes after it begins on a line of its own.
pub(super) fn frame(picture: &Picture, paint: Paint) -> String {
    let title = format!("3 regions, 6 writers, clocks up to 200 ms off, seed {}", picture.options.seed);
    let mut lines = vec![format!(" {}  {}", paint.bold("tablerelay demo"), paint.faint(&title)), String::new()];
    if picture.stage != Stage::Compared {
        let (tone, [first, second]) = headline(picture);
        let mark = match tone {
            Tone::Good => paint.good("●"),
            Tone::Busy => paint.warning("●"),
            Tone::Bad => paint.bad("●"),
        };
        lines.extend([format!(" {mark} {}", paint.bold(&first)), format!("   {second}"), String::new()]);
        lines.extend([format!(" {}", bar(picture, paint)), String::new()]);
    }
    lines.extend([links(picture, paint), String::new(), regions(picture, paint), String::new()]);
    lines.push(format!(" {}\n", writers(picture, paint)));
    lines.join("\n")
}

/// How far the script is, with the time in which a region is cut off.
fn bar(picture: &Picture, paint: Paint) -> String {
    let script = picture.script;
    let mut bar = String::new();
    for column in 0..BAR {
        let at = script.writing * column / BAR;
        let cut = (script.cut_at()..script.heal_at()).contains(&at);
        bar += &match (at <= picture.elapsed, cut) {
            (true, true) => paint.bad("╍"),
            (true, false) => paint.good("━"),
            (false, _) => paint.faint("─"),
        };
    }
    let time = match picture.stage {
        Stage::Settling => format!("settling {}", span(picture.elapsed.saturating_sub(script.writing))),
        _ => format!("{:.1} s of {}", picture.elapsed.as_secs_f64(), given(script.writing)),
    };
    format!("{bar}  {time}")
}

/// A table whose first two columns are text, and whose other ones are numbers.
fn table(heads: &[&str], paint: Paint) -> Table {
    let mut table = Table::new();
    table.load_preset(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.remove_style(TableComponent::VerticalLines).remove_style(TableComponent::LeftBorder);
    table.set_style(TableComponent::HeaderLines, '─');
    match paint.0 {
        true => table.enforce_styling(),
        false => table.force_no_tty(),
    };
    table.set_header(heads.iter().map(|head| Cell::new(head).add_attribute(Attribute::Dim)));
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn links(picture: &Picture, paint: Paint) -> String {
    let mut table = table(&["link", "state", "lag", "last sync", "applied", "conflicts", "backlog"], paint);
    for link in &picture.links {
        table.add_row(link_cells(link));
    }
    table.trim_fmt()
}

fn link_cells(link: &LinkLine) -> [Cell; 7] {
    let state = match link.state {
        LinkState::Flowing => Color::Green,
        LinkState::BackingOff => Color::Red,
        LinkState::Parked => Color::Yellow,
    };
    let lag = number(span(link.lag), 7);
    [
        Cell::new(format!("{:<5} → {:<5}", link.source.as_str(), link.destination.as_str())),
        Cell::new(format!("{:<11}", link.state.to_string())).fg(state),
        if link.lag >= LATE { lag.fg(Color::Yellow) } else { lag },
        number(link.synced.map_or_else(|| "-".to_owned(), |ago| format!("{} ago", span(ago))), 10),
        number(count(link.applied), 7),
        number(count(link.conflicts), 7),
        number(count(link.backlog), 7),
    ]
}

/// A number in a column that does not change its width as the number grows.
fn number(text: String, width: usize) -> Cell {
    Cell::new(format!("{text:>width$}"))
}

fn regions(picture: &Picture, paint: Paint) -> String {
    let heads = ["region", "its writers' clocks", "written", "rows", "feed", "cache behind"];
    let mut table = table(&heads, paint);
    for region in &picture.regions {
        table.add_row(region_cells(region));
    }
    table.trim_fmt()
}

fn region_cells(region: &RegionLine) -> [Cell; 6] {
    let [first, second] = region.skews;
    [
        Cell::new(format!("{:<13}", region.region.as_str())),
        Cell::new(format!("{first:+} ms, {second:+} ms")),
        number(count(region.counts.changes()), 7),
        number(count(region.rows as u64), 7),
        number(count(region.records as u64), 7),
        number(count(region.cache_behind as u64), 7),
    ]
}

fn writers(picture: &Picture, paint: Paint) -> String {
    let counts = &picture.counts;
    let done = [
        ("inserts", counts.inserts),
        ("updates", counts.merges + counts.replaces),
        ("deletes", counts.deletes),
        ("transactions", counts.transactions),
        ("crashes", counts.crashes),
    ];
    done.map(|(what, number)| format!("{} {}", paint.faint(what), count(number))).join("  ")
}
