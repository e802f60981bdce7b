#!/usr/bin/env python3
"""`knapsaq compare` beside llama-perplexity --kl-divergence on the same files and text.

    python tools/check_llama_kl.py F16.gguf FILE.gguf... --text TEXT --work DIR \\
        --llama-bin $(tools/build_llama_cpp.sh) --knapsaq build/release/knapsaq [--within 0.5]

F16.gguf is the full model. Both score the second half of windows of 512 tokens. llama-perplexity runs with --no-repack.
Prints a table in Markdown: mean KL by llama-perplexity; by knapsaq in --precision int8, which rounds what matrices
multiply as llama.cpp's kernels do, with the relative difference; and in fp32, which has the weights' error alone. With
--within, ends with 1 if a difference in int8 is larger than so many percent. DIR keeps what llama-perplexity said.
Needs Python alone.
"""
import argparse
import json
import pathlib
import re
import subprocess
import sys

MEASURES = {"mean": r"Mean\s+KLD\s*: *([\d.]+)", "quantile_99": r"99\.0%\s+KLD\s*: *([\d.]+)",
            "quantile_99_9": r"99\.9%\s+KLD\s*: *([\d.]+)", "same_top": r"Same top p\s*: *([\d.]+)"}


def said_by(command, keep):
    """What a program says; once."""
    if not keep.exists():
        done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              errors="replace")
        if done.returncode != 0:
            sys.exit(f"check_llama_kl: {command[0]} ended with {done.returncode}:\n{done.stdout[-2000:]}")
        keep.write_text(done.stdout)
    return keep.read_text()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("full", type=pathlib.Path, metavar="F16.gguf")
    parser.add_argument("files", type=pathlib.Path, nargs="+", metavar="FILE.gguf")
    parser.add_argument("--text", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--llama-bin", type=pathlib.Path, required=True)
    parser.add_argument("--knapsaq", type=pathlib.Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--within", type=float)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    perplexity = [options.llama_bin / "llama-perplexity", "-c", 512, "-t", options.threads, "--no-repack"]
    logits = options.work / "logits.bin"
    said_by([*perplexity, "-m", options.full, "-f", options.text, "--kl-divergence-base", logits],
            options.work / "base.log")
    theirs = {}
    for file in options.files:
        text = said_by([*perplexity, "-m", file, "--kl-divergence", "--kl-divergence-base", logits],
                       options.work / f"{file.stem}.log")
        theirs[str(file)] = {key: float(re.search(pattern, text).group(1)) for key, pattern in MEASURES.items()}
    ours = {}
    for precision in ("int8", "fp32"):
        said = subprocess.run(
            [str(word) for word in (options.knapsaq, "compare", *options.files, "--reference", options.full, "--text",
                                    options.text, "--protocol", "llama", "--window", 512, "--precision", precision,
                                    "--threads", options.threads, "--json")], check=True, stdout=subprocess.PIPE).stdout
        ours[precision] = {one["file"]: one for one in json.loads(said)["files"]}
    print("| file | llama-perplexity | int8 | difference | fp32 | 99.9 %: llama-perplexity | int8 | same top: "
          "llama-perplexity | int8 |\n" + "|---" * 9 + "|")
    worst = 0
    for file in map(str, options.files):
        mean, found = theirs[file]["mean"], ours["int8"][file]
        difference = 100 * (found["kl"]["mean"] / mean - 1)
        worst = max(worst, abs(difference))
        print(f"| {pathlib.Path(file).stem} | {mean:.6f} | {found['kl']['mean']:.6f} | {difference:+.2f} % | "
              f"{ours['fp32'][file]['kl']['mean']:.6f} | {theirs[file]['quantile_99_9']:.5f} | "
              f"{found['kl']['quantile_99_9']:.5f} | {theirs[file]['same_top']:.2f} % | {100 * (1 - found['flips']):.2f} % |")
    sys.exit(options.within is not None and worst > options.within)


if __name__ == "__main__":
    main()
