#!/usr/bin/env python3
"""Makes tests/data/model/families/NAME/ for every model of family_models.py: a tiny random model as the hub publishes
it, what Transformers computes of it, and gradients by PyTorch's autograd.

    python tools/make_family_references.py [--out FOLDER] [NAME...]     (torch, transformers 5.24, numpy, safetensors)

A folder has
  config.json         in the hub's spelling; config5.json where Transformers 5 would save another one
  model.safetensors   fp16, under the names of the hub
  reference.json      "tokens"; "positions": of how many of them, the last, logits are in logits.f32 (little endian,
                      [positions, vocabulary]; fp32, eager attention); "generated": what greedy generation adds to the
                      first "prompt" of the tokens; "margin": by how much, at least, the last expert that is chosen for
                      any of these tokens leads the first that is not, in the router's logits
  gradients.safetensors  of the sum of the cross entropies of the next tokens, in double precision: of the gradient D
                      [out, in] by a matrix D c (NAME.out) and D^T c (NAME.in) with c_i = cos(i); all of it of norms
                      (NAME.scale, NAME.shift) and sinks (NAME.values). Names are Knapsaq's: one matrix each, whatever
                      the files fuse. Embedding and head are kept apart, although a tied model has one tensor for both.
The script reads every folder back with Transformers, once with each config.json, and compares the logits.
"""
import argparse
import copy
import json
import re
import shutil
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from family_models import FAMILIES, published_config, randomize, text_config

ROUTER_MARGIN = 0.3  # far above what bf16 changes of a router's logit


def auto_class(config):
    return AutoModelForImageTextToText if hasattr(config, "vision_config") else AutoModelForCausalLM


class RouterMargins:
    """Smallest lead of the last chosen expert, by position, of the latest pass."""

    def __init__(self, model):
        self.margins = []
        text = text_config(model.config)
        self.chosen = getattr(text, "num_experts_per_tok", None) or getattr(text, "top_k_experts", None)
        for module in model.modules():
            if "Router" in type(module).__name__:
                module.register_forward_hook(self.record)

    def record(self, module, inputs, outputs):
        logits = outputs[0].detach().reshape(-1, outputs[0].shape[-1])
        if logits.shape[-1] > self.chosen:
            ordered = logits.sort(-1, descending=True).values
            self.margins.append(ordered[:, self.chosen - 1] - ordered[:, self.chosen])

    def of(self, run):
        self.margins = []
        run()
        return torch.stack([m[-1:] for m in self.margins]).min().item() if self.margins else float("inf")


def clear_tokens(model, margins, length, generator):
    """Random tokens for which every router decides clearly."""
    vocabulary = text_config(model.config).vocab_size
    if not margins.of(lambda: model(torch.tensor([[2]]))) < float("inf"):
        return torch.randint(2, vocabulary - 3, (1, length), generator=generator), float("inf")
    tokens, least = torch.empty((1, 0), dtype=torch.long), float("inf")
    for _ in range(length):
        best = (-1.0, None)
        for _ in range(40):
            longer = torch.cat([tokens, torch.randint(2, vocabulary - 3, (1, 1), generator=generator)], 1)
            best = max(best, (margins.of(lambda: model(longer)), longer), key=lambda b: b[0])
            if best[0] >= ROUTER_MARGIN:
                break
        least, tokens = min(least, best[0]), best[1]
    return tokens, least


def generate(model, tokens, count):
    """Greedy, and by how much the most likely token leads."""
    out = model.generate(tokens, attention_mask=torch.ones_like(tokens), do_sample=False, max_new_tokens=count,
                         min_new_tokens=count, eos_token_id=None, pad_token_id=0, return_dict_in_generate=True,
                         output_logits=True)
    two = torch.stack(out.logits).topk(2, dim=-1).values
    return out.sequences[0, tokens.shape[1]:].tolist(), (two[..., 0] - two[..., 1]).min().item()


# ------------------------------------------------------------------ gradients, under Knapsaq's names

def products(gradient):
    rows = torch.cos(torch.arange(gradient.shape[0], dtype=torch.float64))
    cols = torch.cos(torch.arange(gradient.shape[1], dtype=torch.float64))
    return gradient @ cols, gradient.T @ rows


def heads_apart(gradient, heads, parts):
    """Rows of `heads` times (a, b, ..) -> rows of all a, of all b, ..; `parts` are rows of one head."""
    return [p.flatten(0, 1) for p in gradient.unflatten(0, (heads, -1)).split(parts, dim=1)]


LFM2 = {"conv.in_proj": "conv.in_proj", "conv.out_proj": "conv.out_proj", "self_attn.out_proj": "self_attn.o_proj",
        "feed_forward.w1": "mlp.gate_proj", "feed_forward.w2": "mlp.down_proj", "feed_forward.w3": "mlp.up_proj"}


