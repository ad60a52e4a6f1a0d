#!/usr/bin/env python3
"""Training steps of GPT-3's shapes on one GPU, and of the same model in PyTorch, in turns.

    tests/gpu/bench.py BIN CONFIGS [--python PYTHON] [--device cuda|cpu]

BIN: the folder with cairn; CONFIGS: that of the presets; PYTHON: one that has PyTorch, which is left out without
it. `--device cpu` has the CPU and small shapes stand in. Prints Markdown; exit status 1 if something failed."""
import argparse
import csv
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PEERS = Path(__file__).parent.parent / "peers"
sys.path.insert(0, str(PEERS))
import config  # noqa: E402

PATIENCE = 150  # seconds that any command may take
PEER_PATIENCE = 300  # PyTorch: torch.compile before the first step
MICRO_BATCHES = 8
# Preset, micro batch, and the layers that fit.
MODELS = {
    "125M": ("gpt3-125m", 32, []),
    "1.3B": ("gpt3-1.3b", 8, []),
    "6.7B width, 8 layers": ("gpt3-6.7b", 4, ["num_layers=8"]),
    "13B width, 6 layers": ("gpt3-13b", 4, ["num_layers=6"]),
}
ONE_RANK = ["vocab_size=50304", "precision=bf16", "tensor_model_parallel_size=1", "pipeline_model_parallel_size=1",
            "sequence_parallel=false", "data_parallel_sharding_strategy=no_shard"]
SMALL = ["num_layers=2", "hidden_size=64", "num_attention_heads=2", "seq_length=32", "vocab_size=256",
         "micro_batch_size=1", "global_batch_size=2"]


def flops_per_token(model):
    """72 L h^2 (1 + s/6h + V/12hL): what publications count, masked scores included."""
    layers, hidden = model["num_layers"], model["hidden_size"]
    return 72 * layers * hidden**2 * (
        1 + model["seq_length"] / (6 * hidden) + model["vocab_size"] / (12 * hidden * layers))


