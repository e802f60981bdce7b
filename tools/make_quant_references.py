#!/usr/bin/env python3
"""Writes the references of tests/quant, tests/compute and tests/bank that need only numpy and scipy:

    python tools/make_quant_references.py tests/data

quant/rtn.txt: round-to-nearest of the weights of made_weights.py, one line per case: kind rows cols scheme, the
Frobenius error, and CRC-32 of the packed words, of the scales and of the biases.

bank/statistics.txt: numpy's and scipy's kurtosis and percentiles of |w|, one line per matrix: kind rows cols type
kurtosis, then the percentiles 0, 99, 99.9, 99.99, 100.

compute/packed_<bits>_<meta>.bin: a matrix in the affine layout and what it decodes to, by a decoder that takes the
bits one by one. Little-endian: int32 rows, cols, group, meta_group; uint32 words; then fp16 scales and biases
(meta 16), or uint8 scale codes and zero codes and fp16 steps and minimums (meta 8); then fp32 weights."""

import pathlib
import sys
import zlib

import numpy as np
from made_weights import draws, made_weights
from scipy.stats import kurtosis

F = np.float32


def pack(codes: np.ndarray, bits: int) -> np.ndarray:
    """Each row a little-endian stream of codes, padded with zeros to whole 32-bit words."""
    rows, cols = codes.shape
    stream = ((codes[:, :, None] >> np.arange(bits)) & 1).astype(np.uint8).reshape(rows, cols * bits)
    padded = np.zeros((rows, (cols * bits + 31) // 32 * 32), dtype=np.uint8)
    padded[:, : cols * bits] = stream
    return np.packbits(padded, axis=1, bitorder="little").view("<u4")


def rtn(weights: np.ndarray, bits: int, group: int, symmetric: bool):
    rows, cols = weights.shape
    largest = F(2**bits - 1)
    scales, biases, codes = [], [], np.zeros((rows, cols), dtype=np.int64)
    error = 0.0
    for r in range(rows):
        for first in range(0, cols, group):
            w = weights[r, first : first + group]
            if symmetric:
                s = F(np.float16(F(2) * np.abs(w).max() / largest))
                c = F(np.float16(-s * F(2 ** (bits - 1))))
            else:
                exact = (w.max() - w.min()) / largest
                s = F(np.float16(exact))
                c = F(np.float16(-s * (-w.min() / exact)))
            u = np.rint(np.clip((w - c) * (F(1) / s), F(0), largest))
            codes[r, first : first + group] = u.astype(np.int64)
            error += np.square(w.astype(np.float64) - (s * u + c)).sum()
            scales.append(s)
            biases.append(c)
    return codes, np.array(scales, dtype="<f2"), np.array(biases, dtype="<f2"), np.sqrt(error)


def write_rtn(path: pathlib.Path) -> None:
    lines = []
    for kind in ("normal", "student"):
        for cols in (96, 200):
            weights = made_weights(kind, 24, cols)
            for bits in (2, 3, 4, 5, 6, 8):
                for group, symmetric in ((32, False), (128, False), (0, False), (64, True)):
                    codes, scales, biases, error = rtn(weights, bits, group or cols, symmetric)
                    scheme = f"rtn:b{bits}" + (f"g{group}" if group else "row") + ("s" if symmetric else "")
                    crcs = (zlib.crc32(a.tobytes()) for a in (pack(codes, bits), scales, biases))
                    lines.append(f"{kind} 24 {cols} {scheme} {error:.9g} " + " ".join(map(str, crcs)))
    path.write_text("\n".join(lines) + "\n")


def decode(words: np.ndarray, bits: int, cols: int) -> np.ndarray:
    codes = np.zeros((len(words), cols), dtype=np.int64)
    for r, row in enumerate(words):
        stream = int.from_bytes(row.tobytes(), "little")
        for k in range(cols):
            codes[r, k] = (stream >> (bits * k)) & (2**bits - 1)
    return codes


def write_packed(folder: pathlib.Path) -> None:
    rows, cols, group, meta_group = 5, 77, 32, 4
    groups = -(-cols // group)
    for bits in (2, 3, 4, 5, 6, 8):
        random = draws(bits, 4096)
        words = pack((random[: rows * cols] & np.uint64(2**bits - 1)).astype(np.int64).reshape(rows, cols), bits)
        of_group = np.arange(cols) // group
        count = rows * groups
        small = (random[1000 : 1000 + 4 * count].astype(np.float64) / 2.0**64).astype("<f2")
        for meta in (16, 8):
            if meta == 16:
                stored = [small[:count], -small[count : 2 * count]]
                scale, bias = (x.astype(F) for x in stored)
            else:
                pairs = -(-count // meta_group)
                codes = random[3000 : 3000 + 2 * count].astype(np.uint8)
                stored = [codes[:count], codes[count:], small[:pairs] / np.float16(256), small[pairs : 2 * pairs]]
                pair = np.arange(count) // meta_group
                scale = stored[3].astype(F)[pair] + stored[2].astype(F)[pair] * stored[0].astype(F)
                zero = stored[1].astype(F) * F(2**bits - 1) / F(255)
                bias = -(scale * zero)
            u = decode(words, bits, cols).astype(F)
            weights = scale.reshape(rows, groups)[:, of_group] * u + bias.reshape(rows, groups)[:, of_group]
            header = np.array([rows, cols, group, 0 if meta == 16 else meta_group], dtype="<i4")
            data = [header, words, *stored, weights.astype("<f4")]
            (folder / f"packed_{bits}_{meta}.bin").write_bytes(b"".join(a.tobytes() for a in data))


def write_statistics(path: pathlib.Path) -> None:
    lines = []
    for kind, rows, cols in (("normal", 300, 500), ("student", 257, 333), ("wide", 1, 7), ("constant", 40, 256)):
        weights = made_weights(kind, rows, cols)
        truncated = (weights.view(np.uint32) & np.uint32(0xFFFF0000)).view(F)  # a bfloat16
        for name, w in (("F32", weights), ("BF16", truncated)):
            w = w.astype(np.float64).ravel()
            numbers = [kurtosis(w, fisher=False), *np.percentile(np.abs(w), [0, 99, 99.9, 99.99, 100])]
            lines.append(f"{kind} {rows} {cols} {name} " + " ".join(f"{x:.15g}" for x in numbers))
    path.write_text("\n".join(lines) + "\n")


root = pathlib.Path(sys.argv[1])
for room in ("quant", "compute", "bank"):
    (root / room).mkdir(parents=True, exist_ok=True)
write_rtn(root / "quant" / "rtn.txt")
write_packed(root / "compute")
write_statistics(root / "bank" / "statistics.txt")
