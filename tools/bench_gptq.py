#!/usr/bin/env python3
"""GPTQ of one 4096 x 4096 linear at b4g128 given its Hessian, beside the standard column loop in PyTorch on the CPU,
on as many threads, in one run (the loops take half a minute).

    pip install torch numpy
    python tools/bench_gptq.py build/bench/bench/gptq_bench

The loop is what GPTQ's implementations do (Frantar et al. 2022): damp, Cholesky, its inverse, the upper Cholesky factor
of that; blocks of 128 columns, in each one column after the other with a rank-one update of the rest of the block, and
one product for the columns after it. Activation order and static groups as in Knapsaq. It runs twice: with the scales of
the groups' ranges, and, as Knapsaq does, with scales found by their error: the best of 80 shrunken ranges by sum |e|^2.4, the
search that the published quantizer offers."""

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


def searched(groups: torch.Tensor, low: torch.Tensor, high: torch.Tensor, largest: int):
    """The shrunken range of every group with the least error."""
    best = torch.full_like(low, torch.inf)
    best_low, best_high = low.clone(), high.clone()
    for step in range(80):
        shrink = 1 - step / 100
        scale = shrink * (high - low) / largest
        zero = torch.round(-shrink * low / scale)
        q = torch.clamp(torch.round(groups / scale.unsqueeze(2)) + zero.unsqueeze(2), 0, largest)
        q.sub_(zero.unsqueeze(2)).mul_(scale.unsqueeze(2)).sub_(groups)
        error = q.abs_().pow_(2.4).sum(2)
        better = error < best
        best = torch.where(better, error, best)
        best_low = torch.where(better, shrink * low, best_low)
        best_high = torch.where(better, shrink * high, best_high)
    return best_low, best_high


def reference(weights: torch.Tensor, hessian: torch.Tensor, search: bool) -> torch.Tensor:
    w = weights.clone()
    h = hessian.clone()
    order = torch.argsort(torch.diag(h), descending=True)
    largest = 2**BITS - 1
    groups = w.reshape(SIDE, -1, GROUP)
    low, high = groups.amin(2), groups.amax(2)
    if search:
        low, high = searched(groups, low, high, largest)
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
runs = []
with torch.inference_mode():
    reference(weights, hessian, False)  # the first run makes its buffers
    for search in (False, True):
        elapsed, busy = time.perf_counter(), time.process_time()
        result = reference(weights, hessian, search)
        elapsed, busy = time.perf_counter() - elapsed, (time.process_time() - busy) / THREADS
        runs.append((search, elapsed, busy, ((weights - result).norm() / weights.norm()).item()))
after = knapsaq(sys.argv[1])
ours = max(before[0], after[0])  # the slower of the runs around it
ours_busy = max(before[1], after[1])
for search, elapsed, busy, error in runs:
    print(f"PyTorch's loop, scales {'found by their error' if search else 'of the ranges'}: {elapsed:.2f} s ({busy:.2f} s of processor time per "
          f"thread), relative error {error:.4f}; Knapsaq is {elapsed / ours:.1f} times faster ({busy / ours_busy:.1f} by processor time)")
print(f"load average {os.getloadavg()[0]:.1f}")
