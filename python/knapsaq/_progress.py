"""What is shown of long work: a bar in a terminal or a notebook, or a callback."""

from __future__ import annotations

import sys
import time
import warnings
from dataclasses import dataclass
from typing import Any
from collections.abc import Callable


@dataclass(frozen=True)
class SearchProgress:
    """A search, after its newest measurement."""

    strategy: str  #: for people: "front", "3 of 40: ga"
    phase: str  #: for people: "sensitivity", "round 12"
    divergence: str  #: "kl" or "jsd"
    evaluations: int  #: distinct allocations that were asked for and answered
    measured: int  #: of these, not known before
    expected: int  #: evaluations in all; 0: not known
    front: int  #: points on the Pareto front so far
    best: float | None  #: least divergence within the budget, nats per token; None: nothing fits yet


@dataclass(frozen=True)
class Progress:
    """What a progress callback gets: how far the present stage of the work is."""

    stage: str  #: for people: "calibrating", "searching"
    done: int  #: units that are finished
    total: int  #: units in all; 0: not known
    unit: str  #: a plural: "tokens", "linears", "evaluations"
    seconds: float  #: since the stage began
    search: SearchProgress | None = None  #: in a search


class Listener:
    """Hears the events of a job, which are named as the methods."""

    def begin(self, what: str, total: int, unit: str) -> None: ...
    def advance(self, done: int) -> None: ...
    def end(self) -> None: ...
    def search(self, facts: dict[str, Any]) -> None: ...
    def search_end(self) -> None: ...
    def close(self) -> None:
        """The work has ended, or is about to."""

    def note(self, line: str) -> None:
        """A line about the inputs that a person should know; no error."""
        warnings.warn(line, stacklevel=5)


class Caller(Listener):
    """Calls a function with a Progress."""

    def __init__(self, function: Callable[[Progress], Any]) -> None:
        self._function = function
        self._stage = ("", 0, "")
        self._start = time.monotonic()
        self._searching = False

    def _tell(self, done: int, search: SearchProgress | None = None) -> None:
        what, total, unit = self._stage
        self._function(Progress(what, done, total, unit, time.monotonic() - self._start, search))

    def begin(self, what: str, total: int, unit: str) -> None:
        self._stage = (what, total, unit)
        self._start = time.monotonic()
        self._tell(0)

    def advance(self, done: int) -> None:
        self._tell(done)

    def search(self, facts: dict[str, Any]) -> None:
        if not self._searching:
            self._searching = True
            self._start = time.monotonic()
        self._stage = ("searching", facts["expected"], "evaluations")
        self._tell(facts["evaluations"], SearchProgress(**facts))

    def search_end(self) -> None:
        self._searching = False


def _time(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"


def _line(progress: Progress) -> str:
    """One line of text: what, a bar, the rest of the time."""
    parts = []
    if progress.search is not None:
        search = progress.search
        parts = [f"{search.strategy} {search.phase}", f"front {search.front}"]
        if search.best is not None:
            parts.append(f"best {search.divergence} {search.best:.4g}")
        parts.append(
            f"{progress.done} of {progress.total} evaluations" if progress.total else f"{progress.done} evaluations"
        )
    else:
        share = min(1.0, progress.done / progress.total) if progress.total else 0.0
        filled = int(20 * share)
        parts = [f"{progress.stage} [{'#' * filled}{'.' * (20 - filled)}] {100 * share:3.0f} %"]
    if 0 < progress.done < progress.total:
        left = progress.seconds / progress.done * (progress.total - progress.done)
        parts.append(f"{_time(left)} left")
    return "  ".join(parts)


class TerminalBar(Caller):
    """One line on standard error that is drawn over again."""

    def __init__(self) -> None:
        super().__init__(self._draw)
        self._drawn = 0.0

    def _draw(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._drawn < 0.1:
            return
        self._drawn = now
        import shutil

        width = shutil.get_terminal_size().columns - 1
        sys.stderr.write(f"\r{_line(progress)[:width]}\x1b[K")
        sys.stderr.flush()

    def _clear(self) -> None:
        if self._drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._drawn = 0.0

    def note(self, line: str) -> None:
        self._clear()
        sys.stderr.write(f"note: {line}\n")

    def end(self) -> None:
        self._clear()

    def search_end(self) -> None:
        super().search_end()
        self._clear()

    def close(self) -> None:
        self._clear()


class NotebookLine(Caller):
    """One line below the cell that is replaced."""

    def __init__(self, display: Any) -> None:
        super().__init__(self._draw)
        self._display = display
        self._handle: Any = None
        self._drawn = 0.0

    def _show(self, text: str) -> None:
        shown = {"text/plain": text}
        if self._handle is None:
            self._handle = self._display(shown, raw=True, display_id=True)
        else:
            self._handle.update(shown, raw=True)

    def _draw(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._drawn >= 0.5:
            self._drawn = now
            self._show(_line(progress))

    def note(self, line: str) -> None:
        print(f"note: {line}")

    def close(self) -> None:
        if self._handle is not None:
            self._show("")


class TqdmBar(Caller):
    """tqdm's bar, one for each stage: what notebooks and terminals of its users look like."""

    def __init__(self, tqdm: Any) -> None:
        super().__init__(self._draw)
        self._tqdm = tqdm
        self._bar: Any = None
        self._of = ""

    def _draw(self, progress: Progress) -> None:
        if self._bar is None or self._of != progress.stage:
            self.close()
            self._of = progress.stage
            self._bar = self._tqdm(
                total=progress.total or None, desc=progress.stage, unit=" " + progress.unit, leave=False
            )
        if progress.search is not None:
            best = progress.search.best
            self._bar.set_postfix_str(
                f"front {progress.search.front}"
                + ("" if best is None else f", best {progress.search.divergence} {best:.4g}"),
                refresh=False,
            )
            self._bar.total = progress.total or None
        self._bar.update(progress.done - self._bar.n)

    def note(self, line: str) -> None:
        self._tqdm.write(f"note: {line}", file=sys.stderr)

    def end(self) -> None:
        self.close()

    def search_end(self) -> None:
        super().search_end()
        self.close()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _in_notebook() -> bool:
    shell = sys.modules.get("IPython")
    return shell is not None and type(shell.get_ipython()).__name__ == "ZMQInteractiveShell"


def listener_of(progress: bool | Callable[[Progress], Any]) -> Listener:
    """What listens: True: a bar, where somebody looks at one; False: nothing but warnings; a function: itself."""
    if callable(progress):
        return Caller(progress)
    if not isinstance(progress, bool):
        raise TypeError("progress has to be True, False or a function")
    notebook = _in_notebook()
    if not progress or not (notebook or sys.stderr.isatty()):
        return Listener()
    try:
        from tqdm.auto import tqdm

        return TqdmBar(tqdm)
    except ImportError:
        pass  # it is not needed
    if notebook:
        from IPython.display import display

        return NotebookLine(display)
    return TerminalBar()
