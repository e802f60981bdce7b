"""What calls give: plain, frozen dataclasses. Sizes are bytes, divergences nats per token, times seconds."""

from __future__ import annotations

import csv
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from collections.abc import Iterator, Sequence

from . import _native

if TYPE_CHECKING:
    import numpy
    import pandas

Kind = TypeVar("Kind")


def _pandas() -> Any:
    try:
        import pandas
    except ImportError as error:
        raise ImportError("to_pandas() needs pandas: pip install pandas") from error
    return pandas


@dataclass(frozen=True)
class NamedScheme:
    """A matrix of a model and how it is stored."""

    matrix: str  #: module path, "model.layers.0.self_attn.q_proj"
    scheme: str  #: "gptq:b3g64"


@dataclass(frozen=True)
class SchemeCount:
    """How many matrices have a choice of the menu."""

    scheme: str
    matrices: int


@dataclass(frozen=True)
class JudgedModel:
    """A model that was judged on held-out text, unseen by any search."""

    bytes: int  #: of the files that would be written
    bits: float  #: average per quantized weight, metadata included
    kl: float  #: KL divergence from the full model, nats per token
    perplexity: float
    perplexity_standard_error: float
    agreement: float  #: share of tokens whose most likely next token is the full model's


@dataclass(frozen=True)
class MemoryUse:
    """What a model takes in an engine's memory for one sequence, in bytes."""

    context: int  #: tokens that the cache has room for
    cache_type: str  #: how keys and values are stored: "fp16", "q8_0"
    weights: int  #: the model's files
    cache: int  #: keys and values of all layers
    work_space: int | None  #: activations, logits; None: the engine's is not known
    total: int


@dataclass(frozen=True)
class WritingStep:
    """A step on the way from the search's codes to the written ones."""

    name: str  #: "bank": the codes that were searched on; "corrected"; "tuned"
    judged: JudgedModel
    divergence: float  #: what the choice was made by, nats per token
    divergence_standard_error: float


@dataclass(frozen=True)
class WrittenModel:
    """A model that a run has chosen and written, and why."""

    path: Path  #: of the folder or file
    bytes: int  #: of its weight files
    bits: float  #: average per quantized weight, metadata included
    is_uniform: bool  #: on held-out text the best uniform model was better than the searched one
    chosen: JudgedModel
    other: JudgedModel | None  #: the one that lost; None: only one fits, or both are the same
    divergence: str  #: what the choice was made by: "kl" or "jsd"
    difference: float  #: divergence of ``chosen`` minus that of ``other``
    difference_standard_error: float
    heldout_tokens: int
    reference_perplexity: float  #: of the full model on the held-out text
    allocation: list[NamedScheme]
    counts: list[SchemeCount]
    codes: str  #: the other bank that the codes are from; empty: the run's
    steps: list[WritingStep]  #: what the effort made of it, the written model last; empty: the bank's codes
    memory: MemoryUse | None  #: where the budget was for a context
    notes: list[str]  #: what the engine's readers do otherwise


@dataclass(frozen=True)
class SearchSummary:
    """What a search did."""

    evaluations: int  #: distinct measurements that it asked for
    measured: int  #: of these, made now
    full_passes: float  #: their cost, in passes of the whole model over the text
    seconds: float


@dataclass(frozen=True)
class FrontPoint:
    """An allocation on a Pareto front."""

    bytes: int  #: of the files that would be written
    bits: float  #: average per quantized weight, metadata included
    divergence: float  #: mean per token, nats
    perplexity: float
    agreement: float  #: share of tokens whose most likely next token is the full model's
    strategy: str  #: that asked for it first
    allocation: list[NamedScheme]
    counts: list[SchemeCount]


@dataclass(frozen=True)
class FrontSummary:
    """How far some searches have come together."""

    evaluations: int
    full_passes: float
    hypervolume: float  #: normalised between the space's smallest and largest point; 0: not measured yet
    reference: tuple[float, float] | None  #: bits and divergence of the hypervolume's reference point


@dataclass(frozen=True)
class FrontSearch:
    """One search of a run."""

    strategy: str
    seed: int
    options: str
    finished: bool
    found: FrontSummary


