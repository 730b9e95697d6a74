//! Where a Redis is and how it is to be kept.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use azure_core::credentials::TokenCredential;
use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};

use crate::cache::CacheMode;

/// What is wrong with a Redis target. Never says a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Not a URL of Redis over TCP.
    #[error("the cache's url should be redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE], or rediss:// for TLS: {0}")]
    Url(String),
    /// A token would travel in the clear.
    #[error("the cache's credential sends a token, so its url should begin with rediss://, not redis://")]
    TokenInTheClear,
    /// Both a password and a credential.
    #[error("the cache has a credential, so its url should hold no user name and no password")]
    TwoCredentials,
    /// Certificates for a connection without TLS.
    #[error("the cache has root certificates, so its url should begin with rediss://, not redis://")]
    CertificatesWithoutTls,
    /// Not PEM, or no certificate that can be an authority.
    #[error("the cache's root certificates should be PEM: {0}")]
    Certificates(String),
    /// A cluster has only database 0.
    #[error("the cache is a cluster, which has no database {0}: its url should end behind the port")]
    Database(i64),
}

/// The URL of a Redis, checked. Shown without its password.
#[derive(Clone)]
pub struct RedisUrl(ConnectionInfo);

impl RedisUrl {
    /// Checks a URL: `redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE]`, or `rediss://` for TLS.
    ///
    /// # Errors
    /// [`TargetError::Url`] where it is none; the message does not repeat it, since it may hold a password.
    pub fn parse(url: &str) -> Result<Self, TargetError> {
        let bad = |why: &str| TargetError::Url(why.to_owned());
        let (scheme, rest) = url.split_once("://").ok_or_else(|| bad("it has no scheme"))?;
        if !matches!(scheme, "redis" | "rediss") {
            return Err(bad("its scheme is neither redis nor rediss"));
        }
        if rest.contains('#') {
            return Err(bad("a # in a password is written %23, and certificates are always verified"));
        }
        let info = url.into_connection_info().map_err(|err| match err.detail() {
            None => bad(err.to_string().split(" - ").next().unwrap_or("it does not parse")),
            Some(_) => bad("it does not parse"),
        })?;
        if matches!(info.addr(), ConnectionAddr::Unix(_)) {
            return Err(bad("it names no host"));
        }
        Ok(Self(info))
    }

    /// Whether the connection is encrypted.
    pub fn is_tls(&self) -> bool {
        matches!(self.0.addr(), ConnectionAddr::TcpTls { .. })
    }

    /// Whether it goes together with being a cluster, with a credential and with root certificates, so that a
    /// configuration can be checked before any of them is made.
    ///
    /// # Errors
    /// [`TargetError`], the first that applies.
    pub fn check(&self, cluster: bool, credential: bool, root_certificates: bool) -> Result<(), TargetError> {
        let redis = self.0.redis_settings();
        if credential && !self.is_tls() {
            return Err(TargetError::TokenInTheClear);
        }
        if credential && (redis.username().is_some() || redis.password().is_some()) {
            return Err(TargetError::TwoCredentials);
        }
        if root_certificates && !self.is_tls() {
            return Err(TargetError::CertificatesWithoutTls);
        }
        if cluster && redis.db() != 0 {
            return Err(TargetError::Database(redis.db()));
        }
        Ok(())
    }

    pub(super) fn info(&self) -> &ConnectionInfo {
        &self.0
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let redis = self.0.redis_settings();
        f.write_str(if self.is_tls() { "rediss://" } else { "redis://" })?;
        match (redis.username(), redis.password()) {
            (user, Some(_)) => write!(f, "{}:***@", user.unwrap_or_default())?,
            (Some(user), None) => write!(f, "{user}@")?,
            (None, None) => {}
        }
        write!(f, "{}/{}", self.0.addr(), redis.db())
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A Redis and how it is to be kept.
#[derive(Clone)]
pub struct RedisTarget {
    /// Where it is, with the password where it has one.
    pub url: RedisUrl,
    /// Whether it is a cluster whose nodes are asked each for its own keys. Azure's "Enterprise" cluster policy hides
    /// its nodes behind one address: that is none.
    pub cluster: bool,
    /// How the cache is kept.
    pub mode: CacheMode,
    /// How long an entry lives; `None` for ever.
    pub ttl: Option<Duration>,
    /// An Entra identity instead of a password.
    pub credential: Option<Arc<dyn TokenCredential>>,
    /// PEM of the authorities to trust instead of the public ones.
    pub root_certificates: Option<Vec<u8>>,
    /// How long to wait for a connection, handshake and token included.
    pub connect_timeout: Duration,
    /// How long to wait for the replies to one pipeline.
    pub response_timeout: Duration,
}

impl RedisTarget {
    /// A Redis that is not a cluster, with what its URL says, entries that live for an hour, 5 seconds to connect and 2
    /// to answer.
    pub fn new(url: RedisUrl, mode: CacheMode) -> Self {
        Self {
            url,
            cluster: false,
            mode,
            ttl: Some(Duration::from_secs(3_600)),
            credential: None,
            root_certificates: None,
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_secs(2),
        }
    }

    /// What does not go together.
    pub(super) fn check(&self) -> Result<(), TargetError> {
        self.url.check(self.cluster, self.credential.is_some(), self.root_certificates.is_some())
    }
}

impl fmt::Debug for RedisTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisTarget")
            .field("url", &self.url)
            .field("cluster", &self.cluster)
            .field("mode", &self.mode)
            .field("ttl", &self.ttl)
            .field("credential", &self.credential.is_some())
            .field("root_certificates", &self.root_certificates.is_some())
            .field("connect_timeout", &self.connect_timeout)
            .field("response_timeout", &self.response_timeout)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_password() {
        let shown = |url| RedisUrl::parse(url).unwrap().to_string();
        assert_eq!(shown("redis://localhost"), "redis://localhost:6379/0");
        assert_eq!(shown("rediss://:s%23cret@cache.example:6380/2"), "rediss://:***@cache.example:6380/2");
        assert_eq!(shown("redis://me:secret@127.0.0.1:1/"), "redis://me:***@127.0.0.1:1/0");
        let target = RedisTarget::new(RedisUrl::parse("redis://me:secret@[::1]:1").unwrap(), CacheMode::Invalidate);
        assert!(!format!("{target:?} {target:#?}").contains("secret"));
    }

    #[test]
    fn what_is_no_url_is_explained_without_repeating_it() {
        for bad in [
            "secret",
            "http://secret@host",
            "unix:///secret",
            "redis://",
            "redis://:secret@host:port",
            "redis://:secret@host/secret",
            "rediss://:secret@host#insecure",
            "redis://:sec#ret@host",
            "redis://:secret@0.0.0.0",
            "redis://:secret@host?protocol=secret",
        ] {
            let said = RedisUrl::parse(bad).unwrap_err().to_string();
            assert!(said.contains("should be redis://") && !said.contains("secret"), "{bad}: {said}");
        }
        assert!(RedisUrl::parse("redis://:sec#ret@host").unwrap_err().to_string().contains("%23"));
    }
}
