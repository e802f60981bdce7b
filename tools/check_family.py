#!/usr/bin/env python3
"""Takes a checkpoint the whole way, against the real libraries, and prints a row of a table.

    check_family.py FOLDER [--binary build/release/knapsaq] [--llama-bin DIR] [--text FILE] [--only gguf,mlx]
    check_family.py --make FAMILY|all DIR [--tokenizer FOLDER]

FOLDER is a model in full precision with its tokenizer. The cells, each `ok` with a figure or what is wrong:
  logits     perplexity by `knapsaq eval --precision fp32` and by Transformers in fp32: relative difference
  tokens     24 tokens by `knapsaq generate` and greedily by Transformers, token for token
  own        `quantize` to Knapsaq's format and back: `eval` of the result runs, and is near the model
  gguf       exported (Q8_0, and the mixture in --types); llama-perplexity on the file beside `knapsaq eval` of the same
             file, which rounds inputs as llama.cpp does; and, if it is there, llama-tokenize's ids beside tokenizers'
  mlx        exported; mlx-lm's perplexity beside `knapsaq eval` of the same folder
  ct         exported as compressed-tensors; perplexity by Transformers' own loader beside `knapsaq eval` of the model
  gptq       exported as gptq; dequantized here as GPTQModel does, loaded by Transformers, beside `knapsaq eval`
An engine that does not know the family is no fault of the file: its cell says `unknown to it`.

--make writes DIR/FAMILY: a random model in the shape ratios of the family's published ones, in bf16, with the
tokenizer of assets/wiki-llama-6m (byte-level BPE, 4096 tokens) or of --tokenizer, and a vocabulary that is padded;
large enough for blocks of 256 weights.

Needs torch, transformers 5, tokenizers, safetensors, gguf; mlx-lm and compressed-tensors for their cells.
"""
import argparse
import copy
import json
import math
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("TQDM_DISABLE", "1")

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(HERE))
EXACT = 1e-4    # of perplexities in fp32: sums in another order
SIMILAR = 5e-3  # llama.cpp rounds products' inputs to int8, and keeps keys and values in F16


class Fault(Exception):
    """Ends a cell; its text is the cell."""


def run(command, **options):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, errors="replace", **options)
    if done.returncode != 0:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        said = next((line for line in lines if "knapsaq:" in line or "error" in line.lower()), lines[-1] if lines else "nothing")
        raise Fault(f"{pathlib.Path(command[0]).name} {command[1] if len(command) > 1 else ''}: {said.strip()[:220]}")
    return done.stdout + "\n" + done.stderr


