#!/bin/sh
# What there is to know about Cairn on a GPU, by one command: devices and ops against the CPU, training and
# checkpoints against the CPU, compute-sanitizer, and speed beside PyTorch.
#   tests/gpu.sh [PART...]                devices ops programs sanitizer bench; without any: all of them
#   tests/gpu.sh --rehearse [PART...]     with the CPU and small shapes in the GPU's place
#   tests/gpu.sh --pack DIR               makes a folder for another machine, on which DIR/gpu.sh is this command
#   tests/gpu.sh --insert FILE            puts the results that such a folder gave into docs/gpu-results.md
# A run of all parts on a GPU writes its results into docs/gpu-results.md, between two markers; in a packed folder
# into gpu-results.md. Needs python3; PEER_PYTHON names one that has PyTorch. What a machine lacks is left out, and
# the results say so. Exit status 1: something failed, or there is no GPU.
set -u
here=$(cd "$(dirname "$0")" && pwd)
begin='<!-- begin: written by tests/gpu.sh -->'
end='<!-- end: written by tests/gpu.sh -->'
die() { echo "gpu.sh: $*" >&2; exit 1; }

if [ -x "$here/bin/cairn" ]; then  # a packed folder
  tree=""
  bin=$here/bin
  configs=$here/share/cairn/configs
  results=$here/gpu-results.md
  version=$(cat "$here/version")
else
  tree=$(dirname "$here")
  bin=$tree/build/release/bin
  configs=$tree/configs
  results=$tree/docs/gpu-results.md
  version=$(git -C "$tree" describe --always --dirty 2>/dev/null || echo "unknown version")
fi

build() {
  [ -n "$tree" ] || return 0
  (cd "$tree" && cmake --preset release >/dev/null &&
    cmake --build build/release --target cairn test_runtime_device test_runtime_ops -- --quiet) ||
    die "the build failed"
}

# pack DIR
pack() {
  [ -n "$tree" ] || die "only a checkout packs"
  build
  "$tree/launcher/bundle.sh" "$1" "$bin/cairn" "$bin/test_runtime_device" "$bin/test_runtime_ops" || exit 1
  cp -R "$here/gpu.sh" "$here/gpu" "$1/"
  mkdir "$1/peers"
  cp "$here/peers/gpt.py" "$here/peers/config.py" "$1/peers/"
  echo "$version" >"$1/version"
  echo "$1: $(($(tar -C "$1" -c . | gzip | wc -c) / 1048576)) MiB compressed; $1/gpu.sh"
}

# insert SECTION FILE: puts the file SECTION, markers included, in the place of the one in FILE, or at its end.
insert() {
  grep -qxF "$begin" "$1" && grep -qxF "$end" "$1" || die "$1 has no results of gpu.sh"
  if [ ! -e "$2" ] || ! grep -qxF "$begin" "$2"; then
    cat "$1" >>"$2"
    return
  fi
  awk -v begin="$begin" -v end="$end" -v section="$1" '
    $0 == begin { while ((getline line < section) > 0) print line; within = 1 }
    !within { print }
    $0 == end { within = 0 }' "$2" >"$2.new" && mv "$2.new" "$2"
}

# The first Python that has a PyTorch with torch.compile; nothing where there is none.
find_torch() {
  for python in "${PEER_PYTHON:-}" python3; do
    [ -n "$python" ] && "$python" -c 'import torch; torch.compile' 2>/dev/null && echo "$python" && return
  done
  [ -z "$tree" ] || "$here/peers/environment.sh" 2>>"$work/log"
}

# unit_tests PROGRAM FILTER: of a GoogleTest program; its output goes to the log.
unit_tests() {
  "$bin/$1" --gtest_filter="$2" >"$work/unit" 2>&1
  status=$?
  cat "$work/unit" >>"$work/log"
  sed -nE -e 's/^\[  PASSED  \] ([0-9]+) tests?\.$/\1 tests passed./p' \
    -e 's/^\[  FAILED  \] ([A-Za-z]+[./][^ ,]+).*/- FAILED: \1/p' "$work/unit" | sort -u
  # A filter that fits nothing proves nothing.
  grep -qE '^\[  PASSED  \] [1-9]' "$work/unit" && return $status
  echo "No test passed."
  return 1
}

