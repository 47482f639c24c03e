//! QEMU's jobs, in a qemu-storage-daemon that is spoken to by QMP over its standard streams.

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::images::{Folder, Kind};

pub fn is_there() -> bool {
    let version = Command::new("qemu-storage-daemon").arg("--version").output();
    version.is_ok_and(|output| output.status.success())
}

struct Daemon {
    child: Child,
    to: ChildStdin,
    from: Lines<BufReader<ChildStdout>>,
}

impl Daemon {
    fn start(folder: &Folder, kind: Kind) -> Self {
        let mut command = Command::new("qemu-storage-daemon");
        command.current_dir(folder.path());
        command.args(["--chardev", "stdio,id=qmp", "--monitor", "chardev=qmp"]);
        let node = |name: &str, format: &str, backing: &str| {
            let file = format!("file.driver=file,file.filename={name},discard=unmap");
            format!("node-name={name},driver={format},{file}{backing}")
        };
        command.args(["--blockdev", &node("base", folder.base_format, "")]);
        command.args(["--blockdev", &node("mid", "qcow2", ",backing=base")]);
        command.args(["--blockdev", &node("top", "qcow2", ",backing=mid")]);
        if let Some(format) = kind.target() {
            command.args(["--blockdev", &node("target", format, "")]);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let to = child.stdin.take().unwrap();
        let from = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut daemon = Self { child, to, from };
        daemon.say(&json!({"execute": "qmp_capabilities"}));
        daemon
    }

    fn say(&mut self, message: &Value) {
        writeln!(self.to, "{message}").unwrap();
    }

    /// Waits for one of these events.
    fn hear(&mut self, names: &[&str]) -> Value {
        loop {
            let line = self.from.next().expect("it lives").unwrap();
            let message: Value = serde_json::from_str(&line).unwrap();
            assert!(message.get("error").is_none(), "{message}");
            if names.iter().any(|name| message["event"] == *name) {
                return message;
            }
        }
    }
}

/// Bytes done and bytes to do when the job was ready or over.
pub fn run(folder: &Folder, kind: Kind) -> (u64, u64) {
    let mut daemon = Daemon::start(folder, kind);
    let (command, extra) = match kind {
        Kind::Stream => ("block-stream", json!({})),
        Kind::StreamBase => ("block-stream", json!({"base-node": "base"})),
        Kind::Commit => ("block-commit", json!({"top-node": "mid", "base-node": "base"})),
        Kind::Active => ("block-commit", json!({"base-node": "base"})),
        Kind::MirrorRaw | Kind::MirrorQcow2 => {
            ("blockdev-mirror", json!({"target": "target", "sync": "full"}))
        }
        Kind::Backup => ("blockdev-backup", json!({"target": "target", "sync": "full"})),
        Kind::BackupTop => ("blockdev-backup", json!({"target": "target", "sync": "top"})),
    };
    let mut arguments = json!({"job-id": "job", "device": "top"});
    for (name, value) in extra.as_object().unwrap() {
        arguments[name] = value.clone();
    }
    daemon.say(&json!({"execute": command, "arguments": arguments}));
    let event = daemon.hear(&["BLOCK_JOB_READY", "BLOCK_JOB_COMPLETED"]);
    let numbers = |event: &Value| {
        let number = |name: &str| event["data"][name].as_u64().unwrap();
        (number("offset"), number("len"))
    };
    if event["event"] == "BLOCK_JOB_READY" {
        daemon.say(&json!({"execute": "block-job-complete", "arguments": {"device": "job"}}));
        daemon.hear(&["BLOCK_JOB_COMPLETED"]);
    }
    assert!(event["data"].get("error").is_none(), "{event}");
    daemon.say(&json!({"execute": "quit"}));
    assert!(daemon.child.wait().unwrap().success());
    numbers(&event)
}
