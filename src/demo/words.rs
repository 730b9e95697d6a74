//! Numbers, durations and colours as people read them.

use std::time::Duration;

/// `1234567` as `1,234,567`.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 row`, `2 rows`.
pub(super) fn of(number: u64, one: &str) -> String {
    format!("{} {one}{}", count(number), if number == 1 { "" } else { "s" })
}

/// Milliseconds below a second, tenths of a second above.
pub(super) fn span(duration: Duration) -> String {
    match duration.as_millis() {
        millis @ ..1_000 => format!("{millis} ms"),
        _ => format!("{:.1} s", duration.as_secs_f64()),
    }
}

/// A time that was given: whole seconds without a fraction.
pub(super) fn given(duration: Duration) -> String {
    if duration.subsec_nanos() == 0 { format!("{} s", duration.as_secs()) } else { span(duration) }
}

/// The colours of a terminal, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Paint(pub bool);

impl Paint {
    pub fn good(self, text: &str) -> String {
        self.with("32", text)
    }

    pub fn warning(self, text: &str) -> String {
        self.with("33", text)
    }

    pub fn bad(self, text: &str) -> String {
        self.with("31", text)
    }

    pub fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    pub fn faint(self, text: &str) -> String {
        self.with("2", text)
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.0 && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let counted = [0, 12, 999, 1_000, 12_345, 1_234_567].map(count);
        assert_eq!(counted, ["0", "12", "999", "1,000", "12,345", "1,234,567"]);
        assert_eq!([of(1, "row"), of(1_002, "row")], ["1 row", "1,002 rows"]);
    }

    #[test]
    fn durations_have_the_unit_that_fits() {
        let spans = [0, 7, 999, 1_000, 61_250].map(|millis| span(Duration::from_millis(millis)));
        assert_eq!(spans, ["0 ms", "7 ms", "999 ms", "1.0 s", "61.2 s"]);
        assert_eq!([given(Duration::from_secs(10)), given(Duration::from_millis(1_500))], ["10 s", "1.5 s"]);
    }

    #[test]
    fn without_colours_a_text_is_left_alone() {
        assert_eq!(Paint(false).bad("x"), "x");
        assert_eq!(Paint(true).bad("x"), "\u{1b}[31mx\u{1b}[0m");
    }
}
