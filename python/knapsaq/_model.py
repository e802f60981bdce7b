"""Models that stay loaded."""

from __future__ import annotations

from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any, cast
from collections.abc import Callable, Iterator, Mapping, Sequence

from . import _native, _options, _results
from ._errors import UsageError
from ._job import _TICK, _finish, call, wait
from ._options import Path, path

if TYPE_CHECKING:
    import numpy

#: {"role": "user", "content": "Hello"}, or ("user", "Hello").
Message = Mapping[str, str] | tuple[str, str]


def _messages(messages: Sequence[Message]) -> list[tuple[str, str]]:
    if isinstance(messages, (str, bytes)):
        raise TypeError('messages have to be a list: [{"role": "user", "content": "Hello"}]')
    turns = []
    for message in messages:
        role, content = (message["role"], message["content"]) if isinstance(message, Mapping) else message
        turns.append((role, content))
    return turns


def _ids(tokens: Any, dimensions: int) -> numpy.ndarray:
    """int32 in C order; the caller's own memory where it is that already."""
    import numpy

    array = numpy.asarray(tokens)
    if array.ndim != dimensions:
        raise UsageError(f"tokens have to be an array of {dimensions} dimension(s), not {array.ndim}")
    if array.size == 0:
        array = array.astype(numpy.int32)
    if array.dtype.kind not in "iu":
        raise TypeError(f"tokens have to be whole numbers, not {array.dtype}")
    if array.dtype != numpy.int32 and (array.max() > 2**31 - 1 or array.min() < -(2**31)):
        raise UsageError("a token does not fit into 32 bits")
    return numpy.ascontiguousarray(array, dtype=numpy.int32)


class Model:
    """A model that continues texts, by :func:`load`. Used by one thread at a time, and in the process that loaded it.

    It keeps what it computed: a prompt that begins as the text before costs only what differs.
    """

    def __init__(self, native: _native.LoadedModel) -> None:
        self._native = native

    def __repr__(self) -> str:
        return f"Model({str(self.path)!r})"

    @property
    def path(self) -> FilePath:
        """Where the model is."""
        return FilePath(self._native.path)

    @property
    def context_limit(self) -> int:
        """Tokens that a text may have."""
        return self._native.context_limit

    @property
    def context(self) -> int:
        """Tokens that the cache has room for now; 0 before the first text."""
        return self._native.context

    @property
    def vocabulary_size(self) -> int:
        """V, the number of logits."""
        return self._native.vocabulary_size

    def generate(
        self,
        prompt: str,
        *,
        max_tokens: int = 128,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int = 0,
        on_text: Callable[[str], Any] | None = None,
    ) -> _results.Generated:
        """Continues a text. ``knapsaq generate``.

        Args:
            prompt: an empty one begins with the model's first token, if it has one.
            max_tokens: stop after so many.
            temperature: 0: always the most likely token; 1: the model's own distribution.
            top_k: draw from the so many most likely tokens only; 0: from all.
            top_p: draw from the fewest most likely tokens that have this probability together.
            seed: the same seed gives the same text.
            on_text: called with each piece of text as soon as it is certain.

        Returns: ``str()`` of it is the text. Raises UsageError for options without meaning, InputError for a prompt
        that leaves no room and if memory is not enough.
        """
        options = _options.sampling(max_tokens, temperature, top_k, top_p, seed)
        return _results.of(wait(self._native.generate(prompt, options, False), None, on_text))

    def chat(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int = 1024,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int = 0,
        on_text: Callable[[str], Any] | None = None,
    ) -> _results.Generated:
        """The turn that follows a conversation, by the model's chat template. ``knapsaq chat``.

        Args:
            messages: ``{"role": "user", "content": "Hello"}``; roles are "system", "user", "assistant".

        The others are those of :meth:`generate`. Raises InputError for a model without a chat template. The template
        is a program from outside; it runs in a process that can do nothing but compute.
        """
        options = _options.sampling(max_tokens, temperature, top_k, top_p, seed)
        return _results.of(wait(self._native.chat(_messages(messages), options, False), None, on_text))

    def stream(
        self,
        prompt: str | Sequence[Message],
        *,
        max_tokens: int = 128,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int = 0,
    ) -> Iterator[str]:
        """Pieces of the text that :meth:`generate` (of a str) or :meth:`chat` (of messages) gives, as they come.

        Closing the iterator stops the work. Raises as they do, with the first piece.
        """
        options = _options.sampling(max_tokens, temperature, top_k, top_p, seed)
        if isinstance(prompt, str):
            job = self._native.generate(prompt, options, False)
        else:
            job = self._native.chat(_messages(prompt), options, False)
        ended = False
        try:
            while not ended:
                ended = job.wait(_TICK)
                for name, *facts in job.events():
                    if name == "text":
                        yield facts[0]
        finally:
            if not ended:
                _finish(job)
        job.result()

    def encode(self, text: str, *, add_special: bool = True) -> numpy.ndarray:
        """Token ids of a text: int32 [n]. ``add_special``: with what the tokenizer puts around a text."""
        return cast(Any, self._native.encode(text, add_special))

    def decode(self, tokens: Any, *, skip_special: bool = False) -> str:
        """The text of token ids [n]."""
        return cast(str, self._native.decode(_ids(tokens, 1), skip_special))

    def logits(self, tokens: Any, *, first: int = 0, precision: str = "bf16") -> numpy.ndarray:
        """Logits after tokens ``first``, .., n - 1 of one window of n tokens: float32 [n - first, V].

        Computed as :func:`evaluate` does, by a decoder of its own, which is loaded with the first call and takes the
        memory of the unpacked model. int32 arrays in C order are read where they are.

        Args:
            tokens: ids [n].
            precision: arithmetic, "bf16" or "fp32".

        Raises InputError for an id outside the vocabulary, NotFiniteError.
        """
        ids = _ids(tokens, 1)
        return wait(self._native.logits(ids, first, precision, False))

    def losses(self, tokens: Any, *, precision: str = "bf16") -> numpy.ndarray:
        """Negative log-likelihoods, nats: float32 [windows, length - 1]; [w, t] is token t + 1's after tokens 0, .., t.

        Args:
            tokens: ids [windows, length]: windows of equal length, each on its own.
            precision: as :meth:`logits`, which says the rest.
        """
        ids = _ids(tokens, 2)
        return wait(self._native.losses(ids, precision, False))


def load(
    model: Path,
    *,
    activations: str = "int8",
    cache: str = "fp16",
    context: int = 0,
    threads: int = 0,
    progress: bool | Callable[[Any], Any] = False,
) -> Model:
    """Opens a model for generating; its weights stay packed, and are loaded with the first text.

    Args:
        model: folder, quantized or not, GGUF file, or repository of the local Hugging Face cache.
        activations: what packed weights are multiplied by: "int8" (fastest), "bf16", or "fp32" (exact).
        cache: keys and values of the tokens so far: "fp16" or "int8".
        context: tokens that the cache has room for; 0: what is needed.
        threads: to work with; 0: one per core.

    Raises UsageError for options without meaning, InputError for damaged files.
    """
    options = _options.runtime(activations, cache, context)
    return Model(call(_native.load, path(model), options, threads=threads, progress=progress))
