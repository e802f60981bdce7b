#!/usr/bin/env python3
"""Knapsaq against llama-quantize and the recipes of well-known GGUF files at equal bytes, judged by llama.cpp on text
that neither saw.

    python tools/compare_llama_quantize.py MODEL --calibration TRAIN.txt --held-out TEST.txt --work DIR \\
        --llama-bin $(tools/build_llama_cpp.sh) --knapsaq build/release/knapsaq [--fit-options "--seed 1"] [--sizes 12]

MODEL is a folder in Hugging Face layout of an architecture that GGUF has.
  opponents  files of llama-quantize, all with an importance matrix that llama-imatrix made of the calibration text: its
             mixtures of K and legacy types, its mixtures of IQ types, and the RECIPES below
  ours       `knapsaq fit --for llama.cpp` with the same calibration text, and an opponent's bytes as its budget
`llama-perplexity --kl-divergence` judges all of them against the logits of MODEL as F16: mean KL divergence and its
99.9 % quantile (nats), perplexity, and how often the most likely token stays the same. Only the second half of each
chunk is scored, as llama-perplexity does. --no-repack is given to it throughout.

Ours at a size is compared with the best opponent of at most the same bytes, by each measure on its own. Prints tables
in Markdown; DIR gets results.json (everything that was measured, and the types in each file) and results.svg. Ends with
1 if a file of ours is larger than its budget.

DIR keeps all measurements, and what lies there is not made again: a run that was stopped goes on when the same command
is given. An opponent's file is removed once it is measured (--keep-files: not). DIR belongs to one model, the same
texts and lengths. Ours lies in DIR/NAME (--name), which belongs to one knapsaq program and one set of options: a
changed one needs another NAME, and the opponents are still not measured again. --peers-only stops before ours.

F16's logits take (tokens of the vocabulary x chunks x context) bytes: 0.6 GB for 49152 tokens and 24 chunks of 512.
Needs Python alone, llama-quantize, llama-imatrix and llama-perplexity.
"""
import argparse
import collections
import dataclasses
import hashlib
import html
import json
import math
import os
import pathlib
import re
import shlex
import statistics
import struct
import subprocess
import sys

K_MIXTURES = ["Q2_K_S", "Q2_K", "Q3_K_S", "Q3_K_M", "Q3_K_L", "Q4_0", "Q4_1", "Q4_K_S", "Q4_K_M", "Q5_0", "Q5_1",
              "Q5_K_S", "Q5_K_M", "Q6_K", "Q8_0"]
IQ_MIXTURES = ["IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ3_XXS", "IQ3_XS", "IQ3_S", "IQ3_M", "IQ4_XS", "IQ4_NL"]
# Below the sizes that the contest is about; --opponents takes them, too.
SMALLEST_MIXTURES = ["IQ1_S", "IQ1_M"]

# ------------------------------------------------------------------ recipes of others, re-stated

