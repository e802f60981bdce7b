#!/usr/bin/env python3
"""Hypervolumes that pymoo's NSGA-II reaches, for tests/search/amq/nsga2_test.cpp, which runs ours as long.

    python3 -m pip install pymoo
    python3 tools/compare_pymoo.py tests/data/search/pymoo_references.json

ZDT1 to ZDT3 with pymoo's defaults (simulated binary crossover, polynomial mutation), and an integer problem like an
allocation's (variables of three levels, damage against size, neighbours coupled) with AMQ's binomial crossover and
with both of our mutations: one level up or down, or all variables drawn anew. Hypervolumes are shares of the rectangle
between `ideal` and `reference`.
"""

import json
import sys

import numpy as np
import pymoo
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.mutation import Mutation
from pymoo.core.problem import Problem
from pymoo.indicators.hv import HV
from pymoo.operators.crossover.binx import BinomialCrossover
from pymoo.optimize import minimize
from pymoo.problems import get_problem

SEEDS = range(1, 10)


class Levels(Problem):
    """The integer problem; nsga2_test.cpp has it too."""

    def __init__(self, variables=40, levels=3):
        super().__init__(n_var=variables, n_obj=2, xl=0, xu=levels - 1, vtype=int)

    def _evaluate(self, x, out, *args, **kwargs):
        i = np.arange(self.n_var)
        own = (1 + i * 7 % 11) * 4.0 ** -x.astype(float)
        coupling = (i * 5 % 7 - 3) / 10
        damage = own.sum(1) + (coupling[1:] * np.minimum(own[:, 1:], own[:, :-1])).sum(1)
        size = ((1 + i % 4) * (2 + x)).sum(1)
        out["F"] = np.column_stack((damage, size))


class Draw:
    """Any point."""

    def __init__(self, rng):
        self.rng = rng

    def __call__(self, problem, count):
        return self.rng.integers(problem.xl.astype(int), problem.xu.astype(int) + 1, size=(count, problem.n_var))


class StepMutation(Mutation):
    """One variable on average, at least one, goes one level up or down."""

    def _do(self, problem, X, *args, random_state=None, **kwargs):
        X = X.copy()
        for row in X:
            move = random_state.random(problem.n_var) < 1 / problem.n_var
            if not move.any():
                move[random_state.integers(problem.n_var)] = True
            for v in np.flatnonzero(move):
                up = row[v] <= problem.xl[v] or (row[v] < problem.xu[v] and random_state.random() < 0.5)
                row[v] += 1 if up else -1
        return X


class RedrawMutation(Mutation):
    """AMQ's."""

    def _do(self, problem, X, *args, random_state=None, **kwargs):
        return random_state.integers(0, int(problem.xu[0]) + 1, size=X.shape)


def hypervolume(F, ideal, reference):
    return float(HV(ref_point=np.array(reference))(F) / np.prod(np.subtract(reference, ideal)))


def main():
    cases = []

    def add(name, problem, population, generations, ideal, reference, make):
        values = []
        for seed in SEEDS:
            result = minimize(problem, make(seed), ("n_gen", generations), seed=seed)
            values.append(hypervolume(result.F, ideal, reference))
        cases.append({"name": name, "population": population, "generations": generations, "ideal": ideal,
                      "reference": reference, "hypervolumes": values})
        print(f"{name:16s} min {min(values):.5f} median {np.median(values):.5f} max {max(values):.5f}")

    for name, low in (("zdt1", 0.0), ("zdt2", 0.0), ("zdt3", -0.8)):
        for generations in (50, 200):
            add(name, get_problem(name), 100, generations, [0.0, low], [1.1, 1.1], lambda seed: NSGA2(pop_size=100))
    problem = Levels()
    out = {}
    problem._evaluate(np.array([np.zeros(40, int), np.full(40, 2)]), out)
    (worst, least), (_, most) = out["F"].tolist()
    for name, mutation in (("levels step", StepMutation), ("levels redraw", RedrawMutation)):
        for generations in (20, 100):
            add(name, problem, 200, generations, [0.0, least], [worst, most],
                lambda seed: NSGA2(pop_size=200, sampling=Draw(np.random.default_rng(seed))(problem, 200),
                                   crossover=BinomialCrossover(prob=0.9, n_offsprings=1),
                                   mutation=mutation(prob=0.1), eliminate_duplicates=True))
    json.dump({"made_with": f"pymoo {pymoo.__version__}", "cases": cases}, open(sys.argv[1], "w"), indent=1)


main()
