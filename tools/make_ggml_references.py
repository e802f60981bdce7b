#!/usr/bin/env python3
"""Writes the references of tests/compute/ggml_matrix_test.cpp with the gguf package:

    python tools/make_ggml_references.py tests/data

compute/ggml_<type>.bin: blocks of random bytes with finite factors and what gguf-py decodes them to. Little-endian:
int32 rows, cols; the blocks; fp32 weights. gguf-py cannot decode Q2_0: its weights come from a decoder of our own
that follows ggml-common.h (element j in bits 2 (j % 4) of byte 2 + j / 4; w = d (q - 1))."""

import pathlib
import sys

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, dequantize

# Where a block keeps its fp16 factors.
HALVES = {
    "Q2_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0],
    "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
    "IQ4_NL": [0], "IQ4_XS": [0], "IQ3_S": [0], "IQ3_XXS": [0], "IQ2_S": [0], "IQ2_XS": [0], "IQ2_XXS": [0],
    "IQ1_S": [0], "IQ1_M": [],  # see scatter()
}  # fmt: skip
ROWS, COLS = 2, 512


def decode_q2_0(blocks: np.ndarray) -> np.ndarray:
    d = blocks[:, :2].copy().view("<f2").astype(np.float32)
    codes = (blocks[:, 2:, None] >> np.array([0, 2, 4, 6], dtype=np.uint8)) & 3
    return d * (codes.reshape(len(blocks), 64).astype(np.float32) - np.float32(1))


def factors(rng: np.random.Generator, count: int) -> np.ndarray:
    """Bytes of fp16 numbers of both signs, from subnormal to large."""
    numbers = rng.normal(size=count) * 10.0 ** rng.uniform(-7, 3, count)
    return numbers.astype("<f2").view(np.uint8).reshape(-1, 2)


def scatter(d: np.ndarray, blocks: np.ndarray) -> None:
    """Puts the bytes of d where IQ1_M has them: in the high four bits of its four scales of 16 bits, lowest first."""
    for i in range(4):
        nibbles = d[:, i // 2] >> (4 * (i % 2)) & 15
        blocks[:, 49 + 2 * i] = blocks[:, 49 + 2 * i] & 15 | nibbles << 4


def main() -> None:
    folder = pathlib.Path(sys.argv[1]) / "compute"
    rng = np.random.default_rng(1)
    for name, halves in HALVES.items():
        block, size = (64, 18) if name == "Q2_0" else GGML_QUANT_SIZES[GGMLQuantizationType[name]]
        blocks = rng.integers(0, 256, (ROWS * COLS // block, size), dtype=np.uint8)
        for at in halves:
            blocks[:, at : at + 2] = factors(rng, len(blocks))
        if name == "IQ1_M":
            scatter(factors(rng, len(blocks)), blocks)
        if name == "Q2_0":
            weights = decode_q2_0(blocks)
        else:
            weights = dequantize(blocks.reshape(ROWS, -1), GGMLQuantizationType[name])
        assert np.isfinite(weights).all()
        with open(folder / f"ggml_{name.lower()}.bin", "wb") as out:
            out.write(np.array([ROWS, COLS], dtype="<i4").tobytes())
            out.write(blocks.tobytes())
            out.write(weights.astype("<f4").tobytes())


main()
