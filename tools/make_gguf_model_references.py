#!/usr/bin/env python3
"""Tiny models as GGUF files by another writer, gguf-py (the Python package gguf): run it with numpy and gguf installed.

  make_gguf_model_references.py tests/data/checkpoint

Writes random Llamas as llama.cpp's convert_hf_to_gguf.py and llama-quantize lay them out: rows of q and k permuted by the converter's own
function, a tied embedding, a SentencePiece vocabulary of 300 tokens with byte tokens.
  gguf_model.gguf     a block (hidden 64, 4 heads of 16, 2 of keys and values, MLP 96): Q8_0 embedding, Q4_0, Q5_1, F16 and BF16 linears
  gguf_iq_model.gguf  two blocks (hidden 256, 2 heads of 16, 1 of keys and values, MLP 32) in the nine IQ types, of random bytes
Beside each, NAME.json has what Hugging Face's side of it holds: sums of rows of every matrix, taken before the permutation from what the own
dequantize() of gguf-py gives.
"""

import dataclasses
import json
import pathlib
import sys

import gguf
import numpy as np

T = gguf.GGMLQuantizationType
VOCAB = 300


def permute(weights: np.ndarray, heads: int) -> np.ndarray:
    """LlamaModel.permute of convert_hf_to_gguf.py."""
    return weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:]).swapaxes(1, 2).reshape(weights.shape)


# Of blocks of random codes and scales, d for weights of about 0.1.
IQ_FACTORS = {T.IQ1_S: 1.5e-2, T.IQ1_M: 1.5e-2, T.IQ2_XXS: 2.5e-3, T.IQ2_XS: 2.5e-3, T.IQ2_S: 2.5e-3, T.IQ3_XXS: 9e-4, T.IQ3_S: 8e-4,
              T.IQ4_NL: 1.7e-3, T.IQ4_XS: 1e-4}


