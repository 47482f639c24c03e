#!/bin/bash
# The block layer's figures, one table. Called by `make bench-block`; wants a quiet machine.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

echo "$(uname -sr), $(nproc) CPUs, $(qemu-img --version | head -n 1), $(nbdkit --version), $(fio --version)"
cargo run --quiet --locked --release -p bulkhead-bench -- --block "$@"
