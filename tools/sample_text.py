#!/usr/bin/env python3
"""Samples text from a checkpoint with Transformers: the evaluation text of the demo.

The text under assets/ was made once by

    tools/sample_text.py assets/wiki-llama-6m --documents 96 --seed 1 -o assets/wiki-llama-6m-sample.txt
    tools/sample_text.py assets/wiki-opt-3m   --documents 96 --seed 1 -o assets/wiki-opt-3m-sample.txt

from the full-precision models at temperature 1 over the whole vocabulary, so that it belongs to this project and
the distribution that a quantized model has to follow is exactly the one the text was drawn from. Perplexities on it
are lower than on real text; differences between quantized models are what it shows.
Needs torch and transformers.
"""
import argparse

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("-o", "--output", required=True)
    parser.add_argument("--documents", type=int, default=96)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).eval()
    length = model.config.max_position_embeddings
    start = torch.full((args.documents, 1), tokenizer.eos_token_id)
    with torch.no_grad():
        ids = model.generate(start, attention_mask=torch.ones_like(start), do_sample=True, temperature=1.0, top_k=0,
                             max_new_tokens=length - 1, pad_token_id=tokenizer.eos_token_id)
    texts = []
    for row in ids[:, 1:].tolist():
        end = row.index(tokenizer.eos_token_id) if tokenizer.eos_token_id in row else len(row)
        texts.append(tokenizer.decode(row[:end]).strip("\n"))
    with open(args.output, "w", encoding="utf-8") as handle:
        handle.write("\n\n".join(text for text in texts if text) + "\n")


if __name__ == "__main__":
    main()
