#!/usr/bin/env python3
"""Writes tests/data/quant/ggml_llama.txt, the errors that llama.cpp's llama-quantize makes:

    python tools/make_ggml_llama_references.py tests/data WORK [CHROOT]

One line per case: kind of weights (made_weights.py), type, `imatrix` or `plain`, and the sum of w (x - q)^2 over the
matrix of 32 rows and 512 columns; w is 1 or, with the imatrix, the square of the `wide` number of the column. WORK
and CHROOT are as in compare_ggml.py."""

import pathlib
import sys

import gguf
import numpy as np
from compare_ggml import NEED_IMATRIX, TYPES, decode, finish, theirs_of
from made_weights import made_weights

ROWS, COLS = 32, 512
TENSORS = {"normal": "blk.0.attn_q.weight", "student": "blk.0.attn_k.weight", "constant": "blk.0.attn_output.weight"}


def write_model(path: pathlib.Path) -> None:
    """As much of a model as llama-quantize looks at."""
    out = gguf.GGUFWriter(path, "llama")
    out.add_block_count(1)
    out.add_context_length(COLS)
    out.add_embedding_length(COLS)
    out.add_feed_forward_length(COLS)
    out.add_head_count(1)
    out.add_layer_norm_rms_eps(1e-5)
    for kind, name in TENSORS.items():
        out.add_tensor(name, made_weights(kind, ROWS, COLS))
    finish(out)


def write_imatrix(path: pathlib.Path, importance: np.ndarray) -> None:
    out = gguf.GGUFWriter(path, "")
    out.add_string("general.type", "imatrix")
    out.add_array("imatrix.datasets", ["made"])
    out.add_uint32("imatrix.chunk_count", 1)
    out.add_uint32("imatrix.chunk_size", 512)
    for name in TENSORS.values():
        out.add_tensor(f"{name}.in_sum2", importance.reshape(1, -1))
        out.add_tensor(f"{name}.counts", np.ones((1, 1), dtype=np.float32))
    finish(out)


def main() -> None:
    work = pathlib.Path(sys.argv[2])
    root = pathlib.Path(sys.argv[3]) if len(sys.argv) > 3 else None
    work.mkdir(parents=True, exist_ok=True)
    importance = np.square(made_weights("wide", 1, COLS))[0]
    write_model(work / "f32.gguf")
    write_imatrix(work / "imatrix.gguf", importance)
    lines = []
    for kind in TYPES:
        for weighted in (True,) if kind in NEED_IMATRIX else (True, False):
            tensors = theirs_of(work, root, kind, weighted)
            for weights, name in TENSORS.items():
                x = made_weights(weights, ROWS, COLS).astype(np.float64)
                w = importance.astype(np.float64) if weighted else 1.0
                data, stored = tensors[name]
                assert stored == kind.upper()
                error = (w * np.square(x - decode(data, stored))).sum()
                lines.append(f"{weights} {kind} {'imatrix' if weighted else 'plain'} {error:.9g}")
    (pathlib.Path(sys.argv[1]) / "quant" / "ggml_llama.txt").write_text("\n".join(lines) + "\n")


main()