class Checked:
    """A model that is checked, and where the check works."""

    def __init__(self, folder, options, work):
        self.folder, self.options, self.work = folder, options, work
        self.config = json.loads((folder / "config.json").read_text())
        self.text = work / "text.txt"
        raw = options.text.read_bytes()[: options.bytes]
        self.text.write_bytes(raw.decode("utf-8", errors="ignore").encode())
        self.quantized_folders = {}

    def knapsaq(self, *words):
        return json.loads(run([self.options.binary, *words, "--threads", self.options.threads, "--json"]).split("\n\n")[0])

    def eval(self, path, protocol="gptq", precision="fp32"):
        return self.knapsaq("eval", path, "--text", self.text, "--protocol", protocol, "--window", self.options.window,
                            "--windows", self.options.windows, "--precision", precision)

    def quantized(self, scheme):
        """Folder with every linear in `scheme`, by rounding to nearest: no text is needed."""
        if scheme not in self.quantized_folders:
            out = self.work / ("q-" + scheme.replace(":", "-"))
            self.knapsaq("quantize", self.folder, "--scheme", scheme, "-o", out)
            self.quantized_folders[scheme] = out
        return self.quantized_folders[scheme]

    def tokenizer(self):
        """What Transformers makes of the folder: for some types of models not what tokenizer.json says."""
        return transformers.AutoTokenizer.from_pretrained(self.folder).backend_tokenizer

    def windows(self):
        ids, length = self.tokenizer().encode(self.text.read_text()).ids, self.options.window
        count = min(self.options.windows, len(ids) // length)
        return torch.tensor(ids[: count * length]).reshape(count, length)


def load(folder, dtype=torch.float32):
    config = transformers.AutoConfig.from_pretrained(folder)
    auto = transformers.AutoModelForImageTextToText if hasattr(config, "vision_config") else transformers.AutoModelForCausalLM
    return auto.from_pretrained(folder, dtype=dtype, attn_implementation="eager").eval()


@torch.no_grad()
def perplexity(model, windows):
    loss = 0.0
    for window in windows:
        logits = model(window[None]).logits[0, :-1].float()
        loss += torch.nn.functional.cross_entropy(logits, window[1:]).item() / len(windows)
    return math.exp(loss)


def compared(ours, theirs, limit):
    difference = theirs / ours - 1
    if not abs(difference) <= limit:
        raise Fault(f"DIFFERS: {theirs:.6g} against our {ours:.6g}, {difference:+.2%}")
    return f"ok, {difference:+.1e}"


# ------------------------------------------------------------------ cells

def check_logits(checked):
    checked.model = load(checked.folder)
    return compared(checked.eval(checked.folder)["perplexity"], perplexity(checked.model, checked.windows()), EXACT)


def check_tokens(checked):
    model = getattr(checked, "model", None) or load(checked.folder)
    tokenizer = checked.tokenizer()
    prompt = checked.text.read_text()[:400]
    ids = torch.tensor([tokenizer.encode(prompt).ids])
    count = 24
    vocabulary = model.get_output_embeddings().weight.shape[0]
    padding = list(range(tokenizer.get_vocab_size(), vocabulary))  # rows without a token are never drawn
    with torch.no_grad():
        out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=count,
                             eos_token_id=None, pad_token_id=0, suppress_tokens=padding or None,
                             return_dict_in_generate=True, output_scores=True)
    theirs = out.sequences[0, ids.shape[1]:].tolist()
    said = checked.knapsaq("generate", checked.folder, "--prompt", prompt, "--max-tokens", count, "--activations", "fp32")
    if said["prompt_tokens"] != ids.shape[1]:
        raise Fault(f"DIFFERS: {said['prompt_tokens']} tokens of the prompt, tokenizers has {ids.shape[1]}")
    for at, (ours, expected) in enumerate(zip(said["tokens"], theirs)):
        if ours != expected:
            first, second = out.scores[at][0].topk(2).values.tolist()
            if first - second < 0.01:  # the cache in fp16, and products of another order
                return f"ok, {at} tokens, then two that are {first - second:.4f} apart"
            raise Fault(f"DIFFERS at token {at}: {ours}, Transformers {expected} by {first - second:.3f}")
    if len(said["tokens"]) < count:
        return f"ok, {len(said['tokens'])} tokens, then {said['reason']}"
    return f"ok, {count} tokens"


def check_own(checked):
    quantized = checked.quantized("rtn:b8g64")
    return compared(checked.eval(checked.folder)["perplexity"], checked.eval(quantized)["perplexity"], 0.05)


def check_gguf(checked):
    import check_gguf as gguf_tool
    tools = gguf_tool.Tools(None)
    found = []
    try:
        for kind in checked.options.types.split(","):
            path = checked.work / f"{kind}.gguf"
            checked.knapsaq("export", checked.quantized(kind), "--format", "gguf", "-o", path)
            try:
                out = tools.run("llama-perplexity", "-m", str(path), "-f", str(checked.text), "-c", str(checked.options.window),
                                "-t", str(checked.options.threads), "--chunks", str(checked.options.windows), "--no-repack")
            except SystemExit as error:
                said = str(error)
                if "unknown model architecture" in said:
                    raise Fault("unknown to it: " + re.search(r"unknown model architecture: '([^']*)'", said)[1]) from None
                wrong = [line for line in said.splitlines() if re.search(r"error|failed|missing|assert", line, re.I)]
                raise Fault(f"{kind}: llama.cpp: {(wrong or said.splitlines())[0][:220]}") from None
            estimate = re.search(r"Final estimate: PPL = ([\d.]+)", out)
            if not estimate:
                raise Fault(f"{kind}: llama-perplexity has no estimate: {out.splitlines()[-1][:200]}")
            ours = checked.eval(path, "llama", "int8")["perplexity"]
            found.append(f"{kind} {float(estimate[1]) / ours - 1:+.1e}")
            if abs(float(estimate[1]) / ours - 1) > SIMILAR:
                raise Fault(f"DIFFERS: {kind}: llama.cpp {estimate[1]}, ours {ours:.4f}")
        if not shutil.which("llama-tokenize"):
            return "ok, " + ", ".join(found)
        right, different = gguf_tool.check_tokens(tools, checked.folder, path)
        if different:
            raise Fault(f"DIFFERS: {', '.join(found)}; tokens of {right} texts, not of {different[0]!r}")
        return "ok, " + ", ".join(found) + f"; texts {right}"
    finally:
        shutil.rmtree(tools.folder)


