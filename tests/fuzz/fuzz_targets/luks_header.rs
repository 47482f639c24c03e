#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _verdict = bulkhead_hostile::decoder::luks_header::run(bytes);
});
