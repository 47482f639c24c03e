#!/bin/bash
# The software CPU's figures beside QEMU's TCG. Called by `make bench-cpu`; wants a quiet machine.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

cpu=$(sed -n 's/^model name\s*: //p' /proc/cpuinfo | head -n 1)
echo "$(date +%F), $cpu, $(uname -sr), guest $(cat target/guest/release), $(qemu-system-x86_64 --version | head -n 1)"
echo
cargo run --quiet --locked --release -p bulkhead-bench -- --cpu --seconds 0.4 "$@"
