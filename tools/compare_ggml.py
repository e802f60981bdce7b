#!/usr/bin/env python3
"""Compares Knapsaq's GGML codes with those of llama.cpp's llama-quantize on a Llama model, type by type:

    python tools/compare_ggml.py MODEL WORK --text FILE --ours bench_ggml [--knapsaq knapsaq --eval-text FILE]
        [--root CHROOT]

Writes into WORK an F32 GGUF of MODEL, an imatrix with the mean squares of every linear's inputs over the text, and
what both encoders make of them; decodes both with gguf-py (Q2_0, which it cannot decode, by a decoder of our own) and
prints the sums over the linears of the importance-weighted squared errors (with importance) and of the plain ones
(without). With --knapsaq also the perplexities of the decoded models. llama-quantize is looked for in PATH, or inside
CHROOT, which must then contain WORK."""

import argparse
import json
import pathlib
import shutil
import subprocess

import gguf
import numpy as np

TYPES = ["q2_0", "q2_k", "q3_k", "q4_0", "q4_1", "q4_k", "q5_0", "q5_1", "q5_k", "q6_k", "q8_0"]
TYPES += ["iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq3_xxs", "iq3_s", "iq4_nl", "iq4_xs"]
# llama-quantize makes these with an imatrix alone.
NEED_IMATRIX = {"iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq3_xxs"}
# llama-quantize's names of files with that type throughout.
FILE_TYPES = {"q2_k": "Q2_K", "q3_k": "Q3_K_M", "q4_k": "Q4_K_M", "q5_k": "Q5_K_M", "iq2_s": "IQ2_M"}
LINEARS = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}  # fmt: skip


def linears_of(layers: int):
    """Pairs of the names in the checkpoint and in the GGUF."""
    for layer in range(layers):
        for ours, theirs in LINEARS.items():
            yield f"model.layers.{layer}.{ours}", f"blk.{layer}.{theirs}"


