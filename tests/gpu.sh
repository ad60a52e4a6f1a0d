#!/bin/sh
# What there is to know about Cairn on a GPU, by one command: devices and ops against the CPU, training and
# checkpoints against the CPU, compute-sanitizer, and speed beside PyTorch.
#   tests/gpu.sh [PART...]                devices ops programs bench sanitizer; without any: all of them
#   tests/gpu.sh --rehearse [PART...]     with the CPU and small shapes in the GPU's place
#   tests/gpu.sh --pack DIR               makes a folder for another machine, on which DIR/gpu.sh is this command
#   tests/gpu.sh --insert FILE            puts the parts that FILE has results of into docs/gpu-results.md
# Results grow, line by line, in gpu-results.md (of a rehearsal: gpu-rehearsal.md) under $OUT, build/, or the packed
# folder; a run on a GPU in a checkout inserts them at its end, each part between two markers in the place of its
# last ones. Needs python3; PEER_PYTHON names one that has PyTorch. What a machine lacks is left out, and the
# results say so. Exit status 1: something failed, or there is no GPU.
set -u
here=$(cd "$(dirname "$0")" && pwd)
begin() { echo "<!-- begin: $1, written by tests/gpu.sh -->"; }
end() { echo "<!-- end: $1, written by tests/gpu.sh -->"; }
die() { echo "gpu.sh: $*" >&2; exit 1; }

if [ -x "$here/bin/cairn" ]; then  # a packed folder
  tree=""
  bin=$here/bin
  configs=$here/share/cairn/configs
  results=""
  kept=${OUT:-$here}
  version=$(cat "$here/version")
else
  tree=$(dirname "$here")
  bin=$tree/build/release/bin
  configs=$tree/configs
  results=$tree/docs/gpu-results.md
  kept=${OUT:-$tree/build}
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

# insert FROM FILE: puts each part in FROM into FILE, in the place of that part there or at the end.
insert() {
  found=""
  for part in $all; do
    grep -qxF "$(begin "$part")" "$1" || continue
    found=1
    awk -v begin="$(begin "$part")" -v end="$(end "$part")" '
      $0 == begin { within = 1 }
      within { print }
      $0 == end { within = 0 }
      END { if (within) print "\nFAILED: cut short.\n" end }' "$1" >"$work/part"
    if grep -qxF "$(begin "$part")" "$2"; then
      awk -v begin="$(begin "$part")" -v end="$(end "$part")" -v part="$work/part" '
        $0 == begin { while ((getline line < part) > 0) print line; within = 1 }
        !within { print }
        $0 == end { within = 0 }' "$2" >"$work/new"
    else
      title='## Results of `tests/gpu.sh`'
      { cat "$2"; grep -qxF "$title" "$2" || printf '\n%s\n' "$title"; echo; cat "$work/part"; } >"$work/new"
    fi
    cat "$work/new" >"$2"
  done
  [ -n "$found" ] || die "$1 has no results of gpu.sh"
  echo "written to $2"
}

# The first Python that has a PyTorch with torch.compile, which sees the GPU; nothing where there is none.
find_torch() {
  usable="import torch; torch.compile${gpu:+; assert torch.cuda.is_available()}"
  for python in "${PEER_PYTHON:-}" python3; do
    [ -n "$python" ] && "$python" -c "$usable" 2>>"$work/log" && echo "$python" && return
  done
  [ -n "$tree" ] && python=$("$here/peers/environment.sh" 2>>"$work/log") &&
    "$python" -c "$usable" 2>>"$work/log" && echo "$python"
}

# limit SECONDS COMMAND...
limit() {
  timeout "$@"
  status=$?
  [ $status -ne 124 ] || printf '\n- FAILED: it took more than %s s\n' "$1"
  return $status
}

# unit_tests PROGRAM FILTER: of a GoogleTest program; its output goes to the log.
unit_tests() {
  limit 180 "$bin/$1" --gtest_filter="$2" >"$work/unit" 2>&1
  status=$?
  cat "$work/unit" >>"$work/log"
  sed -nE -e 's/^\[  PASSED  \] ([0-9]+) tests?\.$/\1 tests passed./p' \
    -e 's/^\[  FAILED  \] ([A-Za-z]+[./][^ ,]+).*/- FAILED: \1/p' "$work/unit" | sort -u
  if [ $status -eq 124 ]; then
    tail -n 1 "$work/unit"
    sed -n 's/^\[ RUN      \] /  in /p' "$work/unit" | tail -n 1
    return 1
  fi
  # A filter that fits nothing proves nothing.
  grep -qE '^\[  PASSED  \] [1-9]' "$work/unit" && return $status
  echo "No test passed."
  return 1
}

