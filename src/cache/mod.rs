//! Station 5: the cache. Which key a row has, and the version-guarded refresh of it.
//!
//! Pure rules. The caches themselves are in `stores`.

mod key;
mod script;

pub use key::{KeyTemplate, TemplateError};
pub use script::{MARK_TTL, SCRIPT};
