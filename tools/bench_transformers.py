#!/usr/bin/env python3
"""Prefill of a checkpoint with losses: Transformers on PyTorch CPU, and Knapsaq's prefill_bench before and after
in the same run.

    python tools/bench_transformers.py CHECKPOINT [--bench build/bench/prefill_bench] [--window 512 2048]

Transformers runs in bf16 with scaled-dot-product attention, window after window and in batches of 2048 tokens,
whichever is faster; the median of the repetitions counts. Needs torch and transformers.
"""
import argparse
import json
import statistics
import subprocess
import time

import torch
from transformers import AutoModelForCausalLM


def losses(model, ids):
    # The losses alone are kept; logits of a batch exist for a moment, as Transformers makes them.
    logits = model(ids, use_cache=False).logits[:, :-1]
    return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten(), reduction="none")


def transformers_speed(model, window, tokens, repeats):
    ids = torch.randint(0, model.config.vocab_size, (tokens // window, window),
                        generator=torch.Generator().manual_seed(1))
    best = 0.0
    for batch in sorted({1, max(1, 2048 // window)}):
        times = []
        for repeat in range(repeats + 1):
            start = time.perf_counter()
            for first in range(0, len(ids), batch):
                losses(model, ids[first:first + batch])
            if repeat > 0:  # the first one warms up
                times.append(time.perf_counter() - start)
        best = max(best, ids.numel() / statistics.median(times))
    return best


def knapsaq_speed(options):
    command = [options.bench, options.checkpoint, "--json", "--threads", str(options.threads),
               "--tokens", str(options.tokens), "--repeats", str(options.repeats)]
    for window in options.window:
        command += ["--window", str(window)]
    results = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["results"]
    return {one["window"]: one["tokens_per_second"] for one in results}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("--bench", default="build/bench/prefill_bench")
    parser.add_argument("--window", type=int, nargs="+", default=[512, 2048])
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()

    before = knapsaq_speed(options)
    torch.set_num_threads(options.threads)
    model = AutoModelForCausalLM.from_pretrained(options.checkpoint, dtype=torch.bfloat16,
                                                 attn_implementation="sdpa").eval()
    theirs = {}
    with torch.inference_mode():
        for window in options.window:
            theirs[window] = transformers_speed(model, window, options.tokens, options.repeats)
    after = knapsaq_speed(options)
    print("window  Transformers tok/s  Knapsaq tok/s (before, after)  ratio")
    for window in options.window:
        ours = (before[window] + after[window]) / 2
        print(f"{window:6}  {theirs[window]:18.0f}  {ours:13.0f} ({before[window]:.0f}, {after[window]:.0f})"
              f"  {ours / theirs[window]:.2f}")


if __name__ == "__main__":
    main()
