#!/usr/bin/env python3
"""Makes tests/data/model/decoder/: tiny random models of every architecture and option that the decoder knows,
saved by the real Transformers library, and the logits that it computes from them.

    python tools/make_decoder_references.py [OUT]        (torch, transformers 5.23, numpy, safetensors)

Each model is a folder with config.json, model.safetensors (fp16, so that it is small; arithmetic is fp32, eager
attention) and reference.json: token ids, and the number of positions whose logits are in logits.f32 (little
endian, [positions, vocabulary]): the last ones.

Weights are larger than an initialisation would make them (standard deviation about 1 / sqrt(inputs)), and norms
and biases are not trivial, so that logits depend on every part of the model.
"""
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import (LlamaConfig, MistralConfig, OPTConfig, Qwen2Config, Qwen3Config,
                          AutoModelForCausalLM)

SHORT = 19  # tokens; odd, and below every tile


def llama(**options):
    return LlamaConfig(**{**dict(hidden_size=40, intermediate_size=52, num_hidden_layers=2, num_attention_heads=4,
                                 num_key_value_heads=4, vocab_size=67, max_position_embeddings=256,
                                 tie_word_embeddings=False, bos_token_id=0, eos_token_id=0), **options})


def opt(**options):
    return OPTConfig(**{**dict(hidden_size=32, ffn_dim=56, num_hidden_layers=2, num_attention_heads=4,
                               vocab_size=101, max_position_embeddings=64, word_embed_proj_dim=32, dropout=0.0,
                               bos_token_id=0, eos_token_id=0, pad_token_id=1), **options})


def rope(kind, **options):
    return dict(rope_type=kind, rope_theta=10000.0, **options)


# name: (configuration, number of tokens, positions whose logits are kept)
MODELS = {
    "llama2": (llama(), SHORT, 8),
    "llama-tied": (llama(tie_word_embeddings=True), SHORT, 8),
    "llama-head-only": (llama(tie_word_embeddings=True), SHORT, 8),
    "llama-gqa": (llama(num_key_value_heads=1), SHORT, 8),
    "llama-bias": (llama(attention_bias=True, mlp_bias=True), SHORT, 8),
    "llama-head-dim": (llama(num_hidden_layers=1, head_dim=20, num_key_value_heads=2), SHORT, 8),
    "llama3": (llama(num_key_value_heads=2, head_dim=16,
                     rope_parameters=rope("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                          original_max_position_embeddings=32)), 150, 4),
    "llama-linear": (llama(num_hidden_layers=1, rope_parameters=rope("linear", factor=4.0)), 100, 4),
    "llama-theta": (llama(num_hidden_layers=1, rope_parameters=dict(rope_type="default", rope_theta=500000.0)), 100, 4),
    "llama-d64": (llama(hidden_size=24, num_hidden_layers=1, head_dim=64, num_attention_heads=2, num_key_value_heads=1), 200, 4),
    "llama-d80": (llama(hidden_size=24, num_hidden_layers=1, head_dim=80, num_attention_heads=2, num_key_value_heads=1), 70, 4),
    "llama-d96": (llama(hidden_size=24, num_hidden_layers=1, head_dim=96, num_attention_heads=2, num_key_value_heads=1), 70, 4),
    "llama-d128": (llama(hidden_size=24, num_hidden_layers=1, head_dim=128, num_attention_heads=2, num_key_value_heads=1), 300, 4),
    "llama-gelu": (llama(num_hidden_layers=1, hidden_act="gelu"), SHORT, 8),
    "mistral-window": (MistralConfig(hidden_size=40, intermediate_size=52, num_hidden_layers=2,
                                     num_attention_heads=4, num_key_value_heads=2, head_dim=12, vocab_size=67,
                                     max_position_embeddings=512, sliding_window=37, tie_word_embeddings=False,
                                     bos_token_id=0, eos_token_id=0), 450, 6),
    "qwen2": (Qwen2Config(hidden_size=40, intermediate_size=52, num_hidden_layers=2, num_attention_heads=4,
                          num_key_value_heads=2, vocab_size=67, max_position_embeddings=128,
                          tie_word_embeddings=True, bos_token_id=0, eos_token_id=0), SHORT, 8),
    "qwen2-window": (Qwen2Config(hidden_size=40, intermediate_size=36, num_hidden_layers=3, num_attention_heads=4,
                                 num_key_value_heads=2, vocab_size=67, max_position_embeddings=128,
                                 use_sliding_window=True, sliding_window=9, max_window_layers=1,
                                 tie_word_embeddings=False, bos_token_id=0, eos_token_id=0), 60, 8),
    "qwen3": (Qwen3Config(hidden_size=40, intermediate_size=72, num_hidden_layers=2, num_attention_heads=4,
                          num_key_value_heads=2, head_dim=16, vocab_size=67, max_position_embeddings=128,
                          tie_word_embeddings=True, bos_token_id=0, eos_token_id=0), 33, 8),
    "opt": (opt(), SHORT, 8),
    "opt-350m": (opt(do_layer_norm_before=False, word_embed_proj_dim=16), SHORT, 8),
    "opt-project": (opt(word_embed_proj_dim=16), SHORT, 8),
    "opt-no-final-norm": (opt(_remove_final_layer_norm=True), SHORT, 8),
    "opt-no-bias": (opt(enable_bias=False), SHORT, 8),
    "opt-no-affine": (opt(layer_norm_elementwise_affine=False), SHORT, 8),
    "opt-gelu": (opt(activation_function="gelu"), 64, 8),
    "opt-gelu-tanh": (opt(activation_function="gelu_new"), SHORT, 8),
}


def randomize(model, generator):
    for name, parameter in model.named_parameters():
        values = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() == 2 and "embed" not in name:
            values *= parameter.shape[1] ** -0.5
        elif parameter.dim() == 2:
            values *= 0.5
        elif name.endswith("norm.weight"):
            values = 1 + 0.2 * values
        elif parameter.dim() == 1:
            values *= 0.2
        parameter.data = values.half().float()


def main():
    here = Path(__file__).resolve().parent.parent
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else here / "tests/data/model/decoder"
    shutil.rmtree(out, ignore_errors=True)
    for number, (name, (config, length, kept)) in enumerate(MODELS.items()):
        generator = torch.Generator().manual_seed(number)
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
        randomize(model, generator)
        model.tie_weights()
        tokens = torch.randint(2, config.vocab_size, (1, length), generator=generator)
        with torch.no_grad():
            logits = model(tokens).logits[0, length - kept:]
        folder = out / name
        model.half().save_pretrained(folder)
        (folder / "generation_config.json").unlink(missing_ok=True)
        if name == "llama-head-only":
            # Some converters keep the head of a tied model and drop the embedding.
            tensors = load_file(folder / "model.safetensors")
            tensors["lm_head.weight"] = tensors.pop("model.embed_tokens.weight")
            save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        logits.numpy().astype("<f4").tofile(folder / "logits.f32")
        (folder / "reference.json").write_text(json.dumps(
            {"made_by": f"transformers {transformers.__version__}, torch {torch.__version__}, fp32, eager",
             "tokens": tokens[0].tolist(), "positions": kept}) + "\n")
        size = sum(f.stat().st_size for f in folder.iterdir())
        print(f"{name:20} {size:7} bytes, logits up to {np.abs(logits.numpy()).max():.2f}")


if __name__ == "__main__":
    main()
