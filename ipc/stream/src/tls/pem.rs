//! Certificates and keys as their files have them.

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Why there can be no TLS. The certificates are to blame.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that is no PEM.
    #[error("{0} is no PEM file: {1}")]
    Pem(&'static str, pem::Error),
    /// A file without what it should have.
    #[error("{0} has no {1}")]
    Empty(&'static str, &'static str),
    /// They do not fit each other.
    #[error("the certificates cannot be used: {0}")]
    Config(#[from] rustls::Error),
    /// No client could be verified by them.
    #[error("ca-cert.pem cannot be used: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    /// A name that no certificate can have.
    #[error("'{0}' is no name of a server; give one by tls-hostname=")]
    Name(String),
}

/// All certificates of a file, at least one.
pub(super) fn certificates(
    file: &'static str,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(|error| TlsError::Pem(file, error))?;
    match all.is_empty() {
        true => Err(TlsError::Empty(file, "certificate")),
        false => Ok(all),
    }
}

/// The key of a file.
pub(super) fn key(file: &'static str, pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        pem::Error::NoItemsFound => TlsError::Empty(file, "key in PKCS#8, PKCS#1 or SEC1"),
        error => TlsError::Pem(file, error),
    })
}
