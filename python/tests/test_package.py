"""The package itself: verbs and calls, defaults, documentation, types, libraries."""

from __future__ import annotations

import inspect
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import knapsaq
from knapsaq import _native, _progress

FOLDER = Path(knapsaq.__file__).parent
DOCUMENTATION = Path(__file__).parents[2] / "docs" / "python.md"

#: What verbs are called in Python, where that differs: names of Python's own, and methods of what another call gives.
CALLS = {
    "eval": "evaluate",
    "front": "Run.front",
    "pick": "Run.pick",
    "report": "Run.report",
    "watch": "Run.watch",
    "generate": "Model.generate",
    "chat": "Model.chat",
}
#: Second calls of verbs with two forms.
OTHER_CALLS = {"compare": "compare_files"}
#: Verbs that are about a terminal.
ONLY_COMMAND = {"completion"}

#: Options whose words are no names of Python's, or say something else there.
ARGUMENTS = {"--for": "engine", "--tie": "ties", "--pin": "pins", "model": "model", "run": "run"}
#: Arguments of calls by the word of the verb that has both of its calls' forms.
WORDS = {"compare": {"model": "models", "files": "models"}}
#: What calls have otherwise: results are objects, Python has prompts from files, conversations are lists.
NOT_IN_CALLS = {"--help", "--json", "--prompt-file", "--system"}
#: Arguments of methods that belong to their object: Model has what load() was given, Run what open_run() was.
OF_THE_OBJECT = {
    "generate": {"model", "activations", "cache", "context", "threads"},
    "chat": {"model", "activations", "cache", "context", "threads", "prompt"},
    "front": {"run", "model", "threads"},
    "pick": {"run", "model"},
    "report": {"run", "model", "threads"},
    "watch": {"run", "model", "threads", "port", "exit_after"},
    "info": {"threads"},
    "strategies": {"threads"},
}
#: Arguments that the command has no option for.
NOT_IN_VERBS = {"self", "progress", "on_text", "messages"}


def find(name: str):
    value = knapsaq
    for part in name.split("."):
        value = getattr(value, part)
    return value


@pytest.fixture(scope="module")
def verbs(verb) -> dict[str, list[str]]:
    """The longest name of every option of every verb, as the program itself knows them."""
    table = json.loads(verb("completion", "json").stdout)
    return {
        one["name"]: [max(option["names"], key=len) for option in one["options"]]
        for one in table["verbs"]
        if one["name"] not in ONLY_COMMAND
    }


def argument_of(name: str, option: str, parameters) -> str:
    if option == "--seed" and "seed" not in parameters:
        return "text_seed"  # where the seed is that of the texts, calls say so
    return ARGUMENTS.get(option, option.removeprefix("--").replace("-", "_"))


def test_every_verb_has_a_call(verbs):
    assert len(verbs) > 15
    for name in verbs:
        assert callable(find(CALLS.get(name, name))), name


def test_verbs_and_calls_have_the_same_words(verbs):
    for name, options in verbs.items():
        calls = [CALLS.get(name, name)] + ([OTHER_CALLS[name]] if name in OTHER_CALLS else [])
        parameters = set().union(*(inspect.signature(find(call)).parameters for call in calls)) - NOT_IN_VERBS
        parameters = {WORDS.get(name, {}).get(one, one) for one in parameters}
        expected = {argument_of(name, one, parameters) for one in options if one not in NOT_IN_CALLS}
        expected -= OF_THE_OBJECT.get(name, set())
        assert parameters == expected, name


def test_the_documentation_has_every_pair(verbs):
    page = DOCUMENTATION.read_text()
    for name in verbs:
        call = CALLS.get(name, name)
        assert re.search(
            rf"^\| `knapsaq {name}\b.*`{call.split('.')[-1]}\b|^\| `knapsaq {name}\b.*[.]{call.split('.')[-1]}\(",
            page,
            re.MULTILINE,
        ), name


