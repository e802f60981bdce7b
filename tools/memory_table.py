#!/usr/bin/env python3
"""The papers' table of models side by side: bytes, memory, speed and perplexity.

    python tools/memory_table.py --text TEXT full=MODEL uniform=MODEL mixed=MODEL [--knapsaq build/release/knapsaq]

Every model is run by `knapsaq bench`, and scored by `knapsaq eval` if there is a text. One row each; the first one is
what speeds are compared with.
"""
import argparse
import json
import pathlib
import subprocess
import sys


def call(command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: {done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="NAME=MODEL")
    parser.add_argument("--text")
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--windows", type=int, default=0)
    parser.add_argument("--prompt", type=int, default=256)
    parser.add_argument("--generate", type=int, default=128)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--knapsaq", default="build/release/knapsaq")
    options = parser.parse_args()

    print("| model | files MB | linears and head MB | cache MB | peak resident MB | prompt tokens/s | generation tokens/s "
          "| against the first | perplexity |")
    print("|---" * 9 + "|")
    first = None
    for named in options.models:
        name, _, model = named.partition("=")
        path = pathlib.Path(model)
        files = [path] if path.is_file() else list(path.glob("*.safetensors")) + list(path.glob("*.bin"))
        threads = ["--threads", options.threads]
        bench = call([options.knapsaq, "bench", model, "--prompt", options.prompt, "--generate", options.generate,
                      "--json", *threads])
        perplexity = ""
        if options.text:
            score = call([options.knapsaq, "eval", model, "--text", options.text, "--window", options.window,
                          "--windows", options.windows, "--json", *threads])
            perplexity = f"{score['perplexity']:.3f}"
        speed = bench["generation_tokens_per_second"]
        first = first or speed
        print(f"| {name} | {sum(file.stat().st_size for file in files) / 1e6:.1f} | {bench['weight_bytes'] / 1e6:.1f} "
              f"| {bench['cache_bytes'] / 1e6:.1f} | {bench['peak_resident_bytes'] / 1e6:.0f} "
              f"| {bench['prompt_tokens_per_second']:.0f} | {speed:.1f} | {speed / first:.2f} | {perplexity} |",
              flush=True)


if __name__ == "__main__":
    main()
