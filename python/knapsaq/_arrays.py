"""Single matrices and error tables as NumPy arrays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

from . import _native, _results
from ._errors import UsageError
from ._job import call
from ._options import Path, path

if TYPE_CHECKING:
    import numpy


@dataclass(frozen=True)
class QuantizedArray:
    """A matrix [rows, cols] in a scheme. Groups are of consecutive columns of a row."""

    scheme: str
    bytes: int  #: that its tensors take in a file
    error: float  #: || W - dequantized ||_F
    dequantized: numpy.ndarray  #: float32 [rows, cols]
    #: uint8 [rows, cols]; None for GGML types. Affine schemes: dequantized = scales * codes + biases, by group.
    codes: numpy.ndarray | None
    #: float32 [rows, groups] of affine schemes, with quantized metadata as they are used; [blocks] of NF4: absmax.
    scales: numpy.ndarray | None
    biases: numpy.ndarray | None  #: float32 [rows, groups] of affine schemes
    blocks: numpy.ndarray | None  #: uint8 [rows, bytes of a row] of GGML types, as GGUF files hold them

    @property
    def bits(self) -> float:
        """Per weight, metadata included."""
        return 8 * self.bytes / self.dequantized.size


def _statistics(inputs: Any, width: int) -> Any:
    import numpy

    x = numpy.asarray(inputs, dtype=numpy.float32)
    if x.ndim != 2 or x.shape[1] != width or x.shape[0] == 0:
        raise UsageError(
            f"inputs have to be an array [tokens, {width}]: what the matrix multiplies, a row for each token"
        )
    moment = x.T @ x / numpy.float32(x.shape[0])
    absolute = numpy.abs(x)
    return _native.InputStatistics(
        numpy.ascontiguousarray(numpy.diag(moment)),
        absolute.mean(axis=0, dtype=numpy.float64).astype(numpy.float32),
        absolute.max(axis=0),
        numpy.ascontiguousarray((moment + moment.T) / 2),
        x.shape[0],
    )


def quantize_array(weights: Any, scheme: str, *, inputs: Any = None, threads: int = 0) -> QuantizedArray:
    """Quantizes one matrix.

    Args:
        weights: float [rows, cols] = [out, in]; float32 in C order is read where it is.
        scheme: "hqq:b4g64", "gptq:b3g128/m8g128", "q4_k", "nf4", .. (docs/commands.md).
        inputs: float [tokens, cols]: what the matrix multiplied; gptq and awq need it, the -diag methods and GGML
            types can use it.
        threads: to work with; 0: one per core.

    Raises UsageError for a scheme that cannot be, InputError for weights that are not finite.
    """
    import numpy

    matrix = numpy.ascontiguousarray(weights, dtype=numpy.float32)
    if matrix.ndim != 2 or matrix.size == 0:
        raise UsageError("weights have to be an array [rows, cols]")
    statistics = None if inputs is None else _statistics(inputs, matrix.shape[1])
    return QuantizedArray(**call(_native.quantize_array, matrix, scheme, statistics, threads=threads, progress=False))


def read_table(table: Path) -> _results.ErrorTable:
    """A CSV of :func:`tables`, or of MXQ's own tools, as arrays. Raises InputError naming the line that is wrong."""
    return _results.ErrorTable(**_native.read_table(FilePath(path(table))))
