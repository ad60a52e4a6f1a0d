#!/bin/sh
# A training step over 2 and 4 ranks of this machine's two cores beside one rank with 2 threads, in turns:
#   tests/peers/ranks.sh [ROUNDS] [CONFIG] [overrides]       (3, small)
set -eu
cd "$(dirname "$0")/../.."
. launcher/mpi_environment.sh
PATH="$PWD/build/release/bin:$PATH" exec python3 tests/peers/ranks.py "$@"
