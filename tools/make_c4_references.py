#!/usr/bin/env python3
"""Perplexities of made documents by the papers' C4 rule, with Transformers: tests/data/eval/c4.json.

GPTQ's data code, which AWQ, AMQ and MXQ follow, joins the first 1100 documents by a blank, tokenizes them as one
text and keeps 256 windows of tokens; its evaluation takes exp of the mean of the windows' mean losses.
Needs torch and transformers. The documents are those of tests/eval/evaluation_text_test.cpp.
"""
import json
import math
import os

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
WORDS = ("river", "the", "of", "city", "1912", "and", "band", "in", "album", "was", "\n", "water")


def documents(count):
    """Of 0 to 5 words: some are empty, which counts too."""
    return [" ".join(WORDS[(7 * i + j * j) % len(WORDS)] for j in range(i % 6)) for i in range(count)]


def perplexity(model, ids, window):
    ids = ids[: 256 * window]
    losses = []
    for first in range(0, len(ids) // window * window, window):
        batch = torch.tensor([ids[first:first + window]])
        with torch.no_grad():
            logits = model(batch).logits[0, :-1]
        losses.append(torch.nn.functional.cross_entropy(logits, batch[0, 1:]).item())
    return {"window": window, "windows": len(losses), "perplexity": math.exp(sum(losses) / len(losses))}


def main():
    folder = os.path.join(ROOT, "assets", "wiki-llama-6m")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = tokenizer(" ".join(documents(1200)[:1100])).input_ids
    result = {"made_by": "tools/make_c4_references.py", "torch": torch.__version__, "documents": 1200,
              "tokens": len(ids), "results": [perplexity(model, ids, window) for window in (8, 64)]}
    with open(os.path.join(ROOT, "tests", "data", "eval", "c4.json"), "w", encoding="utf-8") as out:
        json.dump(result, out, indent=1)
        out.write("\n")


if __name__ == "__main__":
    main()
