#!/usr/bin/env python3
"""Knapsaq's tasks against lm-evaluation-harness: its own prompts, its HFLM and its metrics on local files.

  python3 -m venv VENV && VENV/bin/pip install torch==2.13.0 transformers accelerate lm-eval   # any torch for the CPU does
  VENV/bin/python tools/compare_lm_eval.py compare MODEL --data FOLDER --limit 200
      log-likelihoods and choices of every item; ends with an error unless all choices in fp32 are equal
  VENV/bin/python tools/compare_lm_eval.py speed MODEL --data FOLDER --limit 200 --rounds 3
      items per second of both, alternating
  VENV/bin/python tools/compare_lm_eval.py references
      writes tests/data/eval/tasks/references.json from the made-up items beside it

FOLDER has NAME.jsonl files in the benchmarks' own layouts or in the common one (`query`, `choices`, `gold`; for
WinoGrande `context_options`, `continuation`, `gold`), which is turned back into the benchmark's own here: the
harness sees its original fields and makes its own prompts. Its data sets are not downloaded.
"""
import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

TASKS = ("arc_easy", "arc_challenge", "piqa", "hellaswag", "winogrande", "boolq")
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MADE = os.path.join(ROOT, "tests", "data", "eval", "tasks")


# ---- data ------------------------------------------------------------------------------------------------

def original(task, row):
    """A row of the common layout with the benchmark's own fields; other rows are what they are."""
    if task == "winogrande" and "context_options" in row:
        a, b = row["context_options"]
        start = os.path.commonprefix([a, b])
        return {"sentence": start + "_ " + row["continuation"], "option1": a[len(start):],
                "option2": b[len(start):], "answer": str(row["gold"] + 1)}
    if "query" not in row:
        # A column of a data set has one type: labels are published as numbers, texts and truth values.
        if task == "boolq":
            return {"passage": row["passage"], "question": row["question"],
                    "label": int(row.get("label", row.get("answer")))}
        if task.startswith("arc") and isinstance(row["question"], dict):
            choices = row["question"]["choices"]
            return {"question": row["question"]["stem"], "answerKey": row["answerKey"],
                    "choices": {"text": [c["text"] for c in choices], "label": [c["label"] for c in choices]}}
        return {**row, "label": str(row["label"])} if task == "hellaswag" else row
    query, choices, gold = row["query"], row["choices"], row["gold"]
    if task in ("arc_easy", "arc_challenge"):
        labels = [chr(ord("A") + i) for i in range(len(choices))]
        return {"question": query[len("Question: "):], "choices": {"text": choices, "label": labels},
                "answerKey": labels[gold]}
    if task == "piqa":
        return {"goal": query[len("Question: "):].removesuffix("\n"), "sol1": choices[0], "sol2": choices[1],
                "label": gold}
    if task == "boolq":
        passage, question = query[len("Passage: "):].rsplit("\nQuestion: ", 1)
        return {"passage": passage, "question": question.removesuffix("?"), "label": gold}
    # HellaSwag's texts are cleaned already. A bracket in front keeps a leading blank through the cleaning.
    activity, context = query.split(": ", 1)
    return {"activity_label": activity, "ctx_a": context, "ctx_b": "", "label": str(gold),
            "endings": ["[step]" + c if c.startswith(" ") else c for c in choices]}


def read_rows(folder, task, limit):
    with open(os.path.join(folder, task + ".jsonl"), encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines if line.strip()]
    return [original(task, row) for row in rows[:limit or None]]


# ---- the two sides -----------------------------------------------------------------------------------------

