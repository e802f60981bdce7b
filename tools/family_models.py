"""Tiny random models of every family that Knapsaq reads, as configurations of Transformers; used by
make_family_references.py (references) and check_family.py (the whole way through an engine).

FAMILIES[name] is a Model: a configuration, and how the hub publishes such a model where that differs from what
Transformers 5 saves (spelling of config.json, names of tensors, tensors beside the text model).
"""
import copy
import re
from dataclasses import dataclass, field
from typing import Any, Callable

import torch
from transformers import (
    AutoConfig, Gemma2Config, Gemma3Config, Gemma3TextConfig, GPTNeoXConfig,
    GptOssConfig, GraniteConfig, Lfm2Config, LlamaConfig, MinistralConfig, Ministral3Config, Mistral3Config,
    MistralConfig, MixtralConfig, Olmo2Config, Olmo3Config, OlmoeConfig, Phi3Config, Qwen2MoeConfig, Qwen3_5Config,
    Qwen3_5MoeConfig, Qwen3_5MoeTextConfig, Qwen3_5TextConfig, Qwen3MoeConfig, SmolLM3Config)

SHORT = 21  # tokens; odd, and below every tile


@dataclass
class Model:
    config: Any
    length: int = SHORT      # tokens of the window whose logits are kept
    positions: int = 4       # how many of them, the last ones
    prompt: int = 8          # tokens that are generated from
    generated: int = 24
    drop: tuple = ()         # keys that the hub's config.json does not have
    published: dict = field(default_factory=dict)  # keys that it has besides, of the text configuration
    modern: bool = False     # published in Transformers 5's spelling
    rename: Callable | None = None  # tensors {name: tensor} as Transformers saves them -> as the hub has them
    lattice: bool = False    # experts' weights lie on MXFP4's lattice


def base(cls, **options):
    return cls(**{**dict(hidden_size=32, intermediate_size=28, num_hidden_layers=2, num_attention_heads=4,
                         num_key_value_heads=2, vocab_size=67, max_position_embeddings=256,
                         tie_word_embeddings=False, bos_token_id=0, eos_token_id=0, pad_token_id=None), **options})


def moe(cls, **options):
    return base(cls, **{**dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=12), **options})


def rope(kind="default", theta=10000.0, **options):
    return dict(rope_type=kind, rope_theta=theta, **options)


YARN = dict(factor=8.0, original_max_position_embeddings=32)
FACTORS = dict(short_factor=[1.0, 1.1, 1.3, 1.7], long_factor=[1.0, 1.6, 2.9, 5.5])
SIGLIP = dict(model_type="siglip_vision_model", hidden_size=8, intermediate_size=8, num_hidden_layers=1,
              num_attention_heads=2, image_size=8, patch_size=4)
PIXTRAL = dict(model_type="pixtral", hidden_size=8, intermediate_size=8, num_hidden_layers=1,
               num_attention_heads=2, head_dim=4, image_size=8, patch_size=4)
QWEN_VISION = dict(depth=1, hidden_size=8, intermediate_size=8, num_heads=2, patch_size=2, out_hidden_size=32,
                   num_position_embeddings=16)
GEMMA = dict(head_dim=12, tie_word_embeddings=True, hidden_activation="gelu_pytorch_tanh")
BOTH = ["sliding_attention", "full_attention"]
DELTA = dict(head_dim=32, num_attention_heads=2, num_key_value_heads=1, linear_key_head_dim=8, linear_value_head_dim=12,
             linear_num_key_heads=2, linear_num_value_heads=4, layer_types=["linear_attention", "full_attention"],
             rope_parameters=rope(theta=10000000.0, partial_rotary_factor=0.25))
MROPE = {**DELTA, "rope_parameters": {**DELTA["rope_parameters"], "mrope_section": [2, 1, 1], "mrope_interleaved": True}}


# ------------------------------------------------------------------ names of the hub

def older_wrapper(tensors):
    """language_model.model.layers.. and language_model.lm_head, as before Transformers 4.52."""
    out = {}
    for name, tensor in tensors.items():
        name = re.sub(r"^model\.language_model\.", "language_model.model.", name)
        name = re.sub(r"^lm_head\.", "language_model.lm_head.", name)
        out[re.sub(r"^model\.(vision_tower|multi_modal_projector)\.", r"\1.", name)] = tensor
    return out