part_devices() { unit_tests test_runtime_device "*AnyDevice*$device*${gpu:+:GpuTest*}"; }
part_ops() { unit_tests test_runtime_ops "*OpOnDevice*/${device}_*"; }
part_programs() { timeout 240 python3 "$here/gpu/programs.py" "$bin" --device "$device"; }
part_sanitizer() {
  if ! command -v compute-sanitizer >/dev/null; then
    echo "Left out: compute-sanitizer is not on this machine."
    return
  fi
  for tool in memcheck racecheck; do
    timeout 120 python3 "$here/gpu/programs.py" "$bin" --device "$device" \
      --under "compute-sanitizer --tool $tool --error-exitcode 9" || return 1
  done
}
part_bench() {
  timeout 600 python3 "$here/gpu/bench.py" "$bin" "$configs" --device "$device" --python "$(find_torch)"
}

# The card and its driver, of what says so here.
card() {
  nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null | head -n 1 | grep . ||
    "$bin/cairn" doctor --json | python3 -c '
import json, sys
print(*(check["text"] for check in json.load(sys.stdin)["checks"] if check["name"] == "GPUs"))'
}

all="devices ops programs sanitizer bench"
device=cuda
gpu=1
case ${1:-} in
  --pack) [ $# -eq 2 ] || die "--pack DIR"; pack "$2"; exit ;;
  --insert) [ $# -eq 2 ] || die "--insert FILE"; insert "$2" "$results"; exit ;;
  --rehearse) device=cpu; gpu=""; shift ;;
esac
for name; do
  case " $all " in *" $name "*) ;; *) die "no part $name; there are: $all" ;; esac
done
complete=""
[ $# -gt 0 ] || { complete=1; set -- $all; }

command -v python3 >/dev/null || die "python3 is missing"
build
PATH="$PATH:/usr/local/cuda/bin"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM HUP
if [ -n "$gpu" ]; then
  export CAIRN_REQUIRE_GPU=1
  "$bin/test_runtime_device" --gtest_filter='GpuTest.HasAName*' >"$work/probe" 2>&1 || {
    tail -n 20 "$work/probe" >&2
    die "no GPU that this build can use (GPUs: $(card)). See \`cairn doctor\`; --rehearse has the CPU stand in"
  }
fi

where="a rehearsal on the CPU, which says nothing of a GPU"
[ -z "$gpu" ] || where=$(card)
printf '%s\n## Results of `tests/gpu.sh`\n\n%s, %s; %s.\n' "$begin" "$(date -u +%Y-%m-%d)" "$version" "$where" \
  >"$work/section"
failed=""
started=$(date +%s)
for name; do
  printf '\n### %s\n\n' "$name" | tee -a "$work/section"
  now=$(date +%s)
  { part_"$name" 2>>"$work/log" || : >"$work/failed-$name"; } | tee -a "$work/section"
  if [ -e "$work/failed-$name" ]; then
    failed="$failed $name"
    printf '\nFAILED.\n' | tee -a "$work/section"
    tail -n 40 "$work/log" >&2
  fi
  printf '\n(%s s)\n' "$(($(date +%s) - now))" | tee -a "$work/section"
done
verdict="nothing failed"
[ -z "$failed" ] || verdict="failed:$failed"
printf '\nAll in %s s; %s.\n' "$(($(date +%s) - started))" "$verdict" | tee -a "$work/section"
echo "$end" >>"$work/section"
if [ -n "$complete" ] && [ -n "$gpu" ]; then
  insert "$work/section" "$results"
  echo "written to $results"
fi
[ -z "$failed" ]
