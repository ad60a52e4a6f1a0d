#!/bin/sh
# A real SLURM of four nodes on this machine: jobs of `cairn launch slurm` live through their time limit,
# a requeue and the loss of a node, and learn what an uninterrupted run learns, bit by bit.
#   tests/launcher/slurm/run.sh PROGRAM
set -eu
here=$(cd "$(dirname "$0")" && pwd)
program=$1

skip() {
  echo "SKIPPED: $*"
  exit 0
}
[ "$(id -u)" -eq 0 ] || skip "a SLURM of its own needs root"
for command in munged slurmctld slurmd sbatch unshare; do
  command -v "$command" >/dev/null || skip "a SLURM of its own needs $command"
done
unshare --mount --uts --pid --fork true 2>/dev/null || skip "no namespaces can be made here"

. "$here/cluster.sh"
scratch=$(mktemp -d)
clean_up() {
  stop_cluster
  rm -rf "$scratch"
}
trap clean_up EXIT
trap 'exit 1' INT TERM HUP

cd "$scratch"
for variable in $(env | sed -nE 's/^((OMPI|PMIX|PMI|SLURM)_[A-Za-z0-9_]*)=.*/\1/p'); do unset "$variable"; done
export OMP_NUM_THREADS=1
start_cluster "$scratch/slurm" || { tail -n 5 -v "$scratch"/slurm/log/*.out; exit 1; }
cat >tiny.textproto <<'END'
model { num_layers: 2 hidden_size: 64 num_attention_heads: 4 seq_length: 64 }
train { micro_batch_size: 1 global_batch_size: 8 }
optimizer { lr: 0.001 lr_decay_style: "constant" }
data { data_path: "corpus" tokenizer: "byte" split: "80,10,10" }
checkpoint { save_interval: 25 keep: 3 }
log { tensorboard: false }
END
seq 20000 | tr '\n' ' ' >text.txt
"$program" data build text.txt --tokenizer byte --output corpus 2>/dev/null

failed=0
fail() {
  echo "FAILED: $*"
  failed=1
}

# state RUN_DIR: what SLURM says of the run's job.
state() { "$program" launch status "$1" --json | sed -nE 's/.*"state":"([A-Z_]*)".*/\1/p'; }
is_state() { [ "$(state "$1")" = "$2" ]; }
iterations() { cat "$1/metrics.jsonl" 2>/dev/null | wc -l; }
has_iterations() { [ "$(iterations "$1")" -ge "$2" ]; }
lives() { "$program" launch logs "$1" 2>/dev/null | grep -c '^run '; }
has_lives() { [ "$(lives "$1")" -ge "$2" ]; }
curve() { sed 's/,"iteration_time_ms".*//' "$1/metrics.jsonl"; }

# next_life RUN_DIR NUMBER: waits for that life of the job, and for some iterations of it.
next_life() {
  wait_for 120 has_lives "$1" "$2" || { fail "no life $2"; show "$1"; exit 1; }
  wait_for 60 has_iterations "$1" $(($(iterations "$1") + 5)) || { fail "life $2 is stuck"; show "$1"; exit 1; }
  echo "$(($(date +%s) - began)) s: life $2 of $1 is at iteration $(iterations "$1"), on $(nodes "$1")"
}
nodes() { squeue --noheader --jobs="$(job "$1")" --format=%N; }
job() { "$program" launch status "$1" --json | sed -nE 's/.*"job":"([0-9]*)".*/\1/p'; }
show() {
  "$program" launch status "$1" || true
  "$program" launch logs "$1" | grep -v '^iter ' || true
  cat "$scratch/slurm/log/slurmctld.out"
}

# refused STATUS TEXT COMMAND...: the command ends so, and says so once.
refused() {
  expected=$1
  text=$2
  shift 2
  status=0
  "$@" >refused.log 2>&1 || status=$?
  [ "$status" -eq "$expected" ] && [ "$(grep -cF "cairn: " refused.log)" -eq 1 ] && grep -qF "$text" refused.log ||
    { fail "status $status, not $expected with '$text': $*"; cat refused.log; }
}
began=$(date +%s)

endless="tensor_model_parallel_size=2 pipeline_model_parallel_size=2 train_iters=1000000"
refused 2 "world size 2 is not a multiple of tensor 2" \
  "$program" launch slurm tiny.textproto run_dir=run $endless --nodes 2 --ntasks-per-node 1 --time 00:01:00 --submit
[ ! -e run ] || fail "a refused job left a run folder"
refused 3 "sbatch: ended with status 1: sbatch: error: invalid partition specified: night" \
  "$program" launch slurm tiny.textproto run_dir=night train_iters=4 --partition night \
  --nodes 2 --ntasks-per-node 1 --time 00:01:00 --submit

# The time limit of a minute hits the first life; SLURM looks every 30 s, and its warning comes as early.
"$program" launch slurm tiny.textproto run_dir=run $endless \
  --nodes 2 --ntasks-per-node 2 --time 00:01:00 --signal-seconds 20 --submit >/dev/null
next_life run 1
is_state run RUNNING || fail "the job is $(state run)"
refused 2 "its job $(job run) is RUNNING" \
  "$program" launch slurm tiny.textproto run_dir=run $endless --nodes 2 --ntasks-per-node 2 --time 00:01:00 --submit
next_life run 2
"$program" launch logs run | grep -q "saved before the end; queueing it again" || fail "the time limit did not hit"

scontrol requeue "$(job run)"
next_life run 3

# A node that is drained keeps its job; one that goes down loses it.
node=$(nodes run | sed -E 's/^n\[?([0-9]).*/n\1/')
scontrol update NodeName="$node" State=DRAIN Reason=test
wait_for 60 has_iterations run $(($(iterations run) + 5)) || fail "a drained node ended its job"
is_state run RUNNING || fail "on a drained node the job is $(state run)"
scontrol update NodeName="$node" State=DOWN Reason=test
next_life run 4
case "$(nodes run)" in *"${node#n}"*) fail "the job went back to $node: $(nodes run)" ;; esac

