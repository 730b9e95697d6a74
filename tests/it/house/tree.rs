//! The files of the repository.

use std::fs;
use std::path::{Path, PathBuf};

use super::source::Source;

/// A file as text.
#[derive(Debug)]
pub struct Text {
    /// From the repository's root, with `/`.
    pub path: String,
    pub text: String,
}

/// The repository's root.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every text file that is not ignored, sorted by path.
pub fn texts() -> Vec<Text> {
    let ignored = fs::read_to_string(root().join(".gitignore")).expect(".gitignore is in the root");
    let ignored: Vec<_> = ignored.lines().map(|line| line.trim_matches('/')).filter(|line| !line.is_empty()).collect();
    let mut texts = Vec::new();
    collect(&root(), "", &ignored, &mut texts);
    texts.sort_by(|a, b| a.path.cmp(&b.path));
    texts
}

/// Every Rust source under `src` and `tests`.
pub fn sources() -> Vec<Source> {
    let rust = |text: &Text| text.path.ends_with(".rs");
    let mut sources: Vec<_> = texts().iter().filter(|t| rust(t)).map(|t| Source::new(&t.path, &t.text)).collect();
    mark_test_modules(&mut sources);
    sources
}

fn collect(folder: &Path, prefix: &str, ignored: &[&str], texts: &mut Vec<Text>) {
    for entry in fs::read_dir(folder).expect("a folder of the repository is readable") {
        let entry = entry.expect("an entry of the repository is readable");
        let name = entry.file_name().to_string_lossy().into_owned();
        let skip = |pattern: &str| pattern == name || pattern.strip_prefix('*').is_some_and(|end| name.ends_with(end));
        if name == ".git" || ignored.iter().any(|pattern| skip(pattern)) {
            continue;
        }
        let path = format!("{prefix}{name}");
        if entry.path().is_dir() {
            collect(&entry.path(), &format!("{path}/"), ignored, texts);
        } else if let Ok(text) = fs::read_to_string(entry.path()) {
            texts.push(Text { path, text });
        }
    }
}

/// Marks the files behind `#[cfg(test)] mod name;` as tests.
fn mark_test_modules(sources: &mut [Source]) {
    let mut tests = Vec::new();
    for source in sources.iter() {
        let stem = source.path.trim_end_matches(".rs");
        let folder = match stem.rsplit_once('/') {
            Some((folder, "mod" | "lib" | "main")) => folder,
            _ => stem,
        };
        for line in source.lines.iter().filter(|line| line.test) {
            let name = line.code.trim().trim_start_matches("pub ").trim_start_matches("pub(crate) ");
            if let Some(name) = name.strip_prefix("mod ").and_then(|name| name.strip_suffix(';')) {
                tests.push(format!("{folder}/{name}"));
            }
        }
    }
    for source in sources {
        let is_test =
            |test: &String| source.path == format!("{test}.rs") || source.path.starts_with(&format!("{test}/"));
        if tests.iter().any(is_test) {
            source.lines.iter_mut().for_each(|line| line.test = true);
        }
    }
}

#[test]
fn a_module_that_is_declared_for_tests_is_a_test() {
    let mut sources = [
        Source::new("src/a/mod.rs", "#[cfg(test)]\nmod suite;\nmod shipped;\n"),
        Source::new("src/a/suite.rs", "fn x() {}\n"),
        Source::new("src/a/suite/rows.rs", "fn x() {}\n"),
        Source::new("src/a/shipped.rs", "fn x() {}\n"),
    ];
    mark_test_modules(&mut sources);
    assert_eq!(sources.each_ref().map(|source| source.lines[0].test), [true, true, true, false]);
}
