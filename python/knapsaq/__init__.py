"""Knapsaq: the best quantized language model that fits a memory budget.

>>> import knapsaq
>>> run = knapsaq.fit("MODEL", budget="4.2MiB", output="OUT")
>>> run.front().to_pandas()
>>> run.pick(bits=2.75, output="OUT275")
>>> print(knapsaq.load("OUT").generate("Once upon a time", max_tokens=40))

The functions are the verbs of the command ``knapsaq``, in the same words (docs/python.md has the table). Long calls
release the interpreter's lock, can be interrupted, and go on where they were when they are made again.
"""

from __future__ import annotations

from pathlib import Path as _Path

from . import _native
from ._arrays import QuantizedArray, quantize_array, read_table
from ._errors import Cancelled, Error, InfeasibleError, InputError, IoError, NotFiniteError, UsageError
from ._model import Model, load
from ._progress import Progress, SearchProgress
from ._results import (
    AllocateResult,
    BankResult,
    BenchResult,
    BesideReference,
    CalibrateResult,
    Case,
    CompareResult,
    ErrorTable,
    EvaluateResult,
    ExportResult,
    FilesComparison,
    Front,
    FrontPoint,
    FrontSearch,
    FrontSummary,
    Generated,
    JudgedFile,
    JudgedModel,
    KlDifference,
    KlStatistics,
    MemoryUse,
    ModelInfo,
    ModelMemory,
    NamedScheme,
    QuantizeResult,
    Recipe,
    SchemeCount,
    SearchSummary,
    Solved,
    StoredAs,
    Strategy,
    StrategyOption,
    Study,
    TablesResult,
    TaskAccuracy,
    TaskScore,
    TaskScores,
    TextScore,
    TunedText,
    TuneMeasurement,
    TuneResult,
    Windows,
    WritingStep,
    WrittenModel,
)
from ._run import Fit, Run, Search
from ._verbs import (
    allocate,
    bank,
    bench,
    calibrate,
    compare,
    compare_files,
    engines,
    evaluate,
    export,
    find_model,
    fit,
    formats,
    info,
    open_run,
    quantize,
    search,
    strategies,
    study,
    tables,
    tune,
)

__version__: str = _native.version

_folder = _Path(__file__).parent
# Chat templates run in a child process, which this one, full of threads and locks, must not fork.
_native.set_helper(str(_folder / "bin" / "knapsaq"))


def example_model() -> _Path:
    """The folder of a small model (LlamaForCausalLM, 5 million parameters) that comes with the package."""
    return _folder / "example" / "wiki-llama-6m"


def example_text() -> _Path:
    """A text file of 150 kB that was sampled from it: something to score it on."""
    return _folder / "example" / "wiki-llama-6m-sample.txt"


__all__ = [
    "AllocateResult",
    "BankResult",
    "BenchResult",
    "BesideReference",
    "CalibrateResult",
    "Cancelled",
    "Case",
    "CompareResult",
    "Error",
    "ErrorTable",
    "EvaluateResult",
    "ExportResult",
    "FilesComparison",
    "Fit",
    "Front",
    "FrontPoint",
    "FrontSearch",
    "FrontSummary",
    "Generated",
    "InfeasibleError",
    "InputError",
    "IoError",
    "JudgedFile",
    "JudgedModel",
    "KlDifference",
    "KlStatistics",
    "MemoryUse",
    "Model",
    "ModelInfo",
    "ModelMemory",
    "NamedScheme",
    "NotFiniteError",
    "Progress",
    "QuantizeResult",
    "QuantizedArray",
    "Recipe",
    "Run",
    "SchemeCount",
    "Search",
    "SearchProgress",
    "SearchSummary",
    "Solved",
    "StoredAs",
    "Strategy",
    "StrategyOption",
    "Study",
    "TablesResult",
    "TaskAccuracy",
    "TaskScore",
    "TaskScores",
    "TextScore",
    "TuneMeasurement",
    "TuneResult",
    "TunedText",
    "UsageError",
    "Windows",
    "WritingStep",
    "WrittenModel",
    "allocate",
    "bank",
    "bench",
    "calibrate",
    "compare",
    "compare_files",
    "engines",
    "evaluate",
    "example_model",
    "example_text",
    "export",
    "find_model",
    "fit",
    "formats",
    "info",
    "load",
    "open_run",
    "quantize",
    "quantize_array",
    "read_table",
    "search",
    "strategies",
    "study",
    "tables",
    "tune",
]

# Where users find them, in tracebacks, representations and pickles.
for _name in __all__:
    if getattr(globals()[_name], "__module__", "").startswith("knapsaq."):
        globals()[_name].__module__ = "knapsaq"