# A rank that dies costs a life, not the job.
for pid in $(pgrep -x cairn); do
  case "$(tr '\0' ' ' <"/proc/$pid/cmdline")" in
    *" train run/slurm/config.textproto "*) [ "$(readlink "/proc/$pid/cwd")" != "$scratch" ] || victim=$pid ;;
  esac
done
kill -KILL "$victim"
next_life run 5
"$program" launch logs run | grep -q "failed with status [0-9]*; queueing it again" || fail "the death of a rank was not noted"

"$program" launch cancel run 2>/dev/null
wait_for 30 is_state run CANCELLED || fail "after its end the job is $(state run)"
[ "$(lives run)" -eq 5 ] || fail "the job had $(lives run) lives"
[ "$("$program" launch logs run | grep -c ', resuming from ')" -eq 4 ] || fail "not every life went on"
total=$(iterations run)
status=0
"$program" launch mpirun --run -n 4 tiny.textproto run_dir=whole $endless exit_interval="$total" 2>whole.log || status=$?
[ "$status" -eq 4 ] || { fail "the uninterrupted run ended with $status"; cat whole.log; }
curve run >run.curve
curve whole >whole.curve
cmp run.curve whole.curve || fail "the job did not learn as the uninterrupted run did"
echo "$(($(date +%s) - began)) s: $total iterations of five lives are those of one, bit by bit"

# What a rank under srun refuses, and what to change.
srun_two() { srun --nodes=2 --ntasks=2 --ntasks-per-node=1 "$@"; }
short="train tiny.textproto train_iters=2 run_dir=srun"
for plugin in none pmi2; do
  refused 2 "srun started 2 tasks without PMIx, by which Open MPI forms their world: use srun --mpi=pmix" \
    srun_two --mpi="$plugin" "$program" $short
done
printf '0 %s\n1 %s optimizer.lr=0.5\n' "$program $short" "$program $short" >mixed.conf
refused 2 "rank 1: has another config than rank 0" srun_two --mpi=pmix --multi-prog mixed.conf
cp "$program" other && echo >>other
printf '0 %s\n1 %s\n' "$program $short" "$scratch/other $short" >mixed.conf
refused 2 "rank 1: runs another build of cairn than rank 0" srun_two --mpi=pmix --multi-prog mixed.conf

# A job array: runs that differ in their seed.
"$program" launch slurm tiny.textproto run_dir=seeds train_iters=3 --array 2 \
  --nodes 1 --ntasks-per-node 2 --time 00:05:00 --submit >/dev/null
# Where SLURM has no PMIx, mpirun starts the ranks.
mkdir bin
cat >bin/srun <<END
#!/bin/sh
[ "\$1" != --mpi=list ] || exit 0
exec $(command -v srun) "\$@"
END
chmod +x bin/srun
PATH="$PWD/bin:$PATH" "$program" launch slurm tiny.textproto run_dir=fallback train_iters=3 \
  --nodes 2 --ntasks-per-node 2 --time 00:05:00 --submit >/dev/null
both_completed() { [ "$("$program" launch status seeds --json | grep -o COMPLETED | wc -l)" -eq 2 ]; }
wait_for 60 both_completed || { fail "the job array has not completed"; show seeds; }
for task in 0 1; do
  grep -q "seed: $((1234 + task))" "seeds/run-$task/config.textproto" || fail "the seed of task $task"
  [ "$(iterations "seeds/run-$task")" -eq 3 ] || fail "task $task has not trained"
  "$program" launch logs seeds --task "$task" | grep -q "Finished all 3 iterations" || fail "the log of task $task"
done
wait_for 60 is_state fallback COMPLETED || { fail "by mpirun the job is $(state fallback)"; show fallback; }
"$program" launch logs fallback | grep -qE '^ranks 0-1 on n[0-9] \(local 0-1\), 2-3 on n[0-9] \(local 0-1\); 1 thread each$' ||
  { fail "ranks of mpirun are misplaced"; show fallback; }

echo "$(($(date +%s) - began)) s in all"
exit "$failed"
