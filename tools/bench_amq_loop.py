#!/usr/bin/env python3
"""Evaluations per second of AMQ's published evaluator loop, in PyTorch on the CPU, and of Knapsaq's for the same kind
of batch in the same run.

    python tools/bench_amq_loop.py assets/wiki-llama-6m [--bench build/bench/bench/evaluator_bench]

AMQ's loop (its evaluator.py and loss.py): three quantized models stay in memory (here as dequantized weights, 2, 3 and
4 bits, groups of 128); an allocation swaps modules; every window goes through the model alone; the Jensen-Shannon
divergence of its logits from the kept logits of the dense model is averaged. Everything in bf16, as half precision is
there; the divergence in bf16 or fp32, whichever is faster. Needs torch and transformers.
"""
import argparse
import json
import random
import statistics
import subprocess
import time

import torch
from torch import nn
from transformers import AutoModelForCausalLM


def dequantized(weight, bits, group=128):
    """Round to nearest between the extremes of every group."""
    out, width = weight.shape
    w = weight.float().reshape(out, width // group, group)
    low, high = w.amin(-1, keepdim=True), w.amax(-1, keepdim=True)
    scale = ((high - low) / (2 ** bits - 1)).clamp(min=1e-8)
    return (((w - low) / scale).round() * scale + low).reshape(out, width).to(weight.dtype)


def jsd(p_logits, q_logits):
    p, q = torch.softmax(p_logits, -1), torch.softmax(q_logits, -1)
    m = (0.5 * (p + q)).clamp(min=1e-7).log()
    kl = nn.KLDivLoss(reduction="batchmean", log_target=True)
    return 0.5 * (kl(m, p.clamp(min=1e-7).log()) + kl(m, q.clamp(min=1e-7).log()))


class Loop:
    def __init__(self, folder, tokens, window, dtype):
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
        self.dtype = dtype
        ids = torch.randint(0, self.model.config.vocab_size, (tokens // window, window),
                            generator=torch.Generator().manual_seed(1))
        self.windows = list(ids.split(1))
        with torch.no_grad():
            self.dense = [self.model(window, use_cache=False).logits[0].to(dtype) for window in self.windows]
        self.places = []
        for name, module in list(self.model.named_modules()):
            if not isinstance(module, nn.Linear) or ".layers." not in name:
                continue
            parent = self.model.get_submodule(name.rpartition(".")[0])
            versions = []
            for bits in (2, 3, 4):
                version = nn.Linear(module.in_features, module.out_features, bias=module.bias is not None,
                                    dtype=torch.bfloat16)
                with torch.no_grad():
                    version.weight.copy_(dequantized(module.weight, bits))
                    if module.bias is not None:
                        version.bias.copy_(module.bias)
                versions.append(version)
            self.places.append((parent, name.rpartition(".")[2], versions))

    @torch.no_grad()
    def evaluate(self, allocation):
        for (parent, name, versions), choice in zip(self.places, allocation):
            setattr(parent, name, versions[choice])
        total = 0.0
        for window, dense in zip(self.windows, self.dense):
            total += float(jsd(dense, self.model(window, use_cache=False).logits[0].to(self.dtype)))
        return total / len(self.windows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("--bench", help="evaluator_bench, run before and after")
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--evaluations", type=int, default=50)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    def ours():
        command = [options.bench, options.checkpoint, "--json", "--threads", str(options.threads), "--tokens",
                   str(options.tokens), "--window", str(options.window), "--random", str(options.evaluations),
                   "--repeats", "1", "--sweep", "1"]
        result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        return result["evaluations_per_second_jsd"], result["jsd_processor_seconds"]

    before = ours() if options.bench else None
    best, best_processor = 0.0, 0.0
    for dtype in (torch.bfloat16, torch.float32):
        loop = Loop(options.checkpoint, options.tokens, options.window, dtype)
        rng = random.Random(1)
        batch = [[rng.randrange(3) for _ in loop.places] for _ in range(options.evaluations)]
        loop.evaluate(batch[0])  # warms up
        start, busy = time.perf_counter(), time.process_time()
        values = [loop.evaluate(allocation) for allocation in batch]
        wall, processor = time.perf_counter() - start, time.process_time() - busy
        rate = len(batch) / wall
        print(f"AMQ's loop, divergence in {dtype}: {rate:.3f} evaluations/s, "
              f"{processor / len(batch):.3f} processor seconds each (mean JSD {statistics.mean(values):.4f})")
        if rate > best:
            best, best_processor = rate, processor / len(batch)
    if options.bench:
        after = ours()
        rate, processor = statistics.mean((before[0], after[0])), statistics.mean((before[1], after[1]))
        print(f"Knapsaq: {rate:.3f} evaluations/s (before {before[0]:.3f}, after {after[0]:.3f}), {processor:.3f} "
              f"processor seconds each")
        print(f"ratio {rate / best:.2f} by the clock, {best_processor / processor:.2f} by processor seconds")


if __name__ == "__main__":
    main()
