"""Arguments as people give them, as the library takes them."""

from __future__ import annotations

import os
from typing import Any, Union
from collections.abc import Iterable, Mapping

from . import _native
from ._errors import UsageError

#: A name of a file or folder.
Path = Union[str, "os.PathLike[str]"]
#: One, or several.
Strings = Union[str, Iterable[str], None]
Paths = Union[Path, Iterable[Path], None]


def path(value: Path | None) -> str:
    """The name; None is the empty one: not given. An empty one is refused, it may be a variable that was not set."""
    if value is None:
        return ""
    name = os.fspath(value)
    if not isinstance(name, str):
        raise TypeError(f"a path has to be str or os.PathLike[str], not {type(value).__name__}")
    if not name:
        raise UsageError("the name of a file or folder is empty")
    return name


def paths(value: Paths) -> list[str]:
    if value is None:
        return []
    if isinstance(value, (str, os.PathLike)):
        return [path(value)]
    return [path(one) for one in value]


def strings(value: Strings) -> list[str]:
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(value)


def commas(value: Strings) -> list[str]:
    """As strings(), and a single one may hold several with commas."""
    if isinstance(value, str):
        return [one.strip() for one in value.split(",") if one.strip()]
    return strings(value)


def constants(value: Mapping[str, Any] | Strings) -> list[str]:
    """A strategy's constants: {"rounds": 8} or ["rounds=8"]."""
    if isinstance(value, Mapping):
        return [f"{name}={int(one) if isinstance(one, bool) else one}" for name, one in value.items()]
    return strings(value)


def fill(options: Any, **given: Any) -> Any:
    """Sets what is not None; the rest keeps the library's defaults."""
    for name, value in given.items():
        if value is not None:
            setattr(options, name, value)
    return options


def size(value: str | int) -> int:
    """Bytes: a number, or a size as people write it ("4.2MiB")."""
    if isinstance(value, str):
        return _native.parse_bytes(value)
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"a budget is bytes (int) or a size such as '4.2MiB', not {type(value).__name__}")
    count = value.__index__()
    if count < 0:
        raise UsageError(f"a budget of {count} bytes is negative")
    return count


def _positive(name: str, value: Any) -> Any:
    if value is not None and not value > 0:
        raise UsageError(f"{name} has to be above 0")
    return value


def set_budget(
    options: Any,
    budget: str | int | None,
    bpw: float | None,
    bits: float | None,
    context: int | None,
    cache: str | None,
) -> None:
    """One of the first three at most; ``context`` and ``cache`` go with ``budget``."""
    if sum(one is not None for one in (budget, bpw, bits)) > 1:
        raise UsageError("give one of budget, bpw and bits")
    fill(
        options,
        bytes=None if budget is None else size(budget),
        bits_per_weight=_positive("bpw", bpw),
        bits=_positive("bits", bits),
        context=_positive("context", context),
        cache=cache,
    )


def set_calibration(
    options: Any,
    *,
    folder: Path | None = None,
    text: Paths = None,
    samples: int | None = None,
    window: int | None = None,
    seed: int | None = None,
    fisher: bool | None = None,
    fisher_tokens: int | None = None,
    precision: str | None = None,
) -> None:
    if precision is not None and precision not in ("bf16", "fp32"):
        raise UsageError('precision has to be "bf16" or "fp32"')
    fill(options, folder=path(folder) or None, text=None if text is None else paths(text), precision=precision)
    fill(options, fisher=fisher, fisher_tokens=fisher_tokens)
    for name, value in (
        ("samples", samples),
        ("window", window),
        ("seed", seed),
        ("fisher_tokens", fisher_tokens),
    ):
        if value is not None and value < 0:
            raise UsageError(f"{name} has to be 0 or more")
    fill(options.samples, samples=samples, window=window, seed=seed)


def set_run(
    options: Any,
    *,
    engine: str | None,
    menu: str | None,
    method: str | None,
    bank: Path | None,
    ties: str | None,
    pins: Strings,
    keep: Strings,
    tokens: int | None,
    heldout: int | None,
    divergence: str | None,
    text: Paths,
    samples: int | None,
    window: int | None,
    text_seed: int | None,
    fisher_tokens: int | None,
    precision: str | None,
) -> None:
    """What a run is of. Where nothing is given, an existing run is gone on with, whatever it is of."""
    given = (
        engine,
        menu,
        method,
        bank,
        ties,
        pins,
        keep,
        tokens,
        heldout,
        divergence,
        text,
        samples,
        window,
        text_seed,
        fisher_tokens,
        precision,
    )
    fill(
        options,
        engine=engine,
        menu=menu,
        method=method,
        bank=path(bank) or None,
        ties=ties,
        pins=None if pins is None else strings(pins),
        keep=None if keep is None else strings(keep),
        tokens=tokens,
        heldout=heldout,
        divergence=divergence,
        any_run=all(one is None for one in given),
    )
    set_calibration(
        options.calibration,
        text=text,
        samples=samples,
        window=window,
        seed=text_seed,
        fisher_tokens=fisher_tokens,
        precision=precision,
    )


def windows(options: Any, window: int, stride: int, limit: int) -> None:
    for name, value in (("window", window), ("stride", stride), ("windows", limit)):
        if value < 0:
            raise UsageError(f"{name} has to be 0 or more")
    fill(options, window=window, stride=stride, limit=limit)


def sampling(max_tokens: int, temperature: float, top_k: int, top_p: float, seed: int) -> Any:
    return fill(
        _native.GenerateOptions(),
        max_tokens=max_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        seed=seed,
    )


def runtime(activations: str, cache: str, context: int) -> Any:
    return fill(_native.RuntimeOptions(), activations=activations, cache=cache, context=context)
