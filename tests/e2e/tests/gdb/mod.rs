//! gdb in batch mode, with checks in its own Python; and a VM of Debian's kernel to look into.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::stage::Stage;
use bulkhead_harness::engine::software;

/// What the batches use. A failed assertion ends the batch with an error.
const PRELUDE: &str = r#"
import gdb, os, signal, threading
def value(text):
    return int(gdb.parse_and_eval('(unsigned long)(' + text + ')'))
def counter():
    return int(gdb.parse_and_eval('*(unsigned int*)$rbx'))
def at(address):
    rip = int(gdb.parse_and_eval('(unsigned long)$rip'))
    assert rip == int(address, 16), hex(rip)
def interrupt_after(seconds):
    """Presses ^C while gdb waits for the guest."""
    threading.Timer(seconds, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
def disassembled(count):
    lines = gdb.execute('x/%di $pc' % count, to_string=True).splitlines()
    return [(int(line.replace('=>', '').split(':')[0].split()[0], 16), line.split(':', 1)[1].split())
            for line in lines]
def successors():
    """Where the instruction at $pc may lead, by its disassembly."""
    (here, words), (behind, _) = disassembled(2)
    name = words[0]
    while name in ('rep', 'repz', 'repnz', 'lock', 'bnd', 'notrack', 'data16', 'cs', 'ds', 'rex.W'):
        words = words[1:]
        name = words[0]
    operand = words[1].split(',')[0] if len(words) > 1 else ''
    if name.startswith('ret'):
        return [value('*(unsigned long*)$rsp')]
    if name.startswith(('jmp', 'call')) and operand.startswith('*'):
        return None
    if name.startswith(('jmp', 'call')):
        return [int(operand, 16)]
    if name.startswith('j') or name.startswith('loop'):
        return [behind, int(operand, 16)]
    if words[0] in ('stos', 'movs', 'scas', 'cmps', 'lods') or 'rep' in ' '.join(disassembled(1)[0][1][:1]):
        return [behind, here]
    if name in ('syscall', 'sysret', 'sysretq', 'iretq', 'iret', 'int3', 'ud2'):
        return None
    return [behind]
def step_and_check(count):
    for number in range(count):
        allowed, before = successors(), value('$rip')
        gdb.execute('stepi', to_string=True)
        rip = value('$rip')
        text = '%d: %#x -> %#x, not %s' % (number, before, rip, allowed)
        assert allowed is None or rip in allowed, text
    print('stepped %d' % count)
"#;

/// gdb, connected to an address.
pub struct Batch {
    address: String,
}

/// What it said.
pub struct Spoken {
    /// Both streams.
    pub said: String,
}

impl Batch {
    /// To a socket's path, or HOST:PORT.
    pub fn new(address: &str) -> Self {
        Self { address: address.to_owned() }
    }

    /// Runs commands. A Python check that fails is a failure.
    pub fn run(&self, commands: &[&str]) -> Spoken {
        let folder = tempfile::tempdir().expect("a folder");
        let prelude = folder.path().join("prelude.py");
        std::fs::write(&prelude, PRELUDE).expect("written");
        let mut gdb = Command::new("timeout");
        gdb.args(["120", "gdb", "-nx", "-batch", "-x"]).arg(&prelude);
        let connect = format!("target remote {}", self.address);
        let quiet = ["set pagination off", "set confirm off", "set remotetimeout 60"];
        let all = quiet.iter().copied().chain([connect.as_str()]).chain(commands.iter().copied());
        gdb.args(all.flat_map(|command| ["-ex", command]));
        let output = gdb.stdin(Stdio::null()).output().expect("gdb is installed");
        let said =
            [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        let said = said.concat();
        let failed = said.contains("Error while executing Python code");
        assert!(output.status.code() != Some(124) && !failed, "{said}");
        Spoken { said }
    }
}

/// Sends one packet and returns what comes up to the end of the next one.
pub fn talk(client: &mut UnixStream, packet: &str) -> String {
    let sum = packet.bytes().fold(0u8, u8::wrapping_add);
    client.write_all(format!("${packet}#{sum:02x}").as_bytes()).expect("sent");
    let mut heard = Vec::new();
    while !heard.contains(&b'#') {
        let mut byte = [0];
        client.read_exact(&mut byte).expect("an answer");
        heard.push(byte[0]);
    }
    String::from_utf8_lossy(&heard).into_owned()
}

/// Debian's kernel and a user space that calls it.
pub struct Debian {
    kernel: PathBuf,
}

impl Debian {
    /// If it was fetched.
    pub fn find() -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let kernel = root.join("target/guest/vmlinux");
        if !kernel.exists() {
            eprintln!("skipped: packaging/fetch-kernel.sh was not run");
            return None;
        }
        Some(Self { kernel })
    }

    /// A VM of it that runs the script `symbols`.
    pub fn start(&self, stage: &Stage, options: &[&str]) -> Child {
        let initrd = stage.path("initramfs");
        let make =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/demo/mk-initramfs.sh");
        let made = Command::new(make).args([&initrd, "guest"]).status().expect("it starts");
        assert!(made.success());
        let kernel = self.kernel.to_str().expect("text");
        let append =
            "console=ttyS0 quiet panic=-1 cryptomgr.notests nokaslr bulkhead.script=symbols";
        let own =
            ["--cpu", &software(), "--memory", "256M", "--kernel", kernel, "--initrd", &initrd];
        stage.start(&[&own[..], &["--append", append], options].concat())
    }

    /// Addresses of symbols, as the guest itself tells them.
    pub fn symbols(&self, stage: &Stage, names: &[&str]) -> Vec<u64> {
        let output = self.start(stage, &[]).wait_with_output().expect("output");
        let said = String::from_utf8_lossy(&output.stdout);
        let address = |name: &&str| {
            let is_it = |line: &&str| line.split_whitespace().nth(2) == Some(name);
            let line = said.lines().find(is_it).unwrap_or_else(|| panic!("no {name}: {said}"));
            u64::from_str_radix(line.split_whitespace().next().unwrap_or_default(), 16)
        };
        names.iter().map(address).collect::<Result<_, _>>().expect("addresses")
    }
}
