//! Chains of three images in a folder, their copies, and how two of them are compared.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::chance::Chance;

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Stream,
    StreamBase,
    Commit,
    Active,
    MirrorRaw,
    MirrorQcow2,
    Backup,
    BackupTop,
}

impl Kind {
    /// Format of the target, if there is one.
    pub fn target(self) -> Option<&'static str> {
        match self {
            Self::MirrorRaw | Self::Backup => Some("raw"),
            Self::MirrorQcow2 | Self::BackupTop => Some("qcow2"),
            Self::Stream | Self::StreamBase | Self::Commit | Self::Active => None,
        }
    }
}

/// base, mid and top, and a target.
pub struct Folder {
    dir: TempDir,
    pub base_format: &'static str,
}

pub const SIZE: u64 = 6 << 20;

/// Bytes of which maps are compared together.
const UNIT: u64 = 512 << 10;

fn must(program: &str, dir: &Path, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(dir).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{program} {arguments:?}: {out}{err}");
    out
}

impl Folder {
    pub fn fill(chance: &mut Chance, kind: Kind) -> Self {
        // Beside the build's output: a real file system knows holes, and keeps them.
        let dir = TempDir::new_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let base_format = chance.of(&["raw", "qcow2"]);
        let folder = Self { dir, base_format };
        let size = SIZE.to_string();
        folder.img(&["create", "-q", "-f", base_format, "base", &size]);
        folder.write("base", base_format, chance);
        for (name, below, format) in [("mid", "base", base_format), ("top", "mid", "qcow2")] {
            let options = format!("cluster_size={}", chance.of(&[4096, 65536, 524_288]));
            let arguments = ["-q", "-f", "qcow2", "-o", &options, "-b", below, "-F", format];
            folder.img(&[&["create"], &arguments[..], &[name, &size]].concat());
            folder.write(name, "qcow2", chance);
        }
        if let Some(format) = kind.target() {
            folder.img(&["create", "-q", "-f", format, "target", &size]);
        }
        folder
    }

    fn img(&self, arguments: &[&str]) -> String {
        must("qemu-img", self.path(), arguments)
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    fn write(&self, name: &str, format: &str, chance: &mut Chance) {
        let mut arguments = vec!["-f".to_owned(), format.to_owned(), name.to_owned()];
        for _ in 0..3 + chance.below(12) {
            let at = chance.below(SIZE / 512) * 512;
            let len = ((1 + chance.below(600)) * 512).min(SIZE - at);
            let command = match chance.below(5) {
                0 => format!("write -z {at} {len}"),
                _ => format!("write -P {} {at} {len}", 1 + chance.below(255)),
            };
            arguments.extend(["-c".to_owned(), command]);
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        must("qemu-io", self.path(), &arguments);
    }

    /// Two copies of it.
    pub fn copies(&self) -> (Self, Self) {
        let copy = || {
            let dir = TempDir::new_in(env!("CARGO_MANIFEST_DIR")).unwrap();
            for entry in std::fs::read_dir(self.path()).unwrap() {
                let from = entry.unwrap();
                let to = dir.path().join(from.file_name());
                let sparse = "--sparse=always";
                let paths = [from.path(), to].map(|path| path.to_str().unwrap().to_owned());
                must("cp", self.path(), &[sparse, &paths[0], &paths[1]]);
            }
            Self { dir, base_format: self.base_format }
        };
        (copy(), copy())
    }

    /// The disk that the job has left.
    fn result(&self, kind: Kind) -> (&'static str, &'static str) {
        match (kind, kind.target()) {
            (_, Some(format)) => ("target", format),
            (Kind::Active, _) => ("base", self.base_format),
            _ => ("top", "qcow2"),
        }
    }

    /// The same bytes, and no data where QEMU has none; no errors in ours.
    pub fn is_like(&self, other: &Self, kind: Kind, name: &str) {
        let (file, format) = self.result(kind);
        let paths = [self.file(file), other.file(file)].map(|p| p.to_str().unwrap().to_owned());
        self.img(&["compare", "-f", format, "-F", format, &paths[0], &paths[1]]);
        let data = |folder: &Self| folder.data(file, format);
        let (here, there) = (data(self), data(other));
        for (index, (here, there)) in here.iter().zip(there).enumerate() {
            let at = index as u64 * UNIT;
            assert!(!here || there, "{name}: data at {at} where QEMU has left a hole");
        }
        if format == "qcow2" {
            self.img(&["check", "-q", "-f", format, file]);
            let named = |folder: &Self| folder.backing(file);
            assert_eq!(named(self), named(other), "{name}: the backing file");
        }
    }

    fn json(&self, arguments: &[&str]) -> serde_json::Value {
        serde_json::from_str(&self.img(arguments)).unwrap()
    }

    fn backing(&self, file: &str) -> Option<String> {
        let info = self.json(&["info", "--output=json", file]);
        info["backing-filename"].as_str().map(str::to_owned)
    }

    /// Of each unit of the disk, whether there is data in it.
    fn data(&self, file: &str, format: &str) -> Vec<bool> {
        let map = self.json(&["map", "--output=json", "-f", format, file]);
        let mut data = vec![false; SIZE.div_ceil(UNIT) as usize];
        for range in map.as_array().unwrap() {
            let number = |name: &str| range[name].as_u64().unwrap();
            let (start, end) = (number("start"), number("start") + number("length"));
            if !range["zero"].as_bool().unwrap() {
                data[(start / UNIT) as usize..end.div_ceil(UNIT) as usize].fill(true);
            }
        }
        data
    }
}