@dataclass(frozen=True)
class Front(Sequence[FrontPoint]):
    """The Pareto front of what a run has measured: a sequence of points, ascending by size."""

    divergence: str  #: "kl" or "jsd"
    all: FrontSummary  #: of the searches that were asked for
    points: list[FrontPoint]
    searches: list[FrontSearch]  #: all searches of the run

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, index: Any) -> Any:
        return self.points[index]

    def __iter__(self) -> Iterator[FrontPoint]:
        return iter(self.points)

    def to_pandas(self) -> pandas.DataFrame:
        """A row for every point: bytes, bits, divergence, perplexity, agreement, strategy."""
        columns = ["bytes", "bits", "divergence", "perplexity", "agreement", "strategy"]
        rows = [[getattr(point, column) for column in columns] for point in self.points]
        return _pandas().DataFrame(rows, columns=columns)


@dataclass(frozen=True)
class BankResult:
    """What was done for a bank."""

    linears: int  #: matrices in the bank
    schemes: int  #: in the menu
    kept: int  #: matrices that were there already, whole
    damaged: int  #: that were there, damaged, and were made anew
    bytes: int  #: of all files of the bank
    seconds: float


@dataclass(frozen=True)
class CalibrateResult:
    """A finished calibration."""

    fingerprint: str  #: of the model
    text: str  #: hash of the text, or what was sampled
    identity: str  #: of the statistics
    samples: int
    window: int  #: tokens
    seed: int
    tokens: int
    seconds: float


@dataclass(frozen=True)
class Solved:
    """What MXQ's solver proved."""

    cost: str  #: what was made small
    objective: float
    bound: float  #: no allocation costs less
    gap: float  #: relative distance of the two


@dataclass(frozen=True)
class QuantizeResult:
    """A written model."""

    path: Path
    bytes: int  #: of all weight files
    bits: float  #: average per quantized weight, metadata included
    error: float  #: sum over the matrices of || W - Q(W) ||_F
    budget_bytes: int | None  #: as asked for
    memory: MemoryUse | None  #: where the budget was for a context: in Knapsaq itself
    solved: Solved | None  #: None for a given scheme or allocation
    allocation: list[NamedScheme]
    seconds: float


@dataclass(frozen=True)
class TuneMeasurement:
    """What a text says about a quantized model."""

    kl: float  #: KL(full || quantized), nats per token
    perplexity: float
    agreement: float  #: share of tokens whose most likely next token is the full model's


@dataclass(frozen=True)
class TunedText:
    """A text before and after tuning."""

    tokens: int  #: scored ones
    before: TuneMeasurement
    after: TuneMeasurement


@dataclass(frozen=True)
class TuneResult:
    """A tuned model, written."""

    path: Path
    bytes: int  #: of all weight files: what they were before
    parameters: int  #: numbers that were tuned
    steps: int
    best_step: int  #: the one that was written; 0: none was better than the untuned model
    train: TunedText  #: of the first windows that were tuned on
    heldout: TunedText
    foreign: TunedText | None
    seconds_per_step: float
    seconds: float
    peak_resident_bytes: int


@dataclass(frozen=True)
class ErrorTable:
    """Errors and sizes of every matrix in every scheme; arrays are [matrices, schemes]."""

    matrices: list[str]  #: module paths
    schemes: list[str]
    parameters: numpy.ndarray  #: int64 [matrices], weights
    fnorm: numpy.ndarray  #: float64, || W - Q(W) ||_F
    relative: numpy.ndarray  #: float64, fnorm / || W ||_F; NaN where the table does not know it
    hessian: numpy.ndarray  #: float64, mean squared change of the output per token; NaN likewise
    bytes: numpy.ndarray  #: uint64

    def to_pandas(self) -> pandas.DataFrame:
        """A row for every matrix and scheme."""
        rows = [
            [
                name,
                scheme,
                self.parameters[i],
                self.fnorm[i, j],
                self.relative[i, j],
                self.hessian[i, j],
                self.bytes[i, j],
            ]
            for i, name in enumerate(self.matrices)
            for j, scheme in enumerate(self.schemes)
        ]
        columns = ["matrix", "scheme", "parameters", "fnorm", "relative", "hessian", "bytes"]
        return _pandas().DataFrame(rows, columns=columns)


