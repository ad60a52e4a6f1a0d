#!/bin/sh
# Makes, where it is missing, the virtual environment with the newest PyTorch that the Python package index has
# for this machine, under .cache, and prints its Python. Exit status 77: the index is out of reach.
set -eu
cd "$(dirname "$0")/../.."
environment=.cache/peers
if [ ! -f $environment/installed ]; then
  rm -rf $environment
  python3 -m venv $environment
  pip="$environment/bin/pip --disable-pip-version-check --retries 1 --timeout 20"
  if ! $pip install --quiet --only-binary :all: torch numpy >&2; then
    $pip download --quiet --no-deps --dest $environment/probe numpy >&2 && exit 1
    echo "skipped: the Python package index is out of reach" >&2
    exit 77
  fi
  : >$environment/installed
fi
echo "$PWD/$environment/bin/python"
