#!/usr/bin/env python3
"""Checks GGUF exports with llama.cpp's own tools and with gguf-py. Needs numpy, gguf, safetensors; --make-models also torch and
transformers; ids of tokens need tokenizers and sentencepiece.

  check_gguf.py --knapsaq build/knapsaq --text wiki.txt MODEL...             every MODEL a folder, quantized or not
  check_gguf.py --make-models FOLDER --tokenizers FOLDER                     small random models of every kind to check with

llama.cpp's tools are looked for in the PATH; with --root FOLDER they are run there by chroot (a Debian root with llama.cpp-tools and
llama.cpp-tools-extra). For each model:
  tensors     every weight that gguf-py decodes from the export is, to the bit, the one in the model's folder (rows of q and k put back)
  tokens      llama-tokenize gives the ids of the tokenizers or sentencepiece library for texts that are hard to cut
  perplexity  llama-perplexity agrees with `knapsaq eval --protocol llama` to --tolerance (0.5 %: llama.cpp multiplies in int8 and
              keeps keys and values in F16)
Prints a table in Markdown; ends with 1 if a check fails.
"""

import argparse
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import gguf
import numpy as np
from safetensors import safe_open

HARD = [
    "Hello world", " leading and  double   spaces ", "tabs\tand\nnew\n\n\nlines \n ", "it's I'LL we'd DON'T", "1234567 3.14159 10,000", "naïve café déjà vu",
    "日本語のテキスト と 中文", "🙂👩‍👩‍👧 emoji \u200d", "Ünïcödé ﬁ ligature", "def f(x):\n    return x**2  # code", "a" * 70, "مرحبا بالعالم", "...!?;:--__==",
    "\u00a0nbsp\u3000wide", "x\r\ny\r\n", "▁ already", "<0x41> <s> not special", "word" + " " * 20 + "word",
]


# ------------------------------------------------------------------ the model's own values

def half(values):
    return np.frombuffer(values.tobytes(), dtype=np.float16).astype(np.float32)


class Model:
    """The weights of a folder as floats: dense, affine (MLX's layout and Knapsaq's second level) or blocks."""

    def __init__(self, folder):
        self.folder = folder
        self.config = json.loads((folder / "config.json").read_text())
        self.files = {}
        for path in sorted(folder.glob("*.safetensors")):
            handle = safe_open(path, "pt")
            self.files.update({name: handle for name in handle.keys()})

    def raw(self, name):
        import torch
        tensor = self.files[name].get_tensor(name)
        if tensor.dtype == torch.bfloat16:
            return tensor.float().numpy()
        return tensor.numpy()

    def scheme(self, module):
        return self.config.get("knapsaq", {}).get("schemes", {}).get(module)

    def weight(self, module, kind):
        """Floats [rows, cols], or the bytes of blocks of GGML type `kind`."""
        scheme = self.scheme(module)
        weight = self.raw(module + ".weight")
        if scheme is None:
            return weight.astype(np.float32)
        if module + ".scales" not in self.files:
            return weight  # bytes of a GGML type
        entry = self.config["quantization"][module]
        bits, group = entry["bits"], entry["group_size"]
        cols = entry.get("in_features", weight.shape[1] * 32 // bits)
        stream = np.unpackbits(weight.view(np.uint8), axis=1, bitorder="little")[:, : cols * bits].reshape(weight.shape[0], cols, bits)
        codes = (stream.astype(np.uint32) << np.arange(bits, dtype=np.uint32)).sum(axis=2).astype(np.float32)
        scales, biases = (half(self.raw(f"{module}.{part}")).reshape(weight.shape[0], -1) for part in ("scales", "biases"))
        index = np.arange(cols) // group
        return (scales[:, index] * codes + biases[:, index]).astype(np.float32)


def teach_q2_0():
    """gguf-py 0.19 does not know the type that llama.cpp has as number 42."""
    kind = gguf.GGMLQuantizationType
    if 42 in kind._value2member_map_:
        return
    member = int.__new__(kind, 42)
    member._name_, member._value_ = "Q2_0", 42
    kind._value2member_map_[42] = member
    gguf.constants.GGML_QUANT_SIZES[member] = (64, 18)


def decode(tensor):
    shape = tuple(int(size) for size in reversed(tensor.shape))
    if tensor.tensor_type.name == "Q2_0":
        blocks = np.asarray(tensor.data).reshape(shape[0], -1, 18)
        codes = (blocks[:, :, 2:, None] >> np.array([0, 2, 4, 6], dtype=np.uint8)) & 3
        scales = half(np.ascontiguousarray(blocks[:, :, :2])).reshape(shape[0], -1, 1)
        return (scales * (codes.reshape(shape[0], -1, 64).astype(np.float32) - 1)).reshape(shape)
    return gguf.dequantize(np.asarray(tensor.data), tensor.tensor_type).reshape(shape)


NAMES = {"input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
         "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
         "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
OUTSIDE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}


def source_of(name):
    module, part = name.rsplit(".", 1)
    if module in OUTSIDE:
        return OUTSIDE[module], part
    layer, short = re.fullmatch(r"blk\.(\d+)\.(.+)", module).groups()
    return f"model.layers.{layer}." + next(long for long, known in NAMES.items() if known == short), part


def unpermute(values, heads):
    return values.reshape(heads, -1, 2, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)


def check_tensors(folder, path):
    model, reader = Model(folder), gguf.GGUFReader(path)
    config = model.config
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config.get("num_key_value_heads", config["num_attention_heads"])}
    arch = reader.fields["general.architecture"].contents()
    kinds = {}
    for tensor in reader.tensors:
        kinds[tensor.tensor_type.name] = kinds.get(tensor.tensor_type.name, 0) + 1
        if tensor.name == "rope_freqs.weight":
            from transformers import AutoConfig
            from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
            hf = AutoConfig.from_pretrained(folder)
            scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](hf, "cpu")
            theta = config.get("rope_theta") or config["rope_parameters"]["rope_theta"]
            dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
            plain = theta ** -(np.arange(0, dim, 2) / dim)
            np.testing.assert_allclose(np.asarray(tensor.data), plain / scaled.numpy(), rtol=1e-6)
            continue
        module, part = source_of(tensor.name)
        if module + ".weight" not in model.files and module == "model.embed_tokens":
            module = "lm_head"
        short = tensor.name.split(".")[2] if tensor.name.startswith("blk.") else ""
        order = (lambda values: unpermute(values, heads[short])) if arch == "llama" and short in heads else (lambda values: values)
        wanted = model.raw(f"{module}.{part}").astype(np.float32) if part == "bias" else model.weight(module, tensor.tensor_type)
        found = order(np.asarray(tensor.data).reshape(wanted.shape) if wanted.dtype == np.uint8 else decode(tensor))
        if not np.array_equal(found, wanted):
            raise SystemExit(f"{folder}: {tensor.name} is not {module}.{part}")
    return " ".join(f"{kind} x{count}" for kind, count in sorted(kinds.items()))


