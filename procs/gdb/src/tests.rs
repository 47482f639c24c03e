//! Sessions over socket pairs: the test is the client, and core is played by a thread.

mod core;
mod hostile;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;
use std::time::Duration;

use bulkhead_protocol::gdb::Motion::{Run, Stay, Step};
use bulkhead_protocol::gdb::StopReason;
use bulkhead_sys::poller::Poller;

use crate::fault::Fault;
use crate::session;
use core::{Core, Said};

/// Guards against a hang; nothing is measured.
const PATIENCE: Duration = Duration::from_secs(60);

/// A client's end of a session that runs in a thread of its own.
struct Client {
    socket: UnixStream,
    serving: JoinHandle<Result<(), Fault>>,
    core: Core,
}

impl Client {
    fn new() -> Self {
        let (socket, theirs) = UnixStream::pair().unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let (core, end) = Core::start(2);
        let serving = std::thread::spawn(move || {
            let mut link = core::link(end, 2);
            session::serve(theirs.into(), &Poller::new().unwrap(), &mut link)
        });
        Self { socket, serving, core }
    }

    fn send(&mut self, packet: &str) {
        let sum = packet.bytes().fold(0u8, u8::wrapping_add);
        self.socket.write_all(format!("${packet}#{sum:02x}").as_bytes()).unwrap();
    }

    /// The next packet, acknowledged.
    fn hear(&mut self) -> String {
        let mut byte = || {
            let mut byte = [0];
            self.socket.read_exact(&mut byte).unwrap();
            byte[0]
        };
        while byte() != b'$' {}
        let mut packet = Vec::new();
        loop {
            match byte() {
                b'#' => break,
                other => packet.push(other),
            }
        }
        let _sum = [byte(), byte()];
        // Who has said the last word hears no more.
        let _ = self.socket.write_all(b"+");
        String::from_utf8(packet).unwrap()
    }

    fn ask(&mut self, packet: &str) -> String {
        self.send(packet);
        self.hear()
    }

    /// Hangs up; how the session ended, and what core was told in all.
    fn leave(self) -> (Result<(), Fault>, Vec<Said>) {
        drop(self.socket);
        let ended = self.serving.join().expect("no panic");
        (ended, self.core.end())
    }
}

#[test]
fn a_client_finds_the_guest_stopped_and_leaves_it_running() {
    let mut client = Client::new();
    assert!(client.ask("qSupported:multiprocess+;swbreak+").contains("qXfer:features:read+"));
    assert_eq!(client.ask("?"), "T05thread:p01.01;");
    let (ended, said) = client.leave();
    ended.unwrap();
    assert_eq!(said.first(), Some(&Said::Stop));
    assert_eq!(said.last(), Some(&Said::Detach));
}

#[test]
fn registers_memory_and_threads_are_cores() {
    let mut client = Client::new();
    assert_eq!(client.ask("qfThreadInfo"), "m01,02");
    assert_eq!(client.ask("Hg2"), "OK");
    let registers = client.ask("g");
    // The played vCPU 1 has its number in rax.
    assert!(registers.starts_with("0100000000000000"), "{registers}");
    assert_eq!(client.ask("m1000,4"), "00010203");
    assert_eq!(client.ask("m0,4"), "E0e");
    assert_eq!(client.ask("M1000,2:aabb"), "OK");
    assert_eq!(client.ask("m1000,4"), "aabb0203");
    assert_eq!(client.ask(&format!("G{registers}")), "OK");
    // The last register is EFER, which is not written.
    let other = format!("{}ff", &registers[..registers.len() - 2]);
    assert_eq!(client.ask(&format!("G{other}")), "E01");
    client.leave().0.unwrap();
}

#[test]
fn a_breakpoint_a_step_and_an_interrupt_are_told() {
    let mut client = Client::new();
    client.ask("qSupported:swbreak+;hwbreak+;vContSupported+");
    assert_eq!(client.ask("Z0,1000,1"), "OK");
    assert_eq!(client.ask("Z1,2000,1"), "OK");
    client.send("vCont;c");
    client.core.stop(1, StopReason::Code, 0x1000);
    assert_eq!(client.hear(), "T05thread:02;swbreak:;");
    client.send("vCont;c");
    client.core.stop(0, StopReason::Code, 0x2000);
    assert_eq!(client.hear(), "T05thread:01;hwbreak:;");
    assert_eq!(client.ask("z0,1000,1"), "OK");
    client.send("vCont;s:1");
    client.core.stop(0, StopReason::Step, 0x1001);
    assert_eq!(client.hear(), "T05thread:01;");
    client.send("vCont;s:2;c");
    client.socket.write_all(&[3]).unwrap();
    assert_eq!(client.hear(), "T02thread:01;");
    client.send("vCont;c");
    client.core.stop(1, StopReason::Over, 0);
    assert_eq!(client.hear(), "W00");
    let (ended, said) = client.leave();
    ended.unwrap();
    let motions = |said: &&Said| matches!(said, Said::Resume(_));
    let motions: Vec<_> = said.iter().filter(motions).cloned().collect();
    let wanted = [[Run, Run], [Run, Run], [Step, Stay], [Run, Step], [Run, Run]];
    assert_eq!(motions, wanted.map(|motions| Said::Resume(motions.to_vec())));
}

#[test]
fn a_watch_is_as_many_as_a_processor_needs() {
    let mut client = Client::new();
    assert_eq!(client.ask("Z2,1006,b"), "OK");
    client.send("c");
    client.core.stop(0, StopReason::Data(0x1008), 0);
    assert_eq!(client.hear(), "T05thread:01;watch:1008;");
    assert_eq!(client.ask("z2,1006,b"), "OK");
    assert_eq!(client.ask("Z2,0,ffffffff"), "E16");
    let (ended, said) = client.leave();
    ended.unwrap();
    let set: Vec<_> = said.iter().filter(|said| matches!(said, Said::Watch(..))).collect();
    let watch = |at, len, set| Said::Watch(at, len, set);
    let pieces = [(0x1006, 2), (0x1008, 8), (0x1010, 1)];
    let wanted = [true, false].map(|set| pieces.map(|(at, len)| watch(at, len, set)));
    assert_eq!(set, wanted.concat().iter().collect::<Vec<_>>());
}

#[test]
fn the_description_is_whole_and_of_every_register() {
    let mut client = Client::new();
    let mut text = String::new();
    loop {
        let piece = client.ask(&format!("qXfer:features:read:target.xml:{:x},400", text.len()));
        text += &piece[1..];
        if !piece.starts_with('m') {
            break;
        }
    }
    client.leave().0.unwrap();
    assert!(text.ends_with("</target>\n"), "{text}");
    assert_eq!(text.matches("<reg ").count(), 16 + 2 + 6 + 8 + 8 + 16 + 1 + 2 + 7);
}

#[test]
fn what_core_refuses_is_an_error_and_no_end() {
    let mut client = Client::new();
    assert_eq!(client.ask("Z0,bad,1"), "E16");
    assert_eq!(client.ask("Hg9"), "OK");
    assert_eq!(client.ask("g"), "E79", "there is no such vCPU");
    assert_eq!(client.ask("T9"), "E01");
    client.leave().0.unwrap();
}

#[test]
fn a_client_that_detaches_or_kills_is_let_go() {
    for packet in ["D", "k"] {
        let mut client = Client::new();
        client.send(packet);
        // The socket is closed from the other side.
        let mut rest = Vec::new();
        client.socket.read_to_end(&mut rest).unwrap();
        let (ended, said) = client.leave();
        ended.unwrap();
        assert_eq!(said.last(), Some(&Said::Detach));
    }
}
