"""The package is tested as it is installed: nothing here looks at the sources."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import knapsaq

#: A search of seconds: what fit() is tested with, and without `effort` search().
QUICK = dict(
    menu="b2g64,b4g64,b8g64", method="hqq", samples=4, window=64, tokens=256, heldout=256, evaluations=24, effort="quick",
    threads=2,
)


@pytest.fixture(scope="session")
def model() -> Path:
    return knapsaq.example_model()


@pytest.fixture(scope="session")
def text() -> Path:
    return knapsaq.example_text()


@pytest.fixture(scope="session")
def quick(text: Path) -> dict:
    return dict(QUICK, text=text)


@pytest.fixture(scope="session")
def fitted(tmp_path_factory: pytest.TempPathFactory, model: Path, quick: dict) -> knapsaq.Fit:
    """A finished fit(), for those who look at it."""
    folder = tmp_path_factory.mktemp("fitted")
    return knapsaq.fit(model, "2.5MiB", output=folder / "out", progress=False, **quick)


class Verb:
    """The command of the package."""

    program = shutil.which("knapsaq", path=os.path.dirname(sys.executable))

    def __call__(self, *arguments: object, code: int = 0) -> subprocess.CompletedProcess:
        assert self.program, "the package has installed no command"
        done = subprocess.run([self.program, *map(str, arguments)], capture_output=True, text=True)
        assert done.returncode == code, done.stderr
        return done

    def json(self, *arguments: object) -> dict:
        return json.loads(self(*arguments, "--json").stdout)


@pytest.fixture(scope="session")
def verb() -> Verb:
    return Verb()


def files_of(folder: Path) -> dict[str, str]:
    """Names and hashes of all files in a folder, or of the one file."""
    if folder.is_file():
        return {"": hashlib.sha256(folder.read_bytes()).hexdigest()}
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="session")
def same_files():
    def check(one: Path, other: Path) -> None:
        assert files_of(one) == files_of(other)
        assert files_of(one)

    return check


def flags(options: dict) -> list[str]:
    """The options of QUICK as the command has them."""
    return [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))]
