//! `nbd=URI` and what belongs to it: an export of another program's NBD server.
//!
//! ```text
//!  nbd://HOST[:PORT]/NAME              TCP; the port is 10809 unless it is given
//!  nbd+unix:///NAME?socket=PATH        a UNIX socket
//!  nbds://…  nbds+unix://…             the same with TLS, for which tls-creds=DIR has the certificates
//! ```
//!
//! Names are resolved here, with the user's own authority: whoever connects later knows addresses only. In
//! NAME and PATH `%2f` is a slash, and so on.

use std::net::ToSocketAddrs;
use std::path::{Path, PathBuf};

use bulkhead_protocol::block_control::MOST_ADDRESSES;
use bulkhead_protocol::spec::{Address, ServerSpec, TlsClientSpec};

use super::keyed::Keyed;

/// The protocol's port.
const PORT: u16 = 10809;

/// Seconds that requests wait for a server that is gone, unless the user says otherwise.
const DELAY: u32 = 10;

/// Connections with a server that serves several, unless the user says otherwise.
const CONNECTIONS: u32 = 4;

/// Longest delay in seconds.
const MOST_DELAY: u32 = 3600;

const REMEDY: &str = "write nbd://HOST:PORT/NAME or nbd+unix:///NAME?socket=PATH";

/// What belongs to it, for all options that may name a server.
pub const KEYS: &[&str] = &["nbd", "tls-creds", "tls-hostname", "reconnect-delay", "connections"];