@pytest.mark.parametrize(
    "call, options, places",
    [
        (
            "fit",
            "FitOptions",
            {
                "strategy": "search.strategy",
                "evaluations": "search.evaluations",
                "seed": "search.seed",
                "force": "force",
            },
        ),
        (
            "search",
            "SearchOptions",
            {
                "strategy": "search.strategy",
                "evaluations": "search.evaluations",
                "seed": "search.seed",
                "resume": "resume",
            },
        ),
        (
            "study",
            "StudyOptions",
            {
                "strategies": "strategies",
                "repeats": "repeats",
                "evaluations": "evaluations",
                "seed": "seed",
                "goal": "goal",
            },
        ),
        ("bank", "BankOptions", {"menu": "menu"}),
        (
            "quantize",
            "QuantizeOptions",
            {
                "ties": "ties",
                "solver": "solver.solver",
                "gap": "solver.gap",
                "time_limit": "solver.time_limit",
                "propagate": "propagate",
            },
        ),
        (
            "allocate",
            "AllocateOptions",
            {"ties": "ties", "solver": "solver.solver", "gap": "solver.gap", "time_limit": "solver.time_limit"},
        ),
        (
            "evaluate",
            "EvaluateOptions",
            {
                "protocol": "protocol",
                "precision": "precision",
                "window": "windows.window",
                "stride": "windows.stride",
                "windows": "windows.limit",
                "limit": "tasks.limit",
            },
        ),
        (
            "compare",
            "CompareOptions",
            {
                "methods": "methods",
                "configurations": "configurations",
                "budgets": "budgets",
                "menu": "menu",
                "protocol": "protocol",
            },
        ),
        ("compare_files", "JudgeFilesOptions", {"protocol": "protocol", "precision": "precision"}),
        (
            "bench",
            "BenchOptions",
            {
                "prompt": "prompt",
                "generate": "generate",
                "repeats": "repeats",
                "activations": "runtime.activations",
                "cache": "runtime.cache",
                "context": "runtime.context",
            },
        ),
        ("load", "RuntimeOptions", {"activations": "activations", "cache": "cache", "context": "context"}),
        (
            "Model.generate",
            "GenerateOptions",
            {
                "max_tokens": "max_tokens",
                "temperature": "temperature",
                "top_k": "top_k",
                "top_p": "top_p",
                "seed": "seed",
            },
        ),
    ],
)
def test_defaults_are_the_library_s(call, options, places):
    parameters = inspect.signature(find(call)).parameters
    for argument, place in places.items():
        value = getattr(_native, options)()
        for part in place.split("."):
            value = getattr(value, part)
        default = parameters[argument].default
        assert (list(default) if isinstance(default, tuple) else default) == value, argument


def test_everything_is_documented():
    for name in knapsaq.__all__:
        value = getattr(knapsaq, name)
        if not inspect.ismodule(value):
            assert inspect.getdoc(value), name
            if inspect.isclass(value):
                for method, function in vars(value).items():
                    if inspect.isfunction(function) and not method.startswith("_"):
                        assert inspect.getdoc(function), f"{name}.{method}"


def test_types_are_there():
    assert (FOLDER / "py.typed").exists()
    assert "class FitOptions" in (FOLDER / "_native.pyi").read_text()
    for name in ("fit", "evaluate", "load", "quantize_array"):
        assert inspect.signature(find(name)).return_annotation is not inspect.Signature.empty


def test_version(verb):
    assert verb("--version").stdout.strip().endswith(knapsaq.__version__)


def test_all_libraries_are_inside():
    """Beside those of the C and C++ compiler and zlib, which the platform's tag promises."""
    promised = re.compile(r"^(linux-vdso|ld-linux-x86-64|lib(c|m|dl|rt|pthread|gcc_s|stdc\+\+|z))\.so")
    for file in (FOLDER / "bin" / "knapsaq", FOLDER / "_native.abi3.so"):
        needed = subprocess.run(["/lib64/ld-linux-x86-64.so.2", "--list", str(file)], capture_output=True, text=True)
        assert needed.returncode == 0, needed.stderr
        for line in needed.stdout.splitlines():
            name, _, place = line.strip().partition(" => ")
            if not promised.match(os.path.basename(name.split()[0])):
                assert str(FOLDER.parent / "knapsaq.libs") in os.path.realpath(place.split(" ")[0]), line


def test_importing_is_light():
    """NumPy and pandas are for those who ask for arrays."""
    program = "import knapsaq, sys; print('numpy' in sys.modules, 'pandas' in sys.modules, 'tqdm' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"] * 3


def events(listener):
    listener.begin("calibrating", 100, "tokens")
    listener.advance(50)
    listener.end()
    listener.note("a line")
    listener.search(
        dict(
            strategy="front", phase="round 1", divergence="kl", evaluations=3, measured=3, expected=9, front=2, best=0.5
        )
    )
    listener.search_end()
    listener.close()


def test_bars(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    bar = _progress.TerminalBar()
    events(bar)
    shown = screen.getvalue()
    assert "calibrating" in shown and "note: a line" in shown
    assert shown.endswith("\r\x1b[K")

    shown = []

    class Handle:
        def update(self, data, raw):
            shown.append(data["text/plain"])

    def display(data, raw, display_id):
        shown.append(data["text/plain"])
        return Handle()

    events(_progress.NotebookLine(display))
    assert "calibrating" in shown[0] and shown[-1] == ""

    tqdm = pytest.importorskip("tqdm")
    events(_progress.TqdmBar(tqdm.tqdm))
    assert "searching" in screen.getvalue()


def test_notes_are_warnings_where_nobody_looks():
    with pytest.warns(UserWarning, match="a line"):
        events(_progress.listener_of(False))


def test_isa_is_checked_first(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", "import knapsaq"],
        env=dict(os.environ, KNAPSAQ_ISA="abacus"),
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "abacus" in done.stderr