def mean_squares(folder: str, text: str, windows: int, window: int) -> dict[str, np.ndarray]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt").input_ids[0]
    sums: dict[str, torch.Tensor] = {}

    def watch(name):
        def hook(_module, inputs):
            squares = inputs[0].double().square().reshape(-1, inputs[0].shape[-1]).sum(0)
            sums[name] = sums.get(name, 0) + squares

        return hook

    for name, _ in linears_of(model.config.num_hidden_layers):
        model.get_submodule(name).register_forward_pre_hook(watch(name))
    count = min(windows, len(ids) // window)
    with torch.no_grad():
        model(ids[: count * window].reshape(count, window))
    return {name: (total / (count * window)).float().numpy() for name, total in sums.items()}


def write_gguf(folder: str, path: pathlib.Path) -> None:
    """Rows of q and k stay in the checkpoint's order: a block never crosses a row, so the codes are the same."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    config, tensors = model.config, model.state_dict()
    out = gguf.GGUFWriter(path, "llama")
    out.add_block_count(config.num_hidden_layers)
    out.add_context_length(config.max_position_embeddings)
    out.add_embedding_length(config.hidden_size)
    out.add_feed_forward_length(config.intermediate_size)
    out.add_head_count(config.num_attention_heads)
    out.add_head_count_kv(config.num_key_value_heads)
    out.add_layer_norm_rms_eps(config.rms_norm_eps)
    out.add_tokenizer_model("gpt2")
    out.add_token_list([f"t{i}" for i in range(config.vocab_size)])
    out.add_token_merges(["t t"])
    out.add_tensor("token_embd.weight", tensors["model.embed_tokens.weight"].numpy())
    out.add_tensor("output_norm.weight", tensors["model.norm.weight"].numpy())
    for layer in range(config.num_hidden_layers):
        for ours, theirs in (("input_layernorm", "attn_norm"), ("post_attention_layernorm", "ffn_norm")):
            out.add_tensor(f"blk.{layer}.{theirs}.weight", tensors[f"model.layers.{layer}.{ours}.weight"].numpy())
    for ours, theirs in linears_of(config.num_hidden_layers):
        out.add_tensor(f"{theirs}.weight", tensors[f"{ours}.weight"].numpy())
    finish(out)


def write_imatrix(importance: dict[str, np.ndarray], layers: int, path: pathlib.Path) -> None:
    out = gguf.GGUFWriter(path, "")
    out.add_string("general.type", "imatrix")
    out.add_array("imatrix.datasets", ["text"])
    out.add_uint32("imatrix.chunk_count", 1)
    out.add_uint32("imatrix.chunk_size", 512)
    for ours, theirs in linears_of(layers):
        out.add_tensor(f"{theirs}.weight.in_sum2", importance[ours].astype(np.float32).reshape(1, -1))
        out.add_tensor(f"{theirs}.weight.counts", np.ones((1, 1), dtype=np.float32))
    finish(out)


def finish(out: gguf.GGUFWriter) -> None:
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def decode(data: np.ndarray, kind: str) -> np.ndarray:
    if kind == "Q2_0":
        blocks = data.reshape(-1, 18)
        d = blocks[:, :2].copy().view("<f2").astype(np.float32)
        codes = (blocks[:, 2:, None] >> np.array([0, 2, 4, 6], dtype=np.uint8)) & 3
        return (d * (codes.reshape(len(blocks), 64).astype(np.float32) - 1)).reshape(len(data), -1)
    return gguf.dequantize(data, gguf.GGMLQuantizationType[kind])


def tensors_of(path: pathlib.Path) -> dict[str, tuple[np.ndarray, str]]:
    """The tensors of a GGUF by a reader that knows Q2_0, which gguf-py's may not."""
    data = path.read_bytes()
    at = 8

    def number(kind: str):
        nonlocal at
        value = np.frombuffer(data, kind, 1, at)[0]
        at += np.dtype(kind).itemsize
        return value.item()

    def string() -> str:
        nonlocal at
        length = number("<u8")
        at += length
        return data[at - length : at].decode()

    scalars = {0: "u1", 1: "i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "u1", 10: "<u8", 11: "<i8", 12: "<f8"}

    def value(kind: int):
        if kind == 8:
            return string()
        if kind == 9:
            element, count = number("<u4"), number("<u8")
            return [value(element) for _ in range(count)]
        return number(scalars[kind])

    tensors, pairs = number("<u8"), number("<u8")
    for _ in range(pairs):
        string()
        value(number("<u4"))
    names = {42: "Q2_0"} | {int(kind): kind.name for kind in gguf.GGMLQuantizationType}
    found = []
    for _ in range(tensors):
        name = string()
        dims = [number("<u8") for _ in range(number("<u4"))]
        found.append((name, dims, names[number("<u4")], number("<u8")))
    at = (at + 31) // 32 * 32
    out = {}
    for name, dims, kind, offset in found:
        if len(dims) < 2:
            continue
        block, size = (64, 18) if kind == "Q2_0" else gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
        shape = (dims[1], dims[0] // block * size)
        out[name] = (np.frombuffer(data, np.uint8, shape[0] * shape[1], at + offset).reshape(shape), kind)
    return out


def theirs_of(work: pathlib.Path, root: pathlib.Path | None, kind: str, importance: bool):
    """The tensors that llama-quantize makes of WORK/f32.gguf (made once), with or without WORK/imatrix.gguf."""
    out = work / f"llama-{kind}-{'imatrix' if importance else 'plain'}.gguf"
    if not out.exists():
        inside = ["chroot", str(root)] if root else []
        place = pathlib.Path("/") / work.resolve().relative_to(root.resolve()) if root else work
        command = [*inside, "llama-quantize", "--pure"]
        if importance:
            command += ["--imatrix", str(place / "imatrix.gguf")]
        command += [str(place / "f32.gguf"), str(place / out.name), FILE_TYPES.get(kind, kind.upper()), "2"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return tensors_of(out)


def perplexity(args, weights: dict[str, np.ndarray], name: str) -> float:
    from safetensors.numpy import load_file, save_file

    folder = args.work / name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(args.model, folder)
    tensors = {key: value.astype(np.float32) for key, value in load_file(f"{args.model}/model.safetensors").items()}
    for linear, value in weights.items():
        tensors[f"{linear}.weight"] = np.ascontiguousarray(value)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    command = [args.knapsaq, "eval", str(folder), "--text", args.eval_text, *args.eval_options.split(), "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    shutil.rmtree(folder)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout)["perplexity"]


def main() -> None:
    from safetensors.numpy import load_file, save_file
    from transformers import AutoConfig

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("work", type=pathlib.Path)
    parser.add_argument("--text", required=True)
    parser.add_argument("--windows", type=int, default=64)
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--ours", required=True)
    parser.add_argument("--root", type=pathlib.Path)
    parser.add_argument("--knapsaq")
    parser.add_argument("--eval-text")
    parser.add_argument("--eval-options", default="--protocol gptq --window 512")
    parser.add_argument("--types", default=",".join(TYPES))
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    weights = {
        name.removesuffix(".weight"): value.astype(np.float32)
        for name, value in load_file(f"{args.model}/model.safetensors").items()
    }
    layers = AutoConfig.from_pretrained(args.model).num_hidden_layers
    if not (args.work / "importance.safetensors").exists():
        text = pathlib.Path(args.text).read_text()
        save_file(mean_squares(args.model, text, args.windows, args.window), args.work / "importance.safetensors")
        write_gguf(args.model, args.work / "f32.gguf")
        write_imatrix(load_file(args.work / "importance.safetensors"), layers, args.work / "imatrix.gguf")
    importance = load_file(args.work / "importance.safetensors")

    print("type   importance  ours/llama  ours (relative)  llama (relative)  ppl ours  ppl llama")
    for kind in args.types.split(","):
        for with_importance in (True,) if kind in NEED_IMATRIX else (True, False):
            theirs = theirs_of(args.work, args.root, kind, with_importance)
            made = args.work / f"ours-{kind}.safetensors"
            command = [args.ours, args.model, kind, str(made)]
            if with_importance:
                command.append(str(args.work / "importance.safetensors"))
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            ours = load_file(made)
            errors = np.zeros(2)
            whole = 0.0
            decoded = ({}, {})
            for linear, name in linears_of(layers):
                data, stored = theirs[f"{name}.weight"]
                decoded[0][linear] = decode(ours[linear], stored)
                decoded[1][linear] = decode(data, stored)
                w = importance[linear].astype(np.float64) if with_importance else 1.0
                x = weights[linear].astype(np.float64)
                whole += (w * x**2).sum()
                for side in (0, 1):
                    errors[side] += (w * (x - decoded[side][linear]) ** 2).sum()
            line = f"{kind:6} {'yes' if with_importance else 'no':10} {errors[0] / errors[1]:11.4f} "
            line += f"{errors[0] / whole:16.4e} {errors[1] / whole:17.4e}"
            if args.knapsaq:
                for side, name in enumerate(("ours", "llama")):
                    line += f" {perplexity(args, decoded[side], f'dense-{name}'):9.4f}"
            print(line, flush=True)


if __name__ == "__main__":
    main()
