#!/bin/sh
# Training steps of Cairn and of the newest PyTorch that the Python package index has for this machine, in
# turns, on the same threads:
#   tests/peers/compare.sh [--rounds N] [--precisions fp32,bf16] [--peers eager,compile] [small] [gpt2-124m]
# PyTorch lives in a virtual environment under .cache. Exit status 77: the index is out of reach and the
# environment not there yet.
set -eu
cd "$(dirname "$0")/../.."
environment=.cache/peers
if [ ! -f $environment/installed ]; then
  rm -rf $environment
  python3 -m venv $environment
  pip="$environment/bin/pip --disable-pip-version-check --retries 1 --timeout 20"
  if ! $pip install --quiet --only-binary :all: torch numpy; then
    $pip download --quiet --no-deps --dest $environment/probe numpy && exit 1
    echo "skipped: the Python package index is out of reach"
    exit 77
  fi
  : >$environment/installed
fi
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$(nproc)}"
PATH="$PWD/build/release/bin:$PATH" exec $environment/bin/python tests/peers/compare.py "$@"
