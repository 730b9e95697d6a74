//! The demo, as a shell sees it.

use serde_json::Value;

use crate::support::relay::{Config, Ended};

fn demo(arguments: &[&str]) -> Ended {
    Config::new("").run(&[&["demo", "--for", "1s", "--rate", "60", "--output", "json"], arguments].concat(), &[])
}

#[test]
fn it_exits_with_0_where_all_regions_are_equal_and_the_verdict_alone_is_on_standard_output() {
    let ended = demo(&["--seed", "11"]);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let verdict: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!((&verdict["outcome"], &verdict["seed"]), (&"equal".into(), &11.into()), "{verdict:#}");
    assert!(ended.err.contains("north is cut off") && ended.err.contains("north is back"), "{}", ended.err);
}

#[test]
fn it_exits_with_1_where_a_row_was_changed_behind_the_lines_back() {
    let ended = demo(&["--spoil"]);
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    let verdict: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!((&verdict["outcome"], &verdict["difference_count"]), (&"differ".into(), &2.into()), "{verdict:#}");
    assert!(ended.err.contains("did not end as it should have"), "{}", ended.err);
}

#[test]
fn a_time_without_a_unit_exits_with_2_and_says_what_it_should_be() {
    let ended = Config::new("").run(&["demo", "--for", "10"], &[]);
    assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""));
    assert!(ended.err.contains("it should be a duration with its unit"), "{}", ended.err);
}
