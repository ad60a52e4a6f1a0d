#!/usr/bin/env python3
"""Makes hugging_face/*: small GPT-2s as transformers writes them, and what it says of some tokens.

Needs torch and transformers (Debian: python3-torch; transformers 4.41.2 of PyPI made what is
committed). reference.safetensors holds tokens and targets [samples, length], the logits that follow
each token, and the mean loss, computed in fp64. Usage: make_hugging_face_reference.py [FOLDER]
"""
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn import functional
from transformers import GPT2Config, GPT2LMHeadModel, GPT2Model


def fill(model, generator):
    """Weights that a trained model might have: no zeros, no ones, nothing symmetric."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
            if weight.dim() == 1:
                weight.copy_((1.0 if "ln_" in name and "weight" in name else 0.0) + 0.1 * noise)
            else:
                weight.copy_(noise * (0.2 if "wte" in name else weight.shape[0] ** -0.5))


def make(folder, config, generator, dtype, bare, **saving):
    model = GPT2LMHeadModel(config)
    fill(model, generator)
    model.to(dtype).eval()
    folder.mkdir(parents=True, exist_ok=True)
    (model.transformer if bare else model).save_pretrained(folder, **saving)
    (folder / "generation_config.json").unlink(missing_ok=True)
    samples, length = 3, config.n_positions
    tokens = torch.randint(0, config.vocab_size, (samples, length), generator=generator)
    targets = torch.randint(0, config.vocab_size, (samples, length), generator=generator)
    with torch.no_grad():
        logits = model.double()(tokens).logits
    loss = functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
    save_file({"tokens": tokens.int(), "targets": targets.int(), "logits": logits.float(),
               "loss": loss.reshape(1)}, folder / "reference.safetensors")


def main():
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "hugging_face")
    generator = torch.Generator().manual_seed(20190214)
    no_end = {"bos_token_id": None, "eos_token_id": None}
    make(folder / "gpt2",
         GPT2Config(vocab_size=61, n_positions=19, n_embd=48, n_layer=3, n_head=4, **no_end),
         generator, torch.float32, bare=False)
    # The model without its output layer has names without the prefix; in bf16, cut into files.
    make(folder / "bare_bf16_sharded",
         GPT2Config(vocab_size=23, n_positions=11, n_embd=36, n_layer=2, n_head=3, n_inner=50,
                    layer_norm_epsilon=1e-3, activation_function="gelu_pytorch_tanh",
                    resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.25, **no_end),
         generator, torch.bfloat16, bare=True, max_shard_size="20KB")


if __name__ == "__main__":
    main()
