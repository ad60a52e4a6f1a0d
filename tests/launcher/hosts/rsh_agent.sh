#!/bin/sh
# What mpirun starts its daemons with (plm_rsh_agent HOST COMMAND...): HOST a.b.c.N is the network
# namespace ${CAIRN_TEST_HOSTS}N, with a host name and shared memory of its own.
set -eu
number=${1##*.}
shift
exec ip netns exec "$CAIRN_TEST_HOSTS$number" unshare --mount --uts sh -ec '
  hostname "h$1"
  mount -t tmpfs tmpfs /dev/shm
  exec sh -c "$2"' sh "$number" "$*"
