//! Attempts on everything a process in its jail has no business with.
//!
//! Each runs in a fresh process, in the real jail of each class, started by root and by an ordinary
//! user. What counts is the effect: bytes it brought back, code it ran, a process it made, a victim it
//! touched.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use bulkhead_channel::Channel;
use bulkhead_isolation::attempt::{Order, Told};
use bulkhead_isolation::{Ending, User, Warden, jailed};
use bulkhead_protocol::class::ProcessClass;
use bulkhead_protocol::start::{FromHelper, ToHelper};
use bulkhead_sys::clock::Deadline;
use bulkhead_sys::pidfd::{Death, PidFd};
use bulkhead_sys::spawn::spawn;

/// `mov eax, 42; ret`, as the probe has it.
const FORTY_TWO: [u8; 6] = [0xb8, 42, 0, 0, 0, 0xc3];

/// Fewest attempts of each group: a list that shrinks is a test that fails.
const GROUPS: [(&str, usize); 5] =
    [("files", 30), ("code", 15), ("privilege", 24), ("others", 29), ("network", 18)];

fn probe() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_isolation-probe"))
}

/// What attackers find on the host.
struct Host {
    folder: PathBuf,
    victim: Child,
    port: u16,
    _listeners: (TcpListener, Option<UnixListener>, Option<UnixListener>),
    code: OwnedFd,
}

impl Host {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("bulkhead-{name}-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("secret"), "what nobody in a jail may read").unwrap();
        fs::write(folder.join("victim"), "what nobody in a jail may touch").unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        let abstract_name = SocketAddr::from_abstract_name("bulkhead-isolation-listener").unwrap();
        let by_path = UnixListener::bind("/tmp/bulkhead-isolation-listener").ok();
        let code = bulkhead_sys::memfd::create_sealed("code", 4096).unwrap();
        nix::unistd::write(&code, &FORTY_TWO).unwrap();
        Self {
            folder,
            victim: Command::new("sleep").arg("1000").spawn().unwrap(),
            port,
            _listeners: (tcp, UnixListener::bind_addr(&abstract_name).ok(), by_path),
            code,
        }
    }

    fn descriptors(&self) -> Vec<OwnedFd> {
        let open = |path: &Path| OwnedFd::from(File::open(path).unwrap());
        let victim = bulkhead_sys::pidfd::PidFd::open(self.victim.id() as i32).unwrap();
        vec![
            open(&self.folder.join("secret")),
            open(&self.folder),
            PidFd::into_fd(victim),
            open(Path::new("/proc/self/ns/net")),
            open(probe()),
            self.code.try_clone().unwrap(),
        ]
    }

    fn numbers(&self) -> Vec<i64> {
        vec![i64::from(self.victim.id()), i64::from(self.port)]
    }

    /// Whether everything is as it was.
    fn is_untouched(&mut self) -> bool {
        let files = [
            ("secret", "what nobody in a jail may read"),
            ("victim", "what nobody in a jail may touch"),
        ];
        let intact = |(name, text): (&str, &str)| {
            fs::read_to_string(self.folder.join(name)).is_ok_and(|found| found == text)
        };
        files.into_iter().all(intact) && self.victim.try_wait().unwrap().is_none()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.victim.kill();
        let _ = self.victim.wait();
        let _ = fs::remove_dir_all(&self.folder);
        let _ = fs::remove_file("/tmp/bulkhead-isolation-listener");
    }
}

fn attempts(warden: &mut Warden) -> Vec<String> {
    let mut inmate = warden.start(ProcessClass::Core, &[]).unwrap();
    inmate.sealed();
    match inmate.order(Order::List, &[]) {
        Ending::Told(Told::Attempts(names)) => names,
        other => panic!("{other:?}"),
    }
}

/// Makes one attempt. `Some`: it succeeded, and how.
fn attempt(
    warden: &mut Warden,
    host: &Host,
    class: ProcessClass,
    how: &[&str],
    name: &str,
) -> Option<String> {
    let mut inmate = warden.start(class, how).expect("it starts");
    inmate.sealed();
    let fds = host.descriptors();
    let fds: Vec<BorrowedFd<'_>> = fds.iter().map(OwnedFd::as_fd).collect();
    let order = Order::Try { name: name.into(), numbers: host.numbers(), fds: fds.len() as u8 };
    match inmate.order(order, &fds) {
        Ending::Told(Told::Refused(_)) | Ending::Died(Death::Signaled(_)) => None,
        Ending::Told(told) => Some(format!("{told:?}")),
        Ending::Died(death) => Some(format!("it ran on as something else: {death}")),
    }
}

