#!/bin/sh
# Four hosts on this machine, each a network namespace with an address, a host name and shared memory of
# its own: `cairn launch mpirun` trains over them as over one host, bit by bit.
#   tests/launcher/hosts/run.sh PROGRAM
set -eu
here=$(cd "$(dirname "$0")" && pwd)
program=$1

skip() {
  echo "SKIPPED: $*"
  exit 0
}
[ "$(id -u)" -eq 0 ] || skip "hosts that are network namespaces need root"
command -v ip >/dev/null || skip "hosts that are network namespaces need iproute2"

# Names and addresses that no other run of this test has.
export CAIRN_TEST_HOSTS="cairn$$h"
bridge="cb$$"
net="10.$((64 + $$ % 64)).$(($$ / 64 % 256))"
scratch=$(mktemp -d)

host_processes() { for i in 1 2 3 4; do ip netns pids "$CAIRN_TEST_HOSTS$i" 2>/dev/null; done; }

clean_up() {
  for pid in $(host_processes); do kill -KILL "$pid" 2>/dev/null || true; done
  for i in 1 2 3 4; do
    ip netns del "$CAIRN_TEST_HOSTS$i" 2>/dev/null || true
    ip link del "cv$$-$i" 2>/dev/null || true
  done
  ip link del "$bridge" 2>/dev/null || true
  rm -rf "$scratch"
}
trap clean_up EXIT
trap 'exit 1' INT TERM HUP

ip link add "$bridge" type bridge 2>/dev/null || skip "no network can be made here"
ip address add "$net.254/24" dev "$bridge"
ip link set "$bridge" up
for i in 1 2 3 4; do
  ip netns add "$CAIRN_TEST_HOSTS$i"
  ip link add "cv$$-$i" type veth peer name eth0 netns "$CAIRN_TEST_HOSTS$i"
  ip link set "cv$$-$i" master "$bridge" up
  ip -n "$CAIRN_TEST_HOSTS$i" address add "$net.$i/24" dev eth0
  ip -n "$CAIRN_TEST_HOSTS$i" link set eth0 up
  ip -n "$CAIRN_TEST_HOSTS$i" link set lo up
done

cd "$scratch"
unset OMP_NUM_THREADS
for variable in $(env | sed -nE 's/^((OMPI|PMIX|PMI|SLURM)_[A-Za-z0-9_]*)=.*/\1/p'); do unset "$variable"; done
export OMPI_MCA_plm=rsh OMPI_MCA_plm_rsh_agent="$here/rsh_agent.sh"
# The hosts share the cores of this machine.
export OMP_WAIT_POLICY=passive
cat >tiny.textproto <<'END'
model { num_layers: 2 hidden_size: 32 num_attention_heads: 4 seq_length: 16 }
train { micro_batch_size: 1 global_batch_size: 8 train_iters: 20 }
optimizer { lr: 0.001 }
data { data_path: "corpus" tokenizer: "byte" split: "80,10,10" }
log { tensorboard: false }
END
seq 4000 | tr '\n' ' ' >text.txt
"$program" data build text.txt --tokenizer byte --output corpus 2>/dev/null

failed=0
fail() {
  echo "FAILED: $*"
  failed=1
}

# train NAME LAYOUT...: runs NAME by `cairn launch mpirun`; what it says is in NAME.log.
train() {
  name=$1
  shift
  if ! "$program" launch mpirun --run tiny.textproto run_dir="$name" "$@" >"$name.log" 2>&1; then
    fail "$name ended badly"
    cat "$name.log"
  fi
}

# expect_line NAME LINE: the run said LINE.
expect_line() {
  grep -qxF "$2" "$1.log" || { fail "$1 did not say: $2"; grep "^ranks" "$1.log" || true; }
}

# expect_same A B: both runs' metrics have the same numbers, to the last bit, but for times.
expect_same() {
  for name in "$1" "$2"; do sed 's/,"iteration_time_ms".*//' "$name/metrics.jsonl" >"$name.curve"; done
  [ "$(wc -l <"$1.curve")" -eq 20 ] || fail "$1 has not 20 iterations"
  cmp "$1.curve" "$2.curve" || fail "$1 and $2 differ"
}

# Threads of a rank when so many share the cores of a host.
threads() {
  count=$(($(nproc) / $1))
  [ "$count" -gt 1 ] && echo "$count threads" || echo "1 thread"
}

layout="tensor_model_parallel_size=2 pipeline_model_parallel_size=2"
hosts="$net.1:2,$net.2:2,$net.3:2,$net.4:2"
train four --hosts "$hosts" --interface "$net.0/24" $layout
expect_line four "ranks 0-1 on h1 (local 0-1), 2-3 on h2 (local 0-1), 4-5 on h3 (local 0-1), 6-7 on h4 (local 0-1); $(threads 2) each"
# Two replicas of two stages of two ranks: gradients crossed the wire.
for i in 1 2 3 4; do
  bytes=$(cat "/sys/class/net/cv$$-$i/statistics/rx_bytes")
  [ "$bytes" -gt 500000 ] || fail "host h$i sent $bytes bytes only"
done
train one -n 8 $layout
expect_same four one

train uneven --hosts "$net.1:3,$net.2:1" --interface "$net.0/24" $layout
expect_line uneven "ranks 0-2 on h1 (local 0-2), 3 on h2 (local 0); $( [ "$(threads 3)" = "$(threads 1)" ] && echo "$(threads 1)" || echo "$(threads 3 | cut -d' ' -f1) to $(threads 1)") each"
train uneven_one -n 4 $layout
expect_same uneven uneven_one

# Bound to a core each.
train bound --hosts "$net.1:2,$net.2:2" --interface "$net.0/24" --threads 1 $layout
expect_line bound "ranks 0-1 on h1 (local 0-1), 2-3 on h2 (local 0-1); 1 thread each"
expect_same bound uneven_one

left=$(host_processes)
[ -z "$left" ] || fail "processes are left on the hosts: $left"
[ "$failed" -eq 0 ] && echo "four hosts train as one, bit by bit"
exit "$failed"
