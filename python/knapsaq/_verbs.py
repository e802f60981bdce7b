"""The verbs of the command, in the same words. Every call says which verb it is."""

from __future__ import annotations

import pathlib
from typing import Any, Union
from collections.abc import Callable, Iterable, Mapping

from . import _native, _options, _results
from ._errors import UsageError
from ._job import call
from ._options import Path, Paths, Strings, fill, path, paths, strings
from ._progress import Progress
from ._run import Fit, Run, Search

#: True: a bar, where somebody looks at one. False: nothing. A function: called with a Progress.
ProgressLike = Union[bool, Callable[[Progress], Any]]


def _at_least(least: int, **given: int | None) -> None:
    for name, value in given.items():
        if value is not None and value < least:
            raise UsageError(f"{name} has to be {least} or more")


def _search_options(
    options: Any, strategy: str, constants: Mapping[str, Any] | Strings, evaluations: int, seed: int, goal: str | None
) -> None:
    _at_least(0, evaluations=evaluations, seed=seed)
    fill(options, strategy=strategy, set=_options.constants(constants), evaluations=evaluations, seed=seed, goal=goal)


def _run_options(options: Any, arguments: dict[str, Any]) -> None:
    """What is of _RUN in a call's arguments."""
    _at_least(2, tokens=arguments["tokens"], heldout=arguments["heldout"])
    _options.set_run(options, **{name: arguments[name] for name in _RUN})


#: What a run is of: arguments of fit(), search() and study().
_RUN = (
    "engine", "menu", "method", "bank", "ties", "pins", "keep", "tokens", "heldout", "divergence", "text", "samples",
    "window", "text_seed", "fisher_tokens", "precision",
)  # fmt: skip


def fit(
    model: Path,
    budget: str | int | None = None,
    *,
    output: Path,
    bpw: float | None = None,
    bits: float | None = None,
    context: int | None = None,
    cache: str | None = None,
    run: Path | None = None,
    report: Path | None = None,
    strategy: str = "front",
    set: Mapping[str, Any] | Strings = None,
    evaluations: int = 0,
    seed: int = 0,
    effort: str = "normal",
    force: bool = False,
    engine: str | None = None,
    menu: str | None = None,
    method: str | None = None,
    bank: Path | None = None,
    ties: str | None = None,
    pins: Strings = None,
    keep: Strings = None,
    tokens: int | None = None,
    heldout: int | None = None,
    divergence: str | None = None,
    text: Paths = None,
    samples: int | None = None,
    window: int | None = None,
    text_seed: int | None = None,
    fisher_tokens: int | None = None,
    precision: str | None = None,
    watch: bool = False,
    threads: int = 0,
    progress: ProgressLike = True,
) -> Fit:
    """All of it: quantize, search, compare with uniform, write the best model that fits. ``knapsaq fit``.

    What is finished is kept in the run's folder: after Ctrl-C or a kill the same call goes on. Results do not depend
    on ``threads``, and are those of the command to the byte.

    Args:
        model: folder in Hugging Face layout, full precision; or a repository of the local Hugging Face cache,
            "organisation/name" or "organisation/name@revision".
        budget: most bytes of all weight files: a number, or a size such as "4.2MiB" (``--budget``).
        output: folder to write; with ``engine="llama.cpp"`` a GGUF file (``-o``).
        bpw: the budget as bits of all files per weight of the whole model; one of the three (``--bpw``).
        bits: the budget as average bits per weight of the linears in the blocks, embedding and head as stored
            (``--bits``).
        context, cache: with ``budget``: it has to hold, beside the files, keys and values of so many tokens, stored
            as ``cache`` ("fp16", for llama.cpp also "q8_0", ..; default: the engine's), and the engine's work space.
        run: folder of bank and archive, kept for other budgets; default: ``output`` + ".run".
        report: HTML page about the run; default: report.html in the run's folder.
        strategy, set, evaluations, seed: the search: its strategy (see :func:`strategies`), that one's constants as
            ``{"rounds": 8}``, most measurements (0: what the constants make of it), its seed.
        effort: what is spent after the search on the same bytes: "quick" (nothing), "normal" (codes that correct the
            errors before them, then tuning) or "best" (of three allocations, three times the tuning).
        force: replace the output.
        engine: what has to load the result: "llama.cpp", "mlx", "vllm", "transformers" or "gptqmodel" (``--for``);
            it sets menu, method, ties, what stays dense, and the format that is written.
        menu: schemes to choose from: "affine", "mxq", "mxq-f16", "gguf" or a list with commas; default: "affine", or
            the engine's.
        method: for the menu's affine schemes; default: "gptq", or the engine's.
        bank: a bank that :func:`bank` made; default: one in the run's folder.
        ties: matrices that share a scheme: "none", "qkv", "gate-up", "vllm", "layer" (``--tie``).
        pins: constraints: "PATTERN=SCHEME", "PATTERN>=BITS" or "PATTERN<=BITS" (``--pin``).
        keep: patterns of matrices that stay as they are stored (``--keep``).
        tokens: tokens that an allocation is measured on; default 8192.
        heldout: tokens that the result is judged by, unseen before; default 16384.
        divergence: "kl" (default), or "jsd" as AMQ measures.
        text: calibration text: files, or "self" (default) for text that the model itself samples.
        samples, window, text_seed: calibration windows, tokens in each, seed of their places.
        fisher_tokens: tokens for Fisher information, by one backward pass; default 2048; 0: none, and "front" begins
            with a sweep of single changes.
        precision: arithmetic of the forward pass, "bf16" (default) or "fp32".
        watch: serve a page on this machine that follows the run; a note says where.
        threads: to work with; 0: one per core.
        progress: True: a bar in a terminal or a notebook; False: nothing; a function: called with
            :class:`Progress` from this thread, some 20 times a second at most.

    Raises:
        UsageError: for what cannot be, before any work.
        InfeasibleError: nothing fits; ``minimum`` is the smallest budget that does.
        InputError, IoError: of files.
        KeyboardInterrupt: on Ctrl-C, once the work has stopped.
    """
    options = _native.FitOptions()
    fill(options, output=path(output), run=path(run), report=path(report), effort=effort, force=force)
    _options.set_budget(options.budget, budget, bpw, bits, context, cache)
    _search_options(options.search, strategy, set, evaluations, seed, None)
    _run_options(options.of, locals())
    return Fit(call(_native.fit, path(model), options, threads=threads, progress=progress, watch=watch), path(model))


