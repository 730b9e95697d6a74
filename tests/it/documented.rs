//! The closed lists stand in docs/operations.md as they stand in the code.
//!
//! `UPDATE_DOCS=1 cargo test --test it documented` writes them there.

use std::fs;
use std::path::PathBuf;

use tablerelay::cache::Loss;
use tablerelay::feed::{Reason, Source};
use tablerelay::model::ClosedList;
use tablerelay::ops::{BackfillState, Copied, DrillStep, DrillVerdict, Fate, Kept, RebalanceStep, Restoring, Waits};
use tablerelay::resolve::{Decision, Difference, Mend};
use tablerelay::settle::{HeldBy, LinkState};
use tablerelay::telemetry::Event;
use tablerelay::telemetry::metrics::{ApplyOutcome, CacheOutcome, LateOutcome, StoreOperation};
use tablerelay::topology::{Alone, Deletes, LateWrites, MoveKind, Reading, Role, Topology, WriteHealth};

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// A list as a table in Markdown; without the column of remedies where there are none.
fn table<L: ClosedList>() -> String {
    let remedies = L::ALL.iter().any(|item| item.remedy() != "none");
    let mut lines = vec![
        if remedies { "| word | meaning | remedy |\n|---|---|---|\n" } else { "| word | meaning |\n|---|---|\n" }
            .to_owned(),
    ];
    for item in L::ALL {
        let remedy = if remedies { format!(" {} |", item.remedy()) } else { String::new() };
        lines.push(format!("| `{item}` | {} |{remedy}\n", item.meaning()));
    }
    lines.concat()
}

/// The document with this list in its place.
fn with<L: ClosedList>(document: &str, name: &str) -> String {
    let open = format!("<!-- list: {name} -->\n");
    let (before, rest) = document.split_once(&open).unwrap_or_else(|| panic!("docs/operations.md should have {open}"));
    let (_, after) = rest.split_once("<!-- end -->").unwrap_or_else(|| panic!("{name} should end with <!-- end -->"));
    format!("{before}{open}{}<!-- end -->{after}", table::<L>())
}

#[test]
fn every_closed_list_is_documented_with_meaning_and_remedy() {
    let path = path("docs/operations.md");
    let written = fs::read_to_string(&path).expect("docs/operations.md is there");
    let mut expected = written.clone();
    expected = with::<Role>(&expected, "Role");
    expected = with::<WriteHealth>(&expected, "WriteHealth");
    expected = with::<Topology>(&expected, "Topology");
    expected = with::<MoveKind>(&expected, "MoveKind");
    expected = with::<LateWrites>(&expected, "LateWrites");
    expected = with::<LateOutcome>(&expected, "LateOutcome");
    expected = with::<DrillStep>(&expected, "DrillStep");
    expected = with::<DrillVerdict>(&expected, "DrillVerdict");
    expected = with::<RebalanceStep>(&expected, "RebalanceStep");
    expected = with::<Copied>(&expected, "Copied");
    expected = with::<BackfillState>(&expected, "BackfillState");
    expected = with::<Difference>(&expected, "Difference");
    expected = with::<Waits>(&expected, "Waits");
    expected = with::<Mend>(&expected, "Mend");
    expected = with::<Fate>(&expected, "Fate");
    expected = with::<Deletes>(&expected, "Deletes");
    expected = with::<Restoring>(&expected, "Restoring");
    expected = with::<HeldBy>(&expected, "HeldBy");
    expected = with::<Kept>(&expected, "Kept");
    expected = with::<Reading>(&expected, "Reading");
    expected = with::<Alone>(&expected, "Alone");
    expected = with::<LinkState>(&expected, "LinkState");
    expected = with::<Loss>(&expected, "Loss");
    expected = with::<Reason>(&expected, "Reason");
    expected = with::<Source>(&expected, "Source");
    expected = with::<Decision>(&expected, "Decision");
    expected = with::<ApplyOutcome>(&expected, "ApplyOutcome");
    expected = with::<CacheOutcome>(&expected, "CacheOutcome");
    expected = with::<StoreOperation>(&expected, "StoreOperation");
    expected = with::<Event>(&expected, "Event");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &expected).expect("docs/operations.md can be written");
        return;
    }
    let line = written.lines().zip(expected.lines()).position(|(a, b)| a != b).map_or(0, |index| index + 1);
    assert!(
        written == expected,
        "docs/operations.md:{line}: not as in the code; run UPDATE_DOCS=1 cargo test --test it documented"
    );
}

#[test]
fn every_metric_is_documented() {
    let document = fs::read_to_string(path("docs/operations.md")).expect("docs/operations.md is there");
    let code = fs::read_to_string(path("src/telemetry/metrics.rs")).expect("src/telemetry/metrics.rs is there");
    let names: Vec<_> = code.lines().filter(|line| line.starts_with("pub const ")).collect();
    assert!(names.len() >= 10, "the names of metrics were not found in src/telemetry/metrics.rs");
    for line in names {
        let name = line.split('"').nth(1).expect("a metric's constant is a string");
        assert!(document.contains(&format!("| `{name}` |")), "docs/operations.md: {name} has no row under Metrics");
    }
}
