//! URIs of exports of NBD servers, as users write them.
//!
//! ```text
//!  nbd://HOST[:PORT]/NAME              TCP; the port is 10809 unless it is given
//!  nbd+unix:///NAME?socket=PATH        a UNIX socket
//!  nbds://…  nbds+unix://…             the same with TLS
//! ```
//!
//! In NAME and PATH `%2f` is a slash, and so on. Read by the commands, which resolve names with the user's
//! own authority; whoever connects knows addresses only.

use std::net::ToSocketAddrs;
use std::path::Path;

use crate::block_control::MOST_ADDRESSES;
use crate::spec::Address;

/// The protocol's port.
const PORT: u16 = 10809;

/// What to do about a text that is no URI.
pub const REMEDY: &str = "write nbd://HOST:PORT/NAME or nbd+unix:///NAME?socket=PATH";

/// What a URI says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uri {
    place: Place,
    /// The name of the export.
    pub export: String,
    /// The server is spoken to in TLS.
    pub tls: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Host(String, u16),
    Socket(String),
}

/// Whether this is written where a path could be, and is none.
pub fn is_uri(text: &str) -> bool {
    ["nbd:", "nbds:", "nbd+", "nbds+"].iter().any(|scheme| text.starts_with(scheme))
}

impl Uri {
    /// Reads one; an error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
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
        Ok(Self { place, export, tls })
    }

    /// The host's name; of a socket in a folder, that of every host.
    pub fn host(&self) -> &str {
        match &self.place {
            Place::Host(host, _) => host,
            Place::Socket(_) => "localhost",
        }
    }

    /// Where the server is, the first to be tried first. Names are resolved, which may take its time.
    pub fn addresses(&self) -> Result<Vec<Address>, String> {
        let (host, port) = match &self.place {
            Place::Socket(path) => {
                let path =
                    std::path::absolute(Path::new(path)).map_err(|error| error.to_string())?;
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
            assert_eq!(Uri::parse(text), Ok(Uri { place, export: export.into(), tls }), "{text}");
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
            let error = Uri::parse(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
