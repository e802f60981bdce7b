#!/usr/bin/env python3
"""Reference values for GGUF files, made by gguf-py (the Python package gguf): run it with numpy and gguf installed.

  make_gguf_references.py tests/data

Writes
  checkpoint/reference.gguf  every type of metadata value and tensors of every element type, so that our reader and, byte for byte, our
                             writer can be compared with gguf-py's;
  calib/imatrix.gguf, .dat   importance matrices of a model of one block (hidden 4, MLP 6), in today's and in llama.cpp's legacy format;
  export/gguf_vocabularies.json  tokens, types and scores or merges that a GGUF file has to hold for the small tokenizers of text/small, read
                             by sentencepiece and from tokenizer.json as llama.cpp's convert_hf_to_gguf.py does.
Also needs sentencepiece.
"""

import json
import pathlib
import struct
import sys

import gguf
import numpy as np


def reference_file(path: pathlib.Path) -> None:
    writer = gguf.GGUFWriter(str(path), "llama")
    T = gguf.GGUFValueType
    writer.add_uint8("t.u8", 200)
    writer.add_int8("t.i8", -100)
    writer.add_uint16("t.u16", 60000)
    writer.add_int16("t.i16", -30000)
    writer.add_uint32("t.u32", 4000000000)
    writer.add_int32("t.i32", -2000000000)
    writer.add_float32("t.f32", 0.1)
    writer.add_bool("t.yes", True)
    writer.add_bool("t.no", False)
    writer.add_string("t.text", "Knapsack + q: é▁")
    writer.add_key_value("t.empty", "", T.STRING)  # add_string() leaves empty ones out
    writer.add_uint64("t.u64", 2**63 + 5)
    writer.add_int64("t.i64", -(2**62))
    writer.add_float64("t.f64", 0.1)
    for name, values, kind in [
        ("u8", [1, 255], T.UINT8), ("i8", [-1, 127], T.INT8), ("u16", [1, 65535], T.UINT16), ("i16", [-1, 2], T.INT16),
        ("u32", [1, 2**32 - 1], T.UINT32), ("i32", [-1, 2], T.INT32), ("f32", [0.5, -0.25], T.FLOAT32), ("bool", [True, False, True], T.BOOL),
        ("text", ["", "ab", "▁c"], T.STRING), ("u64", [1, 2**64 - 1], T.UINT64), ("i64", [-1], T.INT64), ("f64", [0.1], T.FLOAT64),
    ]:
        writer.add_key_value(f"t.list.{name}", values, T.ARRAY, kind)
    rng = np.random.default_rng(1)
    dense = rng.standard_normal((3, 5)).astype(np.float32)
    writer.add_tensor("dense.f32", dense)
    writer.add_tensor("dense.f16", dense.astype(np.float16))
    writer.add_tensor("dense.bf16", gguf.quantize(dense, gguf.GGMLQuantizationType.BF16), raw_dtype=gguf.GGMLQuantizationType.BF16)
    writer.add_tensor("vector", dense[0])
    writer.add_tensor("deep", rng.standard_normal((2, 3, 2, 4)).astype(np.float32))
    blocks = rng.standard_normal((2, 64)).astype(np.float32)
    for kind in ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"):
        number = gguf.GGMLQuantizationType[kind]
        writer.add_tensor(f"blocks.{kind.lower()}", gguf.quantize(blocks, number), raw_dtype=number)
    # Any bytes: no values are looked at.
    for kind in ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_XS", "IQ4_NL"):
        number = gguf.GGMLQuantizationType[kind]
        weights, size = gguf.GGML_QUANT_SIZES[number]
        count = max(1, 64 // weights)
        writer.add_tensor(f"blocks.{kind.lower()}", rng.integers(0, 256, (2, count * size), dtype=np.uint8), raw_dtype=number)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


IMATRIX_WIDTHS = {"attn_q": 4, "attn_k": 4, "attn_v": 4, "attn_output": 4, "ffn_gate": 4, "ffn_up": 4, "ffn_down": 6}


def mean_square(number: int, channel: int) -> float:
    """What the test expects: exact in binary, so that sums and quotients are too."""
    return (number + 1) * 0.25 + channel * 0.5


def imatrix_gguf(path: pathlib.Path) -> None:
    # Keys and tensors as llama-imatrix 0.7.0 writes them.
    writer = gguf.GGUFWriter(str(path), "")
    writer.kv_data[0].clear()
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", ["train.txt"])
    writer.add_uint32("imatrix.chunk_count", 2)
    writer.add_uint32("imatrix.chunk_size", 512)
    tokens = 1024
    for number, (name, width) in enumerate(IMATRIX_WIDTHS.items()):
        squares = np.array([[mean_square(number, k) * tokens for k in range(width)]], dtype=np.float32)
        writer.add_tensor(f"blk.0.{name}.weight.in_sum2", squares)
        writer.add_tensor(f"blk.0.{name}.weight.counts", np.array([[tokens]], dtype=np.float32))
        writer.add_tensor(f"blk.0.{name}.weight.in_sum", np.zeros((1, width), dtype=np.float32))
    writer.add_tensor("output.weight.in_sum2", np.ones((1, 4), dtype=np.float32))
    writer.add_tensor("output.weight.counts", np.zeros((1, 1), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def imatrix_dat(path: pathlib.Path) -> None:
    calls = 8
    out = struct.pack("<i", len(IMATRIX_WIDTHS))
    for number, (name, width) in enumerate(IMATRIX_WIDTHS.items()):
        text = f"blk.0.{name}.weight".encode()
        values = [mean_square(number, k) * calls for k in range(width)]
        out += struct.pack("<i", len(text)) + text + struct.pack("<ii", calls, width) + struct.pack(f"<{width}f", *values)
    out += struct.pack("<i", calls) + struct.pack("<i", 9) + b"train.txt"
    path.write_bytes(out)


def sentencepiece_vocabulary(folder: pathlib.Path) -> dict:
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto.FromString((folder / "tokenizer.model").read_bytes())
    return {"model": "llama", "pre": "default", "tokens": [piece.piece for piece in model.pieces],
            "scores": [piece.score for piece in model.pieces], "types": [piece.type for piece in model.pieces]}


def byte_level_vocabulary(folder: pathlib.Path, pre: str) -> dict:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    names = {number: token for token, number in tokenizer["model"]["vocab"].items()}
    added = {token["id"]: token for token in tokenizer["added_tokens"]}
    names.update({number: token["content"] for number, token in added.items()})
    ids = range(max(names) + 1)
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer["model"]["merges"]]
    return {"model": "gpt2", "pre": pre, "tokens": [names.get(i, f"[PAD{i}]") for i in ids], "merges": merges,
            "types": [(3 if added[i]["special"] else 4) if i in added else 1 if i in names else 5 for i in ids]}


def vocabularies(data: pathlib.Path) -> dict:
    small = data / "text" / "small"
    found = {"sentencepiece": sentencepiece_vocabulary(small / "sentencepiece")}
    for name, pre in [("gpt2", "gpt-2"), ("llama3", "llama-bpe"), ("qwen2", "qwen2")]:
        found[name] = byte_level_vocabulary(small / name, pre)
    return found


if __name__ == "__main__":
    data = pathlib.Path(sys.argv[1])
    reference_file(data / "checkpoint" / "reference.gguf")
    (data / "calib").mkdir(exist_ok=True)
    imatrix_gguf(data / "calib" / "imatrix.gguf")
    imatrix_dat(data / "calib" / "imatrix.dat")
    (data / "export").mkdir(exist_ok=True)
    (data / "export" / "gguf_vocabularies.json").write_text(json.dumps(vocabularies(data), ensure_ascii=False, separators=(",", ":")) + "\n")
