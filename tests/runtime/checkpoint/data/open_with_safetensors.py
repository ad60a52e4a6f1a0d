#!/usr/bin/env python3
"""Opens safetensors files with the reference library (pip install safetensors numpy).

Prints each tensor and fails if the library refuses a file. Usage: open_with_safetensors.py FILE...
"""
import sys

from safetensors import safe_open

for path in sys.argv[1:]:
    with safe_open(path, framework="np") as file:
        print(path, file.metadata())
        for name in file.keys():
            tensor = file.get_tensor(name)
            print(f"  {name}: {tensor.dtype} {list(tensor.shape)} {tensor.reshape(-1)[:4]}")