def newer_wrapper(tensors):
    """model.language_model.layers.. and lm_head, as Transformers names its modules since 4.52."""
    out = {}
    for name, tensor in tensors.items():
        name = re.sub(r"^language_model\.model\.", "model.language_model.", name)
        name = re.sub(r"^language_model\.lm_head\.", "lm_head.", name)
        out[re.sub(r"^(vision_tower|multi_modal_projector)\.", r"model.\1.", name)] = tensor
    return out


def with_mtp(tensors):
    """A head that predicts the token after the next, as Qwen3.5 and Qwen3-Next publish one; nobody reads it."""
    generator = torch.Generator().manual_seed(99)
    hidden = next(t for n, t in tensors.items() if n.endswith("embed_tokens.weight")).shape[1]
    extra = {"mtp.fc.weight": (hidden, 2 * hidden), "mtp.norm.weight": (hidden,),
             "mtp.layers.0.mlp.down_proj.weight": (hidden, 8)}
    return tensors | {name: torch.randn(shape, generator=generator).half() for name, shape in extra.items()}


def stacked_experts(tensors):
    """mlp.experts.gate_up_proj [E, 2 I, H] and down_proj [E, H, I], as Qwen3.5's BF16 files have them."""
    out, stacks = {}, {}
    for name, tensor in tensors.items():
        match = re.fullmatch(r"(.*\.mlp\.experts\.)(\d+)\.(gate|up|down)_proj\.weight", name)
        if match:
            stacks.setdefault(match[1], {})[(match[3], int(match[2]))] = tensor
        else:
            out[name] = tensor
    for prefix, parts in stacks.items():
        experts = range(max(number for _, number in parts) + 1)
        of = {kind: torch.stack([parts[(kind, e)] for e in experts]) for kind in ("gate", "up", "down")}
        out[prefix + "gate_up_proj"] = torch.cat([of["gate"], of["up"]], dim=1).contiguous()
        out[prefix + "down_proj"] = of["down"]
    return out


def separate_experts(tensors):
    """The other way round: a tensor for every expert, as FP8 and quantized files have them."""
    out = {}
    for name, tensor in tensors.items():
        if name.endswith(".experts.gate_up_proj"):
            prefix = name.removesuffix("gate_up_proj")
            for e, both in enumerate(tensor):
                gate, up = both.chunk(2)
                out[f"{prefix}{e}.gate_proj.weight"] = gate.contiguous()
                out[f"{prefix}{e}.up_proj.weight"] = up.contiguous()
        elif name.endswith(".experts.down_proj"):
            for e, down in enumerate(tensor):
                out[f"{name.removesuffix('down_proj')}{e}.down_proj.weight"] = down.contiguous()
        else:
            out[name] = tensor
    return out


def with_neox_buffers(tensors):
    """Buffers that EleutherAI's files carry and that nobody needs."""
    out = dict(tensors)
    for name in tensors:
        if name.endswith("attention.dense.weight"):
            prefix = name.removesuffix("dense.weight")
            out[prefix + "bias"] = torch.tril(torch.ones(1, 1, 8, 8, dtype=torch.bool))
            out[prefix + "masked_bias"] = torch.tensor(-1e9)
            out[prefix + "rotary_emb.inv_freq"] = torch.ones(2)
    return out


FP4 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])


def to_lattice(weight):
    """Nearest values of MXFP4 along the last axis; returns (values, codes [.., n / 32, 16] u8, exponents + 127 u8)."""
    blocks = weight.float().unflatten(-1, (-1, 32))
    exponent = torch.floor(torch.log2(blocks.abs().amax(-1, keepdim=True))) - 2
    scale = torch.exp2(exponent)
    codes = (blocks[..., None] / scale[..., None] - FP4).abs().argmin(-1)
    values = (FP4[codes] * scale).flatten(-2)
    packed = (codes[..., 0::2] | codes[..., 1::2] << 4).to(torch.uint8)
    return values, packed, (exponent[..., 0] + 127).to(torch.uint8)


def mxfp4(tensors):
    """gpt-oss as published: experts' blocks [E, out, in / 32, 16] and scales [E, out, in / 32]."""
    out = {}
    for name, tensor in tensors.items():
        if re.search(r"\.experts\.(gate_up|down)_proj$", name):
            values, codes, exponents = to_lattice(tensor.transpose(1, 2))
            assert torch.equal(values, tensor.transpose(1, 2).float()), name
            out[name + "_blocks"], out[name + "_scales"] = codes, exponents
        else:
            out[name] = tensor
    return out


