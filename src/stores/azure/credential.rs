//! How an account lets us in, each way by its name in the configuration.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use azure_core::credentials::{Secret, TokenCredential};
use azure_core::http::policies::Policy;
use azure_core::http::policies::auth::BearerTokenAuthorizationPolicy;
use azure_identity::{
    ClientSecretCredential, DeveloperToolsCredential, ManagedIdentityCredential, ManagedIdentityCredentialOptions,
    UserAssignedId, WorkloadIdentityCredential, WorkloadIdentityCredentialOptions,
};
use secrecy::{ExposeSecret, SecretString};

use super::sign::{Sas, Signer};
use crate::stores::SharedKey;

/// The scope of a token for Azure Storage.
const SCOPE: &str = "https://storage.azure.com/.default";

/// A credential that cannot be made. Never repeats a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// A name that is none.
    #[error(
        "{0:?} is no credential: it should be managed-identity, workload-identity, client-secret, sas or developer-tools"
    )]
    UnknownKind(String),
    /// No SAS anywhere.
    #[error("the credential sas should have a shared access signature: in sas, or as the query of the endpoint")]
    NoSas,
    /// A SAS that is none.
    #[error("the shared access signature should be name=value pairs joined by &, sig= among them")]
    NotASas,
    /// A setting that this credential wants.
    #[error("the credential {kind} should have {setting} (or the environment variable {variable})")]
    Missing {
        /// The credential.
        kind: CredentialKind,
        /// The setting.
        setting: &'static str,
        /// Where else it is looked for.
        variable: &'static str,
    },
    /// azure_identity refused.
    #[error("the credential {kind} cannot be used: {why}")]
    Refused {
        /// The credential.
        kind: CredentialKind,
        /// What azure_identity said.
        why: String,
    },
}

/// A credential by its name in the configuration.
///
/// There is no "default" that tries one after the other: which identity a daemon has should not depend on what else
/// happens to be installed where it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialKind {
    /// `managed-identity`: the identity of the virtual machine or App Service that we run on.
    ManagedIdentity,
    /// `workload-identity`: a Kubernetes service account, federated.
    WorkloadIdentity,
    /// `client-secret`: an application with a secret.
    ClientSecret,
    /// `sas`: a shared access signature.
    Sas,
    /// `developer-tools`: whoever is signed in to `az` or `azd`.
    DeveloperTools,
}

impl CredentialKind {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::ManagedIdentity, Self::WorkloadIdentity, Self::ClientSecret, Self::Sas, Self::DeveloperTools];

    /// Its name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ManagedIdentity => "managed-identity",
            Self::WorkloadIdentity => "workload-identity",
            Self::ClientSecret => "client-secret",
            Self::Sas => "sas",
            Self::DeveloperTools => "developer-tools",
        }
    }
}

impl FromStr for CredentialKind {
    type Err = CredentialError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|kind| kind.as_str() == name);
        known.ok_or_else(|| CredentialError::UnknownKind(name.to_owned()))
    }
}

impl fmt::Display for CredentialKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What some credentials want beside their name. Its `Debug` shows no secret.
#[derive(Debug, Clone, Default)]
pub struct CredentialSettings {
    /// Microsoft Entra tenant: for `client-secret` and `workload-identity`.
    pub tenant_id: Option<String>,
    /// Application (client) id: for `client-secret` and `workload-identity`, and for a user-assigned
    /// `managed-identity`; without it the system-assigned one is used.
    pub client_id: Option<String>,
    /// The application's secret: for `client-secret`.
    pub client_secret: Option<SecretString>,
    /// A shared access signature, with or without a leading `?`: for `sas`.
    pub sas: Option<SecretString>,
}

impl CredentialSettings {
    /// Fills what is not given from `AZURE_TENANT_ID`, `AZURE_CLIENT_ID` and `AZURE_CLIENT_SECRET`, the names that all
    /// Azure SDKs use. `variable` looks one up: `|name| std::env::var(name).ok()` in earnest.
    #[must_use]
    pub fn or_environment(self, variable: impl Fn(&str) -> Option<String>) -> Self {
        let variable = |name| variable(name).filter(|value| !value.is_empty());
        Self {
            tenant_id: self.tenant_id.or_else(|| variable("AZURE_TENANT_ID")),
            client_id: self.client_id.or_else(|| variable("AZURE_CLIENT_ID")),
            client_secret: self.client_secret.or_else(|| variable("AZURE_CLIENT_SECRET").map(SecretString::from)),
            sas: self.sas,
        }
    }
}

/// How an account lets us in. Its `Debug` shows no secret.
#[derive(Clone)]
pub enum Credential {
    /// The account's key: requests are signed with Shared Key Lite.
    SharedKey(SharedKey),
    /// A shared access signature: goes into the query of every request.
    Sas(Sas),
    /// Microsoft Entra: a bearer token, over HTTPS only.
    Token(Arc<dyn TokenCredential>),
}

