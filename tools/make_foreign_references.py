#!/usr/bin/env python3
"""Makes tests/data/checkpoint/foreign: small folders that other tools quantized, and in expected.safetensors what their
own readers make of each weight.

Numbers are random: codes, zeros and scales need not come from a quantizer to be read. The readers are
- Transformers for FP8 and MXFP4 (integrations/finegrained_fp8.py, integrations/mxfp4.py);
- compressed-tensors for its formats; --old-compressed-tensors is a folder with version 0.9.4 (pip install --no-deps
  --target), the last ones with a group for every input;
- GPTQModel and AutoAWQ from their source distributions (--gptqmodel, --autoawq: the unpacked folders), of which the
  functions that dequantize are taken as they stand: the packages themselves import what needs a GPU.
"""
import argparse
import ast
import json
import pathlib
import subprocess
import sys
import types

import torch
from safetensors.torch import save_file


def functions_of(path, names, scope):
    """Functions and methods of a source file by name, defined in `scope`."""
    tree = ast.parse(pathlib.Path(path).read_text())
    found = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name in names}
    nodes = []
    for name in names:
        found[name].decorator_list = []
        nodes.append(found[name])
    exec(compile(ast.Module(nodes, []), str(path), "exec"), scope)
    return [scope[name] for name in names]


def write(out, name, quantization, tensors, expected, dtype="bfloat16", **config):
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_type": "llama", "torch_dtype": dtype, **config}
    if quantization is not None:
        config["quantization_config"] = quantization
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    carried = torch.arange(8).to(torch.bfloat16)
    save_file({**{k: v.contiguous() for k, v in tensors.items()}, "model.norm.weight": carried},
              folder / "model.safetensors", metadata={"format": "pt"})
    save_file({k: v.contiguous() for k, v in expected.items()}, folder / "expected.safetensors")


def words(generator, *shape):
    return torch.randint(-2**31, 2**31, shape, generator=generator, dtype=torch.int64).to(torch.int32)


def uniform(generator, *shape):
    return torch.rand(shape, generator=generator) * 0.02 + 0.001


def fp8(generator, *shape):
    return torch.randn(shape, generator=generator).mul(30).to(torch.float8_e4m3fn)


def make_fp8(out, g):
    from transformers.integrations.finegrained_fp8 import Fp8Dequantize
    reader = Fp8Dequantize(None)
    bf16 = torch.bfloat16

    def case(name, quantization, weights, dtype=bf16):
        tensors, expected = {}, {}
        for base, (weight, ending, scale) in weights.items():
            tensors[base] = weight
            tensors[base + ending] = scale
            # Transformers' weights always have two dimensions of scales.
            grid = scale if scale.dim() >= 2 else scale.reshape(-1, 1) if scale.numel() > 1 else scale.reshape(1, 1)
            if grid.shape[:-2] != weight.shape[:-2]:
                grid = grid.expand(*weight.shape[:-2], *grid.shape[-2:])
            expected[base] = reader._dequantize_one(weight, grid, dtype)
        write(out, name, quantization, tensors, expected, str(dtype).split(".")[-1])

    q = "model.layers.0.self_attn.{}_proj.weight".format
    case("fp8_blocks", {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [16, 32]}, {
        q("q"): (fp8(g, 48, 64), "_scale_inv", uniform(g, 3, 2)),
        q("k"): (fp8(g, 16, 96), "_scale_inv", uniform(g, 1, 3).to(bf16)),
        q("v"): (fp8(g, 32, 64), "_scale_inv", torch.exp2(torch.randint(-9, 2, (2, 2), generator=g)).to(
            torch.float8_e8m0fnu)),
        q("o"): (fp8(g, 8, 16), "_scale_inv", torch.tensor(0.0123)),
        "model.layers.0.mlp.experts.gate_up_proj": (fp8(g, 3, 32, 64), "_scale_inv", uniform(g, 3, 2, 2)),
    })
    # Every byte that is a number, with a scale that makes subnormal halves.
    every = torch.arange(256, dtype=torch.uint8)[torch.arange(256) % 128 != 127].repeat(2).reshape(2, 254)
    case("fp8_rows", {"quant_method": "fbgemm_fp8", "activation_scale_ub": 1200.0}, {
        q("q"): (every.view(torch.float8_e4m3fn), "_scale", torch.tensor([[0.7], [1e-5]])),
        q("k"): (fp8(g, 8, 16), "_scale", uniform(g, 8)),
    }, torch.float16)
    case("fp8_tensors", {"quant_method": "modelopt", "quant_algo": "FP8"}, {
        q("q"): (fp8(g, 8, 16), "_scale", torch.tensor([0.03])),
    }, torch.float32)


