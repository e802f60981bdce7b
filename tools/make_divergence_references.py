#!/usr/bin/env python3
"""Divergences of the embedded models with coarsened weights from the models themselves, computed with Transformers in
fp32 and double: the reference of tests/eval/divergence_test.cpp. Every weight of the blocks' linears becomes the
nearest multiple of 1/STEPS, which any language does alike.

    tools/make_divergence_references.py > tests/data/eval/divergence.json

jsd_amq is AMQ's formula (its loss.py) as it stands: softmax, the mixture clamped at 1e-7, in the logits' own type,
which is fp32 here. Needs torch and transformers.
"""
import json
import os

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
WINDOW = 128
WINDOWS = 2
STEPS = {"wiki-llama-6m": 64, "wiki-opt-3m": 64}


def jsd_amq(p_logits, q_logits):
    p, q = torch.softmax(p_logits, -1), torch.softmax(q_logits, -1)
    m = (0.5 * (p + q)).clamp(min=1e-7).log()
    kl = torch.nn.KLDivLoss(reduction="batchmean", log_target=True)
    return float(0.5 * (kl(m, p.clamp(min=1e-7).log()) + kl(m, q.clamp(min=1e-7).log())))


def main():
    text = open(os.path.join(ROOT, "assets", "wiki-llama-6m-sample.txt"), encoding="utf-8").read()
    results = []
    for name, steps in STEPS.items():
        folder = os.path.join(ROOT, "assets", name)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        ids = tokenizer(text[:20000], return_tensors="pt").input_ids[0, :WINDOW * WINDOWS].reshape(WINDOWS, WINDOW)
        with torch.no_grad():
            p_logits = model(ids).logits[:, :-1]
            for path, module in model.named_modules():
                if isinstance(module, torch.nn.Linear) and ".layers." in path:
                    module.weight.copy_(torch.round(module.weight * steps) / steps)
            q_logits = model(ids).logits[:, :-1]
        p, q = torch.log_softmax(p_logits.double(), -1), torch.log_softmax(q_logits.double(), -1)
        m = torch.log((p.exp() + q.exp()) / 2)
        kl = (p.exp() * (p - q)).sum(-1)
        jsd = (p.exp() * (p - m)).sum(-1) / 2 + (q.exp() * (q - m)).sum(-1) / 2
        loss = -q.gather(-1, ids[:, 1:, None])[..., 0]
        agrees = p_logits.argmax(-1) == q_logits.argmax(-1)
        results.append({"model": name, "steps": steps, "windows": WINDOWS, "length": WINDOW,
                        "tokens": ids.flatten().tolist(),
                        "kl": [round(float(x), 7) for x in kl.flatten()],
                        "jsd": [round(float(x), 7) for x in jsd.flatten()],
                        "mean_loss": float(loss.mean()), "agreement": float(agrees.double().mean()),
                        "jsd_amq": jsd_amq(p_logits.flatten(0, 1), q_logits.flatten(0, 1))})
    print(json.dumps({"results": results}))


if __name__ == "__main__":
    main()
