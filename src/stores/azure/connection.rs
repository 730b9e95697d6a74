//! Where an account is and how it is let in: connection strings as Azure writes them, and plain endpoints.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use secrecy::SecretString;
use url::Url;

use super::credential::{Credential, CredentialError, CredentialKind, CredentialSettings};
use crate::stores::SharedKey;

/// An account's address or credential that cannot be used. Says what it should be; never repeats a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// A part of a connection string that is no `Name=Value`.
    #[error("part {0} of the connection string should be Name=Value, as in AccountName=myaccount;AccountKey=…")]
    NotAPair(usize),
    /// A name that no connection string has.
    #[error(
        "{0:?} is no setting of a connection string: it should be one of DefaultEndpointsProtocol, AccountName, \
         AccountKey, EndpointSuffix, TableEndpoint, QueueEndpoint, SharedAccessSignature, UseDevelopmentStorage"
    )]
    UnknownSetting(String),
    /// A name that stands in the connection string twice.
    #[error("{0} stands in the connection string twice; it should be there once")]
    Twice(&'static str),
    /// Something that has to be there and is not.
    #[error("the connection string should have {0}")]
    Missing(&'static str),
    /// A value that is not what its name asks for.
    #[error("{0} in the connection string should be {1}")]
    Value(&'static str, &'static str),
    /// An endpoint that is none.
    #[error("{what} should be a URL such as {example}: {why}")]
    Endpoint {
        /// Which one, by its name in the configuration.
        what: &'static str,
        /// What it should look like.
        example: &'static str,
        /// What is wrong.
        why: String,
    },
    /// A bearer token over plain HTTP.
    #[error("{what} should begin with https://, since {kind} sends a bearer token")]
    PlainHttp {
        /// Which endpoint.
        what: &'static str,
        /// The credential.
        kind: CredentialKind,
    },
    /// The credential cannot be made.
    #[error(transparent)]
    Credential(#[from] CredentialError),
}

/// One service of an account: its address, and how it lets us in.
#[derive(Clone)]
pub(super) struct Endpoint {
    /// Without query and trailing slash.
    pub(super) url: Url,
    access: Access,
}

/// A credential, or the name of one that is made when it is needed: it may want files that are only there where the
/// daemon runs, and a configuration can be checked anywhere.
#[derive(Clone)]
enum Access {
    Ready(Credential),
    Named(CredentialKind, CredentialSettings),
}

impl Endpoint {
    pub(super) fn credential(&self) -> Result<Credential, CredentialError> {
        match &self.access {
            Access::Ready(credential) => Ok(credential.clone()),
            Access::Named(kind, settings) => Credential::named(*kind, settings),
        }
    }
}

/// A storage account as configured: the endpoints of its tables and its queue, and how they let us in.
///
/// Its `Debug` shows no secret.
#[derive(Clone)]
pub struct AccountTarget {
    pub(super) tables: Endpoint,
    pub(super) queue: Option<Endpoint>,
}

impl AccountTarget {
    /// Reads a connection string as the Azure portal, the CLI and Azurite write it: names in any case, in any order,
    /// endpoints with or without a trailing slash, an account key or a `SharedAccessSignature`, or
    /// `UseDevelopmentStorage=true`.
    ///
    /// # Errors
    /// [`TargetError`] for whatever it should have and has not, and for names that are not known.
    pub fn from_connection_string(text: &str) -> Result<Self, TargetError> {
        let settings = Settings::parse(text)?;
        if let Some(value) = settings.get(Name::UseDevelopmentStorage) {
            return development(value, settings.get(Name::DevelopmentStorageProxyUri));
        }
        let credential = settings.credential()?;
        let endpoint = |name: Name, service: &str| -> Result<Option<Endpoint>, TargetError> {
            let url = match (settings.get(name), settings.get(Name::Account)) {
                (Some(given), _) => given.to_owned(),
                (None, Some(account)) => settings.default_endpoint(account, service)?,
                (None, None) => return Ok(None),
            };
            let (url, query) = parse_endpoint(name.as_str(), &url)?;
            if query.is_some() {
                return Err(TargetError::Value(name.as_str(), "without a query: put it into SharedAccessSignature"));
            }
            Ok(Some(Endpoint { url, access: Access::Ready(credential.clone()) }))
        };
        let tables =
            endpoint(Name::TableEndpoint, "table")?.ok_or(TargetError::Missing("AccountName or TableEndpoint"))?;
        Ok(Self { tables, queue: endpoint(Name::QueueEndpoint, "queue")? })
    }

    /// An account by its endpoints, let in by a credential of the configuration.
    ///
    /// For `sas` the token is the endpoint's own query where it has one (as in the portal's "SAS URL"), else the one of
    /// `settings`. All other kinds want `https://`.
    ///
    /// # Errors
    /// [`TargetError`] where an endpoint is no URL, or the credential lacks something.
    pub fn new(
        table_endpoint: &str,
        queue_endpoint: Option<&str>,
        kind: CredentialKind,
        settings: &CredentialSettings,
    ) -> Result<Self, TargetError> {
        if kind == CredentialKind::Sas {
            let endpoint = |what, text: &str| {
                let (url, query) = parse_endpoint(what, text)?;
                let token = query.or_else(|| settings.sas.clone()).ok_or(CredentialError::NoSas)?;
                Ok::<_, TargetError>(Endpoint { url, access: Access::Ready(Credential::sas(&token)?) })
            };
            let tables = endpoint("table_endpoint", table_endpoint)?;
            return Ok(Self {
                tables,
                queue: queue_endpoint.map(|text| endpoint("queue_endpoint", text)).transpose()?,
            });
        }
        let url = |what, text: &str| match parse_endpoint(what, text)? {
            (_, Some(_)) => Err(endpoint_error(what, format!("{kind} goes without a query; it has one"))),
            (url, None) if url.scheme() != "https" => Err(TargetError::PlainHttp { what, kind }),
            (url, None) => Ok(url),
        };
        let tables = url("table_endpoint", table_endpoint)?;
        let queue = queue_endpoint.map(|text| url("queue_endpoint", text)).transpose()?;
        Credential::check(kind, settings)?;
        Ok(Self::assemble(tables, queue, Access::Named(kind, settings.clone())))
    }

    /// An account by its endpoints, let in by a credential that was made elsewhere.
    ///
    /// # Errors
    /// [`TargetError`] where an endpoint is no URL, has a query, or is plain HTTP while the credential is a token.
    pub fn with_credential(
        table_endpoint: &str,
        queue_endpoint: Option<&str>,
        credential: Credential,
    ) -> Result<Self, TargetError> {
        let url = |what, text: &str| match parse_endpoint(what, text)? {
            (_, Some(_)) => Err(endpoint_error(what, "it should have no query".to_owned())),
            (url, None) if url.scheme() != "https" && matches!(credential, Credential::Token(_)) => {
                Err(endpoint_error(what, "a bearer token is only sent to https://".to_owned()))
            }
            (url, None) => Ok(url),
        };
        let tables = url("table_endpoint", table_endpoint)?;
        let queue = queue_endpoint.map(|text| url("queue_endpoint", text)).transpose()?;
        Ok(Self::assemble(tables, queue, Access::Ready(credential)))
    }

    fn assemble(tables: Url, queue: Option<Url>, access: Access) -> Self {
        Self {
            queue: queue.map(|url| Endpoint { url, access: access.clone() }),
            tables: Endpoint { url: tables, access },
        }
    }

    /// The address of its tables, without a query: what tells one account from another.
    pub fn table_endpoint(&self) -> &Url {
        &self.tables.url
    }

    /// Whether it has a queue endpoint, so that the queue form of the feed can be read.
    pub fn has_queue(&self) -> bool {
        self.queue.is_some()
    }
}

impl fmt::Debug for AccountTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccountTarget").field("tables", &self.tables).field("queue", &self.queue).finish()
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The query was taken off when the URL was read.
        match &self.access {
            Access::Ready(credential) => write!(f, "{} ({credential:?})", self.url),
            Access::Named(kind, _) => write!(f, "{} ({kind})", self.url),
        }
    }
}

