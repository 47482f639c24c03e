//! Volumes in memory: made here, opened here; and headers that somebody has changed.

use proptest::prelude::*;

use super::cipher::{Mode, Spec, Start};
use super::header::{BYTES, Hash, Header};
use super::*;
use crate::memory::{Heap, Memory};
use crate::outcome::Failure;
use crate::qcow2::{Layer, LuksLayer};
use crate::storage::Storage;
use crate::storage::memory::MemoryFile;
use crate::task::finish;

fn random() -> impl FnMut(&mut [u8]) -> Result<(), String> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    move |bytes| {
        for byte in bytes {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *byte = state as u8;
        }
        Ok(())
    }
}

fn wanted(spec: Spec, key_bytes: usize, hash: Hash) -> Wanted {
    Wanted { spec, key_bytes, hash, rounds: 1000 }
}

fn made(wanted: &Wanted, size: u64) -> MemoryFile {
    let file = MemoryFile::default();
    let (header, _) = finish(create(&file, 0, wanted, b"secret", random())).unwrap();
    let end = u64::from(header.payload) * SECTOR + size;
    finish(file.write(end - SECTOR, Heap::zeroes(512).into())).unwrap();
    file
}

fn usual() -> Wanted {
    wanted(Wanted::default().spec, 64, Hash::Sha256)
}

#[test]
fn a_passphrase_opens_what_it_closed_and_no_other_does() {
    let xts = Spec { mode: Mode::Xts, start: Start::Plain64 };
    let cbc = Spec { mode: Mode::Cbc, start: Start::Essiv };
    for (spec, key_bytes, hash) in [
        (xts, 64, Hash::Sha256),
        (xts, 32, Hash::Sha1),
        (cbc, 32, Hash::Sha512),
        (cbc, 24, Hash::Sha256),
        (cbc, 16, Hash::Sha256),
    ] {
        let file = made(&wanted(spec, key_bytes, hash), 1 << 20);
        let (volume, key) = finish(Volume::unlock(&file, 0, None, b"secret")).unwrap();
        assert_eq!((volume.header.spec, volume.header.hash), (spec, hash));
        let again = finish(Volume::header(&file, 0)).unwrap();
        assert!(Volume::with_key(again.clone(), &key).is_ok());
        assert_eq!(Volume::with_key(again, &key[1..]).unwrap_err(), UnlockError::Key);
        let wrong = finish(Volume::unlock(&file, 0, None, b"secret\n"));
        assert_eq!(wrong.unwrap_err(), UnlockError::Passphrase);
    }
}

#[test]
fn a_volume_reads_as_it_was_written_and_its_file_shows_nothing_of_it() {
    let file = made(&usual(), 2 << 20);
    let (volume, _) = finish(Volume::unlock(&file, 0, None, b"secret")).unwrap();
    let layer = Layer::from(LuksLayer::new(file.clone(), volume).unwrap());
    assert_eq!(layer.size(), 2 << 20);
    let text: Vec<u8> = (0..1 << 20).map(|n: u32| (n / 512 + n) as u8).collect();
    finish(layer.write(512, Heap::copy_of(&text).into())).unwrap();
    let read = |at: u64, len: usize| {
        let heap = Heap::zeroes(len);
        finish(layer.read(at, heap.clone().into())).unwrap();
        heap.to_vec()
    };
    assert!(read(512, 1 << 20) == text);
    assert!(read(1000, 300_000) == text[488..300_488]);
    assert!(!file.bytes().windows(64).any(|window| window == &text[4096..4160]));
    finish(layer.zero(1024, 512 << 10, true)).unwrap();
    assert!(read(1024, 512 << 10).iter().all(|byte| *byte == 0));
    assert!(read(512, 512) == text[..512]);
    finish(layer.discard(0, 4096)).unwrap();
    assert!(read(512, 512) == text[..512], "discarding takes nothing away");
    let half = Memory::from(Heap::zeroes(100));
    assert_eq!(finish(layer.write(512, half)), Err(Failure::INVALID));
    assert!(!layer.zeroes_fast(0, 4096));
}

#[test]
fn a_header_is_written_as_it_is_read() {
    let file = made(&usual(), 4096);
    let header = finish(Volume::header(&file, 0)).unwrap();
    assert_eq!(Header::read(&header.write()), Ok(header.clone()));
    // QEMU's places for this cipher.
    assert_eq!(u64::from(header.payload) * SECTOR, 2_068_480);
    assert_eq!(header.uuid.len(), 36);
}

#[test]
fn what_is_not_served_is_refused_by_name() {
    let bytes = made(&usual(), 4096).bytes();
    let refusal = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = bytes[..BYTES].to_vec();
        change(&mut bytes);
        Header::read(&bytes).unwrap_err().to_string()
    };
    assert!(refusal(&|bytes| bytes[0] = 0).contains("not in LUKS format"));
    assert!(refusal(&|bytes| bytes[7] = 2).contains("version 2"));
    assert!(refusal(&|bytes| bytes[8..15].copy_from_slice(b"serpent")).contains("serpent-xts"));
    assert!(refusal(&|bytes| bytes[72..78].copy_from_slice(b"ripemd")).contains("ripemd"));
    assert!(refusal(&|bytes| bytes[111] = 17).contains("key of 17 bytes"));
    assert!(refusal(&|bytes| bytes[208] = 1).contains("slot 0"));
    assert!(refusal(&|bytes| bytes.truncate(300)).contains("ends within"));
    assert!(refusal(&|bytes| bytes[212..216].fill(0xff)).contains("rounds of key derivation"));
    assert!(refusal(&|bytes| bytes[212..216].fill(0)).contains("slot 0 has 0 rounds"));
    let free = 0xdead_u32.to_be_bytes();
    assert!(refusal(&|bytes| bytes[208..212].copy_from_slice(&free)).contains("no slot"));
}

#[test]
fn keys_that_lie_outside_of_their_room_are_not_looked_for() {
    let file = made(&usual(), 4096);
    let little = finish(Volume::unlock(&file, 0, Some(4096), b"secret"));
    assert_eq!(little.unwrap_err(), UnlockError::Room(4096));
}

proptest! {
    #[test]
    fn no_header_is_believed_beyond_its_limits(
        changes in prop::collection::vec((0..BYTES, any::<u8>()), 0..24),
        len in 0..=BYTES,
    ) {
        let mut bytes = template();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        let whole = Header::read(&bytes);
        if let Ok(header) = &whole {
            prop_assert!(header.key_bytes <= 64 && header.end() < 1 << 42);
            prop_assert!(header.active().all(|slot| header.material(slot) <= 256_000));
            let rewritten = Header::read(&header.write());
            prop_assert_eq!(rewritten.as_ref().map(|h| &h.slots), Ok(&header.slots));
        }
        let _shorter_never_panics = Header::read(&bytes[..len]);
    }
}

fn template() -> Vec<u8> {
    thread_local!(static BYTES_OF_ONE: Vec<u8> = made(&usual(), 4096).bytes()[..BYTES].to_vec());
    BYTES_OF_ONE.with(Clone::clone)
}
