//! Pipeline policies that sign requests: Shared Key Lite, and shared access signatures.
//!
//! They run for each try. A signature holds the time, and Azure refuses one that is older than 15 minutes.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use azure_core::http::headers::{AUTHORIZATION, MS_DATE};
use azure_core::http::policies::{Policy, PolicyResult};
use azure_core::http::{Context, Request};
use secrecy::{ExposeSecret, SecretString};
use time::OffsetDateTime;

use crate::model::Time;
use crate::runtime::Runtime;
use crate::stores::SharedKey;

/// Which service's variant of Shared Key Lite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    Tables,
    Queue,
}

/// The policy that signs with Shared Key Lite.
///
/// What is signed ("Authorize with Shared Key" in Microsoft's reference): for tables the date and the resource; for
/// queues also the verb, content type and every `x-ms-` header. The resource is `/account` and the path as it is sent.
#[derive(Debug)]
pub(super) struct Signer {
    key: SharedKey,
    service: Service,
    runtime: Runtime,
}

impl Signer {
    pub(super) fn new(key: SharedKey, service: Service, runtime: Runtime) -> Self {
        Self { key, service, runtime }
    }

    fn sign(&self, request: &mut Request) {
        let date = rfc1123(self.runtime.now());
        request.insert_header(MS_DATE, date.clone());
        let text = match self.service {
            Service::Tables => format!("{date}\n{}", self.resource(request)),
            Service::Queue => format!(
                "{}\n\n{}\n\n{}{}",
                request.method(),
                header(request, "content-type"),
                canonical_headers(request),
                self.resource(request)
            ),
        };
        let authorization = format!("SharedKeyLite {}:{}", self.key.account(), self.key.sign(&text));
        request.insert_header(AUTHORIZATION, authorization);
    }

    fn resource(&self, request: &Request) -> String {
        let url = request.url();
        let comp = url.query_pairs().find(|(name, _)| name == "comp");
        match comp {
            Some((_, comp)) => format!("/{}{}?comp={comp}", self.key.account(), url.path()),
            None => format!("/{}{}", self.key.account(), url.path()),
        }
    }
}

fn header<'a>(request: &'a Request, name: &str) -> &'a str {
    request.headers().iter().find(|(key, _)| key.as_str() == name).map_or("", |(_, value)| value.as_str())
}

/// Every `x-ms-` header, sorted by name, a line each.
fn canonical_headers(request: &Request) -> String {
    let mut headers: Vec<_> = request
        .headers()
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str().trim()))
        .filter(|(name, _)| name.starts_with("x-ms-"))
        .collect();
    headers.sort_unstable();
    headers.into_iter().map(|(name, value)| format!("{name}:{value}\n")).collect()
}

/// `Sun, 22 Nov 2026 12:18:00 GMT`.
fn rfc1123(time: Time) -> String {
    let seconds = time.ticks().div_euclid(Time::TICKS_PER_SECOND);
    let time = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    azure_core::time::to_rfc7231(&time)
}

#[async_trait]
impl Policy for Signer {
    async fn send(&self, ctx: &Context, request: &mut Request, next: &[Arc<dyn Policy>]) -> PolicyResult {
        self.sign(request);
        next[0].send(ctx, request, &next[1..]).await
    }
}

/// A shared access signature, and the policy that puts it into the query of each request.
#[derive(Clone)]
pub struct Sas(SecretString);

impl Sas {
    /// Takes a token with or without a leading `?`; `None` where it has no `sig=`.
    pub fn new(token: &SecretString) -> Option<Self> {
        let token = token.expose_secret().trim().trim_start_matches('?').trim_matches('&');
        let signed = token.split('&').any(|pair| pair.split_once('=').is_some_and(|(name, _)| name == "sig"));
        signed.then(|| Self(SecretString::from(token)))
    }
}

impl fmt::Debug for Sas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sas")
    }
}

#[async_trait]
impl Policy for Sas {
    async fn send(&self, ctx: &Context, request: &mut Request, next: &[Arc<dyn Policy>]) -> PolicyResult {
        let bare = request.url().query().map(str::to_owned);
        let query = match &bare {
            Some(query) => format!("{query}&{}", self.0.expose_secret()),
            None => self.0.expose_secret().to_owned(),
        };
        request.url_mut().set_query(Some(&query));
        let result = next[0].send(ctx, request, &next[1..]).await;
        // Whoever sends the request again, or prints it, gets it without the token.
        request.url_mut().set_query(bare.as_deref());
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use azure_core::http::{Method, Url};

    fn signer(service: Service) -> Signer {
        let key = SharedKey::new("acct", b"key").unwrap();
        let runtime = Runtime::simulated(Time::parse("2026-11-22T12:18:00.9999999Z").unwrap(), 1);
        Signer::new(key, service, runtime)
    }

    fn request(method: Method, url: &str) -> Request {
        Request::new(Url::parse(url).unwrap(), method)
    }

    #[tokio::test(start_paused = true)]
    async fn a_table_request_is_signed_over_date_and_resource() {
        let url = "https://acct.table.core.windows.net/Orders(PartitionKey='it%27%27s',RowKey='')?$top=1";
        let mut request = request(Method::Get, url);
        let signer = signer(Service::Tables);
        signer.sign(&mut request);
        assert_eq!(header(&request, "x-ms-date"), "Sun, 22 Nov 2026 12:18:00 GMT");
        let text = "Sun, 22 Nov 2026 12:18:00 GMT\n/acct/Orders(PartitionKey='it%27%27s',RowKey='')";
        assert_eq!(header(&request, "authorization"), format!("SharedKeyLite acct:{}", signer.key.sign(text)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_request_is_signed_over_verb_and_headers_too() {
        let mut request =
            request(Method::Post, "http://127.0.0.1:1/acct/relay-changes/messages?comp=acl&messagettl=-1");
        request.insert_header("content-type", "application/xml");
        request.insert_header("x-ms-version", "2020-12-06");
        request.insert_header("accept", "application/xml");
        let signer = signer(Service::Queue);
        signer.sign(&mut request);
        let text = "POST\n\napplication/xml\n\nx-ms-date:Sun, 22 Nov 2026 12:18:00 GMT\nx-ms-version:2020-12-06\n\
                    /acct/acct/relay-changes/messages?comp=acl";
        assert_eq!(header(&request, "authorization"), format!("SharedKeyLite acct:{}", signer.key.sign(text)));
    }

    #[test]
    fn no_secret_is_printed() {
        let sas = Sas::new(&"?sv=1&sig=c2VjcmV0".into()).unwrap();
        let text = format!("{sas:?} {:?}", signer_without_clock());
        assert_eq!(text, "sas shared key of acct");
        assert!(Sas::new(&"sv=1&signature=x".into()).is_none());
    }

    fn signer_without_clock() -> SharedKey {
        SharedKey::new("acct", b"c2VjcmV0").unwrap()
    }
}