/// The names that a connection string may have and that mean something to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    Protocol,
    Account,
    AccountKey,
    EndpointSuffix,
    TableEndpoint,
    QueueEndpoint,
    SharedAccessSignature,
    UseDevelopmentStorage,
    DevelopmentStorageProxyUri,
}

impl Name {
    const ALL: [Self; 9] = [
        Self::Protocol,
        Self::Account,
        Self::AccountKey,
        Self::EndpointSuffix,
        Self::TableEndpoint,
        Self::QueueEndpoint,
        Self::SharedAccessSignature,
        Self::UseDevelopmentStorage,
        Self::DevelopmentStorageProxyUri,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Protocol => "DefaultEndpointsProtocol",
            Self::Account => "AccountName",
            Self::AccountKey => "AccountKey",
            Self::EndpointSuffix => "EndpointSuffix",
            Self::TableEndpoint => "TableEndpoint",
            Self::QueueEndpoint => "QueueEndpoint",
            Self::SharedAccessSignature => "SharedAccessSignature",
            Self::UseDevelopmentStorage => "UseDevelopmentStorage",
            Self::DevelopmentStorageProxyUri => "DevelopmentStorageProxyUri",
        }
    }
}

struct Settings<'a>(Vec<(Name, &'a str)>);

impl<'a> Settings<'a> {
    fn parse(text: &'a str) -> Result<Self, TargetError> {
        let mut settings = Self(Vec::new());
        for (index, part) in text.split(';').map(str::trim).enumerate() {
            if part.is_empty() {
                continue;
            }
            // A key and a signature hold more equals signs: the first one divides.
            let (name, value) = part.split_once('=').ok_or(TargetError::NotAPair(index + 1))?;
            let (name, value) = (name.trim(), value.trim());
            match Name::ALL.into_iter().find(|known| known.as_str().eq_ignore_ascii_case(name)) {
                Some(known) if settings.get(known).is_some() => return Err(TargetError::Twice(known.as_str())),
                // An empty value is written by tools for a setting that is not there.
                Some(_) if value.is_empty() => {}
                Some(known) => settings.0.push((known, value)),
                // Blobs, files and secondaries: the portal names them too.
                None if name.to_ascii_lowercase().ends_with("endpoint") => {}
                // It may be a piece of a key, torn off by a stray semicolon: only what looks like a name is repeated.
                None if name.len() <= 32 && name.bytes().all(|byte| byte.is_ascii_alphabetic()) => {
                    return Err(TargetError::UnknownSetting(name.to_owned()));
                }
                None => return Err(TargetError::NotAPair(index + 1)),
            }
        }
        Ok(settings)
    }