@dataclass(frozen=True)
class TablesResult:
    """A written table."""

    path: Path  #: CSV
    linears: int
    schemes: int
    seconds: float

    def read(self) -> ErrorTable:
        """The table as arrays."""
        from ._arrays import read_table

        return read_table(self.path)


@dataclass(frozen=True)
class AllocateResult:
    """A solution of MXQ's program (Eq. 3)."""

    cost: str
    objective: float  #: sum of the chosen errors
    bound: float  #: no allocation costs less
    gap: float  #: relative distance of the two
    bytes: int
    bits: float
    budget_bytes: int
    seconds: float  #: spent solving
    allocation: list[NamedScheme]


@dataclass(frozen=True)
class Recipe:
    """The types of a model's matrices, for llama.cpp's llama-quantize --tensor-type-file."""

    path: Path
    matrices: int  #: one entry each
    file_type: str  #: the last argument for llama-quantize
    needs_imatrix: bool  #: llama-quantize makes these types with an importance matrix only
    command: str  #: for a shell


@dataclass(frozen=True)
class ExportResult:
    """A model in another format, a recipe, or both."""

    path: Path  #: empty for a recipe alone
    format: str
    bytes: int  #: of the weight files
    changes: list[str]  #: a line for every matrix that was not carried exactly
    notes: list[str]  #: what the format's readers do otherwise
    recipe: Recipe | None = None


@dataclass(frozen=True)
class Windows:
    """How a text was cut."""

    protocol: str
    window: int  #: tokens
    stride: int  #: of protocol stride
    limit: int  #: windows; 0: all


@dataclass(frozen=True)
class KlStatistics:
    """KL(reference || model) over the scored tokens of a text, in nats; NaN for a model without finite numbers."""

    mean: float
    standard_error: float  #: of the mean, from the spread between windows
    median: float
    quantile_99: float  #: 99 % of the tokens are at most this far
    quantile_99_9: float  #: 99.9 %
    largest: float


@dataclass(frozen=True)
class BesideReference:
    """A model on a text beside the full-precision one."""

    kl: KlStatistics
    flips: float  #: share of tokens whose most likely next token is not the reference's
    perplexity: float  #: the reference's own


@dataclass(frozen=True)
class TextScore:
    """A model on a text."""

    perplexity: float
    nll: float  #: weighted mean of the negative log-likelihood, nats per token
    standard_error: float  #: of nll
    tokens: int  #: scored ones
    windows: int
    how: Windows
    seconds: float
    reference: BesideReference | None = None


@dataclass(frozen=True)
class TaskAccuracy:
    """Share of items that were answered right."""

    value: float
    standard_error: float


@dataclass(frozen=True)
class TaskScore:
    """A model on a task."""

    task: str
    items: int
    acc: TaskAccuracy  #: by likelihood
    acc_norm: TaskAccuracy | None  #: by likelihood per character, for tasks that have it


@dataclass(frozen=True)
class TaskScores:
    """A model on tasks."""

    scores: list[TaskScore]
    average: TaskAccuracy  #: of acc_norm where there is one, else acc
    items: int
    seconds: float


@dataclass(frozen=True)
class ModelMemory:
    """Bytes of a model in memory."""

    linears: int
    head: int
    embedding: int
    workspace: int


@dataclass(frozen=True)
class EvaluateResult:
    """How a model was judged."""

    text: TextScore | None
    tasks: TaskScores | None
    memory: ModelMemory
    peak_resident_bytes: int  #: of the process

    @property
    def perplexity(self) -> float:
        """``text.perplexity``. Raises AttributeError if no text was scored."""
        if self.text is None:
            raise AttributeError("no text was scored: there is no perplexity")
        return self.text.perplexity


