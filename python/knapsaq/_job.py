"""Waiting for the work of the library: it runs on a thread of its own, and Python stays responsive."""

from __future__ import annotations

from typing import Any
from collections.abc import Callable

from . import _native
from ._progress import Listener, listener_of

#: Seconds between two looks at signals and events.
_TICK = 0.05


def _finish(job: _native.Job) -> None:
    """Stops the work and waits for its end, whatever is pressed meanwhile."""
    job.cancel()
    while True:
        try:
            if job.wait(_TICK):
                return
        except KeyboardInterrupt:
            pass


def wait(job: _native.Job, listener: Listener | None = None, text: Callable[[str], Any] | None = None) -> Any:
    """The job's result. Ctrl-C, and what a callback raises, stop the work before they leave this call."""
    try:
        ended = False
        while not ended:
            ended = job.wait(_TICK)
            for name, *facts in job.events():
                if name == "text":
                    if text is not None:
                        text(*facts)
                elif listener is not None:
                    getattr(listener, name)(*facts)
    except BaseException:
        _finish(job)
        raise
    finally:
        if listener is not None:
            listener.close()
    return job.result()


def call(
    start: Callable[..., _native.Job],
    *arguments: Any,
    threads: int,
    progress: bool | Callable[[Any], Any],
    watch: bool = False,
) -> Any:
    """Starts a verb and waits for it."""
    listener = listener_of(progress)
    host = _native.Host(threads=threads, listens=type(listener) is not Listener, watches=watch)
    return wait(start(host, *arguments), listener)
