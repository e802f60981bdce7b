#!/usr/bin/env python3
"""Knapsaq against llama-quantize at equal bytes, judged by llama.cpp on text that neither saw.

    python tools/compare_llama_quantize.py MODEL --calibration TRAIN.txt --held-out TEST.txt --work DIR \\
        --llama-bin $(tools/build_llama_cpp.sh) --knapsaq build/release/knapsaq [--fit-options "--seed 1"]

MODEL is a folder in Hugging Face layout of an architecture that GGUF has. For each of llama-quantize's mixtures:
  theirs  llama-quantize with an importance matrix that llama-imatrix made of the calibration text
  ours    `knapsaq fit --for llama.cpp` with the same calibration text and theirs' bytes as its budget
and `llama-perplexity --kl-divergence` of both against the logits of MODEL as F16: mean KL divergence and its 99.9 %
quantile (nats), perplexity, and how often the most likely token stays the same. Only the second half of each chunk is
scored, as llama-perplexity does. --no-repack is given to it throughout.

Prints a table in Markdown; DIR gets results.json (everything that was measured, and the types in each file) and
results.svg. Ends with 1 if a file of ours is larger than its budget.

DIR keeps all that was made, and what lies there is not made again: a run that was stopped goes on when the same command
is given. It belongs to one model, the same texts and lengths. Ours lies in DIR/NAME (--name), which belongs to one
knapsaq program and one set of options: a changed one needs another NAME, and theirs is still not measured again.
--peers-only stops before ours.

F16's logits take (tokens of the vocabulary x chunks x context) bytes: 0.6 GB for 49152 tokens and 24 chunks of 512.
Needs Python alone, llama-quantize, llama-imatrix and llama-perplexity.
"""
import argparse
import collections
import hashlib
import html
import json
import math
import os
import pathlib
import re
import shlex
import struct
import subprocess
import sys

MIXTURES = ["Q2_K", "Q3_K_S", "Q3_K_M", "Q3_K_L", "Q4_0", "Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M", "Q6_K", "Q8_0"]


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
    """llama.cpp's programs, and what they make once for all mixtures."""

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
        # The text's path ends up in every mixture's file and so in the budgets: one that is the same everywhere.
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

    def mixture(self, name):
        return once(self.work / f"{name}.gguf", lambda partial: self.call(
            "llama-quantize", "--imatrix", "imatrix.gguf", "f16.gguf", partial.name, name, self.options.threads))

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