# Types by bits. One type higher is the next in a base's list.
LADDERS = [["q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "q8_0"],
           ["iq2_xxs", "iq2_xs", "iq2_s", "iq3_xxs", "iq3_s", "iq4_xs", "q5_k", "q6_k", "q8_0"]]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What the makers of GGUF files change about a type or a mixture of llama-quantize."""
    base: str  # llama-quantize's type
    ends: str  # type of embedding and head
    raised: dict = dataclasses.field(default_factory=dict)  # {role: types higher}; empty: the mixture's own choice
    edges: int = 0  # so many types higher are all matrices of the first and of the last eighth of the blocks


# Embedding and head in Q8_0, the rest as in the mixture: the files that end in _L or _XL (bartowski's model cards).
LARGE = {"Q2_K_L": Recipe("Q2_K", "q8_0"), "Q3_K_XL": Recipe("Q3_K_L", "q8_0"), "Q4_K_L": Recipe("Q4_K_M", "q8_0"),
         "Q5_K_L": Recipe("Q5_K_M", "q8_0"), "Q6_K_L": Recipe("Q6_K", "q8_0")}
# By role: values and what writes to the residual stream higher, keys a little (what descriptions of Unsloth's dynamic
# files and of ubergarm's have in common; their choices for single blocks are not published as rules).
BY_ROLE = {"attn_v": 2, "attn_k": 1, "attn_output": 1, "ffn_down": 1}
# The first and last blocks higher, values and ffn_down everywhere (the rule behind llama.cpp's _M mixtures, and the
# boosts of llama.cpp #15550, without their exceptions).
BY_PLACE = {"attn_v": 1, "ffn_down": 1}


def recipes():
    found = dict(LARGE)
    for base in ["IQ2_XXS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_XS", "Q2_K", "Q3_K", "Q4_K", "Q5_K"]:
        found[f"{base}-roles"] = Recipe(base, "q8_0", BY_ROLE)
        found[f"{base}-edges"] = Recipe(base, "q6_k", BY_PLACE, edges=1)
    return found


RECIPES = recipes()
OPPONENTS = K_MIXTURES + IQ_MIXTURES + list(RECIPES)


def higher(kind, steps):
    """The type so many places above; the highest one if there are fewer."""
    ladder = next(ladder for ladder in LADDERS if kind in ladder)
    return ladder[min(ladder.index(kind) + steps, len(ladder) - 1)]


def recipe_options(recipe, blocks):
    """llama-quantize's options for a model with so many blocks. Of several patterns that match, it takes the first."""
    def pattern(name, kind):
        return ["--tensor-type", f"{name}={kind}"]
    # --tensor-type falls back to a smaller block where a row does not hold whole ones; --token-embedding-type does not.
    options = pattern(r"^token_embd\.", recipe.ends) + pattern(r"^output\.weight", recipe.ends)
    if not recipe.raised:
        return options
    base = recipe.base.lower()
    if recipe.edges:
        eighth = max(1, blocks // 8)
        ends = "|".join(map(str, [*range(eighth), *range(max(eighth, blocks - eighth), blocks)]))
        for role, steps in recipe.raised.items():
            options += pattern(rf"blk\.({ends})\.{role}\.", higher(base, steps + recipe.edges))
        options += pattern(rf"blk\.({ends})\.", higher(base, recipe.edges))
    for role, steps in recipe.raised.items():
        options += pattern(rf"blk\.\d+\.{role}\.", higher(base, steps))
    return options + pattern(r"blk\.", base)


def say(text):
    print(text, file=sys.stderr, flush=True)


def fail(text):
    sys.exit(f"compare_llama_quantize: {text}")


# ------------------------------------------------------------------ steps whose outputs appear whole

def output_of(command, folder, may_refuse=False):
    """What a program run in `folder` prints. One that fails ends this one; code 1 does not with may_refuse."""
    command = [str(word) for word in command]
    say("  " + shlex.join(command))
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace", stdin=subprocess.DEVNULL)
    if done.returncode != 0 and not (may_refuse and done.returncode == 1):
        fail(f"{shlex.join(command)} ended with {done.returncode}:\n{done.stdout.strip()[-2000:]}")
    return done.stdout


def once(path, make):
    """The file `path`, which make(partial path) writes if it is not there."""
    if not path.exists():
        partial = path.with_name("partial-" + path.name)
        partial.unlink(missing_ok=True)
        make(partial)
        partial.rename(path)
    return path


def write(path, text):
    partial = path.with_name("partial-" + path.name)
    partial.write_text(text)
    partial.rename(path)


def kept(path, measure):
    """The JSON object in `path`; measure() if it is not there."""
    return json.loads(once(path, lambda partial: partial.write_text(json.dumps(measure(), indent=1))).read_text())


def belongs(folder, settings, way_out):
    """Makes `folder` that of these settings, or ends because it is that of others."""
    folder.mkdir(parents=True, exist_ok=True)
    found = kept(folder / "settings.json", lambda: settings)
    for key in settings:
        if found.get(key) != settings[key]:
            fail(f"{folder} was made with another {key} ({found.get(key)}, not {settings[key]}); {way_out}")


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ------------------------------------------------------------------ types in a GGUF file

GGML_TYPES = {0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 10: "Q2_K", 11: "Q3_K",
              12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 20: "IQ4_NL",
              21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS", 29: "IQ1_M", 30: "BF16", 42: "Q2_0"}
VALUE_SIZES = [1, 1, 2, 2, 4, 4, 4, 1, None, None, 8, 8, 8]  # bytes of a metadata value; 8: text, 9: array


def tensor_types(path):
    """{tensor: type} of a GGUF file, in its order."""
    with open(path, "rb") as file:
        def number(form):
            return struct.unpack("<" + form, file.read(struct.calcsize("<" + form)))[0]

        def text():
            return file.read(number("Q")).decode()

        def skip(kind):
            if kind == 8:
                file.seek(number("Q"), os.SEEK_CUR)
            elif kind == 9:
                kind, count = number("I"), number("Q")
                if kind in (8, 9):
                    for _ in range(count):
                        skip(kind)
                else:
                    file.seek(VALUE_SIZES[kind] * count, os.SEEK_CUR)
            else:
                file.seek(VALUE_SIZES[kind], os.SEEK_CUR)

        if file.read(4) != b"GGUF":
            fail(f"{path} is no GGUF file")
        number("I")
        tensors, pairs = number("Q"), number("Q")
        for _ in range(pairs):
            text()
            skip(number("I"))
        types = {}
        for _ in range(tensors):
            name = text()
            file.seek(8 * number("I"), os.SEEK_CUR)
            kind = number("I")
            types[name] = GGML_TYPES.get(kind, f"type {kind}")
            number("Q")
    return types


def types_by_role(path):
    """{role: {type: tensors}} of the tensors that are quantized: token_embd, output, attn_q, .. over all blocks."""
    roles = collections.defaultdict(collections.Counter)
    for name, kind in tensor_types(path).items():
        if kind != "F32":
            roles[re.sub(r"^blk\.\d+\.", "", name).removesuffix(".weight")][kind] += 1
    return {role: dict(kinds) for role, kinds in roles.items()}


# ------------------------------------------------------------------ llama.cpp's side

NUMBER = r"\s*: *(-?[\d.]+)"
ERROR = r"\s*: *-?[\d.]+ *± *([\d.]+)"
MEASURES = {
    "perplexity": r"Mean PPL\(Q\)" + NUMBER,
    "perplexity_error": r"Mean PPL\(Q\)" + ERROR,
    "f16_perplexity": r"Mean PPL\(base\)" + NUMBER,
    "mean_kl": r"Mean\s+KLD" + NUMBER,
    "mean_kl_error": r"Mean\s+KLD" + ERROR,
    "median_kl": r"Median\s+KLD" + NUMBER,
    "kl_99": r"99\.0%\s+KLD" + NUMBER,
    "kl_99_9": r"99\.9%\s+KLD" + NUMBER,
    "max_kl": r"Maximum KLD" + NUMBER,
    "same_top": r"Same top p" + NUMBER,  # percent
    "same_top_error": r"Same top p" + ERROR,
}


class Llama:
    """llama.cpp's programs, and what they make once for all opponents."""

    def __init__(self, options):
        self.work, self.options = options.work, options
        self.length = ["-c", options.context, "-t", options.threads]

    def call(self, program, *arguments):
        return output_of([self.options.llama_bin / program, *arguments], self.work)

    def f16(self):
        """MODEL as F16. Knapsaq exports it in the types that it has; llama-quantize converts other types."""
        def export(partial):
            output_of([self.options.knapsaq, "export", self.options.model, "--format", "gguf", "-o", partial.name],
                      self.work)
        path = self.work / "f16.gguf"
        if path.exists():
            return path
        whole = once(self.work / "whole.gguf", export)
        if set(tensor_types(whole).values()) == {"F16", "F32"}:
            whole.rename(path)
            return path
        return once(path, lambda partial: self.call("llama-quantize", whole.name, partial.name, "F16"))

    def imatrix(self):
        # The text's path ends up in every opponent's file and so in the budgets: one that is the same everywhere.
        text = self.work / "calibration.txt"
        text.unlink(missing_ok=True)
        text.symlink_to(self.options.calibration)
        chunks = ["--chunks", self.options.imatrix_chunks] if self.options.imatrix_chunks else []
        return once(self.work / "imatrix.gguf", lambda partial: self.call(
            "llama-imatrix", "-m", "f16.gguf", "-f", text.name, "-o", partial.name, "--no-ppl", *self.length, *chunks))

    def logits(self):
        return once(self.work / "logits.bin", lambda partial: self.call(
            "llama-perplexity", "-m", "f16.gguf", "-f", self.options.held_out, "--kl-divergence-base", partial.name,
            "--chunks", self.options.chunks, "--no-repack", *self.length))

    def opponent(self, name):
        recipe, changes = RECIPES.get(name), []
        if recipe:
            blocks = {match[1] for match in map(re.compile(r"blk\.(\d+)\.").match, tensor_types(self.f16())) if match}
            changes = recipe_options(recipe, len(blocks))
        return once(self.work / f"{name}.gguf", lambda partial: self.call(
            "llama-quantize", "--imatrix", "imatrix.gguf", *changes, "f16.gguf", partial.name,
            recipe.base if recipe else name, self.options.threads))

    def measure(self, path):
        """The reported properties of a GGUF file."""
        for _ in range(5):  # as others build it, it ends now and then before its last lines are printed
            text = self.call("llama-perplexity", "-m", path, "--kl-divergence", "--kl-divergence-base", "logits.bin",
                             "--no-repack", *self.length)
            found = {key: re.search(pattern, text) for key, pattern in MEASURES.items()}
            if all(found.values()):
                return {"bytes": path.stat().st_size, **{key: float(match.group(1)) for key, match in found.items()},
                        "types": types_by_role(path)}
        fail(f"llama-perplexity says nothing of {', '.join(key for key in found if not found[key])}:\n{text[-2000:]}")


# ------------------------------------------------------------------ our side

def chosen_sizes(options, opponents):
    """{opponent: bytes} of those whose sizes ours is made at. Of equal sizes one is enough."""
    sizes = {}
    for name, one in sorted(opponents.items(), key=lambda item: (item[1]["bytes"], item[0])):
        if one["bytes"] not in sizes.values():
            sizes[name] = one["bytes"]
    if options.only:
        return {name: opponents[name]["bytes"] for name in options.only}
    if not options.sizes or options.sizes >= len(sizes):
        return sizes
    # Evenly by ratio, each at the opponent next to it.
    low, high = math.log(min(sizes.values())), math.log(max(sizes.values()))
    steps = max(1, options.sizes - 1)
    wanted = [low + (high - low) * step / steps for step in range(options.sizes)]
    near = {min(sizes, key=lambda name: abs(math.log(sizes[name]) - place)) for place in wanted}
    return {name: size for name, size in sizes.items() if name in near}


def fit(options, folder, budgets):
    """{opponent: GGUF file of ours within its bytes}, for `budgets`: {opponent: bytes}. What knapsaq refuses is said
    and left out.

    All budgets share one run, so that its bank is made once and nothing is measured twice. --search each: one `fit` for
    every budget, which looks harder near it. --search once: one `fit` for the budget in the middle, the others `pick`
    from what that found."""
    files = {name: folder / f"{name}.gguf" for name in budgets}
    run = folder / "run"

    def knapsaq(verb, name, *arguments):
        if not files[name].exists():
            text = output_of([options.knapsaq, *verb, "--budget", budgets[name], "-o", files[name], "--threads",
                              options.threads, *arguments], options.work, may_refuse=True)
            write(folder / f"{name}.log", text)
            if not files[name].exists():
                say(f"  none within {budgets[name]} bytes: {text.strip()[-500:]}")

    verb = ["fit", options.model]
    arguments = ["--for", "llama.cpp", "--run", run, "--text", options.calibration, *shlex.split(options.fit_options)]
    if options.search == "each":
        for name in budgets:
            knapsaq(verb, name, *arguments)
    else:
        knapsaq(verb, sorted(budgets, key=budgets.get)[len(budgets) // 2], *arguments)
        for name in budgets:
            knapsaq(["pick", run], name)
    return {name: path for name, path in files.items() if path.exists()}


# ------------------------------------------------------------------ what is reported

COMPARED = {"mean_kl": "mean KL", "kl_99_9": "99.9 % KL", "perplexity": "perplexity", "same_top": "same top"}


def best(opponents, key, most):
    """The name of the best opponent of at most so many bytes; None if there is none."""
    fit_in = [name for name, one in opponents.items() if one["bytes"] <= most]
    sign = -1 if key == "same_top" else 1
    return min(fit_in, key=lambda name: (sign * opponents[name][key], opponents[name]["bytes"]), default=None)


def opponents_table(results):
    opponents = results["opponents"]
    lines = ["| opponent | bytes | mean KL | 99.9 % KL | perplexity | same top | best of its size |", "|---" * 7 + "|"]
    for name, one in sorted(opponents.items(), key=lambda item: item[1]["bytes"]):
        ahead = [title for key, title in COMPARED.items() if best(opponents, key, one["bytes"]) == name]
        lines.append(f"| {name} | {one['bytes']:,} | {one['mean_kl']:.6f} ± {one['mean_kl_error']:.6f} "
                     f"| {one['kl_99_9']:.5f} | {one['perplexity']:.4f} | {one['same_top']:.2f} % "
                     f"| {', '.join(ahead)} |")
    return lines


def ours_table(results):
    opponents = results["opponents"]
    lines = ["| size of | bytes | ours | mean KL | best | ratio | 99.9 % KL | best | ratio | perplexity | best "
             "| same top | best |", "|---" * 13 + "|"]
    ratios, behind = {"mean_kl": [], "kl_99_9": []}, collections.defaultdict(list)
    for name, one in sorted(results["ours"].items(), key=lambda item: item[1]["budget"]):
        rival = {key: best(opponents, key, one["budget"]) for key in COMPARED}
        theirs = {key: opponents[rival[key]][key] for key in COMPARED}
        for key in ratios:
            ratios[key].append(one[key] / theirs[key])
        for key, title in COMPARED.items():
            if one[key] < theirs[key] if key == "same_top" else one[key] > theirs[key]:
                behind[title].append(name)
        over = " (over)" if one["bytes"] > one["budget"] else ""
        lines.append(
            f"| {name} | {one['budget']:,} | {one['bytes']:,}{over} "
            f"| {one['mean_kl']:.6f} ± {one['mean_kl_error']:.6f} | {theirs['mean_kl']:.6f} ± "
            f"{opponents[rival['mean_kl']]['mean_kl_error']:.6f} {rival['mean_kl']} | {ratios['mean_kl'][-1]:.3f} "
            f"| {one['kl_99_9']:.5f} | {theirs['kl_99_9']:.5f} {rival['kl_99_9']} | {ratios['kl_99_9'][-1]:.3f} "
            f"| {one['perplexity']:.4f} | {theirs['perplexity']:.4f} {rival['perplexity']} "
            f"| {one['same_top']:.2f} % | {theirs['same_top']:.2f} % {rival['same_top']} |")
    for key, values in ratios.items():
        if values:
            lines.append(f"\n{COMPARED[key]}, ours / the best opponent of at most the same bytes: median "
                         f"{statistics.median(values):.3f}, worst {max(values):.3f}; ours is smaller in "
                         f"{sum(value < 1 for value in values)} of {len(values)}.")
    lines += [f"\nBehind in {title}: {', '.join(names)}." for title, names in behind.items()]
    lines += [f"\n{name}: knapsaq writes no file of at most so many bytes." for name in results.get("refused", [])]
    return lines


def table(results):
    f16 = results["f16"]
    lines = [f"F16: {f16['bytes']:,} bytes, perplexity {f16['perplexity']:.4f}; {results['scored']} tokens scored. "
             "KL in nats; ± is a standard error; \"best\": the best opponent of at most the same bytes.", "",
             *opponents_table(results)]
    if "ours" in results:
        lines += ["", *ours_table(results)]
    return "\n".join(lines)


# ------------------------------------------------------------------ the picture

def family(name):
    return "recipes" if name in RECIPES else "IQ mixtures" if name.startswith("IQ") else "K and legacy mixtures"


COLOURS = {"knapsaq": "#1d4ed8", "recipes": "#15803d", "IQ mixtures": "#7e22ce", "K and legacy mixtures": "#c2410c"}


def panel(key, title, results, left, width, height):
    """SVG of one measure (log scale) over megabytes, a mark per file; a line through ours."""
    points = collections.defaultdict(list)
    for name, one in results["opponents"].items():
        points[family(name)].append((name, one["bytes"] / 1e6, max(one[key], 1e-6)))
    for name, one in results.get("ours", {}).items():
        points["knapsaq"].append((name, one["bytes"] / 1e6, max(one[key], 1e-6)))
    xs = [x for some in points.values() for _, x, _ in some]
    ys = [math.log10(y) for some in points.values() for _, _, y in some]
    low, high = math.floor(min(ys) * 2) / 2, math.ceil(max(ys) * 2 + 0.3) / 2
    near, far = min(xs) - 0.04 * (max(xs) - min(xs) or 1), max(xs) + 0.1 * (max(xs) - min(xs) or 1)
    top, bottom = 34, height - 42

    def place(x, y):
        return (left + (x - near) / (far - near) * width,
                bottom - (math.log10(y) - low) / (high - low) * (bottom - top))

    parts = [f'<text x="{left}" y="20" font-weight="bold">{title}</text>']
    for exponent in range(math.floor(low), math.ceil(high) + 1):
        for factor in (1, 2, 5):
            value = factor * 10.0**exponent
            if low <= math.log10(value) <= high:
                _, y = place(near, value)
                parts.append(f'<line x1="{left}" x2="{left + width}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>'
                             f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end" fill="#555">{value:g}</text>')
    raw = (far - near) / 6
    power = 10.0**math.floor(math.log10(raw))
    step = min((factor * power for factor in (1, 2, 5, 10)), key=lambda size: abs(size - raw))
    for count in range(math.ceil(near / step), math.floor(far / step) + 1):
        x, _ = place(count * step, 10**low)
        parts.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle" fill="#555">{count * step:g}</text>')
    parts.append(f'<text x="{left + width / 2}" y="{height - 6}" text-anchor="middle" fill="#555">MB</text>')
    shown = [name for name in COLOURS if points[name]]
    for row, name in enumerate(shown):
        colour = COLOURS[name]
        spots = [(one, place(one[1], one[2])) for one in sorted(points[name], key=lambda point: point[1])]
        if name == "knapsaq":
            parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" opacity="0.6" points="'
                         + " ".join(f"{x:.1f},{y:.1f}" for _, (x, y) in spots) + '"/>')
        for (label, size, value), (x, y) in spots:
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"><title>{html.escape(label)} '
                         f'({name}): {size:.2f} MB, {value:.5f}</title></circle>')
        parts.append(f'<text x="{left + width}" y="{top + 16 * (row + 1)}" text-anchor="end" '
                     f'fill="{colour}">{name}</text>')
    return "\n".join(parts)


def picture(results):
    width, height = 470, 400
    panels = [panel(key, title, results, 60 + index * (width + 70), width, height) for index, (key, title) in enumerate(
        [("mean_kl", "mean KL to F16 (nats)"), ("kl_99_9", "99.9 % quantile of KL (nats)")])]
    total = 60 + 2 * width + 70 + 20
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total} {height}" font-family="sans-serif" '
            'font-size="12">\n'
            f'<title>{html.escape(results["model"])}: knapsaq and llama-quantize</title>\n'
            f'<rect width="{total}" height="{height}" fill="white"/>\n' + "\n".join(panels) + "\n</svg>\n")


# ------------------------------------------------------------------ the command

def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path, help="folder in Hugging Face layout")
    parser.add_argument("--calibration", type=pathlib.Path, required=True, help="text for the imatrix and for knapsaq")
    parser.add_argument("--held-out", type=pathlib.Path, required=True, help="text that both are judged on")
    parser.add_argument("--work", type=pathlib.Path, required=True, help="folder that keeps everything")
    parser.add_argument("--llama-bin", type=pathlib.Path, required=True, help="folder with llama.cpp's programs")
    parser.add_argument("--knapsaq", type=pathlib.Path, default=pathlib.Path("build/release/knapsaq"))
    parser.add_argument("--opponents", nargs="+", default=OPPONENTS, metavar="NAME",
                        help="default: " + " ".join(OPPONENTS) + "; also " + " ".join(SMALLEST_MIXTURES))
    parser.add_argument("--sizes", type=int, default=0, metavar="N",
                        help="ours at so many of the opponents' sizes, evenly from the smallest to the largest (all)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="ours at the sizes of these opponents")
    parser.add_argument("--keep-files", action="store_true", help="keep the opponents' files once they are measured")
    parser.add_argument("--fit-options", default="", help="further options of knapsaq fit, in one word")
    parser.add_argument("--search", choices=["each", "once"], default="each",
                        help="a fit for every budget in one run (each), or one fit, then picks (once)")
    parser.add_argument("--name", default="knapsaq", help="folder in --work for our files")
    parser.add_argument("--peers-only", action="store_true", help="llama-quantize's side alone")
    parser.add_argument("--chunks", type=int, default=24, help="windows of the held-out text (24)")
    parser.add_argument("--context", type=int, default=512, help="tokens in a window (512)")
    parser.add_argument("--imatrix-chunks", type=int, default=128,
                        help="windows of the calibration text that the imatrix is made of (128); 0: all")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    for key in ("model", "calibration", "held_out", "work", "llama_bin", "knapsaq"):
        setattr(options, key, getattr(options, key).resolve())
        if key != "work" and not getattr(options, key).exists():
            fail(f"there is no {getattr(options, key)} (--{key.replace('_', '-')})")
    known = OPPONENTS + SMALLEST_MIXTURES
    for name in [*options.opponents, *(options.only or [])]:
        if name not in known:
            fail(f"there is no opponent {name}; there are {', '.join(known)}")
    for name in options.only or []:
        if name not in options.opponents:
            fail(f"--only {name}: that is none of the --opponents")
    if options.sizes < 0 or options.sizes and options.only:
        fail("--sizes is a number from 1 on, and does not go with --only")
    for program in ("llama-quantize", "llama-imatrix", "llama-perplexity"):
        if not (options.llama_bin / program).exists():
            fail(f"there is no {program} in {options.llama_bin}; tools/build_llama_cpp.sh makes one")
    return options


def main():
    options = parse()
    belongs(options.work, {
        "model": {file.name: file.stat().st_size for file in sorted(options.model.iterdir())},
        "calibration text": digest(options.calibration), "held-out text": digest(options.held_out),
        "number of chunks": options.chunks, "context": options.context,
        "number of imatrix chunks": options.imatrix_chunks,
    }, "give another --work")
    llama = Llama(options)
    say("F16, imatrix and logits")
    f16 = llama.f16()
    llama.imatrix()
    llama.logits()

    results = {"model": options.model.name, "settings": json.loads((options.work / "settings.json").read_text()),
               "scored": options.chunks * (options.context - 1 - options.context // 2), "opponents": {}}
    for name in options.opponents:
        say(f"{name} by llama-quantize")
        # The options are kept with what was measured: a recipe that has changed since is measured again.
        measured = options.work / f"{name}.json"
        recipe = dataclasses.asdict(RECIPES[name]) if name in RECIPES else None
        if measured.exists() and json.loads(measured.read_text()).get("recipe") != recipe:
            measured.unlink()
            (options.work / f"{name}.gguf").unlink(missing_ok=True)
        results["opponents"][name] = kept(measured, lambda: {**llama.measure(llama.opponent(name)), "recipe": recipe})
        if not options.keep_files:
            (options.work / f"{name}.gguf").unlink(missing_ok=True)
    results["f16"] = {"bytes": f16.stat().st_size,
                      "perplexity": results["opponents"][options.opponents[0]]["f16_perplexity"]}

    if not options.peers_only:
        folder = options.work / options.name
        belongs(folder, {"knapsaq program": digest(options.knapsaq), "set of fit options": options.fit_options,
                         "search": options.search}, "give another --name")
        say("ours by knapsaq")
        budgets = chosen_sizes(options, results["opponents"])
        files = fit(options, folder, budgets)
        results["ours"] = {name: {**kept(folder / f"{name}.json", lambda: llama.measure(path)), "budget": budgets[name]}
                           for name, path in files.items()}
        results["refused"] = [name for name in budgets if name not in files]
        results["our_settings"] = json.loads((folder / "settings.json").read_text())

    write(options.work / "results.json", json.dumps(results, indent=1))
    write(options.work / "results.svg", picture(results))
    print(table(results))
    over = [name for name, one in results.get("ours", {}).items() if one["bytes"] > one["budget"]]
    if over:
        fail(f"larger than the budget: {', '.join(over)}")


if __name__ == "__main__":
    main()
