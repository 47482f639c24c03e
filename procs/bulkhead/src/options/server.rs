//! `nbd=URI` and what belongs to it: an export of another program's NBD server, for whose TLS `tls-creds=DIR`
//! has the certificates.
//!
//! Names are resolved here, with the user's own authority: whoever connects later knows addresses only.

use std::path::PathBuf;

use bulkhead_protocol::spec::{ServerSpec, TlsClientSpec};
use bulkhead_protocol::uri::{REMEDY, Uri};

use super::keyed::Keyed;

/// Seconds that requests wait for a server that is gone, unless the user says otherwise.
const DELAY: u32 = 10;

/// Connections with a server that serves several, unless the user says otherwise.
const CONNECTIONS: u32 = 4;

/// Longest delay in seconds.
const MOST_DELAY: u32 = 3600;

/// What belongs to it, for all options that may name a server.
pub const KEYS: &[&str] = &["nbd", "tls-creds", "tls-hostname", "reconnect-delay", "connections"];

/// What the options say of the server of this URI: how it is named from now on, and where it is.
pub fn server(keyed: &mut Keyed, text: &str) -> anyhow::Result<(PathBuf, ServerSpec)> {
    Ok((PathBuf::from(text), another(keyed, text, &mut None)?))
}

/// The same for a server of a disk that may have one already, whose options hold for both; `first` keeps
/// them.
pub fn another(
    keyed: &mut Keyed,
    text: &str,
    first: &mut Option<ServerSpec>,
) -> anyhow::Result<ServerSpec> {
    let uri = match Uri::parse(text) {
        Ok(uri) => uri,
        Err(reason) => return Err(keyed.refuse(&reason, REMEDY)),
    };
    let common = match first {
        Some(common) => common.clone(),
        None => common(keyed)?,
    };
    first.get_or_insert_with(|| common.clone());
    let addresses = match uri.addresses() {
        Ok(addresses) => addresses,
        Err(reason) => return Err(keyed.refuse(&reason, "check the server's name")),
    };
    let host = uri.host().to_owned();
    // Without a name of its own a certificate has the name by which the server is reached.
    let named = |tls: TlsClientSpec| match tls.hostname.is_empty() {
        true => TlsClientSpec { hostname: host, ..tls },
        false => tls,
    };
    match common.tls.is_none() && uri.tls {
        true => Err(keyed.refuse("TLS without certificates", "add tls-creds=DIR")),
        false => {
            Ok(ServerSpec { addresses, export: uri.export, tls: common.tls.map(named), ..common })
        }
    }
}

/// What does not depend on where a server is.
fn common(keyed: &mut Keyed) -> anyhow::Result<ServerSpec> {
    let folder = keyed.value("tls-creds")?.map(std::path::absolute).transpose()?;
    let hostname = keyed.value("tls-hostname")?.unwrap_or_default();
    if folder.is_none() && !hostname.is_empty() {
        return Err(keyed.refuse("'tls-hostname' without certificates", "add tls-creds=DIR"));
    }
    let delay = keyed.number("reconnect-delay", 0, MOST_DELAY)?.unwrap_or(DELAY);
    let connections = keyed.number("connections", 1, 16)?.unwrap_or(CONNECTIONS);
    Ok(ServerSpec {
        addresses: Vec::new(),
        export: String::new(),
        tls: folder.map(|folder| TlsClientSpec { folder, hostname }),
        reconnect_delay_ms: delay * 1000,
        connections: u16::try_from(connections)?,
    })
}