def search(
    model: Path,
    run: Path,
    *,
    strategy: str = "front",
    set: Mapping[str, Any] | Strings = None,
    evaluations: int = 0,
    seed: int = 0,
    goal: str | None = None,
    amq_faithful: bool = False,
    budget: str | int | None = None,
    bpw: float | None = None,
    bits: float | None = None,
    context: int | None = None,
    cache: str | None = None,
    resume: bool = False,
    engine: str | None = None,
    menu: str | None = None,
    method: str | None = None,
    bank: Path | None = None,
    ties: str | None = None,
    pins: Strings = None,
    keep: Strings = None,
    tokens: int | None = None,
    heldout: int | None = None,
    divergence: str | None = None,
    text: Paths = None,
    samples: int | None = None,
    window: int | None = None,
    text_seed: int | None = None,
    fisher_tokens: int | None = None,
    precision: str | None = None,
    watch: bool = False,
    threads: int = 0,
    progress: ProgressLike = True,
) -> Search:
    """Searches for the Pareto front of size against quality in the folder ``run``. ``knapsaq search``.

    Every measurement is kept as it is made: after a kill the same call goes on.

    Args:
        goal: what ga, pso, sa and de look for: "budget" (divergence within it; default) or "paper".
        amq_faithful: amq with the known flaws of its reference code.
        budget, bpw, bits: the size that is wanted in the end; may be left out. context, cache: as :func:`fit`.
        resume: refuse to start anew: this search has to have begun in the folder.

    All others are those of :func:`fit`. Raises as :func:`fit` does.
    """
    options = _native.SearchOptions()
    fill(options, run=path(run), resume=resume)
    _options.set_budget(options.budget, budget, bpw, bits, context, cache)
    constants = _options.constants(set) + (["faithful=1"] if amq_faithful else [])
    _search_options(options.search, strategy, constants, evaluations, seed, goal)
    _run_options(options.of, locals())
    result = call(_native.search, path(model), options, threads=threads, progress=progress, watch=watch)
    return Search(result, path(model))


