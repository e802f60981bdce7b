#!/usr/bin/env python3
"""Has llama-quantize make files by recipes of `knapsaq export --recipe`, and compares the types of all tensors.

    python tools/check_recipe.py F16.gguf FILE.gguf... --llama-bin $(tools/build_llama_cpp.sh) \\
        --knapsaq build/release/knapsaq [--imatrix IMATRIX.gguf]

Each FILE.gguf is a quantized one of the same model as F16.gguf, whoever made it. Ends with 1 if a type differs. Needs
Python alone.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

from compare_llama_quantize import tensor_types


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("full", type=pathlib.Path, metavar="F16.gguf")
    parser.add_argument("files", type=pathlib.Path, nargs="+", metavar="FILE.gguf")
    parser.add_argument("--llama-bin", type=pathlib.Path, required=True)
    parser.add_argument("--knapsaq", type=pathlib.Path, required=True)
    parser.add_argument("--imatrix", type=pathlib.Path)
    options = parser.parse_args()
    wrong = 0
    for file in options.files:
        with tempfile.TemporaryDirectory() as folder:
            recipe, made = pathlib.Path(folder, "types.txt"), pathlib.Path(folder, "made.gguf")
            said = json.loads(subprocess.run([options.knapsaq, "export", file, "--recipe", recipe, "--json"],
                                             check=True, stdout=subprocess.PIPE).stdout)["recipe"]
            imatrix = ["--imatrix", options.imatrix] if options.imatrix else []
            done = subprocess.run([options.llama_bin / "llama-quantize", "--tensor-type-file", recipe, *imatrix,
                                   options.full, made, said["file_type"]], stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True, errors="replace")
            if done.returncode != 0:
                sys.exit(f"check_recipe: llama-quantize ended with {done.returncode}:\n{done.stdout[-2000:]}")
            ours, theirs = tensor_types(file), tensor_types(made)
            differing = {name: (ours.get(name), theirs.get(name)) for name in ours.keys() | theirs.keys()
                         if ours.get(name) != theirs.get(name)}
            kinds = sorted(set(ours.values()) - {"F32"})
            print(f"{file}: {len(ours)} tensors ({', '.join(kinds)}), {said['matrices']} entries, "
                  f"{len(differing)} types differ")
            for name, (one, other) in sorted(differing.items()):
                print(f"  {name}: {one}, llama-quantize {other}")
            wrong += len(differing)
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
