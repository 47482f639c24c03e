//! A good client beside a thousand slow ones, cuts in the middle of handshakes, and floods of options: how much
//! slower it becomes, and how quickly the server ends among all of them.
//!
//! A measurement, and so run on request, on a machine with nothing else to do:
//! `cargo test -p bulkhead-interop --test nbd -- --ignored --nocapture crowd`. Calm and attack take turns, so that
//! whatever else the machine does is in both.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::Duration;

use crate::hostile::{HELLO, established, ping};
use crate::rig::{Served, Stage};

/// Clients that send a byte a second.
const SLOW: usize = 1000;

/// Turns of calm and of attack.
const ROUNDS: u64 = 10;

/// Reads in a turn.
const READS: u64 = 500;

/// Between two steps of an attacker.
const STEP: Duration = Duration::from_millis(1);

/// What all attackers share.
struct Crowd {
    socket: PathBuf,
    attacks: AtomicBool,
    ends: AtomicBool,
    /// Connections that were made, handshakes that were cut, options that were sent.
    made: [AtomicU64; 3],
}

impl Crowd {
    /// Makes a step again and again while there is an attack.
    fn attack(&self, mut step: impl FnMut(u64)) {
        let mut number = 0;
        while !self.ends.load(Ordering::Relaxed) {
            if self.attacks.load(Ordering::Relaxed) {
                step(number);
                number += 1;
            }
            sleep(STEP);
        }
    }

    fn connect(&self) -> Option<UnixStream> {
        let stream = UnixStream::connect(&self.socket).ok()?;
        stream.set_nonblocking(true).ok()?;
        self.made[0].fetch_add(1, Ordering::Relaxed);
        Some(stream)
    }

    /// A thousand of them; each in its turn says a byte more of a handshake, or comes back if it was put out.
    fn be_slow(&self) {
        let mut slow: Vec<Option<(UnixStream, usize)>> = (0..SLOW).map(|_| None).collect();
        self.attack(|number| {
            let place = &mut slow[number as usize % SLOW];
            let said = place.as_mut().is_some_and(|(stream, said)| {
                let byte = HELLO[*said % HELLO.len()];
                *said += 1;
                // A whole handshake is none of a slow client.
                *said < HELLO.len() && stream.write_all(&[byte]).is_ok()
            });
            if !said {
                *place = self.connect().map(|stream| (stream, 0));
            }
        });
    }

    /// Hangs up at each byte of a handshake.
    fn cut(&self) {
        self.attack(|number| {
            if let Some(mut stream) = self.connect() {
                let _ = stream.write_all(&HELLO[..number as usize % HELLO.len()]);
                self.made[1].fetch_add(1, Ordering::Relaxed);
            }
        });
    }

    /// Asks what there is, twenty times a millisecond and without listening.
    fn flood(&self) {
        let mut stream = None;
        self.attack(|_| {
            let open = stream.take().or_else(|| {
                let mut stream = self.connect()?;
                stream.write_all(&HELLO[..4]).ok()?;
                Some(stream)
            });
            stream = open.filter(|mut stream| {
                let all = (0..20).all(|_| stream.write_all(b"IHAVEOPT\0\0\0\x03\0\0\0\0").is_ok());
                self.made[2].fetch_add(20, Ordering::Relaxed);
                all
            });
        });
    }
}

/// The time that so many of a hundred do not exceed.
fn most(times: &mut [Duration], of_a_hundred: usize) -> Duration {
    times.sort();
    times[times.len() * of_a_hundred / 100]
}

fn measure(socket: &Path, served: Served) {
    let crowd = Crowd {
        socket: socket.to_owned(),
        attacks: AtomicBool::new(false),
        ends: AtomicBool::new(false),
        made: Default::default(),
    };
    let mut good = established(&served);
    let (mut calm, mut attacked) = (Vec::new(), Vec::new());
    std::thread::scope(|scope| {
        scope.spawn(|| crowd.be_slow());
        scope.spawn(|| crowd.cut());
        scope.spawn(|| crowd.flood());
        for round in 0..ROUNDS {
            for (attacks, times) in [(false, &mut calm), (true, &mut attacked)] {
                crowd.attacks.store(attacks, Ordering::Relaxed);
                sleep(Duration::from_millis(if attacks { 1500 } else { 300 }));
                for number in 0..READS {
                    times.push(ping(&mut good, round * READS + number));
                    sleep(STEP);
                }
            }
        }
        // Ended in the middle of it.
        let before = served.process("nbd-server");
        let (well, time) = served.end();
        crowd.ends.store(true, Ordering::Relaxed);
        let [connections, cuts, options] = crowd.made.each_ref().map(|n| n.load(Ordering::Relaxed));
        println!("{connections} connections, {cuts} cut handshakes, {options} options of floods");
        let mut compare = |of_a_hundred| {
            let calm = most(&mut calm, of_a_hundred);
            let attacked = most(&mut attacked, of_a_hundred);
            let ratio = attacked.as_secs_f64() / calm.as_secs_f64();
            println!(
                "4 KiB reads, {of_a_hundred} of 100: {calm:?} in calm, {attacked:?} attacked: {ratio:.2}"
            );
            ratio
        };
        compare(50);
        let ratio = compare(99);
        println!("ended with open sockets after {time:?}");
        assert!(well && before.restarts == 0, "it died of its clients");
        assert!(ratio < 2.0 && time < Duration::from_secs(1));
    });
}

#[test]
#[ignore = "a measurement: see the module"]
fn a_good_client_is_as_quick_in_a_crowd() {
    let stage = Stage::new();
    let image = stage.noise("image", 4);
    let served = Served::start(&stage, &image, "", "");
    let socket = served.socket().to_owned();
    measure(&socket, served);
}
