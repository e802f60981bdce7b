#!/usr/bin/env python3
"""Makes tests/data/checkpoint/mlx: linears that MLX itself quantized, with what MLX dequantizes them to.

Needs mlx (on Linux: pip install "mlx[cpu]").
"""
import argparse
import json
import pathlib

import mlx.core as mx


def make(out):
    out.mkdir(parents=True, exist_ok=True)
    tensors, expected = {}, {}
    quantization = {"group_size": 64, "bits": 4, "mode": "affine"}
    mx.random.seed(1)
    for bits, group in ((2, 32), (3, 64), (4, 64), (4, 128), (8, 32), (5, 64), (6, 128)):
        name = f"model.layers.0.b{bits}g{group}"
        weight = (mx.random.normal((8, 256)) * 0.02).astype(mx.float16)
        codes, scales, biases = mx.quantize(weight, group_size=group, bits=bits)
        tensors |= {f"{name}.weight": codes, f"{name}.scales": scales, f"{name}.biases": biases}
        # In fp32, since MLX would round the result to the type of the scales.
        expected[name] = mx.dequantize(codes, scales.astype(mx.float32), biases.astype(mx.float32), group_size=group,
                                       bits=bits)
        if (bits, group) != (4, 64):  # that one is found by its scales and the defaults
            quantization[name] = {"group_size": group, "bits": bits, "mode": "affine"}
    tensors["model.layers.0.dense.weight"] = mx.ones((4, 4), dtype=mx.float16)
    quantization["model.layers.0.dense"] = False
    mx.save_safetensors(str(out / "model.safetensors"), tensors, metadata={"format": "mlx"})
    mx.save_safetensors(str(out / "expected.safetensors"), expected)
    config = {"model_type": "llama", "quantization": quantization, "quantization_config": quantization}
    (out / "config.json").write_text(json.dumps(config, indent=1))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path,
                        default=pathlib.Path(__file__).parent.parent / "tests/data/checkpoint/mlx")
    make(parser.parse_args().out)


if __name__ == "__main__":
    main()
