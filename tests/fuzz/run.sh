#!/bin/bash
# Fuzzes every decoder of tests/hostile for some seconds each, and ends with 1 if one of them fell.
#
# Called by `make fuzz`. SECONDS_EACH (30) and DECODERS (all) may be set. What was found stays in target/fuzz: the
# corpus grows from run to run, and an input that kills a decoder is kept in artifacts/NAME/ (to be repeated by
# `target/fuzz/build/…/NAME FILE`).
# The stable compiler does: coverage is a pass of LLVM. Absent on purpose: sanitizers, which need the nightly one; the
# crates that have unsafe code run under Miri and loom in their own tests.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit

readonly host=x86_64-unknown-linux-gnu folder=$PWD/target/fuzz
seconds=${SECONDS_EACH:-30}

coverage=(-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Ccodegen-units=1)

mapfile -t decoders < <(cargo run --quiet --locked -p bulkhead-hostile --example samples -- "$folder/samples")
[ ${#decoders[@]} -gt 0 ]
RUSTFLAGS="${coverage[*]}" CARGO_TARGET_DIR=$folder/build \
    cargo build --quiet --locked --release --target "$host" --manifest-path tests/fuzz/Cargo.toml

fell=()
for decoder in ${DECODERS:-${decoders[@]}}; do
    mkdir -p "$folder/corpus/$decoder" "$folder/artifacts/$decoder"
    log=$folder/$decoder.log
    # 64 MiB: no decoder may allocate what a lying length asks for.
    if "$folder/build/$host/release/$decoder" -max_total_time="$seconds" -timeout=10 -malloc_limit_mb=64 \
        -rss_limit_mb=1024 -print_final_stats=1 -artifact_prefix="$folder/artifacts/$decoder/" \
        "$folder/corpus/$decoder" "$folder/samples/$decoder" >"$log" 2>&1; then
        runs=$(awk '/number_of_executed_units/ { print $2 }' "$log")
        cover=$(grep -oE 'cov: [0-9]+' "$log" | tail -1)
        echo "$decoder: $runs inputs in ${seconds}s, ${cover:-cov: ?}"
    else
        fell+=("$decoder")
        echo "$decoder: FELL; see $log and $folder/artifacts/$decoder" >&2
    fi
done
[ ${#fell[@]} -eq 0 ]
