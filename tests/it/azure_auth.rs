//! Every way in: keys, shared access signatures, bearer tokens.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use azure_core::credentials::{AccessToken, Secret, TokenCredential, TokenRequestOptions};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::Sha256;
use tablerelay::runtime::Runtime;
use tablerelay::stores::azure::{
    AccountTarget, Credential, CredentialKind, CredentialSettings, HttpOptions, TargetError,
};
use tablerelay::stores::{ErrorKind, Operation, Queue, Tables};
use time::{Duration, OffsetDateTime};

use crate::azure_queue;
use crate::azure_tables::{self, body, table};
use crate::support::azurite::{Azurite, TestAccount};

/// A whole round through both services.
async fn works(target: &AccountTarget, options: &HttpOptions) {
    let tables = azure_tables::connect(target, options);
    tables.create_table(&table()).await.unwrap();
    let insert = Operation::InsertOrReplace(body("it's", "ä b", r#","A":1"#));
    tables.write(&table(), &insert).await.unwrap();
    tables.transact(&table(), &"it's".into(), &[insert]).await.unwrap();
    let row = tables.get(&table(), &"it's".into(), &"ä b".into()).await.unwrap().unwrap();
    assert_eq!(row.body, body("it's", "ä b", r#","A":1"#));
    let queue = azure_queue::connect(target, options);
    queue.create().await.unwrap();
    queue.send("text").await.unwrap();
    let message = queue.receive(1, std::time::Duration::from_secs(30)).await.unwrap().remove(0);
    queue.delete(&message).await.unwrap();
}

/// An account SAS ("Create an account SAS" in Microsoft's reference) of the version that ends with `sv`.
fn sas(account: &TestAccount, until: OffsetDateTime) -> String {
    let until = until.replace_nanosecond(0).unwrap();
    let until = until.format(&time::format_description::well_known::Rfc3339).unwrap();
    let (version, services, types, permissions) = ("2019-02-02", "tq", "sco", "rwdlacup");
    let text = format!("{}\n{permissions}\n{services}\n{types}\n\n{until}\n\n\n{version}\n", account.name);
    let mut mac = Hmac::<Sha256>::new_from_slice(&account.key).unwrap();
    mac.update(text.as_bytes());
    let signature = BASE64.encode(mac.finalize().into_bytes());
    let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    format!("sv={version}&ss={services}&srt={types}&sp={permissions}&se={}&sig={}", encode(&until), encode(&signature))
}

fn soon() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(Runtime::system().now().unix_seconds() as i64).unwrap() + Duration::hours(1)
}

#[tokio::test]
async fn a_connection_string_with_a_key_opens_tables_and_queue() {
    let account = Azurite::shared().account();
    let options = HttpOptions::default();
    works(&AccountTarget::from_connection_string(&account.connection_string()).unwrap(), &options).await;
    let shouted = format!(
        "ACCOUNTNAME={}; accountkey={} ;tableEndpoint={}//;queueendpoint={}/",
        account.name,
        BASE64.encode(&account.key),
        account.table_endpoint,
        account.queue_endpoint
    );
    works(&AccountTarget::from_connection_string(&shouted).unwrap(), &options).await;
}

#[tokio::test]
async fn a_wrong_key_is_denied_and_not_repeated() {
    let account = Azurite::shared().account();
    let text = account.connection_string().replace(&BASE64.encode(&account.key), "c2VjcmV0LWtleQ==");
    let target = AccountTarget::from_connection_string(&text).unwrap();
    let err = azure_tables::connect(&target, &HttpOptions::default()).tables().await.unwrap_err();
    assert_eq!(err.kind, ErrorKind::Denied, "{err}");
    let err = azure_queue::connect(&target, &HttpOptions::default()).send("text").await.unwrap_err();
    assert_eq!(err.kind, ErrorKind::Denied, "{err}");
    assert!(!format!("{err} {err:?} {target:?}").contains("c2VjcmV0"), "{err:?}");
}

#[tokio::test]
async fn a_shared_access_signature_opens_tables_and_queue() {
    let account = Azurite::shared().account();
    let (sas, options) = (sas(&account, soon()), HttpOptions::default());
    let text = format!(
        "TableEndpoint={};QueueEndpoint={};SharedAccessSignature={sas}",
        account.table_endpoint, account.queue_endpoint
    );
    works(&AccountTarget::from_connection_string(&text).unwrap(), &options).await;
    let settings = CredentialSettings { sas: Some(format!("?{sas}").into()), ..CredentialSettings::default() };
    let queue = Some(account.queue_endpoint.as_str());
    let target = AccountTarget::new(&account.table_endpoint, queue, CredentialKind::Sas, &settings).unwrap();
    works(&target, &options).await;
    let none = CredentialSettings::default();
    let with_query = |endpoint: &str| format!("{endpoint}/?{sas}");
    let (tables, queue) = (with_query(&account.table_endpoint), with_query(&account.queue_endpoint));
    works(&AccountTarget::new(&tables, Some(&queue), CredentialKind::Sas, &none).unwrap(), &options).await;
}

#[tokio::test]
async fn a_signature_that_has_run_out_is_denied() {
    let account = Azurite::shared().account();
    let past = sas(&account, soon() - Duration::hours(2));
    let settings = CredentialSettings { sas: Some(past.clone().into()), ..CredentialSettings::default() };
    let target = AccountTarget::new(&account.table_endpoint, None, CredentialKind::Sas, &settings).unwrap();
    let err = azure_tables::connect(&target, &HttpOptions::default()).tables().await.unwrap_err();
    assert_eq!(err.kind, ErrorKind::Denied);
    let signature = past.rsplit_once("sig=").unwrap().1;
    assert!(!format!("{err} {err:?} {target:?} {settings:?}").contains(signature));
}

/// Issues tokens that nobody has signed. Azurite looks at their content alone.
#[derive(Debug)]
struct HomeMade {
    audience: &'static str,
    issued: AtomicUsize,
}

impl HomeMade {
    fn new(audience: &'static str) -> Arc<Self> {
        Arc::new(Self { audience, issued: AtomicUsize::new(0) })
    }
}

#[async_trait]
impl TokenCredential for HomeMade {
    async fn get_token(&self, scopes: &[&str], _: Option<TokenRequestOptions<'_>>) -> azure_core::Result<AccessToken> {
        assert_eq!(scopes, ["https://storage.azure.com/.default"]);
        self.issued.fetch_add(1, Ordering::SeqCst);
        let expires = soon();
        let claims = serde_json::json!({
            "aud": self.audience,
            "iss": "https://sts.windows.net/ab1f708d-50f6-404c-a006-d71b2ac7a606/",
            "iat": (expires - Duration::hours(2)).unix_timestamp(),
            "nbf": (expires - Duration::hours(2)).unix_timestamp(),
            "exp": expires.unix_timestamp(),
        });
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let token =
            format!("{}.{}.{}", part(r#"{"alg":"RS256","typ":"JWT"}"#), part(&claims.to_string()), part("signature"));
        Ok(AccessToken::new(Secret::new(token), expires))
    }
}

#[tokio::test]
async fn a_bearer_token_opens_tables_and_queue_over_https() {
    let azurite = Azurite::start_with_oauth();
    let account = azurite.account();
    let options =
        HttpOptions { extra_roots: vec![azurite.certificate().as_bytes().to_vec()], ..HttpOptions::default() };
    let credential = HomeMade::new("https://storage.azure.com");
    let queue = Some(account.queue_endpoint.as_str());
    let token = Credential::Token(credential.clone());
    let target = AccountTarget::with_credential(&account.table_endpoint, queue, token).unwrap();
    works(&target, &options).await;
    assert_eq!(credential.issued.load(Ordering::SeqCst), 2, "one token for each service, kept between requests");

    let wrong = Credential::Token(HomeMade::new("https://vault.azure.net"));
    let target = AccountTarget::with_credential(&account.table_endpoint, None, wrong).unwrap();
    let err = azure_tables::connect(&target, &options).tables().await.unwrap_err();
    assert_eq!(err.kind, ErrorKind::Denied, "{err}");
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_refused() {
    let azurite = Azurite::start_with_oauth();
    let account = azurite.account();
    let token = Credential::Token(HomeMade::new("https://storage.azure.com"));
    let target = AccountTarget::with_credential(&account.table_endpoint, None, token).unwrap();
    let err = azure_tables::connect(&target, &HttpOptions::default()).tables().await.unwrap_err();
    assert_eq!(err.kind, ErrorKind::Unreachable);
    assert!(err.message.contains("certificate"), "{err}");
}

/// What is logged, at every level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// In a process of its own: whether a line is logged at all is decided once for all threads, whatever subscriber the
/// first of them has.
#[test]
fn no_secret_is_logged_at_any_level() {
    const CHILD: &str = "TABLERELAY_TEST_LOG";
    if std::env::var_os(CHILD).is_some() {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(look_for_secrets());
        return;
    }
    let name = "azure_auth::no_secret_is_logged_at_any_level";
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&child.stdout), String::from_utf8_lossy(&child.stderr));
    assert!(child.status.success() && said.contains("1 passed"), "{said}");
}

async fn look_for_secrets() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);

    let azurite = Azurite::start_with_oauth();
    let options =
        HttpOptions { extra_roots: vec![azurite.certificate().as_bytes().to_vec()], ..HttpOptions::default() };
    let account = azurite.account();
    let queue = Some(account.queue_endpoint.as_str());
    let with_key = AccountTarget::from_connection_string(&account.connection_string()).unwrap();
    works(&with_key, &options).await;
    let sas = sas(&account, soon());
    let settings = CredentialSettings { sas: Some(sas.clone().into()), ..CredentialSettings::default() };
    let with_sas = AccountTarget::new(&account.table_endpoint, queue, CredentialKind::Sas, &settings).unwrap();
    works(&with_sas, &options).await;
    let token = Credential::Token(HomeMade::new("https://storage.azure.com"));
    works(&AccountTarget::with_credential(&account.table_endpoint, queue, token).unwrap(), &options).await;
    drop(azurite);
    for target in [&with_key, &with_sas] {
        let err = azure_tables::connect(target, &options).tables().await.unwrap_err();
        assert_eq!(err.kind, ErrorKind::Unreachable);
    }

    let logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(logged.contains("Orders") && logged.contains("TRACE"), "the requests are logged");
    let signature = sas.rsplit_once("sig=").unwrap().1;
    for secret in [signature, &BASE64.encode(&account.key), "SharedKeyLite ", "Bearer ", "eyJhbGci"] {
        let line = logged.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret:?} is a secret");
    }
}

#[test]
fn a_bearer_token_is_never_sent_in_the_clear() {
    let token = Credential::Token(HomeMade::new("https://storage.azure.com"));
    let err = AccountTarget::with_credential("http://127.0.0.1:1/a", None, token).unwrap_err();
    assert!(matches!(err, TargetError::Endpoint { what: "table_endpoint", .. }), "{err}");
}
