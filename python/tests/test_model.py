"""Loaded models: text, tokens, logits; one at a time; forks; templates."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import subprocess
import sys
import textwrap
import threading

import numpy
import pytest

import knapsaq

PROMPT = "The river"


@pytest.fixture(scope="module")
def loaded(model):
    return knapsaq.load(model, threads=2)


def test_generate_is_the_verb(loaded, model, verb):
    found = loaded.generate(PROMPT, max_tokens=12, temperature=0.8, seed=1)
    said = verb.json("generate", model, "--prompt", PROMPT, "--max-tokens", 12, "--temperature", 0.8, "--seed", 1)
    assert str(found) == found.text == said["text"]
    assert found.tokens == said["tokens"]
    assert found.reason == "length"


def test_text_comes_piece_by_piece(loaded):
    pieces = []
    found = loaded.generate(PROMPT, max_tokens=12, on_text=pieces.append)
    assert "".join(pieces) == found.text
    assert "".join(loaded.stream(PROMPT, max_tokens=12)) == found.text
    assert loaded.context >= 12


def test_a_stream_may_be_left(loaded):
    stream = loaded.stream(PROMPT, max_tokens=400)
    next(stream)
    with pytest.raises(knapsaq.UsageError, match="at work"):
        loaded.generate(PROMPT)
    stream.close()
    assert loaded.generate(PROMPT, max_tokens=2).reason == "length"


def test_a_callback_that_raises_leaves_the_model_usable(loaded):
    def refuse(piece):
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        loaded.generate(PROMPT, max_tokens=400, on_text=refuse)
    assert loaded.generate(PROMPT, max_tokens=2).reason == "length"


@pytest.mark.parametrize("wrong", [dict(max_tokens=0), dict(temperature=-1), dict(top_p=2), dict(top_k=-1)])
def test_wrong_options(loaded, wrong):
    with pytest.raises(knapsaq.UsageError):
        loaded.generate(PROMPT, **wrong)


def test_tokens(loaded):
    ids = loaded.encode("The river is long.")
    assert ids.dtype == numpy.int32
    assert loaded.decode(ids) == "The river is long."
    assert loaded.decode(list(ids)) == "The river is long."
    assert loaded.encode("").shape == (0,)
    with pytest.raises(TypeError):
        loaded.decode([1.5])
    with pytest.raises(knapsaq.UsageError):
        loaded.decode([2**40])


def test_logits_and_losses_agree(loaded):
    ids = loaded.encode("The river is long and the city is old.")
    logits = loaded.logits(ids, precision="fp32")
    assert logits.shape == (len(ids), loaded.vocabulary_size) and logits.dtype == numpy.float32
    scaled = logits.astype(numpy.float64)
    scaled -= numpy.log(numpy.exp(scaled).sum(axis=1, keepdims=True))
    expected = -scaled[numpy.arange(len(ids) - 1), ids[1:]]
    losses = loaded.losses([ids, ids], precision="fp32")
    assert losses.shape == (2, len(ids) - 1)
    numpy.testing.assert_allclose(losses[0], expected, rtol=1e-4)
    numpy.testing.assert_array_equal(losses[0], losses[1])
    numpy.testing.assert_allclose(
        loaded.logits(ids, first=len(ids) - 1, precision="fp32")[0], logits[-1], rtol=1e-4, atol=1e-4
    )
    with pytest.raises(knapsaq.InputError):
        loaded.logits([10**6])
    with pytest.raises(knapsaq.UsageError):
        loaded.logits(ids, first=len(ids))
    with pytest.raises(knapsaq.UsageError, match="dimension"):
        loaded.losses(ids)


def test_losses_are_what_evaluate_sums_up(loaded, model, text):
    window, windows = 128, 3
    ids = loaded.encode(text.read_text())[: window * windows].reshape(windows, window)
    score = knapsaq.evaluate(model, text=text, window=window, windows=windows, progress=False).text
    assert loaded.losses(ids).mean(dtype=numpy.float64) == pytest.approx(score.nll, rel=1e-6)


def test_other_threads_run_meanwhile(model, text):
    """The interpreter's lock is free while the library works: a thread that only needs the lock gets on."""
    turns = 0
    over = threading.Event()

    def count():
        nonlocal turns
        while not over.wait(0.001):
            turns += 1

    counter = threading.Thread(target=count)
    counter.start()
    before = turns
    knapsaq.evaluate(model, text=text, window=256, windows=40, threads=1, progress=False)
    during = turns - before
    over.set()
    counter.join()
    assert during > 0


