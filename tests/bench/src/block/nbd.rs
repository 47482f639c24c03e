//! NBD over a UNIX socket, beside nbdkit's memory and qemu-nbd on a file of the page cache.
//!
//! Servers run on CPU 0, clients on CPU 1. They are other people's: nbdcopy, and fio's nbd engine.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bulkhead_harness::storage::{Options, Storage};
use tempfile::TempDir;

use super::certificates;
use super::command::{command, output, text, timed};
use super::direct::rate;
use super::table::{Figure, Line, Turn, Unit, take_turns};
use crate::Arguments;
use crate::contender::{SIZE, image};
use crate::place::Place;
use crate::usage::cpu_time;

const SERVER: &str = "0";
const CLIENT: &str = "1";

#[derive(Clone, Copy)]
enum Client {
    /// Connections.
    Copy(u32),
    /// Clients, and requests in flight of each.
    Read(u32, u32),
}

const ROWS: [(&str, bool, Client); 7] = [
    ("NBD, nbdcopy, 1 connection", false, Client::Copy(1)),
    ("NBD, nbdcopy, 4 connections", false, Client::Copy(4)),
    ("NBD, 4 KiB random read, 1", false, Client::Read(1, 1)),
    ("NBD, 4 KiB random read, 32", false, Client::Read(1, 32)),
    ("NBD, 4 KiB random read, 2 × 32", false, Client::Read(2, 32)),
    ("NBD in TLS, nbdcopy, 1 connection", true, Client::Copy(1)),
    ("NBD in TLS, nbdcopy, 4 connections", true, Client::Copy(4)),
];

/// Two lines for each row.
pub fn run(arguments: &Arguments) -> Result<()> {
    for tls in [false, true] {
        let rows = ROWS.iter().filter(|row| row.1 == tls && arguments.wants(row.0));
        let rows: Vec<_> = rows.collect();
        if !rows.is_empty() {
            compare(&rows, tls, arguments)?;
        }
    }
    Ok(())
}

fn compare(rows: &[&(&str, bool, Client)], tls: bool, arguments: &Arguments) -> Result<()> {
    let (theirs, image) = (image(&arguments.memory)?, image(&arguments.memory)?);
    let folder = tempfile::tempdir()?;
    let credentials = tls.then_some(folder.path());
    if let Some(folder) = credentials {
        certificates::make(folder)?;
    }
    let nbdkit = Server::nbdkit(credentials)?;
    let qemu = Server::qemu(theirs.path(), credentials)?;
    output(&mut command(&["nbdcopy", text(image.path()), &nbdkit.uri]))?;
    let (own, uri) = ours(image.path(), folder.path(), credentials);
    let _awake = Place::Split.spinners()?;
    for (name, _, client) in rows {
        let turn = |uri: &str, pids: Vec<u32>| -> Turn<'_> {
            let uri = uri.to_owned();
            Box::new(move || {
                let before = cpu_time(&pids);
                let figure = client.turn(&uri, arguments.seconds)?;
                let spent = (cpu_time(&pids) - before).as_secs_f64();
                Ok(Figure { cpu: Some(client.each(spent, figure, arguments.seconds)), ..figure })
            })
        };
        let turns = &mut [
            turn(&nbdkit.uri, vec![nbdkit.child.id()]),
            turn(&qemu.uri, vec![qemu.child.id()]),
            turn(&uri, own.processes().iter().map(|process| process.pid.cast_unsigned()).collect()),
        ];
        let figures = take_turns(arguments.rounds, turns)?;
        let unit = client.unit();
        let line = |peer| Line { what: name, peer, unit, wanted: if tls { 2.0 } else { 1.0 } };
        line("nbdkit memory").print(&figures[0], &figures[2]);
        line("qemu-nbd").print(&figures[1], &figures[2]);
    }
    drop(own);
    Ok(())
}

