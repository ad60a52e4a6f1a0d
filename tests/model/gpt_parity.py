#!/usr/bin/env python3
"""Writes what PyTorch says of small GPTs to data/*.safetensors; the parity tests hold Cairn to it.

Needs torch (Debian: python3-torch). Everything is computed in fp64 from fp32 weights.
Usage: gpt_parity.py [FOLDER]
"""
import json
import math
import struct
import sys
from pathlib import Path

import torch
from torch.nn import functional

# Extents that are odd, differ from each other, and divide by as little as a cut over two ranks needs.
GPT = {
    "num_layers": 3, "hidden_size": 48, "ffn_hidden_size": 100, "num_attention_heads": 4,
    "num_query_groups": 4, "seq_length": 17, "max_position_embeddings": 19, "vocab_size": 61,
    "samples": 4,
}
# Grouped-query attention, and tokens that do not count in the loss.
GROUPED = {
    "num_layers": 1, "hidden_size": 36, "ffn_hidden_size": 50, "num_attention_heads": 6,
    "num_query_groups": 2, "seq_length": 11, "max_position_embeddings": 11, "vocab_size": 23,
    "samples": 2,
}
TRAINING = {
    "train_iters": 10, "lr": 4e-3, "min_lr": 5e-4, "lr_warmup_iters": 3, "adam_beta1": 0.9,
    "adam_beta2": 0.95, "adam_eps": 1e-8, "weight_decay": 0.1, "clip_grad": 2.0,  # some steps are clipped, others are not
}
EPSILON = 1e-5


def make_weights(config, generator):
    """Weights that a trained model might have: no zeros, no ones, nothing symmetric."""
    hidden, ffn = config["hidden_size"], config["ffn_hidden_size"]
    heads, groups = config["num_attention_heads"], config["num_query_groups"]
    qkv = (heads + 2 * groups) * (hidden // heads)

    def normal(*shape, mean=0.0, deviation=1.0):
        noise = torch.randn(*shape, generator=generator, dtype=torch.float64)
        return (mean + deviation * noise).float().double().requires_grad_()

    def norm(name):
        return {f"{name}.weight": normal(hidden, mean=1.0, deviation=0.2),
                f"{name}.bias": normal(hidden, deviation=0.1)}

    def linear(name, rows, columns):
        return {f"{name}.weight": normal(rows, columns, deviation=columns**-0.5),
                f"{name}.bias": normal(rows, deviation=0.1)}

    weights = {
        "embedding.token.weight": normal(config["vocab_size"], hidden, deviation=0.2),
        "embedding.position.weight": normal(config["max_position_embeddings"], hidden, deviation=0.1),
    }
    for layer in range(config["num_layers"]):
        name = f"layers.{layer}"
        weights |= norm(f"{name}.attention_norm")
        weights |= linear(f"{name}.attention.qkv", qkv, hidden)
        weights |= linear(f"{name}.attention.output", hidden, hidden)
        weights |= norm(f"{name}.mlp_norm")
        weights |= linear(f"{name}.mlp.fc1", ffn, hidden)
        weights |= linear(f"{name}.mlp.fc2", hidden, ffn)
    return weights | norm("final_norm")


def attention(config, qkv):
    """Causal attention. The columns of qkv [b, s, _] stand group by group: queries, key, value."""
    batch, length, _ = qkv.shape
    groups = config["num_query_groups"]
    shared = config["num_attention_heads"] // groups
    size = config["hidden_size"] // config["num_attention_heads"]
    parts = qkv.view(batch, length, groups, shared + 2, size)
    query = parts[:, :, :, :shared]
    key, value = parts[:, :, :, shared], parts[:, :, :, shared + 1]
    scores = torch.einsum("bqgnd,bkgd->bgnqk", query, key) / math.sqrt(size)
    future = torch.ones(length, length, dtype=torch.bool).triu(1)
    probabilities = scores.masked_fill(future, -math.inf).softmax(-1)
    return torch.einsum("bgnqk,bkgd->bqgnd", probabilities, value).reshape(batch, length, -1)


def forward(config, weights, tokens):
    """Logits [b, s, V] of a pre-norm GPT whose output projection is the token embedding."""
    def linear(name, x):
        return functional.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def norm(name, x):
        return functional.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"],
                                     weights[f"{name}.bias"], EPSILON)

    positions = weights["embedding.position.weight"][: tokens.shape[1]]
    x = weights["embedding.token.weight"][tokens] + positions
    for layer in range(config["num_layers"]):
        name = f"layers.{layer}"
        qkv = linear(f"{name}.attention.qkv", norm(f"{name}.attention_norm", x))
        x = x + linear(f"{name}.attention.output", attention(config, qkv))
        hidden = linear(f"{name}.mlp.fc1", norm(f"{name}.mlp_norm", x))
        x = x + linear(f"{name}.mlp.fc2", functional.gelu(hidden, approximate="tanh"))
    return norm("final_norm", x) @ weights["embedding.token.weight"].T


