#!/bin/sh
# Training steps of Cairn and of the newest PyTorch that the Python package index has for this machine, in
# turns, on the same threads:
#   tests/peers/compare.sh [--rounds N] [--precisions fp32,bf16] [--peers eager,compile] [small] [gpt2-124m] [FIELD=VALUE...]
# Exit status 77: see environment.sh.
set -eu
cd "$(dirname "$0")/../.."
python=$(tests/peers/environment.sh)
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$(nproc)}"
PATH="$PWD/build/release/bin:$PATH" exec "$python" tests/peers/compare.py "$@"
