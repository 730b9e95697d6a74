//! The runbook has an answer to every line that wakes somebody, and to every alert; and nothing else.
//!
//! A line of level WARN or ERROR carries `event = Event::….as_str()`, and the word of its event is the heading in
//! docs/runbook.md. An alert of deploy/alerts.yaml links the heading that is its name in lower case with dashes.

use std::collections::{BTreeMap, BTreeSet};

use tablerelay::model::ClosedList;
use tablerelay::telemetry::Event;

use super::source::Source;
use super::tree::{self, Text};
use super::{Finding, lines, none};

const RUNBOOK: &str = "docs/runbook.md";
const ALERTS: &str = "deploy/alerts.yaml";
const ALERT_TESTS: &str = "deploy/alerts_test.yaml";
/// What every heading says, in this order.
const PARTS: [&str; 5] = ["**Meaning.**", "**Urgency.**", "**Look at.**", "**Do.**", "**It ends**"];
/// What alerts are called, in front of the words of their heading.
const PREFIX: &str = "TableRelay";

/// A line of level WARN or ERROR.
#[derive(Debug)]
struct Alarm {
    line: usize,
    /// The events that it may carry, by the names of their variants; none where it carries none.
    events: Vec<String>,
}

/// The WARN and ERROR lines of a source. Where the event is chosen before, `let event = …` in the same function says from
/// which.
fn alarms(source: &Source) -> Vec<Alarm> {
    let is_alarm = |code: &str| ["warn!(", "error!("].iter().any(|call| code.contains(call));
    let mut alarms = Vec::new();
    for (number, _) in source.shipped().filter(|(_, line)| is_alarm(&line.code)) {
        let call = call_at(source, number);
        let mut events = variants(&call);
        if events.is_empty() && call.contains("event = event.as_str()") {
            let first = source.function_at(number).map_or(0, |function| function.first);
            let above = source.lines[first..number].iter().map(|line| line.code.as_str());
            let chosen: Vec<&str> = above.skip_while(|code| !code.contains("let event =")).collect();
            events = variants(&chosen.join(" "));
        }
        alarms.push(Alarm { line: number, events });
    }
    alarms
}

/// The macro call that begins on this line, to its closing parenthesis.
fn call_at(source: &Source, number: usize) -> String {
    let (mut call, mut depth) = (String::new(), 0i32);
    for line in &source.lines[number - 1..] {
        for c in line.code.chars() {
            depth += i32::from(c == '(') - i32::from(c == ')');
            call.push(c);
        }
        call.push(' ');
        if depth <= 0 {
            break;
        }
    }
    call
}

fn variants(code: &str) -> Vec<String> {
    let name = |rest: &str| rest.chars().take_while(|c| c.is_alphanumeric()).collect();
    code.split("Event::").skip(1).map(name).collect()
}

/// Lines without an event: nobody can look them up.
fn anonymous(source: &Source) -> Vec<Finding> {
    let remedy = "a WARN or ERROR names its event, which is its heading in docs/runbook.md; else it is INFO or DEBUG";
    let without = alarms(source).into_iter().filter(|alarm| alarm.events.is_empty());
    without.map(|alarm| Finding::new(&source.path, alarm.line, remedy)).collect()
}

/// The word of each event that is logged at WARN or ERROR.
fn alarming(sources: &[Source]) -> BTreeSet<String> {
    let words: BTreeMap<String, &str> = Event::ALL.iter().map(|event| (format!("{event:?}"), event.as_str())).collect();
    let events = sources.iter().flat_map(alarms).flat_map(|alarm| alarm.events);
    events.filter_map(|event| words.get(&event).map(|word| (*word).to_owned())).collect()
}

/// The alerts by the headings that they should link, each with its name, its line and what it links.
fn alerts(text: &Text) -> Vec<(String, usize, Option<String>)> {
    let mut alerts: Vec<(String, usize, Option<String>)> = Vec::new();
    for (index, line) in text.text.lines().enumerate() {
        let line = line.trim();
        if let Some(name) = line.strip_prefix("- alert: ") {
            alerts.push((name.to_owned(), index + 1, None));
        } else if let (Some(link), Some(alert)) = (line.strip_prefix("runbook: "), alerts.last_mut()) {
            alert.2 = Some(link.to_owned());
        }
    }
    alerts
}

/// `TableRelayLinkParked` is explained under `link-parked`.
fn heading_of(alert: &str) -> Option<String> {
    let mut words = String::new();
    for c in alert.strip_prefix(PREFIX)?.chars() {
        if c.is_uppercase() && !words.is_empty() {
            words.push('-');
        }
        words.extend(c.to_lowercase());
    }
    Some(words)
}

fn alerts_without_their_link(text: &Text) -> Vec<Finding> {
    let wrong = |(name, line, link): (String, usize, Option<String>)| {
        let expected = heading_of(&name).map(|heading| format!("{RUNBOOK}#{heading}"));
        let remedy = match &expected {
            Some(expected) if link.as_ref() == Some(expected) => return None,
            Some(expected) => format!("{name} should have the annotation `runbook: {expected}`"),
            None => format!("{name} should begin with {PREFIX}"),
        };
        Some(Finding::new(&text.path, line, remedy))
    };
    alerts(text).into_iter().filter_map(wrong).collect()
}

/// The sections of the runbook: heading, line, text.
fn sections(runbook: &Text) -> Vec<(String, usize, String)> {
    let mut sections: Vec<(String, usize, String)> = Vec::new();
    for (index, line) in runbook.text.lines().enumerate() {
        if let Some(heading) = line.strip_prefix("## ") {
            sections.push((heading.to_owned(), index + 1, String::new()));
        } else if let Some(section) = sections.last_mut() {
            section.2.push_str(line);
            section.2.push('\n');
        }
    }
    sections
}