def random_blocks(rng: np.random.Generator, rows: int, cols: int, kind: T) -> np.ndarray:
    """Any bytes are a block of an IQ type, if d is a number."""
    weights, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (rows * cols // weights, size), dtype=np.uint8)
    d = (IQ_FACTORS[kind] * rng.uniform(0.5, 1.5, blocks.shape[0])).astype(np.float16).view(np.uint16)
    if kind == T.IQ1_M:  # four bits of d on top of each of four words of scales
        words = blocks[:, 48:56].view(np.uint16)
        words[:] = (words & 0x0FFF) | (d[:, None] >> np.array([0, 4, 8, 12]) & 15) << 12
    else:
        blocks[:, 0:2] = d[:, None].view(np.uint8)
    return blocks.reshape(rows, -1)


@dataclasses.dataclass
class Model:
    path: pathlib.Path
    blocks: int
    hidden: int
    heads: int
    kv_heads: int
    ffn: int
    seed: int
    head: int = 16

    def __post_init__(self) -> None:
        writer = self.writer = gguf.GGUFWriter(str(self.path), "llama")
        writer.add_block_count(self.blocks)
        writer.add_context_length(128)
        writer.add_embedding_length(self.hidden)
        writer.add_feed_forward_length(self.ffn)
        writer.add_head_count(self.heads)
        writer.add_head_count_kv(self.kv_heads)
        writer.add_layer_norm_rms_eps(1e-5)
        writer.add_rope_freq_base(10000.0)
        if self.heads * self.head != self.hidden:
            writer.add_key_length(self.head)
            writer.add_value_length(self.head)
        writer.add_rope_dimension_count(self.head)
        writer.add_vocab_size(VOCAB)

        words = ["\u2581", "a", "b", "c", "\u2581a", "ab", "\u2581ab", "abc", "bc"]
        tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(256)] + words
        types = [2, 3, 3] + [6] * 256 + [1] * len(words)
        scores = [0.0] * 259 + [float(-i) for i in range(len(words))]
        while len(tokens) < VOCAB:
            tokens.append(f"[PAD{len(tokens)}]")
            types.append(5)
            scores.append(-1000.0)
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        writer.add_token_list(tokens)
        writer.add_token_scores(scores)
        writer.add_token_types(types)
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_unk_token_id(0)
        writer.add_chat_template("{{ messages }}")
        self.rng = np.random.default_rng(self.seed)
        self.sums = {}

    def matrix(self, name: str, module: str, rows: int, cols: int, kind: T, heads: int = 0) -> None:
        if kind in IQ_FACTORS:
            stored = random_blocks(self.rng, rows, cols, kind)
        else:
            stored = gguf.quantize((0.1 * self.rng.standard_normal((rows, cols))).astype(np.float32), kind)
        decoded = gguf.dequantize(stored, kind)
        self.sums[module] = [float(np.sum(row.astype(np.float64))) for row in decoded]
        if heads:
            stored = permute(stored, heads)
        self.writer.add_tensor(name + ".weight", stored, raw_dtype=kind)

    def block(self, number: int, q: T, k: T, v: T, o: T, gate: T, up: T, down: T) -> None:
        name, module = f"blk.{number}.", f"model.layers.{number}."
        rows, kv_rows = self.heads * self.head, self.kv_heads * self.head
        self.matrix(name + "attn_q", module + "self_attn.q_proj", rows, self.hidden, q, self.heads)
        self.matrix(name + "attn_k", module + "self_attn.k_proj", kv_rows, self.hidden, k, self.kv_heads)
        self.matrix(name + "attn_v", module + "self_attn.v_proj", kv_rows, self.hidden, v)
        self.matrix(name + "attn_output", module + "self_attn.o_proj", self.hidden, rows, o)
        self.matrix(name + "ffn_gate", module + "mlp.gate_proj", self.ffn, self.hidden, gate)
        self.matrix(name + "ffn_up", module + "mlp.up_proj", self.ffn, self.hidden, up)
        self.matrix(name + "ffn_down", module + "mlp.down_proj", self.hidden, self.ffn, down)

    def finish(self) -> None:
        norms = [f"blk.{i}.{name}" for i in range(self.blocks) for name in ("attn_norm", "ffn_norm")]
        for name in norms + ["output_norm"]:
            self.writer.add_tensor(name + ".weight", (1 + 0.1 * self.rng.standard_normal(self.hidden)).astype(np.float32))
        self.writer.write_header_to_file()
        self.writer.write_kv_data_to_file()
        self.writer.write_tensors_to_file()
        self.writer.close()
        self.path.with_suffix(".json").write_text(json.dumps(self.sums, indent=0) + "\n")


def main() -> None:
    folder = pathlib.Path(sys.argv[1])
    model = Model(folder / "gguf_model.gguf", blocks=1, hidden=64, heads=4, kv_heads=2, ffn=96, seed=5)
    model.matrix("token_embd", "model.embed_tokens", VOCAB, 64, T.Q8_0)
    model.block(0, T.Q4_0, T.F16, T.Q5_1, T.BF16, T.Q4_1, T.Q5_0, T.F32)
    model.finish()

    model = Model(folder / "gguf_iq_model.gguf", blocks=2, hidden=256, heads=2, kv_heads=1, ffn=32, seed=6)
    model.matrix("token_embd", "model.embed_tokens", VOCAB, 256, T.IQ2_XXS)
    # Rows of 32 weights hold no other IQ type than IQ4_NL.
    model.block(0, T.IQ3_XXS, T.IQ1_S, T.IQ3_S, T.IQ4_NL, T.IQ2_XS, T.IQ1_M, T.IQ4_NL)
    model.block(1, T.IQ2_S, T.IQ2_XXS, T.IQ4_XS, T.IQ4_NL, T.IQ3_S, T.IQ2_S, T.IQ4_NL)
    model.finish()


if __name__ == "__main__":
    main()
