//! What a failure of Redis means, and what to do about it.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use super::RedisTarget;
use crate::stores::CacheError;

/// What a user of the cache must be allowed to do.
const NEEDED: &str = "+evalsha +eval +script|load +type +hget +hmget +hexists +hset +del +pttl +pexpire +persist";

/// Whether another connection may help: this one is gone or does not answer, it has lost its right to speak, or it leads
/// to a server that is no longer the primary.
pub(super) fn is_lost(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_unrecoverable_error()
        || error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
        || error.code() == Some("NOAUTH")
}

/// Whether the server does not know the script, as after a restart or SCRIPT FLUSH.
pub(super) fn is_unknown_script(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

/// Whether the key holds something else than a hash.
pub(super) fn is_foreign(error: &RedisError) -> bool {
    error.code() == Some("WRONGTYPE")
}

/// Says which Redis failed, how, and what to do about it.
pub(super) fn explain(target: &RedisTarget, error: &RedisError) -> CacheError {
    let at = target.url.info().addr();
    let remedy = remedy(target, error).map(|remedy| format!("; {remedy}")).unwrap_or_default();
    CacheError(format!("Redis at {at}: {error}{remedy}"))
}

fn remedy(target: &RedisTarget, error: &RedisError) -> Option<String> {
    let text = error.to_string();
    // A cluster's failure to connect is an I/O error that quotes the nodes' own.
    let refused = error.kind() == ErrorKind::AuthenticationFailed || text.contains("authentication failed");
    let remedy = match (error.kind(), error.code()) {
        _ if refused && target.credential.is_some() => {
            "the identity should be a user of this Redis: give it a data access policy there".to_owned()
        }
        _ if refused => "correct the user name or password in the cache's url".to_owned(),
        (_, Some("NOAUTH")) => {
            "it asks for a password: the cache's url should be redis://[USER]:PASSWORD@HOST:PORT, or name a credential"
                .to_owned()
        }
        (ErrorKind::Server(ServerErrorKind::NoPerm), _) => format!("the user should be allowed {NEEDED}"),
        (ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::Ask), _) => {
            "it is a cluster: set cluster = true for this cache".to_owned()
        }
        (ErrorKind::Server(ServerErrorKind::ReadOnly), _) => {
            "it is a replica: the cache's url should name the primary".to_owned()
        }
        _ if text.contains("cluster support disabled") => {
            "it is no cluster: set cluster = false for this cache".to_owned()
        }
        _ if text.contains("certificate") => {
            "its certificate should be for the host in the cache's url, from a public authority or one of the cache's \
             root certificates"
                .to_owned()
        }
        _ if text.contains("InvalidContentType") || text.contains("corrupt message") => {
            "it speaks no TLS on this port: the cache's url should begin with redis://, or name the TLS port".to_owned()
        }
        _ if error.is_timeout() || error.is_connection_dropped() => match target.url.is_tls() {
            true => "check host, port and firewall, and that the port speaks TLS".to_owned(),
            false => "check host, port and firewall, and that the port does not want TLS (rediss://)".to_owned(),
        },
        _ => return None,
    };
    Some(remedy)
}
