//! What all sessions of a server have in common.

use std::sync::Arc;

use bulkhead_protocol::nbd::TlsPlan;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use super::pem::{TlsError, certificates, key};

/// Reads a server's certificates.
pub fn config(plan: &TlsPlan) -> Result<Arc<ServerConfig>, TlsError> {
    let provider: Arc<CryptoProvider> = Arc::new(ring::default_provider());
    let chain = certificates("server-cert.pem", &plan.chain)?;
    let key = key("server-key.pem", &plan.key)?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions()?;
    let builder = match &plan.clients {
        None => builder.with_no_client_auth(),
        Some(authorities) => {
            let mut roots = RootCertStore::empty();
            for authority in certificates("ca-cert.pem", authorities)? {
                roots.add(authority)?;
            }
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(chain, key)?;
    // A session that could be taken up again would need keys that outlive it.
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}
