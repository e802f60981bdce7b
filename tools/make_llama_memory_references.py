#!/usr/bin/env python3
"""What llama.cpp says that it reserves, for tests/export/llama_memory_test.cpp (docs/gguf.md):

    python tools/make_llama_memory_references.py $(tools/build_llama_cpp.sh) [OUT.json] [--only NAME ..]

Makes a GGUF file of every shape below (with holes for weights, so that it takes no disk), starts llama-completion on
it with several contexts and caches, and reads the sizes of its buffers from the log: keys and values ("kv"), results of
the graph ("compute"), logits ("output"), in MiB with the digits that it prints; or that it refuses the cache. Needs
gguf and numpy.
"""
import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import gguf
import numpy as np

# name: architecture, hidden, layers, heads, heads of keys and values, width of a head, ffn, vocabulary, tied head
SHAPES = {
    "wiki-llama-6m": ("llama", 256, 6, 8, 4, 32, 640, 4096, True),
    "smollm2-135m": ("llama", 576, 30, 9, 3, 64, 1536, 49152, True),
    "qwen2.5-0.5b": ("qwen2", 896, 24, 14, 2, 64, 4864, 151936, True),
    "qwen3-0.6b": ("qwen3", 1024, 28, 16, 8, 128, 3072, 151936, True),
    "llama-3.2-1b": ("llama", 2048, 16, 32, 8, 64, 8192, 128256, True),
    "llama-3.1-8b of 4 layers": ("llama", 4096, 4, 32, 8, 128, 14336, 128256, False),
    "llama-2-7b of 3 layers": ("llama", 4096, 3, 32, 32, 128, 11008, 32000, False),
    "queries wider than hidden": ("qwen3", 512, 2, 32, 4, 128, 512, 1000, True),
    "one layer, narrow ffn": ("llama", 64, 1, 2, 1, 80, 96, 300, True),
    "heads of 96": ("llama", 320, 3, 5, 5, 96, 1000, 777, False),
    "heads of 256": ("qwen2", 1024, 2, 4, 1, 256, 3000, 256000, True),
    "large vocabulary": ("llama", 128, 2, 4, 2, 64, 256, 256000, True),
}
CONTEXTS = (300, 512, 2048, 8192, 32768)
CACHES = {"fp16": "f16", "q8_0": "q8_0", "q4_0": "q4_0"}


def fail(text):
    sys.exit(f"make_llama_memory_references: {text}")


def write_holes(path, arch, hidden, layers, heads, kv_heads, head_dim, ffn, vocab, tied):
    """A GGUF file with a vocabulary of bytes and made-up words; all weights are 0."""
    writer = gguf.GGUFWriter(path, arch)
    writer.add_context_length(max(CONTEXTS))
    writer.add_embedding_length(hidden)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(ffn)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(vocab)
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    kinds = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL] + [gguf.TokenType.BYTE] * 256
    words = [f"w{number}" for number in range(vocab - len(tokens))]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens + words)
    writer.add_token_scores([0.0] * vocab)
    writer.add_token_types(kinds + [gguf.TokenType.NORMAL] * len(words))

    def tensor(name, *shape, kind=np.float16):
        writer.add_tensor_info(name, shape, np.dtype(kind), int(np.prod(shape)) * np.dtype(kind).itemsize)

    tensor("token_embd.weight", vocab, hidden)
    tensor("output_norm.weight", hidden, kind=np.float32)
    if not tied:
        tensor("output.weight", vocab, hidden)
    for layer in range(layers):
        block = f"blk.{layer}."
        for norm in ("attn_norm", "ffn_norm"):
            tensor(f"{block}{norm}.weight", hidden, kind=np.float32)
        for role, width in (("q", heads), ("k", kv_heads), ("v", kv_heads)):
            tensor(f"{block}attn_{role}.weight", width * head_dim, hidden)
            if arch == "qwen2":
                tensor(f"{block}attn_{role}.bias", width * head_dim, kind=np.float32)
            if arch == "qwen3" and role != "v":
                tensor(f"{block}attn_{role}_norm.weight", head_dim, kind=np.float32)
        tensor(f"{block}attn_output.weight", hidden, heads * head_dim)
        tensor(f"{block}ffn_gate.weight", ffn, hidden)
        tensor(f"{block}ffn_up.weight", ffn, hidden)
        tensor(f"{block}ffn_down.weight", hidden, ffn)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    align = gguf.GGUF_DEFAULT_ALIGNMENT
    data = sum((info.nbytes + align - 1) // align * align for info in writer.tensors[0].values())
    os.truncate(path, (os.path.getsize(path) + align - 1) // align * align + data)


PATTERNS = {"kv": r"KV buffer size = *([\d.]+) MiB", "output": r"output buffer size = *([\d.]+) MiB",
            "compute": r"compute buffer size = *([\d.]+) MiB"}


def say_sizes(command):
    """The sizes in MiB that a program prints, as far as it does, and all that it said; it is ended after the last."""
    found, said = {}, []
    with subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors="replace") as running:
        for line in running.stdout:
            said.append(line)
            found.update({key: float(match[1]) for key, pattern in PATTERNS.items()
                          if (match := re.search(pattern, line))})
            if len(found) == len(PATTERNS):
                break
        running.kill()
    return found, "".join(said)


def measure(program, path, context, cache):
    """Sizes in MiB that llama-completion prints; None where it refuses the cache."""
    command = [program, "-m", path, "-c", context, "-ctk", cache, "-ctv", cache, "-p", "a", "-n", 1, "-no-cnv", "-v",
               "--no-warmup", "-fit", "off", "-t", 1]
    for _ in range(8):  # what it has logged last is lost now and then when it ends
        found, said = say_sizes(command)
        if len(found) == len(PATTERNS):
            return found
    if cache != "f16":
        return None
    fail(f"{' '.join(map(str, command))} did not say all of {', '.join(PATTERNS)}:\n{said[-2000:]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", type=pathlib.Path, help="folder with llama-completion")
    parser.add_argument("output", type=pathlib.Path, nargs="?",
                        default=pathlib.Path(__file__).parent.parent / "tests/data/export/llama_memory.json")
    parser.add_argument("--only", nargs="+", default=list(SHAPES), metavar="NAME", choices=list(SHAPES))
    options = parser.parse_args()
    cases = []
    for name in options.only:
        arch, *sizes = SHAPES[name]
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "holes.gguf"
            write_holes(path, arch, *sizes)
            for context in CONTEXTS:
                for cache, kind in CACHES.items():
                    case = {"shape": name, "context": context, "cache": cache}
                    found = measure(options.programs / "llama-completion", path, context, kind)
                    cases.append({**case, **(found or {"refused": True})})
                    print(cases[-1], file=sys.stderr, flush=True)
    shapes = {name: dict(zip(("arch", "hidden", "layers", "heads", "kv_heads", "head_dim", "ffn", "vocab", "tied"),
                             SHAPES[name])) for name in options.only}
    lines = ",\n".join("  " + json.dumps(case) for case in cases)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text('{"shapes": ' + json.dumps(shapes) + ',\n "cases": [\n' + lines + "\n]}\n")


if __name__ == "__main__":
    main()
