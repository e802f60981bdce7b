"""Reads Knapsaq's quantized layout (docs/quantized-layout.md) with numpy alone, for the tools that check exports."""
import json
import pathlib

import numpy as np
from safetensors import safe_open


def unpack(words, bits, cols):
    """[N, words] of uint32 -> [N, cols] codes of the dense little-endian bitstream."""
    stream = np.unpackbits(np.ascontiguousarray(words).view(np.uint8), axis=1, bitorder="little")
    stream = stream[:, : cols * bits].reshape(words.shape[0], cols, bits)
    return (stream * (1 << np.arange(bits))).sum(axis=2)


def tensors(folder):
    folder = pathlib.Path(folder)
    found = {}
    for path in sorted(folder.glob("model*.safetensors")):
        with safe_open(path, "pt") as file:  # numpy has no bfloat16
            for name in file.keys():
                value = file.get_tensor(name)
                found[name] = (value.float() if value.dtype.is_floating_point else value).numpy()
    return found


def dense_weights(folder):
    """Every tensor of the model as float32, the quantized linears multiplied out: W = scale * code + bias."""
    folder = pathlib.Path(folder)
    entries = json.loads((folder / "config.json").read_text())["quantization"]
    stored = tensors(folder)
    dense = {}
    for name, value in stored.items():
        module, _, leaf = name.rpartition(".")
        if isinstance(entries.get(module), dict) and leaf in ("weight", "scales", "biases"):
            if leaf != "weight":
                continue
            entry = entries[module]
            bits, group = entry["bits"], entry["group_size"]
            cols = entry.get("in_features", value.shape[1] * 32 // bits)
            codes = unpack(value, bits, cols).astype(np.float32)
            scales = np.repeat(stored[module + ".scales"].astype(np.float32), group, axis=1)[:, :cols]
            biases = np.repeat(stored[module + ".biases"].astype(np.float32), group, axis=1)[:, :cols]
            dense[name] = scales * codes + biases
        else:
            dense[name] = value.astype(np.float32)
    return dense