@dataclass(frozen=True)
class Case:
    """A model quantized one way, and what was measured of it."""

    method: str  #: "rtn", "gptq", "mxq", ..; "none" for the model as it came
    configuration: str  #: a scheme without its method, or MXQ's budget: "b3g64", "3.25"
    bits: float  #: average per quantized weight, metadata included
    bytes: int  #: of all weight files
    memory: int  #: bytes of all tensors as they are stored
    perplexity: float  #: NaN if the model computes no finite numbers
    quantize_seconds: float
    tasks: list[float]  #: what counts of every task
    average: float  #: of these; 0 without tasks
    broken: str  #: why perplexity and tasks are NaN; empty: they are not


@dataclass(frozen=True)
class CompareResult:
    """A model quantized in many ways."""

    cases: list[Case]
    tasks: list[str]  #: whose scores the cases have
    window: int  #: tokens
    text_tokens: int

    def to_pandas(self) -> pandas.DataFrame:
        """A row for every case; tasks are columns of their names."""
        rows = []
        for case in self.cases:
            row = dataclasses.asdict(case)
            row.update(zip(self.tasks, row.pop("tasks")))
            rows.append(row)
        return _pandas().DataFrame(rows)


@dataclass(frozen=True)
class KlDifference:
    """Mean over the same tokens of the KL of two files."""

    mean: float
    standard_error: float  #: from the spread between windows


@dataclass(frozen=True)
class JudgedFile:
    """A file on a text, judged by the model that it was made from. NaN for one that computes no finite numbers."""

    path: str  #: as it was given
    name: str
    bytes: int  #: of its file or files
    bits: float  #: 8 bytes / weights of the model
    kl: KlStatistics
    flips: float  #: share of tokens whose most likely next token is not the reference's
    perplexity: float
    loss: float  #: its logarithm
    loss_standard_error: float
    rival: int | None  #: index of the closest to the reference of the other files that are at most as large
    difference: KlDifference  #: this file's KL minus the rival's; above 0 the file is not worth its bytes
    broken: str  #: why there are no numbers; empty: there are


@dataclass(frozen=True)
class FilesComparison:
    """Files of one model, judged on one text."""

    files: list[JudgedFile]  #: ascending by bytes
    differences: list[list[KlDifference]]  #: of every two of them: the first's KL minus the second's
    reference_bytes: int
    reference_perplexity: float
    how: Windows
    windows: int
    tokens: int  #: scored ones
    prediction_bytes: int  #: memory that the reference's predictions took

    def to_pandas(self) -> pandas.DataFrame:
        """A row for every file."""
        rows = []
        for one in self.files:
            row = dataclasses.asdict(one)
            row.update({f"kl_{name}": value for name, value in row.pop("kl").items()})
            row.update({f"difference_{name}": value for name, value in row.pop("difference").items()})
            row["rival"] = "" if one.rival is None else self.files[one.rival].path
            rows.append(row)
        return _pandas().DataFrame(rows)


@dataclass(frozen=True)
class BenchResult:
    """A model's speed and memory."""

    backend: str  #: for people: "cpu, avx512_bf16, bf16"
    load_seconds: float
    prompt_tokens_per_second: float
    generation_tokens_per_second: float  #: from an empty cache
    generation_after_prompt_tokens_per_second: float  #: behind the prompt
    first_token_seconds: float
    weight_bytes: int  #: that every token reads
    dram_bytes_per_second: float  #: what this machine reads
    bandwidth_fraction: float  #: of that, what generation reached
    memory: ModelMemory
    cache_bytes: int
    resident_bytes: int
    peak_resident_bytes: int


@dataclass(frozen=True)
class StoredAs:
    """How a matrix [out, in] is stored."""

    name: str  #: module path
    out: int  #: rows
    in_: int  #: columns
    scheme: str  #: "hqq:b3g64/m8g128", or the type of a dense one: "f16"
    in_block: bool  #: not embedding or head


@dataclass(frozen=True)
class ModelInfo:
    """What a model is."""

    architecture: str
    quantized_as: str  #: by another tool: "GPTQ, 4 bits in groups of 128"; empty: not
    quantized_bits: float  #: of one of the weights that it quantized, in its files
    parameters: int
    bytes: int  #: of all tensors
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocabulary: int
    positions: int
    tied: bool  #: the head is the embedding
    notes: list[str]  #: what is remarkable about the files
    unread_tensors: list[str]  #: that the architecture has no use for
    matrices: list[StoredAs]
    memory: MemoryUse | None  #: with ``context``: what the model takes as it is stored


