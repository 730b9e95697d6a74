//! Documents lead where they say.

use super::tree::{self, Text};
use super::{Finding, lines, none};

/// Links to files and headings of the repository that are not there.
fn dead_links(document: &Text, all: &[Text]) -> Vec<Finding> {
    let folder = document.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut findings = Vec::new();
    let mut fenced = false;
    for (index, line) in document.text.lines().enumerate() {
        fenced ^= line.trim_start().starts_with("```");
        if fenced {
            continue;
        }
        for target in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let path = if file.is_empty() { document.path.clone() } else { joined(folder, file) };
            let leads = all.iter().find(|text| text.path == path);
            let is_folder =
                || all.iter().any(|text| text.path.starts_with(&format!("{}/", path.trim_end_matches('/'))));
            let dead = match leads {
                Some(text) => !heading.is_empty() && !headings(text).any(|known| known == heading),
                None => !is_folder(),
            };
            if dead {
                findings.push(Finding::new(
                    &document.path,
                    index + 1,
                    format!("{target} leads nowhere; mend the link"),
                ));
            }
        }
    }
    findings
}

fn joined(folder: &str, file: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in file.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Headings as GitHub makes anchors of them: lower case, spaces to dashes, no punctuation.
fn headings(text: &Text) -> impl Iterator<Item = String> + '_ {
    text.text.lines().filter(|line| line.starts_with('#')).map(|line| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    })
}

#[test]
fn every_link_in_a_document_leads_somewhere() {
    let all = tree::texts();
    none(all.iter().filter(|text| text.path.ends_with(".md")).flat_map(|document| dead_links(document, &all)));
}

#[test]
fn a_dead_link_is_found() {
    let text = |path: &str, text: &str| Text { path: path.to_owned(), text: text.to_owned() };
    let all = [text("docs/b.md", "# One two, `three`\n"), text("x/y", "")];
    let document = "[a](b.md) [a](../docs/b.md#one-two-three) [x](../x) [z](https://z)\n[c](c.md)\n[d](b.md#four)\n\
                    ```\n[e](e.md)\n```\n";
    assert_eq!(lines(&dead_links(&text("docs/a.md", document), &all)), [2, 3]);
}
