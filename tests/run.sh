#!/bin/sh
# Installs what is missing, builds, and runs every test: the checks of the tree, the release build, the
# libraries of others that read Cairn's files, the thread-rank tests under ASan+UBSan and TSan, and a fixed
# number of hostile inputs. Ends with one line "N passed, N failed".
set -u
cd "$(dirname "$0")/.."
# One compiler cache for every checkout of this tree.
export CCACHE_BASEDIR="$PWD" CCACHE_NOHASHDIR=1

./launcher/install_dependencies.sh --tests || exit 1
. ./launcher/mpi_environment.sh

passed=0
failed=0
skipped=0
jobs=$(nproc)

# stage NAME COMMAND...: runs it, and counts it as one test. Status 77: it lacks something that it names.
stage() {
  name=$1
  shift
  printf '\n== %s\n' "$name"
  start=$(date +%s)
  status=0
  "$@" || status=$?
  case $status in
    0) passed=$((passed + 1)) ;;
    77) skipped=$((skipped + 1)) ;;
    *)
      failed=$((failed + 1))
      printf 'FAILED: %s\n' "$name"
      ;;
  esac
  printf '(%s: %ss)\n' "$name" "$(($(date +%s) - start))"
}

# suite PRESET TARGET [ctest arguments...]: builds a target of a preset and runs tests, each counted.
suite() {
  preset=$1
  target=$2
  shift 2
  printf '\n== build and test: %s\n' "$preset"
  start=$(date +%s)
  if ! { cmake --preset "$preset" >"build/$preset.log" 2>&1 ||
         { cat "build/$preset.log"; false; }; } ||
     ! cmake --build "build/$preset" --target "$target" -- --quiet; then
    failed=$((failed + 1))
    printf 'FAILED: build of %s\n' "$preset"
    return
  fi
  printf '(build of %s: %ss)\n' "$preset" "$(($(date +%s) - start))"
  log=build/$preset/ctest.log
  ctest --test-dir "build/$preset" --output-on-failure --no-tests=error "$@" >"$log" 2>&1
  grep -vE '^Internal ctest|^ *Start ' "$log"
  ok=$(grep -cE ' Passed +[0-9.]+ sec' "$log")
  without=$(grep -cE '\*\*\*Skipped +[0-9.]+ sec' "$log")
  total=$(sed -nE 's/.* tests failed out of ([0-9]+)$/\1/p' "$log")
  passed=$((passed + ok))
  skipped=$((skipped + without))
  # No summary means that ctest itself failed.
  failed=$((failed + ${total:-$((ok + without + 1))} - ok - without))
}

mkdir -p build
stage "formatting" ./tests/tree/check_format.sh
stage "floors and file lengths" ./tests/tree/check_floors.sh
suite release all -j "$jobs"
stage "Hugging Face's libraries" ./tests/interop/hugging_face.sh
stage "clang-tidy" ./tests/tree/check_tidy.sh
suite asan thread_tests -j "$jobs" -L threads
suite tsan thread_tests -j "$jobs" -L threads
suite fuzz fuzzers -j "$jobs" -L fuzz

printf '\n%d passed, %d failed%s\n' "$passed" "$failed" \
  "$([ "$skipped" -eq 0 ] || printf ', %d skipped' "$skipped")"
[ "$failed" -eq 0 ]
