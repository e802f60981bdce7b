#!/usr/bin/env python3
"""Measures how fast llama.cpp quantizes on one core, for comparison with bench/ggml_bench.cpp:

    python tools/bench_ggml_chunk.py LIBRARY MODEL [--types iq3_s,q4_k] [--repeats 3]

LIBRARY is libggml-base.so of a llama.cpp built with -DBUILD_SHARED_LIBS=ON (target ggml-base). Calls its
ggml_quantize_chunk(), which is what llama-quantize calls, for the linears of MODEL (one model.safetensors) whose rows
are whole blocks, with an importance of 1, and prints fp32 weights per second of processor time, the best of the
repeats."""

import argparse
import ctypes
import json
import pathlib
import time

import gguf
import numpy as np
from compare_ggml import TYPES


def linears_of(folder: str) -> list[np.ndarray]:
    data = (pathlib.Path(folder) / "model.safetensors").read_bytes()
    head = int.from_bytes(data[:8], "little")
    out = []
    for name, tensor in json.loads(data[8 : 8 + head]).items():
        if not name.endswith("_proj.weight"):
            continue
        first, last = (8 + head + at for at in tensor["data_offsets"])
        if tensor["dtype"] == "BF16":
            bits = np.frombuffer(data[first:last], np.uint16).astype(np.uint32) << 16
            values = bits.view(np.float32)
        else:
            values = np.frombuffer(data[first:last], {"F16": np.float16, "F32": np.float32}[tensor["dtype"]])
        out.append(np.ascontiguousarray(values.astype(np.float32).reshape(tensor["shape"])))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library")
    parser.add_argument("model")
    parser.add_argument("--types", default=",".join(TYPES))
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    # Lazily: what quantizing does not call may be missing.
    chunk = ctypes.CDLL(args.library, mode=1).ggml_quantize_chunk
    chunk.restype = ctypes.c_size_t
    chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 3, ctypes.c_void_p]
    linears = linears_of(args.model)
    for kind in args.types.split(","):
        number = 42 if kind == "q2_0" else gguf.GGMLQuantizationType[kind.upper()]
        block, size = (64, 18) if kind == "q2_0" else gguf.GGML_QUANT_SIZES[number]
        fitting = [x for x in linears if x.shape[1] % block == 0]
        best = float("inf")
        for repeat in range(args.repeats + 1):  # the first one makes the tables of the type
            start = time.process_time()
            for x in fitting:
                rows, cols = x.shape
                out = np.empty(rows * cols // block * size, np.uint8)
                ones = np.ones(cols, np.float32)
                chunk(int(number), x.ctypes.data, out.ctypes.data, 0, rows, cols, ones.ctypes.data)
            if repeat > 0:
                best = min(best, time.process_time() - start)
        print(f"{kind}: {sum(x.nbytes for x in fitting) / best / 1e6:.1f} MB of fp32 weights per second", flush=True)


if __name__ == "__main__":
    main()