/// What a URI says.
#[derive(Debug, PartialEq, Eq)]
struct Uri {
    place: Place,
    export: String,
    tls: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Place {
    Host(String, u16),
    Socket(String),
}

/// Whether this is written where a path could be, and is none.
pub fn is_uri(text: &str) -> bool {
    ["nbd:", "nbds:", "nbd+", "nbds+"].iter().any(|scheme| text.starts_with(scheme))
}

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
    let Uri { place, export, tls } = match parse(text) {
        Ok(uri) => uri,
        Err(reason) => return Err(keyed.refuse(&reason, REMEDY)),
    };
    let common = match first {
        Some(common) => common.clone(),
        None => common(keyed)?,
    };
    first.get_or_insert_with(|| common.clone());
    let addresses = match resolve(&place) {
        Ok(addresses) => addresses,
        Err(reason) => return Err(keyed.refuse(&reason, "check the server's name")),
    };
    let host = match place {
        Place::Host(host, _) => host,
        Place::Socket(_) => "localhost".to_owned(),
    };
    // Without a name of its own a certificate has the name by which the server is reached.
    let named = |tls: TlsClientSpec| match tls.hostname.is_empty() {
        true => TlsClientSpec { hostname: host, ..tls },
        false => tls,
    };
    match common.tls.is_none() && tls {
        true => Err(keyed.refuse("TLS without certificates", "add tls-creds=DIR")),
        false => Ok(ServerSpec { addresses, export, tls: common.tls.map(named), ..common }),
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

fn resolve(place: &Place) -> Result<Vec<Address>, String> {
    let (host, port) = match place {
        Place::Socket(path) => {
            let path = std::path::absolute(Path::new(path)).map_err(|error| error.to_string())?;
            return Ok(vec![Address::Path(path)]);
        }
        Place::Host(host, port) => (host.as_str(), *port),
    };
    let found = (host, port).to_socket_addrs();
    let found = found.map_err(|_| format!("nobody knows a host '{host}'"))?;
    let mut addresses: Vec<Address> = Vec::new();
    for address in found.map(Address::Tcp) {
        if !addresses.contains(&address) && addresses.len() < MOST_ADDRESSES {
            addresses.push(address);
        }
    }
    match addresses.is_empty() {
        true => Err(format!("the host '{host}' has no address")),
        false => Ok(addresses),
    }
}

fn parse(text: &str) -> Result<Uri, String> {
    let (scheme, rest) = text.split_once("://").ok_or("it is no URI")?;
    let (tls, unix) = match scheme {
        "nbd" | "nbd+tcp" => (false, false),
        "nbds" | "nbds+tcp" => (true, false),
        "nbd+unix" => (false, true),
        "nbds+unix" => (true, true),
        other => return Err(format!("'{other}' is no scheme of NBD")),
    };
    if rest.contains('#') {
        return Err("it has a fragment".to_owned());
    }
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, export) = rest.split_once('/').unwrap_or((rest, ""));
    let export = decoded(export)?;
    let socket = match query.split_once('=') {
        None if query.is_empty() => None,
        Some(("socket", path)) if !path.is_empty() => Some(decoded(path)?),
        _ => return Err(format!("'{query}' is not known")),
    };
    let place = match (unix, socket, authority) {
        (true, Some(socket), "") => Place::Socket(socket),
        (true, None, _) => return Err("it names no socket".to_owned()),
        (true, Some(_), _) => return Err("a UNIX socket has no host".to_owned()),
        (false, Some(_), _) => return Err("a socket is of nbd+unix".to_owned()),
        (false, None, "") => return Err("it names no host".to_owned()),
        (false, None, authority) => host(authority)?,
    };
    Ok(Uri { place, export, tls })
}

fn host(authority: &str) -> Result<Place, String> {
    let bracketed = authority.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let (host, port) = match bracketed {
        Some((host, "")) => (host, None),
        Some((host, port)) => (host, Some(port.strip_prefix(':').ok_or("it names no port")?)),
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let port = match port.map(str::parse) {
        None => PORT,
        Some(Ok(port @ 1..)) => port,
        Some(_) => return Err(format!("'{}' is no port", port.unwrap_or_default())),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':' | '%');
    match !host.is_empty() && host.len() <= 255 && host.chars().all(plain) {
        true => Ok(Place::Host(host.to_owned(), port)),
        false => Err(format!("'{host}' is no host")),
    }
}

fn decoded(text: &str) -> Result<String, String> {
    let wrong = || format!("'{text}' is no text");
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    loop {
        match rest {
            [] => break,
            [b'%', high, low, more @ ..] => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16).ok_or_else(wrong);
                bytes.push((digit(high)? * 16 + digit(low)?) as u8);
                rest = more;
            }
            [b'%', ..] => return Err(wrong()),
            [byte, more @ ..] => {
                bytes.push(*byte);
                rest = more;
            }
        }
    }
    let text = String::from_utf8(bytes).map_err(|_| wrong())?;
    if text.contains('\0') { Err(wrong()) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_says_where_and_what() {
        let host = |host: &str, port| Place::Host(host.into(), port);
        for (text, place, export, tls) in [
            ("nbd://h/disk", host("h", 10809), "disk", false),
            ("nbd://10.0.0.1:1234/", host("10.0.0.1", 1234), "", false),
            ("nbds://h.example/a%2fb", host("h.example", 10809), "a/b", true),
            ("nbd://[::1]:9/a/b", host("::1", 9), "a/b", false),
            ("nbd://[::1]", host("::1", 10809), "", false),
            ("nbd+unix:///d?socket=/run/a%20b", Place::Socket("/run/a b".into()), "d", false),
            ("nbds+unix:///?socket=s", Place::Socket("s".into()), "", true),
        ] {
            assert_eq!(parse(text), Ok(Uri { place, export: export.into(), tls }), "{text}");
        }
    }

    #[test]
    fn what_is_no_uri_has_its_reason() {
        for (text, reason) in [
            ("nbd:h:10809", "no URI"),
            ("nbd+vsock://3/", "no scheme"),
            ("nbd:///disk", "names no host"),
            ("nbd://h:0/", "no port"),
            ("nbd://h:65536/", "no port"),
            ("nbd://a b/", "no host"),
            ("nbd://u@h/", "no host"),
            ("nbd://h/?socket=/s", "of nbd+unix"),
            ("nbd+unix:///d", "names no socket"),
            ("nbd+unix://h/d?socket=/s", "has no host"),
            ("nbd+unix:///d?sock=/s", "not known"),
            ("nbd://h/%zz", "no text"),
            ("nbd://h/%0", "no text"),
            ("nbd://h/%00", "no text"),
            ("nbd://h/%ff", "no text"),
            ("nbd://h/#x", "fragment"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