def check_mlx(checked):
    quantized = checked.quantized("rtn:b4g64")
    out = checked.work / "mlx"
    checked.knapsaq("export", quantized, "--format", "mlx", "-o", out)
    import check_mlx as mlx_tool
    try:
        theirs = mlx_tool.measure(out, checked.text, checked.options.window)[1]
    except ValueError as error:
        if "not supported" in str(error):
            raise Fault("unknown to it: " + checked.config["model_type"]) from None
        raise
    ours = checked.knapsaq("eval", out, "--text", checked.text, "--protocol", "gptq", "--window", checked.options.window,
                           "--precision", "fp32")["perplexity"]
    return compared(ours, theirs, 1e-3)


def check_compressed(checked):
    import check_export
    quantized = checked.quantized("rtn:b4g64s")
    out = checked.work / "ct"
    checked.knapsaq("export", quantized, "--format", "compressed-tensors", "-o", out)
    ours = checked.eval(quantized)["perplexity"]
    config = transformers.AutoConfig.from_pretrained(out)
    if hasattr(config, "vision_config"):
        model = transformers.AutoModelForImageTextToText.from_pretrained(out, dtype=torch.float32, device_map="cpu").eval()
    else:
        model = check_export.exported_model(out, "transformers", torch.float32)
    return compared(ours, perplexity(model, checked.windows()), 1e-3)


