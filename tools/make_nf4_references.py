#!/usr/bin/env python3
"""Writes tests/data/quant/nf4.txt: what bitsandbytes makes of the weights of made_weights.py on a CPU.

    python tools/make_nf4_references.py tests/data/quant/nf4.txt

Two lines with CRC-32 of the 16 values and of the 256 values of absmax, then one line per case: kind rows cols type,
the bits of the offset, and CRC-32 of the codes, the absmax codes, the nested absmax and the dequantized fp32 weights.
`type` is what the weights are rounded to before they are quantized. Needs bitsandbytes 0.50.2 and torch; one thread,
since the order in which PyTorch adds 32768 and more numbers depends on the number of threads.

The weights are dequantized by the library's generic code. Its AVX-512 kernel (dequantize_4bit on such a CPU) counts
blocks per row, and so takes the wrong absmax where rows are a multiple of 16 but not of 64 weights: the result is
off by a quarter of the weights' norm. Elsewhere the two are compared here and are equal."""

import sys
import zlib

import bitsandbytes.functional as bnb
import numpy as np
import torch
from bitsandbytes.backends.default.ops import _dequantize_4bit_compute
from made_weights import made_weights

generic = _dequantize_4bit_compute.__wrapped__  # not compiled anew for each shape

CASES = [
    ("normal", 1, 1),
    ("normal", 3, 5),
    ("normal", 7, 33),
    ("wide", 8, 64),
    ("constant", 5, 300),
    ("student", 64, 96),
    ("normal", 257, 250),
    ("student", 333, 1001),
    ("wide", 640, 1216),
    ("student", 1024, 2048),
    ("zeros", 9, 70),
    ("tiny", 9, 70),
]


def weights_of(kind: str, rows: int, cols: int) -> np.ndarray:
    if kind == "zeros":  # blocks of zeros among others
        w = made_weights("normal", rows, cols).reshape(-1)
        w[64:192] = 0
        w[rows * cols // 64 * 64 :] = 0
        return w.reshape(rows, cols)
    if kind == "tiny":  # blocks around the smallest absmax that counts
        w = made_weights("wide", rows, cols).reshape(-1)
        w[:128] *= np.float32(1e-38)
        w[rows * cols // 64 * 64 :] *= np.float32(1e-39)
        return w.reshape(rows, cols)
    return made_weights(kind, rows, cols)


def crc(values) -> str:
    array = values.numpy() if isinstance(values, torch.Tensor) else values
    return f"{zlib.crc32(np.ascontiguousarray(array).tobytes()):08x}"


def main() -> None:
    torch.set_num_threads(1)
    lines = ["# written by tools/make_nf4_references.py"]
    lines.append(f"values {crc(bnb.get_4bit_type('nf4', device='cpu'))}")
    lines.append(f"absmax_values {crc(bnb.create_dynamic_map())}")
    for kind, rows, cols in CASES:
        for name, dtype in (("F32", torch.float32), ("BF16", torch.bfloat16), ("F16", torch.float16)):
            weights = torch.from_numpy(weights_of(kind, rows, cols)).to(dtype)
            codes, state = bnb.quantize_4bit(weights, blocksize=64, compress_statistics=True, quant_type="nf4")
            state.dtype = torch.float32  # what Knapsaq writes
            absmax = bnb.dequantize_blockwise(state.absmax, state.state2) + state.offset
            values = generic(codes.reshape(-1), absmax, state.code, 64, (rows, cols), torch.float32)
            if cols % 64 == 0 or cols % 16 != 0:
                assert torch.equal(values, bnb.dequantize_4bit(codes, state).reshape(rows, cols))
            offset = np.float32(state.offset.item()).view(np.uint32)
            lines.append(
                f"{kind} {rows} {cols} {name} {offset:08x} {crc(codes)} {crc(state.absmax)} "
                f"{crc(state.state2.absmax)} {crc(values)}"
            )
    with open(sys.argv[1], "w", encoding="ascii") as file:
        file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
