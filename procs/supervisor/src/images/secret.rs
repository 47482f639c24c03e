//! Passphrases: read from a file of the user's, and handed on in a memory object that is never mapped here.
//!
//! Called by the plan. Law: a passphrase is in no message, no log and no state; what was read is wiped as
//! soon as it is in the object, which a block-layer alone looks into.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use bulkhead_protocol::block::secret::{
    LONGEST_PASSPHRASE, PASSPHRASE_AT, PASSPHRASE_LEN_AT, SECRET_BYTES,
};
use bulkhead_protocol::session::Refusal;
use bulkhead_sys::file::{self, Transfer};
use nix::fcntl::OFlag;
use zeroize::Zeroizing;

use crate::open::{Kind, find};
use crate::refusal::{refuse, refuse_path};

/// Reads the passphrase in the file at `path`: all of its bytes, as `qemu-img` and cryptsetup do.
pub fn take(option: &str, path: &Path) -> Result<OwnedFd, Refusal> {
    let host = |error: io::Error| refuse_path(option, path, &error);
    let wrong = |reason: &str, remedy: &str| Err(refuse(option, path.display(), reason, remedy));
    let found = find(path).map_err(host)?;
    if found.kind != Kind::File {
        return wrong("it is no file", "name a file that holds the passphrase");
    }
    let file = found.open(OFlag::O_RDONLY).map_err(host)?;
    // Room for all of it at once: a vector that grows leaves copies behind.
    let mut bytes = Zeroizing::new(vec![0; LONGEST_PASSPHRASE + 1]);
    let len = read(File::from(file), &mut bytes).map_err(host)?;
    match len {
        0 => return wrong("it is empty", "write the passphrase into it"),
        len if len > LONGEST_PASSPHRASE => {
            let reason = format!("it is longer than {LONGEST_PASSPHRASE} bytes");
            return wrong(&reason, "give a shorter passphrase");
        }
        _ => {}
    }
    keep(bytes.get(..len).unwrap_or_default()).map_err(host)
}

fn read(mut file: File, bytes: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while let Some(rest) = bytes.get_mut(len..).filter(|rest| !rest.is_empty()) {
        match file.read(rest)? {
            0 => break,
            count => len += count,
        }
    }
    Ok(len)
}

fn keep(passphrase: &[u8]) -> io::Result<OwnedFd> {
    let object = bulkhead_sys::memfd::create_sealed("secret", SECRET_BYTES)?;
    let len = (passphrase.len() as u64).to_le_bytes();
    for (at, bytes) in [(PASSPHRASE_LEN_AT, &len[..]), (PASSPHRASE_AT, passphrase)] {
        let count = file::write_bytes_at(&object, at as u64, bytes, Transfer::default())?;
        if count != bytes.len() {
            return Err(io::Error::from(io::ErrorKind::WriteZero));
        }
    }
    Ok(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passphrase_is_all_of_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pw");
        std::fs::write(&path, "pass\n").unwrap();
        let object = take("--disk d0", &path).unwrap();
        let mut bytes = [0; 6];
        let at = PASSPHRASE_AT as u64;
        file::read_bytes_at(&object, at, &mut bytes, Transfer::default()).unwrap();
        assert_eq!(&bytes, b"pass\n\0");
    }

    #[test]
    fn what_is_no_passphrase_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pw");
        let reason = || take("--disk d0", &path).unwrap_err().reason;
        assert_eq!(reason(), "there is no such file");
        std::fs::write(&path, "").unwrap();
        assert_eq!(reason(), "it is empty");
        std::fs::write(&path, vec![b'x'; LONGEST_PASSPHRASE + 1]).unwrap();
        assert!(reason().contains("longer than"));
        let folder = take("--disk d0", folder.path()).unwrap_err().reason;
        assert_eq!(folder, "it is no file");
    }
}
