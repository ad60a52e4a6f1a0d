#!/bin/sh
# Faults of the disk, kills and power losses at random points of saves drawn at random, and then hostile
# inputs (tests/fuzz/soak.sh).
# usage: tests/soak.sh [POINTS [SEED [INPUTS]]]  (100000 points from a random seed; 10000000 inputs for each
# target, 0: none)
# Prints what replays a failure.
set -eu
cd "$(dirname "$0")/.."
export CCACHE_BASEDIR="$PWD" CCACHE_NOHASHDIR=1
points=${1:-100000}
seed=${2:-$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')}
mkdir -p build
cmake --preset release >build/release.log 2>&1 || { cat build/release.log; exit 1; }
cmake --build build/release --target faults_soak -- --quiet
echo "seed $seed"
build/release/bin/faults_soak "$points" "$seed"
[ "${3:-}" = 0 ] || ./tests/fuzz/soak.sh ${3:-}
