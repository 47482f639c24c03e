#!/bin/bash
# Builds the command and its helpers for use: optimised, static, stripped, together in target/dist/bin.
#
# Called by the Makefile. A binary is renamed into place, so that a running one is never written to.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
binaries='bulkhead bulkhead-supervisor bulkhead-launcher bulkhead-control bulkhead-core bulkhead-soft-cpu bulkhead-vhost-blk
    bulkhead-vhost-console bulkhead-vhost-rng bulkhead-gdb bulkhead-block-layer
    bulkhead-nbd-server bulkhead-sink bulkhead-img'

options=()
for binary in $binaries; do options+=(--bin "$binary"); done
cargo build --quiet --locked --profile dist --workspace "${options[@]}"

built=${CARGO_TARGET_DIR:-target}/x86_64-unknown-linux-gnu/dist
mkdir -p target/dist/bin
for binary in $binaries; do
    cmp -s "$built/$binary" "target/dist/bin/$binary" && continue
    install -m 755 "$built/$binary" "target/dist/bin/.$binary.new"
    mv "target/dist/bin/.$binary.new" "target/dist/bin/$binary"
done
