//! Whose certificates are trusted.

use ureq::tls::{Certificate, PemItem, RootCerts, parse_pem};

/// The authorities that a receiver's certificate must come from.
#[derive(Debug, Clone)]
pub struct Trust(pub(crate) RootCerts);

/// Why a text is no [`Trust`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// Not what a PEM file looks like.
    #[error("is not PEM: {0}")]
    Pem(String),
    /// Nobody would be trusted.
    #[error("no certificate in it")]
    Empty,
}

impl Trust {
    /// Trusts the certificates of a PEM file, and nobody else.
    pub fn from_pem(pem: &[u8]) -> Result<Self, TrustError> {
        let mut found: Vec<Certificate<'static>> = Vec::new();
        for item in parse_pem(pem) {
            let item = item.map_err(|error| TrustError::Pem(error.to_string()))?;
            if let PemItem::Certificate(certificate) = item {
                found.push(certificate);
            }
        }
        if found.is_empty() {
            return Err(TrustError::Empty);
        }
        Ok(Self(RootCerts::new_with_certs(&found)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_refused() {
        let broken = b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
        assert!(matches!(Trust::from_pem(broken), Err(TrustError::Pem(_))));
        for nothing in [&b""[..], b"certificate", &[0xff; 100]] {
            assert_eq!(Trust::from_pem(nothing).unwrap_err(), TrustError::Empty);
        }
    }
}
