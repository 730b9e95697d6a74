//! Station 5: the cache. Which key a row has, and the version-guarded refresh of it.
//!
//! Pure rules; the caches themselves are in `stores`. One rule stands above all: a refresh never puts an older version
//! over a newer one. Redis keeps it by [`SCRIPT`], whatever else keeps a cache by [`judge`], and one suite holds both to
//! the same answers step by step.

mod key;
mod plan;
mod refresh;
mod rule;
mod script;
mod watch;

pub use key::{KeyTemplate, TemplateError};
pub use plan::{Finding, newest, refresh_for};
pub use refresh::{CacheMode, CachedRow, Refresh, RefreshOutcome};
pub use rule::{Action, Held, judge};
pub use script::{MARK_TTL, SCRIPT};
pub use watch::{CacheRecord, Loss, MARKERS, Markers, markers};
