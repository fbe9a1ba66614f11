//! A certificate for `localhost`, made anew for every test.

use std::sync::Arc;

use anyhow::Result;
use rcgen::CertifiedKey;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;

/// A certificate that signs itself, and its key.
#[derive(Debug)]
pub struct Certificate {
    pem: String,
    server: Arc<ServerConfig>,
}

impl Certificate {
    /// Makes one for `localhost`.
    pub fn localhost() -> Result<Self> {
        let CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
        let server = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)?;
        Ok(Self {
            pem: cert.pem(),
            server: Arc::new(server),
        })
    }

    /// What a client has to trust, for its `SSL_CERT_FILE`.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// What a server presents.
    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }
}
