//! What may stand in no file of the repository: unfinished work, one machine's paths and hosts, secrets.

use super::tree::{self, Text};
use super::{Finding, lines, none};

/// The words are put together here, so that this file does not hold them.
const UNFINISHED: [&str; 4] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK")];

/// Folders of one machine.
const MACHINE: [&str; 6] = [
    concat!("/ho", "me/"),
    concat!("/ro", "ot/"),
    concat!("/Us", "ers/"),
    concat!("/wo", "rk/"),
    concat!("/tm", "p/"),
    concat!("C:", "\\"),
];

/// Hosts of one network.
const PRIVATE: [&str; 5] = [
    concat!("192", ".168."),
    concat!("://1", "0."),
    concat!(".inter", "nal"),
    concat!(".co", "rp/"),
    concat!(".la", "n/"),
];

/// The key that every Azurite has, published by Microsoft: the only one that may stand in a file.
const PUBLISHED_KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

fn each_line(text: &Text, broken: impl Fn(&str) -> Option<String>) -> Vec<Finding> {
    let lines = text.text.lines().enumerate();
    lines.filter_map(|(index, line)| broken(line).map(|remedy| Finding::new(&text.path, index + 1, remedy))).collect()
}

fn unfinished(text: &Text) -> Vec<Finding> {
    each_line(text, |line| {
        let mut words = line.split(|c: char| !c.is_alphanumeric());
        let word = words.find(|word| UNFINISHED.contains(word))?;
        Some(format!("{word}: finish it, or say in plain words what is so and why"))
    })
}

fn machines(text: &Text) -> Vec<Finding> {
    each_line(text, |line| {
        let path = MACHINE.iter().find(|path| line.contains(**path));
        let host = PRIVATE.iter().find(|host| line.contains(**host));
        let what = path.or(host)?;
        Some(format!("{what} is one machine's; use a path from the repository's root, or a public name"))
    })
}

fn secrets(text: &Text) -> Vec<Finding> {
    each_line(text, |line| {
        let (_, key) = line.split_once(concat!("Account", "Key="))?;
        let key: String = key.chars().take_while(|c| c.is_ascii_alphanumeric() || "+/=".contains(*c)).collect();
        let is_key = key.len() > 40 && key != PUBLISHED_KEY;
        is_key.then(|| "an account's key; take it from the environment as ${NAME}, and renew the key".to_owned())
    })
}

/// Lock files and requirements name the public registries only.
fn registries(text: &Text) -> Vec<Finding> {
    let name = text.path.rsplit('/').next().unwrap_or_default();
    each_line(text, |line| {
        let line = line.trim();
        let foreign = match name {
            "Cargo.lock" => line.starts_with("source =") && !line.contains("github.com/rust-lang/crates.io-index"),
            "package-lock.json" => line.starts_with("\"resolved\"") && !line.contains("\"https://registry.npmjs.org/"),
            "requirements.txt" => line.contains("://") || line.contains("--index") || line.contains("--find-links"),
            _ => false,
        };
        foreign.then(|| "not from the public registry; lock it again with the default registry".to_owned())
    })
}

fn all(text: &Text) -> Vec<Finding> {
    [unfinished, machines, secrets, registries].iter().flat_map(|rule| rule(text)).collect()
}

#[test]
fn no_file_holds_what_belongs_to_one_machine_or_one_moment() {
    none(tree::texts().iter().flat_map(all));
}

#[test]
fn each_forbidden_text_is_found() {
    let found = |path: &str, text: String| lines(&all(&Text { path: path.to_owned(), text }));
    assert_eq!(found("a.md", format!("fine\n- {}: later\n", UNFINISHED[0])), [2]);
    assert!(found("a.md", format!("{}S\n", UNFINISHED[0])).is_empty());
    assert_eq!(found("a.sh", format!("cd {}me\n", MACHINE[1])), [1]);
    assert_eq!(found("a.toml", format!("url = \"http://db{}\"\n", PRIVATE[2])), [1]);
    let key = |key: &str| format!("x\n{}={key};\n", concat!("Account", "Key"));
    assert_eq!(found("a.toml", key(&"q".repeat(88))), [2]);
    assert!(found("a.toml", key(PUBLISHED_KEY)).is_empty());
    assert!(found("a.toml", key("${KEY}")).is_empty());
    assert_eq!(found("Cargo.lock", "source = \"git+https://example.com/x\"\n".to_owned()), [1]);
    assert_eq!(found("x/package-lock.json", "  \"resolved\": \"https://npm.example.com/x\"\n".to_owned()), [1]);
    assert_eq!(found("requirements.txt", "a==1\n--find-links wheels\n".to_owned()), [2]);
}
