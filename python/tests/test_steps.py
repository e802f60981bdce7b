"""The other verbs: each gives and writes what the command does."""

from __future__ import annotations

import pickle

import numpy
import pytest

import knapsaq
from conftest import flags

CALIBRATION = dict(samples=4, window=64)


def test_info(model, verb):
    said = verb.json("info", model)
    found = knapsaq.info(model)
    for name in ("architecture", "parameters", "bytes", "layers", "hidden", "vocabulary", "positions", "tied"):
        assert getattr(found, name) == said[name]
    assert [(one.name, [one.out, one.in_], one.scheme) for one in found.matrices] == [
        (one["name"], one["shape"], one["scheme"]) for one in said["linears"]
    ]


def test_memory_of_a_context(model, tmp_path, verb):
    said = verb.json("info", model, "--context", "64", "--cache", "int8")["memory"]
    memory = knapsaq.info(model, context=64, cache="int8").memory
    assert {name: getattr(memory, name) for name in said} == said
    assert knapsaq.info(model).memory is None
    assert knapsaq.info(model, context=64, engine="vllm").memory.work_space is None
    with pytest.raises(knapsaq.UsageError, match="at most"):
        knapsaq.info(model, context=10**9)
    budget = memory.total
    wanted = dict(context=64, cache="int8", menu="b2g64,b4g64", progress=False)
    written = knapsaq.quantize(model, budget, output=tmp_path / "out", **wanted)
    assert written.memory.total <= budget and written.budget_bytes == budget
    assert written.memory.weights == written.bytes


def test_bank_then_all_that_use_it(tmp_path, model, text, verb, same_files):
    menu = "gptq:b2g64,gptq:b4g64"
    made = knapsaq.bank(model, tmp_path / "bank", menu=menu, text=text, progress=False, **CALIBRATION)
    assert (made.schemes, made.kept, made.damaged) == (2, 0, 0)
    assert (
        knapsaq.bank(model, tmp_path / "bank", menu=menu, text=text, progress=False, **CALIBRATION).kept == made.linears
    )

    table = knapsaq.tables(bank=tmp_path / "bank", output=tmp_path / "table.csv", progress=False)
    assert (table.linears, table.schemes) == (made.linears, made.schemes)
    arrays = table.read()
    assert arrays.fnorm.shape == arrays.bytes.shape == (made.linears, made.schemes)
    assert arrays.schemes == ["gptq:b2g64", "gptq:b4g64"]
    assert (arrays.fnorm[:, 0] > arrays.fnorm[:, 1]).all()
    assert numpy.isfinite(arrays.hessian).all()

    for source in (dict(bank=tmp_path / "bank"), dict(table=tmp_path / "table.csv")):
        solved = knapsaq.allocate(**source, bits=3.3, progress=False)
        assert solved.bits <= 3.3
        said = verb.json("allocate", *flags(source), "--bits", "3.3")
        assert said["objective"] == solved.objective
        assert [one.scheme for one in solved.allocation] == [one["scheme"] for one in said["allocation"]]

    written = knapsaq.quantize(model, bits=3.3, bank=tmp_path / "bank", output=tmp_path / "out", progress=False)
    assert written.solved is not None and written.solved.bound <= written.solved.objective
    verb("quantize", model, "--bits", 3.3, "--bank", tmp_path / "bank", "-o", tmp_path / "by-verb")
    same_files(tmp_path / "out", tmp_path / "by-verb")
    with pytest.raises(knapsaq.UsageError, match="menu"):
        knapsaq.quantize(model, bits=3.3, bank=tmp_path / "bank", menu="mxq", output=tmp_path / "x", progress=False)


def test_calibrate(tmp_path, model, text, verb, same_files):
    found = knapsaq.calibrate(
        model, tmp_path / "one", text=text, imatrix=tmp_path / "one.gguf", progress=False, **CALIBRATION
    )
    assert (found.samples, found.window, found.tokens) == (4, 64, 256)
    said = verb.json("calibrate", model, "-o", tmp_path / "two", "--text", text, "--samples", 4, "--window", 64,
                     "--imatrix", tmp_path / "two.gguf")  # fmt: skip
    assert said["identity"] == found.identity
    same_files(tmp_path / "one.gguf", tmp_path / "two.gguf")


