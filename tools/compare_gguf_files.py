#!/usr/bin/env python3
"""Files that llama.cpp itself quantized, run by Knapsaq and by llama.cpp:

  compare_gguf_files.py --knapsaq build/knapsaq --llama FOLDER --text wiki.txt [--windows N] MODEL

MODEL is a folder whose architecture GGUF has; FOLDER has llama-quantize and llama-perplexity (tools/build_llama_cpp.sh makes one). The
model is exported as it is, quantized by llama-quantize to every type below (its mixtures, with embedding and head in blocks as well), and each
file's perplexity by `knapsaq eval FILE --protocol llama` stands beside llama-perplexity's. Prints a table in Markdown; ends with 1
if two differ by more than --tolerance (0.5 %: llama.cpp multiplies in int8 and keeps keys and values in F16).
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile

TYPES = ["F16", "Q8_0", "Q6_K", "Q5_K_M", "Q5_1", "Q5_0", "Q4_K_M", "Q4_1", "Q4_0", "Q3_K_M", "Q2_K"]


def output_of(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{command[0]} failed: {done.stderr[-2000:]}")
    return done.stdout + done.stderr


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--knapsaq", type=pathlib.Path, required=True)
    parser.add_argument("--llama", type=pathlib.Path, required=True)
    parser.add_argument("--text", type=pathlib.Path, required=True)
    parser.add_argument("--windows", type=int, default=40)
    parser.add_argument("--tolerance", type=float, default=0.005)
    parser.add_argument("model", type=pathlib.Path)
    options = parser.parse_args()
    worst = 0.0
    print("| type | perplexity by Knapsaq | by llama.cpp | difference |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as work:
        source = pathlib.Path(work) / "source.gguf"
        output_of(options.knapsaq, "export", options.model, "--format", "gguf", "-o", source)
        for kind in TYPES:
            path = pathlib.Path(work) / f"{kind}.gguf"
            output_of(options.llama / "llama-quantize", source, path, kind)
            ours = json.loads(subprocess.run(
                [options.knapsaq, "eval", path, "--text", options.text, "--protocol", "llama", "--windows", str(options.windows), "--precision",
                 "fp32", "--json"], capture_output=True, text=True, check=True).stdout)["perplexity"]
            text = output_of(options.llama / "llama-perplexity", "-m", path, "-f", options.text, "-c", 512, "--chunks", options.windows,
                             "--no-repack")  # its repacked kernels crashed on a processor of ours
            found = re.search(rf"PPL = ([0-9.]+)|\[{options.windows}\]([0-9.]+)", text)
            if not found:  # it loses its last lines now and then
                print(f"| {kind} | {ours:.4f} | ? | |", flush=True)
                continue
            theirs = float(found.group(1) or found.group(2))
            worst = max(worst, abs(ours / theirs - 1))
            print(f"| {kind} | {ours:.4f} | {theirs:.4f} | {100 * (ours / theirs - 1):+.3f} % |", flush=True)
            path.unlink()
    sys.exit(1 if worst > options.tolerance else 0)


if __name__ == "__main__":
    main()
