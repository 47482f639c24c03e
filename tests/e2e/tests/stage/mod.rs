//! A folder of files for one test, the command run in it, and a look at what was left.
#![allow(
    dead_code,
    unused_imports,
    reason = "each test file uses the part of the stage that it needs"
)]

mod backend;
mod linux;

use std::io::Read;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bulkhead_harness::programs;
use tempfile::TempDir;

pub use backend::Lie;
pub use linux::Linux;

/// Longest that a refusal may take before the test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

static SERIAL: AtomicU32 = AtomicU32::new(0);

/// `mov dx, 0x3f8; mov al, '!'; out dx, al`.
pub const SAY: [u8; 7] = [0x66, 0xba, 0xf8, 0x03, 0xb0, b'!', 0xee];

/// `sti; again: hlt; jmp again`: waits for interrupts, of which none will come.
pub const IDLE: [u8; 4] = [0xfb, 0xf4, 0xeb, 0xfd];

/// The uid and gid of `nobody`.
const NOBODY: u32 = 65534;

/// A test's folder and names.
#[derive(Debug)]
pub struct Stage {
    folder: TempDir,
    name: String,
}

impl Drop for Stage {
    /// Whatever a test did, nothing of its instance may be left. One that failed half-way has it ended.
    fn drop(&mut self) {
        match std::thread::panicking() {
            false => nothing_left(&self.name),
            true => drop(programs::bulkhead().args(["kill", &self.name]).output()),
        }
    }
}

impl Stage {
    /// An empty one, readable by everyone.
    pub fn new() -> Self {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(folder.path(), open).expect("permissions");
        let number = SERIAL.fetch_add(1, Ordering::Relaxed);
        Self { folder, name: format!("test-{}-{number}", std::process::id()) }
    }

    /// Name for this test's instance.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether this is root.
    pub fn is_root(&self) -> bool {
        nix::unistd::geteuid().is_root()
    }

