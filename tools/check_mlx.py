#!/usr/bin/env python3
"""Loads a model folder with the real mlx-lm and prints its perplexity by the `gptq` protocol, to compare with

    knapsaq eval MODEL --text TEXT --protocol gptq --window 512 --precision fp32

Needs mlx-lm (on Linux: pip install "mlx[cpu]" mlx-lm).
"""
import argparse
import math
import pathlib

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.utils import load_model
from transformers import AutoTokenizer


def measure(folder, text, window_length):
    """(linears by bits and groups, perplexity, windows)"""
    model, _ = load_model(folder)
    model.set_dtype(mx.float32)
    bits = {}
    for _, module in model.named_modules():
        if isinstance(module, nn.QuantizedLinear):
            key = f"b{module.bits}g{module.group_size}"
            bits[key] = bits.get(key, 0) + 1
    ids = AutoTokenizer.from_pretrained(folder).backend_tokenizer.encode(text.read_text()).ids
    windows = len(ids) // window_length
    total = 0.0
    for i in range(windows):
        window = mx.array([ids[i * window_length:(i + 1) * window_length]])
        logits = model(window)[:, :-1].astype(mx.float32)
        total += nn.losses.cross_entropy(logits, window[:, 1:], reduction="mean").item()
    return bits, math.exp(total / windows), windows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--text", type=pathlib.Path, required=True)
    parser.add_argument("--window", type=int, default=512)
    arguments = parser.parse_args()
    bits, perplexity, windows = measure(arguments.model, arguments.text, arguments.window)
    print(f"linears: {bits}")
    print(f"perplexity: {perplexity:.6f} over {windows} windows")


if __name__ == "__main__":
    main()
