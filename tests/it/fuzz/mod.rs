//! The properties of `fuzz/`, held on the stable toolchain: on the corpus, on mutations of it, on arbitrary bytes.

#[path = "../../../fuzz/src/lib.rs"]
mod properties;

mod mutations;

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use self::properties::{Property, TARGETS};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// The inputs of a target, by their names.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = root().join("corpus").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|err| panic!("{}: {err}", folder.display()));
    let mut inputs: Vec<_> = entries
        .map(|entry| {
            let path = entry.expect("the folder can be read").path();
            let name = path.file_name().expect("a file has a name").to_string_lossy().into_owned();
            (name, fs::read(&path).expect("the file can be read"))
        })
        .collect();
    inputs.sort();
    inputs
}

/// What is wrong with an input, where its property does not hold.
fn fault(property: Property, input: &[u8], good: Option<bool>) -> Option<String> {
    let payload = match catch_unwind(AssertUnwindSafe(|| property(input))) {
        Ok(understood) if good.is_some_and(|good| good != understood) => {
            return Some(format!("was it understood? {understood}"));
        }
        Ok(_) => return None,
        Err(payload) => payload,
    };
    Some(tablerelay::telemetry::log::panic_text(&*payload).chars().take(2_000).collect())
}

#[test]
fn every_property_holds_for_its_corpus_and_for_how_it_begins() {
    let mut faults = Vec::new();
    for (target, property) in TARGETS {
        for (name, input) in corpus(target) {
            let whole =
                fault(property, &input, Some(name.starts_with("good-"))).map(|why| format!("{target}/{name}: {why}"));
            // What breaks off anywhere is the commonest fault there is.
            let cuts = (0..input.len()).step_by(input.len() / 64 + 1);
            let cut = |cut| {
                Some(format!("the first {cut} bytes of {target}/{name}: {}", fault(property, &input[..cut], None)?))
            };
            faults.extend(whole.or_else(|| cuts.into_iter().find_map(cut)));
        }
    }
    assert!(faults.is_empty(), "{} inputs of fuzz/corpus break a property:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn every_target_has_a_corpus_and_a_program() {
    let names = |folder: &str, end: &str| -> BTreeSet<String> {
        let entries = fs::read_dir(root().join(folder)).expect("the folder is there");
        let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
        names.filter_map(|name| name.strip_suffix(end).map(str::to_owned)).collect()
    };
    let targets: BTreeSet<_> = TARGETS.iter().map(|(target, _)| (*target).to_owned()).collect();
    assert_eq!(names("corpus", ""), targets);
    assert_eq!(names("fuzz_targets", ".rs"), targets);
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("a manifest");
    for target in &targets {
        assert!(
            manifest.contains(&format!("path = \"fuzz_targets/{target}.rs\"")),
            "{target} is not in fuzz/Cargo.toml"
        );
        assert!(corpus(target).len() >= 4, "{target} should have inputs that are right, cut off and odd");
    }
}
