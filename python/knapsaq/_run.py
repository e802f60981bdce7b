"""Runs: the folder of bank and archive that fit() and search() work in."""

from __future__ import annotations

from pathlib import Path as FilePath
from typing import Any
from collections.abc import Callable

from . import _native, _options, _results
from ._job import call
from ._options import Path, fill, path


class Run:
    """What the searches in a folder have found. Also of a run that somebody works on."""

    def __init__(self, folder: str, model: str | None = None) -> None:
        self._folder = folder
        self._model = model

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._folder!r})"

    @property
    def path(self) -> FilePath:
        """The run's folder."""
        return FilePath(self._folder)

    def front(self, *, strategy: str | None = None, seed: int | None = None) -> _results.Front:
        """The Pareto front of everything that was measured. ``knapsaq front``.

        Args:
            strategy, seed: only of searches with this strategy, or this seed.

        Raises UsageError for a folder without a run, or without such a search.
        """
        options = fill(_native.FrontOptions(), run=self._folder, model=self._model, strategy=strategy, seed=seed)
        return _results.of(call(_native.front, options, threads=1, progress=False))

    def pick(
        self,
        budget: str | int | None = None,
        *,
        output: Path,
        bpw: float | None = None,
        bits: float | None = None,
        context: int | None = None,
        cache: str | None = None,
        near: float | None = None,
        codes: Path | None = None,
        strategy: str | None = None,
        force: bool = False,
        threads: int = 0,
        progress: bool | Callable[[Any], Any] = True,
    ) -> _results.WrittenModel:
        """Writes the best model within a budget that the run has found. ``knapsaq pick``.

        Args:
            budget, bpw, bits: one of them, as :func:`fit`; ``bits`` is an average over all that the run decides about.
            context, cache: as :func:`fit`.
            output: folder, or the engine's file.
            near: with ``bits``: the best within so many bits above or below, as AMQ picks; no hard budget then.
            codes: a bank of the same menu by another method, whose codes are written.
            strategy: only what searches with this strategy found.
            force: replace the output.

        Raises UsageError, InfeasibleError (``minimum``: the smallest size), InputError if nothing that fits was
        measured yet.
        """
        options = _native.PickOptions()
        fill(
            options,
            run=self._folder,
            model=self._model,
            output=path(output),
            near=near,
            codes=path(codes),
            strategy=strategy,
            force=force,
        )
        _options.set_budget(options.budget, budget, bpw, bits, context, cache)
        return _results.of(call(_native.pick, options, threads=threads, progress=progress))

    def watch(self) -> str:
        """The address of a page on this machine that follows the run. ``knapsaq watch``.

        The page's server is a process of its own, which ends some minutes after the run is over and nobody looks at
        it any more. Where one serves the run already, its address is given.

        Raises IoError if no server could be started.
        """
        return _native.watch(self._folder)

    def report(self, output: Path | None = None) -> FilePath:
        """Writes a self-contained HTML page about the run; returns where it is. ``knapsaq report``.

        Args:
            output: file, an older page is replaced; default: report.html in the run's folder.
        """
        place = path(output) or str(self.path / "report.html")
        options = fill(_native.ReportOptions(), run=self._folder, model=self._model, output=place)
        return call(_native.report, options, threads=1, progress=False)


class Fit(Run):
    """What fit() did: the written model, and the run that it was found in."""

    def __init__(self, result: Any, model: str) -> None:
        super().__init__(result.run, model)
        #: The written model, and why it was chosen.
        self.model: _results.WrittenModel = _results.of(result.model)
        #: What the search did.
        self.search: _results.SearchSummary = _results.of(result.search)
        #: The page about the run.
        self.report_path = FilePath(result.report)
        #: The budget in bytes of all files; None where it was bits per weight of the linears.
        self.budget_bytes: int | None = result.budget_bytes
        self.seconds: float = result.seconds

    def __repr__(self) -> str:
        return f"Fit(model={str(self.model.path)!r}, bytes={self.model.bytes}, run={self._folder!r})"


class Search(Run):
    """What search() did, and the run that it searched in."""

    def __init__(self, result: Any, model: str) -> None:
        super().__init__(str(result.run), model)
        #: What the search did.
        self.search: _results.SearchSummary = _results.of(result.search)
        #: Of what it found, between the space's smallest and largest point.
        self.hypervolume: float = result.hypervolume
        #: Points on its Pareto front.
        self.front_size: int = result.front
        #: Lines for people: what the strategy left out.
        self.remarks: list[str] = list(result.remarks)
