#!/usr/bin/env python3
"""Training steps of a GPT in PyTorch, as its users write them; prints what `cairn bench step` does as JSON.

Usage: gpt.py CONFIG --precision fp32|bf16 [--device cpu|cuda] [--compile] [--warmup N] [--steps N] [FIELD=VALUE...]
CONFIG is one of Cairn's configs; OMP_NUM_THREADS says how many threads. On a GPU attention is cuDNN's.
"""
import argparse
import contextlib
import json
import resource
import statistics
import time

import torch
from torch import nn
from torch.nn import functional

import config as cairn_config


class Attention(nn.Module):
    def __init__(self, hidden, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.output = nn.Linear(hidden, hidden)

    def forward(self, x):
        batch, length, hidden = x.shape
        query, key, value = (part.view(batch, length, self.heads, -1).transpose(1, 2)
                             for part in self.qkv(x).split(hidden, dim=2))
        attended = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.output(attended.transpose(1, 2).reshape(batch, length, hidden))


class Layer(nn.Module):
    def __init__(self, hidden, heads):
        super().__init__()
        self.attention_norm = nn.LayerNorm(hidden)
        self.attention = Attention(hidden, heads)
        self.mlp_norm = nn.LayerNorm(hidden)
        self.fc1 = nn.Linear(hidden, 4 * hidden)
        self.fc2 = nn.Linear(4 * hidden, hidden)

    def forward(self, x):
        x = x + self.attention(self.attention_norm(x))
        return x + self.fc2(functional.gelu(self.fc1(self.mlp_norm(x)), approximate="tanh"))


class Gpt(nn.Module):
    def __init__(self, config):
        super().__init__()
        hidden = config["hidden_size"]
        self.token = nn.Embedding(config["vocab_size"], hidden)
        self.position = nn.Embedding(config["seq_length"], hidden)
        self.layers = nn.ModuleList(Layer(hidden, config["num_attention_heads"])
                                    for _ in range(config["num_layers"]))
        self.norm = nn.LayerNorm(hidden)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, tokens, targets):
        x = self.token(tokens) + self.position.weight
        for layer in self.layers:
            x = layer(x)
        logits = functional.linear(self.norm(x), self.token.weight)
        return functional.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("config")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--precision", choices=["fp32", "bf16"], required=True)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10)
    arguments = parser.parse_intermixed_args()
    config = cairn_config.read(arguments.config, arguments.overrides)
    on_gpu = arguments.device == "cuda"

    torch.manual_seed(1)
    with torch.device(arguments.device):
        model = Gpt(config)
        tokens = torch.randint(config["vocab_size"], (config["global_batch_size"], config["seq_length"] + 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1,
                                  fused=True)
    run = torch.compile(model) if arguments.compile else model
    micro_batches = [(part[:, :-1].contiguous(), part[:, 1:].contiguous())
                     for part in tokens.split(config["micro_batch_size"])]

    def attention():
        if not on_gpu:
            return contextlib.nullcontext()
        return nn.attention.sdpa_kernel(nn.attention.SDPBackend.CUDNN_ATTENTION)

    def step():
        total = 0
        for inputs, targets in micro_batches:
            with attention(), torch.autocast(arguments.device, torch.bfloat16,
                                             enabled=arguments.precision == "bf16"):
                loss = run(inputs, targets) / len(micro_batches)
            loss.backward()
            total = total + loss.detach()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return total.item()

    seconds = []
    for _ in range(arguments.warmup + arguments.steps):
        start = time.monotonic()
        step()
        if on_gpu:
            torch.cuda.synchronize()
        seconds.append(time.monotonic() - start)
    median = statistics.median_high(seconds[arguments.warmup:])
    result = {
        "tokens_per_second": config["global_batch_size"] * config["seq_length"] / median,
        "iteration_time_ms": median * 1e3,
        "peak_resident_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
    if on_gpu:
        result["peak_memory_bytes"] = torch.cuda.max_memory_allocated()
    print(json.dumps(result))


if __name__ == "__main__":
    main()
