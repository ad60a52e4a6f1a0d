#!/usr/bin/env python3
"""Training on a GPU against training on the CPU, by the program as a user starts it: loss curves, layouts whose
ranks share the GPU, and checkpoints that change between the two.

    tests/gpu/programs.py BIN [--device cuda|cpu] [--under COMMAND]

BIN: the folder with cairn and mpirun. `--device cpu` has the CPU stand in for the GPU. `--under`: no more than
two steps, by `COMMAND cairn train ...`. Prints a Markdown table; exit status 1 if a row of it says FAILED."""
import argparse
import json
import math
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from functools import partial

PATIENCE = 120  # seconds that any command may take, where no other program watches it
ITERATIONS = 20
# Largest relative difference of two loss curves. fp32: sums in another order, as of layouts on the CPU. bf16 and
# fp16: three and five times what their rounding does to the fp32 curve (7e-4, 4e-5); another seed is 2e-2 away.
BOUNDS = {"fp32": 2e-5, "bf16": 2e-3, "fp16": 2e-4}
OTHER = 5e-3
# cuDNN computes attention in bf16 and fp16, with dropout by a mask of Cairn's; fp32 is Cairn's own kernel's.
NO_DROPOUT = "attention_dropout=0"
CURVES = [(precision, []) for precision in BOUNDS] + [(precision, [NO_DROPOUT]) for precision in ("bf16", "fp16")]
CONFIG = """
model { num_layers: 4 hidden_size: 64 num_attention_heads: 4 num_query_groups: 2 seq_length: 64 }
train { micro_batch_size: 2 global_batch_size: 8 train_iters: 20 }
optimizer { lr: 0.001 lr_decay_style: "constant" initial_loss_scale: 4096 }
data { data_path: "corpus" tokenizer: "byte" split: "1,0,0" }
log { tensorboard: false }
"""
GRAPHS = "cuda_graphs=true"
TP, PP = "tensor_model_parallel_size=2", "pipeline_model_parallel_size=2"
LAYOUTS = {"tp 2": (2, [TP]), "pp 2": (2, [PP]), "dp 2": (2, []),
           "dp 2, ZeRO-1": (2, ["data_parallel_sharding_strategy=optim"]),
           "tp 2 x pp 2": (4, [TP, PP]), "tp 2 x dp 2": (4, [TP])}
NCCL_SHARES = "NCCL_MULTI_RANK_GPU_ENABLE"  # what NCCL 2.30 and newer takes ranks that share a GPU by
OVER_NCCL = ("dp 2, ZeRO-1", "tp 2 x pp 2")


class Failed(Exception):
    """A command that ended otherwise than it should."""


