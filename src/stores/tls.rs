//! Which cryptography TLS is made of.

/// Makes aws-lc-rs the process's cryptography for TLS. To be called before the first connection, first thing in `main`:
/// rustls panics where two are compiled in and none was chosen. Calling it again does nothing, and a provider that the
/// application installed before stays.
pub fn install_provider() {
    // An error says that there is one already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_can_be_installed_twice() {
        install_provider();
        install_provider();
        assert!(rustls::crypto::CryptoProvider::get_default().is_some());
    }
}
