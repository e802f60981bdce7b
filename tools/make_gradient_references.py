#!/usr/bin/env python3
"""Makes tests/data/model/gradients/NAME.safetensors for every model of tests/data/model/decoder/: gradients by all
matrices and norms, by PyTorch's autograd in double precision.

    python tools/make_gradient_references.py        (torch, transformers 5.23, numpy, safetensors)

The loss is the sum of the cross entropies of the next tokens of reference.json's window. Of the gradient D [out, in]
by a matrix two products are kept, which depend on all of it: D c and D^T c with c_i = cos(i). Embedding and head are
kept apart (the use as a table, the use as a matrix), although a tied model has one tensor for both. Norms: all of it.
"""
import json
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from transformers import AutoModelForCausalLM

ROOT = Path(__file__).resolve().parent.parent / "tests" / "data" / "model"


def products(gradient):
    rows = torch.cos(torch.arange(gradient.shape[0], dtype=torch.float64))
    cols = torch.cos(torch.arange(gradient.shape[1], dtype=torch.float64))
    return gradient @ cols, gradient.T @ rows


def references(folder):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager").eval()
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    head.weight = torch.nn.Parameter(head.weight.detach().clone())  # not the embedding's tensor
    tokens = torch.tensor([json.loads((folder / "reference.json").read_text())["tokens"]])
    logits = model(input_ids=tokens).logits[0, :-1]
    torch.nn.functional.cross_entropy(logits, tokens[0, 1:], reduction="sum").backward()
    result = {}
    for name, module in model.named_modules():
        if isinstance(module, (torch.nn.Linear, torch.nn.Embedding)):
            if module.weight.grad is None or "positions" in name or "project" in name:
                continue
            kind = "embedding" if module is embedding else "head" if module is head else name
            by_out, by_in = products(module.weight.grad)
            result[kind + ".out"], result[kind + ".in"] = by_out, by_in
        elif getattr(module, "weight", None) is not None and module.weight.dim() == 1:
            result[name + ".scale"] = module.weight.grad
            if getattr(module, "bias", None) is not None:
                result[name + ".shift"] = module.bias.grad
    return {name: value.detach().numpy().astype(np.float32) for name, value in result.items()}


if __name__ == "__main__":
    (ROOT / "gradients").mkdir(exist_ok=True)
    for folder in sorted((ROOT / "decoder").iterdir()):
        save_file(references(folder), ROOT / "gradients" / (folder.name + ".safetensors"))
        print(folder.name, flush=True)