def canonical_matrices(name, gradient, config):
    """(name, gradient) of the matrices that a parameter `name` (without .weight, text model only) is made of."""
    kind = config.model_type
    if name.endswith("mlp.experts.gate_up_proj"):
        prefix = name.removesuffix("gate_up_proj")
        for e, both in enumerate(gradient):
            gate, up = (both.T[0::2], both.T[1::2]) if kind == "gpt_oss" else both.chunk(2)
            yield f"{prefix}{e}.gate_proj", gate
            yield f"{prefix}{e}.up_proj", up
    elif name.endswith("mlp.experts.down_proj"):
        for e, down in enumerate(gradient):
            yield f"{name.removesuffix('down_proj')}{e}.down_proj", down.T if kind == "gpt_oss" else down
    elif name.endswith(".experts.gate_up_proj") or name.endswith(".experts.down_proj"):  # Gemma 4: beside the MLP
        yield from canonical_matrices(name.replace(".experts.", ".mlp.experts."), gradient, config)
    elif name.endswith("qkv_proj"):
        head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        q, kv = config.num_attention_heads * head, config.num_key_value_heads * head
        for letter, part in zip("qkv", gradient.split([q, kv, kv])):
            yield name.replace("qkv_proj", letter + "_proj"), part
    elif name.endswith("mlp.gate_up_proj"):
        for part, rows in zip(("gate_proj", "up_proj"), gradient.chunk(2)):
            yield name.replace("gate_up_proj", part), rows
    elif kind == "gpt_neox" and name.endswith("query_key_value"):
        head = config.hidden_size // config.num_attention_heads
        for letter, part in zip("qkv", heads_apart(gradient, config.num_attention_heads, [head] * 3)):
            yield name.replace("attention.query_key_value", f"self_attn.{letter}_proj"), part
    elif kind == "gpt_neox":
        name = name.replace("attention.dense", "self_attn.o_proj").replace("mlp.dense_h_to_4h", "mlp.up_proj")
        yield name.replace("mlp.dense_4h_to_h", "mlp.down_proj"), gradient
    elif kind.startswith("qwen3_5"):
        if name.endswith("self_attn.q_proj"):
            head = config.head_dim
            q, gate = heads_apart(gradient, config.num_attention_heads, [head] * 2)
            yield name, q
            yield name.replace("q_proj", "q_gate_proj"), gate
        elif name.endswith("in_proj_qkvz"):
            heads, k = config.linear_num_key_heads, config.linear_key_head_dim
            v = config.linear_value_head_dim * config.linear_num_value_heads // heads
            parts = heads_apart(gradient, heads, [k, k, v, v])
            yield name.replace("qkvz", "qkv"), torch.cat(parts[:3])
            yield name.replace("qkvz", "z"), parts[3]
        elif name.endswith("in_proj_ba"):
            heads = config.linear_num_key_heads
            for letter, part in zip("ba", heads_apart(gradient, heads, [config.linear_num_value_heads // heads] * 2)):
                yield name.replace("_ba", "_" + letter), part
        else:
            yield re.sub(r"mlp\.gate$", "mlp.router", name), gradient
    elif kind == "lfm2":
        for theirs, ours in LFM2.items():
            name = name.replace(theirs, ours)
        yield name, gradient
    else:
        yield re.sub(r"mlp\.gate$", "mlp.router", name), gradient


NORMS = {"lfm2": {"operator_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
                  "embedding_norm": "norm", "q_layernorm": "q_norm", "k_layernorm": "k_norm"},
         "gpt_neox": {"final_layer_norm": "norm"}}


def gradients(model, tokens):
    model = copy.deepcopy(model).double()
    config = text_config(model.config)
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    head.weight = torch.nn.Parameter(head.weight.detach().clone())  # not the embedding's tensor
    for parameter in model.parameters():
        parameter.grad = None
    logits = model(input_ids=tokens).logits[0, :-1]
    torch.nn.functional.cross_entropy(logits.double(), tokens[0, 1:], reduction="sum").backward()
    result = {}
    modules = dict(model.named_modules())
    for full, parameter in model.named_parameters():
        if parameter.grad is None:
            continue
        owner, _, leaf = full.rpartition(".")
        module = modules[owner]
        name = re.sub(r"^(model\.language_model|language_model\.model|gpt_neox)\.", "model.", full)
        name = name.removesuffix(".weight")
        if module is embedding or module is head:
            kind = "embedding" if module is embedding else "head"
            result[kind + ".out"], result[kind + ".in"] = products(parameter.grad)
        elif leaf == "sinks":
            result[name + ".values"] = parameter.grad
        elif parameter.dim() == 1 and "norm" in owner.rpartition(".")[2]:
            name = name.removesuffix(".bias")
            for theirs, ours in NORMS.get(config.model_type, {}).items():
                name = re.sub(rf"\.{theirs}$", "." + ours, name)
            result[name + (".shift" if leaf == "bias" else ".scale")] = parameter.grad
        elif parameter.dim() >= 2 and "bias" not in leaf and "conv" not in owner.rpartition(".")[2]:
            for matrix, gradient in canonical_matrices(name, parameter.grad, config):
                result[matrix + ".out"], result[matrix + ".in"] = products(gradient)
    return {name: value.detach().float().contiguous() for name, value in result.items()}


# ------------------------------------------------------------------ folders

def read_back(folder, config_file, tokens):
    config = json.loads((folder / config_file).read_text())
    scratch = folder / "scratch"
    scratch.mkdir()
    try:
        (scratch / "config.json").write_text(json.dumps(config))
        shutil.copyfile(folder / "model.safetensors", scratch / "model.safetensors")
        parsed = transformers.AutoConfig.from_pretrained(scratch)
        model = auto_class(parsed).from_pretrained(scratch, dtype=torch.float32, attn_implementation="eager",
                                                   experts_implementation="eager").eval()
        return model(tokens).logits[0]
    finally:
        shutil.rmtree(scratch)


def make(name, model_of, number, out):
    generator = torch.Generator().manual_seed(1000 + number)
    config = copy.deepcopy(model_of.config)
    torch.manual_seed(number)
    model = auto_class(config).from_config(config, attn_implementation="eager", experts_implementation="eager").float().eval()
    randomize(model, generator, model_of.lattice)
    model.tie_weights()
    margins = RouterMargins(model)
    # Tokens whose continuation says something, and does not depend on the order of sums.
    tries = []
    while len(tries) < 8 and (not tries or tries[-1][0] < (True, 8)):
        with torch.no_grad():
            tokens, margin = clear_tokens(model, margins, model_of.length, generator)
            generated, lead = generate(model, tokens[:, :model_of.prompt], model_of.generated)
            tries.append(((lead > 1e-3, len(set(generated))), lead, tokens, margin, generated))
    _, lead, tokens, margin, generated = max(tries, key=lambda t: t[0])
    with torch.no_grad():
        logits = model(tokens).logits[0]
    slopes = gradients(model, tokens)
    folder = out / name
    shutil.rmtree(folder, ignore_errors=True)
    model.half().save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    if model_of.rename:
        save_file(model_of.rename(load_file(folder / "model.safetensors")), folder / "model.safetensors",
                  metadata={"format": "pt"})
    saved = json.loads((folder / "config.json").read_text())
    published = published_config(model_of, saved)
    (folder / "config.json").write_text(json.dumps(published, indent=1) + "\n")
    if "quantization_config" in published:
        saved["quantization_config"] = published["quantization_config"]
    if published != saved:
        (folder / "config5.json").write_text(json.dumps(saved, indent=1) + "\n")
    kept = logits[-model_of.positions:].numpy().astype("<f4")
    kept.tofile(folder / "logits.f32")
    reference = {"made_by": f"transformers {transformers.__version__}, torch {torch.__version__}, fp32, eager",
                 "tokens": tokens[0].tolist(), "positions": model_of.positions, "prompt": model_of.prompt,
                 "generated": generated}
    if margin < float("inf"):
        reference["margin"] = round(margin, 4)
    (folder / "reference.json").write_text(json.dumps(reference) + "\n")
    save_file(slopes, folder / "gradients.safetensors")
    size = sum(f.stat().st_size for f in folder.iterdir())
    worst = {}
    for file in ("config.json", "config5.json"):
        if (folder / file).exists():
            with torch.no_grad():
                try:
                    worst[file] = (read_back(folder, file, tokens) - logits).abs().max().item()
                except Exception as error:  # the files stand; say which cannot be read
                    worst[file] = f"{type(error).__name__}: {str(error)[:200]}"
    print(f"{name:22} {size:6} bytes, logits {np.abs(kept).max():6.2f}, router margin {margin:.2f}, lead {lead:.3g} of "
          f"{len(set(generated))} tokens, "
          f"read back {worst}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="all of them without")
    parser.add_argument("--out", type=Path,
                        default=Path(__file__).resolve().parent.parent / "tests/data/model/families")
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for number, (name, model_of) in enumerate(FAMILIES.items()):
        if not arguments.names or name in arguments.names:
            make(name, model_of, number, arguments.out)


if __name__ == "__main__":
    main()
