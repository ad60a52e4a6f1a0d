#!/usr/bin/env python3
"""Injects the faults of docs/reliability.md into real runs and measures how long each takes to be noticed
and how long until training goes on. Prints one row of the table for each.

    tests/reliability.py PROGRAM DATA [FAULT...]

DATA: the quickstart's data (launcher/prepare_data.sh PROGRAM DATA). Each run has the quickstart's model over
4 ranks; it lives in a temporary folder, and everything that it started is ended with it. Needs root for the
fault `full-disk`."""
import atexit
import glob
import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time

REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PATIENCE = 120  # seconds that anything may take


class Run:
    """A supervised run of 4 ranks; its lines with the times at which they came."""

    def __init__(self, program, data, folder, *overrides, restarts=3, layout=(2, 2)):
        self.program, self.folder = program, folder
        self.lines, self.ended = [], None
        words = [program, "launch", "mpirun", "--run", "-n", "4"]
        if restarts:
            words += ["--max-restarts", str(restarts)]
        words += [os.path.join(REPOSITORY, "configs/quickstart.textproto"), f"run_dir={folder}",
                  f"data.data_path={data}/corpus", f"data.tokenizer={data}/tokenizer.json",
                  "train.train_iters=1000000", "train.eval_interval=0", "log.log_interval=1",
                  "log.tensorboard=false", "checkpoint.load=auto", "checkpoint.save_interval=10",
                  f"tensor_model_parallel_size={layout[0]}", f"pipeline_model_parallel_size={layout[1]}",
                  *overrides]
        self.process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                                        start_new_session=True)
        atexit.register(self.close)  # also where something is waited for in vain
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stderr:
            self.lines.append((time.monotonic(), line.rstrip("\n")))
        self.ended = time.monotonic()

    def wait_for(self, text, since=0.0):
        """The time at which a line with `text` came, at `since` or later, and the line."""
        limit = time.monotonic() + PATIENCE
        while time.monotonic() < limit:
            for at, line in list(self.lines):
                if at >= since and text in line:
                    return at, line
            if self.ended and not self.process.poll() is None and time.monotonic() > self.ended + 1:
                break
            time.sleep(0.02)
        sys.exit(f"no line with {text!r}:\n" + "\n".join(line for _, line in self.lines[-40:]))

    def wait_for_iterations(self, count):
        """Until so many more steps were made."""
        seen = self.iterations()
        limit = time.monotonic() + PATIENCE
        while self.iterations() < seen + count:
            if time.monotonic() > limit:
                sys.exit("no progress:\n" + "\n".join(line for _, line in self.lines[-40:]))
            time.sleep(0.02)

    def iterations(self):
        return sum(line.startswith("iter ") for _, line in list(self.lines))

    def ranks(self):
        """Process ids of the ranks, by rank."""
        found = {}
        for path in glob.glob("/proc/[0-9]*/environ"):
            pid = int(path.split("/")[2])
            try:
                with open(f"/proc/{pid}/comm") as comm, open(f"/proc/{pid}/cmdline") as words:
                    if comm.read().strip() != "cairn" or f"run_dir={self.folder}" not in words.read():
                        continue
                with open(path) as environment:
                    variables = dict(v.split("=", 1) for v in environment.read().split("\0") if "=" in v)
            except OSError:
                continue
            if "OMPI_COMM_WORLD_RANK" in variables:
                found[int(variables["OMPI_COMM_WORLD_RANK"])] = pid
        return [found[rank] for rank in sorted(found)]

    def wait_for_end(self):
        self.process.wait(PATIENCE)
        return time.monotonic()

    def first_step_after(self, since):
        """Of the next start: when it began, and when its first step was done."""
        begun, _ = self.wait_for("ranks 0-3 on", since)
        return begun, self.wait_for("iter ", begun)[0]

    def close(self):
        if self.process.poll() is None:
            for pid in self.ranks():
                os.kill(pid, signal.SIGCONT)
            os.kill(self.process.pid, signal.SIGINT)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)


def gone(pids):
    """When the last of them had ended."""
    limit = time.monotonic() + PATIENCE
    while time.monotonic() < limit and any(os.path.exists(f"/proc/{pid}") for pid in pids):
        time.sleep(0.01)
    return time.monotonic()


