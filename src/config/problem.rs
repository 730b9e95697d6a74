//! What is wrong with a configuration: all of it at once, each naming file, key and what it should be.

use std::fmt;
use std::path::{Path, PathBuf};

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// A line of the file, from 1.
    Line(usize),
    /// The variable of the environment that overrides the file.
    Variable(String),
    /// The file as a whole: what is meant is not in it.
    File,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where it was found.
    pub origin: Origin,
    /// The key with all its tables, as in `region.west.role`; empty where the file could not be read that far.
    pub key: String,
    /// What is wrong and what it should be. Never holds the value of a secret, nor that of an expanded variable.
    pub message: String,
}

/// Everything that is wrong with a configuration file and the environment that overrides it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Problems {
    file: PathBuf,
    problems: Vec<Problem>,
}

impl Problems {
    pub(super) fn new(file: &Path, mut problems: Vec<Problem>) -> Self {
        problems.sort();
        problems.dedup();
        Self { file: file.to_owned(), problems }
    }

    /// The problems, in the order of the file; what the environment and the whole file have wrong comes after.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.problems.iter().enumerate() {
            let separator = if n == 0 { "" } else { "\n" };
            write!(f, "{separator}{}", self.file.display())?;
            match &problem.origin {
                Origin::Line(line) => write!(f, ":{line}: ")?,
                Origin::Variable(name) => write!(f, ", overridden by {name} in the environment: ")?,
                Origin::File => write!(f, ": ")?,
            }
            match problem.key.as_str() {
                "" => f.write_str(&problem.message)?,
                key => write!(f, "{key}: {}", problem.message)?,
            }
        }
        Ok(())
    }
}
