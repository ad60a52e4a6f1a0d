#!/usr/bin/env python3
"""Cairn and the libraries of Hugging Face read each other's files and compute the same.

Run by hugging_face.sh, with `cairn` and `mpirun` on the PATH. Usage: hugging_face.py FOLDER
"""
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy
import torch
from safetensors import safe_open
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel
from transformers.utils import logging

logging.disable_progress_bar()
SOURCE = Path(__file__).resolve().parents[2]
TOLERANCE = 1e-5  # relative, of losses: Cairn's are fp32, the reference fp64
TEXT = SOURCE / "README.md"

CONFIG = """
run_dir: "run"
model { num_layers: 3 hidden_size: 48 num_attention_heads: 4 seq_length: 32 vocab_size: 301
        make_vocab_size_divisible_by: 64 }
train { micro_batch_size: 2 global_batch_size: 8 train_iters: 60 }
optimizer { lr: 0.01 lr_warmup_iters: 5 }
data { data_path: "words" tokenizer: "tokenizer.json" split: "1" }
checkpoint { save_interval: 30 }
"""


def cairn(*words, ranks=1):
    """Runs the program; its standard output, parsed where --json was asked for."""
    launch = ["mpirun", "--oversubscribe", "-n", str(ranks)] if ranks > 1 else []
    done = subprocess.run([*launch, "cairn", *words], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"cairn {' '.join(words)}: status {done.returncode}\n{done.stderr}")
    return json.loads(done.stdout) if "--json" in words else done.stdout


def check(name, ok, detail=""):
    print(f"{'ok  ' if ok else 'FAIL'} {name}{': ' if detail else ''}{detail}")
    if not ok:
        sys.exit(1)


def close(name, ours, theirs):
    deviation = abs(ours / theirs - 1)
    check(name, deviation <= TOLERANCE, f"{ours:.7f} and {theirs:.7f}, relative {deviation:.1e}")


def reference_loss(folder, prefix, length):
    """transformers' mean loss, in fp64, over the windows that `cairn eval --split all` takes."""
    model = AutoModelForCausalLM.from_pretrained(folder).double().eval()
    tokens = torch.from_numpy(numpy.fromfile(f"{prefix}.bin", dtype=numpy.uint16).astype(numpy.int64))
    count = (len(tokens) - 1) // length
    losses = []
    with torch.no_grad():
        for i in range(count):
            window = tokens[i * length : (i + 1) * length + 1]
            logits = model(window[:-1][None]).logits[0]
            losses.append(torch.nn.functional.cross_entropy(logits, window[1:]).item())
    return sum(losses) / count, count * length


def compare_loss(name, checkpoint, folder, prefix, length):
    ours = cairn("eval", str(checkpoint), "--data", prefix, "--split", "all", "--json")
    theirs, tokens = reference_loss(folder, prefix, length)
    check(f"{name}: as many tokens", ours["tokens"] == tokens, f"{tokens}")
    close(f"{name}: loss", ours["lm_loss"], theirs)


def whole_weights(step):
    """The weights in a step folder, put together from its shards by the names of their entries."""
    weights = {}
    for path in sorted(step.glob("*.safetensors")):
        with safe_open(path, framework="np") as file:
            for entry in file.keys():
                array = file.get_tensor(entry)
                name, kind, offsets = re.fullmatch(r"([^@#]+)(?:@(\w+))?(?:#([\d,]+))?", entry).groups()
                if kind is None:
                    start = [int(x) for x in offsets.split(",")] if offsets else [0] * array.ndim
                    weights.setdefault(name, []).append((start, array))
    joined = {}
    for name, pieces in weights.items():
        shape = [max(s[d] + a.shape[d] for s, a in pieces) for d in range(pieces[0][1].ndim)]
        joined[name] = numpy.full(shape, numpy.nan, dtype=pieces[0][1].dtype)
        for start, array in pieces:
            joined[name][tuple(slice(s, s + n) for s, n in zip(start, array.shape))] = array
    return joined


def as_gpt2(weights, heads):
    """The same under Hugging Face's names, written down apart from Cairn's own table."""
    outside = {"embedding.token": "wte", "embedding.position": "wpe", "final_norm": "ln_f"}
    inside = {"attention_norm": "ln_1", "attention.qkv": "attn.c_attn",
              "attention.output": "attn.c_proj", "mlp_norm": "ln_2", "mlp.fc1": "mlp.c_fc",
              "mlp.fc2": "mlp.c_proj"}
    result = {}
    for name, array in weights.items():
        stem, end = name.rsplit(".", 1)
        if stem in outside:
            result[f"transformer.{outside[stem]}.{end}"] = array
            continue
        layer, part = re.fullmatch(r"layers\.(\d+)\.(.+)", stem).groups()
        if part == "attention.qkv":
            # Head by head its query, key and value: all queries first, then all keys, then all values.
            rows = array.reshape(heads, 3, -1, *array.shape[1:])
            array = numpy.concatenate([rows[:, i].reshape(-1, *array.shape[1:]) for i in range(3)])
        if array.ndim == 2:
            array = array.T
        result[f"transformer.h.{layer}.{inside[part]}.{end}"] = array
    return result