def fit(options, folder, budgets):
    """{mixture: GGUF file of ours within its budget}, for `budgets`: {mixture: bytes}. What knapsaq refuses is
    said and left out.

    All budgets share one run, so that its bank is made once and nothing is measured twice. --search each: one `fit` for
    every budget, which looks harder near it. --search once: one `fit` for the budget in the middle, the others `pick`
    from what that found."""
    files = {mixture: folder / f"{mixture}.gguf" for mixture in budgets}
    run = folder / "run"

    def knapsaq(verb, mixture, *arguments):
        if not files[mixture].exists():
            text = output_of([options.knapsaq, *verb, "--budget", budgets[mixture], "-o", files[mixture], "--threads",
                              options.threads, *arguments], options.work, may_refuse=True)
            write(folder / f"{mixture}.log", text)
            if not files[mixture].exists():
                say(f"  none within {budgets[mixture]} bytes: {text.strip()[-500:]}")

    verb = ["fit", options.model]
    arguments = ["--for", "llama.cpp", "--run", run, "--text", options.calibration, *shlex.split(options.fit_options)]
    if options.search == "each":
        for mixture in budgets:
            knapsaq(verb, mixture, *arguments)
    else:
        knapsaq(verb, sorted(budgets, key=budgets.get)[len(budgets) // 2], *arguments)
        for mixture in budgets:
            knapsaq(["pick", run], mixture)
    return {mixture: path for mixture, path in files.items() if path.exists()}


# ------------------------------------------------------------------ what is reported

def table(results):
    f16 = results["f16"]
    lines = [f"F16: {f16['bytes']:,} bytes, perplexity {f16['perplexity']:.4f}; {results['scored']} tokens scored. "
             "Theirs | ours; KL in nats.", "",
             "| mixture | bytes | ours | mean KL | ours | ratio | 99.9 % KL | ours | perplexity | ours | same top "
             "| ours |", "|---" * 12 + "|"]
    ratios = []
    for name, pair in results["mixtures"].items():
        theirs, ours = pair["theirs"], pair.get("ours")
        ratio = ours["mean_kl"] / theirs["mean_kl"] if ours else None
        ratios += [ratio] if ours else []

        def both(key, form, unit=""):
            return [format(theirs[key], form) + unit, format(ours[key], form) + unit if ours else ""]
        size = both("bytes", ",")
        if ours and ours["bytes"] > theirs["bytes"]:
            size[1] += " (over)"
        lines.append("| " + " | ".join(
            [name, *size, *both("mean_kl", ".6f"), f"{ratio:.3f}" if ours else "", *both("kl_99_9", ".5f"),
             *both("perplexity", ".4f"), *both("same_top", ".2f", " %")]) + " |")
    lines += [f"\n{name}: knapsaq writes no file of at most so many bytes."
              for name, pair in results["mixtures"].items() if "ours" in results and "ours" not in pair]
    if ratios:
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        lines += [f"\nMean KL, ours / theirs: geometric mean {mean:.3f}; ours is smaller in "
                  f"{sum(ratio < 1 for ratio in ratios)} of {len(ratios)}."]
    return "\n".join(lines)


# ------------------------------------------------------------------ the picture

def panel(key, title, results, left, width, height):
    """SVG of one measure (log scale) over megabytes, a mark per file."""
    sides = [("theirs", "#c2410c", "llama-quantize"), ("ours", "#1d4ed8", "knapsaq")]
    points = {side: [(name, pair[side]["bytes"] / 1e6, max(pair[side][key], 1e-6))
                     for name, pair in results["mixtures"].items() if side in pair] for side, _, _ in sides}
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
    for row, (side, colour, label) in enumerate(sides):
        some = sorted(points[side], key=lambda point: point[1])
        if not some:
            continue
        spots = [place(x, y) for _, x, y in some]
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" opacity="0.6" points="'
                     + " ".join(f"{x:.1f},{y:.1f}" for x, y in spots) + '"/>')
        for (name, size, value), (x, y) in zip(some, spots):
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"><title>{label} {name}: '
                         f'{size:.2f} MB, {value:.5f}</title></circle>')
            if side == "theirs":
                parts.append(f'<text transform="translate({x + 4:.1f} {y - 6:.1f}) rotate(-40)" font-size="10" '
                             f'fill="#555">{name}</text>')
        parts.append(f'<text x="{left + width}" y="{top + 16 * (row + 1)}" text-anchor="end" '
                     f'fill="{colour}">{label}</text>')
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
    parser.add_argument("--mixtures", nargs="+", default=MIXTURES, metavar="MIXTURE", help=" ".join(MIXTURES))
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
               "scored": options.chunks * (options.context - 1 - options.context // 2), "mixtures": {}}
    for name in options.mixtures:
        say(f"{name} by llama-quantize")
        path = llama.mixture(name)
        results["mixtures"][name] = {"theirs": kept(options.work / f"{name}.json", lambda: llama.measure(path))}
    results["f16"] = {"bytes": f16.stat().st_size,
                      "perplexity": results["mixtures"][options.mixtures[0]]["theirs"]["f16_perplexity"]}

    if not options.peers_only:
        folder = options.work / options.name
        belongs(folder, {"knapsaq program": digest(options.knapsaq), "set of fit options": options.fit_options,
                         "search": options.search}, "give another --name")
        say("ours by knapsaq")
        budgets = {name: pair["theirs"]["bytes"] for name, pair in results["mixtures"].items()}
        for name, path in fit(options, folder, budgets).items():
            results["mixtures"][name]["ours"] = kept(folder / f"{name}.json", lambda: llama.measure(path))
        results["ours"] = json.loads((folder / "settings.json").read_text())

    write(options.work / "results.json", json.dumps(results, indent=1))
    write(options.work / "results.svg", picture(results))
    print(table(results))
    over = [name for name, pair in results["mixtures"].items()
            if "ours" in pair and pair["ours"]["bytes"] > pair["theirs"]["bytes"]]
    if over:
        fail(f"larger than the budget: {', '.join(over)}")


if __name__ == "__main__":
    main()