# ------------------------------------------------------------------ llama.cpp

class Tools:
    def __init__(self, root):
        self.root = pathlib.Path(root) if root else None
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="check-gguf-", dir=self.root / "tmp" if self.root else None))

    def path(self, path):
        return "/" + str(path.relative_to(self.root)) if self.root else str(path)

    def run(self, name, *arguments):
        command = (["chroot", str(self.root)] if self.root else []) + [name, *arguments]
        done = subprocess.run(command, capture_output=True)
        text = (done.stdout + b"\n" + done.stderr).decode(errors="replace")
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}:\n{text[-3000:]}")
        return text


def reference_ids(folder):
    if (folder / "tokenizer.json").exists():
        from tokenizers import Tokenizer
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        return lambda text: tokenizer.encode(text, add_special_tokens=False).ids
    model = folder / "tokenizer.model"
    if model.exists() and not re.match(rb"[A-Za-z0-9+/=]+ \d+\n", model.read_bytes()):  # else Llama 3's lines of base64 and rank
        from sentencepiece import SentencePieceProcessor
        processor = SentencePieceProcessor(model_file=str(model))
        return lambda text: processor.encode(text)
    from transformers import AutoTokenizer
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return lambda text: tokenizer.encode(text, add_special_tokens=False)


def check_tokens(tools, folder, path):
    ids_of = reference_ids(folder)
    different = []
    for number, text in enumerate(HARD):
        file = tools.folder / "text"
        file.write_text(text, newline="")
        out = tools.run("llama-tokenize", "-m", tools.path(path), "-f", tools.path(file), "--ids", "--no-bos", "--no-parse-special", "--log-disable")
        found = json.loads(re.findall(r"^\[[\d, ]*\]$", out, re.M)[-1])
        if found != ids_of(text):
            different.append(text)
    return f"{len(HARD) - len(different)} of {len(HARD)}", different


