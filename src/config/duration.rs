//! Durations as people write them: a number and a unit.

use std::time::Duration;

/// What a duration should look like, for messages.
pub(super) const EXPECTED: &str = "a duration with its unit, as in \"250ms\", \"60s\", \"5m\", \"1h\" or \"7d\"";

/// The units, largest first, in milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads a whole number and one unit: `ms`, `s`, `m`, `h` or `d`.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let (_, millis) = UNITS.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*millis).map(Duration::from_millis)
}

/// Reads a duration that was typed as an argument.
///
/// # Errors
/// What it should look like.
pub fn typed_duration(text: &str) -> Result<Duration, String> {
    parse(text).ok_or_else(|| format!("it should be {EXPECTED}"))
}

/// Writes a duration of whole milliseconds in its largest whole unit.
pub(super) fn render(duration: Duration) -> String {
    let all = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if all == 0 {
        return "0s".to_owned();
    }
    let whole = UNITS.iter().find(|(_, millis)| all >= *millis && all.is_multiple_of(*millis));
    whole.map_or_else(|| format!("{all}ms"), |(unit, millis)| format!("{}{unit}", all / millis))
}

/// For `#[serde(serialize_with)]`.
pub(super) fn serialize<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&render(*duration))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_unit_is_required() {
        assert_eq!(parse("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(parse("60 s"), Some(Duration::from_secs(60)));
        assert_eq!(parse("2m"), Some(Duration::from_secs(120)));
        for bad in ["", "60", "s", "1.5s", "-1s", "1 hour", "1h30m", "99999999999999999999s", "18446744073709551615d"] {
            assert_eq!(parse(bad), None, "{bad}");
            assert!(typed_duration(bad).unwrap_err().contains("\"60s\""), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(millis in 0u64..1_000_000_000_000) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse(&render(duration)), Some(duration));
        }
    }
}
