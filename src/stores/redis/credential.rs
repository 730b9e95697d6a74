//! Entra tokens as Redis credentials: the user name is the identity's object id, the password is the token.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use azure_core::credentials::TokenCredential;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use futures::{Stream, stream};
use redis::auth::{BasicAuth, StreamingCredentialsProvider};
use redis::{ErrorKind, RedisError, RedisResult};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, info, warn};

use crate::model::{ClosedList, Time};
use crate::runtime::Runtime;
use crate::telemetry::{Event, Spell};

/// What the token is for: Azure Cache for Redis and Azure Managed Redis alike.
const SCOPE: &str = "https://redis.azure.com/.default";
/// Least wait before another token is asked for.
const LEAST_WAIT: Duration = Duration::from_secs(1);
/// Longest wait after a token was not to be had.
const LONGEST_RETRY: Duration = Duration::from_secs(30);
/// How long a token may take to come.
const LONGEST_FETCH: Duration = Duration::from_secs(20);

/// Hands tokens to connections, and a new one in good time before the old one expires: Redis closes a connection whose
/// token has expired.
///
/// All connections of a cache share the token. Whichever finds that it is time asks for the next one; no task of its own
/// is needed, since each connection waits for its credentials anyway.
#[derive(Clone)]
pub(super) struct TokenProvider(Arc<Shared>);

struct Shared {
    credential: Arc<dyn TokenCredential>,
    runtime: Runtime,
    token: Mutex<Option<Token>>,
    /// No new token is to be had.
    late: Spell,
    /// And the old one has expired.
    without: Spell,
}

#[derive(Clone)]
struct Token {
    auth: BasicAuth,
    expires: Time,
    /// When to ask for the next one.
    renew: Instant,
}

impl TokenProvider {
    pub(super) fn new(credential: Arc<dyn TokenCredential>, runtime: Runtime) -> Self {
        let (token, late, without) = Default::default();
        Self(Arc::new(Shared { credential, runtime, token, late, without }))
    }

    /// The token that is in use, or a new one when it is time.
    async fn current(&self) -> Result<Token, String> {
        let Shared { credential, runtime, token, late, without } = &*self.0;
        let mut token = token.lock().await;
        if let Some(token) = token.as_ref().filter(|token| runtime.instant() < token.renew) {
            return Ok(token.clone());
        }
        let fetched = timeout(LONGEST_FETCH, credential.get_token(&[SCOPE], None)).await;
        match fetched.map_err(|_| "no answer in time".to_owned()).and_then(|got| got.map_err(|err| err.to_string())) {
            Ok(fetched) => {
                let secret = fetched.token.secret();
                let auth = BasicAuth::new(object_id(secret)?, secret.to_owned());
                let expires = Time::from_unix_seconds(fetched.expires_on.unix_timestamp());
                let renew = runtime.instant() + wait_to_renew(expires.since(runtime.now()), runtime);
                if let Some(past) = without.ended().into_iter().chain(late.ended()).last() {
                    let (after, failures) = (past.after, past.failures);
                    info!(
                        event = Event::CacheTokenRenewed.as_str(),
                        ?after,
                        failures,
                        "recovered after {after:.1?}: there is a new Entra token for Redis"
                    );
                }
                Ok(token.insert(Token { auth, expires, renew }).clone())
            }
            // The old one still serves until it expires.
            Err(err) => match token.as_mut().filter(|token| runtime.now() < token.expires) {
                Some(token) => {
                    if late.failed() {
                        warn!(event = Event::CacheTokenFailing.as_str(), error = err, expires = %token.expires,
                            "no new Entra token for Redis yet; the old one serves");
                    }
                    let left = token.expires.since(runtime.now());
                    token.renew = runtime.instant() + (left / 10).clamp(LEAST_WAIT, LONGEST_RETRY);
                    Ok(token.clone())
                }
                None => Err(format!("no Entra token: {err}")),
            },
        }
    }

    /// The first token that differs from `last`; the current one where there is none.
    async fn after(&self, last: Option<Token>) -> RedisResult<Token> {
        let Some(mut last) = last else {
            return self.current().await.map_err(refused);
        };
        loop {
            sleep_until(last.renew).await;
            match self.current().await {
                Ok(token) if token.auth.password() != last.auth.password() => {
                    debug!(expires = %token.expires, "renewed the Entra token for Redis");
                    return Ok(token);
                }
                Ok(token) => last.renew = token.renew,
                Err(err) => {
                    if self.0.without.failed() {
                        warn!(
                            event = Event::CacheTokenFailing.as_str(),
                            error = err,
                            "no Entra token for Redis, and the old one has expired; trying again"
                        );
                    }
                    last.renew = self.0.runtime.instant() + LONGEST_RETRY;
                }
            }
        }
    }
}

impl StreamingCredentialsProvider for TokenProvider {
    fn subscribe(&self) -> Pin<Box<dyn Stream<Item = RedisResult<BasicAuth>> + Send + 'static>> {
        Box::pin(stream::unfold((self.clone(), None), |(provider, last)| async move {
            match provider.after(last.clone()).await {
                Ok(token) => Some((Ok(token.auth.clone()), (provider, Some(token)))),
                Err(err) => Some((Err(err), (provider, last))),
            }
        }))
    }
}

