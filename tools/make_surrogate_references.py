#!/usr/bin/env python3
"""Values of SciPy for tests/search: its cubic radial basis functions with a linear tail on points of levels, and its
rank correlations.

    python3 tools/make_surrogate_references.py tests/data/search/surrogate_references.json
"""

import json
import sys

import numpy as np
import scipy
from scipy.interpolate import RBFInterpolator
from scipy.stats import kendalltau, spearmanr


def divergence(rng, variables):
    """A function of levels in [0, 1] like a model's: separable, falling, with a few pairs."""
    weight = np.exp(rng.normal(size=variables))
    pairs = rng.integers(0, variables, size=(variables, 2))
    coupling = rng.normal(size=variables)
    return lambda x: (np.exp(-3 * x) * weight).sum(1) + (coupling * x[:, pairs[:, 0]] * x[:, pairs[:, 1]]).sum(1)


def interpolation(rng, levels, count, asked, damping):
    steps = np.array(levels) - 1
    points = np.unique(rng.integers(0, steps + 1, size=(count, len(levels))), axis=0)
    points = points[rng.permutation(len(points))]
    new = rng.integers(0, steps + 1, size=(asked, len(levels)))
    function = divergence(rng, len(levels))
    values = function(points / steps)
    model = RBFInterpolator(points / steps, values, kernel="cubic", degree=1, smoothing=damping)
    return {
        "levels": levels,
        "damping": damping,
        "points": points.tolist(),
        "values": values.tolist(),
        "asked": new.tolist(),
        "predicted": model(new / steps).tolist(),
    }


def correlation(a, b):
    return {"a": a.tolist(), "b": b.tolist(), "rmse": float(np.sqrt(np.mean((a - b) ** 2))),
            "spearman": float(spearmanr(a, b).statistic), "kendall": float(kendalltau(a, b).statistic)}


def main():
    rng = np.random.default_rng(5)
    interpolations = [
        interpolation(rng, [3] * 12, 150, 20, 1e-6),
        interpolation(rng, [2, 3, 4, 12, 5, 3, 7], 120, 20, 1e-6),
        interpolation(rng, [3] * 5, 60, 20, 0.0),
        interpolation(rng, [3] * 12, 40, 20, 0.01),
    ]
    correlations = []
    for count in (2, 5, 50, 400):
        a = rng.normal(size=count)
        correlations.append(correlation(a, a + rng.normal(size=count)))
        if count > 2:
            correlations.append(correlation(rng.integers(0, 6, size=count).astype(float),
                                            rng.integers(0, 4, size=count).astype(float)))
    json.dump({"made_with": f"scipy {scipy.__version__}", "interpolations": interpolations,
               "correlations": correlations}, open(sys.argv[1], "w"), separators=(",", ":"))


main()
