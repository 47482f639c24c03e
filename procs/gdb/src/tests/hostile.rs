//! Clients that send what no debugger sends. Whatever it is: no panic, the session ends with the client,
//! and the guest is let go.

use std::io::{Read, Write};
use std::net::Shutdown;

use super::Client;
use super::core::Said;

/// Sends and hangs up; reads what comes meanwhile, so that nothing waits for room.
fn let_loose(bytes: Vec<u8>) {
    let client = Client::new();
    let mut reading = client.socket.try_clone().unwrap();
    let reader = std::thread::spawn(move || {
        let mut rest = Vec::new();
        let _ = reading.read_to_end(&mut rest);
        rest.len()
    });
    // The session may end before everything is sent.
    let _ = (&client.socket).write_all(&bytes);
    let _ = client.socket.shutdown(Shutdown::Write);
    reader.join().expect("no panic");
    let (ended, said) = client.leave();
    ended.unwrap_or_else(|fault| panic!("{fault} after {}", bytes.escape_ascii()));
    assert_eq!(said.last(), Some(&Said::Detach), "{}", bytes.escape_ascii());
}

fn packet(body: &[u8]) -> Vec<u8> {
    let sum = body.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    [b"$", body, b"#", format!("{sum:02x}").as_bytes()].concat()
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

#[test]
fn nonsense_ends_the_session_and_nothing_else() {
    for bytes in [
        &b""[..],
        b"$",
        b"$#",
        b"-",
        b"\x03\x03\x03",
        b"GET / HTTP/1.1\r\n\r\n",
        &[0xff; 70_000],
        &[b'$'; 70_000],
        &packet(&[b'a'; 40_000]),
        b"$m0,0#00",
    ] {
        let_loose(bytes.to_vec());
    }
}

#[test]
fn numbers_at_the_edge_are_refused() {
    let edge = "ffffffffffffffff";
    for body in [
        format!("m{edge},{edge}"),
        format!("m1000,{edge}"),
        format!("m8ff0,{edge}"),
        format!("m{edge}f,1"),
        format!("M{edge},2:aabb"),
        format!("Mfffffffffffffffe,{edge}:aa"),
        format!("X{edge},1:a"),
        format!("Z0,{edge},{edge}"),
        format!("Z2,{edge},8"),
        "Z2,fffffffffffffff8,8".into(),
        format!("z3,{edge},{edge}"),
        format!("Hg{edge}"),
        "Hg0".into(),
        "Hg-1".into(),
        "vCont;s".into(),
        "vCont;s:-1".into(),
        "vCont;t".into(),
        format!("vCont;c:{edge}"),
        "vCont;r0,ffffffff:1".into(),
        format!("qXfer:features:read:target.xml:{edge},{edge}"),
        "qXfer:features:read::0,10".into(),
        "qThreadExtraInfo,ff".into(),
        "G".into(),
        "G00".into(),
        "c\u{0}".into(),
    ] {
        let_loose([packet(b"Hg1"), packet(body.as_bytes()), packet(b"g"), packet(b"?")].concat());
    }
}

#[test]
fn packets_and_bytes_at_random_panic_nowhere() {
    let words: [&[u8]; 24] = [
        b"m",
        b"M",
        b"X",
        b"g",
        b"G",
        b"Z0,",
        b"z1,",
        b"Z2,",
        b"vCont",
        b";c",
        b";s:",
        b"qXfer:",
        b"features:read:target.xml:",
        b"H",
        b"?",
        b",",
        b":",
        b"1000",
        b"ffffffffffffffff",
        b"0",
        b"-1",
        b"k",
        b"\x03",
        b"qSupported:multiprocess+",
    ];
    let rounds = std::env::var("BULKHEAD_FUZZ").ok().and_then(|rounds| rounds.parse().ok());
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..rounds.unwrap_or(150) {
        let mut bytes = Vec::new();
        for _ in 0..random.below(40) {
            let mut body = Vec::new();
            for _ in 0..random.below(8) {
                match random.below(4) {
                    0 => body.push(random.next() as u8),
                    1 => body.extend(format!("{:x}", random.next() >> random.below(64)).bytes()),
                    _ => body.extend(words[random.below(words.len())]),
                }
            }
            match random.below(8) {
                0 => bytes.extend(body),
                1 => bytes.push(3),
                _ => bytes.extend(packet(&body)),
            }
        }
        let_loose(bytes);
    }
}

#[test]
fn a_client_that_reads_nothing_is_not_fed_for_ever() {
    let mut client = Client::new();
    // Each of these is answered by kilobytes; the socket holds some hundred.
    let ask = packet(b"m1000,2000").repeat(100_000);
    client.socket.set_write_timeout(Some(std::time::Duration::from_millis(300))).unwrap();
    let sent = client.socket.write_all(&ask);
    assert!(sent.is_err(), "nothing is read while an answer waits");
    let (ended, said) = client.leave();
    ended.unwrap();
    assert_eq!(said.last(), Some(&Said::Detach));
}