def weight_of(program, folder, tensor):
    """The first values of a weight in the newest checkpoint, as they lie in memory."""
    shown = subprocess.run([program, "ckpt", "show", folder, f"{tensor}[0,0:32]", "--json"], check=True,
                           capture_output=True, text=True)
    values = json.loads(shown.stdout)["values"]
    while isinstance(values[0], list):
        values = values[0]
    return struct.pack(f"<{len(values)}f", *values)


def poke(pid, pattern, change):
    """Replaces the first word of each copy of `pattern` in a process's memory; how many there were."""
    count = 0
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
        for line in maps:
            span, mode, *_ = line.split()
            if not mode.startswith("rw") or "[v" in line:
                continue
            start, end = (int(x, 16) for x in span.split("-"))
            memory.seek(start)
            try:
                content = memory.read(end - start)
            except OSError:
                continue
            at = content.find(pattern)
            while at >= 0:
                memory.seek(start + at)
                memory.write(change(pattern[:4]))
                count += 1
                at = content.find(pattern, at + len(pattern))
    return count


def row(fault, noticed, back, said):
    print(f"| {fault} | {noticed} | {back} | {said} |", flush=True)


def killed(program, data, folder):
    run = Run(program, data, folder)
    run.wait_for("saved ")
    run.wait_for_iterations(3)
    ranks = run.ranks()
    start = time.monotonic()
    os.kill(ranks[2], signal.SIGKILL)
    end = gone(ranks)
    begun, step = run.first_step_after(end)
    _, said = run.wait_for("starting again")
    run.close()
    row("`kill -9` of a rank", f"{end - start:.1f} s until all ranks are gone",
        f"{step - start:.1f} s; {step - begun:.1f} s from its ranks' start to its first step", said)


def stopped(program, data, folder):
    run = Run(program, data, folder)
    run.wait_for("saved ")
    run.wait_for_iterations(3)
    ranks = run.ranks()
    start = time.monotonic()
    os.kill(ranks[1], signal.SIGSTOP)
    at, said = run.wait_for("the run has stalled")
    end = gone(ranks)
    begun, step = run.first_step_after(end)
    run.close()
    row("`kill -STOP` of a rank", f"{at - start:.1f} s", f"{step - start:.1f} s", said)


def slow(program, data, folder):
    # A step that is long enough for a rank to be stopped in each.
    run = Run(program, data, folder, "train.global_batch_size=64")
    run.wait_for_iterations(25)
    victim = run.ranks()[3]
    before, start = run.iterations(), time.monotonic()
    told = None
    while told is None and time.monotonic() < start + PATIENCE:
        os.kill(victim, signal.SIGSTOP)
        time.sleep(0.1)
        os.kill(victim, signal.SIGCONT)
        time.sleep(0.05)
        told = next((line for at, line in list(run.lines) if at > start and "is slow" in line), None)
    if told is None:
        sys.exit("the slow rank was not named")
    steps = run.iterations() - before
    run.close()
    row("a rank that gets a third of its time", f"{steps} steps", "goes on", told)


def full_disk(program, data, folder):
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=150m", "tmpfs", folder], check=True)
    try:
        run = Run(program, data, folder, "checkpoint.keep=2")
        run.wait_for("saved ")
        run.wait_for_iterations(1)
        free = os.statvfs(folder)
        with open(f"{folder}/filler", "wb") as filler:
            filler.write(bytes(max(0, free.f_bavail * free.f_frsize - (4 << 20))))
        start = time.monotonic()
        at, said = run.wait_for("No space left", start)
        run.wait_for_iterations(3)
        os.remove(f"{folder}/filler")
        freed = time.monotonic()
        saved, _ = run.wait_for("saved ", freed)
        run.close()
        row("a full disk", f"{at - start:.1f} s, at the next save", f"trains on; saves {saved - freed:.1f} s "
            "after there is room", said)
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


# Steps that change no weight, so that those in memory are those of the checkpoint.
STILL = ("optimizer.lr=1e-30", "optimizer.min_lr=0")


def flipped(program, data, folder):
    run = Run(program, data, folder, *STILL, "check_weight_hash_across_dp_replicas_interval=20", restarts=3,
              layout=(1, 1))
    run.wait_for("saved ")
    pattern = weight_of(program, folder, "embedding.position.weight")
    run.wait_for_iterations(1)
    start, before = time.monotonic(), run.iterations()
    copies = poke(run.ranks()[2], pattern, lambda word: bytes([word[0] ^ 1]) + word[1:])
    at, said = run.wait_for("device error", start)
    steps = run.iterations() - before
    _, step = run.first_step_after(at)
    run.close()
    row(f"a bit flipped in a replica's weight ({copies} copies in memory)", f"{at - start:.1f} s, {steps} steps "
        "(compared every 20)", f"{step - start:.1f} s", said)


