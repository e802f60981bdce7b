#!/usr/bin/env python3
"""A tiny model as a GGUF file by another writer, gguf-py (the Python package gguf): run it with numpy and gguf installed.

  make_gguf_model_references.py tests/data/checkpoint

Writes gguf_model.gguf, a random Llama of one block (hidden 64, 4 heads of 16, 2 of keys and values, MLP 96, 300 tokens) as llama.cpp's
convert_hf_to_gguf.py and llama-quantize lay one out: rows of q and k permuted by the converter's own function, Q8_0 embedding, Q4_0, Q5_1,
F16 and BF16 linears, a SentencePiece vocabulary with byte tokens; and gguf_model.json with what Hugging Face's side of it holds: sums of
rows of every matrix, taken before the permutation from what the own dequantize() of gguf-py gives.
"""

import json
import pathlib
import sys

import gguf
import numpy as np

T = gguf.GGMLQuantizationType
HIDDEN, HEADS, KV_HEADS, HEAD, FFN, VOCAB = 64, 4, 2, 16, 96, 300


def permute(weights: np.ndarray, heads: int) -> np.ndarray:
    """LlamaModel.permute of convert_hf_to_gguf.py."""
    return weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:]).swapaxes(1, 2).reshape(weights.shape)


def main() -> None:
    folder = pathlib.Path(sys.argv[1])
    writer = gguf.GGUFWriter(str(folder / "gguf_model.gguf"), "llama")
    writer.add_block_count(1)
    writer.add_context_length(128)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(HEAD)
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

    rng = np.random.default_rng(5)
    sums = {}

    def matrix(name: str, module: str, rows: int, cols: int, kind: T, heads: int = 0) -> None:
        weights = (0.1 * rng.standard_normal((rows, cols))).astype(np.float32)
        stored = gguf.quantize(weights, kind)
        decoded = gguf.dequantize(stored, kind)
        sums[module] = [float(np.sum(row.astype(np.float64))) for row in decoded]
        if heads:
            stored = permute(stored, heads)
        writer.add_tensor(name + ".weight", stored, raw_dtype=kind)

    matrix("token_embd", "model.embed_tokens", VOCAB, HIDDEN, T.Q8_0)
    layer = "model.layers.0."
    matrix("blk.0.attn_q", layer + "self_attn.q_proj", HIDDEN, HIDDEN, T.Q4_0, HEADS)
    matrix("blk.0.attn_k", layer + "self_attn.k_proj", KV_HEADS * HEAD, HIDDEN, T.F16, KV_HEADS)
    matrix("blk.0.attn_v", layer + "self_attn.v_proj", KV_HEADS * HEAD, HIDDEN, T.Q5_1)
    matrix("blk.0.attn_output", layer + "self_attn.o_proj", HIDDEN, HIDDEN, T.BF16)
    matrix("blk.0.ffn_gate", layer + "mlp.gate_proj", FFN, HIDDEN, T.Q4_1)
    matrix("blk.0.ffn_up", layer + "mlp.up_proj", FFN, HIDDEN, T.Q5_0)
    matrix("blk.0.ffn_down", layer + "mlp.down_proj", HIDDEN, FFN, T.F32)
    for name in ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"):
        writer.add_tensor(name + ".weight", (1 + 0.1 * rng.standard_normal(HIDDEN)).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    (folder / "gguf_model.json").write_text(json.dumps(sums, indent=0) + "\n")


if __name__ == "__main__":
    main()
