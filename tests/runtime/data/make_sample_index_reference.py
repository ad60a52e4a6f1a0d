#!/usr/bin/env python3
"""Writes sample_index_reference.json: the sample order of a GPT dataset, worked out with numpy.

Follows the description of Megatron-LM's order: repeat the sequences over epochs, shuffle them, cut them into
samples of seq_length + 1 tokens that share one with their neighbour, shuffle the samples; one RandomState for
all. Needs `pip install numpy`. Run in this folder; the tests read what it writes.
"""
import itertools
import json
from pathlib import Path

import numpy as np

THRESHOLD = 0.80


def split_bounds(weights, count):
    shares = np.array(weights, dtype=np.float64)
    shares = (shares / np.sum(shares)).tolist()
    edges = [0] + list(itertools.accumulate(shares))
    return [int(round(edge * float(count))) for edge in edges]


def shuffled(random, values):
    random.shuffle(values)
    return values


def sample_index(lengths, first, last, num_samples, seq_length, seed):
    tokens = sum(lengths[first:last])
    epochs = 1
    if num_samples is not None:
        while epochs * tokens < num_samples * seq_length + 1:
            epochs += 1
    apart = False
    before_last = ((epochs - 1) * tokens - 1) // seq_length
    if epochs > 1:
        apart = num_samples - before_last < int(THRESHOLD * ((tokens - 1) // seq_length))

    random = np.random.RandomState(seed)
    groups = [epochs - 1, 1] if apart else [epochs]
    order = np.concatenate([
        shuffled(random, np.tile(np.arange(first, last), group).astype(np.int32)) for group in groups])

    # The slow and plain way: lay out the place of every token, then take every seq_length-th.
    places = [(position, offset) for position, document in enumerate(order) for offset in range(lengths[document])]
    total = (epochs * tokens - 1) // seq_length
    begins = [places[sample * seq_length] for sample in range(total + 1)]
    begins[0] = (0, 0)  # even where the first sequences are empty

    head = before_last if apart else total
    shuffle = shuffled(random, np.arange(0, head, dtype=np.uint32))
    if apart:
        shuffle = np.concatenate([shuffle, shuffled(random, np.arange(head, total, dtype=np.uint32))])
    return {"epochs": epochs, "order": order.tolist(), "begins": [list(map(int, begin)) for begin in begins],
            "shuffle": shuffle.tolist()}


def main():
    plain = [7, 1, 30, 12, 5, 9, 64, 3, 17, 2, 21]
    gaps = [0, 4, 0, 0, 9, 1, 0, 13, 0]
    many = np.random.RandomState(5).randint(1, 40, size=90).tolist()
    cases = []
    for lengths, first, last, num_samples, seq_length, seed in [
            (plain, 0, 11, None, 8, 1234), (plain, 0, 11, 0, 8, 1), (plain, 0, 11, 21, 8, 1),
            (plain, 0, 11, 22, 8, 1), (plain, 0, 11, 25, 8, 1), (plain, 0, 11, 42, 8, 1),
            (plain, 2, 7, 33, 5, 99), (plain, 1, 2, 3, 4, 7), (plain, 0, 11, 3, 200, 3),
            (gaps, 0, 9, None, 4, 0), (gaps, 0, 9, 31, 4, 2**32 - 1), (gaps, 0, 9, 8, 1, 17),
            (many, 0, 90, 120, 16, 42), (many, 10, 70, 200, 16, 42)]:
        cases.append({"lengths": lengths, "first": first, "last": last, "num_samples": num_samples,
                      "seq_length": seq_length, "seed": seed,
                      "index": sample_index(lengths, first, last, num_samples, seq_length, seed)})
    splits = [{"weights": weights, "count": count,
               "bounds": split_bounds(list(map(float, (weights + ",0,0").split(",")[:3])), count)}
              for weights in ["969,30,1", "1,1,1", "100", "90,10", "0,1,1", "0.5,0.25,0.25", "99,0.5,0.5", "98,2,0"]
              for count in [0, 1, 2, 3, 5, 10, 100, 1000, 1001, 12345]]
    Path("sample_index_reference.json").write_text(
        json.dumps({"cases": cases, "splits": splits}, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
