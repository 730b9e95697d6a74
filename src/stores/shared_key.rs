//! An account's key, and what it signs: whoever sends requests signs with it, whoever serves them verifies with it.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// An account's name and key. The key is kept as the state that signing begins from.
#[derive(Clone)]
pub struct SharedKey {
    account: Arc<str>,
    state: Hmac<Sha256>,
}

impl SharedKey {
    /// Takes an account's name and its decoded key; `None` where the key is empty.
    pub fn new(account: &str, key: &[u8]) -> Option<Self> {
        let state = Hmac::new_from_slice(key).ok().filter(|_| !key.is_empty())?;
        Some(Self { account: account.into(), state })
    }

    /// The account's name, as it is signed.
    pub fn account(&self) -> &str {
        &self.account
    }

    /// Base64 of the HMAC-SHA256 of `text`.
    pub fn sign(&self, text: &str) -> String {
        BASE64.encode(self.mac(text).finalize().into_bytes())
    }

    /// Whether `signature` is this key's of `text`, compared in constant time.
    pub fn verifies(&self, text: &str, signature: &str) -> bool {
        BASE64.decode(signature).is_ok_and(|bytes| self.mac(text).verify_slice(&bytes).is_ok())
    }

    fn mac(&self, text: &str) -> Hmac<Sha256> {
        let mut mac = self.state.clone();
        mac.update(text.as_bytes());
        mac
    }
}

impl fmt::Debug for SharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shared key of {}", self.account)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_hmac_sha256_in_base64() {
        // RFC 4231, test case 2.
        let key = SharedKey::new("acct", b"Jefe").unwrap();
        let (text, signature) = ("what do ya want for nothing?", "W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM=");
        assert_eq!(key.sign(text), signature);
        assert!(key.verifies(text, signature));
        assert!(!key.verifies("what do you want for nothing?", signature) && !key.verifies(text, "W9zBRr9g"));
    }
}