def test_tune(tmp_path, model, text, verb, same_files):
    knapsaq.quantize(model, scheme="rtn:b3g64", output=tmp_path / "out", progress=False)
    how = dict(steps=2, batch=1, window=64, heldout=128, foreign=text)
    made = knapsaq.tune(tmp_path / "out", model, output=tmp_path / "tuned", text=text, progress=False, **how)
    assert made.heldout.after.kl <= made.heldout.before.kl
    assert made.foreign is not None and made.foreign.tokens == 2 * 63
    said = verb.json("tune", tmp_path / "out", "--model", model, "-o", tmp_path / "by-verb", "--text", text,
                     *flags(how))  # fmt: skip
    assert said["heldout"]["after"]["kl"] == made.heldout.after.kl
    assert said["bytes"] == made.bytes
    same_files(tmp_path / "tuned", tmp_path / "by-verb")
    with pytest.raises(knapsaq.UsageError, match="nothing to tune"):
        knapsaq.tune(model, model, output=tmp_path / "x", progress=False)


def test_quantize_by_one_scheme_then_export(tmp_path, model, verb, same_files):
    written = knapsaq.quantize(model, scheme="q4_k", output=tmp_path / "out", progress=False)
    assert written.solved is None and written.budget_bytes is None
    assert "q4_k" in {one.scheme for one in written.allocation}
    given = knapsaq.export(written.path, "gguf", tmp_path / "out.gguf", progress=False)
    assert given.changes == []
    verb("export", written.path, "--format", "gguf", "-o", tmp_path / "by-verb.gguf")
    same_files(given.path, tmp_path / "by-verb.gguf")
    assert knapsaq.info(given.path).layers == knapsaq.info(model).layers
    with pytest.raises(knapsaq.UsageError):
        knapsaq.export(written.path, "mlx", tmp_path / "mlx", progress=False)


def test_evaluate(tmp_path, model, text, verb):
    found = knapsaq.evaluate(model, text=text, protocol="gptq", window=128, windows=3, progress=False)
    said = verb.json("eval", model, "--text", text, "--protocol", "gptq", "--window", 128, "--windows", 3)
    assert found.perplexity == found.text.perplexity == said["perplexity"]
    assert found.text.tokens == said["tokens"] == 3 * 127
    assert found.tasks is None
    with pytest.raises(knapsaq.UsageError, match="text"):
        knapsaq.evaluate(model, progress=False)


def test_evaluate_tasks(tmp_path, model):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "piqa.jsonl").write_text(
        '{"goal": "Eat soup", "sol1": "with a spoon", "sol2": "with a fork", "label": 0}\n' * 3
    )
    found = knapsaq.evaluate(model, tasks="piqa", data=tmp_path / "data", items=tmp_path / "items", progress=False)
    (score,) = found.tasks.scores
    assert (score.task, score.items) == ("piqa", 3)
    assert score.acc.value in (0, 1)
    assert len((tmp_path / "items").read_text().splitlines()) == 3
    with pytest.raises(AttributeError, match="no text"):
        found.perplexity


def test_compare(tmp_path, model, text, verb):
    options = dict(methods="rtn,mxq", configurations=["b4g64"], budgets=[3.25], window=128, windows=2)
    found = knapsaq.compare(model, text=text, output=tmp_path / "cases.csv", progress=False, **options)
    assert [one.method for one in found.cases] == ["none", "rtn", "mxq"]
    said = verb.json("compare", model, "--text", text, "--methods", "rtn,mxq", "--configurations", "b4g64",
                     "--budgets", "3.25", "--window", 128, "--windows", 2)  # fmt: skip
    assert [one["perplexity"] for one in said["cases"]] == [one.perplexity for one in found.cases]
    pandas = pytest.importorskip("pandas")
    assert list(found.to_pandas()["method"]) == ["none", "rtn", "mxq"]
    assert pandas is not None


