#!/bin/sh
# The order of the floors and rooms (a folder includes only what stands below it), and the length of
# files: at most 800 lines each.
set -eu
cd "$(dirname "$0")/../.."
bad=0

# forbid FOLDER PATTERN: no file of FOLDER includes what PATTERN matches.
forbid() {
  if git grep -nE "#include \"($2)/" -- "$1/*.h" "$1/*.cc" "$1/*.cu"; then
    echo "$1 includes a floor or room that does not stand below it"
    bad=1
  fi
}

forbid runtime 'parallel|model|optimizer|launcher'
forbid parallel 'model|optimizer|launcher'
forbid model 'optimizer|launcher'
forbid optimizer 'model|launcher'
forbid parallel/pipeline 'runtime/(device|tensor|autograd|ops|config|checkpoint|data|telemetry)'
forbid runtime/base 'runtime/(device|tensor|autograd|ops|config|checkpoint|data|telemetry)'
forbid runtime/device 'runtime/(tensor|autograd|ops|config|checkpoint|data|telemetry)'
forbid runtime/tensor 'runtime/(autograd|ops|config|checkpoint|data|telemetry)'
forbid runtime/autograd 'runtime/(ops|config|checkpoint|data|telemetry)'
forbid runtime/ops 'runtime/(config|checkpoint|data|telemetry)'
for room in config checkpoint data telemetry; do
  others=$(printf '%s\n' config checkpoint data telemetry | grep -v "^$room$" | paste -sd'|')
  forbid "runtime/$room" "runtime/(device|tensor|autograd|ops|$others)"
done

# Generated protobuf headers stay in their rooms; factories take a config apart for the others.
if git grep -nE '#include ".*\.pb\.h"' -- '*.h' '*.cc' | grep -vE '^(runtime/(config|checkpoint|telemetry)|tests/runtime/(config|checkpoint|telemetry)|tests/fuzz)/'; then
  echo "a generated header is included outside its room"
  bad=1
fi

long=$(git ls-files -- '*.cc' '*.h' '*.cu' '*.sh' '*.py' '*.cmake' '*CMakeLists.txt' |
  xargs wc -l | awk '$2 != "total" && $1 > 800 { print "  " $2 ": " $1 " lines" }')
if [ -n "$long" ]; then
  printf 'files of more than 800 lines:\n%s\n' "$long"
  bad=1
fi
exit $bad
