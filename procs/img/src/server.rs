//! Exports of NBD servers, named by URIs where paths could be. The command connects, with the user's own
//! rights; what is said with a server is said by the process that does the work.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};
use bulkhead_protocol::block::RemotePlan;
use bulkhead_protocol::session::Refusal;
use bulkhead_protocol::spec::{ServerSpec, TlsClientSpec};
use bulkhead_protocol::uri::{REMEDY, Uri, is_uri};
use bulkhead_supervisor::images::remote::Remote;

/// What every server of the command is told in TLS.
static TLS: OnceLock<TlsClientSpec> = OnceLock::new();

/// Certificates for the servers of this command, and the name that theirs must have unless it is their
/// host's.
pub fn use_tls(folder: Option<&PathBuf>, hostname: Option<&String>) -> Result<()> {
    let hostname = hostname.cloned().unwrap_or_default();
    match folder {
        Some(folder) => {
            let folder = std::path::absolute(folder)?;
            TLS.get_or_init(|| TlsClientSpec { folder, hostname });
            Ok(())
        }
        None if hostname.is_empty() => Ok(()),
        None => bail!("--tls-hostname without certificates; add --tls-creds DIR"),
    }
}

/// The URI, if it is none of a file. A file of such a name is written `./nbd:…`.
pub fn uri(path: &Path) -> Option<&str> {
    path.to_str().filter(|text| is_uri(text))
}

/// What the supervisor's checks refuse, as this command says it.
pub fn refused(refusal: Refusal) -> anyhow::Error {
    let Refusal { value, reason, remedy, .. } = refusal;
    anyhow::anyhow!("{value}: {reason}; {remedy}")
}

/// A connection with the server, and what is said of its export.
pub fn connect(uri: &str) -> Result<(OwnedFd, RemotePlan)> {
    let wrong = |reason: String, remedy: &str| anyhow::anyhow!("{uri}: {reason}; {remedy}");
    let named = Uri::parse(uri).map_err(|reason| wrong(reason, REMEDY))?;
    let addresses = named.addresses();
    let addresses = addresses.map_err(|reason| wrong(reason, "check the server's name"))?;
    let tls = TLS.get().cloned().map(|tls| match tls.hostname.is_empty() {
        true => TlsClientSpec { hostname: named.host().to_owned(), ..tls },
        false => tls,
    });
    if named.tls && tls.is_none() {
        return Err(wrong("TLS without certificates".to_owned(), "add --tls-creds DIR"));
    }
    let spec = ServerSpec {
        addresses,
        tls: tls.filter(|_| named.tls),
        export: named.export,
        // It is not come back to: a command has one user, who waits for it.
        reconnect_delay_ms: 0,
        connections: 1,
    };
    let mut remote = Remote::new("NBD", Path::new(uri), &spec).map_err(refused)?;
    remote.connect("NBD", Path::new(uri)).map_err(refused)?;
    let socket = remote.socket().context("a server without a socket")?.try_clone_to_owned()?;
    Ok((socket, remote.plan(0)))
}
