//! The header of a LUKS volume, in front of keys as they should be.

use std::cell::OnceCell;

use bulkhead_block_layer::luks::header::{BYTES, Header};
use bulkhead_block_layer::luks::{Volume, Wanted, create};
use bulkhead_block_layer::storage::memory::MemoryFile;
use bulkhead_block_layer::task::finish;

use super::Verdict;

/// Rounds of key derivation that are worth an input's time.
const MOST_ROUNDS: u64 = 20_000;

const PASSPHRASE: &[u8] = b"secret";

/// The input takes the place of a volume's header.
pub fn run(bytes: &[u8]) -> Verdict {
    let Ok(header) = Header::read(bytes) else {
        return Verdict::Refused;
    };
    assert!(header.key_bytes <= 64 && header.active().count() > 0);
    assert!(header.active().all(|slot| header.material(slot) <= 64 * 4000));
    let again = Header::read(&header.write()).expect("what was read can be written");
    assert_eq!((again.slots, again.payload), (header.slots, header.payload));
    let rounds = header.active().map(|slot| u64::from(slot.rounds)).sum::<u64>();
    if rounds + u64::from(header.digest_rounds) <= MOST_ROUNDS {
        let mut file = template();
        let len = bytes.len().min(BYTES);
        file[..len].copy_from_slice(&bytes[..len]);
        let opened = finish(Volume::unlock(&MemoryFile::with(file), 0, None, PASSPHRASE));
        assert!(opened.is_ok() || header.write() != template()[..BYTES]);
    }
    Verdict::Accepted
}

/// As it is in a volume.
pub fn samples() -> Vec<Vec<u8>> {
    vec![template()[..BYTES].to_vec()]
}

/// A volume without a disk.
fn template() -> Vec<u8> {
    thread_local!(static MADE: OnceCell<Vec<u8>> = const { OnceCell::new() });
    MADE.with(|made| made.get_or_init(make).clone())
}

fn make() -> Vec<u8> {
    let file = MemoryFile::default();
    let wanted = Wanted { key_bytes: 32, rounds: 1000, ..Wanted::default() };
    let mut state = 1u64;
    let noise = |bytes: &mut [u8]| {
        for byte in bytes {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = (state >> 56) as u8;
        }
        Ok(())
    };
    finish(create(&file, 0, &wanted, PASSPHRASE, noise)).expect("a volume");
    file.bytes()
}
