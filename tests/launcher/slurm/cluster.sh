# Sourced: a SLURM of four nodes on this machine, by Debian's munged, slurmctld and slurmd. All that it
# writes is under the folder that start_cluster is given; the system's own SLURM is not touched.
#   start_cluster FOLDER    exports SLURM_CONF; needs root
#   stop_cluster            ends exactly the processes that start_cluster began

cluster_pids=""

# start_daemon NAME COMMAND...: in the background, its process id remembered for stop_cluster.
start_daemon() {
  daemon_log=$cluster/log/$1.out
  shift
  "$@" >"$daemon_log" 2>&1 </dev/null &
  cluster_pids="$! $cluster_pids"
}

# wait_for SECONDS COMMAND...: until the command succeeds; fails after so many seconds.
wait_for() {
  patience=$1
  shift
  while ! "$@" >/dev/null 2>&1; do
    patience=$((patience - 1))
    [ "$patience" -gt 0 ] || { echo "gave up waiting for: $*" >&2; return 1; }
    sleep 1
  done
}

start_cluster() {
  cluster=$1
  # Another cluster of this machine, of another test, has other ports.
  port=$((20000 + $$ % 8000 * 5))
  mkdir -p "$cluster/etc" "$cluster/log" "$cluster/state" "$cluster/spool" "$cluster/pmix"
  (umask 077; head -c 128 /dev/urandom >"$cluster/munge.key")
  cat >"$cluster/etc/slurm.conf" <<END
ClusterName=cairn
SlurmctldHost=$(hostname)(127.0.0.1)
SlurmctldPort=$port
SlurmUser=root
AuthType=auth/munge
CredType=cred/munge
# A requeued job waits until its old credentials have expired: two minutes unless said.
AuthInfo=socket=$cluster/munge.socket,cred_expire=5
StateSaveLocation=$cluster/state
SlurmdSpoolDir=$cluster/spool/%n
SlurmctldPidFile=$cluster/slurmctld.pid
SlurmdPidFile=$cluster/slurmd.%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=2,bf_interval=2
ReturnToService=2
MinJobAge=600
KillWait=10
SlurmdParameters=config_overrides
END
  node=1
  while [ "$node" -le 4 ]; do
    echo "NodeName=n$node NodeHostname=$(hostname) NodeAddr=127.0.0.1 Port=$((port + node)) CPUs=2 CoresPerSocket=2 RealMemory=1000"
    node=$((node + 1))
  done >>"$cluster/etc/slurm.conf"
  echo "PartitionName=main Nodes=n[1-4] Default=YES MaxTime=INFINITE State=UP" >>"$cluster/etc/slurm.conf"
  echo "PMIxCliTmpDirBase=$cluster/pmix" >"$cluster/etc/mpi.conf"
  export SLURM_CONF="$cluster/etc/slurm.conf"

  start_daemon munged munged --foreground --key-file "$cluster/munge.key" \
    --socket "$cluster/munge.socket" --pid-file "$cluster/munged.pid" \
    --log-file "$cluster/log/munged.log" --seed-file "$cluster/munge.seed"
  wait_for 20 munge --no-input --socket "$cluster/munge.socket"
  start_daemon slurmctld slurmctld -D -f "$SLURM_CONF"
  # A node is a name, and folders that programs of one machine share: shared memory and PMIx's.
  for node in n1 n2 n3 n4; do
    start_daemon "$node" unshare --mount --uts sh -ec '
      hostname "$1"
      mount -t tmpfs tmpfs /dev/shm
      mount -t tmpfs tmpfs "$2/pmix"
      exec slurmd -D -N "$1" -f "$2/etc/slurm.conf"' sh "$node" "$cluster"
  done
  wait_for 60 all_idle
}

# All four nodes can take jobs.
all_idle() { [ "$(sinfo --noheader --Node --states=idle --format=%N 2>/dev/null | wc -l)" -eq 4 ]; }

stop_cluster() {
  for pid in $cluster_pids; do kill "$pid" 2>/dev/null || true; done
  for pid in $cluster_pids; do wait "$pid" 2>/dev/null || true; done
  cluster_pids=""
}
