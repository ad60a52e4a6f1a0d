#!/usr/bin/env python3
"""Cairn and PyTorch in turns: prints each round, then the medians and Cairn's ratio with its spread.

Usage: compare.py [--rounds N] [--precisions fp32,bf16] [--peers eager,compile] [CONFIG | FIELD=VALUE]...
Overrides are Cairn's; PyTorch heeds those of sizes.
"""
import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
# Steps that are not counted and that are, of each process of a round.
STEPS = {"small": (3, 15), "gpt2-124m": (1, 2)}


def measure(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("arguments", nargs="*")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precisions", default="fp32,bf16")
    parser.add_argument("--peers", default="eager,compile")
    arguments = parser.parse_args()
    peers = arguments.peers.split(",")
    overrides = [argument for argument in arguments.arguments if "=" in argument]
    configs = [argument for argument in arguments.arguments if "=" not in argument] or list(STEPS)
    for name in configs:
        if name not in STEPS:
            parser.error(f"no config \"{name}\": there are {', '.join(STEPS)}")
    for name in configs:
        config = str(HERE / f"{name}.textproto")
        warmup, steps = (str(n) for n in STEPS[name])
        counts = ["--warmup", warmup, "--steps", steps]
        for precision in arguments.precisions.split(","):
            commands = {"cairn": ["cairn", "bench", "step", config, "--json", *counts,
                                  f"train.precision={precision}", *overrides]}
            for peer in peers:
                commands[peer] = [sys.executable, str(HERE / "gpt.py"), config, *overrides, *counts,
                                  "--precision", precision, *(["--compile"] if peer == "compile" else [])]
            rounds = []
            for _ in range(arguments.rounds):
                rounds.append({who: measure(command) for who, command in commands.items()})
                print(f"  {name} {precision}: " + ", ".join(
                    f"{who} {result['tokens_per_second']:.0f}" for who, result in rounds[-1].items()),
                    file=sys.stderr, flush=True)

            def median(who, key):
                return statistics.median(result[who][key] for result in rounds)

            own = rounds[0]["cairn"]
            print(f"{' '.join([name, precision, *overrides])}: cairn {median('cairn', 'tokens_per_second'):.0f} tokens/s, "
                  f"{median('cairn', 'peak_resident_bytes') / 1e6:.0f} MB; forward and backward at "
                  f"{100 * median('cairn', 'forward_backward_of_matmul_rate'):.0f}% of the matmul rate")
            for peer in peers:
                if rounds[0][peer]["threads"] != own["threads"]:
                    sys.exit(f"cairn ran {own['threads']} threads, PyTorch {rounds[0][peer]['threads']}")
                speed = sorted(result["cairn"]["tokens_per_second"] / result[peer]["tokens_per_second"]
                               for result in rounds)
                memory = median("cairn", "peak_resident_bytes") / median(peer, "peak_resident_bytes")
                print(f"  PyTorch {rounds[0][peer]['torch']} {peer}: "
                      f"{median(peer, 'tokens_per_second'):.0f} tokens/s, "
                      f"{median(peer, 'peak_resident_bytes') / 1e6:.0f} MB; cairn is "
                      f"{statistics.median(speed):.2f}x as fast ({speed[0]:.2f} to {speed[-1]:.2f}) "
                      f"in {memory:.2f}x the memory", flush=True)


if __name__ == "__main__":
    main()
