//! What Azurite gets wrong, as far as it shows through an adapter that keeps Azure's limits itself.

use super::suite::Quirk;

/// All of them.
pub const QUIRKS: &[&Quirk] = &[];
