#!/usr/bin/env python3
"""Writes tests/data/quant/hqq.txt: what the hqq library (CPU, fp32, axis 1, default solver) makes of the weights of
made_weights.py.

    pip install hqq==0.2.8.post1 torch numpy
    python tools/make_hqq_references.py > tests/data/quant/hqq.txt

One line per case: kind rows cols bits group, then of the reconstruction error its Frobenius norm, its mean absolute
value and its mean to the power of 0.7, then the zero points of the first eight groups."""

import torch
from hqq.core.quantize import Quantizer
from made_weights import made_weights

ROWS, COLS = 512, 1024

for kind in ("normal", "student", "wide", "constant"):
    weights = torch.from_numpy(made_weights(kind, ROWS, COLS))
    for bits in (2, 3, 4, 5, 6, 8):
        for group in (32, 64, 128, COLS):
            codes, meta = Quantizer.quantize(
                weights, nbits=bits, channel_wise=True, group_size=group, optimize=True, round_zero=False, axis=1,
                bitpack=False, compute_dtype=torch.float32, device="cpu")
            restored = ((codes.reshape(-1, group) - meta["zero"]) * meta["scale"]).reshape(ROWS, COLS)
            error = (weights - restored).double().abs()
            numbers = [error.norm().item(), error.mean().item(), error.pow(0.7).mean().item()]
            numbers += meta["zero"].flatten()[:8].tolist()
            print(kind, ROWS, COLS, bits, group, *(f"{x:.9g}" for x in numbers))
