#!/usr/bin/env python3
"""Makes tests/data/checkpoint with the real libraries (safetensors and torch).

Values follow one rule, so that the tests can compute what to expect: element i of a tensor is (i % 37) / 4 - 4,
which every floating type holds exactly; integers are i % 37.
"""
import argparse
import json
import pathlib
import zipfile

import torch
from safetensors.torch import save_file


def values(shape, dtype=torch.float32):
    count = 1
    for size in shape:
        count *= size
    steps = torch.arange(count) % 37
    if dtype == torch.bool:
        steps = steps % 2 == 1
    elif dtype.is_floating_point:
        steps = steps / 4 - 4
    return steps.to(dtype).reshape(shape)


def make_safetensors(out):
    tensors = {
        "bool": values((3,), torch.bool),
        "u8": values((5,), torch.uint8),
        "i8": values((5,), torch.int8),
        "u16": values((3, 2), torch.uint16),
        "i16": values((3, 2), torch.int16),
        "u32": values((4,), torch.uint32),
        "i32": values((4,), torch.int32),
        "u64": values((2,), torch.uint64),
        "i64": values((2,), torch.int64),
        "f16": values((2, 3, 5), torch.float16),
        "bf16": values((7, 3), torch.bfloat16),
        "f32": values((4, 9)),
        "f64": values((3,), torch.float64),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros((0, 4)),
        "naïve \"name\"\\": values((2,)),
    }
    save_file(tensors, out / "all_types.safetensors", metadata={"format": "pt"})


def make_torch(out):
    shared = values((6, 8))
    base = values((64,))
    state = torch.nn.Linear(8, 6).state_dict()  # an OrderedDict with _metadata, as models have
    state["weight"] = shared
    state["bias"] = values((6,), torch.float16)
    state["half"] = values((3, 5), torch.float16)
    state["brain"] = values((3, 5), torch.bfloat16)
    state["long"] = values((5,), torch.int64)
    state["bool"] = values((5,), torch.bool)
    state["tied"] = shared
    state["slice"] = base[10:30].reshape(4, 5)
    state["transposed"] = values((4, 6)).t()
    state["strided"] = values((10, 6))[::2, 1:4]
    state["column"] = values((5, 3))[:, 1:2]
    state["scalar"] = torch.tensor(2.5)
    state["empty"] = torch.zeros((0, 3))
    state["parameter"] = torch.nn.Parameter(values((2, 2)))
    torch.save(state, out / "state.bin")
    torch.save(dict(state), out / "plain_dict.bin")
    torch.save({"a": values((3,))}, out / "legacy.bin", _use_new_zipfile_serialization=False)
    torch.save({"a": torch.ones(1).expand(1000, 1000)}, out / "expanded.bin")
    torch.save({"a": values((3,)), "step": 7}, out / "not_a_tensor.bin")
    torch.save(torch.nn.Linear(2, 2), out / "module.bin")
    torch.save({"a": values((3,))}, out / "protocol4.bin", pickle_protocol=4)

    class Harmful:
        def __reduce__(self):
            import os
            return os.system, ("touch /tmp/knapsaq-was-fooled",)

    torch.save({"a": Harmful()}, out / "harmful.bin")
    with zipfile.ZipFile(out / "plain_dict.bin") as source, zipfile.ZipFile(
            out / "compressed.bin", "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))


def make_shards(out):
    tensors = {f"model.layers.{i}.weight": values((4, 4), torch.float16) + i for i in range(3)}
    for folder, suffix, save in (("sharded_safetensors", "safetensors", lambda t, p: save_file(t, p, {"format": "pt"})),
                                 ("sharded_torch", "bin", torch.save)):
        (out / folder).mkdir(exist_ok=True)
        stem = "model" if suffix == "safetensors" else "pytorch_model"
        weight_map = {}
        for number, names in enumerate((list(tensors)[:2], list(tensors)[2:]), 1):
            file = f"{stem}-{number:05}-of-00002.{suffix}"
            save({name: tensors[name] for name in names}, out / folder / file)
            weight_map.update({name: file for name in names})
        index = {"metadata": {"total_size": 96}, "weight_map": weight_map}
        (out / folder / f"{stem}.{'safetensors' if suffix == 'safetensors' else 'bin'}.index.json").write_text(
            json.dumps(index))
        (out / folder / "config.json").write_text('{"model_type": "llama"}')


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path,
                        default=pathlib.Path(__file__).parent.parent / "tests/data/checkpoint")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    make_safetensors(arguments.out)
    make_torch(arguments.out)
    make_shards(arguments.out)


if __name__ == "__main__":
    main()