class Harness:
    """lm-evaluation-harness with a model in fp32 on the CPU."""

    def __init__(self, model, threads, batch_size):
        import datasets
        import lm_eval
        import torch
        from lm_eval.api import task as api
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager
        torch.set_num_threads(threads)
        self.versions = {"lm_eval": lm_eval.__version__, "torch": torch.__version__}
        self.lm_eval = lm_eval
        self.datasets = datasets
        self.api = api
        self.model = HFLM(pretrained=model, dtype="float32", device="cpu", batch_size=batch_size)
        self.manager = TaskManager()

    def run(self, folder, tasks, limit):
        """Per task: (metrics, per item a dict of lls, acc, acc_norm)."""
        rows = {task: read_rows(folder, task, limit) for task in tasks}
        results = {}
        seconds = 0
        for task in tasks:
            data = self.datasets.Dataset.from_list(rows[task])
            splits = self.datasets.DatasetDict({s: data for s in ("train", "validation", "test")})
            self.api.datasets.load_dataset = lambda *_, splits=splits, **__: splits
            begin = time.perf_counter()
            found = self.lm_eval.simple_evaluate(model=self.model, tasks=[task], log_samples=True,
                                                 bootstrap_iters=1, task_manager=self.manager)
            seconds += time.perf_counter() - begin
            samples = sorted(found["samples"][task], key=lambda s: s["doc_id"])
            items = [{"log_likelihoods": [float(r[0]) for r in s["filtered_resps"]],
                      "acc": float(s["acc"]), "acc_norm": float(s.get("acc_norm", -1))} for s in samples]
            metrics = {name.split(",")[0]: value for name, value in found["results"][task].items()
                       if name.startswith("acc")}
            results[task] = (metrics, items)
        return results, seconds


def run_knapsaq(program, model, folder, tasks, limit, precision, threads):
    with tempfile.TemporaryDirectory() as scratch:
        samples = os.path.join(scratch, "samples.jsonl")
        begin = time.perf_counter()
        out = subprocess.run([program, "eval", model, "--tasks", ",".join(tasks), "--data", folder, "--limit",
                              str(limit), "--precision", precision, "--threads", str(threads), "--items",
                              samples, "--json"], check=True, capture_output=True, text=True).stdout
        seconds = time.perf_counter() - begin
        with open(samples, encoding="utf-8") as lines:
            items = [json.loads(line) for line in lines]
    found = json.loads(out)
    metrics = {task["task"]: task for task in found["tasks"]}
    return {task: (metrics[task], [i for i in items if i["task"] == task]) for task in tasks}, seconds, found


# ---- verbs -------------------------------------------------------------------------------------------------

def compare(args):
    harness = Harness(args.model, args.threads, args.batch_size)
    print(harness.versions)
    theirs, _ = harness.run(args.data, args.tasks, args.limit)
    failed = False
    for precision in ("fp32", "bf16"):
        ours, _, _ = run_knapsaq(args.knapsaq, args.model, args.data, args.tasks, args.limit, precision,
                                 args.threads)
        print("%s\n%-14s %6s %22s %22s %12s %10s %10s" %
              (precision, "task", "items", "acc (harness)", "acc_norm (harness)", "max |dLL|", "other acc",
               "other norm"))
        for task in args.tasks:
            metrics, items = ours[task]
            their_metrics, their_items = theirs[task]
            assert len(items) == len(their_items)
            worst = max(abs(a - b) for x, y in zip(items, their_items)
                        for a, b in zip(x["log_likelihoods"], y["log_likelihoods"]))
            acc = sum((x["chosen"] == x["gold"]) != (y["acc"] == 1) for x, y in zip(items, their_items))
            norm = 0
            if metrics["acc_norm"] is not None:
                norm = sum((x["chosen_normalised"] == x["gold"]) != (y["acc_norm"] == 1)
                           for x, y in zip(items, their_items))

            # Choices too, not only whether they are right: the harness tells its log-likelihoods.
            def argmax(values):
                return max(range(len(values)), key=lambda i: (values[i], -i))
            choice = sum(x["chosen"] != argmax(y["log_likelihoods"]) for x, y in zip(items, their_items))
            both = "%.4f (%.4f)" % (metrics["acc"], their_metrics["acc"])
            both_norm = ""
            errors = abs(metrics["acc_stderr"] - their_metrics["acc_stderr"]) < 1e-9
            if metrics["acc_norm"] is not None:
                both_norm = "%.4f (%.4f)" % (metrics["acc_norm"], their_metrics["acc_norm"])
                errors = errors and abs(metrics["acc_norm_stderr"] - their_metrics["acc_norm_stderr"]) < 1e-9
            print("%-14s %6d %22s %22s %12.2e %10d %10d%s" %
                  (task, len(items), both, both_norm, worst, acc, norm,
                   "" if choice == 0 else "  %d other choices" % choice), flush=True)
            if precision == "fp32" and (acc or norm or choice or not errors or worst > args.tolerance):
                failed = True
    if failed:
        sys.exit("fp32 differs")