def check_perplexity(tools, arguments, folder, path):
    text = tools.folder / "wiki.txt"
    shutil.copyfile(arguments.text, text)
    out = tools.run("llama-perplexity", "-m", tools.path(path), "-f", tools.path(text), "-c", str(arguments.window), "-t", "2")
    estimate, over = re.search(r"Final estimate: PPL = ([\d.]+)", out), re.search(r"over (\d+) chunks", out)
    if not estimate or not over:
        raise SystemExit(f"{folder}: no perplexity in what llama-perplexity printed:\n{out[-3000:]}")
    theirs, chunks = float(estimate.group(1)), int(over.group(1))
    ours = json.loads(subprocess.run([arguments.knapsaq, "eval", str(folder), "--text", arguments.text, "--protocol", "llama", "--window",
                                      str(arguments.window), "--json"], capture_output=True, check=True).stdout)
    if ours["windows"] != chunks:
        raise SystemExit(f"{folder}: {chunks} windows in llama.cpp, {ours['windows']} in knapsaq: the tokens differ")
    return theirs, ours["perplexity"]


def check(arguments):
    teach_q2_0()
    tools = Tools(arguments.root)
    failed = False
    print("| model | tensors | tokens | llama-perplexity | knapsaq eval | difference |\n|---|---|---|---|---|---|")
    try:
        for name in arguments.models:
            folder = pathlib.Path(name)
            path = tools.folder / "model.gguf"
            path.unlink(missing_ok=True)
            subprocess.run([arguments.knapsaq, "export", str(folder), "--format", "gguf", "-o", str(path)], check=True, stdout=subprocess.DEVNULL)
            kinds = check_tensors(folder, path)
            tokens, different = check_tokens(tools, folder, path)
            theirs, ours = check_perplexity(tools, arguments, folder, path)
            difference = theirs / ours - 1
            failed |= abs(difference) > arguments.tolerance
            print(f"| {folder.name} | {kinds} | {tokens} | {theirs:.4f} | {ours:.4f} | {100 * difference:+.3f} % |", flush=True)
            for text in different:
                print(f"other tokens for {text!r}", file=sys.stderr)
    finally:
        shutil.rmtree(tools.folder)
    return failed


# ------------------------------------------------------------------ small models to check with

def make_models(folder, tokenizers):
    import torch
    import transformers as tf
    size = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 4,
            "max_position_embeddings": 2048}
    llama3 = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
              "original_max_position_embeddings": 256}
    linear = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}
    theta = {"rope_type": "default", "rope_theta": 1000000.0}
    cases = {
        "qwen2-tied": (tf.Qwen2Config(**size, vocab_size=151936, tie_word_embeddings=True, rope_parameters=theta), "qwen2", torch.bfloat16),
        "qwen3-heads": (tf.Qwen3Config(**size, vocab_size=151936, head_dim=64, tie_word_embeddings=True, rope_parameters=theta), "qwen2", torch.float16),
        "mistral-spm": (tf.MistralConfig(**size, vocab_size=32000, sliding_window=4096), "llama2", torch.bfloat16),
        "llama-spm": (tf.LlamaConfig(**size, vocab_size=32000), "llama2", torch.float32),
        "llama3-tied": (tf.LlamaConfig(**size, vocab_size=128256, tie_word_embeddings=True, rope_parameters=llama3), "llama3", torch.bfloat16),
        "llama-biases": (tf.LlamaConfig(**size, vocab_size=50432, attention_bias=True, mlp_bias=True, rope_parameters=linear), "pythia", torch.float16),
    }
    for name, (config, tokenizer, dtype) in cases.items():
        torch.manual_seed(0)
        model = tf.AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for key, tensor in model.named_parameters():
                if tensor.dim() == 2 and "embed" not in key and "lm_head" not in key:
                    tensor.normal_(0, 1.5 / tensor.shape[1] ** 0.5)  # attention that depends on what it sees
                elif key.endswith("bias"):
                    tensor.normal_(0, 0.3)
                elif tensor.dim() == 1:
                    tensor.uniform_(0.5, 1.5)
                else:
                    tensor.normal_(0, 0.2)
        model.to(dtype).save_pretrained(folder / name)
        for file in (tokenizers / tokenizer).iterdir():
            shutil.copyfile(file, folder / name / file.name)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--knapsaq", default="knapsaq")
    parser.add_argument("--root")
    parser.add_argument("--text")
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--tolerance", type=float, default=0.005)
    parser.add_argument("--make-models", type=pathlib.Path)
    parser.add_argument("--tokenizers", type=pathlib.Path)
    arguments = parser.parse_args()
    if arguments.make_models:
        make_models(arguments.make_models, arguments.tokenizers)
    return check(arguments) if arguments.models else False


if __name__ == "__main__":
    sys.exit(main())