/// Between 65 and 75 per cent of what is left, so that the connections of many daemons do not ask at one moment.
fn wait_to_renew(left: Duration, runtime: &Runtime) -> Duration {
    (left.mul_f64(0.75).saturating_sub(runtime.jitter(left / 10))).max(LEAST_WAIT)
}

fn refused(why: String) -> RedisError {
    RedisError::from((ErrorKind::Client, "not signed in", why))
}

/// The claim `oid` of a token: by that name Redis knows the identity.
fn object_id(token: &str) -> Result<String, String> {
    let claims = token.split('.').nth(1).and_then(|claims| BASE64_URL_SAFE_NO_PAD.decode(claims).ok());
    let claims = claims.and_then(|claims| serde_json::from_slice::<serde_json::Value>(&claims).ok());
    let oid = claims.as_ref().and_then(|claims| claims.get("oid")?.as_str());
    oid.map(str::to_owned).ok_or_else(|| "the Entra token should be a JWT with the claim oid".to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex as Lock;

    use azure_core::credentials::{AccessToken, TokenRequestOptions};
    use azure_core::time::OffsetDateTime;
    use futures::StreamExt;

    use super::*;

    const START: i64 = 1_795_348_800;
    const HOUR: Duration = Duration::from_secs(3_600);

    /// Hands out tokens that are numbered and live for an hour, unless it is told to fail.
    #[derive(Debug)]
    struct Numbered {
        runtime: Runtime,
        state: Lock<(u32, bool)>,
    }

    impl Numbered {
        fn fail(&self, fail: bool) {
            self.state.lock().unwrap().1 = fail;
        }
    }

    #[async_trait::async_trait]
    impl TokenCredential for Numbered {
        async fn get_token(
            &self,
            scopes: &[&str],
            _: Option<TokenRequestOptions<'_>>,
        ) -> azure_core::Result<AccessToken> {
            assert_eq!(scopes, [SCOPE]);
            let mut state = self.state.lock().unwrap();
            if state.1 {
                return Err(azure_core::Error::with_message(azure_core::error::ErrorKind::Credential, "no way"));
            }
            state.0 += 1;
            let expires = (self.runtime.now() + HOUR).ticks() / Time::TICKS_PER_SECOND;
            Ok(AccessToken::new(token(state.0), OffsetDateTime::from_unix_timestamp(expires).unwrap()))
        }
    }

    fn token(number: u32) -> String {
        let claims = BASE64_URL_SAFE_NO_PAD.encode(format!(r#"{{"oid":"me","number":{number}}}"#));
        format!("e30.{claims}.signature")
    }

    fn provider() -> (Arc<Numbered>, TokenProvider, Runtime) {
        let runtime = Runtime::simulated(Time::from_unix_seconds(START), 7);
        let credential = Arc::new(Numbered { runtime: runtime.clone(), state: Lock::new((0, false)) });
        (credential.clone(), TokenProvider::new(credential, runtime.clone()), runtime)
    }

    #[tokio::test(start_paused = true)]
    async fn connections_share_a_token_and_get_the_next_one_before_it_expires() {
        let (_, provider, runtime) = provider();
        let (mut one, mut other) = (provider.subscribe(), provider.subscribe());
        for number in 1..4 {
            for stream in [&mut one, &mut other] {
                let auth = stream.next().await.unwrap().unwrap();
                assert_eq!((auth.username(), auth.password()), ("me", token(number).as_str()));
            }
            let age = runtime.now().since(Time::from_unix_seconds(START)) / number.saturating_sub(1).max(1);
            assert!(number == 1 || (age >= HOUR.mul_f64(0.64) && age <= HOUR.mul_f64(0.76)), "{number}: {age:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn while_no_token_is_to_be_had_the_old_one_serves_until_it_expires() {
        let (credential, provider, _) = provider();
        let mut stream = provider.subscribe();
        stream.next().await.unwrap().unwrap();
        credential.fail(true);
        tokio::time::advance(HOUR.mul_f64(0.9)).await;
        let another = provider.subscribe().next().await.unwrap().unwrap();
        assert_eq!(another.password(), token(1));
        tokio::time::advance(HOUR / 4).await;
        let said = provider.subscribe().next().await.unwrap().unwrap_err().to_string();
        assert!(said.contains("no Entra token") && said.contains("no way"), "{said}");
        let waiting = tokio::time::timeout(HOUR, stream.next()).await;
        assert!(waiting.is_err(), "a stream that has begun waits rather than ends");
        credential.fail(false);
        assert_eq!(stream.next().await.unwrap().unwrap().password(), token(2));
    }

    #[test]
    fn the_object_id_is_read_out_of_the_token() {
        assert_eq!(object_id(&token(1)).unwrap(), "me");
        for bad in ["", "a.b", "e30.e30.x", "e30.!.x", "one"] {
            assert!(object_id(bad).unwrap_err().contains("claim oid"), "{bad}");
        }
    }
}