def speed(args):
    harness = Harness(args.model, args.threads, args.batch_size)
    print(harness.versions, "load", os.getloadavg())
    theirs, ours, scoring = [], [], []

    def children():
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime
    for _ in range(args.rounds):
        their_work = time.process_time()
        results, seconds = harness.run(args.data, args.tasks, args.limit)
        their_work = time.process_time() - their_work
        count = sum(len(items) for _, items in results.values())
        theirs.append(count / seconds)
        our_work = children()
        _, seconds, found = run_knapsaq(args.knapsaq, args.model, args.data, args.tasks, args.limit,
                                        args.precision, args.threads)
        our_work = children() - our_work
        ours.append(count / seconds)
        scoring.append(found["items_per_second"])
        # A second of a processor is worth the same on a busy machine.
        print("items %d: harness %.1f/s (%.1f a processor second), knapsaq %.1f/s (%.1f) with loading and tokenizing, "
              "%.1f/s scoring, load %.1f" % (count, theirs[-1], count / their_work, ours[-1], count / our_work,
                                             scoring[-1], os.getloadavg()[0]), flush=True)
    middle = args.rounds // 2
    print("median: harness %.1f/s, knapsaq %.1f/s (%.1f times), scoring %.1f/s" %
          (sorted(theirs)[middle], sorted(ours)[middle], sorted(ours)[middle] / sorted(theirs)[middle],
           sorted(scoring)[middle]))


def references(args):
    result = {}
    for name in ("wiki-llama-6m", "wiki-opt-3m"):
        harness = Harness(os.path.join(ROOT, "assets", name), args.threads, 4)
        found, _ = harness.run(MADE, list(TASKS), 0)
        result[name] = {task: {"metrics": metrics, "items": items} for task, (metrics, items) in found.items()}
        versions = harness.versions
    with open(os.path.join(MADE, "references.json"), "w", encoding="utf-8") as out:
        json.dump({"made_by": "tools/compare_lm_eval.py references", **versions, "models": result}, out, indent=1)
        out.write("\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name, function in (("compare", compare), ("speed", speed), ("references", references)):
        verb = verbs.add_parser(name)
        verb.set_defaults(function=function)
        verb.add_argument("--threads", type=int, default=2)
        if name == "references":
            continue
        verb.add_argument("model")
        verb.add_argument("--data", required=True)
        verb.add_argument("--tasks", type=lambda text: text.split(","), default=list(TASKS))
        verb.add_argument("--limit", type=int, default=200)
        verb.add_argument("--batch-size", type=int, default=16)
        verb.add_argument("--knapsaq", default=os.path.join(ROOT, "build", "release", "knapsaq"))
        if name == "compare":
            verb.add_argument("--tolerance", type=float, default=2e-3,
                              help="nats: sums of up to some hundred fp32 losses of about 10")
        else:
            verb.add_argument("--rounds", type=int, default=3)
            verb.add_argument("--precision", default="bf16")
    args = parser.parse_args()
    args.function(args)


if __name__ == "__main__":
    main()
