#!/bin/sh
# Installs what Cairn is built from and tested with, as far as it is missing. Debian 12; root or sudo.
#   launcher/install_dependencies.sh [--tests]
set -eu

packages="g++ cmake ninja-build ccache pkg-config lld
  openmpi-bin libopenmpi-dev libprotobuf-dev protobuf-compiler libgoogle-glog-dev libfmt-dev
  libdnnl-dev libcli11-dev nlohmann-json3-dev libpcre2-dev libisal-dev
  libxxhash-dev libssl-dev libsimdjson-dev libgtest-dev libgmock-dev libbenchmark-dev
  bible-kjv bible-kjv-text"
if [ "${1:-}" = "--tests" ]; then
  packages="$packages git python3 python3-venv python3-torch clang-format clang-tidy clang-14
    libclang-rt-14-dev libomp-14-dev iproute2 munge slurm-client slurmctld slurmd debootstrap patchelf"
fi

missing=""
for package in $packages; do
  status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$status" = "installed" ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

as_root=""
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || {
    echo "cairn: these Debian packages are missing, and there is no sudo to install them:$missing" >&2
    exit 2
  }
  as_root="sudo"
fi
echo "installing:$missing" >&2
# The tests start what they need of these by themselves: RUNLEVEL=1 keeps services of init scripts stopped.
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { $as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq &&
       $as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends \
         $missing; } >"$log" 2>&1; then
  tail -n 20 "$log" >&2
  echo "cairn: apt-get could not install:$missing" >&2
  exit 3
fi
