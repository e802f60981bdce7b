#!/usr/bin/env python3
"""Makes tests/data/model/configs.json with Transformers: for every architecture and option the config.json in the
spelling of Transformers 5 and in the older one, what Transformers understands, and the model's tensors."""
import argparse
import copy
import json
import pathlib

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

SMALL = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 48,
         "max_position_embeddings": 64}
LLAMA = SMALL | {"intermediate_size": 80}
OPT = SMALL | {"ffn_dim": 80}
LLAMA3 = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
          "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
CASES = {
    "opt": ("opt", OPT),
    "opt-350m": ("opt", OPT | {"do_layer_norm_before": False, "word_embed_proj_dim": 16}),
    "opt-projected": ("opt", OPT | {"word_embed_proj_dim": 16}),
    "opt-old-finetune": ("opt", OPT | {"_remove_final_layer_norm": True}),
    "opt-no-bias": ("opt", OPT | {"enable_bias": False}),
    "opt-plain-norms": ("opt", OPT | {"layer_norm_elementwise_affine": False}),
    "opt-gelu": ("opt", OPT | {"activation_function": "gelu"}),
    "opt-untied": ("opt", OPT | {"tie_word_embeddings": False}),
    "llama2": ("llama", LLAMA | {"num_key_value_heads": 4, "rms_norm_eps": 1e-5}),
    "llama-grouped": ("llama", LLAMA | {"num_key_value_heads": 2}),
    "llama-defaults": ("llama", LLAMA),
    "llama3": ("llama", LLAMA | {"num_key_value_heads": 1, "rope_parameters": LLAMA3}),
    "llama-linear": ("llama", LLAMA | {"rope_parameters": {"rope_type": "linear", "factor": 2.5, "rope_theta": 10000.0}}),
    "llama-biases": ("llama", LLAMA | {"attention_bias": True, "mlp_bias": True}),
    "llama-tied": ("llama", LLAMA | {"tie_word_embeddings": True}),
    "llama-head-dim": ("llama", LLAMA | {"head_dim": 16}),
    "mistral-window": ("mistral", LLAMA | {"num_key_value_heads": 2, "sliding_window": 16}),
    "mistral-no-window": ("mistral", LLAMA | {"num_key_value_heads": 2, "sliding_window": None}),
    "mistral-head-dim": ("mistral", LLAMA | {"num_key_value_heads": 2, "head_dim": 10}),
    "qwen2": ("qwen2", LLAMA | {"num_key_value_heads": 2,
                                "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0}}),
    "qwen2-tied": ("qwen2", LLAMA | {"num_key_value_heads": 2, "tie_word_embeddings": True}),
    "qwen2-window": ("qwen2", LLAMA | {"num_key_value_heads": 2, "use_sliding_window": True, "sliding_window": 16,
                                       "max_window_layers": 1}),
    "qwen2-window-above": ("qwen2", LLAMA | {"num_key_value_heads": 2, "use_sliding_window": True,
                                             "sliding_window": 16, "max_window_layers": 3}),
    "qwen2-layer-types": ("qwen2", LLAMA | {"num_key_value_heads": 2, "use_sliding_window": True,
                                            "sliding_window": 16, "layer_types": ["full_attention"] * 2 + [
                                                "sliding_attention"]}),
    "qwen3": ("qwen3", LLAMA | {"num_key_value_heads": 2, "head_dim": 16}),
    "qwen3-defaults": ("qwen3", LLAMA | {"num_key_value_heads": 2}),
    "qwen3-biases": ("qwen3", LLAMA | {"num_key_value_heads": 2, "head_dim": 16, "attention_bias": True,
                                       "tie_word_embeddings": True}),
}


def older_spelling(config):
    """The same config.json as Transformers 4 would write it."""
    out = copy.deepcopy(config)
    if "dtype" in out:
        out["torch_dtype"] = out.pop("dtype")
    rope = out.pop("rope_parameters", None)
    if rope is not None:
        out["rope_theta"] = rope.pop("rope_theta")
        out["rope_scaling"] = rope if rope["rope_type"] != "default" else None
    out.pop("layer_types", None)
    return out


def understood(config):
    """What Transformers' model does, in the words of our ModelConfig."""
    opt = config.model_type == "opt"
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    attention = (model.model.decoder if opt else model.model).layers[0].self_attn
    heads = config.num_attention_heads
    q = attention.q_proj.out_features
    rope = {} if opt else config.rope_parameters
    sliding = [i for i in range(config.num_hidden_layers)
               if config.model_type == "mistral" and config.sliding_window
               or getattr(config, "layer_types", None) and config.layer_types[i] == "sliding_attention"]
    out = {
        "hidden": config.hidden_size,
        "embedding": config.word_embed_proj_dim if opt else config.hidden_size,
        "ffn": config.ffn_dim if opt else config.intermediate_size,
        "layers": config.num_hidden_layers,
        "heads": heads,
        "kv_heads": attention.k_proj.out_features // (q // heads),
        "head_dim": q // heads,
        "vocab": config.vocab_size,
        "max_positions": config.max_position_embeddings,
        "norm_eps": 1e-5 if opt else config.rms_norm_eps,
        "rope_theta": rope.get("rope_theta", 10000.0),
        "rope_type": rope.get("rope_type", "default"),
        "rope_factor": rope.get("factor", 1.0),
        "tied": config.tie_word_embeddings,
        "sliding_window": config.sliding_window if sliding else 0,
        "sliding_from_layer": sliding[0] if sliding else 0,
    }
    tied = {key for key in model.state_dict() if key == "lm_head.weight" and config.tie_word_embeddings}
    out["tensors"] = {name: list(tensor.shape) for name, tensor in model.state_dict().items() if name not in tied}
    # Of the first layer only; the others are the same.
    out["tensors"] = {name: shape for name, shape in out["tensors"].items()
                      if ".layers." not in name or ".layers.0." in name}
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path,
                        default=pathlib.Path(__file__).parent.parent / "tests/data/model/configs.json")
    arguments = parser.parse_args()
    # Transformers' own keys that no decoder depends on.
    noise = {"transformers_version", "attention_dropout", "initializer_range", "use_cache", "pretraining_tp", "dropout",
             "init_std", "layerdrop", "bos_token_id", "eos_token_id", "pad_token_id", "_name_or_path",
             "output_hidden_states", "return_dict", "chunk_size_feed_forward", "id2label", "label2id", "problem_type",
             "is_encoder_decoder", "output_attentions"}
    references = {}
    for name, (model_type, options) in CASES.items():
        config = AutoConfig.for_model(model_type, **options, dtype="bfloat16")
        config.architectures = [type(AutoModelForCausalLM.from_config(config)).__name__]
        text = {key: value for key, value in config.to_dict().items() if key not in noise}
        old = older_spelling(text)
        if "layer_types" in options:
            old["layer_types"] = options["layer_types"]
        # As Transformers reads it back, so that its defaults for what is absent count too.
        sparse = {"model_type": model_type, "architectures": text["architectures"]} | {
            key: value for key, value in options.items()}
        references[name] = {
            "configs": {"transformers5": text, "transformers4": old, "sparse": sparse},
            "expected": understood(AutoConfig.for_model(**copy.deepcopy(text))),
        }
        for spelling in (old, sparse):
            again = understood(AutoConfig.for_model(**copy.deepcopy(spelling)))
            assert again == references[name]["expected"], (name, again, references[name]["expected"])
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps({"transformers": transformers.__version__, "cases": references}) + "\n")


if __name__ == "__main__":
    main()
