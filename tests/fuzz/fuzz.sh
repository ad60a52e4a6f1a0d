#!/bin/sh
# Feeds one target a number of inputs. What breaks it is left in BUILD/fuzz_found/.
#   tests/fuzz/fuzz.sh BUILD TARGET RUNS               the same inputs each time
#   tests/fuzz/fuzz.sh BUILD TARGET RUNS SEED CORPUS   others, building on what CORPUS has and adding to it
set -eu
build=$1
target=$2
runs=$3
seed=${4:-1}
corpus=${5:-$build/fuzz_scratch/$target}
[ $# -eq 5 ] || rm -rf "$corpus"
mkdir -p "$build/fuzz_found" "$corpus"
# The timeout is for inputs that never end: its clock also runs while a busy machine lets the target wait.
set -- -seed="$seed" -runs="$runs" -timeout=300 -rss_limit_mb=2048 -print_final_stats=1 -verbosity=0
dictionary=$build/fuzz_seeds/$target.dict
[ ! -f "$dictionary" ] || set -- "$@" -dict="$dictionary"
exec "$build/bin/fuzz_$target" "$@" -artifact_prefix="$build/fuzz_found/$target-" \
  "$corpus" "$build/fuzz_seeds/$target"
