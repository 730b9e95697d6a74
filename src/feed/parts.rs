//! Long texts in rows: Azure takes at most 32K UTF-16 units of one property, so they are split over several, and cut where
//! even those are too few.

use crate::model::RowBody;

/// Units of one property.
pub(super) const PART: usize = 30_000;

/// The property that holds part `n` of a text: its name, then its name with a number.
pub fn part_name(name: &str, n: usize) -> String {
    if n == 0 { name.to_owned() } else { format!("{name}{n}") }
}

/// The text in at most `most` pieces, and the units that were left over.
pub fn in_parts(text: &str, most: usize) -> (Vec<&str>, usize) {
    let mut parts = Vec::new();
    let mut rest = text;
    while parts.len() < most && (parts.is_empty() || !rest.is_empty()) {
        let part = first_units(rest, PART);
        rest = &rest[part.len()..];
        parts.push(part);
    }
    (parts, rest.encode_utf16().count())
}

/// A text that was split into at most `most` pieces; `None` where the first is not there.
pub fn joined(body: &RowBody, name: &str, most: usize) -> Option<String> {
    let mut whole = body.string(name)?;
    for part in (1..most).map_while(|n| body.string(&part_name(name, n))) {
        whole.push_str(&part);
    }
    Some(whole)
}

/// As many whole characters as fit in `most` UTF-16 units.
pub fn first_units(text: &str, most: usize) -> &str {
    if text.len() <= most {
        return text;
    }
    let mut units = 0;
    let end = text.char_indices().find(|(_, c)| {
        units += c.len_utf16();
        units > most
    });
    end.map_or(text, |(at, _)| &text[..at])
}
