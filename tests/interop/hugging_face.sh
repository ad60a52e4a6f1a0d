#!/bin/sh
# Cairn's files against the real libraries: PyTorch of Debian, safetensors and transformers of the
# Python package index, in a virtual environment under .cache. Exit status 77: the index is out of reach
# and the environment not there yet.
set -eu
cd "$(dirname "$0")/../.."
. launcher/mpi_environment.sh
environment=.cache/hugging-face
# The newest transformers that work with Debian's PyTorch 1.13.
wanted="transformers==4.49.0 safetensors==0.8.0"

if [ "$(cat $environment/installed 2>/dev/null)" != "$wanted" ]; then
  rm -rf $environment
  /usr/bin/python3 -m venv --system-site-packages $environment
  pip="$environment/bin/pip --disable-pip-version-check --retries 1 --timeout 20"
  if ! $pip install --quiet --only-binary :all: $wanted; then
    $pip download --quiet --no-deps --dest $environment/probe safetensors && exit 1
    echo "skipped: the Python package index is out of reach"
    exit 77
  fi
  echo "$wanted" >$environment/installed
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error PATH="$PWD/build/release/bin:$PATH" \
  $environment/bin/python tests/interop/hugging_face.py "$work"
