#!/usr/bin/env python3
"""Error tables beside the hqq library: the twelve schemes of MXQ's menu on one 4096 x 4096 matrix, two threads each,
in one run (the library takes minutes).

    pip install hqq==0.2.8.post1 torch numpy
    python tools/bench_hqq.py build/bench/bench/quant_bench

The library quantizes on the CPU in fp32 (axis 1, optimize=True, nothing packed), then its Frobenius error is taken:
what a table needs. It keeps metadata in fp32; Knapsaq's `mxq` stores them at a second level, `mxq-f16` in fp16."""

import json
import os
import subprocess
import sys
import time

THREADS = 2
os.environ["OMP_NUM_THREADS"] = str(THREADS)

import torch  # noqa: E402
from hqq.core.quantize import Quantizer  # noqa: E402

torch.set_num_threads(THREADS)
torch.manual_seed(1)
SIDE = 4096
GIGABYTES = SIDE * SIDE * 4 / 1e9  # as fp32


def knapsaq(binary: str) -> dict[str, float]:
    command = [binary, "--benchmark_filter=table", "--benchmark_format=json"]
    output = subprocess.run(command, check=True, capture_output=True, text=True,
                            env={**os.environ, "KNAPSAQ_THREADS": str(THREADS)}).stdout
    return {b["name"].split("/")[1]: b["real_time"] / 1e9 for b in json.loads(output)["benchmarks"]}


def library(weights: torch.Tensor) -> tuple[float, float]:
    quantizing = total = 0.0
    for bits in (2, 3, 4, 5, 6, 8):
        for group in (32, 64, 128):
            start = time.perf_counter()
            codes, meta = Quantizer.quantize(
                weights, nbits=bits, channel_wise=True, group_size=group, optimize=True, round_zero=False, axis=1,
                bitpack=False, compute_dtype=torch.float32, device="cpu")
            quantizing += time.perf_counter() - start
            restored = (codes.reshape(-1, group) - meta["zero"]).mul_(meta["scale"]).reshape(weights.shape)
            (weights - restored).norm().item()
            total += time.perf_counter() - start
    return quantizing, total


before = knapsaq(sys.argv[1])
with torch.inference_mode():
    quantizing, total = library(torch.randn(SIDE, SIDE) * 0.02)
after = knapsaq(sys.argv[1])
print(f"load average {os.getloadavg()[0]:.1f}; seconds per GB of fp32 weights, all twelve schemes:")
print(f"hqq library: {total / GIGABYTES:8.2f} (quantizing alone {quantizing / GIGABYTES:.2f})")
for menu in before:
    seconds = max(before[menu], after[menu])  # the slower of the two runs around the library's
    print(f"knapsaq {menu:8}: {seconds / GIGABYTES:5.2f}, {total / seconds:6.1f} times faster")
