//! What Azurite gets wrong, as far as it shows through an adapter that keeps Azure's limits itself and sends emulators
//! nothing but ASCII. Seen with 3.35.

use super::suite::Quirk;

/// All of them.
pub const QUIRKS: &[&Quirk] =
    &[&BATCHED_QUOTES, &BATCHED_SEPARATORS, &KEY_LENGTH, &MERGED_LIMITS, &MINUS_ZERO, &TABLE_CASE];

pub(super) static BATCHED_QUOTES: Quirk = Quirk {
    name: "batched quotes",
    azure: "reads a doubled quote in the URL of a batched operation as a quote of the key",
    azurite: "ends the key at a quote with a comma behind it, and answers that the row is missing",
};

pub(super) static BATCHED_SEPARATORS: Quirk = Quirk {
    name: "batched separators",
    azure: "takes U+2028 and U+2029 in the URL of a batched delete like any other character",
    azurite: "reads the URL by a regular expression whose dot ends there, and answers that the row is missing",
};

pub(super) static KEY_LENGTH: Quirk =
    Quirk { name: "key length", azure: "takes keys of up to 1,024 characters", azurite: "refuses keys of over 512" };

pub(super) static MERGED_LIMITS: Quirk = Quirk {
    name: "merged limits",
    azure: "refuses a merge that would leave a row beyond its limits",
    azurite: "looks at the properties of the request alone",
};

pub(super) static MINUS_ZERO: Quirk = Quirk {
    name: "minus zero",
    azure: "keeps the sign of an Edm.Double of -0.0",
    azurite: "makes it 0.0, by way of a JSON number",
};

pub(super) static TABLE_CASE: Quirk = Quirk {
    name: "table case",
    azure: "finds a table by its name in any case",
    azurite: "does not create a table again in another case, but does not find its rows by that name either",
};
