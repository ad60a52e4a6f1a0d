#!/usr/bin/env python3
"""Tokens/s of layouts that share two cores, as a ratio to one rank with 2 threads: see ranks.sh."""
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

CORES = 2
SAMPLES = 4  # of a step
# Ranks, samples of a microbatch, and how the ranks are used. Pipelines need several microbatches.
LAYOUTS = {
    "1 rank, 2 threads": (1, 4, ()),
    "tp 2": (2, 4, ("tensor_model_parallel_size=2",)),
    "tp 2, sequence parallel": (2, 4, ("tensor_model_parallel_size=2", "sequence_parallel=true")),
    "dp 2": (2, 2, ()),
    "dp 2, ZeRO-1": (2, 2, ("data_parallel_sharding_strategy=optim",)),
    "pp 2": (2, 1, ("pipeline_model_parallel_size=2",)),
    "tp 2 x dp 2": (4, 2, ("tensor_model_parallel_size=2",)),
    "tp 2 x pp 2": (4, 1, ("tensor_model_parallel_size=2", "pipeline_model_parallel_size=2")),
    "dp 4": (4, 1, ()),
    "dp 4, ZeRO-1": (4, 1, ("data_parallel_sharding_strategy=optim",)),
}


def tokens_per_second(ranks, samples, overrides, config):
    command = ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", str(ranks)] if ranks > 1 else []
    environment = dict(os.environ, OMP_NUM_THREADS=str(max(1, CORES // ranks)))
    done = subprocess.run([*command, "cairn", "bench", "step", *config, *overrides,
                           f"train.global_batch_size={SAMPLES}", f"train.micro_batch_size={samples}",
                           "--json", "--steps", "8"],
                          stdout=subprocess.PIPE, check=True, env=environment)
    return json.loads(done.stdout)["tokens_per_second"]


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    name = sys.argv[2] if len(sys.argv) > 2 else "small"
    config = [str(Path(__file__).parent / f"{name}.textproto"), *sys.argv[3:]]
    rates = {layout: [] for layout in LAYOUTS}
    for _ in range(rounds):
        for layout, (ranks, samples, overrides) in LAYOUTS.items():
            rates[layout].append(tokens_per_second(ranks, samples, overrides, config))
    base = rates["1 rank, 2 threads"]
    for layout, own in rates.items():
        ratios = sorted(a / b for a, b in zip(own, base))
        print(f"{layout:24} {statistics.median(own):7.0f} tokens/s, {statistics.median(ratios):.2f} of one rank "
              f"({ratios[0]:.2f} to {ratios[-1]:.2f})", flush=True)


main()