    fn get(&self, name: Name) -> Option<&'a str> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    fn credential(&self) -> Result<Credential, TargetError> {
        if let Some(key) = self.get(Name::AccountKey) {
            let account = self.get(Name::Account).ok_or(TargetError::Missing("AccountName beside AccountKey"))?;
            return Ok(Credential::SharedKey(shared_key(account, key)?));
        }
        let sas =
            self.get(Name::SharedAccessSignature).ok_or(TargetError::Missing("AccountKey or SharedAccessSignature"))?;
        Ok(Credential::sas(&SecretString::from(sas))?)
    }

    fn default_endpoint(&self, account: &str, service: &str) -> Result<String, TargetError> {
        let protocol = self.get(Name::Protocol).unwrap_or("https").to_ascii_lowercase();
        if !matches!(protocol.as_str(), "http" | "https") {
            return Err(TargetError::Value(Name::Protocol.as_str(), "https (or http)"));
        }
        let suffix = self.get(Name::EndpointSuffix).unwrap_or("core.windows.net");
        Ok(format!("{protocol}://{account}.{service}.{suffix}"))
    }
}

fn shared_key(account: &str, key: &str) -> Result<SharedKey, TargetError> {
    let bytes = BASE64.decode(key).map_err(|_| TargetError::Value(Name::AccountKey.as_str(), "base64"))?;
    SharedKey::new(account, &bytes).ok_or(TargetError::Value(Name::AccountKey.as_str(), "a key, not empty"))
}

