//! Every decoder under thousands of inputs, and its wrapper for the fuzzer beside it.

use std::path::Path;

use bulkhead_hostile::attack::attack;
use bulkhead_hostile::decoder::{DECODERS, Verdict, named};

/// Attacks a decoder; a share of the inputs gets through to where the damage would be.
fn survives(name: &str) {
    let decoder = named(name).expect("a decoder of that name");
    let tally = attack(decoder);
    let all = tally.accepted + tally.refused;
    assert!(tally.accepted * 50 >= all, "hardly an input gets anywhere: {tally:?}");
    assert!(tally.refused * 50 >= all, "hardly an input is refused: {tally:?}");
}

macro_rules! survivors {
    ($($name:ident)*) => {
        const TESTED: &[&str] = &[$(stringify!($name)),*];
        $(#[test] fn $name() { survives(stringify!($name)); })*
    };
}

survivors! {
    block_request codec engine_end guest_code inflight_packed inflight_split kernel luks_header machine
    nbd_answers nbd_handshake nbd_request packed_queue page_tables pci profile qcow2 qcow2_bitmaps qcow2_counts qcow2_header
    qcow2_packed qcow2_snapshots qcow2_tables ring ring_header split_queue vhost_backend
    vhost_frontend
}

#[test]
fn every_decoder_is_attacked_here_and_by_the_fuzzer() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/fuzz_targets");
    for decoder in DECODERS {
        assert!(TESTED.contains(&decoder.name), "{} has no test", decoder.name);
        let target = folder.join(decoder.name).with_extension("rs");
        assert!(target.is_file(), "{} is missing", target.display());
    }
}

#[test]
fn samples_are_what_decoders_accept() {
    for decoder in DECODERS {
        let samples = (decoder.samples)();
        let accepted =
            samples.iter().filter(|sample| (decoder.run)(sample) == Verdict::Accepted).count();
        assert!(accepted * 2 >= samples.len(), "{}: {accepted} of {}", decoder.name, samples.len());
    }
}

#[test]
fn the_same_bytes_come_to_the_same() {
    for decoder in DECODERS {
        for sample in (decoder.samples)() {
            assert_eq!((decoder.run)(&sample), (decoder.run)(&sample), "{}", decoder.name);
        }
    }
}
