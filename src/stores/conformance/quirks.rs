//! What Azurite gets wrong, as far as it shows through an adapter that keeps Azure's limits itself. Seen with 3.35.

use super::suite::Quirk;

/// All of them.
pub const QUIRKS: &[&Quirk] = &[&MERGED_LIMITS];

pub(super) static MERGED_LIMITS: Quirk = Quirk {
    name: "merged limits",
    azure: "refuses a merge that would leave a row beyond its limits",
    azurite: "looks at the properties of the request alone",
};