def study(
    model: Path,
    run: Path,
    *,
    strategies: Strings = ("ga", "pso", "sa", "de"),
    repeats: int = 10,
    evaluations: int = 110,
    seed: int = 1,
    set: Mapping[str, Any] | Strings = None,
    goal: str = "paper",
    budget: str | int | None = None,
    bpw: float | None = None,
    bits: float | None = None,
    context: int | None = None,
    cache: str | None = None,
    engine: str | None = None,
    menu: str | None = None,
    method: str | None = None,
    bank: Path | None = None,
    ties: str | None = None,
    pins: Strings = None,
    keep: Strings = None,
    tokens: int | None = None,
    heldout: int | None = None,
    divergence: str | None = None,
    text: Paths = None,
    samples: int | None = None,
    window: int | None = None,
    text_seed: int | None = None,
    fisher_tokens: int | None = None,
    precision: str | None = None,
    watch: bool = False,
    threads: int = 0,
    progress: ProgressLike = True,
) -> _results.Study:
    """Compares search strategies by repeated runs, as the metaheuristic paper does. ``knapsaq study``.

    Args:
        run: folder of the study; one that was interrupted goes on where it was.
        strategies: names, a list or with commas.
        repeats: independent runs of each.
        evaluations: questions of every run.
        seed: of the first runs; the next ones get the next seeds.
        set: constants: {"population": 20} for all strategies that have it, {"pso.inertia": 0.5} for one.
        goal: "paper": 1000 / (PPL x sum of bits); "budget": divergence within the budget.

    All others are those of :func:`fit`; the defaults are the paper's. Raises as :func:`fit` does.
    """
    _at_least(2, repeats=repeats, evaluations=evaluations)
    _at_least(0, seed=seed)
    options = _native.StudyOptions()
    fill(
        options,
        run=path(run),
        strategies=_options.commas(strategies),
        repeats=repeats,
        evaluations=evaluations,
        seed=seed,
        set=_options.constants(set),
        goal=goal,
    )
    _options.set_budget(options.budget, budget, bpw, bits, context, cache)
    _run_options(options.of, locals())
    return _results.Study(call(_native.study, path(model), options, threads=threads, progress=progress, watch=watch))


def quantize(
    model: Path,
    budget: str | int | None = None,
    *,
    output: Path,
    bpw: float | None = None,
    bits: float | None = None,
    context: int | None = None,
    cache: str | None = None,
    scheme: str | None = None,
    allocation: Path | None = None,
    bank: Path | None = None,
    menu: str | None = None,
    table: Path | None = None,
    keep: Strings = None,
    pins: Strings = None,
    cost: str | None = None,
    ties: str = "none",
    solver: str = "knapsack",
    gap: float = 0.0,
    time_limit: float = 60.0,
    propagate: bool = False,
    force: bool = False,
    calibration: Path | None = None,
    text: Paths = None,
    samples: int | None = None,
    window: int | None = None,
    text_seed: int | None = None,
    fisher: bool = False,
    fisher_tokens: int | None = None,
    precision: str | None = None,
    threads: int = 0,
    progress: ProgressLike = True,
) -> _results.QuantizeResult:
    """Writes one quantized model, without a search. ``knapsaq quantize``.

    Give one of: a budget (``budget``, with ``context`` and ``cache`` as in :func:`fit`; ``bpw``; ``bits``), which MXQ's
    allocation fills; ``scheme``, for every linear of the blocks; ``allocation``, a file with the JSON that
    ``knapsaq allocate --json`` printed.

    Args:
        model: folder in Hugging Face layout, full precision.
        output: folder to write.
        bank: choose among and write the matrices of this bank.
        menu: schemes to choose from without a bank; default "mxq".
        table: errors from this CSV of :func:`tables`; default: they are measured.
        pins: with ``scheme``: "PATTERN=SCHEME".
        cost: what is made small: "fnorm", "relative", "hessian", "fisher"; default: the usual of the table.
        ties: "none", "qkv", "gate-up", "vllm", "layer"; several with commas (``--tie``).
        solver: "knapsack", exact, or "highs", which ``gap`` and ``time_limit`` (seconds) are for.
        propagate: quantize anew, stage by stage, with errors of what is quantized before corrected.
        fisher: a calibration that is made here has Fisher information, and "gptq" uses it (see :func:`calibrate`).
        calibration: folder of :func:`calibrate`, made there from ``text`` if it does not exist, or llama.cpp's imatrix.

    The others are those of :func:`fit`. Raises as :func:`fit` does.
    """
    if bank is not None and (menu is not None or table is not None):
        raise UsageError("a bank has its menu and its errors: leave menu and table out")
    options = _native.QuantizeOptions()
    _options.set_budget(options.budget, budget, bpw, bits, context, cache)
    fill(
        options,
        output=path(output),
        scheme=scheme,
        allocation=path(allocation),
        bank=path(bank),
        menu=menu,
        table=path(table),
        keep=strings(keep),
        pins=strings(pins),
        cost=cost,
        ties=ties,
        propagate=propagate,
        force=force,
    )
    fill(options.solver, solver=solver, gap=gap, time_limit=time_limit)
    _options.set_calibration(
        options.calibration,
        folder=calibration,
        text=text,
        samples=samples,
        window=window,
        seed=text_seed,
        fisher=fisher,
        fisher_tokens=fisher_tokens,
        precision=precision,
    )
    return _results.of(call(_native.quantize, path(model), options, threads=threads, progress=progress))


