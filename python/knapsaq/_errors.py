"""What Knapsaq raises. Every message is one line: what is wrong, where, what to do."""

from __future__ import annotations


class Error(Exception):
    """Root of all of Knapsaq's exceptions."""


class UsageError(Error, ValueError):
    """The call has no meaning: an unknown scheme, a size without a number, an output that exists already.

    Nothing was changed."""


class InputError(Error, ValueError):
    """Something from outside (a file, a tensor, a text) is not what it has to be."""


class IoError(Error, OSError):
    """The operating system refused: a file that cannot be opened, a full disk."""


class InfeasibleError(Error):
    """A budget below the smallest possible model."""

    def __init__(self, message: str, minimum: float) -> None:
        super().__init__(message, minimum)
        #: The smallest feasible budget, in the unit that the caller used: bytes, or bits per weight.
        self.minimum = minimum

    def __str__(self) -> str:
        return str(self.args[0])


class NotFiniteError(InputError):
    """A model computes NaN or infinity: what was to be measured has no value. Names the first layer."""


class Cancelled(Error):
    """The work was stopped; what it had finished stays on the disk, and the same call goes on.

    Ctrl-C is ``KeyboardInterrupt``, as everywhere in Python. A progress callback may raise ``Cancelled``, or anything
    else, to stop the work; the exception then leaves the call."""
