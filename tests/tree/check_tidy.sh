#!/bin/sh
# clang-tidy over the program's sources, on all cores. A file that passed is not looked at again until
# its preprocessed text or the checks change: its digest is kept in .cache/tidy.
set -eu
cd "$(dirname "$0")/../.."
build=build/release
cache=.cache/tidy
mkdir -p "$cache"

git ls-files '*.cc' | grep -v '^tests/' | xargs -P "$(nproc)" -I{} sh -eu -c '
  file=$1; build=$2; cache=$3
  command=$(python3 -c "
import json, os, sys
for entry in json.load(open(sys.argv[1] + \"/compile_commands.json\")):
    if os.path.relpath(entry[\"file\"]) == sys.argv[2]:
        words = entry[\"command\"].split()
        print(\" \".join(w for w in words[words[0].endswith(\"ccache\"):words.index(\"-o\")] if w not in (\"-MD\",)))
        break
" "$build" "$file")
  [ -n "$command" ] || exit 0
  digest=$( (cat .clang-tidy; clang-tidy --version; eval "$command" -E -P "$file" 2>/dev/null) | sha256sum | cut -d" " -f1)
  [ -f "$cache/$digest" ] && exit 0
  clang-tidy --quiet -p "$build" "$file" 2>/dev/null || { echo "clang-tidy: $file"; exit 1; }
  : > "$cache/$digest"
' sh {} "$build" "$cache"
