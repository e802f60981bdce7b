#!/usr/bin/env python3
"""Writes tests/data/quant/gptq.bin: what GPTQ as published makes of small matrices.

    python tools/make_gptq_references.py tests/data/quant/gptq.bin

Algorithm 1 of Frantar et al. 2022 in fp64: the upper Cholesky factor of the inverse of the damped Hessian, column by
column, errors divided by its diagonal and spread over the columns after it. Damping 0.01 of the mean diagonal, columns
by descending diagonal (stable), round-to-nearest scales and biases in fp16 found before (static groups).

Little-endian: int32 number of Hessians; for each int32 width and fp32 [width, width]; then cases until the end: int32
Hessian, rows, bits, group (0: row), symmetric; fp64 Hessian error of these codes, and of the algorithm without
activation order whose groups take their range when it reaches them; uint8 codes [rows, width]. Weights are `student`
of made_weights.py."""

import sys

import numpy as np
from made_weights import made_weights, normals
from scipy.linalg import cholesky, inv

F = np.float32


def hessian(width: int, tokens: int, seed: int) -> np.ndarray:
    hidden = width // 4
    mix = normals(seed, hidden * width).reshape(hidden, width) / np.sqrt(hidden)
    x = normals(seed + 1, tokens * hidden).reshape(tokens, hidden) @ mix
    x += 0.3 * normals(seed + 2, tokens * width).reshape(tokens, width)
    x *= 10.0 ** (normals(seed + 3, width) / 3)
    x[:, 5] = 0  # a dead column
    return (x.T @ x / tokens).astype(F)


def metadata(w: np.ndarray, bits: int, symmetric: bool) -> tuple[np.ndarray, np.ndarray]:
    """Scale and bias of one group per row, rounded to fp16 as round-to-nearest stores them."""
    largest = F(2**bits - 1)
    if symmetric:
        scale = (F(2) * np.abs(w).max(axis=1) / largest).astype(np.float16).astype(F)
        return scale, (-scale * F(2 ** (bits - 1))).astype(np.float16).astype(F)
    exact = (w.max(axis=1) - w.min(axis=1)) / largest
    scale = exact.astype(np.float16).astype(F)
    return scale, (-scale * (-w.min(axis=1) / exact)).astype(np.float16).astype(F)


def gptq(weights, h, bits, group, symmetric, reordered):
    rows, width = weights.shape
    damped = h.astype(np.float64) + 0.01 * np.mean(np.diag(h).astype(np.float64)) * np.eye(width)
    order = np.argsort(-np.diag(h), kind="stable") if reordered else np.arange(width)
    factor = cholesky(inv(damped[np.ix_(order, order)]), lower=False)
    w = weights[:, order].astype(np.float64)
    codes = np.zeros((rows, width), dtype=np.uint8)
    restored = np.zeros((rows, width))
    static = [metadata(weights[:, g : g + group], bits, symmetric) for g in range(0, width, group)]
    for k in range(width):
        if reordered:
            scale, bias = static[order[k] // group]
        elif k % group == 0:
            scale, bias = metadata(w[:, k : k + group].astype(F), bits, symmetric)
        u = np.rint(np.clip((w[:, k] - bias) / scale, 0, 2**bits - 1))
        quantized = scale.astype(np.float64) * u + bias
        error = (w[:, k] - quantized) / factor[k, k]
        w[:, k:] -= np.outer(error, factor[k, k:])
        codes[:, order[k]] = u
        restored[:, order[k]] = quantized
    difference = weights.astype(np.float64) - restored
    return codes, np.einsum("ri,ij,rj->", difference, h.astype(np.float64), difference)


hessians = [hessian(96, 400, 11), hessian(136, 60, 21)]  # the second is singular
with open(sys.argv[1], "wb") as file:
    np.array([len(hessians)], dtype="<i4").tofile(file)
    for h in hessians:
        np.array([len(h)], dtype="<i4").tofile(file)
        h.astype("<f4").tofile(file)
    for index, h in enumerate(hessians):
        width = len(h)
        weights = made_weights("student", 24, width)
        for bits in (2, 3, 4, 5, 6, 8):
            for group, symmetric in ((32, False), (0, False), (64, True)):
                codes, error = gptq(weights, h, bits, group or width, symmetric, True)
                _, published = gptq(weights, h, bits, group or width, symmetric, False)
                np.array([index, 24, bits, group, symmetric], dtype="<i4").tofile(file)
                np.array([error, published], dtype="<f8").tofile(file)
                codes.tofile(file)