def mean_loss(logits, targets):
    """Over all tokens; those with the target -1 count as 0."""
    losses = functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1,
                                      reduction="none")
    return losses.mean()


def learning_rate(iteration):
    """Linear warm-up, then a cosine to min_lr at the last iteration."""
    peak, least, warmup = TRAINING["lr"], TRAINING["min_lr"], TRAINING["lr_warmup_iters"]
    if iteration <= warmup:
        return peak * iteration / warmup
    progress = (iteration - warmup) / (TRAINING["train_iters"] - warmup)
    return least + (peak - least) * (1 + math.cos(math.pi * progress)) / 2


def train(config, weights, generator):
    """What each of the optimizer's steps sees: loss, gradient norm before clipping, learning rate."""
    weights = {name: weight.detach().clone().requires_grad_() for name, weight in weights.items()}
    matrices = [weight for weight in weights.values() if weight.dim() == 2]
    vectors = [weight for weight in weights.values() if weight.dim() == 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": TRAINING["weight_decay"]},
         {"params": vectors, "weight_decay": 0.0}],
        betas=(TRAINING["adam_beta1"], TRAINING["adam_beta2"]), eps=TRAINING["adam_eps"])
    steps = TRAINING["train_iters"]
    samples = torch.randint(0, config["vocab_size"],
                            (steps * config["samples"], config["seq_length"] + 1),
                            generator=generator)
    history = []
    for step, batch in enumerate(samples.split(config["samples"])):
        rate = learning_rate(step + 1)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        loss = mean_loss(forward(config, weights, batch[:, :-1]), batch[:, 1:])
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(weights.values(), TRAINING["clip_grad"])
        optimizer.step()
        history.append((loss.item(), norm.item(), rate))
    columns = torch.tensor(history, dtype=torch.float64).unbind(1)
    return {"samples": samples.int(), **dict(zip(("loss", "grad_norm", "learning_rate"), columns))}


def write_safetensors(path, tensors, metadata):
    """The format is a JSON header and raw bytes: no need for a library."""
    types = {torch.float64: "F64", torch.float32: "F32", torch.int32: "I32"}
    header, data = {"__metadata__": {key: str(value) for key, value in metadata.items()}}, b""
    for name, tensor in sorted(tensors.items(), key=lambda item: -item[1].element_size()):
        tensor = tensor.detach().contiguous()
        content = tensor.numpy().tobytes()
        header[name] = {"dtype": types[tensor.dtype], "shape": list(tensor.shape),
                        "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def write_case(folder, name, config, weights, generator, ignored):
    """NAME_weights.safetensors and NAME_reference.safetensors (gradients by parameter name)."""
    shape = (config["samples"], config["seq_length"])
    tokens = torch.randint(0, config["vocab_size"], shape, generator=generator)
    targets = torch.randint(0, config["vocab_size"], shape, generator=generator)
    targets.view(-1)[torch.randperm(targets.numel(), generator=generator)[:ignored]] = -1
    logits = forward(config, weights, tokens)
    loss = mean_loss(logits, targets)
    loss.backward()
    reference = {f"gradient.{key}": weight.grad.float() for key, weight in weights.items()}
    reference |= {"tokens": tokens.int(), "targets": targets.int(), "logits": logits.float(),
                  "loss": loss.reshape(1)}
    write_safetensors(folder / f"{name}_weights.safetensors",
                      {key: weight.float() for key, weight in weights.items()}, config)
    write_safetensors(folder / f"{name}_reference.safetensors", reference, config)


def main():
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "data")
    generator = torch.Generator().manual_seed(20200528)
    weights = make_weights(GPT, generator)
    write_case(folder, "gpt", GPT, weights, generator, ignored=0)
    write_safetensors(folder / "gpt_training.safetensors", train(GPT, weights, generator),
                      GPT | TRAINING)
    write_case(folder, "grouped", GROUPED, make_weights(GROUPED, generator), generator, ignored=5)


if __name__ == "__main__":
    main()