part_devices() { unit_tests test_runtime_device "*AnyDevice*$device*${gpu:+:GpuTest*}"; }
part_ops() { unit_tests test_runtime_ops "*OpOnDevice*/${device}_*"; }
part_programs() { limit 420 python3 "$here/gpu/programs.py" "$bin" --device "$device"; }
part_sanitizer() {
  if ! command -v compute-sanitizer >/dev/null; then
    echo "Left out: compute-sanitizer is not on this machine."
    return
  fi
  seen=0
  for tool in memcheck racecheck; do
    limit 240 python3 "$here/gpu/programs.py" "$bin" --device "$device" \
      --under "compute-sanitizer --tool $tool --error-exitcode 9" || seen=1
    echo
  done
  return $seen
}
part_bench() {
  limit 540 python3 "$here/gpu/bench.py" "$bin" "$configs" --device "$device" --python "$(find_torch)"
}

# What the programs of a part said of slower ways that they took.
slow() {
  sed -nE 's/^[WE][0-9]{8} [^]]*\] (.*(slower than cuDNN|no fused kernel|no memory to time).*)/\1/p' "$work/log" |
    sort -u
}

# The card and its driver, of what says so here.
card() {
  nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null | head -n 1 | grep . ||
    "$bin/cairn" doctor --json | python3 -c '
import json, sys
print(*(check["text"] for check in json.load(sys.stdin)["checks"] if check["name"] == "GPUs"))'
}

all="devices ops programs bench sanitizer"
device=cuda
gpu=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM HUP
case ${1:-} in
  --pack) [ $# -eq 2 ] || die "--pack DIR"; pack "$2"; exit ;;
  --insert)
    [ $# -eq 2 ] || die "--insert FILE"
    [ -n "$tree" ] || die "only a checkout has results to insert into"
    insert "$2" "$results"
    exit
    ;;
  --rehearse) device=cpu; gpu=""; shift ;;
esac
for name; do
  case " $all " in *" $name "*) ;; *) die "no part $name; there are: $all" ;; esac
done
[ $# -gt 0 ] || set -- $all

command -v python3 >/dev/null || die "python3 is missing"
build
PATH="$PATH:/usr/local/cuda/bin"
if [ -n "$gpu" ]; then
  export CAIRN_REQUIRE_GPU=1
  "$bin/test_runtime_device" --gtest_filter='GpuTest.HasAName*' >"$work/probe" 2>&1 || {
    tail -n 20 "$work/probe" >&2
    die "no GPU that this build can use (GPUs: $(card)). See \`cairn doctor\`; --rehearse has the CPU stand in"
  }
fi

where="a rehearsal on the CPU, which says nothing of a GPU"
[ -z "$gpu" ] || where=$(card)
if [ -n "$gpu" ]; then kept=$kept/gpu-results.md; else kept=$kept/gpu-rehearsal.md; fi
failed=""
started=$(date +%s)
mkdir -p "$(dirname "$kept")"
: >"$kept"
for name; do
  : >"$work/log"
  { begin "$name"; printf '### %s\n\n%s, %s; %s.\n\n' "$name" "$(date -u +%Y-%m-%d)" "$version" "$where"; } |
    tee -a "$kept"
  now=$(date +%s)
  { part_"$name" 2>>"$work/log" || : >"$work/failed-$name"; } | tee -a "$kept"
  slow >"$work/slow"
  if [ -s "$work/slow" ]; then
    { printf '\nSlower ways taken:\n'; sed 's/^/- /' "$work/slow"; } | tee -a "$kept"
  fi
  if [ "$name" = bench ] && grep -q "slower than cuDNN" "$work/slow"; then
    printf '\n- FAILED: attention did not run in cuDNN\n' | tee -a "$kept"
    : >"$work/failed-$name"
  fi
  if [ -e "$work/failed-$name" ]; then
    failed="$failed $name"
    printf '\nFAILED.\n' | tee -a "$kept"
    tail -n 40 "$work/log" >&2
  fi
  { printf '\n(%s s)\n' "$(($(date +%s) - now))"; end "$name"; echo; } | tee -a "$kept"
done
verdict="nothing failed"
[ -z "$failed" ] || verdict="failed:$failed"
printf 'All in %s s; %s.\n' "$(($(date +%s) - started))" "$verdict" | tee -a "$kept"
[ -z "$gpu" ] || [ -z "$results" ] || insert "$kept" "$results"
[ -z "$failed" ]