def same_arrays(a, b):
    return a.keys() == b.keys() and all(numpy.array_equal(a[name], b[name]) for name in a)


def check_import():
    """Models that transformers made evaluate and train in Cairn."""
    cairn("data", "build", "text.txt", "--tokenizer", "byte", "--output", "bytes")
    torch.manual_seed(1)
    config = GPT2Config(vocab_size=257, n_positions=40, n_embd=60, n_layer=2, n_head=5, n_inner=100,
                        layer_norm_epsilon=1e-4, initializer_range=0.1)
    model = GPT2LMHeadModel(config)
    for parameter in model.parameters():  # biases and norms that do something
        parameter.data += 0.05 * torch.randn_like(parameter)
    model.save_pretrained("made")
    cairn("ckpt", "import", "made", "imported")
    compare_loss("import", "imported", "made", "bytes", 40)
    model.half().save_pretrained("made16", max_shard_size="50KB")
    check("sharded by transformers", len(list(Path("made16").glob("*.safetensors"))) > 2)
    cairn("ckpt", "import", "made16", "imported16")
    compare_loss("import of fp16 shards", "imported16", "made16", "bytes", 40)

    cairn("train", "imported/config.textproto", "load=imported", "data_path=bytes", "run_dir=tuned",
          "split=1", "train_iters=12", "lr=0.003", "lr_warmup_iters=2", "micro_batch_size=2",
          "--pipeline-model-parallel-size", "2", ranks=2)
    lines = [json.loads(line) for line in open("tuned/metrics.jsonl")]
    check("an import trains", lines[-1]["lm_loss"] < lines[0]["lm_loss"] - 0.3,
          f"{lines[0]['lm_loss']:.3f} to {lines[-1]['lm_loss']:.3f}")
    cairn("ckpt", "export", "tuned", "tuned-out")
    compare_loss("trained further and exported", "tuned", "tuned-out", "bytes", 40)


def check_export():
    """Models that Cairn trained, in other layouts, load in transformers."""
    cairn("data", "train-tokenizer", "text.txt", "--vocab-size", "301", "--output",
          "tokenizer.json")
    cairn("data", "build", "text.txt", "--tokenizer", "tokenizer.json", "--output", "words")
    Path("train.textproto").write_text(CONFIG)
    cairn("train", "train.textproto", "--tensor-model-parallel-size", "2",
          "--data-parallel-sharding-strategy", "optim", ranks=4)
    said = cairn("ckpt", "export", "run", "out", "--max-shard-size", "100KB", "--json")
    check("exported in shards", len([f for f in said["files"] if ".safetensors" in f["name"]]) > 3)
    compare_loss("export", "run", "out", "words", 32)

    for step in sorted(Path("run/checkpoints").glob("step-*")):
        weights = as_gpt2(whole_weights(step), heads=4)
        cairn("ckpt", "export", str(step), f"out-{step.name}")
        check(f"shards of {step.name} open with safetensors and hold what is exported",
              same_arrays(weights, load_file(f"out-{step.name}/model.safetensors")))

    cairn("ckpt", "export", "run", "out16", "--dtype", "BF16")
    full = AutoModelForCausalLM.from_pretrained("out", torch_dtype=torch.bfloat16).state_dict()
    half = AutoModelForCausalLM.from_pretrained("out16", torch_dtype="auto").state_dict()
    check("bf16 is rounded as PyTorch does",
          all(half[n].dtype == torch.bfloat16 and torch.equal(full[n], half[n]) for n in full))

    text = Path("text.txt").read_text()
    tokenizer = AutoTokenizer.from_pretrained("out")
    ids = numpy.fromfile("words.bin", dtype=numpy.uint16).tolist()
    check("the tokenizer is the same", tokenizer(text)["input_ids"] == ids[:-1],
          f"{len(ids)} tokens, the last ends the document")
    prompt = "Cairn trains"
    model = AutoModelForCausalLM.from_pretrained("out").double().eval()
    start = tokenizer(prompt)["input_ids"]
    ids = list(start)
    with torch.no_grad():
        for _ in range(8):
            ids.append(model(torch.tensor([ids])).logits[0, -1].argmax().item())
    ours = cairn("generate", "run", "--prompt", prompt, "--temperature", "0", "--max-new-tokens", "8",
                 "--json")
    check("the likeliest continuation is the same",
          tokenizer.decode(ids[len(start):]) == ours["text"], repr(ours["text"]))


def main():
    os.chdir(sys.argv[1])
    Path("text.txt").write_text(TEXT.read_text())
    check_import()
    check_export()


if __name__ == "__main__":
    main()
