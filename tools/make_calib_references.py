#!/usr/bin/env python3
"""Makes tests/data/calib/: input statistics of tiny models, gathered with hooks on the real Transformers library.

    python tools/make_calib_references.py [OUT]        (torch, transformers 5.23, numpy, safetensors)

The models are those of tests/data/model/decoder. Of each, NAME.safetensors holds the token windows (`tokens`,
[windows, length]) and for the first linear that sees an input `<linear>.second_moment` (X^T X / tokens),
`.mean_abs` and `.max_abs`. Sums are fp64 over the fp32 inputs of an fp32 forward pass with eager attention.
"""
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

HERE = Path(__file__).resolve().parent.parent
# A gated and a plain MLP, grouped heads, norms of heads, post-norm with a narrow embedding.
MODELS = ["llama-gqa", "qwen3", "opt", "opt-350m"]
SHARERS = ("k_proj", "v_proj", "up_proj")  # see what the linear before them sees
WINDOWS, LENGTH = 5, 21


def canonical(name):
    return name if name.startswith("model.") else "model." + name


def main():
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "tests/data/calib"
    out.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(MODELS):
        folder = HERE / "tests/data/model/decoder" / name
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
        tokens = torch.randint(2, model.config.vocab_size, (WINDOWS, LENGTH),
                               generator=torch.Generator().manual_seed(number))
        tensors = {"tokens": tokens.to(torch.int32)}

        def hook(linear):
            def look(_, inputs):
                x = inputs[0].reshape(-1, inputs[0].shape[-1]).double()
                assert len(x) == tokens.numel()
                tensors[linear + ".second_moment"] = (x.T @ x / len(x)).float().contiguous()
                tensors[linear + ".mean_abs"] = x.abs().mean(0).float()
                tensors[linear + ".max_abs"] = x.abs().amax(0).float()
            return look

        for module, linear in model.named_modules():
            if isinstance(linear, torch.nn.Linear) and ".layers." in module and not module.endswith(SHARERS):
                linear.register_forward_pre_hook(hook(canonical(module)))
        with torch.no_grad():
            model(tokens)
        save_file(tensors, out / f"{name}.safetensors", metadata={"format": "pt"})
        print(f"{name:12} {(out / f'{name}.safetensors').stat().st_size} bytes, {len(tensors) // 3} inputs")


if __name__ == "__main__":
    main()