@dataclass(frozen=True)
class Study:
    """A comparison of strategies: the files that it has written."""

    path: Path  #: folder with study.json, runs.csv, curves.csv and tests.csv

    def data(self) -> dict[str, Any]:
        """study.json (docs/commands.md lists its fields)."""
        import json

        return json.loads((self.path / "study.json").read_text())

    def _rows(self, name: str) -> list[dict[str, str]]:
        with open(self.path / name, newline="") as file:
            return list(csv.DictReader(file))

    @property
    def runs(self) -> list[dict[str, str]]:
        """A row for every run and every baseline, as runs.csv has them; ``kind`` says which."""
        return self._rows("runs.csv")

    @property
    def tests(self) -> list[dict[str, str]]:
        """A row for every pair of strategies."""
        return self._rows("tests.csv")


@dataclass(frozen=True)
class Generated:
    """A text that a model has written. ``str()`` of it is the text."""

    text: str  #: without the prompt
    tokens: list[int]
    reason: str  #: why it ended: "stop", "length" or "context"
    prompt_tokens: int
    reused_tokens: int  #: of the prompt, which were computed for the text before
    prompt_tokens_per_second: float | None  #: None where nothing was computed
    generation_tokens_per_second: float | None  #: None where nothing was measured
    first_token_seconds: float

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class StrategyOption:
    """A constant of a strategy."""

    name: str
    default: str
    help: str


@dataclass(frozen=True)
class Strategy:
    """A way to search."""

    name: str
    summary: str
    options: list[StrategyOption]


_KINDS: dict[type, type] = {
    _native.NamedScheme: NamedScheme,
    _native.SchemeCount: SchemeCount,
    _native.JudgedModel: JudgedModel,
    _native.MemoryUse: MemoryUse,
    _native.WritingStep: WritingStep,
    _native.WrittenModel: WrittenModel,
    _native.SearchSummary: SearchSummary,
    _native.FrontResult: Front,
    _native.FrontResult.Point: FrontPoint,
    _native.FrontResult.Search: FrontSearch,
    _native.FrontSummary: FrontSummary,
    _native.BankResult: BankResult,
    _native.CalibrateResult: CalibrateResult,
    _native.QuantizeResult: QuantizeResult,
    _native.QuantizeResult.Solved: Solved,
    _native.TuneMeasurement: TuneMeasurement,
    _native.TuneResult: TuneResult,
    _native.TuneResult.Text: TunedText,
    _native.TablesResult: TablesResult,
    _native.AllocateResult: AllocateResult,
    _native.ExportResult: ExportResult,
    _native.ExportResult.Recipe: Recipe,
    _native.KlStatistics: KlStatistics,
    _native.KlDifference: KlDifference,
    _native.JudgedFile: JudgedFile,
    _native.JudgeFilesResult: FilesComparison,
    _native.EvaluateResult.Reference: BesideReference,
    _native.EvaluateResult: EvaluateResult,
    _native.EvaluateResult.Text: TextScore,
    _native.EvaluateResult.Tasks: TaskScores,
    _native.WindowOptions: Windows,
    _native.TaskScore: TaskScore,
    _native.TaskAccuracy: TaskAccuracy,
    _native.ModelMemory: ModelMemory,
    _native.CompareResult: CompareResult,
    _native.CaseResult: Case,
    _native.BenchResult: BenchResult,
    _native.ModelInfo: ModelInfo,
    _native.ModelInfo.StoredAs: StoredAs,
    _native.GeneratedText: Generated,
}


def of(value: Any) -> Any:
    """A result of the library as the dataclass for it."""
    kind = _KINDS.get(type(value))
    if kind is not None:
        return kind(**{field.name: of(getattr(value, field.name)) for field in dataclasses.fields(kind)})
    if isinstance(value, list):
        return [of(one) for one in value]
    return value
