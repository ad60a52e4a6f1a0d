#!/bin/sh
# Feeds every target (or those named) a large number of inputs, others than the last time: what was found
# worth keeping stays in build/fuzz/fuzz_corpus and is where the next soak starts.
#   tests/fuzz/soak.sh [RUNS [TARGET...]]      10,000,000 inputs unless told
set -u
cd "$(dirname "$0")/../.."
export CCACHE_BASEDIR="$PWD" CCACHE_NOHASHDIR=1
runs=${1:-10000000}
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- commit safetensors manifest config checkpoint
mkdir -p build
cmake --preset fuzz >build/fuzz.log 2>&1 || { cat build/fuzz.log; exit 1; }
cmake --build build/fuzz --target fuzzers -- --quiet || exit 1
failed=0
for target in "$@"; do
  seed=$(od -An -N3 -tu4 /dev/urandom | tr -d ' ')
  log=build/fuzz/soak-$target.log
  start=$(date +%s)
  if tests/fuzz/fuzz.sh build/fuzz "$target" "$runs" "$seed" "build/fuzz/fuzz_corpus/$target" >"$log" 2>&1; then
    outcome=fine
  else
    outcome="FAILED, see $log and build/fuzz/fuzz_found"
    failed=1
  fi
  units=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  printf '%s: %s inputs in %ss, seed %s: %s\n' "$target" "${units:-?}" "$(($(date +%s) - start))" "$seed" "$outcome"
done
exit $failed