def test_ctrl_c_stops_generation(model):
    program = textwrap.dedent("""
        import os, signal, sys, knapsaq
        model = knapsaq.load(sys.argv[1])
        try:
            model.generate("The", max_tokens=400, on_text=lambda piece: os.kill(os.getpid(), signal.SIGINT))
        except KeyboardInterrupt:
            print(model.generate("The", max_tokens=3).reason)
        """)
    done = subprocess.run([sys.executable, "-c", program, str(model)], capture_output=True, text=True)
    assert done.stdout == "length\n", done.stderr


def _child(loaded, model, text, results):
    try:
        loaded.generate(PROMPT)
        results.put("used the parent's model")
    except knapsaq.UsageError as error:
        results.put(str(error))
    results.put(str(knapsaq.load(model).generate(PROMPT, max_tokens=3)))
    results.put(knapsaq.evaluate(model, text=text, window=64, windows=2, progress=False).perplexity)
    del loaded


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Python 3.12 warns of forks with threads
def test_a_forked_child_works_on_its_own(loaded, model, text):
    expected = str(loaded.generate(PROMPT, max_tokens=3))
    perplexity = knapsaq.evaluate(model, text=text, window=64, windows=2, progress=False).perplexity
    fork = multiprocessing.get_context("fork")
    results = fork.Queue()
    child = fork.Process(target=_child, args=(loaded, model, text, results))
    child.start()
    assert "before a fork" in results.get(timeout=120)
    assert results.get(timeout=120) == expected
    assert results.get(timeout=120) == perplexity
    child.join()
    assert child.exitcode == 0
    assert str(loaded.generate(PROMPT, max_tokens=3)) == expected


TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture
def talker(tmp_path, model):
    shutil.copytree(model, tmp_path / "talker")
    (tmp_path / "talker" / "chat_template.jinja").write_text(TEMPLATE)
    return tmp_path / "talker"


def test_chat(talker):
    loaded = knapsaq.load(talker)
    turns = [{"role": "user", "content": "Hello"}, ("assistant", "Hi"), {"role": "user", "content": "Who?"}]
    found = loaded.chat(turns, max_tokens=8)
    assert found.text
    assert found.prompt_tokens == len(
        loaded.encode("<user>Hello\n<assistant>Hi\n<user>Who?\n<assistant>", add_special=False)
    )
    assert "".join(loaded.stream(turns, max_tokens=8)) == found.text


def test_chat_beside_threads_that_hold_locks(talker):
    """The template's process is the command's, started anew: nothing of this process's locks is in it."""
    loaded = knapsaq.load(talker)
    over = threading.Event()

    def allocate():
        while not over.is_set():
            json.loads(json.dumps(list(range(1000))))

    threads = [threading.Thread(target=allocate) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        texts = {loaded.chat([("user", "Hello")], max_tokens=2).text for _ in range(5)}
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert len(texts) == 1


def test_hostile_templates_end(talker):
    (talker / "chat_template.jinja").write_text("{{ raise_exception('only poems') }}")
    with pytest.raises(knapsaq.InputError, match="only poems"):
        knapsaq.load(talker).chat([("user", "Hello")])
    loop = "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}"
    (talker / "chat_template.jinja").write_text(loop)
    with pytest.raises(knapsaq.InputError, match="chat template"):
        knapsaq.load(talker).chat([("user", "Hello")])


def test_no_template_no_chat(loaded):
    with pytest.raises(knapsaq.InputError, match="chat template"):
        loaded.chat([("user", "Hello")])
    with pytest.raises(TypeError):
        loaded.chat("Hello")


def test_the_helper_is_what_renders(talker):
    program = textwrap.dedent("""
        import sys, knapsaq
        knapsaq._native.set_helper("/nonexistent")
        try:
            knapsaq.load(sys.argv[1]).chat([("user", "Hello")])
        except knapsaq.IoError as error:
            print(error)
        """)
    done = subprocess.run([sys.executable, "-c", program, str(talker)], capture_output=True, text=True)
    assert "cannot start /nonexistent" in done.stdout, done.stderr
