//! Network: any way to speak with somebody other than the supervisor, and the kernel's side doors.

use crate::Attempt;
use crate::call::sys;
use crate::scene::{Loot, Scene, at, nothing, number, of};

pub const ATTEMPTS: &[(&str, Attempt)] = &[
    ("connect by IPv4", connect_ipv4),
    ("send by IPv4", send_ipv4),
    ("connect by path", |_| connect_unix(b"/tmp/bulkhead-isolation-listener")),
    ("connect to an abstract name", |_| connect_unix(b"\0bulkhead-isolation-listener")),
    ("netlink", |_| socket(libc::AF_NETLINK, libc::SOCK_RAW, 0)),
    ("packet", |_| socket(libc::AF_PACKET, libc::SOCK_RAW, 0)),
    ("raw IPv4", |_| socket(libc::AF_INET, libc::SOCK_RAW, 1)),
    ("vsock", |_| socket(libc::AF_VSOCK, libc::SOCK_STREAM, 0)),
    ("kernel crypto", |_| socket(libc::AF_ALG, libc::SOCK_SEQPACKET, 0)),
    ("listen", listen),
    ("forge credentials", forge_credentials),
    ("set up io_uring", |_| {
        let mut parameters = [0u64; 16];
        number(sys(libc::SYS_io_uring_setup, [8, of(&mut parameters)]))
    }),
    ("exhaust AIO", exhaust_aio),
    ("splice", |scene| number(sys(libc::SYS_splice, [scene.read_only_file(), 0, 2, 0, 1, 2]))),
    ("vmsplice", |_| {
        let mut vector = [at(c"x"), 1];
        number(sys(libc::SYS_vmsplice, [2, of(&mut vector), 1, 0]))
    }),
    ("tee", |_| number(sys(libc::SYS_tee, [2, 2, 1, 2]))),
    ("sendfile", |scene| number(sys(libc::SYS_sendfile, [3, scene.read_only_file(), 0, 4]))),
    ("configure a tap", |scene| {
        // TUNSETIFF of linux/if_tun.h on a descriptor that might be one.
        let mut request = [0u8; 40];
        number(sys(libc::SYS_ioctl, [scene.read_only_file(), 0x4004_54ca, of(&mut request)]))
    }),
];

fn loopback(port: u16) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes([127, 0, 0, 1]) },
        sin_zero: [0; 8],
    }
}

fn make(family: i32, kind: i32, protocol: u64) -> std::io::Result<u64> {
    sys(libc::SYS_socket, [family as u64, kind as u64, protocol])
}

fn socket(family: i32, kind: i32, protocol: u64) -> Loot {
    number(make(family, kind, protocol))
}

fn connect_ipv4(scene: &Scene) -> Loot {
    let fd = make(libc::AF_INET, libc::SOCK_STREAM, 0)?;
    sys(libc::SYS_connect, [fd, of(&mut loopback(scene.port())), 16])?;
    Ok(b"connected".to_vec())
}

fn send_ipv4(scene: &Scene) -> Loot {
    let fd = make(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    let address = of(&mut loopback(scene.port()));
    number(sys(libc::SYS_sendto, [fd, at(c"x"), 1, 0, address, 16]))
}

fn connect_unix(name: &[u8]) -> Loot {
    let mut address = [0u8; 110];
    address[0] = libc::AF_UNIX as u8;
    address[2..2 + name.len()].copy_from_slice(name);
    let fd = make(libc::AF_UNIX, libc::SOCK_STREAM, 0)?;
    sys(libc::SYS_connect, [fd, of(&mut address), 2 + name.len() as u64])?;
    Ok(b"connected".to_vec())
}

fn listen(_: &Scene) -> Loot {
    let fd = make(libc::AF_INET, libc::SOCK_STREAM, 0)?;
    sys(libc::SYS_bind, [fd, of(&mut loopback(0)), 16])?;
    sys(libc::SYS_listen, [fd, 1])?;
    Ok(b"listening".to_vec())
}

/// Says on the channel that somebody else speaks.
fn forge_credentials(_: &Scene) -> Loot {
    #[repr(C)]
    struct Control {
        header: libc::cmsghdr,
        credentials: libc::ucred,
    }
    let mut control = Control {
        header: libc::cmsghdr {
            cmsg_len: 28,
            cmsg_level: libc::SOL_SOCKET,
            cmsg_type: libc::SCM_CREDENTIALS,
        },
        credentials: libc::ucred { pid: 2, uid: 1, gid: 1 },
    };
    let mut bytes = [at(c"x"), 1];
    let mut message = [0, 0, of(&mut bytes), 1, of(&mut control), 32, 0];
    let flags = (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as u64;
    number(sys(libc::SYS_sendmsg, [3, of(&mut message), flags]))
}

/// Takes all that the host has for asynchronous I/O, which its programs share.
fn exhaust_aio(_: &Scene) -> Loot {
    let mut taken = 0u64;
    loop {
        let mut context = 0u64;
        match sys(libc::SYS_io_setup, [1024, of(&mut context)]) {
            Ok(_) => taken += 1024,
            Err(_) if taken > 0 => return Ok(taken.to_le_bytes().to_vec()),
            Err(error) => return Err(error),
        }
        if taken == 0 {
            return Err(nothing());
        }
    }
}
