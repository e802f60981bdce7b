#!/usr/bin/env python3
"""Has Transformers and bitsandbytes load a model all of whose linears are in NF4, and prints its perplexity by the
`gptq` protocol, to compare with

    knapsaq eval MODEL --text TEXT --protocol gptq --window 512 --precision fp32

Needs transformers, bitsandbytes and accelerate. Computes in fp32. With bitsandbytes 0.50.2 on a CPU with AVX-512 the
rows of all linears must be multiples of 64 (tools/make_nf4_references.py says why).
"""
import argparse
import math
import pathlib

import bitsandbytes as bnb
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, BitsAndBytesConfig


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--text", type=pathlib.Path, required=True)
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--windows", type=int, default=0, help="the first N windows only")
    parser.add_argument("--original", type=pathlib.Path, help="also quantize this one by bitsandbytes itself")
    arguments = parser.parse_args()

    def perplexity(model, windows):
        for parameter in model.parameters():
            if not isinstance(parameter, bnb.nn.Params4bit):
                parameter.data = parameter.data.float()
        for module in model.modules():
            if isinstance(module, bnb.nn.Linear4bit):
                module.compute_dtype = torch.float32
                module.support_avx512bf16_for_cpu = False  # its kernel for bf16 computes in bf16
        total = 0.0
        with torch.no_grad():
            for i in range(windows):
                window = torch.tensor([ids[i * arguments.window : (i + 1) * arguments.window]])
                logits = model(window).logits[0, :-1].float()
                total += torch.nn.functional.cross_entropy(logits, window[0, 1:]).item()
        return math.exp(total / windows)

    tokenizer = Tokenizer.from_file(str(arguments.model / "tokenizer.json"))
    ids = tokenizer.encode(arguments.text.read_text()).ids
    windows = len(ids) // arguments.window
    if arguments.windows:
        windows = min(windows, arguments.windows)

    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32).eval()
    linears = [module for module in model.modules() if isinstance(module, bnb.nn.Linear4bit)]
    print(f"linears in {linears[0].weight.quant_type}: {len(linears)}")
    print(f"perplexity: {perplexity(model, windows):.6f} over {windows} windows")
    if arguments.original:
        config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)
        other = AutoModelForCausalLM.from_pretrained(
            arguments.original, dtype=torch.float32, quantization_config=config
        ).eval()
        ours, theirs = dict(model.named_parameters()), dict(other.named_parameters())
        same = sum(
            torch.equal(theirs[name], p) and torch.equal(theirs[name].quant_state.absmax, p.quant_state.absmax)
            for name, p in ours.items()
            if isinstance(p, bnb.nn.Params4bit)
        )
        print(f"linears with the same codes and absmax as bitsandbytes' own: {same}")
        print(f"perplexity of bitsandbytes' own: {perplexity(other, windows):.6f}")


if __name__ == "__main__":
    main()