def test_compare_files(tmp_path, model, text, verb):
    for scheme in ("q4_k", "rtn:b2g64"):
        knapsaq.quantize(model, scheme=scheme, output=tmp_path / scheme.replace(":", "-"), progress=False)
    made = knapsaq.export(tmp_path / "q4_k", "gguf", tmp_path / "a.gguf", recipe=tmp_path / "types.txt", progress=False)
    assert made.recipe.file_type == "Q4_K" and "--tensor-type-file" in made.recipe.command
    alone = knapsaq.export(tmp_path / "a.gguf", recipe=tmp_path / "again.txt", progress=False)
    assert (tmp_path / "again.txt").read_text() == (tmp_path / "types.txt").read_text()
    assert alone.bytes == 0
    files = [tmp_path / "a.gguf", tmp_path / "rtn-b2g64"]
    options = dict(window=64, windows=3, precision="fp32")
    found = knapsaq.compare_files(files, reference=model, text=text, page=tmp_path / "p.html", progress=False, **options)
    said = verb.json("compare", *files, "--reference", model, "--text", text, "--window", 64, "--windows", 3,
                     "--precision", "fp32")  # fmt: skip
    assert [one["kl"]["mean"] for one in said["files"]] == [one.kl.mean for one in found.files]
    assert [one.bytes for one in found.files] == sorted(one.bytes for one in found.files)
    assert found.files[1].rival == 0 and found.files[1].difference == found.differences[1][0]
    evaluated = knapsaq.evaluate(files[0], text=text, reference=model, progress=False, **options)
    assert evaluated.text.reference.kl in [one.kl for one in found.files]
    assert evaluated.text.reference.perplexity == found.reference_perplexity
    with pytest.raises(knapsaq.UsageError, match="format"):
        knapsaq.export(tmp_path / "q4_k", output=tmp_path / "b.gguf", progress=False)


def test_search_and_study(tmp_path, model, quick, verb):
    options = dict(quick, evaluations=12)
    del options["effort"]
    found = knapsaq.search(model, tmp_path / "run", strategy="random", seed=3, progress=False, **options)
    said = verb.json(
        "search", model, "--run", tmp_path / "by-verb", "--strategy", "random", "--seed", 3, *flags(options)
    )
    assert (found.hypervolume, found.front_size) == (said["hypervolume"], said["front"])
    assert len(found.front()) == found.front_size

    compared = knapsaq.study(
        model, tmp_path / "study", strategies="random,ga", repeats=2, set={"ga.population": 4}, text=quick["text"],
        samples=4, window=64, tokens=256, evaluations=8, threads=2, progress=False,
    )  # fmt: skip
    assert {one["name"] for one in compared.data()["strategies"]} == {"random", "ga"}
    assert [one["kind"] for one in compared.runs].count("run") == 4


def test_bench(model):
    found = knapsaq.bench(model, prompt=16, generate=4, repeats=1, progress=False)
    assert found.generation_tokens_per_second > 0
    assert found.memory.linears > 0


def test_strategies_and_names(verb):
    said = verb.json("strategies")["strategies"]
    assert [(one.name, len(one.options)) for one in knapsaq.strategies()] == [
        (one["name"], len(one["options"])) for one in said
    ]
    assert "llama.cpp" in knapsaq.engines()
    assert "gguf" in knapsaq.formats()


def test_results_are_plain(fitted):
    again = pickle.loads(pickle.dumps(fitted.model))
    assert again == fitted.model and again is not fitted.model
    assert pickle.loads(pickle.dumps(fitted.front())) == fitted.front()


def test_errors(tmp_path, model):
    with pytest.raises(knapsaq.InputError, match="nowhere"):
        knapsaq.info(tmp_path / "nowhere")
    with pytest.raises(knapsaq.Error):
        knapsaq.open_run(tmp_path)
    (tmp_path / "binary").write_bytes(b"\x00\xff\xfe" * 1000)
    with pytest.raises(knapsaq.InputError, match="binary"):
        knapsaq.evaluate(model, text=tmp_path / "binary", progress=False)
    for name in ("UsageError", "InputError", "IoError", "InfeasibleError", "NotFiniteError", "Cancelled"):
        assert issubclass(getattr(knapsaq, name), knapsaq.Error)
    assert issubclass(knapsaq.NotFiniteError, knapsaq.InputError)
    with pytest.raises(TypeError):
        knapsaq.evaluate(model, text=3)
    with pytest.raises(TypeError):
        knapsaq.quantize(model, budget=2.5, output=tmp_path / "out")
