#!/usr/bin/env python3
"""Packs one made-up linear per width with the real libraries, for tests/export/packing_test.cpp.

    make_export_references.py compressed-tensors tests/data/export/packed_by_compressed_tensors.safetensors
    make_export_references.py gptqmodel tests/data/export/packed_by_gptqmodel.safetensors

Codes u[n, k] = (7 n + 13 k + n k) mod 2^b, zero points z[n, g] = (3 n + 5 g) mod 2^b, scales s[n, g] = 2^-(1 + (n + g) mod 4),
for N = 32 outputs, K = 96 inputs in groups of 32. Made with compressed-tensors 0.20.0 and GPTQModel 7.6.0.
"""
import sys

import torch
from safetensors.torch import save_file

ROWS, COLS, GROUP = 32, 96, 32


def made(bits):
    n = torch.arange(ROWS)[:, None]
    k = torch.arange(COLS)[None, :]
    g = torch.arange(COLS // GROUP)[None, :]
    codes = (7 * n + 13 * k + n * k) % 2**bits
    zeros = (3 * n + 5 * g) % 2**bits
    scales = 2.0 ** -(1 + (n + g) % 4)
    return codes, zeros, scales


def by_compressed_tensors(bits):
    from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32

    codes, zeros, _ = made(bits)
    middle = 2 ** (bits - 1)
    return {
        f"{bits}.weight_packed": pack_to_int32((codes - middle).to(torch.int8), bits),
        f"{bits}.weight_zero_point": pack_to_int32((zeros - middle).to(torch.int8), bits, packed_dim=0).contiguous(),
    }


def by_gptqmodel(bits):
    from gptqmodel.nn_modules.qlinear.torch import TorchLinear
    from gptqmodel.quantization import FORMAT, QuantizeConfig
    from gptqmodel.utils.model import convert_gptq_v2_to_v1_format_module

    codes, zeros, scales = made(bits)
    tensors = {}
    # v2 with its zero points; v1 with those of a symmetric linear, which is what Knapsaq writes.
    for version, those in (("v2", zeros), ("v1", torch.full_like(zeros, 2 ** (bits - 1)))):
        linear = torch.nn.Linear(COLS, ROWS, bias=False)
        linear.weight.data = scales.repeat_interleave(GROUP, 1) * (codes - those.repeat_interleave(GROUP, 1))
        packed = TorchLinear(bits=bits, group_size=GROUP, sym=False, desc_act=False, in_features=COLS, out_features=ROWS,
                             bias=False, register_buffers=True)
        group_of = torch.arange(COLS, dtype=torch.int32) // GROUP
        packed.pack_original(linear, scales, those.float(), group_of)
        if version == "v1":
            config = QuantizeConfig(bits=bits, group_size=GROUP, sym=True, desc_act=False, format=FORMAT.GPTQ)
            convert_gptq_v2_to_v1_format_module(packed, config)
        for name in ("qweight", "qzeros", "scales", "g_idx"):
            tensors[f"{bits}.{version}.{name}"] = getattr(packed, name).contiguous().clone()
    return tensors


def main():
    library, out = sys.argv[1:]
    pack = {"compressed-tensors": by_compressed_tensors, "gptqmodel": by_gptqmodel}[library]
    tensors = {}
    widths = (2, 3, 4, 8) if library == "gptqmodel" else (2, 3, 4, 5, 6, 8)
    for bits in widths:
        tensors.update(pack(bits))
    save_file(tensors, out, {"format": "pt"})


if __name__ == "__main__":
    main()