impl Credential {
    /// Makes a credential of the configuration. Asks nobody yet: a token is fetched with the first request.
    ///
    /// # Errors
    /// [`CredentialError`] where a setting is missing or azure_identity refuses.
    pub fn named(kind: CredentialKind, settings: &CredentialSettings) -> Result<Self, CredentialError> {
        let token: Arc<dyn TokenCredential> = match kind {
            CredentialKind::Sas => return Self::sas(settings.sas.as_ref().ok_or(CredentialError::NoSas)?),
            CredentialKind::ManagedIdentity => {
                let options = ManagedIdentityCredentialOptions {
                    user_assigned_id: settings.client_id.clone().map(UserAssignedId::ClientId),
                    ..ManagedIdentityCredentialOptions::default()
                };
                ManagedIdentityCredential::new(Some(options)).map_err(|err| refused(kind, &err))?
            }
            CredentialKind::WorkloadIdentity => {
                let options = WorkloadIdentityCredentialOptions {
                    client_id: settings.client_id.clone(),
                    tenant_id: settings.tenant_id.clone(),
                    ..WorkloadIdentityCredentialOptions::default()
                };
                WorkloadIdentityCredential::new(Some(options)).map_err(|err| refused(kind, &err))?
            }
            CredentialKind::ClientSecret => client_secret(settings)?,
            CredentialKind::DeveloperTools => DeveloperToolsCredential::new(None).map_err(|err| refused(kind, &err))?,
        };
        Ok(Self::Token(token))
    }

    /// Whether `settings` have what this kind cannot do without, as far as can be told without making it.
    ///
    /// # Errors
    /// [`CredentialError`] that names what is missing.
    pub fn check(kind: CredentialKind, settings: &CredentialSettings) -> Result<(), CredentialError> {
        match kind {
            CredentialKind::Sas => Self::named(kind, settings).map(drop),
            CredentialKind::ClientSecret => client_secret(settings).map(drop),
            CredentialKind::ManagedIdentity | CredentialKind::WorkloadIdentity | CredentialKind::DeveloperTools => {
                Ok(())
            }
        }
    }

    /// A shared access signature, with or without a leading `?`.
    ///
    /// # Errors
    /// [`CredentialError::NotASas`] where it has no `sig=`.
    pub fn sas(token: &SecretString) -> Result<Self, CredentialError> {
        Sas::new(token).map(Self::Sas).ok_or(CredentialError::NotASas)
    }

    /// The pipeline policy that lets a request in: run for each try, so that no signature is older than its try.
    pub(super) fn policy(&self, signer: impl FnOnce(SharedKey) -> Signer) -> Arc<dyn Policy> {
        match self {
            Self::SharedKey(key) => Arc::new(signer(key.clone())),
            Self::Sas(sas) => Arc::new(sas.clone()),
            Self::Token(token) => Arc::new(BearerTokenAuthorizationPolicy::new(token.clone(), [SCOPE])),
        }
    }
}

fn client_secret(settings: &CredentialSettings) -> Result<Arc<dyn TokenCredential>, CredentialError> {
    let kind = CredentialKind::ClientSecret;
    let missing = |setting, variable| CredentialError::Missing { kind, setting, variable };
    let tenant = settings.tenant_id.as_ref().ok_or(missing("tenant_id", "AZURE_TENANT_ID"))?;
    let client = settings.client_id.clone().ok_or(missing("client_id", "AZURE_CLIENT_ID"))?;
    let secret = settings.client_secret.as_ref().ok_or(missing("client_secret", "AZURE_CLIENT_SECRET"))?;
    let secret = Secret::new(secret.expose_secret().to_owned());
    ClientSecretCredential::new(tenant, client, secret, None)
        .map(|credential| credential as Arc<dyn TokenCredential>)
        .map_err(|err| refused(kind, &err))
}

fn refused(kind: CredentialKind, err: &azure_core::Error) -> CredentialError {
    CredentialError::Refused { kind, why: super::error::chain(err) }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SharedKey(key) => fmt::Debug::fmt(key, f),
            Self::Sas(_) => f.write_str("sas"),
            Self::Token(_) => f.write_str("bearer token"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_known_by_their_names() {
        for kind in CredentialKind::ALL {
            assert_eq!(kind.as_str().parse::<CredentialKind>(), Ok(kind));
        }
        let err = "default".parse::<CredentialKind>().unwrap_err().to_string();
        assert!(err.contains("\"default\"") && err.contains("workload-identity"), "{err}");
    }

    #[test]
    fn what_a_credential_lacks_is_named() {
        let settings = CredentialSettings::default();
        let err = Credential::named(CredentialKind::ClientSecret, &settings).unwrap_err().to_string();
        assert!(err.contains("client-secret should have tenant_id") && err.contains("AZURE_TENANT_ID"), "{err}");
        let settings = settings.or_environment(|name| Some(format!("value-of-{}", name.replace('_', "-"))));
        assert_eq!(settings.tenant_id.as_deref(), Some("value-of-AZURE-TENANT-ID"));
        assert!(Credential::named(CredentialKind::ClientSecret, &settings).is_ok());
        assert!(!format!("{settings:?}").contains("value-of-AZURE-CLIENT-SECRET"));
    }

    #[test]
    fn every_named_credential_can_be_made() {
        for kind in [CredentialKind::ManagedIdentity, CredentialKind::DeveloperTools] {
            assert!(Credential::named(kind, &CredentialSettings::default()).is_ok(), "{kind}");
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "token").unwrap();
        let options = WorkloadIdentityCredentialOptions {
            client_id: Some("client".into()),
            tenant_id: Some("tenant".into()),
            token_file_path: Some(file.path().to_owned()),
            ..WorkloadIdentityCredentialOptions::default()
        };
        assert!(WorkloadIdentityCredential::new(Some(options)).is_ok());
        // Outside a pod there is no token file, and the message says what is missing.
        let settings =
            CredentialSettings { tenant_id: Some("t".into()), client_id: Some("c".into()), ..Default::default() };
        let err = Credential::named(CredentialKind::WorkloadIdentity, &settings).unwrap_err().to_string();
        assert!(err.contains("workload-identity") && err.contains("token file"), "{err}");
    }
}
