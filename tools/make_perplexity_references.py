#!/usr/bin/env python3
"""Perplexities of the embedded models by the three protocols, computed with Transformers alone: the reference of
tests/apps. Each protocol is written down the way its own project runs it, window by window, with labels masked and
the model's own loss where they do so.

    tools/make_perplexity_references.py > tests/data/apps/perplexity.json

Needs torch and transformers.
"""
import json
import math
import os

import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
WINDOW = 256
WINDOWS = 12


def gptq(model, ids):
    """GPTQ's and AMQ's evaluation: chunks of the sequence length, mean loss of each times its length."""
    nlls = []
    for i in range(min(WINDOWS, ids.shape[1] // WINDOW)):
        batch = ids[:, i * WINDOW:(i + 1) * WINDOW]
        logits = model(batch).logits
        loss = F.cross_entropy(logits[:, :-1].reshape(-1, logits.shape[-1]).float(), batch[:, 1:].reshape(-1))
        nlls.append(loss.double() * WINDOW)
    return float(sum(nlls) / (len(nlls) * WINDOW))


def stride(model, ids):
    """The Hugging Face guide's sliding window as MXQ runs it: labels of the context are -100."""
    step = WINDOW // 2
    nlls, end = [], 0
    for i in range(0, ids.shape[1], step):
        if len(nlls) == WINDOWS:
            break
        begin = max(i + step - WINDOW, 0)
        end = min(i + step, ids.shape[1])
        target = end - i
        batch = ids[:, begin:end]
        labels = batch.clone()
        labels[:, :-target] = -100
        nlls.append(model(batch, labels=labels).loss.double() * target)
    return float(sum(nlls) / end)


def llama(model, ids):
    """llama-perplexity: the second half of each chunk, targets n/2+1 .. n-1. These tokenizers add no BOS."""
    total, count = 0.0, 0
    for i in range(min(WINDOWS, ids.shape[1] // WINDOW)):
        batch = ids[:, i * WINDOW:(i + 1) * WINDOW]
        log_p = torch.log_softmax(model(batch).logits[0].double(), -1)
        for j in range(WINDOW // 2, WINDOW - 1):
            total -= float(log_p[j, batch[0, j + 1]])
            count += 1
    return total / count


def main():
    text = open(os.path.join(ROOT, "assets", "wiki-llama-6m-sample.txt"), encoding="utf-8").read()
    results = []
    for name in ("wiki-llama-6m", "wiki-opt-3m"):
        folder = os.path.join(ROOT, "assets", name)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        ids = tokenizer(text, return_tensors="pt").input_ids
        with torch.no_grad():
            for protocol in (gptq, stride, llama):
                nll = protocol(model, ids)
                results.append({"model": name, "protocol": protocol.__name__, "window": WINDOW, "windows": WINDOWS,
                                "nll": nll, "perplexity": math.exp(nll)})
    print(json.dumps({"text": "wiki-llama-6m-sample.txt", "results": results}, indent=1))


if __name__ == "__main__":
    main()