/// Name and key (base64) of the well-known account of the emulators. The key is published and opens nothing else.
pub const DEVELOPMENT_ACCOUNT: (&str, &str) =
    ("devstoreaccount1", "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==");

/// Azurite's well-known account on its well-known ports.
fn development(value: &str, proxy: Option<&str>) -> Result<AccountTarget, TargetError> {
    const ACCOUNT: &str = DEVELOPMENT_ACCOUNT.0;
    const KEY: &str = DEVELOPMENT_ACCOUNT.1;
    if !value.eq_ignore_ascii_case("true") {
        return Err(TargetError::Value(Name::UseDevelopmentStorage.as_str(), "true, or left out"));
    }
    let host = proxy.unwrap_or("http://127.0.0.1").trim_end_matches('/');
    let url = |port: u16| {
        parse_endpoint(Name::DevelopmentStorageProxyUri.as_str(), &format!("{host}:{port}/{ACCOUNT}"))
            .map(|(url, _)| url)
    };
    Ok(AccountTarget::assemble(
        url(10_002)?,
        Some(url(10_001)?),
        Access::Ready(Credential::SharedKey(shared_key(ACCOUNT, KEY)?)),
    ))
}

fn endpoint_error(what: &'static str, why: String) -> TargetError {
    let queue = what.to_ascii_lowercase().starts_with("queue");
    let example =
        if queue { "https://myaccount.queue.core.windows.net" } else { "https://myaccount.table.core.windows.net" };
    TargetError::Endpoint { what, example, why }
}

