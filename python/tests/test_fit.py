"""fit() and what it leaves: the same as the command's, resumable, interruptible."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import urllib.request

import pytest

import knapsaq
from conftest import flags


def test_fit_is_the_verb(tmp_path, fitted, model, quick, verb, same_files):
    said = verb.json("fit", model, "--budget", "2.5MiB", "-o", tmp_path / "out", *flags(quick))
    same_files(fitted.model.path, tmp_path / "out")
    assert said["bytes"] == fitted.model.bytes <= 2.5 * 2**20
    assert said["bits"] == pytest.approx(fitted.model.bits, abs=0)
    assert said["evaluations"] == fitted.search.evaluations
    assert [(one["linear"], one["scheme"]) for one in said["allocation"]] == [
        (one.matrix, one.scheme) for one in fitted.model.allocation
    ]
    front = verb.json("front", tmp_path / "out.run")
    assert [(one["bytes"], one["divergence"]) for one in front["points"]] == [
        (one.bytes, one.divergence) for one in fitted.front()
    ]


def test_result_has_run_and_page(fitted):
    assert fitted.path.is_dir()
    assert fitted.report_path.read_text().lstrip().lower().startswith("<!doctype html")
    assert fitted.budget_bytes == int(2.5 * 2**20)
    assert str(fitted.model.path) in repr(fitted)


def test_watch_serves_a_page(fitted):
    address = fitted.watch()
    try:
        assert re.match(r"http://127\.0\.0\.1:\d+/\w+/", address)
        assert fitted.watch() == address, "one page for a run"
        with urllib.request.urlopen(address) as page:
            assert page.status == 200
            assert b"<title>" in page.read()
    finally:
        os.kill(json.loads((fitted.path / "watch.json").read_text())["process"]["id"], signal.SIGTERM)


def test_front_is_a_sequence(fitted):
    front = fitted.front()
    assert len(front) == len(front.points) > 1
    assert front[0].bytes < front[-1].bytes
    assert all(a.bytes < b.bytes and a.divergence > b.divergence for a, b in zip(front, front[1:]))
    assert {one.strategy for one in front.searches} == {"front"}
    with pytest.raises(knapsaq.UsageError):
        fitted.front(strategy="amq")


def test_front_for_pandas(fitted):
    pandas = pytest.importorskip("pandas")
    table = fitted.front().to_pandas()
    assert isinstance(table, pandas.DataFrame)
    assert list(table["bytes"]) == [one.bytes for one in fitted.front()]


def test_pick_and_report(tmp_path, fitted, verb, same_files):
    written = fitted.pick(bits=4.5, output=tmp_path / "picked", progress=False)
    assert written.bits <= 4.5
    verb("pick", fitted.path, "--bits", "4.5", "-o", tmp_path / "by-verb")
    same_files(written.path, tmp_path / "by-verb")
    assert fitted.report(tmp_path / "page.html").stat().st_size > 10_000
    again = knapsaq.open_run(fitted.path)
    with pytest.raises(knapsaq.UsageError, match="force"):
        again.pick(bits=4.5, output=tmp_path / "picked", progress=False)
    assert again.pick(bits=4.5, output=tmp_path / "picked", force=True, progress=False) == written


def test_too_small_a_budget_names_the_smallest(tmp_path, fitted, model, quick):
    with pytest.raises(knapsaq.InfeasibleError) as caught:
        knapsaq.fit(model, 1000, output=tmp_path / "out", progress=False, **quick)
    assert 1000 < caught.value.minimum < 2.5 * 2**20
    assert not (tmp_path / "out").exists()
    smallest = int(caught.value.minimum)
    assert fitted.pick(smallest, output=tmp_path / "smallest", progress=False).bytes <= smallest


@pytest.mark.parametrize(
    "wrong, named",
    [
        (dict(), "budget"),
        (dict(budget="2MiB", bits=3), "one of"),
        (dict(budget="2 apples"), "apples"),
        (dict(budget=-1), "negative"),
        (dict(bits=0), "above 0"),
        (dict(budget="2MiB", strategy="magic"), "magic"),
        (dict(budget="2MiB", tokens=1), "tokens"),
        (dict(budget="2MiB", precision="fp64"), "precision"),
        (dict(budget="2MiB", set={"nothing": 1}), "nothing"),
        (dict(budget="2MiB", engine="abacus"), "abacus"),
        (dict(budget="2MiB", threads=-1), "threads"),
        (dict(budget="2MiB", run=""), "empty"),
        (dict(bits=3, context=256), "context"),
        (dict(budget="2MiB", cache="int8"), "context"),
        (dict(budget="2MiB", context=0), "above 0"),
        (dict(budget="9MiB", context=256, cache="q8_0"), "fp16, int8"),
    ],
)
def test_wrong_use_is_said_before_any_work(tmp_path, model, wrong, named):
    with pytest.raises(knapsaq.UsageError, match=named):
        knapsaq.fit(model, output=tmp_path / "out", progress=False, **wrong)
    assert list(tmp_path.iterdir()) == []


def test_progress_tells_stages_and_searches(tmp_path, model, quick):
    seen = []
    knapsaq.fit(model, "2.5MiB", output=tmp_path / "out", progress=seen.append, **quick)
    assert {one.stage for one in seen} > {"searching"}
    for one in seen:
        assert 0 <= one.done and (one.total == 0 or one.search or one.done <= one.total)
    searches = [one.search for one in seen if one.search]
    assert searches[-1].evaluations == 24
    assert all(a.evaluations <= b.evaluations for a, b in zip(searches, searches[1:]))
    assert searches[-1].front > 1
    assert searches[-1].best is not None


def test_a_callback_that_raises_stops_the_work(tmp_path, model, quick):
    def stop(progress):
        if progress.search:
            raise knapsaq.Cancelled("enough")

    with pytest.raises(knapsaq.Cancelled, match="enough"):
        knapsaq.fit(model, "2.5MiB", output=tmp_path / "out", progress=stop, **quick)
    assert not (tmp_path / "out").exists()


#: A fit() that ends itself at its tenth measurement: by a signal, in the middle of everything.
ENDS_ITSELF = textwrap.dedent("""
    import os, sys, knapsaq
    def watch(progress):
        if progress.search and progress.search.measured >= 10:
            os.kill(os.getpid(), int(sys.argv[1]))
    knapsaq.fit(sys.argv[2], "2.5MiB", output=sys.argv[3], progress=watch, **eval(sys.argv[4]))
    """)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_an_ended_fit_goes_on(tmp_path, fitted, model, quick, same_files, how):
    options = dict(quick, text=str(quick["text"]))
    command = [sys.executable, "-c", ENDS_ITSELF, str(int(how)), str(model), str(tmp_path / "out"), repr(options)]
    ended = subprocess.run(command, capture_output=True, text=True)
    if how == signal.SIGKILL:
        assert ended.returncode == -signal.SIGKILL
    else:
        assert ended.returncode == -signal.SIGINT, ended.stderr
        assert "KeyboardInterrupt" in ended.stderr
    assert not (tmp_path / "out").exists()
    measured = 0

    def count(progress):
        nonlocal measured
        if progress.search:
            measured = progress.search.measured

    again = knapsaq.fit(model, "2.5MiB", output=tmp_path / "out", progress=count, **quick)
    assert again.search.measured <= fitted.search.measured - 10
    same_files(again.model.path, fitted.model.path)


def test_a_run_goes_on_for_another_budget(tmp_path, fitted, model):
    other = knapsaq.fit(
        model, bpw=5, output=tmp_path / "out", run=fitted.path, evaluations=24, threads=2, progress=False
    )
    assert other.path == fitted.path
    assert other.model.bytes <= 5 * knapsaq.info(model).parameters / 8


def test_models_by_repository(tmp_path, monkeypatch, model):
    """A cache of Hugging Face: a snapshot of symbolic links into a folder of blobs."""
    repository = tmp_path / "hub" / "models--somebody--small"
    snapshot = repository / "snapshots" / "0123456789abcdef0123456789abcdef01234567"
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(snapshot.name)
    for file in model.iterdir():
        blob = repository / "blobs" / file.name.encode().hex()
        blob.write_bytes(file.read_bytes())
        (snapshot / file.name).symlink_to(os.path.relpath(blob, snapshot))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    assert knapsaq.find_model("somebody/small").samefile(snapshot)
    assert knapsaq.find_model(f"somebody/small@{snapshot.name}").samefile(snapshot)
    assert knapsaq.info("somebody/small") == knapsaq.info(model)
    assert str(knapsaq.load("somebody/small").generate("The", max_tokens=4))
    with pytest.raises(knapsaq.InputError, match="somebody/other"):
        knapsaq.info("somebody/other")
