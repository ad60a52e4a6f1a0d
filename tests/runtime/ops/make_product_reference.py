#!/usr/bin/python3
"""Writes linear_reference.json and attention_reference.json beside this file: what PyTorch computes
(in fp64, with its own gradients) for the inputs that the files hold."""
import json
import math
import pathlib

import torch

FOLDER = pathlib.Path(__file__).parent


def random(generator, *shape):
    """Normal numbers, rounded to multiples of 1/64: exact in every floating dtype of the tests."""
    x = torch.randn(*shape, generator=generator, dtype=torch.float64).clamp(-2, 2)
    return ((x * 64).round() / 64).requires_grad_()


def flat(tensor):
    return [float(f"{x:.9g}") for x in tensor.detach().reshape(-1).tolist()]


def write(name, values):
    fields = {k: flat(v) if torch.is_tensor(v) else v for k, v in values.items()}
    lines = [f'"{k}": {json.dumps(v, separators=(",", ":"))}' for k, v in fields.items()]
    (FOLDER / name).write_text("{" + ",\n".join(lines) + "}\n")


def linear(generator):
    x, weight, bias = random(generator, 6, 10), random(generator, 7, 10), random(generator, 7)
    dy = random(generator, 6, 7)
    y = torch.nn.functional.linear(x, weight, bias)
    y.backward(dy)
    write("linear_reference.json", dict(
        tokens=6, inputs=10, outputs=7, x=x, weight=weight, bias=bias, dy=dy, y=y, dx=x.grad,
        dweight=weight.grad, dbias=bias.grad))


def attention(generator):
    samples, seq, heads, groups, dim = 2, 13, 4, 2, 8
    per_group = heads // groups
    qkv = random(generator, samples * seq, groups * (per_group + 2) * dim)
    dout = random(generator, samples * seq, heads * dim)
    parts = qkv.view(samples, seq, groups, per_group + 2, dim).permute(0, 2, 3, 1, 4)
    q = parts[:, :, :per_group]
    k, v = parts[:, :, per_group:per_group + 1], parts[:, :, per_group + 1:]
    scores = q @ k.transpose(-1, -2) / math.sqrt(dim)
    future = torch.ones(seq, seq, dtype=torch.bool).triu(1)
    probs = scores.masked_fill(future, -math.inf).softmax(-1)
    out = (probs @ v).permute(0, 3, 1, 2, 4).reshape(samples * seq, heads * dim)
    out.backward(dout)
    write("attention_reference.json", dict(
        samples=samples, seq_length=seq, heads=heads, groups=groups, head_dim=dim, qkv=qkv,
        dout=dout, out=out, dqkv=qkv.grad))


if __name__ == "__main__":
    GENERATOR = torch.Generator().manual_seed(20)
    linear(GENERATOR)
    attention(GENERATOR)