impl Client {
    fn unit(self) -> Unit {
        match self {
            Self::Copy(_) => Unit::Mebibytes,
            Self::Read(..) => Unit::Requests,
        }
    }

    /// CPU time of a copy as a whole, or of each read.
    fn each(self, spent: f64, figure: Figure, seconds: f64) -> f64 {
        match self {
            Self::Copy(_) => spent,
            Self::Read(..) => spent / (figure.value * seconds).max(1.0),
        }
    }

    fn turn(self, uri: &str, seconds: f64) -> Result<Figure> {
        let mut command = command(&["taskset", "-c", CLIENT]);
        match self {
            Self::Copy(connections) => {
                let connections = format!("--connections={connections}");
                let took = timed(command.args(["nbdcopy", &connections, uri, "null:"]))?;
                Ok(Figure { value: (SIZE >> 20) as f64 / took.value, cpu: None })
            }
            Self::Read(clients, depth) => {
                command.args([
                    "fio",
                    "--name=client",
                    "--ioengine=nbd",
                    "--rw=randread",
                    "--bs=4k",
                ]);
                command.args(["--time_based", "--output-format=json", "--thread"]);
                command.arg("--group_reporting").arg(format!("--numjobs={clients}"));
                command.arg(format!("--uri={uri}")).arg(format!("--iodepth={depth}"));
                rate(&output(command.arg(format!("--runtime={seconds}s")))?)
            }
        }
    }
}

fn uri(socket: &Path, name: &str, credentials: Option<&Path>) -> String {
    let socket = socket.display();
    match credentials {
        None => format!("nbd+unix:///{name}?socket={socket}"),
        Some(folder) => {
            let folder = folder.display();
            format!("nbds+unix://localhost/{name}?socket={socket}&tls-certificates={folder}")
        }
    }
}

fn ours(image: &Path, folder: &Path, credentials: Option<&Path>) -> (Storage, String) {
    let socket = folder.join("ours.sock");
    let tls = credentials.map(|folder| format!(",tls-creds={}", folder.display()));
    let export = format!("nbd,disk=d0,socket={}{}", socket.display(), tls.unwrap_or_default());
    let storage = Storage::start(&Options::new(image, 1).cpus(SERVER).export(export));
    (storage, uri(&socket, "d0", credentials))
}

/// Somebody else's server; ended on drop.
struct Server {
    child: Child,
    uri: String,
    _folder: TempDir,
}

impl Server {
    fn nbdkit(credentials: Option<&Path>) -> Result<Self> {
        Self::start(credentials, |command, socket| {
            command.args(["nbdkit", "--foreground", "--unix"]).arg(socket);
            if let Some(folder) = credentials {
                command.arg("--tls=require");
                command.arg(format!("--tls-certificates={}", folder.display()));
            }
            command.arg("memory").arg(SIZE.to_string());
        })
    }

    fn qemu(image: &Path, credentials: Option<&Path>) -> Result<Self> {
        Self::start(credentials, |command, socket| {
            command.args(["qemu-nbd", "--persistent", "--shared=16", "--format=raw"]);
            command.arg("--socket").arg(socket);
            if let Some(folder) = credentials {
                let folder = folder.display();
                let object = format!("tls-creds-x509,id=tls0,endpoint=server,dir={folder}");
                command.args(["--object", &object, "--tls-creds", "tls0"]);
            }
            command.arg(image);
        })
    }

    fn start(
        credentials: Option<&Path>,
        arguments: impl FnOnce(&mut Command, &PathBuf),
    ) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let socket = folder.path().join("peer.sock");
        let mut command = command(&["taskset", "-c", SERVER]);
        arguments(&mut command, &socket);
        let child = command.stdin(Stdio::null()).spawn().context("taskset")?;
        let server = Self { child, uri: uri(&socket, "", credentials), _folder: folder };
        let start = Instant::now();
        while !socket.exists() {
            if start.elapsed() > Duration::from_secs(10) {
                bail!("{command:?} does not start; is it installed?");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
