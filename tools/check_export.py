#!/usr/bin/env python3
"""Loads an export with the library that it is for and compares it with the model that it was made from.

    check_export.py QMODEL EXPORT --reader transformers   for compressed-tensors and auto-round
    check_export.py QMODEL EXPORT --reader gptqmodel      for gptq
    check_export.py QMODEL EXPORT --reader decompress     for compressed-tensors, without Transformers' loader: the library's
                                                          own matching of modules and its own decompression

QMODEL is the folder that `knapsaq quantize` wrote; tools/native_layout.py multiplies its weights out and Transformers
runs them in fp32. Prints the largest difference of the logits over some windows of text, relative to the largest logit,
the perplexities, and, where the reader shows its weights, the largest difference of a weight.
"""
import argparse
import math
import pathlib

import torch
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForCausalLM

import native_layout


def reference_model(folder):
    config = AutoConfig.from_pretrained(folder)
    for key in ("quantization_config", "quantization"):
        if hasattr(config, key):
            delattr(config, key)
    config.dtype = torch.float32
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    weights = {name: torch.from_numpy(value) for name, value in native_layout.dense_weights(folder).items()}
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected, unexpected
    assert all("lm_head" in name or "rotary" in name or "embed_tokens" in name for name in missing), missing
    model.tie_weights()
    return model.eval()


def decompressed_model(folder):
    """What Transformers' loader would do, if it (5.23, with compressed-tensors 0.20) did not stumble over packed zero points."""
    import json

    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationConfig
    from compressed_tensors.utils.match import match_named_modules

    settings = json.loads((folder / "config.json").read_text())["quantization_config"]
    quantization = QuantizationConfig.model_validate(settings)
    stored = {name: torch.from_numpy(value) for name, value in native_layout.tensors(folder).items()}
    config = AutoConfig.from_pretrained(folder)
    del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    for scheme in quantization.config_groups.values():
        for name, module in match_named_modules(model, scheme.targets, quantization.ignore):
            parts = {part: stored.pop(f"{name}.{part}") for part in
                     ("weight_packed", "weight_scale", "weight_shape", "weight_zero_point") if f"{name}.{part}" in stored}
            compressor = BaseCompressor.get_value_from_registry(scheme.format)
            stored[name + ".weight"] = compressor.decompress(parts, scheme)["weight"]
    missing, unexpected = model.load_state_dict(stored, strict=False)
    assert not unexpected, unexpected
    model.tie_weights()
    return model.eval()


def exported_model(folder, reader, dtype):
    if reader == "decompress":
        return decompressed_model(folder)
    if reader == "gptqmodel":
        from gptqmodel import BACKEND, GPTQModel

        return GPTQModel.load(str(folder), backend=BACKEND.GPTQ_TORCH, device="cpu", dtype=dtype).model.eval()
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, device_map="cpu").eval()


def windows(folder, text, length, count):
    ids = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text.read_text()).ids if text else None
    if ids is None:
        vocabulary = AutoConfig.from_pretrained(folder).vocab_size
        return torch.randint(vocabulary, (count, length), generator=torch.Generator().manual_seed(0))
    count = min(count, len(ids) // length)
    return torch.tensor(ids[: count * length]).reshape(count, length)


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("export", type=pathlib.Path)
    parser.add_argument("--reader", choices=["transformers", "gptqmodel", "decompress"], default="transformers")
    parser.add_argument("--dtype", default="float32", help="what the reader computes in")
    parser.add_argument("--text", type=pathlib.Path, help="random tokens without it")
    parser.add_argument("--window", type=int, default=256)
    parser.add_argument("--windows", type=int, default=4)
    parser.add_argument("--limit", type=float, default=1e-2, help="fail above this relative difference")
    arguments = parser.parse_args()

    reference = reference_model(arguments.model)
    exported = exported_model(arguments.export, arguments.reader, getattr(torch, arguments.dtype))
    largest = scale = 0.0
    losses = [0.0, 0.0]
    batch = windows(arguments.model, arguments.text, arguments.window, arguments.windows)
    for window in batch:
        ours = reference(window[None]).logits[0].float()
        theirs = exported(window[None]).logits[0].float()
        largest = max(largest, (ours - theirs).abs().max().item())
        scale = max(scale, ours.abs().max().item())
        for i, logits in enumerate((ours, theirs)):
            losses[i] += torch.nn.functional.cross_entropy(logits[:-1], window[1:]).item() / len(batch)

    known = dict(reference.named_parameters())
    compared = [(module.weight.float() - known[name + ".weight"]).abs().max().item()
                for name, module in exported.named_modules()
                if name + ".weight" in known and type(module) is not torch.nn.Embedding
                and isinstance(getattr(module, "weight", None), torch.Tensor) and "layers" in name
                and module.weight.dim() == 2 and module.weight.shape == known[name + ".weight"].shape]
    kinds = {}
    for name, module in exported.named_modules():
        if "layers" in name and name + ".weight" in known and known[name + ".weight"].dim() == 2:
            kinds[type(module).__name__] = kinds.get(type(module).__name__, 0) + 1
    print(f"linears: {kinds}")
    if compared:
        print(f"largest difference of a weight: {max(compared):.3g} ({len(compared)} matrices)")
    print(f"perplexity: {math.exp(losses[0]):.6f} of the model, {math.exp(losses[1]):.6f} of the export")
    print(f"largest difference of a logit: {largest:.3g}, relative to the largest logit: {largest / scale:.3g}")
    if not largest <= arguments.limit * scale:
        raise SystemExit(f"above the limit of {arguments.limit}")


if __name__ == "__main__":
    main()
