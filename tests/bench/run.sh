#!/bin/bash
# All figures of the README, one table after the other. Called by `make bench`; wants a quiet machine.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

echo "$(uname -sr), $(nproc) CPUs, $(qemu-storage-daemon --version | head -n 1)"
cargo run --quiet --locked --release -p bulkhead-bench -- --start
echo
cargo run --quiet --locked --release -p bulkhead-bench -- "$@"