class Bench:
    def __init__(self, arguments):
        self.arguments, self.failed = arguments, False
        self.environment = dict(os.environ, PATH=f"{arguments.binaries}:{os.environ['PATH']}")

    def run(self, *command, patience=PATIENCE):
        """Standard output; None where the command failed or took too long."""
        try:
            done = subprocess.run(command, env=self.environment, text=True, timeout=patience, stdout=subprocess.PIPE)
        except subprocess.TimeoutExpired:
            print(f"{command[0]} took more than {patience} s", file=sys.stderr)
            done = None
        if done is None or done.returncode != 0:
            self.failed = True
            return None
        return done.stdout

    def measure(self, *command, patience=PATIENCE):
        out = self.run(*command, patience=patience)
        return None if out is None else json.loads(out)

    def step_command(self, preset, overrides, warmup, steps):
        return ["cairn", "bench", "step", preset, "--json", "--warmup", str(warmup), "--steps", str(steps),
                f"train.device={self.arguments.device}", *overrides]

    def overrides(self, micro, own):
        sizes = [f"micro_batch_size={micro}", f"global_batch_size={MICRO_BATCHES * micro}", *own]
        return [*ONE_RANK, *sizes, *(SMALL if self.arguments.device == "cpu" else [])]

    def models(self):
        print("| model | tokens/s | TFLOP/s | MFU | of the product rate | memory | PyTorch tokens/s | "
              "memory | Cairn is |\n|---|---|---|---|---|---|---|---|---|")
        for name, (preset, micro, own) in MODELS.items():
            overrides = self.overrides(micro, own)
            cairn = self.measure(*self.step_command(preset, overrides, 1, 4))
            path = self.arguments.configs / f"{preset}.textproto"
            torch = None
            if self.arguments.python:
                torch = self.measure(self.arguments.python, PEERS / "gpt.py", path, "--compile", "--precision",
                                     "bf16", "--device", self.arguments.device, "--warmup", "1", "--steps", "4",
                                     *overrides, patience=PEER_PATIENCE)
            model = config.read(path, overrides)
            print(self.row(name, model, cairn, torch), flush=True)
        if not self.arguments.python:
            print("\nPyTorch is left out: no Python with it was found (`PEER_PYTHON` names one).")

    def graphs(self):
        """The smallest model, whose kernels are the shortest, kernel by kernel and as a CUDA graph."""
        preset, micro, own = MODELS["125M"]
        # The graph is recorded in the second step.
        eager, graph = (self.measure(*self.step_command(preset, [*self.overrides(micro, own), graphs], 2, 4))
                        for graphs in ("cuda_graphs=false", "cuda_graphs=true"))
        if not eager or not graph:
            return print("\nThe comparison with CUDA graphs failed.")
        print(f"\n125M with `cuda_graphs=true`: {graph['tokens_per_second']:,.0f} tokens/s, "
              f"{graph['tokens_per_second'] / eager['tokens_per_second']:.2f}x of without; "
              f"{gigabytes(graph['peak_memory_bytes'])} instead of {gigabytes(eager['peak_memory_bytes'])}.")

    def row(self, name, model, cairn, torch):
        cells = [name]
        if cairn:
            rate = cairn["tokens_per_second"] * flops_per_token(model)
            of_product = 100 * rate / cairn["matmul_flops_per_second"]
            mfu = f"{100 * cairn['mfu']:.1f}%" if "mfu" in cairn else ""  # where Cairn knows the card's peak
            cells += [f"{cairn['tokens_per_second']:,.0f}", f"{rate / 1e12:.1f}", mfu,
                      f"{of_product:.1f}% of {cairn['matmul_flops_per_second'] / 1e12:.0f}",
                      gigabytes(cairn["peak_memory_bytes"])]
        else:
            cells += ["failed", "", "", "", ""]
        if torch:
            cells += [f"{torch['tokens_per_second']:,.0f}",
                      gigabytes(torch.get("peak_memory_bytes", torch["peak_resident_bytes"]))]
        else:
            cells += ["failed" if self.arguments.python else "", ""]
        cells += [f"{cairn['tokens_per_second'] / torch['tokens_per_second']:.2f}x" if cairn and torch else ""]
        return f"| {' | '.join(cells)} |"

    def kernels(self):
        """Where the GPU's time goes in steps of the 1.3B model, by kernel."""
        if shutil.which("nsys") is None:
            return print("\nThe split of a step's time by kernel is left out: nsys is not on this machine.")
        preset, micro, own = MODELS["1.3B"]
        with tempfile.TemporaryDirectory() as folder:
            report = os.path.join(folder, "step")
            made = self.run("nsys", "profile", "--trace=cuda", "--output", report,
                            *self.step_command(preset, self.overrides(micro, own), 1, 2))
            table = None if made is None else self.run(
                "nsys", "stats", "--quiet", "--report", "cuda_gpu_kern_sum", "--format", "csv", f"{report}.nsys-rep")
        if not table:
            return print("\nThe split of a step's time by kernel failed.")
        rows = list(csv.DictReader(table[table.index("Time (%)"):].splitlines()))
        print("\n| kernel, 1.3B | of the GPU's time | calls |\n|---|---|---|")
        for row in rows[:16]:
            name = re.sub(r"[<(].*", "", row["Name"].removeprefix("void "))
            print(f"| `{name}` | {row['Time (%)']}% | {row['Instances']} |")
        print(f"| {max(0, len(rows) - 16)} others | {sum(float(row['Time (%)']) for row in rows[16:]):.1f}% | |")


def gigabytes(count):
    return f"{count / 1e9:.1f} GB"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binaries", type=os.path.abspath)
    parser.add_argument("configs", type=Path)
    parser.add_argument("--python", default="")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    bench = Bench(parser.parse_args())
    bench.models()
    bench.graphs()
    bench.kernels()
    sys.exit(1 if bench.failed else 0)


if __name__ == "__main__":
    main()
