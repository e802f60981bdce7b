"""Fits a model into a budget, takes a smaller one from the same run, and compares them.

    pip install knapsaq-*.whl
    python fit.py [MODEL [TEXT]]        default: the model that comes with the package, and the text sampled from it

Everything is written below the folder `fitted`; called again, it goes on where it was.
"""

import sys
from pathlib import Path

import knapsaq


def main(model=knapsaq.example_model(), text=knapsaq.example_text(), folder=Path("fitted"), **options):
    folder.mkdir(exist_ok=True)
    run = knapsaq.fit(model, budget="3.5MiB", output=folder / "3.5MiB", force=True, **options)
    print(f"{run.model.path}: {run.model.bytes} bytes, {run.model.bits:.3f} bits per weight")

    # Every point of the front is one call away: nothing is measured again.
    for point in run.front():
        print(f"  {point.bits:6.3f} bits  {point.bytes:9d} bytes  KL {point.divergence:.5f}")
    small = run.pick(bits=2.75, output=folder / "2.75bits", force=True)

    for name in (model, run.model.path, small.path):
        score = knapsaq.evaluate(name, text=text, window=256)
        print(f"{name}: perplexity {score.perplexity:.3f}")

    loaded = knapsaq.load(small.path)
    for piece in loaded.stream("The river", max_tokens=30, temperature=0.8, seed=1):
        print(piece, end="", flush=True)
    print()


if __name__ == "__main__":
    main(*sys.argv[1:3])
