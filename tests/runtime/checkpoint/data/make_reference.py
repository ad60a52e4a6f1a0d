#!/usr/bin/env python3
"""Makes reference.safetensors with the reference library (pip install safetensors numpy).

safetensors_test.cc knows its content. Usage: make_reference.py OUTPUT
"""
import sys

import numpy
from safetensors.numpy import save_file

save_file(
    {
        "matrix": numpy.arange(12, dtype=numpy.float32).reshape(3, 4) / 8,
        "bytes": numpy.array([0, 127, 255], dtype=numpy.uint8),
        "half": numpy.array([1.0, -2.0, numpy.inf], dtype=numpy.float16),
        "scalar": numpy.array(-7, dtype=numpy.int64),
        "empty": numpy.zeros((0, 4), dtype=numpy.float32),
        'quoted "näme"': numpy.array([True, False]),
    },
    sys.argv[1],
    metadata={"format": "np", "note": "größer als \"null\""},
)