fn unlike_what_is_raised(runbook: &Text, raised: &BTreeSet<String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut known = BTreeSet::new();
    for (heading, line, text) in sections(runbook) {
        if !raised.contains(&heading) {
            let remedy = format!("neither a WARN or ERROR event nor an alert is called {heading}; take it out");
            findings.push(Finding::new(RUNBOOK, line, remedy));
        }
        let places: Vec<_> = PARTS.iter().map(|part| text.find(part)).collect();
        if places.iter().any(Option::is_none) || !places.is_sorted() {
            let remedy = format!("{heading} should have the parts {}, in this order", PARTS.join(" "));
            findings.push(Finding::new(RUNBOOK, line, remedy));
        }
        known.insert(heading);
    }
    for heading in raised.difference(&known) {
        findings.push(Finding::new(
            RUNBOOK,
            1,
            format!("there should be a section `## {heading}`: it is logged or alerts"),
        ));
    }
    findings
}

fn text<'a>(texts: &'a [Text], path: &str) -> &'a Text {
    texts.iter().find(|text| text.path == path).unwrap_or_else(|| panic!("{path} should be there"))
}

#[test]
fn every_line_that_wakes_somebody_says_what_to_look_up() {
    none(tree::sources().iter().flat_map(anonymous));
}

#[test]
fn the_runbook_has_a_heading_for_every_alarming_event_and_alert_and_no_other() {
    let (texts, sources) = (tree::texts(), tree::sources());
    let alerts = alerts(text(&texts, ALERTS)).into_iter().filter_map(|(name, ..)| heading_of(&name));
    let raised: BTreeSet<String> = alarming(&sources).into_iter().chain(alerts).collect();
    assert!(raised.len() > 15, "the events and alerts were not found: {raised:?}");
    none(unlike_what_is_raised(text(&texts, RUNBOOK), &raised));
}

#[test]
fn every_alert_links_its_heading_and_is_tested_to_fire() {
    let texts = tree::texts();
    let (rules, tests) = (text(&texts, ALERTS), text(&texts, ALERT_TESTS));
    none(alerts_without_their_link(rules));
    let untested = |(name, line, _): (String, usize, _)| {
        let asked = format!("alertname: {name}\n");
        let expects = |what: &str| tests.text.split(&asked).skip(1).any(|rest| rest.trim_start().starts_with(what));
        let (fires, rests) = (expects("exp_alerts:\n"), expects("exp_alerts: []\n"));
        let remedy = format!("{ALERT_TESTS} should show {name} firing, and not firing");
        (!(fires && rests)).then(|| Finding::new(ALERTS, line, remedy))
    };
    none(alerts(rules).into_iter().filter_map(untested));
}

#[test]
fn alerts_ask_for_metrics_that_there_are() {
    let texts = tree::texts();
    let names = &text(&texts, "src/telemetry/metrics.rs").text;
    let rules = text(&texts, ALERTS);
    let mut findings = Vec::new();
    for (index, line) in rules.text.lines().enumerate() {
        let words = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let unknown = words.filter(|word| word.starts_with("tablerelay_") && !names.contains(&format!("\"{word}\"")));
        findings.extend(unknown.map(|word| Finding::new(ALERTS, index + 1, format!("there is no metric {word}"))));
    }
    none(findings);
}

#[test]
fn a_line_without_an_event_is_found() {
    let code = "use tracing::{error, warn};\nfn a() {\n    warn!(%error, \"x\");\n    warn!(event = Event::LinkParked.as_str(),\n        \
                \"y\");\n}\nfn b() {\n    let event = match c {\n        d => Event::AccessDenied,\n        _ => \
                Event::LinkBackingOff,\n    };\n    error!(event = event.as_str(), \"z\");\n}\n#[cfg(test)]\nmod tests {\n    \
                fn t() { warn!(\"w\") }\n}\n";
    let source = Source::new("src/x.rs", code);
    assert_eq!(lines(&anonymous(&source)), [3]);
    let words: Vec<String> = alarming(&[source]).into_iter().collect();
    assert_eq!(words, ["access-denied", "link-backing-off", "link-parked"]);
}

#[test]
fn a_heading_too_many_too_few_and_too_short_is_found() {
    let parts = PARTS.join(" x. ");
    let runbook = |text: String| Text { path: RUNBOOK.to_owned(), text };
    let raised: BTreeSet<String> = ["a-b".to_owned(), "c".to_owned()].into();
    let good = runbook(format!("# Runbook\n\n## a-b\n\n{parts}\n\n## c\n\n{parts}\n"));
    assert_eq!(unlike_what_is_raised(&good, &raised), []);
    let more = runbook(format!("{}## d\n\n{parts}\n", good.text));
    assert_eq!(lines(&unlike_what_is_raised(&more, &raised)), [10]);
    let fewer = runbook(format!("# Runbook\n## c\n{parts}\n"));
    assert_eq!(lines(&unlike_what_is_raised(&fewer, &raised)), [1]);
    let short = runbook(good.text.replacen("**Do.**", "", 1));
    assert_eq!(lines(&unlike_what_is_raised(&short, &raised)), [3]);
}

#[test]
fn an_alert_that_links_another_heading_is_found() {
    let text = |text: &str| Text { path: ALERTS.to_owned(), text: text.to_owned() };
    let alert =
        |name: &str, link: &str| format!("- alert: {name}\n  annotations:\n    runbook: docs/runbook.md#{link}\n");
    let rules = text(&[alert("TableRelayLinkParked", "link-parked"), alert("TableRelayDown", "up")].concat());
    assert_eq!(lines(&alerts_without_their_link(&rules)), [4]);
    assert_eq!(lines(&alerts_without_their_link(&text("- alert: Parked\n"))), [1]);
}
