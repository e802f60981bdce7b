#!/usr/bin/env python3
"""Writes tests/data/bank/awq.json: the search for AWQ's scales by PyTorch and Transformers on the tiny models of
tests/data/model/decoder, as src/knapsaq/bank/find_folding.h describes it.

    python tools/make_awq_references.py tests/data/model/decoder tests/data/bank/awq.json

For each fold point: mean |x| of the inputs, and what is minimised for each of the twenty values of alpha. Written
against the modules of Transformers, with the inputs kept (not their second moments); round-to-nearest in numpy's
order, scales and biases in fp16 (rtn:b3g32)."""

import copy
import json
import pathlib
import sys

import torch
from transformers import AutoModelForCausalLM

BITS, GROUP, RATIOS = 3, 32, 20


def rtn(weights: torch.Tensor) -> torch.Tensor:
    out = torch.empty_like(weights)
    for first in range(0, weights.shape[1], GROUP):
        w = weights[:, first : first + GROUP]
        low, high = w.amin(dim=1, keepdim=True), w.amax(dim=1, keepdim=True)
        scale = ((high - low) / (2**BITS - 1)).half().float()
        bias = low.half().float()
        codes = torch.clamp(torch.round((w - bias) / scale), 0, 2**BITS - 1)
        out[:, first : first + GROUP] = codes * scale + bias
    return out


def scales_for(mean_abs: torch.Tensor, ratio: int) -> torch.Tensor:
    s = mean_abs.clamp(min=float(mean_abs.mean()) * 0.1).pow(ratio / RATIOS)
    return s / (s.max() * s.min()).sqrt()


def fold_points(block, is_opt: bool, grouped: bool):
    """(name, linears, module whose output is compared or None)"""
    attention = block.self_attn
    qkv = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]
    points = [("self_attn_layer_norm" if is_opt else "input_layernorm", qkv, attention)]
    if not grouped:
        points.append(("self_attn.v_proj", ["self_attn.out_proj" if is_opt else "self_attn.o_proj"], None))
    if is_opt:
        points.append(("final_layer_norm", ["fc1"], "mlp"))
        points.append(("fc1", ["fc2"], None))
    else:
        points.append(("post_attention_layernorm", ["mlp.gate_proj", "mlp.up_proj"], block.mlp))
        points.append(("mlp.up_proj", ["mlp.down_proj"], None))
    return points


def main() -> None:
    folder, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    references = {}
    for name in ("llama2", "opt", "qwen2", "qwen3"):
        model = AutoModelForCausalLM.from_pretrained(folder / name, dtype=torch.float32, attn_implementation="eager")
        model.eval()
        is_opt = name == "opt"
        tokens = torch.tensor([json.loads((folder / name / "reference.json").read_text())["tokens"]])
        blocks = model.model.decoder.layers if is_opt else model.model.layers
        heads = model.config.num_attention_heads
        grouped = getattr(model.config, "num_key_value_heads", heads) != heads
        points = {}
        for index, block in enumerate(blocks):
            calls, inputs, hooks = {}, {}, []
            for child, module in block.named_modules():
                if isinstance(module, torch.nn.Linear):
                    hooks.append(module.register_forward_pre_hook(
                        lambda m, args, child=child: inputs.__setitem__(child, args[0].detach().clone())))
                hooks.append(module.register_forward_pre_hook(
                    lambda m, args, kwargs, child=child: calls.__setitem__(child, (args, dict(kwargs))),
                    with_kwargs=True))
            with torch.no_grad():
                model(tokens, use_cache=False)
            for hook in hooks:
                hook.remove()
            for point, linears, half in fold_points(block, is_opt, grouped):
                x = inputs[linears[0]].reshape(-1, inputs[linears[0]].shape[-1])
                mean_abs = x.abs().mean(dim=0)

                def output():
                    if half is None:
                        return None
                    with torch.no_grad():
                        if half == "mlp":
                            return block.fc2(block.activation_fn(block.fc1(x)))
                        child = "self_attn" if half is block.self_attn else "mlp"
                        args, kwargs = copy.copy(calls[child])
                        result = half(*args, **kwargs)
                        return result[0] if isinstance(result, tuple) else result

                modules = [block.get_submodule(linear) for linear in linears]
                originals = [module.weight.data.clone() for module in modules]
                reference = output()
                errors = []
                for ratio in range(RATIOS):
                    s = scales_for(mean_abs, ratio)
                    row = []
                    for module, original in zip(modules, originals):
                        module.weight.data = rtn(original * s) / s
                        row.append(float(((module.weight.data - original) @ x.T).double().pow(2).sum()))
                    if half is not None:
                        row.append(float((output() - reference).double().pow(2).sum()))
                    errors.append(row)
                for module, original in zip(modules, originals):
                    module.weight.data = original
                parts = [[e / plain for e, plain in zip(row, errors[0])] for row in errors]
                count = len(linears)
                sums = [sum(row[:count]) / count + sum(row[count:]) for row in parts]
                prefix = "model.decoder.layers" if is_opt else "model.layers"
                points[f"{prefix}.{index}.{point}"] = {
                    "mean_abs": [float(f"{v:.6g}") for v in mean_abs],
                    "sums": [float(f"{v:.6g}") for v in sums],
                }
        references[name] = points
    out.write_text(json.dumps(references, indent=0, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