def not_a_number(program, data, folder):
    run = Run(program, data, folder, *STILL, "train.loss_anomaly_policy=rewind", "train.rewind_iters=1")
    run.wait_for("saved ")
    pattern = weight_of(program, folder, "layers.0.mlp.fc1.weight")
    run.wait_for_iterations(1)
    start, before = time.monotonic(), run.iterations()
    # Tensor-parallel rank 0 of the first stage holds the first row.
    poke(run.ranks()[0], pattern, lambda word: struct.pack("<f", float("nan")))
    at, said = run.wait_for("loss anomaly", start)
    steps = run.iterations() - before
    back, _ = run.wait_for("rewound to", start)
    step, _ = run.wait_for("iter ", back)
    run.close()
    row("a weight that becomes NaN, `loss_anomaly_policy: \"rewind\"`", f"{at - start:.1f} s, {steps} step(s)",
        f"{step - start:.1f} s, without a restart", said)


def asked_to_stop(program, data, folder):
    run = Run(program, data, folder)
    run.wait_for("saved ")
    run.wait_for_iterations(3)
    start = time.monotonic()
    os.kill(run.process.pid, signal.SIGTERM)
    end = run.wait_for_end()
    status = run.process.returncode
    again = Run(program, data, folder)
    begun = time.monotonic()
    _, resumed = again.wait_for("resuming from")
    step, _ = again.wait_for("iter ")
    again.close()
    row("SIGTERM", f"{end - start:.1f} s until it has saved and left with status {status}",
        f"{step - begun:.1f} s from `cairn launch` to its first step", resumed)


def damaged(program, data, folder):
    run = Run(program, data, folder)
    for _ in range(3):
        run.wait_for("saved ", time.monotonic())
    os.kill(run.process.pid, signal.SIGTERM)
    run.wait_for_end()
    newest = sorted(glob.glob(f"{folder}/checkpoints/step-*"))[-1]
    shard = sorted(glob.glob(f"{newest}/*.safetensors"))[0]
    with open(shard, "r+b") as file:
        file.seek(os.path.getsize(shard) // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 4]))
    start = time.monotonic()
    again = Run(program, data, folder)
    at, said = again.wait_for("passing over")
    step, _ = again.wait_for("iter ")
    again.close()
    row("a bit flipped in the newest checkpoint", f"{at - start:.1f} s after `cairn launch`",
        f"{step - start:.1f} s, from the one before", said)


def crash_loop(program, data, folder):
    start = time.monotonic()
    run = Run(program, data, folder, "train.global_batch_size=16", "data.data_path=" + broken_data(data, folder),
              restarts=50)
    run.wait_for_end()
    _, said = run.wait_for("given up")
    row("the same failure at every start", f"{time.monotonic() - start:.1f} s, after 3 starts", "given up", said)


def broken_data(data, folder):
    """A copy of the corpus with a token that no vocabulary has."""
    target = folder + "-data"
    os.makedirs(target)
    for suffix in ("bin", "idx"):
        with open(f"{data}/corpus.{suffix}", "rb") as source, open(f"{target}/corpus.{suffix}", "wb") as copy:
            copy.write(source.read())
    with open(f"{target}/corpus.bin", "r+b") as file:
        for at in range(0, os.path.getsize(f"{target}/corpus.bin"), 20000):
            file.seek(at // 2 * 2)
            file.write(b"\xff\xff")
    return target + "/corpus"


FAULTS = {"killed": killed, "stopped": stopped, "slow": slow, "full-disk": full_disk, "flipped": flipped,
          "not-a-number": not_a_number, "sigterm": asked_to_stop, "damaged": damaged, "crash-loop": crash_loop}


def main():
    if len(sys.argv) < 3 or not set(sys.argv[3:]) <= set(FAULTS):
        sys.exit(f"usage: {sys.argv[0]} PROGRAM DATA [{'|'.join(FAULTS)}]...")
    program, data = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
    print("| fault | noticed | training again | what it said |\n|---|---|---|---|", flush=True)
    for fault in sys.argv[3:] or FAULTS:
        with tempfile.TemporaryDirectory(prefix="cairn-") as scratch:
            folder = os.path.join(scratch, "run")
            os.makedirs(folder)
            FAULTS[fault](program, data, folder)


main()