def make_mxfp4(out, g):
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors
    tensors, expected = {}, {}
    for name, rows, groups in [("gate_up_proj", 6, 2), ("down_proj", 5, 3)]:
        base = "model.layers.0.mlp.experts." + name
        blocks = torch.randint(0, 256, (3, rows, groups, 16), generator=g, dtype=torch.uint8)
        scales = torch.randint(100, 130, (3, rows, groups), generator=g, dtype=torch.uint8)
        tensors[base + "_blocks"], tensors[base + "_scales"] = blocks, scales
        tensors[base + "_bias"] = torch.zeros(3, rows, dtype=torch.bfloat16)
        expected[base + ".weight"] = convert_moe_packed_tensors(blocks, scales).transpose(1, 2)
    write(out, "mxfp4", {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}, tensors, expected)


def compressed(module, format_, weights, tensors, expected, dtype=torch.bfloat16, **state):
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
    scheme = QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(**weights))
    reader = BaseCompressor.get_value_from_registry(format_)
    expected[module + ".weight"] = reader.decompress(dict(state), scheme)["weight"].to(dtype)
    tensors.update({f"{module}.{key}": value for key, value in state.items()})
    return {"targets": ["re:.*" + module.split(".")[-1]], "weights": weights}


def make_compressed_tensors(out, g):
    def describe(format_, *groups):
        return {"quant_method": "compressed-tensors", "format": format_, "quantization_status": "compressed",
                "config_groups": {f"group_{i}": group for i, group in enumerate(groups)}, "ignore": ["lm_head"]}

    def args(bits, strategy, type_="int", symmetric=True, **more):
        return {"num_bits": bits, "type": type_, "symmetric": symmetric, "strategy": strategy, **more}

    q = "model.layers.0.self_attn.{}_proj".format
    up = "model.layers.0.mlp.up_proj"
    half, bf16 = torch.float16, torch.bfloat16
    shape = torch.tensor
    pack = "pack-quantized"
    t, e = {}, {}
    groups = [
        compressed(q("q"), pack, args(4, "group", group_size=32), t, e, weight_packed=words(g, 24, 8),
                   weight_scale=uniform(g, 24, 2).to(bf16), weight_shape=shape([24, 64])),
        compressed(q("k"), pack, args(4, "group", symmetric=False, group_size=32), t, e, weight_packed=words(g, 20, 8),
                   weight_scale=uniform(g, 20, 2).to(half), weight_shape=shape([20, 64]),
                   weight_zero_point=words(g, 3, 2)),
        compressed(q("v"), pack, args(8, "channel", symmetric=False), t, e, weight_packed=words(g, 10, 17),
                   weight_scale=uniform(g, 10, 1), weight_shape=shape([10, 66]), weight_zero_point=words(g, 3, 1)),
        compressed(q("o"), pack, args(2, "channel"), t, e, weight_packed=words(g, 10, 4),
                   weight_scale=uniform(g, 10, 1).to(bf16), weight_shape=shape([10, 64])),
        compressed(up, pack, args(3, "group", symmetric=False, group_size=16), t, e, weight_packed=words(g, 33, 5),
                   weight_scale=uniform(g, 33, 3).to(bf16), weight_shape=shape([33, 48]),
                   weight_zero_point=words(g, 4, 3)),
    ]
    write(out, "compressed_pack", describe(pack, *groups), t, e)

    t, e = {}, {}
    groups = [
        compressed(q("q"), "int-quantized", args(8, "channel"), t, e,
                   weight=torch.randint(-128, 128, (12, 40), generator=g, dtype=torch.int8),
                   weight_scale=uniform(g, 12, 1).to(bf16)),
        compressed(q("k"), "int-quantized", args(8, "group", symmetric=False, group_size=16), t, e,
                   weight=torch.randint(-128, 128, (12, 32), generator=g, dtype=torch.int8),
                   weight_scale=uniform(g, 12, 2).to(bf16),
                   weight_zero_point=torch.randint(-128, 128, (12, 2), generator=g, dtype=torch.int8)),
        compressed(q("v"), "int-quantized", args(8, "tensor"), t, e,
                   weight=torch.randint(-128, 128, (12, 32), generator=g, dtype=torch.int8),
                   weight_scale=uniform(g, 1)),
    ]
    t[q("q") + ".input_scale"] = torch.tensor([0.5])
    write(out, "compressed_int", describe("int-quantized", *groups), t, e)

    t, e = {}, {}
    groups = [
        compressed(q("q"), "float-quantized", args(8, "channel", "float"), t, e, weight=fp8(g, 12, 40),
                   weight_scale=uniform(g, 12, 1).to(bf16)),
        compressed(q("k"), "float-quantized", args(8, "block", "float", block_structure=[16, 32]), t, e,
                   weight=fp8(g, 24, 48), weight_scale=uniform(g, 2, 2).to(bf16)),
        compressed(q("v"), "float-quantized", args(8, "tensor", "float"), t, e, weight=fp8(g, 12, 32),
                   weight_scale=uniform(g, 1)),
        compressed(q("o"), "mxfp8-quantized", args(8, "group", "float", group_size=32), t, e, weight=fp8(g, 6, 64),
                   weight_scale=torch.randint(115, 130, (6, 2), generator=g, dtype=torch.uint8)),
    ]
    t["model.layers.0.self_attn.k_scale"] = torch.tensor([0.5])
    write(out, "compressed_float", describe("float-quantized", *groups), t, e)

    t, e = {}, {}
    groups = [
        compressed(q("q"), "nvfp4-pack-quantized", args(4, "tensor_group", "float", group_size=16), t, e,
                   weight_packed=torch.randint(0, 256, (6, 24), generator=g, dtype=torch.uint8),
                   weight_scale=fp8(g, 6, 3).abs(), weight_global_scale=torch.tensor([337.5])),
        compressed(q("k"), "mxfp4-pack-quantized", args(4, "group", "float", group_size=32), t, e,
                   weight_packed=torch.randint(0, 256, (6, 32), generator=g, dtype=torch.uint8),
                   weight_scale=torch.randint(100, 130, (6, 2), generator=g, dtype=torch.uint8)),
    ]
    write(out, "compressed_fp4", describe("mixed-precision", *groups), t, e)


