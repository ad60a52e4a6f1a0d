#!/bin/sh
# The folder of launcher/bundle.sh on a Debian with nothing installed, a chroot: it trains there over two
# ranks, and what it trained is read.
#   tests/launcher/bundle/run.sh PROGRAM
set -eu
here=$(cd "$(dirname "$0")" && pwd)
program=$1

skip() {
  echo "SKIPPED: $*"
  exit 77
}
[ "$(id -u)" -eq 0 ] || skip "a chroot needs root"
for tool in debootstrap patchelf unshare; do
  command -v $tool >/dev/null || skip "$tool is missing"
done
unshare --mount true 2>/dev/null || skip "nothing can be mounted here"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' INT TERM HUP

"$here/../../../launcher/bundle.sh" "$scratch/bundle" "$program"
# Minus the package manager's own needs, this is the least that Debian calls a system.
debootstrap --variant=minbase bookworm "$scratch/root" >"$scratch/debootstrap.log" 2>&1 || {
  grep -qE "Failed getting release file|Couldn't download" "$scratch/debootstrap.log" &&
    skip "the package index is out of reach"
  cat "$scratch/debootstrap.log"
  exit 1
}
# Not where it was packed, and by way of a link.
mkdir -p "$scratch/root/opt/elsewhere"
mv "$scratch/bundle" "$scratch/root/opt/elsewhere/cairn"
ln -s elsewhere/cairn "$scratch/root/opt/cairn"

cat >"$scratch/root/train.sh" <<'END'
set -eu
export PATH=/opt/cairn/bin:/usr/bin:/bin HOME=/ OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
cd /tmp
cat >tiny.textproto <<'CONFIG'
run_dir: "run"
model { num_layers: 2 hidden_size: 32 num_attention_heads: 4 seq_length: 16 }
parallel { tensor_model_parallel_size: 2 }
train { micro_batch_size: 1 global_batch_size: 4 train_iters: 4 }
optimizer { lr: 0.001 }
data { data_path: "corpus" tokenizer: "byte" split: "80,10,10" }
CONFIG
yes "In the beginning" | head -n 200 >text.txt
cairn doctor
cairn data build text.txt --tokenizer byte --output corpus
mpirun --oversubscribe -n 2 cairn train tiny.textproto
cairn ckpt verify run
# Messages come from Open MPI's help texts, not from a complaint that they are missing.
mpirun -n 1 no-such-program 2>&1 | tee no-such-program.log || true
grep -q "unable to find the specified executable" no-such-program.log
END
unshare --mount sh -euc '
  root=$1
  mount -t proc proc "$root/proc"
  mount --bind /sys "$root/sys"
  mount --bind /dev "$root/dev"
  mount -t tmpfs tmpfs "$root/dev/shm"
  exec env -i /usr/sbin/chroot "$root" /bin/sh /train.sh' sh "$scratch/root" </dev/null
echo "the bundle trains on a Debian with nothing installed"