class Suite:
    def __init__(self, binaries, device, folder):
        self.device, self.folder, self.patience = device, folder, PATIENCE
        self.environment = dict(os.environ, PATH=f"{binaries}:{os.environ['PATH']}", OMP_NUM_THREADS="1",
                                OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
                                OMPI_MCA_mpi_yield_when_idle="1")
        self.environment.pop(NCCL_SHARES, None)
        self.failed = False
        with open(os.path.join(folder, "config.textproto"), "w") as file:
            file.write(CONFIG)
        words = "a cairn is a heap of stones that marks the way over the hills for those who follow".split()
        source = random.Random(1)
        with open(os.path.join(folder, "text.txt"), "w") as file:
            file.writelines(" ".join(source.choices(words, k=40)) + "\n" for _ in range(400))
        self.run("cairn", "data", "build", "text.txt", "--tokenizer", "byte", "--output", "corpus")

    def run(self, *command, gpu=True, status=0, errors=False):
        """Standard output, or with `errors` standard error, of a command that ends with `status`."""
        environment = self.environment if gpu else dict(self.environment, CUDA_VISIBLE_DEVICES="")
        done = subprocess.run(command, cwd=self.folder, env=environment, text=True, timeout=self.patience,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        # gpu.sh looks for warnings of slower ways taken.
        sys.stderr.writelines(line for line in done.stderr.splitlines(True) if re.match(r"[WE]\d{8} ", line))
        if done.returncode != status:
            raise Failed(f"{' '.join(command)}: exit status {done.returncode}, not {status}\n"
                         f"{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.stderr if errors else done.stdout

    def train(self, name, *overrides, device=None, ranks=1):
        """The loss of every iteration that the run `name` made."""
        launch = ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", str(ranks)] if ranks > 1 else []
        self.run(*launch, "cairn", "train", "config.textproto", f"run_dir={name}",
                 f"train.device={device or self.device}", *overrides)
        return self.losses(name)

    def losses(self, name):
        with open(os.path.join(self.folder, name, "metrics.jsonl")) as file:
            return {line["iteration"]: line["lm_loss"] for line in map(json.loads, file)}

    def row(self, what, value, bound, good):
        self.failed |= not good
        print(f"| {what} | {value} | {bound} | {'ok' if good else 'FAILED'} |", flush=True)

    def attempt(self, what, work, *arguments):
        """What `work` returns; a row where a command of it failed, and the others go on."""
        try:
            return work(*arguments)
        except (Failed, OSError, ValueError, KeyError, subprocess.TimeoutExpired) as error:
            print(error, file=sys.stderr, flush=True)
            return self.row(what, "a command failed", "", False)

    def compare(self, what, losses, expected, bound, first=1, apart=False):
        """A row: how far `losses` are from `expected`, of iterations `first` to the last. `apart`: they must be
        farther. A loss that is missing, or not finite (null in metrics.jsonl), fails it."""
        iterations = range(first, ITERATIONS + 1)
        allowed = f"{'above ' if apart else ''}{bound:g}"
        if list(losses) != list(iterations):
            return self.row(what, f"iterations {list(losses)}, not {first} to {ITERATIONS}", allowed, False)
        for i in iterations:
            for loss in (losses[i], expected.get(i)):
                if loss is None or not math.isfinite(loss):
                    return self.row(what, f"iteration {i}: {losses[i]} and {expected.get(i)}", allowed, False)
        worst = max(abs(losses[i] - expected[i]) / expected[i] for i in iterations)
        self.row(what, f"{worst:.1e}", allowed, worst > bound if apart else worst <= bound)

    def curves(self):
        for precision, overrides in CURVES:
            self.attempt(", ".join([precision, *overrides]), self.curve, precision, *overrides)
        self.attempt("another seed", self.other_seed)

    def curve(self, precision, *overrides):
        name = "-".join([precision, *overrides])
        overrides = [f"precision={precision}", *overrides]
        cpu = self.train(f"cpu-{name}", *overrides, device="cpu")
        # Its checkpoints are what other tests start from.
        mine = self.train(f"device-{name}", *overrides, "save_interval=10")
        self.compare(f"{ITERATIONS} steps, {', '.join(overrides)}, against the CPU", mine, cpu, BOUNDS[precision])

    def other_seed(self):
        other = self.train("other-seed", "seed=4321")
        self.compare("control: another seed", other, self.losses("device-fp32"), OTHER, apart=True)

    def layout(self, name, against, bound, *overrides, way="sharing the device"):
        ranks, own = LAYOUTS[name]
        run = f"layout-{'-'.join([way, name, *overrides]).replace(' ', '')}"
        losses = self.train(run, *own, *overrides, ranks=ranks)
        self.compare(f"{', '.join([name, *overrides])}, {way}, against one rank", losses, against, bound)

    def has_mpirun(self):
        return shutil.which("mpirun", path=self.environment["PATH"]) is not None

    def layouts(self):
        if not self.has_mpirun():
            print("| layouts | left out: no mpirun here | | |")
            return
        one_rank = self.losses("device-fp32")
        for name in LAYOUTS:
            self.attempt(name, self.layout, name, one_rank, BOUNDS["fp32"])
        self.environment[NCCL_SHARES] = "1"
        if self.attempt("NCCL", self.takes_shared_gpus):
            for name in OVER_NCCL:
                for overrides in ([], [GRAPHS]):  # with these, nothing but NCCL can be used
                    self.attempt(name, partial(self.layout, way="over NCCL"), name, one_rank, BOUNDS["fp32"],
                                 *overrides)
        del self.environment[NCCL_SHARES]

    def takes_shared_gpus(self):
        """Whether NCCL carries the tensors of ranks that share the GPU; a row if it does not."""
        if self.device == "cpu":
            print("| layouts over NCCL | left out: no GPU | | |", flush=True)
            return False
        started = self.run("mpirun", "--oversubscribe", "-n", "2", "cairn", "train", "config.textproto",
                           "run_dir=shares", f"train.device={self.device}", "train_iters=1", errors=True)
        staged = re.search(r"not over NCCL \((.*)\)", started)
        if staged:
            print(f"| layouts over NCCL | left out: {staged[1]} | | |", flush=True)
        return not staged

    def deterministic(self):
        """Layouts in fp32, and cuDNN's attention: again, and with the samples on two ranks."""
        exact = "deterministic=true"
        cudnn = [exact, "precision=bf16"]
        once = self.train("exact-bf16", *cudnn)
        self.attempt("again", self.again, once, *cudnn)
        one_rank = self.train("exact-fp32", exact)
        self.attempt("graphs", self.graphs, one_rank, 0, exact)
        self.attempt("graphs, cuDNN", self.graphs, once, 0, *cudnn)
        if not self.has_mpirun():
            return
        self.attempt("dp 2", self.layout, "dp 2", once, 0, *cudnn)
        for name in ("dp 2", "pp 2"):
            self.attempt(name, self.layout, name, one_rank, 0, exact)

    def again(self, once, *overrides):
        self.compare(f"{', '.join(overrides)}, again", self.train("exact-again", *overrides), once, 0)

    def graphs(self, without, bound, *overrides):
        name = f"graphs-{'-'.join(overrides)}"
        self.compare(f"{', '.join([*overrides, GRAPHS])}, against kernel by kernel",
                     self.train(name, *overrides, GRAPHS), without, bound)

    def under(self, command):
        """Two steps in each precision by a program that watches them, and says by its status if it saw something."""
        self.patience = None  # such programs are slow; who starts this one has a limit for it
        for precision in BOUNDS:
            own = [NO_DROPOUT] if precision == "fp16" else []
            self.run(*command, "cairn", "train", "config.textproto", f"run_dir=under-{precision}",
                     f"train.device={self.device}", f"precision={precision}", "num_layers=1", "train_iters=2", *own)
        self.row(f"two steps in {', '.join(BOUNDS)}, `{' '.join(command)}`", "", "nothing seen", True)

    def checkpoints(self):
        one_rank = self.losses("device-fp32")
        step = "device-fp32/checkpoints/step-00000010"
        self.run("cairn", "ckpt", "verify", step, "--full", gpu=False)
        evaluate = ["cairn", "eval", step, "--data", "corpus", "--split", "all", "--json"]
        here, cpu = (json.loads(self.run(*evaluate, gpu=gpu))["lm_loss"] for gpu in (True, False))
        self.compare("`cairn eval` of its checkpoint, against the CPU's", {ITERATIONS: cpu}, {ITERATIONS: here},
                     1e-5, first=ITERATIONS)
        on_cpu = self.train("on-cpu", f"load={step}", "save_interval=5", device="cpu")
        self.compare("continued on the CPU, against going on", on_cpu, one_rank, BOUNDS["fp32"], first=11)
        back = self.train("back", "load=on-cpu/checkpoints/step-00000015")
        self.compare("and back after 5 steps", back, one_rank, BOUNDS["fp32"], first=16)
        # Adam moves a weight whose gradient is but rounding by up to lr a step: hence the norm of all.
        # A step at a learning rate that moves no weight: what is read is what is written.
        still = ["lr=1e-30", "min_lr=0"]
        self.train("still-cpu", f"load={step}", "train_iters=11", *still, device="cpu")
        self.train("still-back", "load=still-cpu/checkpoints/step-00000011", "train_iters=12", *still)
        written, on_cpu, back, moved = (
            self.run("cairn", "ckpt", "id", run, "--weights", gpu=False)
            for run in (step, "still-cpu", "still-back", "device-fp32"))
        self.row("its weights by way of the CPU and back", "", "every bit", written == on_cpu == back != moved)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binaries", type=os.path.abspath)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--under", type=str.split)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        suite = Suite(arguments.binaries, arguments.device, folder)
        print("| program | largest relative difference | allowed | |\n|---|---|---|---|")
        if arguments.under:
            suite.attempt(arguments.under[0], suite.under, arguments.under)
        else:
            suite.curves()
            suite.attempt("deterministic", suite.deterministic)
            for precision, bound in BOUNDS.items():
                suite.attempt("graphs", suite.graphs, suite.losses(f"device-{precision}"), bound,
                              f"precision={precision}")
            suite.attempt("checkpoints", suite.checkpoints)
            suite.attempt("layouts", suite.layouts)
    sys.exit(1 if suite.failed else 0)


if __name__ == "__main__":
    main()
