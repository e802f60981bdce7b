#!/usr/bin/env python3
"""GPTQ of one 4096 x 4096 linear at b4g128 given its Hessian, beside the standard column loop in PyTorch on the CPU,
on as many threads, in one run (the loop takes a minute).

    pip install torch numpy
    python tools/bench_gptq.py build/bench/bench/gptq_bench

The loop is what GPTQ's implementations do (Frantar et al. 2022): damp, Cholesky, its inverse, the upper Cholesky factor
of that; blocks of 128 columns, in each one column after the other with a rank-one update of the rest of the block, and
one product for the columns after it. Activation order and static groups as in Knapsaq; its scales are those of the range
(no search, which Knapsaq's time includes)."""

import os
import subprocess
import sys
import time

THREADS = int(os.environ.get("KNAPSAQ_THREADS", os.cpu_count()))
os.environ["OMP_NUM_THREADS"] = str(THREADS)

import torch  # noqa: E402

torch.set_num_threads(THREADS)
torch.manual_seed(1)
SIDE, BITS, GROUP, BLOCK = 4096, 4, 128, 128


def knapsaq(binary: str) -> tuple[float, float]:
    output = subprocess.run([binary], check=True, capture_output=True, text=True,
                            env={**os.environ, "KNAPSAQ_THREADS": str(THREADS)}).stdout
    print(output, end="")
    both = next(line for line in output.splitlines() if line.startswith("both")).split("|")
    return float(both[0].split()[1]), float(both[1].split()[0])


def reference(weights: torch.Tensor, hessian: torch.Tensor) -> torch.Tensor:
    w = weights.clone()
    h = hessian.clone()
    order = torch.argsort(torch.diag(h), descending=True)
    largest = 2**BITS - 1
    groups = w.reshape(SIDE, -1, GROUP)
    low, high = groups.amin(2), groups.amax(2)
    scales = (high - low) / largest
    zeros = torch.round(-low / scales)
    w, h = w[:, order], h[order][:, order]
    h.diagonal().add_(0.01 * torch.diag(h).mean())
    h = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(h)), upper=True)
    result = torch.zeros_like(w)
    of_column = (order // GROUP).tolist()
    for first in range(0, SIDE, BLOCK):
        last = min(first + BLOCK, SIDE)
        block = w[:, first:last].clone()
        errors = torch.zeros_like(block)
        factor = h[first:last, first:last]
        for i in range(last - first):
            column = block[:, i]
            scale, zero = scales[:, of_column[first + i]], zeros[:, of_column[first + i]]
            quantized = scale * (torch.clamp(torch.round(column / scale) + zero, 0, largest) - zero)
            result[:, first + i] = quantized
            error = (column - quantized) / factor[i, i]
            block[:, i:] -= error.unsqueeze(1).matmul(factor[i, i:].unsqueeze(0))
            errors[:, i] = error
        w[:, last:] -= errors.matmul(h[first:last, last:])
    return result[:, torch.argsort(order)]


weights = torch.randn(SIDE, SIDE) * 0.02
x = torch.randn(SIDE // 4, SIDE)
hessian = x.T @ x / len(x) + 0.1 * torch.eye(SIDE)
before = knapsaq(sys.argv[1])
with torch.inference_mode():
    reference(weights[:, :], hessian)  # the first run makes its buffers
    elapsed, busy = time.perf_counter(), time.process_time()
    result = reference(weights, hessian)
    elapsed, busy = time.perf_counter() - elapsed, (time.process_time() - busy) / THREADS
after = knapsaq(sys.argv[1])
difference = weights - result
print(f"PyTorch's loop: {elapsed:.2f} s ({busy:.2f} s of processor time per thread), relative error "
      f"{(difference.norm() / weights.norm()).item():.4f}, load average {os.getloadavg()[0]:.1f}")
ours = max(before[0], after[0])  # the slower of the runs around it
print(f"Knapsaq: {elapsed / ours:.1f} times faster ({busy / max(before[1], after[1]):.1f} by processor time)")
