#!/bin/sh
# From nothing to a trained GPT: installs what is missing, builds Cairn, prepares real English text,
# trains a small GPT over 4 ranks (tensor-parallel 2 × pipeline-parallel 2), and looks at the result.
# A second run reuses what is there; --fresh sets the old run aside and trains anew.
set -eu
cd "$(dirname "$0")/.."
# One compiler cache for every checkout of this tree.
export CCACHE_BASEDIR="$PWD" CCACHE_NOHASHDIR=1

program=build/release/bin/cairn
data=runs/quickstart-data
run=runs/quickstart
prompt="And the LORD said unto"

if [ "${1:-}" = "--fresh" ] && [ -d "$run" ]; then
  old="$run.$(date +%Y%m%d-%H%M%S)"
  mv "$run" "$old"
  echo "the run that was there is now $old"
elif [ $# -gt 0 ] && [ "$1" != "--fresh" ]; then
  echo "usage: $0 [--fresh]" >&2
  exit 2
fi

step() { printf '\n== %s\n' "$*"; }

step "installing what is missing"
./launcher/install_dependencies.sh

step "building"
[ -f build/release/build.ninja ] || cmake --preset release >/dev/null
# On a terminal the build shows how far it is.
quiet=--quiet
[ -t 1 ] && quiet=""
cmake --build build/release --target cairn -- $quiet

step "preparing text and tokenizer"
./launcher/prepare_data.sh "$program" "$data"
"$program" data info "$data/corpus"

step "what it says before training"
"$program" generate quickstart --prompt "$prompt" --max-new-tokens 40

step "training over 4 ranks: tensor-parallel 2 × pipeline-parallel 2"
. ./launcher/mpi_environment.sh
mpirun --oversubscribe -n 4 "$program" train quickstart checkpoint.load=auto \
  --tensor-model-parallel-size 2 --pipeline-model-parallel-size 2

step "its checkpoints"
"$program" ckpt ls "$run"
"$program" ckpt info "$run" | sed '/^config$/,$d'
"$program" ckpt verify "$run"

step "what it says after training"
"$program" generate "$run" --prompt "$prompt" --max-new-tokens 60 --top-k 40 --temperature 0.8

cat <<END

== three commands to try next
$program generate $run --prompt "In the beginning" --temperature 0.7
$program train gpt3-175b --dry-run --world-size 1024
. launcher/mpi_environment.sh; mpirun --oversubscribe -n 2 $program train quickstart checkpoint.load=auto train.train_iters=400
END