def make_ordered(out, old):
    """Run with the older compressed-tensors first on the path."""
    sys.path.insert(0, old)
    from compressed_tensors.compressors.quantized_compressors.pack_quantized import unpack_from_int32
    from compressed_tensors.quantization.lifecycle.forward import dequantize
    g = torch.Generator().manual_seed(5)
    module = "model.layers.0.self_attn.q_proj"
    packed, scale = words(g, 12, 8), uniform(g, 12, 4).to(torch.bfloat16)
    order = (torch.arange(64) // 16)[torch.randperm(64, generator=g)].to(torch.int32)
    codes = unpack_from_int32(packed, 4, torch.Size([12, 64]))
    weight = dequantize(x_q=codes, scale=scale, g_idx=order)
    weights = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 16,
               "actorder": "group"}
    write(out, "compressed_ordered",
          {"quant_method": "compressed-tensors", "format": "pack-quantized",
           "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}}},
          {module + ".weight_packed": packed, module + ".weight_scale": scale, module + ".weight_g_idx": order,
           module + ".weight_shape": torch.tensor([12, 64])}, {module + ".weight": weight})


def make_gptq(out, g, source):
    scope = {"torch": torch, "t": torch}
    package = pathlib.Path(source) / "gptqmodel"
    scope.update(PLANAR_BITS=(5, 6, 7))
    functions_of(package / "utils/model_dequant.py",
                 ["_require_int32_words_for_3bit", "_unpack_cols_3bit", "_pack_cols_3bit", "unpack_cols", "pack_cols", "_shift_gptq_qzeros",
                  "_correct_gptq_v1_qzeros"], scope)
    scope.update(BaseQuantLinear=torch.nn.Module, nn=torch.nn,
                 log=types.SimpleNamespace(info=types.SimpleNamespace(once=print)))
    to_v2, = functions_of(package / "utils/model.py", ["convert_gptq_v1_to_v2_format_module"], scope)
    qlinear = package / "nn_modules/qlinear/__init__.py"
    functions_of(qlinear, ["_torch_right_shift", "_torch_left_shift"], scope)
    buffers, dequantize, codes = functions_of(
        qlinear, ["_init_wf_unsqueeze_buffers", "dequantize_weight", "_dequantize_from_codes"], scope)

    class Linear(torch.nn.Module):
        planar, enable_wf_unsqueeze, pack_dtype_bits = False, True, 32
        _init_wf_unsqueeze_buffers, dequantize_weight, _dequantize_from_codes = buffers, dequantize, codes

        def _wf_device(self):
            return "cpu"

        def qzero_format(self, format):
            pass

        def __init__(self, bits, qweight, qzeros, scales, g_idx):
            super().__init__()
            self.bits, self.maxq, self.pack_factor = bits, 2**bits - 1, 32 // bits
            self.dequant_dtype = torch.int16 if bits == 8 else torch.int8
            self.in_features = g_idx.numel()
            for key, value in {"qweight": qweight, "qzeros": qzeros, "scales": scales, "g_idx": g_idx}.items():
                self.register_buffer(key, value.clone())

    def case(name, quantization, linears, v1, keep_order=True):
        tensors, expected = {}, {}
        for module, (bits, rows, columns, group, dtype, ordered) in linears.items():
            groups = columns // group
            order = torch.arange(columns) // group
            order = (order[torch.randperm(columns, generator=g)] if ordered else order).to(torch.int32)
            parts = {"qweight": words(g, columns * bits // 32, rows), "qzeros": words(g, groups, rows * bits // 32),
                     "scales": uniform(g, groups, rows).to(dtype), "g_idx": order}
            linear = Linear(bits, *parts.values())
            if v1:
                to_v2(linear, bits, torch.int32)
            expected[module + ".weight"] = linear.dequantize_weight().T
            if not keep_order:
                del parts["g_idx"]
            tensors.update({f"{module}.{key}": value for key, value in parts.items()})
        write(out, name, quantization, tensors, expected, "float16")

    q = "model.layers.0.self_attn.{}_proj".format
    half, bf16 = torch.float16, torch.bfloat16
    base = {"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": False, "sym": False}
    widths = {"+:.*k_proj": {"bits": 8}, "+:.*v_proj": {"bits": 2}, "+:.*o_proj": {"bits": 3}, "-:.*mlp.*": {}}
    linears = {q("q"): (4, 40, 64, 32, half, True), q("k"): (8, 24, 64, 32, half, False),
               q("v"): (2, 48, 64, 32, bf16, True), q("o"): (3, 32, 96, 32, half, True)}
    case("gptq_v1", {**base, "desc_act": True, "dynamic": widths, "checkpoint_format": "gptq"}, linears, True)
    case("gptq_v2", {**base, "dynamic": widths, "checkpoint_format": "gptq_v2"}, linears, False)
    case("gptq_rows", {**base, "group_size": -1}, {q("q"): (4, 40, 64, 64, half, False)}, True, False)
    case("auto_round", {"quant_method": "auto-round", "packing_format": "auto_round:auto_gptq", "bits": 4,
                        "group_size": 32, "sym": True}, {q("q"): (4, 40, 64, 32, half, False)}, True, False)


def make_awq(out, g, source):
    scope = {"torch": torch, "AWQ_REVERSE_ORDER": [0, 4, 1, 5, 2, 6, 3, 7]}
    *_, dequantize = functions_of(pathlib.Path(source) / "awq/utils/packing_utils.py",
                                  ["unpack_awq", "reverse_awq_order", "dequantize_gemm"], scope)
    tensors, expected = {}, {}
    for module, rows, columns in [("model.layers.0.self_attn.q_proj", 40, 64), ("model.layers.0.mlp.up_proj", 16, 96)]:
        parts = {"qweight": words(g, columns, rows // 8), "qzeros": words(g, columns // 32, rows // 8),
                 "scales": uniform(g, columns // 32, rows).half()}
        expected[module + ".weight"] = dequantize(parts["qweight"], parts["qzeros"], parts["scales"], 4, 32).T
        tensors.update({f"{module}.{key}": value for key, value in parts.items()})
    write(out, "awq", {"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm", "zero_point": True},
          tensors, expected, "float16")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gptqmodel", required=True)
    parser.add_argument("--autoawq", required=True)
    parser.add_argument("--old-compressed-tensors", required=True)
    parser.add_argument("--only-ordered", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    out = pathlib.Path(__file__).parent.parent / "tests/data/checkpoint/foreign"
    if arguments.only_ordered:
        make_ordered(out, arguments.old_compressed_tensors)
        return
    generator = torch.Generator().manual_seed(16)
    make_fp8(out, generator)
    make_mxfp4(out, generator)
    make_compressed_tensors(out, generator)
    make_gptq(out, torch.Generator().manual_seed(17), arguments.gptqmodel)
    make_awq(out, torch.Generator().manual_seed(18), arguments.autoawq)
    # A process of its own: both versions have the same name.
    subprocess.run([sys.executable, *sys.argv, "--only-ordered"], check=True)


if __name__ == "__main__":
    main()
