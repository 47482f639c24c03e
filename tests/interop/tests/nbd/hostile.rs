//! Clients that mean no good: slow ones, mute ones, cuts, floods.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::rig::{Served, Stage, succeed};

/// The client's flags and `NBD_OPT_GO` of the default export.
pub const HELLO: &[u8] = b"\0\0\0\x03IHAVEOPT\0\0\0\x07\0\0\0\x06\0\0\0\0\0\0";

fn connect(served: &Served) -> UnixStream {
    let stream = UnixStream::connect(served.socket()).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

/// A client in the transmission phase, with simple replies.
pub fn established(served: &Served) -> UnixStream {
    let mut stream = connect(served);
    stream.write_all(HELLO).unwrap();
    let mut greeting = [0; 18];
    stream.read_exact(&mut greeting).unwrap();
    loop {
        let mut header = [0; 20];
        stream.read_exact(&mut header).unwrap();
        let len = u32::from_be_bytes(header[16..].try_into().unwrap());
        let mut data = vec![0; len as usize];
        stream.read_exact(&mut data).unwrap();
        let kind = u32::from_be_bytes(header[12..16].try_into().unwrap());
        assert!(kind < 1 << 31, "GO was refused");
        if kind == 1 {
            return stream;
        }
    }
}

fn request(command: u16, cookie: u64, offset: u64, len: u32) -> Vec<u8> {
    let mut bytes = 0x2560_9513_u32.to_be_bytes().to_vec();
    bytes.extend(0u16.to_be_bytes());
    bytes.extend(command.to_be_bytes());
    bytes.extend(cookie.to_be_bytes());
    bytes.extend(offset.to_be_bytes());
    bytes.extend(len.to_be_bytes());
    bytes
}

/// One read of 4 KiB; how long it took.
pub fn ping(stream: &mut UnixStream, cookie: u64) -> Duration {
    let start = Instant::now();
    stream.write_all(&request(0, cookie, cookie % 256 * 4096, 4096)).unwrap();
    let mut reply = [0; 16 + 4096];
    stream.read_exact(&mut reply).unwrap();
    assert_eq!(reply[..8], [0x67, 0x44, 0x66, 0x98, 0, 0, 0, 0]);
    assert_eq!(reply[8..16], cookie.to_be_bytes());
    start.elapsed()
}

fn p99(stream: &mut UnixStream) -> Duration {
    let mut times: Vec<Duration> = (0..400).map(|cookie| ping(stream, cookie)).collect();
    times.sort();
    times[times.len() * 99 / 100]
}

#[test]
fn a_thousand_slow_clients_do_not_keep_a_good_one_out() {
    let stage = Stage::new();
    let image = stage.noise("image", 4);
    let served = Served::start(&stage, &image, "", "");
    let mut good = established(&served);
    let before = p99(&mut good);
    let mut crowd = Vec::new();
    for number in 0..1000 {
        let mut slow = connect(&served);
        // Some say nothing, some a part of a word, some half an option.
        let _ = slow.write_all(&HELLO[..number % HELLO.len()]);
        crowd.push(slow);
        if number % 100 == 0 {
            ping(&mut good, number as u64);
        }
    }
    let after = p99(&mut good);
    println!("p99 of 4 KiB reads: {before:?} alone, {after:?} beside 1000 slow clients");
    // A newcomer is served as well.
    ping(&mut established(&served), 1);
    succeed("nbdinfo", &["--size", &served.uri()]);
    let (well, time) = served.end();
    assert!(well);
    println!("ended with open sockets after {time:?}");
    drop(crowd);
}

#[test]
fn clients_that_take_nothing_starve_nobody() {
    let stage = Stage::new();
    let image = stage.noise("image", 16);
    let served = Served::start(&stage, &image, "", "");
    let mut mute: Vec<UnixStream> = (0..60).map(|_| established(&served)).collect();
    for stream in &mut mute {
        stream.set_nonblocking(true).unwrap();
        // 64 reads of a mebibyte, and nobody takes the data.
        let many: Vec<u8> = (0..64).flat_map(|n| request(0, n, (n % 15) << 20, 1 << 20)).collect();
        let _ = stream.write(&many);
    }
    let mut good = established(&served);
    println!("p99 beside 60 mute clients: {:?}", p99(&mut good));
    // Long requests are served as well.
    good.write_all(&request(0, 9, 0, 8 << 20)).unwrap();
    let mut reply = vec![0; 16 + (8 << 20)];
    good.read_exact(&mut reply).unwrap();
    assert_eq!(reply[16..], std::fs::read(&image).unwrap()[..8 << 20]);
    assert!(served.end().0);
}

#[test]
fn cuts_and_nonsense_cost_only_their_connection() {
    let stage = Stage::new();
    let image = stage.noise("image", 4);
    let served = Served::start(&stage, &image, "", "");
    let mut good = established(&served);
    for round in 0..200_u64 {
        let mut bad = if round % 2 == 0 { connect(&served) } else { established(&served) };
        let mut bytes = request((round % 9) as u16, round, round << 20, (round as u32) << 9);
        if round % 3 == 0 {
            bytes[(round % 28) as usize] ^= 0xff;
        }
        bytes.extend(vec![round as u8; round as usize * 40]);
        let _ = bad.write_all(&bytes[..bytes.len() - round as usize % 20]);
        ping(&mut good, round);
    }
    let before = served.process("nbd-server");
    assert_eq!(before.restarts, 0, "it died of a client");
    // An option flood ends the session.
    let mut flood = connect(&served);
    flood.write_all(b"\0\0\0\x03").unwrap();
    let sent = (0..100_000).take_while(|_| flood.write_all(b"IHAVEOPT\0\0\0\x03\0\0\0\0").is_ok());
    assert!(sent.count() < 100_000, "the flood never ended");
    ping(&mut good, 1);
    assert!(served.end().0);
}

#[test]
fn a_handshake_that_never_ends_is_ended() {
    let stage = Stage::new();
    let image = stage.noise("image", 1);
    let served = Served::start(&stage, &image, "", "");
    let mut mute = connect(&served);
    let mut all = Vec::new();
    mute.read_to_end(&mut all).expect("it hangs up in time");
    assert_eq!(all.len(), 18, "the greeting and no more");
    assert!(served.end().0);
}
