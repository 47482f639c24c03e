//! `--gdb`: where a debugger may connect.
//!
//! ```text
//!  PORT               127.0.0.1:PORT
//!  ADDRESS:PORT       that address: an IP address, or localhost
//!  PATH               a UNIX socket; with a slash in it, or without a colon
//!  …,wait             the guest does not run before a debugger says so
//! ```

use std::net::{Ipv4Addr, SocketAddr};

use bulkhead_protocol::spec::{Address, GdbSpec};

use crate::refusal::refuse;

const OPTION: &str = "--gdb";
const REMEDY: &str =
    "give a port (1234), an address with one (127.0.0.1:1234) or a socket (./gdb.sock)";

/// Reads the option.
pub fn parse(text: &str) -> anyhow::Result<GdbSpec> {
    let (place, wait) = match text.rsplit_once(',') {
        Some((place, "wait")) => (place, true),
        Some((_, other)) if !text.contains('/') => {
            let reason = format!("'{other}' is not a key of it");
            return Err(refuse(OPTION, text, reason, "the only one is 'wait'"));
        }
        _ => (text, false),
    };
    let listen = match place {
        "" => return Err(refuse(OPTION, text, "it says not where", REMEDY)),
        path if path.contains('/') => Address::Path(path.into()),
        port if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            tcp_address(OPTION, text, "127.0.0.1", port)?
        }
        other => match other.rsplit_once(':') {
            Some((address, port)) => tcp_address(OPTION, text, address, port)?,
            None => Address::Path(other.into()),
        },
    };
    Ok(GdbSpec { listen, wait })
}

/// An IP address, or localhost, and a port of `option`.
pub fn tcp_address(option: &str, text: &str, address: &str, port: &str) -> anyhow::Result<Address> {
    let port = match port.parse() {
        Ok(port @ 1u16..) => port,
        _ => {
            let reason = format!("'{port}' is no port");
            return Err(refuse(option, text, reason, remedy(option)));
        }
    };
    let address = match address {
        "localhost" => Ipv4Addr::LOCALHOST.into(),
        other => other.trim_start_matches('[').trim_end_matches(']').parse().map_err(|_| {
            let reason = format!("'{other}' is no IP address");
            refuse(option, text, reason, remedy(option))
        })?,
    };
    Ok(Address::Tcp(SocketAddr::new(address, port)))
}

fn remedy(option: &str) -> &'static str {
    if option == OPTION { REMEDY } else { "give an IP address and a port: 127.0.0.1:10809" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(text: &str) -> String {
        match parse(text).unwrap().listen {
            Address::Path(path) => path.display().to_string(),
            Address::Tcp(address) => address.to_string(),
        }
    }

    #[test]
    fn a_port_is_the_loopbacks_unless_an_address_is_given() {
        assert_eq!(listen("1234"), "127.0.0.1:1234");
        assert_eq!(listen("localhost:1234"), "127.0.0.1:1234");
        assert_eq!(listen("0.0.0.0:65535,wait"), "0.0.0.0:65535");
        assert_eq!(listen("[::1]:1"), "[::1]:1");
    }

    #[test]
    fn a_path_is_a_socket() {
        for path in ["gdb.sock", "./gdb.sock", "/run/a:1", "/run/a,b"] {
            assert_eq!(listen(path), path);
        }
        assert_eq!(listen("/run/a,wait"), "/run/a");
    }

    #[test]
    fn only_wait_waits() {
        assert!(parse("1234,wait").unwrap().wait);
        assert!(!parse("1234").unwrap().wait);
    }

    #[test]
    fn nonsense_names_option_value_and_remedy() {
        for (text, reason) in [
            ("", "it says not where"),
            (",wait", "it says not where"),
            ("0", "'0' is no port"),
            ("65536", "'65536' is no port"),
            ("host:1234", "'host' is no IP address"),
            ("127.0.0.1:", "'' is no port"),
            ("1234,now", "'now' is not a key of it"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(OPTION) && error.contains(reason), "{text:?}: {error}");
        }
    }
}