def bank(
    model: Path,
    output: Path,
    *,
    menu: str = "mxq",
    method: str | None = None,
    engine: str | None = None,
    keep: Strings = None,
    calibration: Path | None = None,
    text: Paths = None,
    samples: int | None = None,
    window: int | None = None,
    text_seed: int | None = None,
    fisher: bool = False,
    fisher_tokens: int | None = None,
    precision: str | None = None,
    threads: int = 0,
    progress: ProgressLike = True,
) -> _results.BankResult:
    """Quantizes every matrix by every scheme, once, and keeps it in the folder ``output``. ``knapsaq bank``.

    A bank that was begun is gone on with. The arguments are those of :func:`fit` and :func:`quantize`; raises as they
    do.
    """
    options = _native.BankOptions()
    fill(options, menu=menu, method=method, engine=engine, keep=strings(keep))
    _options.set_calibration(
        options.calibration,
        folder=calibration,
        text=text,
        samples=samples,
        window=window,
        seed=text_seed,
        fisher=fisher,
        fisher_tokens=fisher_tokens,
        precision=precision,
    )
    return _results.of(call(_native.bank, path(model), options, path(output), threads=threads, progress=progress))


def tune(
    quantized: Path,
    model: Path,
    *,
    output: Path,
    text: Paths = None,
    foreign: Path | None = None,
    steps: int | None = None,
    batch: int | None = None,
    window: int | None = None,
    heldout: int | None = None,
    rate: float | None = None,
    text_seed: int | None = None,
    precision: str | None = None,
    force: bool = False,
    threads: int = 0,
    progress: ProgressLike = True,
) -> _results.TuneResult:
    """Tunes a quantized model's scales by the full model: better at the same bytes. ``knapsaq tune``.

    What is done is kept in ``output`` + ".tuning" until the output is there: after a kill the same call goes on.

    Args:
        quantized: folder that :func:`fit`, :func:`quantize` or this wrote; codes and schemes stay.
        model: the full-precision model that it was made from.
        output: folder to write.
        text: files to tune on, or "self" (default) for text that the full model samples.
        foreign: a text that is measured before and after and not tuned on.
        steps: of Adam at most; default 100.
        batch: windows in a step; default 4.
        window: tokens in a window; default 512.
        heldout: tokens that decide which step is written; default 8192.
        rate: learning rate at the first step for codes of 2 bits; half of it for each bit more.
        text_seed: seed of the text.

    The others are those of :func:`fit`. Raises as :func:`fit` does.
    """
    if precision is not None and precision not in ("bf16", "fp32"):
        raise UsageError('precision has to be "bf16" or "fp32"')
    _at_least(1, steps=steps, batch=batch)
    _at_least(0, window=window, text_seed=text_seed)
    _at_least(2, heldout=heldout)
    options = fill(
        _native.TuneOptions(),
        output=path(output),
        text=None if text is None else _options.paths(text),
        foreign=path(foreign),
        steps=steps,
        batch=batch,
        window=window,
        heldout=heldout,
        rate=rate,
        seed=text_seed,
        precision=precision,
        force=force,
    )
    return _results.of(call(_native.tune, path(quantized), path(model), options, threads=threads, progress=progress))