/// An endpoint without trailing slashes, and its query apart: that may be a SAS.
fn parse_endpoint(what: &'static str, text: &str) -> Result<(Url, Option<SecretString>), TargetError> {
    let mut url = Url::parse(text.trim()).map_err(|err| endpoint_error(what, err.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(endpoint_error(what, "it should begin with https:// (or http://)".to_owned()));
    }
    if url.host_str().is_none_or(str::is_empty) || !url.username().is_empty() || url.password().is_some() {
        return Err(endpoint_error(what, "it should have a host, and no user or password".to_owned()));
    }
    let query = url.query().filter(|query| !query.is_empty()).map(SecretString::from);
    url.set_query(None);
    url.set_fragment(None);
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Ok((url, query))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "a2V5LW9mLWEtdGVzdA==";

    fn tables(text: &str) -> String {
        format!("{:?}", AccountTarget::from_connection_string(text).unwrap().tables)
    }

    #[test]
    fn connection_strings_are_read_as_azure_writes_them() {
        let portal = format!(
            "DefaultEndpointsProtocol=https;AccountName=acct;AccountKey={KEY};EndpointSuffix=core.chinacloudapi.cn"
        );
        assert_eq!(tables(&portal), "https://acct.table.core.chinacloudapi.cn/ (shared key of acct)");
        let target = AccountTarget::from_connection_string(&portal).unwrap();
        assert_eq!(target.queue.unwrap().url.as_str(), "https://acct.queue.core.chinacloudapi.cn/");

        let odd = format!(" accountname=acct ;\n ACCOUNTKEY={KEY} ; tableendpoint=http://127.0.0.1:10002/acct// ;; ");
        assert_eq!(tables(&odd), "http://127.0.0.1:10002/acct (shared key of acct)");

        let sas = "BlobEndpoint=https://acct.blob.core.windows.net/;QueueEndpoint=https://acct.queue.core.windows.net/;\
                   FileEndpoint=https://acct.file.core.windows.net/;TableEndpoint=https://acct.table.core.windows.net/;\
                   SharedAccessSignature=sv=2022-11-02&ss=qt&sig=abc%3D";
        assert_eq!(tables(sas), "https://acct.table.core.windows.net/ (sas)");
        assert!(AccountTarget::from_connection_string(sas).unwrap().has_queue());

        assert_eq!(
            tables("UseDevelopmentStorage=TRUE"),
            "http://127.0.0.1:10002/devstoreaccount1 (shared key of devstoreaccount1)"
        );
        let proxied = "UseDevelopmentStorage=true;DevelopmentStorageProxyUri=http://azurite";
        assert!(tables(proxied).starts_with("http://azurite:10002/devstoreaccount1"));
    }

    #[test]
    fn a_table_endpoint_alone_has_no_queue() {
        let text = "TableEndpoint=https://t.example.org;SharedAccessSignature=?sig=x";
        assert!(!AccountTarget::from_connection_string(text).unwrap().has_queue());
    }

    #[test]
    fn what_is_wrong_is_named_and_no_secret_repeated() {
        let key = "c2VjcmV0LWtleQ==";
        for (text, says) in [
            ("", "AccountKey or SharedAccessSignature"),
            ("AccountName=a", "AccountKey or SharedAccessSignature"),
            (&format!("AccountKey={key}"), "AccountName beside AccountKey"),
            ("AccountName=a;AccountKey=c2VjcmV0LWtleQ==!", "AccountKey in the connection string should be base64"),
            (&format!("AccountName=a;AcountKey={key}"), "\"AcountKey\" is no setting"),
            (&format!("AccountName=a;AccountKey={key};AccountKey={key}"), "twice"),
            (&format!("AccountName=a;AccountKey={key};{key}x"), "part 3"),
            (&format!("AccountName=a;AccountKey={key};rubbish"), "part 3"),
            ("UseDevelopmentStorage=false", "true, or left out"),
            (&format!("AccountName=a;AccountKey={key};DefaultEndpointsProtocol=ftp"), "https (or http)"),
            (&format!("AccountName=a;AccountKey={key};TableEndpoint=t.example.org"), "TableEndpoint should be a URL"),
            ("TableEndpoint=https://t/?sig=c2VjcmV0LWtleQ;SharedAccessSignature=sig=c2VjcmV0LWtleQ", "without a query"),
            ("SharedAccessSignature=sig=c2VjcmV0LWtleQ", "AccountName or TableEndpoint"),
            ("TableEndpoint=https://t;SharedAccessSignature=c2VjcmV0LWtleQ", "sig="),
        ] {
            let err = AccountTarget::from_connection_string(text).unwrap_err().to_string();
            assert!(err.contains(says), "{text}: {err}");
            assert!(!err.contains("c2VjcmV0"), "{err}");
        }
    }

    #[test]
    fn plain_endpoints_take_their_sas_from_the_query_or_the_settings() {
        let none = CredentialSettings::default();
        let url = "https://acct.table.core.windows.net/?sv=2022-11-02&sig=c2VjcmV0";
        let target = AccountTarget::new(url, None, CredentialKind::Sas, &none).unwrap();
        assert_eq!(
            format!("{target:?}"),
            "AccountTarget { tables: https://acct.table.core.windows.net/ (sas), queue: None }"
        );

        let settings = CredentialSettings { sas: Some("?sv=1&sig=c2VjcmV0".into()), ..CredentialSettings::default() };
        let plain = "https://acct.table.core.windows.net";
        assert!(AccountTarget::new(plain, Some("http://q.example.org"), CredentialKind::Sas, &settings).is_ok());
        let err = AccountTarget::new(plain, None, CredentialKind::Sas, &none).unwrap_err().to_string();
        assert!(err.contains("sas"), "{err}");
    }

    #[test]
    fn a_bearer_token_is_never_sent_over_plain_http() {
        let none = CredentialSettings::default();
        let err = AccountTarget::new("http://t.example.org", None, CredentialKind::ManagedIdentity, &none).unwrap_err();
        assert_eq!(
            err.to_string(),
            "table_endpoint should begin with https://, since managed-identity sends a bearer token"
        );
        // Outside a pod too: the credential is made when it is needed.
        assert!(AccountTarget::new("https://t", None, CredentialKind::WorkloadIdentity, &none).is_ok());
        let err = AccountTarget::new("https://t", None, CredentialKind::ClientSecret, &none).unwrap_err();
        assert!(err.to_string().contains("tenant_id"), "{err}");
        let err = AccountTarget::new("https://t/?sig=x", None, CredentialKind::DeveloperTools, &none).unwrap_err();
        assert!(err.to_string().contains("without a query"), "{err}");
    }
}