/// All attempts of a group on all classes.
fn group(group: &str) {
    let mut host = Host::new(&format!("red-{group}"));
    let mut successes = Vec::new();
    let mut made = 0;
    for &user in User::all() {
        let mut warden = Warden::new(user, probe(), &[], Vec::new());
        let prefix = format!("{group}/");
        let all = attempts(&mut warden);
        let names: Vec<&String> = all.iter().filter(|name| name.starts_with(&prefix)).collect();
        let fewest = GROUPS.iter().find(|(known, _)| *known == group).unwrap().1;
        assert!(names.len() >= fewest, "{} attempts in {group}", names.len());
        for class in jailed() {
            for name in &names {
                made += 1;
                if let Some(how) = attempt(&mut warden, &host, class, &[], name) {
                    successes.push(format!("{user:?} {class} {name}: {how}"));
                }
            }
        }
    }
    println!("{group}: {made} attempts");
    assert!(successes.is_empty(), "{}", successes.join("\n"));
    assert!(host.is_untouched());
}

#[test]
fn no_file_is_reached() {
    group("files");
}

#[test]
fn no_foreign_code_runs() {
    group("code");
}

#[test]
fn no_privilege_is_gained() {
    group("privilege");
}

#[test]
fn nobody_else_is_touched() {
    group("others");
}

#[test]
fn nobody_else_is_spoken_to() {
    group("network");
}

/// With one layer taken away, how many attempts are still blocked by the others.
fn blocked_without(layer: &str) -> (usize, usize, Vec<String>) {
    let host = Host::new(layer);
    let mut warden = Warden::new(User::Same, probe(), &[], Vec::new());
    let names = attempts(&mut warden);
    let mut successes = Vec::new();
    for name in &names {
        if let Some(how) = attempt(&mut warden, &host, ProcessClass::VhostBlk, &[layer], name) {
            successes.push(format!("{name}: {how}"));
        }
    }
    (names.len() - successes.len(), names.len(), successes)
}

#[test]
fn most_attempts_fail_even_without_landlock() {
    let (blocked, all, _) = blocked_without("no-landlock");
    assert_eq!(blocked, all);
}

#[test]
fn most_attempts_fail_even_without_the_class_filter() {
    let (blocked, all, successes) = blocked_without("no-filter");
    println!("{blocked} of {all} blocked; through came:\n{}", successes.join("\n"));
    assert!(blocked * 100 >= all * 80, "{blocked} of {all}:\n{}", successes.join("\n"));
}

/// Attempts that do no harm to a host on which they succeed.
const HARMLESS: [&str; 33] = [
    "files/open",
    "files/open by dots",
    "files/open by proc/1/root",
    "files/open itself",
    "files/openat",
    "files/openat2",
    "files/write own text",
    "files/openat inherited directory",
    "files/openat above inherited directory",
    "files/fchdir inherited directory",
    "files/inotify",
    "files/statx",
    "code/execveat inherited program",
    "code/execveat a memory object",
    "code/map writable and executable",
    "code/map a memory object executable",
    "code/make text writable",
    "code/make heap executable",
    "code/make heap executable by key",
    "code/attach executable segment",
    "code/fork",
    "code/vfork",
    "code/clone",
    "code/clone3",
    "privilege/make dumpable",
    "privilege/outlive its parent",
    "privilege/loosen the filter",
    "others/ptrace",
    "others/read memory",
    "others/open a pidfd",
    "others/compare",
    "network/connect by IPv4",
    "network/listen",
];

#[test]
fn outside_of_a_jail_the_same_attempts_succeed() {
    let host = Host::new("free");
    let mut failures = Vec::new();
    for name in HARMLESS {
        let (channel, theirs) = Channel::pair().unwrap();
        let mut command = Command::new(probe());
        command.arg0("core").arg("free");
        let mut child = spawn(&mut command, &[(theirs.as_fd(), 3)]).unwrap();
        drop(theirs);
        let deadline = || Deadline::after(Duration::from_secs(30));
        channel.receive_by::<FromHelper<Told>>(deadline()).unwrap();
        let fds = host.descriptors();
        let fds: Vec<BorrowedFd<'_>> = fds.iter().map(OwnedFd::as_fd).collect();
        let order = Order::Try { name: name.into(), numbers: host.numbers(), fds: fds.len() as u8 };
        channel.send(&ToHelper::Role(order), &fds).unwrap();
        let told = channel.receive_by::<FromHelper<Told>>(deadline());
        let reached = matches!(told, Ok((FromHelper::Role(Told::Reached(_)), _)));
        drop(channel);
        let executed = child.wait().unwrap().code() == Some(77);
        if !reached && !executed {
            failures.push(format!("{name}: {told:?}"));
        }
    }
    println!(
        "{} of {} succeed:\n{}",
        HARMLESS.len() - failures.len(),
        HARMLESS.len(),
        failures.join("\n")
    );
    // Some need more than every host or user has.
    assert!(failures.len() * 4 <= HARMLESS.len(), "{}", failures.join("\n"));
}