def gptq_weight(parts, bits):
    """[out, in] of GPTQ's version 1: codes in 32-bit words down the inputs, zero points less one along the outputs."""
    def fields(words, axis):
        # A stream of bits: at 3 bits a code may begin in one word and end in the next.
        words = np.moveaxis(words.numpy().view(np.uint32), axis, -1)
        stream = np.unpackbits(np.ascontiguousarray(words).view(np.uint8), axis=-1, bitorder="little")
        stream = stream[..., : stream.shape[-1] // bits * bits].reshape(*words.shape[:-1], -1, bits)
        return np.moveaxis((stream.astype(np.int64) << np.arange(bits)).sum(-1), -1, axis)
    codes = fields(parts["qweight"], 0)
    zeros = (fields(parts["qzeros"], 1) + 1)[:, : codes.shape[1]]
    group = parts["g_idx"].long() if "g_idx" in parts else torch.arange(codes.shape[0]) // (codes.shape[0] // zeros.shape[0])
    scales = parts["scales"].float()
    return ((torch.from_numpy(codes) - torch.from_numpy(zeros)[group]).float() * scales[group]).T.contiguous()


def check_gptq(checked):
    quantized = checked.quantized("rtn:b4g64s")
    out = checked.work / "gptq"
    checked.knapsaq("export", quantized, "--format", "gptq", "-o", out)
    dense = checked.work / "gptq-dense"
    dense.mkdir()
    config = json.loads((out / "config.json").read_text())
    bits = config.pop("quantization_config")["bits"]
    (dense / "config.json").write_text(json.dumps(config))
    tensors = {}
    for path in sorted(out.glob("*.safetensors")):
        tensors |= load_file(path)
    for name in [n for n in tensors if n.endswith(".qweight")]:
        module = name.removesuffix(".qweight")
        parts = {part: tensors.pop(f"{module}.{part}") for part in ("qweight", "qzeros", "scales", "g_idx")
                 if f"{module}.{part}" in tensors}
        tensors[module + ".weight"] = gptq_weight(parts, bits)
    save_file(tensors, dense / "model.safetensors", metadata={"format": "pt"})
    return compared(checked.eval(quantized)["perplexity"], perplexity(load(dense), checked.windows()), 1e-3)


CELLS = {"logits": check_logits, "tokens": check_tokens, "own": check_own, "gguf": check_gguf, "mlx": check_mlx,
         "ct": check_compressed, "gptq": check_gptq}


def check(folder, options):
    work = pathlib.Path(tempfile.mkdtemp(prefix="check-family-"))
    row, bad = {}, False
    try:
        checked = Checked(folder, options, work)
        for cell in options.only.split(",") if options.only else CELLS:
            try:
                row[cell] = CELLS[cell](checked)
            except Fault as fault:
                refused = re.search(r"has no (?:architecture|model) for (\S+?):?(?: |$)", str(fault))
                row[cell] = f"unknown to it: {refused[1]}" if refused else str(fault)
                bad |= not row[cell].startswith("unknown to it")
            except Exception as error:  # a library's refusal is a cell too
                text = f"{type(error).__name__}: {error}".replace("\n", " ")
                row[cell], bad = text[:260], True
    finally:
        if options.keep:
            print(f"files in {work}", file=sys.stderr)
        else:
            shutil.rmtree(work)
    print("| " + " | ".join([folder.name, *(value.replace("|", "/") for value in row.values())]) + " |", flush=True)
    return bad


# ------------------------------------------------------------------ models to check with

def made_families():
    """{name: configuration}: hidden 256 and the ratios of published models; two to four layers."""
    import family_models as small
    from family_models import BOTH, rope

    plain = dict(hidden_size=256, intermediate_size=512, num_attention_heads=4, num_key_value_heads=2,
                 max_position_embeddings=2048)
    mixture = plain | dict(num_experts=8, num_experts_per_tok=2, moe_intermediate_size=256)
    gemma = plain | dict(head_dim=64, tie_word_embeddings=True, hidden_activation="gelu_pytorch_tanh", sliding_window=128,
                         query_pre_attn_scalar=64)
    yarn = rope("yarn", 1000000.0, factor=8.0, original_max_position_embeddings=256, beta_fast=32.0, beta_slow=1.0)
    delta = dict(head_dim=128, num_attention_heads=2, num_key_value_heads=1, linear_key_head_dim=64,
                 linear_value_head_dim=64, linear_num_key_heads=2, linear_num_value_heads=4, num_hidden_layers=4,
                 layer_types=["linear_attention"] * 3 + ["full_attention"], rope_parameters=rope(
                     theta=10000000.0, partial_rotary_factor=0.25))
    mrope = copy.deepcopy(delta)
    mrope["rope_parameters"] |= {"mrope_section": [6, 5, 5], "mrope_interleaved": True}
    siglip = small.SIGLIP | dict(hidden_size=32, intermediate_size=64)
    pixtral = small.PIXTRAL | dict(hidden_size=32, intermediate_size=64, head_dim=16)
    vision = small.QWEN_VISION | dict(hidden_size=32, intermediate_size=64, out_hidden_size=256)
    gemma3 = dict(num_hidden_layers=6, layer_types=["sliding_attention"] * 5 + ["full_attention"])
    factors = dict(short_factor=[1.0] * 32, long_factor=[1.0 + i / 8 for i in range(32)])
    base, tf = small.base, transformers
    ministral = yarn | dict(max_position_embeddings=2048, mscale_all_dim=1.0, mscale=1.0, llama_4_scaling_beta=0.1)

    def of(cls, common, **options):
        return base(cls, **{**common, **options})

    M = small.Model
    F = small.FAMILIES

    def like(name, config):
        """Published as the tiny model of that name is."""
        model = copy.copy(F[name])
        model.config = config
        return model

    return {
        "llama": M(of(tf.LlamaConfig, plain)),
        "llama-yarn": M(of(tf.LlamaConfig, plain, rope_parameters=rope("yarn", factor=8.0, original_max_position_embeddings=256))),
        "mistral": M(of(tf.MistralConfig, plain, sliding_window=None)),
        "qwen3": M(of(tf.Qwen3Config, plain, head_dim=64, tie_word_embeddings=True)),
        "smollm3": M(of(tf.SmolLM3Config, plain, num_hidden_layers=4, tie_word_embeddings=True), drop=("layer_types",)),
        "olmo2": M(of(tf.Olmo2Config, plain, num_key_value_heads=4)),
        "olmo3": like("olmo3", of(tf.Olmo3Config, plain, num_hidden_layers=4, sliding_window=128, num_key_value_heads=4,
                                  layer_types=["sliding_attention"] * 3 + ["full_attention"],
                                  rope_parameters={"sliding_attention": rope(theta=500000.0),
                                                   "full_attention": rope("yarn", 500000.0, factor=8.0,
                                                                          original_max_position_embeddings=32, beta_fast=32.0,
                                                                          beta_slow=1.0, attention_factor=1.2079441541679836)})),
        "granite": M(of(tf.GraniteConfig, plain, embedding_multiplier=12.0, logits_scaling=8.0, residual_multiplier=0.22,
                        attention_multiplier=0.015625, tie_word_embeddings=True)),
        "phi3": M(of(tf.Phi3Config, plain, num_key_value_heads=4)),
        "phi3-longrope": M(of(tf.Phi3Config, plain, num_key_value_heads=4, original_max_position_embeddings=1024, rope_parameters=rope(
            "longrope", partial_rotary_factor=1.0, **factors))),
        "phi4-mini": M(of(tf.Phi3Config, plain, original_max_position_embeddings=1024, tie_word_embeddings=True, rope_parameters=rope(
            "longrope", partial_rotary_factor=0.75, short_factor=[1.0] * 24, long_factor=[1.0 + i / 8 for i in range(24)])),
            published=dict(partial_rotary_factor=0.75)),
        "ministral": M(of(tf.MinistralConfig, plain, head_dim=64, sliding_window=128,
                          layer_types=BOTH)),
        "ministral3": M(of(tf.Ministral3Config, plain, head_dim=64, rope_parameters=ministral), modern=True),
        "mistral3": like("mistral3-wrapper", tf.Mistral3Config(
            text_config=of(tf.MistralConfig, plain, head_dim=64, sliding_window=None, rope_parameters=rope(theta=1e9)).to_dict(),
            vision_config=pixtral, image_token_index=4100, tie_word_embeddings=False)),
        "mistral3-ministral3": like("ministral3-wrapper", tf.Mistral3Config(
            text_config=of(tf.Ministral3Config, plain, head_dim=64, tie_word_embeddings=True, rope_parameters=ministral).to_dict(),
            vision_config=pixtral, image_token_index=4100, tie_word_embeddings=True)),
        "gpt-neox": like("gpt-neox", of(tf.GPTNeoXConfig, plain, intermediate_size=1024, rope_parameters=rope(
            partial_rotary_factor=0.25))),
        "gemma2": M(of(tf.Gemma2Config, gemma, attn_logit_softcapping=50.0, final_logit_softcapping=30.0), drop=("layer_types",)),
        "gemma3": M(of(tf.Gemma3TextConfig, gemma, **gemma3), drop=("layer_types",), published=dict(
            rope_theta=1000000, rope_local_base_freq=10000, rope_scaling=None, sliding_window_pattern=6)),
        "gemma3-wrapper": like("gemma3-wrapper", tf.Gemma3Config(
            text_config=of(tf.Gemma3TextConfig, gemma, **gemma3, rope_parameters={
                "sliding_attention": rope(), "full_attention": rope("linear", 1000000.0, factor=8.0)}).to_dict(),
            vision_config=siglip, mm_tokens_per_image=4, image_token_index=4100)),
        "mixtral": M(of(tf.MixtralConfig, plain, num_local_experts=8), drop=("head_dim",)),
        "qwen3-moe": M(of(tf.Qwen3MoeConfig, mixture, head_dim=64, norm_topk_prob=True), drop=("layer_types",)),
        "olmoe": M(of(tf.OlmoeConfig, mixture, intermediate_size=256, num_key_value_heads=4)),
        "qwen2-moe": M(of(tf.Qwen2MoeConfig, mixture, shared_expert_intermediate_size=512)),
        "gpt-oss": M(of(tf.GptOssConfig, plain, head_dim=64, intermediate_size=256, num_local_experts=8, num_experts_per_tok=2,
                        sliding_window=128, layer_types=BOTH, rope_parameters=rope(
                            "yarn", 150000.0, factor=32.0, beta_fast=32.0, beta_slow=1.0, truncate=False,
                            original_max_position_embeddings=64))),
        "gpt-oss-mxfp4": like("gpt-oss-mxfp4", of(
            tf.GptOssConfig, plain, head_dim=64, intermediate_size=256, num_local_experts=8, num_experts_per_tok=2,
            sliding_window=128, layer_types=BOTH, rope_parameters=rope(
                "yarn", 150000.0, factor=32.0, beta_fast=32.0, beta_slow=1.0, truncate=False,
                original_max_position_embeddings=64))),
        "qwen3.5": M(tf.Qwen3_5Config(
            text_config=base(tf.Qwen3_5TextConfig, **{**plain, **mrope}, tie_word_embeddings=True).to_dict(),
            vision_config=vision, tie_word_embeddings=True), modern=True, rename=small.with_mtp),
        "qwen3.5-text": M(base(tf.Qwen3_5TextConfig, **{**plain, **delta}), modern=True),
        "qwen3.5-moe": M(tf.Qwen3_5MoeConfig(
            text_config=base(tf.Qwen3_5MoeTextConfig, **{**mixture, **mrope, "shared_expert_intermediate_size": 256}).to_dict(),
            vision_config=vision), modern=True, rename=small.stacked_experts),
        "lfm2": M(base(tf.Lfm2Config, **plain, num_hidden_layers=4, block_auto_adjust_ff_dim=False,
                       layer_types=["conv", "conv", "full_attention", "conv"], tie_word_embeddings=True)),
        "opt": M(tf.OPTConfig(hidden_size=256, ffn_dim=1024, num_hidden_layers=2, num_attention_heads=4, vocab_size=4160,
                              max_position_embeddings=2048, word_embed_proj_dim=256, dropout=0.0, bos_token_id=0,
                              eos_token_id=0, pad_token_id=0)),
    }


def make(name, model_of, out, tokenizer):
    import family_models as small
    from make_family_references import auto_class
    vocabulary = json.loads((tokenizer / "tokenizer.json").read_text())["model"]["vocab"]
    config = copy.deepcopy(model_of.config)
    text = small.text_config(config)
    text.vocab_size = len(vocabulary) + 64  # padded rows
    if getattr(text, "vocab_size_per_layer_input", None):
        text.vocab_size_per_layer_input = text.vocab_size
    torch.manual_seed(1)
    model = auto_class(config).from_config(config, attn_implementation="eager").float().eval()
    small.randomize(model, torch.Generator().manual_seed(1), model_of.lattice)
    model.tie_weights()
    folder = out / name
    shutil.rmtree(folder, ignore_errors=True)
    model.to(torch.bfloat16).save_pretrained(folder)
    if model_of.rename:
        save_file(model_of.rename(load_file(folder / "model.safetensors")), folder / "model.safetensors",
                  metadata={"format": "pt"})
    saved = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(small.published_config(model_of, saved), indent=1) + "\n")
    for file in tokenizer.iterdir():
        if file.name not in ("config.json", "generation_config.json", "README.md") and "model.safetensors" not in file.name:
            shutil.copyfile(file, folder / file.name)
    size = sum(f.stat().st_size for f in folder.iterdir())
    print(f"{folder}: {size / 1e6:.1f} MB", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=pathlib.Path, nargs="*")
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "build/release/knapsaq")
    parser.add_argument("--llama-bin", type=pathlib.Path,
                        default=pathlib.Path.home() / ".cache/knapsaq/llama.cpp-0.3.36/bin")
    parser.add_argument("--text", type=pathlib.Path, default=ROOT.parent / "shared/data/wikitext2-valid-100kb.raw")
    parser.add_argument("--bytes", type=int, default=8000, help="of the text")
    parser.add_argument("--window", type=int, default=256)
    parser.add_argument("--windows", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--types", default="q8_0,q4_k", help="GGUF types, with commas")
    parser.add_argument("--only", help="cells, with commas: " + ", ".join(CELLS))
    parser.add_argument("--keep", action="store_true", help="leave the files")
    parser.add_argument("--make", nargs=2, metavar=("FAMILY", "DIR"))
    parser.add_argument("--tokenizer", type=pathlib.Path, default=ROOT / "assets/wiki-llama-6m")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(options.threads)
    os.environ["PATH"] = f"{options.llama_bin}:{os.environ['PATH']}"
    if options.make:
        families = made_families()
        wanted = families if options.make[0] == "all" else {options.make[0]: families[options.make[0]]}
        for name, model_of in wanted.items():
            make(name, model_of, pathlib.Path(options.make[1]), options.tokenizer)
    bad = False
    if options.folders:
        cells = options.only.split(",") if options.only else list(CELLS)
        print("| model | " + " | ".join(cells) + " |\n" + "|---" * (len(cells) + 1) + "|", flush=True)
        for folder in options.folders:
            bad |= check(folder, options)
    return bad


if __name__ == "__main__":
    sys.exit(main())