def calibrate(
    model: Path,
    output: Path,
    *,
    text: Paths = None,
    samples: int | None = None,
    window: int | None = None,
    text_seed: int | None = None,
    fisher: bool = False,
    fisher_tokens: int | None = None,
    precision: str | None = None,
    imatrix: Path | None = None,
    force: bool = False,
    threads: int = 0,
    progress: ProgressLike = True,
) -> _results.CalibrateResult:
    """Measures what a model's matrices multiply, on a text or on text of its own. ``knapsaq calibrate``.

    Args:
        output: folder; one that was begun with the same options is gone on with.
        fisher: also measure gradients by the matrices' outputs (Fisher information), on ``fisher_tokens`` tokens.
        imatrix: also write the mean squares to this GGUF file, as llama.cpp reads them.
        force: replace another calibration in ``output``, and the imatrix file.
        text_seed: seed of the windows' places (the command's ``--seed``).

    The others are those of :func:`fit`. Raises UsageError, InputError, IoError.
    """
    options = _native.CalibrateOptions()
    fill(options, output=path(output), imatrix=path(imatrix), force=force)
    _options.set_calibration(
        options.calibration, text=text, samples=samples, window=window, seed=text_seed, fisher=fisher,
        fisher_tokens=fisher_tokens, precision=precision
    )
    return _results.of(call(_native.calibrate, path(model), options, threads=threads, progress=progress))


def tables(
    model: Path | None = None,
    *,
    output: Path,
    bank: Path | None = None,
    menu: str | None = None,
    keep: Strings = None,
    threads: int = 0,
    progress: ProgressLike = True,
) -> _results.TablesResult:
    """Writes the error and the size of every matrix in every scheme as CSV. ``knapsaq tables``.

    Args:
        model: folder or GGUF file; or leave it out and give ``bank``.
        output: CSV file; an older table is replaced. ``read()`` of the result gives it as arrays.
        menu: schemes, of a model; default "mxq".
        keep: patterns of matrices that are left out, of a model.
    """
    if bank is not None and (menu is not None or keep is not None):
        raise UsageError("a bank has its menu and its matrices: leave menu and keep out")
    options = _native.TablesOptions()
    fill(options, model=path(model), bank=path(bank), output=path(output), menu=menu, keep=strings(keep))
    return _results.of(call(_native.tables, options, threads=threads, progress=progress))


def allocate(
    *,
    table: Path | None = None,
    bank: Path | None = None,
    bits: float | None = None,
    budget: str | int | None = None,
    cost: str | None = None,
    ties: str = "none",
    solver: str = "knapsack",
    gap: float = 0.0,
    time_limit: float = 60.0,
    threads: int = 0,
    progress: ProgressLike = True,
) -> _results.AllocateResult:
    """Solves MXQ's program (Eq. 3) on a table of errors and sizes, or on a bank. ``knapsaq allocate``.

    Args:
        table: CSV of :func:`tables` or of MXQ's own tools; or ``bank``.
        bits: average per weight of the linears in the blocks; or ``budget``, bytes of all matrices of the table.

    The others are those of :func:`quantize`. Raises UsageError, InfeasibleError, InputError.
    """
    options = _native.AllocateOptions()
    fill(
        options,
        table=path(table),
        bank=path(bank),
        cost=cost,
        bits=bits,
        bytes=None if budget is None else _options.size(budget),
        ties=ties,
    )
    fill(options.solver, solver=solver, gap=gap, time_limit=time_limit)
    return _results.of(call(_native.allocate, options, threads=threads, progress=progress))


def export(
    model: Path,
    format: str | None = None,
    output: Path | None = None,
    *,
    recipe: Path | None = None,
    requantize: bool = False,
    force: bool = False,
    threads: int = 0,
    progress: ProgressLike = True,
) -> _results.ExportResult:
    """Writes a quantized model in a format that others load, a recipe of its types, or both. ``knapsaq export``.

    Args:
        model: folder that :func:`quantize`, :func:`fit` or :meth:`Run.pick` wrote; for a recipe alone also a GGUF file.
        format: "gguf", "mlx", "compressed-tensors", "gptq" or "auto-round".
        output: file or folder, as the format has it.
        recipe: file for llama.cpp's ``llama-quantize --tensor-type-file``, which makes the same types by it.
        requantize: quantize matrices once more where the format cannot hold them exactly.

    Raises UsageError, before anything is written, naming the first matrix that the format cannot carry.
    """
    if format is None:
        if output is not None:
            raise UsageError("format is needed to write a model")
        format = "gguf"  # what a recipe is of
    options = fill(
        _native.ExportOptions(), format=format, output=path(output), recipe=path(recipe), requantize=requantize,
        force=force
    )
    return _results.of(call(_native.export, path(model), options, threads=threads, progress=progress))


