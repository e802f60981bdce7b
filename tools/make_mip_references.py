#!/usr/bin/env python3
"""Optima of small allocation problems by scipy.optimize.milp, for tests/search.

    python3 tools/make_mip_references.py tests/data/search/mip_references.json

Each problem: items[i][c] = [cost, size]; least total cost with total size <= budget, one choice per item.
"""

import json
import sys

import numpy as np
import scipy
from scipy.optimize import Bounds, LinearConstraint, milp


def solve(items, budget):
    costs = np.array([c for item in items for c, _ in item])
    sizes = np.array([s for item in items for _, s in item], dtype=float)
    rows = np.zeros((len(items), len(costs)))
    column = 0
    for i, item in enumerate(items):
        rows[i, column : column + len(item)] = 1
        column += len(item)
    result = milp(
        costs,
        constraints=[LinearConstraint(rows, 1, 1), LinearConstraint(sizes, -np.inf, budget)],
        integrality=np.ones(len(costs)),
        bounds=Bounds(0, 1),
        options={"mip_rel_gap": 0, "time_limit": 120},
    )
    if result.status != 0:
        raise SystemExit(f"milp did not prove an optimum: {result.message}")
    chosen = np.round(result.x).astype(bool)
    if sizes[chosen].sum() > budget:
        raise SystemExit("milp went over the budget; choose another problem")
    return float(costs[chosen].sum())


def quantization_like(rng, linears):
    """Sizes as MXQ's twelve schemes give them, errors falling with bits."""
    shapes = [(512, 512), (128, 512), (1376, 512), (512, 1376)]
    items = []
    for i in range(linears):
        weights = int(np.prod(shapes[i % len(shapes)]))
        norm = float(np.exp(rng.normal()))
        items.append(
            [
                [round(norm * 2.0**-b * (g / 32) ** 0.2 * float(np.exp(0.05 * rng.normal())), 6),
                 weights * b // 8 + 2 * weights // g + 4 * weights // (g * 128)]
                for b in (2, 3, 4, 8)
                for g in (32, 64, 128)
            ]
        )
    return items


def unordered(rng, count, choices):
    """Costs and sizes that have nothing to do with each other; many choices are dominated, some equal."""
    return [
        [[int(rng.integers(0, 30)), int(rng.integers(0, 1000))] for _ in range(int(rng.integers(1, choices + 1)))]
        for _ in range(count)
    ]


def main():
    rng = np.random.default_rng(2024)
    problems = []

    def add(items, share):
        least = sum(min(s for _, s in item) for item in items)
        most = sum(max(s for _, s in item) for item in items)
        budget = int(least + share * (most - least))
        problems.append({"items": items, "budget": budget, "objective": solve(items, budget)})

    for share in (0.0, 0.05, 0.3, 0.7):
        add(quantization_like(rng, 56), share)
        add(unordered(rng, 40, 8), share)
        add(unordered(rng, 12, 20), share)
    json.dump({"made_with": f"scipy {scipy.__version__}", "problems": problems}, open(sys.argv[1], "w"),
              separators=(",", ":"))


main()
