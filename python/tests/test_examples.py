"""The examples of the documentation run as they are."""

from __future__ import annotations

import os
import runpy
from pathlib import Path

EXAMPLES = Path(os.environ.get("KNAPSAQ_EXAMPLES", Path(__file__).parents[2] / "examples" / "python"))


def test_fit(tmp_path, monkeypatch, capsys, quick):
    monkeypatch.chdir(tmp_path)
    example = runpy.run_path(str(EXAMPLES / "fit.py"))
    example["main"](**dict(quick, progress=False))
    printed = capsys.readouterr().out
    assert printed.count("perplexity") == 3
    assert (tmp_path / "fitted" / "2.75bits" / "config.json").exists()


def test_inspect_matrices(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / "inspect_matrices.py"), run_name="__main__")
    printed = capsys.readouterr().out
    assert "gptq:b3g64" in printed and "largest relative error" in printed


def test_every_example_is_tested():
    tested = Path(__file__).read_text()
    for example in EXAMPLES.glob("*.py"):
        assert example.name in tested
