#!/usr/bin/env python3
"""Statistics of samples by SciPy and NumPy, for tests/search.

    python3 tools/make_statistics_references.py tests/data/search/statistics_references.json

Each case: two samples; scipy.stats.ranksums, mannwhitneyu (exact where there are no ties, asymptotic always), the share
of pairs in which the first is larger, and of the first sample mean, standard deviation and quartiles. Besides, p values
adjusted by Holm's method as statsmodels does it.
"""

import json
import sys

import numpy as np
import scipy
import statsmodels
from scipy.stats import mannwhitneyu, ranksums
from statsmodels.stats.multitest import multipletests


def main():
    rng = np.random.default_rng(7)
    cases = []

    def add(a, b):
        a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
        sums = ranksums(a, b)
        asymptotic = mannwhitneyu(a, b, method="asymptotic")
        tied = len(np.unique(np.concatenate([a, b]))) < len(a) + len(b)
        exact = None if tied else mannwhitneyu(a, b, method="exact").pvalue
        difference = np.subtract.outer(a, b)
        cases.append({
            "a": a.tolist(), "b": b.tolist(), "z": sums.statistic, "p": sums.pvalue, "u": asymptotic.statistic,
            "p_asymptotic": asymptotic.pvalue, "p_exact": exact,
            "a_larger": float(np.mean(difference > 0) + np.mean(difference == 0) / 2),
            "mean": a.mean(), "deviation": a.std(ddof=1) if len(a) > 1 else 0.0,
            "quantiles": np.quantile(a, [0, 0.25, 0.5, 0.75, 1]).tolist(),
        })

    for n, m in [(1, 1), (1, 5), (2, 2), (3, 4), (5, 5), (7, 9), (10, 10), (20, 20), (20, 3), (25, 30)]:
        for shift in (0.0, 0.8, 3.0):
            add(np.round(rng.normal(size=n), 6), np.round(rng.normal(size=m) + shift, 6))
    for n, m in [(4, 4), (10, 10), (15, 12), (30, 30)]:
        add(rng.integers(0, 6, n), rng.integers(1, 7, m))
    add([1, 1, 1, 1], [1, 1, 1])
    add([0.5, 0.5, 0.5], [0.25, 0.25])

    families = []
    for count in (1, 2, 6, 15):
        p = np.round(rng.uniform(size=count) ** 3, 8)
        families.append({"p": p.tolist(), "holm": multipletests(p, method="holm")[1].tolist()})
    families.append({"p": [0.01, 0.01, 0.5, 0.9], "holm": multipletests([0.01, 0.01, 0.5, 0.9], method="holm")[1].tolist()})

    json.dump({"made_with": f"scipy {scipy.__version__}, numpy {np.__version__}, statsmodels {statsmodels.__version__}",
               "cases": cases, "families": families},
              open(sys.argv[1], "w"), separators=(",", ":"))


main()