def evaluate(
    model: Path,
    *,
    text: Path | None = None,
    reference: Path | None = None,
    protocol: str = "gptq",
    window: int = 0,
    stride: int = 0,
    windows: int = 0,
    precision: str = "bf16",
    tasks: Strings = None,
    data: Path | None = None,
    limit: int = 0,
    items: Path | None = None,
    run: Path | None = None,
    threads: int = 0,
    progress: ProgressLike = True,
) -> _results.EvaluateResult:
    """Measures a model's perplexity on a text, and its answers to tasks. ``knapsaq eval``.

    Args:
        model: folder, quantized or not, or GGUF file.
        text: file (UTF-8), or C4's documents as .jsonl.
        reference: the full-precision model: how far the model's predictions of the text are from its
            (``.text.reference``).
        protocol: "gptq", "stride" or "llama". Numbers of different protocols do not compare.
        window: tokens in a window; 0: gptq 2048, stride 1024, llama 512, or what the model can see.
        stride: tokens between windows of protocol stride; 0: half a window.
        windows: score the first so many windows only; 0: all.
        precision: arithmetic of the forward pass: "bf16", "fp32", or "int8" for fp32 with inputs rounded as llama.cpp's
            kernels for processors do.
        tasks: zero-shot tasks: "arc_easy", "piqa", ..; "all". ``data``: folder with a NAME.jsonl for every task;
            ``limit``: the first so many items of every task; ``items``: JSONL file that gets a line for every item.
        run: folder of a run whose report is to show what the tasks found.

    Returns: with ``.perplexity``, ``.text``, ``.tasks``. Raises NotFiniteError for a model that computes no finite
    numbers, UsageError, InputError.
    """
    if precision not in ("bf16", "fp32", "int8"):
        raise UsageError('precision has to be "bf16", "fp32" or "int8"')
    _at_least(0, limit=limit)
    options = _native.EvaluateOptions()
    fill(options, text=path(text), reference=path(reference), protocol=protocol, precision=precision, items=path(items), run=path(run))
    _options.windows(options.windows, window, stride, windows)
    fill(options.tasks, names=_options.commas(tasks), data=path(data), limit=limit)
    return _results.of(call(_native.evaluate, path(model), options, threads=threads, progress=progress))


def compare(
    model: Path,
    *,
    text: Path,
    output: Path | None = None,
    methods: Strings = ("rtn", "hqq", "nf4", "gptq", "awq", "mxq"),
    configurations: Strings = ("b4g128", "b4g64", "b3g128", "b3g64", "b2g64"),
    budgets: str | Iterable[float] = "2.5,2.75,3.13,3.25,4.13,4.25",
    menu: str = "mxq",
    protocol: str = "gptq",
    window: int = 0,
    stride: int = 0,
    windows: int = 0,
    tasks: Strings = None,
    data: Path | None = None,
    limit: int = 0,
    calibration_text: Paths = None,
    samples: int | None = None,
    calibration_window: int | None = None,
    text_seed: int | None = None,
    precision: str | None = None,
    threads: int = 0,
    progress: ProgressLike = True,
) -> _results.CompareResult:
    """Quantizes a model in many ways and scores each of them. ``knapsaq compare``.

    Args:
        text: file that is scored.
        output: CSV that gets a row per finished case; a comparison that was stopped goes on with it.
        methods, configurations: lists, or names with commas.
        budgets: bits per weight for mxq: numbers, a list with commas, or "FIRST:LAST:STEP".
        text_seed: which calibration windows (the command's ``--seed``).

    The others are those of :func:`evaluate` and :func:`fit`. Raises as they do.
    """
    _at_least(0, limit=limit)
    options = _native.CompareOptions()
    fill(
        options,
        text=path(text),
        output=path(output),
        methods=_options.commas(methods),
        configurations=_options.commas(configurations),
        budgets=budgets if isinstance(budgets, str) else ",".join(str(one) for one in budgets),
        menu=menu,
        protocol=protocol,
    )
    _options.windows(options.windows, window, stride, windows)
    fill(options.tasks, names=_options.commas(tasks), data=path(data), limit=limit)
    _options.set_calibration(
        options.calibration,
        text=calibration_text,
        samples=samples,
        window=calibration_window,
        seed=text_seed,
        precision=precision,
    )
    return _results.of(call(_native.compare, path(model), options, threads=threads, progress=progress))


