#!/usr/bin/env python3
"""Speed of Knapsaq's tokenizers against Hugging Face's on one core, in one run.

Usage: python tools/bench_tokenizers.py BENCH SHARED
BENCH is the program tokenizer_bench, SHARED a folder with tokenizers/ and data/. Both sides get the whole of WikiText-2's
test split as one text and may use one thread; processor time counts. Needs what make_tokenizer_references.py needs.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"

from tokenizers import Tokenizer  # noqa: E402
from transformers import AutoTokenizer, GPT2Tokenizer  # noqa: E402

from make_tokenizer_references import legacy_llama, llama3_tiktoken  # noqa: E402


def main():
    bench, shared = sys.argv[1], pathlib.Path(sys.argv[2])
    path = shared / "data/wikitext2-test.raw"
    text = path.read_text()
    folder = shared / "tokenizers"
    with tempfile.TemporaryDirectory() as scratch:
        for name, new in (("vocab.json", "gpt2-vocab.json"), ("merges.txt", "gpt2-merges.txt")):
            os.symlink((folder / "opt" / new).resolve(), pathlib.Path(scratch) / name)
        opt = GPT2Tokenizer.from_pretrained(scratch, bos_token="</s>", eos_token="</s>", unk_token="</s>").backend_tokenizer
    peers = {
        "opt": opt,
        "llama2": legacy_llama(folder / "llama2/tokenizer.model"),
        "llama3": llama3_tiktoken(folder / "llama3/tokenizer.model")[0],
        "qwen2": AutoTokenizer.from_pretrained(folder / "qwen2").backend_tokenizer,
        "pythia": Tokenizer.from_file(str(folder / "pythia/tokenizer.json")),
    }
    print(f"{'tokenizer':10} {'knapsaq MB/s':>13} {'first':>7} {'decode':>7} {'peer MB/s':>10} {'ratio':>6}")
    for name, peer in peers.items():
        best = min(timed(lambda: peer.encode(text)) for _ in range(3))
        theirs = len(text.encode()) / 1e6 / best
        ours = json.loads(subprocess.check_output([bench, str(folder / name), str(path)]))
        print(
            f"{name:10} {ours['encode_mb_s']:13.1f} {ours['first_mb_s']:7.1f} {ours['decode_mb_s']:7.1f}"
            f" {theirs:10.2f} {ours['encode_mb_s'] / theirs:6.1f}"
        )


def timed(function):
    begin = time.process_time()
    function()
    return time.process_time() - begin


if __name__ == "__main__":
    main()
