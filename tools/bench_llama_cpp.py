#!/usr/bin/env python3
"""Speed of knapsaq and llama.cpp on one model in sizes from 16 to 2 bits, alternating in one run.

    python tools/bench_llama_cpp.py MODEL FOLDER --llama-cpp $(tools/build_llama_cpp.sh) [--types BF16 Q4_0 ..]

MODEL is a dense checkpoint with a tokenizer, such as bench/random_model writes. FOLDER gets what is measured and keeps
it: MODEL as GGUF, what llama-quantize makes of that in every type, and MODEL quantized by knapsaq in a scheme of at most
so many bits per weight. Every round runs, for every type, llama-bench on the GGUF file, knapsaq on the same file, and
knapsaq on its own format, one after another, with the same threads, prompt and generation. The table on standard output
has medians of the rounds and knapsaq's speed over llama.cpp's; --json has every number.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys

# Bits per weight of a GGUF type with its scales, and knapsaq's scheme of at most so many: codes, fp16 scale and zero.
SCHEMES = {
    "F16": None,  # the checkpoint itself
    "BF16": None,
    "Q8_0": "rtn:b8g64",  # 8.5 and 8.5
    "Q4_K_S": "rtn:b4g64",  # 4.5 and 4.5
    "Q4_0": "rtn:b4g64",  # 4.5 and 4.5
    "Q3_K_S": "rtn:b3g128",  # 3.44 and 3.25
    "Q2_K": "rtn:b2g128",  # 2.63 and 2.25
}


def call(command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: {done.stderr.strip()[-2000:]}")
    return done.stdout


def bytes_of(path):
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.glob("*.safetensors"))


def prepare(options):
    """{type: (GGUF file, knapsaq's model)}"""
    folder = pathlib.Path(options.folder)
    folder.mkdir(parents=True, exist_ok=True)
    whole = folder / "whole.gguf"
    if not whole.exists():
        call([options.knapsaq, "export", options.model, "--format", "gguf", "-o", whole])
    models = {}
    for kind in options.types:
        gguf = folder / f"{kind}.gguf"
        if not gguf.exists():
            partial = folder / f"{kind}.partial"
            call([pathlib.Path(options.llama_cpp) / "llama-quantize", whole, partial, kind, options.threads])
            partial.rename(gguf)
        scheme = SCHEMES[kind]
        own = pathlib.Path(options.model)
        if scheme:
            own = folder / scheme.replace(":", "-")
            if not own.exists():
                call([options.knapsaq, "quantize", options.model, "-o", own, "--scheme", scheme])
        models[kind] = (gguf, own)
    return models


def llama_bench(options, gguf, *arguments):
    output = call([pathlib.Path(options.llama_cpp) / "llama-bench", "-m", gguf, "-t", options.threads, "-r", 1,
                   "-o", "json", *arguments])
    (run,) = json.loads(output)
    return run["avg_ts"]


def llama_cpp(options, gguf):
    # Generation from an empty cache, and after the prompt (-d), as knapsaq bench measures both.
    return {"prompt": llama_bench(options, gguf, "-p", options.prompt, "-n", 0),
            "generation": llama_bench(options, gguf, "-p", 0, "-n", options.generate),
            "after": llama_bench(options, gguf, "-p", 0, "-n", options.generate, "-d", options.prompt)}


def knapsaq(options, model):
    found = json.loads(call([options.knapsaq, "bench", model, "--prompt", options.prompt, "--generate",
                             options.generate, "--threads", options.threads, "--repeats", 1, "--activations",
                             options.activations, "--json"]))
    return {"prompt": found["prompt_tokens_per_second"], "generation": found["generation_tokens_per_second"],
            "after": found["generation_after_prompt_tokens_per_second"],
            "fraction": found["bandwidth_fraction"]}


def medians(runs):
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


COLUMNS = {"prompt": "prompt", "generation": "generation", "after": "after the prompt"}


def show(results):
    """A line for llama.cpp on a file, for knapsaq on the same, and for knapsaq's own format; tokens per second and, in
    brackets, times llama.cpp's."""
    print("| model | MB | " + " | ".join(COLUMNS.values()) + " | of DRAM |")
    print("|---" * (3 + len(COLUMNS)) + "|")
    for kind, result in results.items():
        theirs = medians(result["llama.cpp"])
        print(f"| {kind}, llama.cpp | {result['gguf_bytes'] / 1e6:.0f} | "
              + " | ".join(f"{theirs[key]:.1f}" for key in COLUMNS) + " | |")
        for key, name, size in (("gguf", f"{kind}, knapsaq", "gguf_bytes"), ("own", result["own_name"], "own_bytes")):
            if not result[key]:
                continue
            ours = medians(result[key])
            cells = (f"{ours[what]:.1f} ({ours[what] / theirs[what]:.2f})" for what in COLUMNS)
            print(f"| {name} | {result[size] / 1e6:.0f} | " + " | ".join(cells) + f" | {ours['fraction']:.2f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("folder")
    parser.add_argument("--llama-cpp", required=True, help="folder with llama-bench and llama-quantize")
    parser.add_argument("--knapsaq", default="build/release/knapsaq")
    parser.add_argument("--types", nargs="+", default=list(SCHEMES), choices=list(SCHEMES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--generate", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--activations", default="int8")
    parser.add_argument("--no-gguf", action="store_true", help="knapsaq on its own format only")
    parser.add_argument("--json", help="also every measurement, to this file")
    options = parser.parse_args()

    models = prepare(options)
    results = {kind: {"gguf_bytes": bytes_of(gguf), "own_bytes": bytes_of(own),
                      "own_name": own.name.replace("rtn-", ""), "llama.cpp": [], "gguf": [], "own": []}
               for kind, (gguf, own) in models.items()}
    for done in range(options.rounds):
        for kind, (gguf, own) in models.items():
            print(f"round {done + 1} of {options.rounds}: {kind}", file=sys.stderr)
            results[kind]["llama.cpp"].append(llama_cpp(options, gguf))
            if not options.no_gguf:
                results[kind]["gguf"].append(knapsaq(options, gguf))
            results[kind]["own"].append(knapsaq(options, own))
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(results, indent=1))
    show(results)


if __name__ == "__main__":
    main()