def compare_files(
    files: Paths,
    *,
    reference: Path,
    text: Path,
    output: Path | None = None,
    page: Path | None = None,
    protocol: str = "gptq",
    window: int = 0,
    windows: int = 0,
    precision: str = "bf16",
    threads: int = 0,
    progress: ProgressLike = True,
) -> _results.FilesComparison:
    """Judges files of one model, whoever made them, by that model on one text. ``knapsaq compare --reference``.

    Args:
        files: GGUF files and folders.
        reference: the full-precision model.
        output: CSV with a row for every file; a comparison that was stopped goes on with it.
        page: HTML page with the table and a plot of KL against bytes.
        protocol: "gptq" or "llama".

    The others are those of :func:`evaluate`. Raises InputError for files of other vocabularies, UsageError.
    """
    options = _native.JudgeFilesOptions()
    fill(
        options,
        files=paths(files),
        reference=path(reference),
        text=path(text),
        output=path(output),
        page=path(page),
        protocol=protocol,
        precision=precision,
    )
    _options.windows(options.windows, window, 0, windows)
    return _results.of(call(_native.compare_files, options, threads=threads, progress=progress))


def info(
    model: Path, *, context: int | None = None, cache: str | None = None, engine: str | None = None
) -> _results.ModelInfo:
    """What a model is and how its matrices are stored. ``knapsaq info``.

    Args:
        context: tokens for which ``memory`` says what the model takes. cache: how keys and values are stored.
        engine: where: "llama.cpp", "mlx", ..; default: in Knapsaq itself.
    """
    if context is not None and context < 1:
        raise UsageError("context has to be above 0")
    options = fill(_native.InfoOptions(), context=context, cache=cache, engine=engine)
    return _results.of(call(_native.info, path(model), options, threads=1, progress=False))


def bench(
    model: Path,
    *,
    prompt: int = 512,
    generate: int = 128,
    repeats: int = 3,
    activations: str = "int8",
    cache: str = "fp16",
    context: int = 0,
    threads: int = 0,
    progress: ProgressLike = True,
) -> _results.BenchResult:
    """Measures a model's speed and memory. ``knapsaq bench``.

    Args:
        prompt: tokens. generate: tokens after it. repeats: times are medians of so many.
        activations, cache, context: as :func:`load`.
    """
    _at_least(1, prompt=prompt, generate=generate, repeats=repeats)
    options = _native.BenchOptions()
    fill(
        options,
        runtime=_options.runtime(activations, cache, context),
        prompt=prompt,
        generate=generate,
        repeats=repeats,
    )
    return _results.of(call(_native.bench, path(model), options, threads=threads, progress=progress))


def open_run(run: Path, *, model: Path | None = None) -> Run:
    """The run in a folder, finished or not, also one that somebody works on.

    Args:
        model: where the model is now, if it was moved.

    Raises UsageError for a folder without a run.
    """
    found = Run(path(run), path(model) or None)
    found.front()
    return found


def strategies() -> list[_results.Strategy]:
    """The strategies of :func:`search` with their constants. ``knapsaq strategies``."""
    return [
        _results.Strategy(name, summary, [_results.StrategyOption(*one) for one in options])
        for name, summary, options in _native.strategies()
    ]


def engines() -> list[str]:
    """What results can be made for: the names that ``engine`` takes."""
    return _native.engine_names()


def formats() -> list[str]:
    """The formats of :func:`export`."""
    return _native.export_formats()


def find_model(name: Path) -> pathlib.Path:
    """Where a model is: the path itself, or the snapshot of a repository in the local Hugging Face cache.

    "organisation/name", or "organisation/name@revision" for a branch, a tag or a commit. Nothing is fetched. Raises
    InputError, which says how to fetch it, for a repository that is not there.
    """
    return _native.find_model(path(name))
