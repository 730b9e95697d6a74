//! The published script, and how it is called.

use std::time::Duration;

/// The Lua script that refreshes one key, never with an older version over a newer one. Its header says what it takes
/// and returns; cache-aside readers in any language copy it.
pub const SCRIPT: &str = include_str!("refresh.lua");

/// How long a mark stays: a hash with a version and no entry, which keeps older rows out.
pub const MARK_TTL: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn script_and_rules_agree_on_how_long_a_mark_stays() {
        assert!(SCRIPT.contains(&format!("local MARK_MS = {}\n", MARK_TTL.as_millis())));
    }
}
