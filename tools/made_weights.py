"""Weights that tests/quant/made_weights.h makes too, bit for bit: only integer arithmetic and correctly rounded
fp64 operations, in the same order."""

import numpy as np

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def draws(seed: int, count: int) -> np.ndarray:
    """SplitMix64: `count` random 64-bit words."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + (np.arange(count, dtype=np.uint64) + np.uint64(1)) * GOLDEN
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def normals(seed: int, count: int) -> np.ndarray:
    """Nearly normal: sums of twelve 16-bit uniforms, mean 0, variance 1."""
    words = draws(seed, 3 * count).reshape(count, 3)
    total = np.zeros(count, dtype=np.int64)
    for part in range(4):
        total += ((words >> np.uint64(16 * part)) & np.uint64(0xFFFF)).sum(axis=1).astype(np.int64)
    return (total - 6 * 65535).astype(np.float64) / 65536.0


def made_weights(kind: str, rows: int, cols: int) -> np.ndarray:
    n = rows * cols
    if kind == "normal":  # the width of trained weights
        w = normals(1, n) * 0.02
    elif kind == "wide":  # errors large enough for HQQ's shrinkage to matter
        w = normals(2, n)
    elif kind == "student":  # Student's t, 3 degrees of freedom
        x = normals(3, 4 * n).reshape(n, 4)
        chi2 = (x[:, 1] * x[:, 1] + x[:, 2] * x[:, 2]) + x[:, 3] * x[:, 3]
        w = x[:, 0] / np.sqrt(chi2 / 3.0) * 0.02
    elif kind == "constant":  # every second run of 128 columns holds one value
        w = (normals(4, n) * 0.02).reshape(rows, cols)
        for first in range(0, cols, 256):
            w[:, first : first + 128] = w[:, first : first + 1]
        w = w.reshape(n)
    else:
        raise ValueError(kind)
    return w.astype(np.float32).reshape(rows, cols)
