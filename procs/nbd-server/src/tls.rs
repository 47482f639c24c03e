//! TLS between a client and us: `rustls` over a socket that never blocks.
//!
//! The certificates come with the plan, as bytes, and are parsed here: PEM and X.509 are formats like any
//! other, and this is the process that may be lost to one. There are no pre-shared keys: rustls has none.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use bulkhead_protocol::nbd::TlsPlan;
use bulkhead_sys::stream::{self, Part};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection};

/// Bytes in TLS that may wait for the socket before nothing more is taken.
const MOST_WAITING: usize = 128 << 10;

/// Bytes of the arena that are made TLS at once: a record.
const STEP: usize = 16 << 10;

/// Why there can be no TLS. The certificates are to blame.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that is no PEM.
    #[error("{0} is no PEM file: {1}")]
    Pem(&'static str, rustls::pki_types::pem::Error),
    /// A file without what it should have.
    #[error("{0} has no {1}")]
    Empty(&'static str, &'static str),
    /// They do not fit each other.
    #[error("the certificates cannot be used: {0}")]
    Config(#[from] rustls::Error),
    /// No client could be verified by them.
    #[error("ca-cert.pem cannot be used: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// What every session has in common.
pub fn config(plan: &TlsPlan) -> Result<Arc<ServerConfig>, TlsError> {
    let provider: Arc<CryptoProvider> = Arc::new(ring::default_provider());
    let chain = certificates("server-cert.pem", &plan.chain)?;
    let key = PrivateKeyDer::from_pem_slice(&plan.key).map_err(|error| match error {
        rustls::pki_types::pem::Error::NoItemsFound => {
            TlsError::Empty("server-key.pem", "key in PKCS#8, PKCS#1 or SEC1")
        }
        error => TlsError::Pem("server-key.pem", error),
    })?;
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

fn certificates(file: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(|error| TlsError::Pem(file, error))?;
    match all.is_empty() {
        true => Err(TlsError::Empty(file, "certificate")),
        false => Ok(all),
    }
}

/// One client's TLS.
#[derive(Debug)]
pub struct Session {
    socket: OwnedFd,
    connection: ServerConnection,
    /// The socket has nothing more to read, ever.
    ended: bool,
}

impl Session {
    /// Begins TLS on a socket from which nothing of it has been read.
    pub fn new(socket: OwnedFd, config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        let mut connection = ServerConnection::new(config)?;
        connection.set_buffer_limit(Some(MOST_WAITING));
        Ok(Self { socket, connection, ended: false })
    }

    /// Decrypted bytes.
    pub fn receive(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.connection.reader().read(into) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && !self.ended => {}
                // A client that closes without saying so in TLS has closed.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                other => return other,
            }
            match self.connection.read_tls(&mut Socket(self.socket.as_fd())) {
                Ok(0) => self.ended = true,
                Ok(_) => {}
                Err(error) => {
                    // The handshake's answers must not wait for the client's next word.
                    self.flush()?;
                    return Err(error);
                }
            }
            if let Err(error) = self.connection.process_new_packets() {
                // Why, as an alert; the client may be gone already.
                let _ = self.flush();
                return Err(io::Error::other(error));
            }
        }
    }

    /// Encrypts some bytes and sends what there is room for.
    pub fn send(&mut self, parts: &[Part<'_>]) -> io::Result<usize> {
        let mut sent = 0;
        for part in parts {
            let count = self.encrypt(part)?;
            sent += count;
            let whole = match part {
                Part::Bytes(bytes) => bytes.len(),
                Part::Mapped { len, .. } => *len,
            };
            if count < whole {
                break;
            }
        }
        self.flush()?;
        match sent {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            sent => Ok(sent),
        }
    }

    fn encrypt(&mut self, part: &Part<'_>) -> io::Result<usize> {
        match *part {
            Part::Bytes(bytes) => self.connection.writer().write(bytes),
            Part::Mapped { mapping, offset, len } => {
                let mut done = 0;
                let mut bytes = [0; STEP];
                while done < len {
                    let step = bytes.get_mut(..(len - done).min(STEP)).unwrap_or_default();
                    mapping.copy_in(offset + done, step).map_err(io::Error::other)?;
                    let count = self.connection.writer().write(step)?;
                    done += count;
                    if count < step.len() {
                        break;
                    }
                }
                Ok(done)
            }
        }
    }

    /// Sends what is encrypted; `true`: all of it.
    pub fn flush(&mut self) -> io::Result<bool> {
        while self.connection.wants_write() {
            match self.connection.write_tls(&mut Socket(self.socket.as_fd())) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Whether decrypted bytes wait, or encrypted ones that were read already.
    pub fn has_more(&self) -> bool {
        !self.connection.wants_read() && !self.ended
    }

    /// Tells the client that nothing more comes.
    pub fn farewell(&mut self) {
        self.connection.send_close_notify();
        let _ = self.flush();
    }
}

impl AsFd for Session {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The socket as `rustls` wants it.
struct Socket<'a>(BorrowedFd<'a>);

impl Read for Socket<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        stream::receive(self.0, into)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        stream::send(self.0, &[Part::Bytes(bytes)])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