MXFP4_CONFIG = {"quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": [
    "model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]}}


# ------------------------------------------------------------------ the models

FAMILIES = {
    # Rotary positions scaled.
    "llama-yarn": Model(base(LlamaConfig, num_hidden_layers=1, rope_parameters=rope("yarn", **YARN)), 100),
    "llama-yarn-factor": Model(base(LlamaConfig, head_dim=16, num_hidden_layers=1, rope_parameters=rope(
        "yarn", 500000.0, factor=4.0, original_max_position_embeddings=64, attention_factor=0.9, beta_fast=16.0,
        beta_slow=2.0)), 100),
    "llama-dynamic": Model(base(LlamaConfig, num_hidden_layers=1, max_position_embeddings=48,
                                rope_parameters=rope("dynamic", factor=4.0)), 100),
    "llama-longrope-short": Model(base(LlamaConfig, num_hidden_layers=1, rope_parameters=rope(
        "longrope", factor=8.0, original_max_position_embeddings=40, **FACTORS)), 30),
    "llama-longrope-long": Model(base(LlamaConfig, num_hidden_layers=1, rope_parameters=rope(
        "longrope", factor=8.0, original_max_position_embeddings=40, **FACTORS)), 60, prompt=60),
    "mistral-yarn": Model(base(MistralConfig, num_hidden_layers=1, head_dim=12, sliding_window=None,
                               rope_parameters=rope("yarn", 1000000.0, **YARN)), 100, drop=("layer_types",)),
    # Small dense ones.
    "smollm3": Model(base(SmolLM3Config, no_rope_layer_interval=2, tie_word_embeddings=True), drop=("layer_types",)),
    "smollm3-window": Model(base(SmolLM3Config, num_hidden_layers=3, no_rope_layers=[1, 0, 1], intermediate_size=12,
                                 use_sliding_window=True, sliding_window=7, attention_bias=True, mlp_bias=True), 40),
    "olmo2": Model(base(Olmo2Config, num_key_value_heads=4)),
    "olmo2-gqa": Model(base(Olmo2Config, num_hidden_layers=1, attention_bias=True, tie_word_embeddings=True)),
    "olmo3": Model(base(Olmo3Config, sliding_window=9, layer_types=BOTH, rope_parameters={
        "sliding_attention": rope(theta=500000.0),
        "full_attention": rope("yarn", 500000.0, factor=8.0, original_max_position_embeddings=32, beta_fast=32.0,
                               beta_slow=1.0, attention_factor=1.2079441541679836)}), 60,
        published=dict(rope_theta=500000, rope_scaling=dict(
            rope_type="yarn", factor=8.0, original_max_position_embeddings=32, beta_fast=32.0, beta_slow=1.0,
            attention_factor=1.2079441541679836))),
    "granite": Model(base(GraniteConfig, embedding_multiplier=12.0, logits_scaling=8.0, residual_multiplier=0.22,
                          attention_multiplier=0.2)),
    "granite-bias": Model(base(GraniteConfig, num_hidden_layers=1, embedding_multiplier=6.0, logits_scaling=0.5,
                               residual_multiplier=0.4, attention_multiplier=0.5, attention_bias=True, mlp_bias=True,
                               tie_word_embeddings=True)),
    "phi3": Model(base(Phi3Config, num_key_value_heads=4, sliding_window=11), 40,
                  published=dict(rope_scaling=None)),
    "phi4": Model(base(Phi3Config, num_hidden_layers=1, rope_parameters=rope(theta=250000.0, partial_rotary_factor=1.0))),
    "phi3-longrope-short": Model(base(Phi3Config, num_hidden_layers=1, num_key_value_heads=4,
                                      original_max_position_embeddings=40, rope_parameters=rope(
                                          "longrope", partial_rotary_factor=1.0, **FACTORS)), 30),
    "phi3-longrope-long": Model(base(Phi3Config, num_hidden_layers=1, num_key_value_heads=4,
                                     original_max_position_embeddings=40, rope_parameters=rope(
                                         "longrope", partial_rotary_factor=1.0, **FACTORS)), 60, prompt=60),
    # Phi-3's first files say "su" where later ones say "longrope".
    "phi3-su": Model(base(Phi3Config, num_hidden_layers=1, num_key_value_heads=4, original_max_position_embeddings=40,
                          rope_parameters=rope("longrope", partial_rotary_factor=1.0, **FACTORS)), 50, prompt=50,
                     published=dict(rope_scaling=dict(type="su", **FACTORS))),
    "phi4-mini": Model(base(Phi3Config, num_attention_heads=2, num_key_value_heads=1,
                            original_max_position_embeddings=40, tie_word_embeddings=True, rope_parameters=rope(
                                "longrope", partial_rotary_factor=0.75,
                                short_factor=[1.0, 1.0, 1.1, 1.2, 1.4, 1.9], long_factor=[1.0, 1.1, 1.3, 2.5, 4.0, 6.0])),
                       60, prompt=60, published=dict(partial_rotary_factor=0.75)),
    "ministral": Model(base(MinistralConfig, head_dim=12, sliding_window=9, layer_types=BOTH), 40),
    "ministral3": Model(base(Ministral3Config, head_dim=12, rope_parameters=rope(
        "yarn", 1000000.0, factor=16.0, original_max_position_embeddings=16, max_position_embeddings=256,
        beta_fast=32.0, beta_slow=1.0, mscale_all_dim=1.0, mscale=1.0, llama_4_scaling_beta=0.1)), 60, modern=True),
    "mistral3-wrapper": Model(Mistral3Config(
        text_config=base(MistralConfig, head_dim=12, num_hidden_layers=1, sliding_window=None, rope_parameters=rope(theta=1e9)).to_dict(),
        vision_config=PIXTRAL, image_token_index=10, tie_word_embeddings=False), rename=older_wrapper,
        drop=("layer_types",)),
    "ministral3-wrapper": Model(Mistral3Config(
        text_config=base(Ministral3Config, head_dim=12, num_hidden_layers=1, tie_word_embeddings=True, rope_parameters=rope(
            "yarn", 1000000.0, factor=16.0, original_max_position_embeddings=16, max_position_embeddings=256,
            beta_fast=32.0, beta_slow=1.0, mscale_all_dim=1.0, mscale=1.0, llama_4_scaling_beta=0.1)).to_dict(),
        vision_config=PIXTRAL, image_token_index=10, tie_word_embeddings=True), 60, modern=True, rename=older_wrapper),
    # Parallel blocks.
    "gpt-neox": Model(base(GPTNeoXConfig, rope_parameters=rope(partial_rotary_factor=0.25), num_attention_heads=2),
                      rename=with_neox_buffers),
    "gpt-neox-sequential": Model(base(GPTNeoXConfig, num_hidden_layers=1, use_parallel_residual=False, hidden_act="gelu_fast",
                                      rope_parameters=rope(partial_rotary_factor=1.0))),
    "gpt-neox-no-bias": Model(base(GPTNeoXConfig, num_hidden_layers=1, attention_bias=False, hidden_act="gelu_new",
                                   num_attention_heads=2, tie_word_embeddings=True,
                                   rope_parameters=rope(theta=5000.0, partial_rotary_factor=0.5))),
    # Gemma.
    "gemma2": Model(base(Gemma2Config, **GEMMA, sliding_window=9, query_pre_attn_scalar=20, attn_logit_softcapping=5.0,
                         final_logit_softcapping=6.0, layer_types=BOTH), 40, drop=("layer_types",)),
    "gemma2-plain": Model(base(Gemma2Config, **GEMMA, num_hidden_layers=1, query_pre_attn_scalar=8,
                               attn_logit_softcapping=None, final_logit_softcapping=None, attention_bias=True)),
    "gemma3": Model(base(Gemma3TextConfig, **GEMMA, num_hidden_layers=3, intermediate_size=20, sliding_window=9,
                         query_pre_attn_scalar=20, layer_types=["sliding_attention"] * 2 + ["full_attention"],
                         rope_parameters={"sliding_attention": rope(theta=10000.0),
                                          "full_attention": rope(theta=1000000.0)}), 40,
                    drop=("layer_types",),
                    published=dict(rope_theta=1000000, rope_local_base_freq=10000, rope_scaling=None,
                                   sliding_window_pattern=3)),
    "gemma3-linear": Model(base(Gemma3TextConfig, **GEMMA, sliding_window=9, query_pre_attn_scalar=20, layer_types=BOTH,
                                rope_parameters={"sliding_attention": rope(theta=10000.0),
                                                 "full_attention": rope("linear", 1000000.0, factor=8.0)}), 40,
                           published=dict(rope_theta=1000000.0, rope_local_base_freq=10000.0,
                                          rope_scaling=dict(factor=8.0, rope_type="linear"))),
    "gemma3-wrapper": Model(Gemma3Config(
        text_config=base(Gemma3TextConfig, **GEMMA, sliding_window=9, query_pre_attn_scalar=12, layer_types=BOTH).to_dict(),
        vision_config=SIGLIP, mm_tokens_per_image=4, image_token_index=66), 40, rename=older_wrapper,
        published=dict(rope_theta=1000000.0, rope_local_base_freq=10000.0, rope_scaling=None, sliding_window_pattern=2),
        drop=("layer_types",)),
    "gemma3-wrapper-new": Model(Gemma3Config(
        text_config=base(Gemma3TextConfig, **GEMMA, sliding_window=9, query_pre_attn_scalar=12, num_hidden_layers=1,
                         layer_types=["full_attention"]).to_dict(),
        vision_config=SIGLIP, mm_tokens_per_image=4, image_token_index=66), 40, rename=newer_wrapper, modern=True),
    # Mixtures.
    "mixtral": Model(base(MixtralConfig, num_local_experts=4, intermediate_size=12), drop=("head_dim",)),
    "mixtral-window": Model(base(MixtralConfig, num_local_experts=3, num_experts_per_tok=1, intermediate_size=12,
                                 num_hidden_layers=1, head_dim=12, sliding_window=7, tie_word_embeddings=True), 40),
    "qwen3-moe": Model(moe(Qwen3MoeConfig, head_dim=16, norm_topk_prob=True), drop=("layer_types",)),
    "qwen3-moe-mixed": Model(moe(Qwen3MoeConfig, num_hidden_layers=3, head_dim=8, decoder_sparse_step=2,
                                 mlp_only_layers=[0], attention_bias=True, tie_word_embeddings=True)),
    "olmoe": Model(moe(OlmoeConfig, intermediate_size=12, num_key_value_heads=4)),
    "qwen2-moe": Model(moe(Qwen2MoeConfig, num_experts=3, shared_expert_intermediate_size=20)),
    "qwen2-moe-window": Model(moe(Qwen2MoeConfig, num_hidden_layers=1, shared_expert_intermediate_size=12, norm_topk_prob=True,
                                  use_sliding_window=True, sliding_window=9, max_window_layers=2, qkv_bias=True,
                                  tie_word_embeddings=True), 40),
    "gpt-oss": Model(base(GptOssConfig, head_dim=12, intermediate_size=12, num_local_experts=4, num_experts_per_tok=2,
                          sliding_window=9, layer_types=BOTH, rope_parameters=rope(
                              "yarn", 150000.0, factor=32.0, beta_fast=32.0, beta_slow=1.0, truncate=False,
                              original_max_position_embeddings=32)), 60),
    "gpt-oss-mxfp4": Model(base(GptOssConfig, head_dim=16, intermediate_size=32, num_local_experts=4,
                                num_experts_per_tok=2, num_hidden_layers=1, sliding_window=9,
                                layer_types=["sliding_attention"], rope_parameters=rope(
                                    "yarn", 150000.0, factor=32.0, beta_fast=32.0, beta_slow=1.0, truncate=False,
                                    original_max_position_embeddings=32)), 60, rename=mxfp4,
                           published=MXFP4_CONFIG, lattice=True),
    # Hybrids.
    "qwen3.5": Model(Qwen3_5Config(text_config=base(Qwen3_5TextConfig, **MROPE, tie_word_embeddings=True).to_dict(),
                                   vision_config=QWEN_VISION, tie_word_embeddings=True), 70, modern=True,
                     rename=with_mtp),
    "qwen3.5-text": Model(base(Qwen3_5TextConfig, **DELTA, attention_bias=True), 70, modern=True),
    "qwen3.5-moe": Model(Qwen3_5MoeConfig(
        text_config=moe(Qwen3_5MoeTextConfig, **MROPE, shared_expert_intermediate_size=12).to_dict(),
        vision_config=QWEN_VISION), modern=True, rename=stacked_experts),
    "qwen3.5-moe-separate": Model(Qwen3_5MoeConfig(
        text_config=moe(Qwen3_5MoeTextConfig, **{**MROPE, "layer_types": ["full_attention"]},
                        num_hidden_layers=1, num_experts=3, shared_expert_intermediate_size=12).to_dict(),
        vision_config=QWEN_VISION), modern=True, rename=separate_experts),
    "lfm2": Model(base(Lfm2Config, block_auto_adjust_ff_dim=False, layer_types=["conv", "full_attention"],
                       tie_word_embeddings=True), 40),
    "lfm2-older": Model(base(Lfm2Config, intermediate_size=42, block_multiple_of=16, block_ffn_dim_multiplier=1.0,
                             full_attn_idxs=[1], conv_bias=True, conv_L_cache=4, tie_word_embeddings=True), 40,
                        drop=("layer_types", "intermediate_size"), published=dict(full_attn_idxs=[1], block_ff_dim=42)),
}


def text_config(config):
    return config.get_text_config()


def published_config(model, saved):
    """config.json as the hub has it, of what Transformers 5 saved."""
    saved = copy.deepcopy(saved)
    text = saved.get("text_config", saved)
    if not model.modern:
        for level in {id(saved): saved, id(text): text}.values():
            if "dtype" in level:
                level["torch_dtype"] = level.pop("dtype")
        scaling = text.pop("rope_parameters", None)
        if scaling and "rope_type" in scaling:
            theta = scaling.pop("rope_theta")
            partial = scaling.pop("partial_rotary_factor", None)
            if text["model_type"] == "gpt_neox":
                text |= {"rotary_emb_base": theta, "rotary_pct": partial}
            else:
                text["rope_theta"] = theta
            text["rope_scaling"] = scaling if scaling["rope_type"] != "default" else None
            if text["model_type"] == "phi3" and text["rope_scaling"]:
                text["rope_scaling"]["type"] = text["rope_scaling"].pop("rope_type")
    if text["model_type"] == "qwen3_moe" and "num_local_experts" in text:
        text["num_experts"] = text.pop("num_local_experts")
    for key in (*model.drop, "_sliding_window_pattern"):
        text.pop(key, None)
    return (saved | model.published) if saved is text else (saved | {"text_config": text | model.published})


def randomize(model, generator, lattice=False):
    """Weights larger than an initialisation would make them, norms and biases that are not trivial."""
    def normal(parameter, size):
        return size * torch.randn(parameter.shape, generator=generator)

    config = text_config(model.config)
    # Small where the embedding is the head too, or the most likely token were always the last one.
    embedding = (0.15 if config.tie_word_embeddings else 0.5) / (getattr(config, "embedding_multiplier", None) or 1)
    modules = dict(model.named_modules())
    for name, parameter in list(model.named_parameters()) + [b for b in model.named_buffers() if "layer_scalar" in b[0]]:
        module = modules[name.rpartition(".")[0]]
        leaf = name.rpartition(".")[2]
        if "layer_scalar" in name:
            values = 0.8 + normal(parameter, 0.1)
        elif leaf == "A_log":
            values = torch.log(0.2 + 1.5 * torch.rand(parameter.shape, generator=generator))
        elif leaf == "sinks":
            values = normal(parameter, 1.0)
        elif isinstance(module, torch.nn.Embedding):
            values = normal(parameter, embedding)
        elif re.search(r"(mlp\.gate|router|router\.proj|block_sparse_moe\.gate)\.weight$", name):
            values = normal(parameter, 3 * parameter.shape[-1] ** -0.5)  # chooses clearly
        elif parameter.dim() == 3 and "experts" in name:
            inputs = parameter.shape[1] if "GptOss" in type(module).__name__ else parameter.shape[2]
            values = normal(parameter, inputs ** -0.5)
            if lattice:
                values = to_lattice(values.transpose(1, 2))[0].transpose(1, 2).contiguous()
        elif parameter.dim() == 3 and "conv" in name:
            values = normal(parameter, parameter.shape[2] ** -0.5)
        elif parameter.dim() >= 2 and ".experts." not in name:
            values = normal(parameter, parameter[0].numel() ** -0.5)
        elif leaf == "weight" and "norm" in type(module).__name__.lower() and not parameter.detach().any():
            values = normal(parameter, 0.2)  # 1 + w
        elif leaf == "bias" or "bias" in leaf and leaf != "dt_bias":
            values = normal(parameter, 0.2)
        else:
            values = 1 + normal(parameter, 0.2)
        parameter.data = values.half().float()
