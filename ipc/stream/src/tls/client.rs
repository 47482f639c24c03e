//! What all sessions of a client with one server have in common.

use std::sync::Arc;

use bulkhead_protocol::nbd::TlsClientPlan;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, RootCertStore};

use super::pem::{TlsError, certificates, key};

pub use rustls::ClientConfig;

/// Whom a client trusts, and as whom it speaks.
#[derive(Debug, Clone)]
pub struct Client {
    config: Arc<ClientConfig>,
    server: ServerName<'static>,
}

impl Client {
    /// Reads a client's certificates.
    pub fn new(plan: &TlsClientPlan) -> Result<Self, TlsError> {
        let provider: Arc<CryptoProvider> = Arc::new(ring::default_provider());
        let mut roots = RootCertStore::empty();
        for authority in certificates("ca-cert.pem", &plan.authorities)? {
            roots.add(authority)?;
        }
        let builder = rustls::ClientConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions()?;
        let builder = builder.with_root_certificates(roots);
        let mut config = match &plan.own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let chain = certificates("client-cert.pem", &own.chain)?;
                builder.with_client_auth_cert(chain, key("client-key.pem", &own.key)?)?
            }
        };
        // Nothing of a session is kept: the next one is as good.
        config.resumption = rustls::client::Resumption::disabled();
        let server = ServerName::try_from(plan.server.clone());
        let server = server.map_err(|_| TlsError::Name(plan.server.clone()))?;
        Ok(Self { config: Arc::new(config), server })
    }

    /// A session that has not begun.
    pub(crate) fn connect(&self) -> Result<ClientConnection, rustls::Error> {
        ClientConnection::new(Arc::clone(&self.config), self.server.clone())
    }
}
