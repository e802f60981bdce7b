#!/usr/bin/env python3
"""GA, PSO, SA and DE beside MEALPY's, on the same problems with the same number of evaluations.

    pip install mealpy
    cmake --preset bench && cmake --build --preset bench --target metaheuristics_bench
    python3 tools/compare_mealpy.py build/bench/bench/metaheuristics_bench [--seeds 51] [--csv runs.csv]

The program names the problems (sums of tables over levels; see bench/metaheuristics_bench.cpp) and runs ours; MEALPY
runs here with its defaults, a population of 10 and integer variables. Evaluations are counted in the function itself: the
best of the first N counts, first population included. Printed are medians over seeds, and the two-sided p of Wilcoxon's
rank-sum test of ours against each. MEALPY's SA comes as OriginalSA (the one that its documentation shows first) and SwarmSA.
"""

import argparse
import csv
import io
import json
import subprocess
import sys

import numpy as np
from mealpy import DE, GA, PSO, SA, IntegerVar
from scipy.stats import ranksums

POPULATION = 10
WORTHLESS = 1e9
THEIRS = {
    "ga": {"BaseGA": lambda epochs: GA.BaseGA(epochs, POPULATION)},
    "pso": {"OriginalPSO": lambda epochs: PSO.OriginalPSO(epochs, POPULATION)},
    "sa": {
        "OriginalSA": lambda epochs: SA.OriginalSA(epochs, 2),
        "SwarmSA": lambda epochs: SA.SwarmSA(epochs, POPULATION),
    },
    "de": {"OriginalDE": lambda epochs: DE.OriginalDE(epochs, POPULATION)},
}


class Enough(Exception):
    pass


class Function:
    """A problem that counts its evaluations and remembers the best of each prefix that is asked for."""

    def __init__(self, problem, checkpoints):
        self.problem = problem
        self.checkpoints = sorted(checkpoints)
        levels = np.array(problem["levels"])
        self.last = levels - 1
        self.groups = []
        by_arity = {}
        for term in problem["terms"]:
            by_arity.setdefault(len(term["variables"]), []).append(term)
        for terms in by_arity.values():
            variables = np.array([t["variables"] for t in terms])
            sizes = levels[variables]
            strides = np.ones_like(sizes)
            for k in range(sizes.shape[1] - 2, -1, -1):
                strides[:, k] = strides[:, k + 1] * sizes[:, k + 1]
            tables = np.concatenate([t["table"] for t in terms])
            offsets = np.cumsum([0] + [len(t["table"]) for t in terms[:-1]])
            self.groups.append((variables, strides, offsets, tables))
        self.sizes = problem["sizes"]
        self.restart()

    def restart(self):
        self.count = 0
        self.best = np.inf
        self.found = {}

    def value(self, point):
        total = sum(t[o + (point[v] * s).sum(axis=1)].sum() for v, s, o, t in self.groups)
        if self.sizes:
            size = sum(row[level] for row, level in zip(self.sizes, point))
            capacity = self.problem["capacity"]
            if size > capacity:
                return WORTHLESS + (size - capacity) / capacity
        if self.problem["paper"]:
            return -1000 / (np.exp(total) * (2 * len(point) + point.sum()))
        return total

    def __call__(self, solution):
        if self.count >= self.checkpoints[-1]:
            raise Enough
        # MEALPY's positions are real numbers half a level beyond the bounds; its own decoding rounds and clips.
        point = np.clip(np.rint(solution), 0, self.last).astype(int)
        value = float(self.value(point))
        self.count += 1
        self.best = min(self.best, value)
        if self.count in self.checkpoints:
            self.found[self.count] = self.best
        return value


def run_theirs(make, function, bounds, seed):
    function.restart()
    problem = {"bounds": bounds, "minmax": "min", "obj_func": function, "log_to": None}
    try:
        # More epochs than can be needed: the count ends the run. Schedules by epochs do not depend on it here,
        # but for SwarmSA's, which gets the number that it has evaluations for.
        make(function.checkpoints[-1]).solve(problem, seed=seed)
    except Enough:
        pass
    return function.found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--seeds", type=int, default=51)
    parser.add_argument("--evaluations", type=int, nargs="+", default=[110, 1010])
    parser.add_argument("--csv")
    arguments = parser.parse_args()

    problems = json.loads(subprocess.check_output([arguments.program, "--problems"]))
    command = [arguments.program, "--seeds", str(arguments.seeds)]
    for evaluations in arguments.evaluations:
        command += ["--evaluations", str(evaluations)]
    results = {}
    for row in csv.DictReader(io.StringIO(subprocess.check_output(command, text=True))):
        key = (row["problem"], int(row["evaluations"]), row["strategy"])
        results.setdefault(key, []).append(float(row["best"]))

    for problem in problems:
        levels = problem["levels"]
        bounds = IntegerVar(lb=[0] * len(levels), ub=[n - 1 for n in levels])
        for strategy, algorithms in THEIRS.items():
            for name, make in algorithms.items():
                for evaluations in arguments.evaluations:
                    function = Function(problem, [evaluations])
                    if name == "SwarmSA":
                        # 5 sub-iterations for every member.
                        epochs = max(1, (evaluations - POPULATION) // (5 * POPULATION))
                        chosen = lambda _, e=epochs: SA.SwarmSA(e, POPULATION)
                    else:
                        chosen = make
                    values = []
                    for seed in range(1, arguments.seeds + 1):
                        found = run_theirs(chosen, function, bounds, seed)
                        values.append(found.get(evaluations, function.best))
                    results[(problem["name"], evaluations, f"mealpy {name}")] = values

    print(f"{'problem':16}{'evals':>6}{'optimum':>12}  {'search':20}{'ours':>12}{'theirs':>12}{'p':>10}  better")
    for problem in problems:
        for evaluations in arguments.evaluations:
            for strategy, algorithms in THEIRS.items():
                for suffix in ("", "+repair"):
                    ours = results.get((problem["name"], evaluations, strategy + suffix))
                    if ours is None:
                        continue
                    for name in algorithms:
                        theirs = results[(problem["name"], evaluations, f"mealpy {name}")]
                        p = ranksums(ours, theirs).pvalue
                        a, b = np.median(ours), np.median(theirs)
                        better = "-" if p >= 0.05 else "ours" if np.mean(np.subtract.outer(ours, theirs) < 0) > 0.5 else "theirs"
                        optimum = problem["optimum"]
                        shown = "" if optimum is None else f"{optimum:.5g}"
                        print(f"{problem['name']:16}{evaluations:6}{shown:>12}  {strategy + suffix + ' / ' + name:20}"
                              f"{a:12.5g}{b:12.5g}{p:10.2g}  {better}")
    if arguments.csv:
        with open(arguments.csv, "w", newline="") as file:
            out = csv.writer(file)
            out.writerow(["problem", "evaluations", "search", "run", "best"])
            for (problem, evaluations, search), values in results.items():
                out.writerows([problem, evaluations, search, i, v] for i, v in enumerate(values))


if __name__ == "__main__":
    sys.exit(main())
