//! The examples in other languages, run as anybody would run them.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder under `examples`.
pub fn example(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(folder)
}

/// Where Python with the examples' packages is: `TABLERELAY_PYTHON`, else what `./test` put into the repository.
pub fn python() -> PathBuf {
    let python = std::env::var_os("TABLERELAY_PYTHON")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python"), PathBuf::from);
    assert!(
        python.exists(),
        "there is no Python at {}: run ./test, which makes a .venv, or set TABLERELAY_PYTHON to one that has the packages \
         of examples/python/requirements.txt",
        python.display()
    );
    python
}

/// Node.js, with the packages of `examples/javascript` in place.
pub fn node() -> PathBuf {
    let packages = example("javascript").join("node_modules");
    assert!(packages.exists(), "{} is missing: run ./test, or npm ci beside it", packages.display());
    PathBuf::from("node")
}

/// Runs a program in a folder under `examples` to its end.
///
/// # Panics
/// Where it fails, with all that it said.
pub fn run(program: &Path, folder: &str, arguments: &[&str], environment: &[(&str, &str)]) -> String {
    run_in(program, &example(folder), arguments, environment)
}

/// Runs a program in any folder to its end.
///
/// # Panics
/// Where it fails, with all that it said.
pub fn run_in(program: &Path, folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .envs(environment.iter().copied())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap_or_else(|err| panic!("{} should start: {err}", program.display()));
    let said = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat();
    assert!(output.status.success(), "{} {} failed:\n{said}", program.display(), arguments.join(" "));
    said
}
