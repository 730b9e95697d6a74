//! A region's cache on Redis, alone or as a cluster: Redis 6 or later, Azure Cache for Redis, Azure Managed Redis.
//!
//! Every refresh is one call of the published script on one key, many of them in a pipeline. The adapter keeps one
//! connection. It opens it when it is first asked, throws it away when it is lost, and opens another at the next
//! request: a cache that comes back is found without help, and one that is down costs its callers a timeout each, never
//! more. The connection manager of the `redis` crate is not used, since it stays with a failure for good where the
//! server answered the handshake with an error, as one that has just come back may.
//!
//! It knows nothing of rows, of feeds, or of what a daemon does when a cache fails.

mod cache;
mod credential;
mod failure;
mod link;
mod target;

pub use cache::RedisCache;
pub use target::{RedisTarget, RedisUrl, TargetError};
