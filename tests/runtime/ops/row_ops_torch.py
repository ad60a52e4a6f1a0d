"""Writes row_ops_torch.json, the values of PyTorch that row_ops_torch_test.cc compares with.

Usage: python3 row_ops_torch.py > row_ops_torch.json
"""

import json

import torch
import torch.nn.functional as F

torch.manual_seed(7)


def flat(tensor):
    return [float(f"{v:.9g}") for v in tensor.detach().double().flatten().tolist()]


def gelu():
    x = torch.cat([torch.randn(61) * 3, torch.tensor([0.0, -0.0, 12.0, -12.0])])
    x.requires_grad_()
    dy = torch.randn_like(x)
    y = F.gelu(x, approximate="tanh")
    y.backward(dy)
    return {"x": flat(x), "dy": flat(dy), "y": flat(y), "dx": flat(x.grad)}


def layer_norm():
    rows, h, epsilon = 5, 37, 1e-5
    x = (torch.randn(rows, h) * 2 + 3).requires_grad_()
    gamma = (torch.randn(h) * 0.3 + 1).requires_grad_()
    beta = torch.randn(h).requires_grad_()
    dy = torch.randn(rows, h)
    y = F.layer_norm(x, (h,), gamma, beta, epsilon)
    y.backward(dy)
    return {"rows": rows, "h": h, "epsilon": epsilon, "x": flat(x), "gamma": flat(gamma),
            "beta": flat(beta), "dy": flat(dy), "y": flat(y), "dx": flat(x.grad),
            "dgamma": flat(gamma.grad), "dbeta": flat(beta.grad)}


def cross_entropy():
    tokens, vocabulary = 7, 41
    logits = (torch.randn(tokens, vocabulary) * 4).requires_grad_()
    targets = torch.tensor([0, 40, 13, -100, 20, 21, 5])
    loss = F.cross_entropy(logits, targets, reduction="none")
    loss.sum().backward()
    return {"tokens": tokens, "vocabulary": vocabulary, "logits": flat(logits),
            "targets": targets.tolist(), "loss": flat(loss), "dlogits": flat(logits.grad)}


def adamw():
    n, steps = 23, 10
    options = {"lr": 0.01, "betas": [0.9, 0.95], "eps": 1e-8, "weight_decay": 0.1}
    parameter = torch.nn.Parameter(torch.randn(n))
    optimizer = torch.optim.AdamW([parameter], lr=options["lr"], betas=tuple(options["betas"]),
                                  eps=options["eps"], weight_decay=options["weight_decay"])
    record = {"n": n, "initial": flat(parameter), "gradients": [], "parameters": [], **options}
    for _ in range(steps):
        parameter.grad = torch.randn(n) * 10 ** (torch.rand(n) * 6 - 5)
        optimizer.step()
        record["gradients"].append(flat(parameter.grad))
        record["parameters"].append(flat(parameter))
    state = optimizer.state[parameter]
    return {**record, "exp_avg": flat(state["exp_avg"]), "exp_avg_sq": flat(state["exp_avg_sq"])}


print(json.dumps({"torch": torch.__version__, "gelu": gelu(), "layer_norm": layer_norm(),
                  "cross_entropy": cross_entropy(), "adamw": adamw()}))