    /// Path of a file that need not exist.
    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().expect("text").to_owned()
    }

    /// A file with this content.
    pub fn file(&self, name: &str, content: &[u8]) -> String {
        let path = self.path(name);
        std::fs::write(&path, content).expect("written");
        path
    }

    /// A sparse image.
    pub fn image(&self, size: u64) -> String {
        let path = self.path(&format!("disk-{}.img", SERIAL.fetch_add(1, Ordering::Relaxed)));
        std::fs::File::create(&path).and_then(|file| file.set_len(size)).expect("an image");
        path
    }

    /// A kernel that idles at once: a PVH ELF of a few bytes.
    pub fn kernel(&self) -> String {
        self.kernel_of(&IDLE)
    }

    /// A kernel that writes `!` to ttyS0 and idles.
    pub fn talking_kernel(&self) -> String {
        self.kernel_of(&[&SAY[..], &IDLE].concat())
    }

    /// A kernel of this 32-bit code.
    pub fn kernel_of(&self, code: &[u8]) -> String {
        let name = format!("kernel-{}", SERIAL.fetch_add(1, Ordering::Relaxed));
        self.file(&name, &bulkhead_harness::kernel::pvh(code))
    }

    /// A kernel compiled from `payload/NAME.c`.
    pub fn payload(&self, name: &str) -> String {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("payload");
        let script = folder.join("payload.ld");
        let made = self.path(&format!("{name}.elf"));
        let mut compiler = Command::new("cc");
        compiler
            .args("-m32 -march=i686 -O1 -Wall -Wextra -Werror -ffreestanding".split(' '))
            .args("-fno-pic -fno-stack-protector -fcf-protection=none".split(' '))
            .args("-nostdlib -static -Wl,-N,--no-warn-rwx-segments,--build-id=none".split(' '))
            .arg(format!("-Wl,-T,{}", script.display()))
            .args(["-o", &made])
            .arg(folder.join(format!("{name}.c")));
        let output = compiler.output().expect("a C compiler");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        made
    }

    /// A file that only root may read.
    pub fn unreadable(&self) -> String {
        use std::os::unix::fs::PermissionsExt;
        let path = self.file("secret", b"secret");
        let closed = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&path, closed).expect("permissions");
        path
    }

    /// A vhost-user socket whose owner accepts and says nothing.
    pub fn silent_backend(&self) -> String {
        let path = self.path("silent.sock");
        let listener = UnixListener::bind(&path).expect("bound");
        std::thread::spawn(move || {
            let held: Vec<_> = listener.incoming().flatten().collect();
            drop(held);
        });
        path
    }

    /// A vhost-user socket whose owner contradicts itself.
    pub fn lying_backend(&self, lie: Lie) -> String {
        let path = self.path("lying.sock");
        let listener = UnixListener::bind(&path).expect("bound");
        std::thread::spawn(move || {
            // It ends with the frontend's hanging up.
            listener.incoming().flatten().for_each(|frontend| drop(lie.tell(frontend)));
        });
        path
    }

    /// `bulkhead run` with these arguments.
    pub fn run(&self, arguments: &[&str]) -> Output {
        finish(self.run_command(arguments))
    }

    /// `bulkhead run` with these arguments, to be started.
    pub fn run_command(&self, arguments: &[&str]) -> Command {
        let mut command = programs::bulkhead();
        command.args(["run", "--name", &self.name]).args(arguments).current_dir(self.folder.path());
        command
    }

    /// A VM whose guest has said its one character, and which answers.
    pub fn started(&self, options: &[&str]) -> Child {
        let kernel = self.talking_kernel();
        self.spoken(&[&["--kernel", &kernel, "--memory", "64M"], options].concat())
    }

    /// `bulkhead run`, started, with its output to be read.
    pub fn start(&self, options: &[&str]) -> Child {
        let mut command = self.run_command(options);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("bulkhead starts")
    }

    /// A VM whose guest, of any kernel that does so, has said its one character.
    pub fn spoken(&self, options: &[&str]) -> Child {
        let mut child = self.start(options);
        let mut said = [0; 1];
        let heard = child.stdout.as_mut().expect("piped").read_exact(&mut said);
        if heard.is_err() || said != *b"!" {
            let output = child.wait_with_output().expect("output");
            panic!("the guest said {said:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        // The guest does not wait for those who watch it.
        let is_shown = || self.command(&["ps", &self.name]).status.success();
        wait_for("its control socket", is_shown);
        child
    }

    /// `bulkhead` with these arguments.
    pub fn command(&self, arguments: &[&str]) -> Output {
        let mut command = programs::bulkhead();
        command.args(arguments).current_dir(self.folder.path());
        finish(command)
    }

    /// `bulkhead run` on a host that seems to lack a system call.
    pub fn run_without(&self, call: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bulkhead-test-without"));
        command.arg(call).arg(programs::folder().join("bulkhead"));
        command.args(["run", "--name", &self.name]).args(arguments).current_dir(self.folder.path());
        finish(command)
    }

    /// `bulkhead run` as another user.
    pub fn run_as_nobody(&self, arguments: &[&str]) -> Output {
        let mut command = self.run_command(arguments);
        command.uid(NOBODY).gid(NOBODY).env("XDG_RUNTIME_DIR", self.folder_of_nobody());
        finish(command)
    }

    fn folder_of_nobody(&self) -> PathBuf {
        let path = self.folder.path().join("run");
        std::fs::create_dir_all(&path).expect("a folder");
        std::os::unix::fs::chown(&path, Some(NOBODY), Some(NOBODY)).expect("root may");
        path
    }

    /// A running storage instance that holds `image`.
    pub fn storage(&self, image: &str) -> Storage {
        let socket = self.path("storage.sock");
        let disk = format!("id=d0,path={image},format=raw");
        let export = format!("vhost-user-blk,disk=d0,socket={socket}");
        let name = format!("{}-storage", self.name);
        let mut command = programs::bulkhead();
        command.args(["storage", "--name", &name, "--disk", &disk, "--export", &export]);
        let child = command.stdin(Stdio::null()).spawn().expect("storage starts");
        let storage = Storage { child, name };
        wait_for("the storage socket", || Path::new(&socket).exists());
        storage
    }

    /// qemu-io with the image open for writing.
    pub fn hold_by_qemu(&self, image: &str) -> Held {
        let mut child = Command::new("qemu-io")
            .args(["-f", "raw", image])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("qemu-io is installed");
        let mut prompt = [0; 1];
        let stdout = child.stdout.as_mut().expect("piped");
        stdout.read_exact(&mut prompt).expect("its prompt");
        Held(child)
    }
}

/// A storage instance; ended on drop.
#[derive(Debug)]
pub struct Storage {
    child: Child,
    /// Its name.
    pub name: String,
}

impl Drop for Storage {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"));
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

/// Another program; ended on drop.
#[derive(Debug)]
pub struct Held(Child);

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until `condition` holds, for as long as a very slow machine may need.
pub fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs a command to its end; its output is read meanwhile, however long it is.
fn finish(mut command: Command) -> Output {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().expect("the command starts");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    match receiver.recv_timeout(PATIENCE) {
        Ok(output) => output.expect("output"),
        Err(_) => {
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            panic!("no answer to {command:?}");
        }
    }
}

/// The processes of the instance `name`, as `bulkhead ps --json` tells.
pub fn processes_of(name: &str) -> Vec<serde_json::Value> {
    let output = programs::bulkhead().args(["ps", "--json", name]).output().expect("it starts");
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("ps: {error}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// Checks a refusal: exit code 2, one line with all the words.
pub fn refused(output: Output, words: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "exit code of: {text}");
    assert_eq!(text.trim_end().lines().count(), 1, "one line: {text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
}

/// Checks that nothing of the instance `name` is left: no folder, process or cgroup.
pub fn nothing_left(name: &str) {
    let runtime = Path::new("/run/bulkhead").join(name);
    wait_for("its folder to go", || !runtime.exists());
    let cgroups = find_named(Path::new("/sys/fs/cgroup"), name, 6);
    assert!(cgroups.is_empty(), "cgroup folders left: {cgroups:?}");
}

fn find_named(folder: &Path, name: &str, depth: u32) -> Vec<PathBuf> {
    let mut found = Vec::new();
    if depth == 0 {
        return found;
    }
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        if entry.file_name().to_string_lossy().contains(name) {
            found.push(entry.path());
        }
        found.extend(find_named(&entry.path(), name, depth - 1));
    }
    found
}
