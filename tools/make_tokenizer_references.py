#!/usr/bin/env python3
"""Writes tests/data/text: small tokenizers, hard strings, and the ids that Hugging Face's libraries give.

- hard.json: strings that tokenizers get wrong, as base64 of their bytes (some are not UTF-8).
- small/NAME/: tokenizers of a few KB, trained here on text that this script makes up, in every form that Knapsaq
  reads.
- small.json: their ids of the hard strings and of the training text, made by `tokenizers` (for tokenizer.model: by
  `sentencepiece`, for tiktoken text: by `tiktoken`, and `transformers`' conversion of both).
- families/NAME/ and families.json: tokenizers built as those of more families of models are, with the files beside them,
  and hashes of the ids and texts that Transformers' AutoTokenizer gives.
- pieces.json: what every split behaviour of `tokenizers` gives.
- unicode.json: which characters its expressions match, and its normal forms.
- real.json (with --shared FOLDER): for the tokenizers in FOLDER/tokenizers and FOLDER/models, the ids of the hard
  strings, and count and FNV-1a hash of the ids of whole files. The tokenizers themselves are not ours to copy.

Usage: python tools/make_tokenizer_references.py [--shared FOLDER]
Needs tokenizers, transformers, sentencepiece, tiktoken, protobuf.
"""

import argparse
import base64
import json
import os
import pathlib
import random
import shutil
import tempfile

os.environ["TOKENIZERS_PARALLELISM"] = "false"

import sentencepiece  # noqa: E402
import tiktoken  # noqa: E402
from tiktoken.load import load_tiktoken_bpe  # noqa: E402
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers  # noqa: E402
from transformers import AutoTokenizer, GPT2Tokenizer, LlamaTokenizer, Qwen2Tokenizer  # noqa: E402
from transformers.convert_slow_tokenizer import TikTokenConverter, generate_merges, import_protobuf  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent
OUT = ROOT / "tests/data/text"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
LLAMA3_SPECIAL = (
    ["<|begin_of_text|>", "<|end_of_text|>"]
    + [f"<|reserved_special_token_{i}|>" for i in range(4)]
    + ["<|start_header_id|>", "<|end_header_id|>", "<|reserved_special_token_4|>", "<|eot_id|>"]
    + [f"<|reserved_special_token_{i}|>" for i in range(5, 251)]
)


def training_text():
    """Some 60 KB of made-up prose with names, numbers, code, other scripts: enough for vocabularies of 600 tokens."""
    chance = random.Random(7)
    subjects = "the engineer|a small model|our first measurement|the old bridge|every matrix|the northern harbour|a careful reader".split("|")
    verbs = "measures|forgets|doesn't carry|rebuilds|quantizes|is said to have found|they've seen|we'll describe".split("|")
    objects = "the weights of its layers|1,024 tokens in 3.5 seconds|a knapsack|(in 1987) the answer|x = y[i] + 2*z;|nothing at all".split("|")
    others = ["Größe naïve café Ångström", "Привет, как дела? Мир и война.", "東京は日本の首都です。你好，世界", "مرحبا بالعالم", "हिन्दी में पाठ", "שלום עולם", "한국어 문장", "👍🏽 fine 😀😀", "\n\tif (a == b) {\n\t\treturn 0;\n\t}\n"]
    lines = []
    for i in range(900):
        line = f"{chance.choice(subjects)} {chance.choice(verbs)} {chance.choice(objects)}"
        if i % 3 == 0:
            line = line[0].upper() + line[1:] + "."
        if i % 6 == 0:
            line += "  " + chance.choice(others)
        lines.append(line)
    return "\n".join(lines)


def hard_strings():
    strings = [
        "", " ", "  ", "\n", "a", " a", "a ", "  a  b   c    d     e", "Hello, world!", "Hello  world  ", " leading", "trailing ",
        "I'm you're he'll she'd we've it's DON'T I'M 'S 's ''s '\u017f", "it\u2019s", "'ll'LL'lL",
        "tab\tseparated\t\tvalues\t", "line\nbreaks\r\nand\rreturns\n\n\n", " \n \n  \n\t\n x", "\r\n\r\n \r\n", "a\n b\n  c", "end \n",
        "1 12 123 1234 12345 123456789 0.5 1,000,000 3.14159e-10 0x1F", "12\u0663\u0664\u0665 \u00bd\u00b2 \u2167 \u4e00\u4e8c\u4e09",
        "a1b2c3 x86_64 utf-8 C++20 foo_bar.baz(qux)[0] != &ptr->field; // comment", "#!/bin/sh\n\techo \"$HOME\" | sed 's/a/b/g'\n",
        "emoji 😀👍🏽👨‍👩‍👧‍👦🏳️‍🌈🇩🇪❤️ 1️⃣", "👩🏿‍🚀", "\u200d\u200d", "漢字とひらがなとカタカナ。中文，標點符號！한국어 텍스트", "ภาษาไทยไม่มีช่องว่าง",
        "e\u0301 \u00e9 A\u030a \u00c5 \u212b \ufb01 \u1e9b\u0323 q\u0307\u0323 q\u0323\u0307 \u0958 \u0344 \u1100\u1161\u11a8 \uac00",
        "a\u0315\u0300\u05ae\u0300\u0301\u0323b", "\u0301leading mark", "Z\u0351\u036f\u0310\u0309a\u0321\u0317\u0331l\u0322\u0316g\u0334o\u0316",
        "العربية من اليمين إلى اليسار ١٢٣", "עִבְרִית עם ניקוד", "\u202eoverride\u202c \u2067isolate\u2069", "हिन्दी संयुक्ताक्षर क्षत्रिय",
        "\u00a0\u00a0a\u00a0b", "\u3000全角\u3000", "a\u2028b\u2029c", "a\u0085b", "\u180ea\u180e", "\u200b\u2009\u2003x", "\ufeffbom", "a\u00adb",
        "\x00\x01\x02 \x1f\x7f\x80\u0080\u009f", "nul\x00inside", "\x0b\x0c\x1c\x1d\x1e", "\ufffd \ufffe \uffff \U0010ffff", "\ue000private",
        "ſ ẞ ß İ ı Ǆ ǅ ﬀ", "ΑΣ σς", "\U0001d400\U0001d7d8 \U00020000\U0002f800", "\U000323b0\U0001e4d0 \u1c89\u0cf3 \u0898\u07fd", "a\u07fd\u0301\u0323b \u1ac0\u0323\u0301",
        "<|endoftext|>", "a<|endoftext|>b <|endoftext|> c", "<s>", "</s>", "<pad><unk><mask>", "text</s>text", "<s> a", "<|im_start|>user\nhi<|im_end|>\n",
        "<|begin_of_text|>x<|eot_id|><|reserved_special_token_250|><|reserved_special_token_251|>", "<|endoftext|", "<<|endoftext|>>", "<0x41>", "▁", "▁▁a ▁b", " ▁ ", "Ġa ĠĠ Ċ",
        "mask [M] x[M]y [M]  z", "wordone xwordone wordone. éwordone", "Norm é n\u00e9e ne\u0301e", "a  b        c                        d",
        "supercalifragilisticexpialidocious" * 3, "a" * 200, "ab" * 150, "-" * 130, "." * 33, "=" * 80 + "\n", "é" * 70, "的" * 90, "😀" * 40,
        "http://example.com/a?b=c&d=%20#e user@example.org", "中 文 mixed with English и русский", "«quotes» „low“ “double” ‘single’ — – … ‰ €",
        "\\n \\t \\u0041 {\"json\": [1, 2, null]}", "x²+y³=z⁴ ∑∫√∞ ≠≤≥", "¿Qué? ¡Sí! Ça va? œuvre Æsir Øre þorn ðað",
    ]  # fmt: skip
    strings += [" " * n + "x" for n in (3, 4, 5, 7, 8, 15, 16, 17, 23, 24, 25, 31, 32, 33, 63, 64, 65, 127, 129)]
    strings += ["x" + "\n" * n + "y" for n in (2, 3, 4, 8, 17, 40)]
    strings += ["\t" * n + "z" for n in (2, 3, 4, 8, 17)] + [" \n" * 9 + "q", "\n " * 9 + "q", " \t \t  \t\n"]
    strings += ["7" * n for n in (1, 2, 3, 4, 5, 6, 7, 10, 40)]
    chance = random.Random(11)
    alphabet = list("abcdeé ß\t\n  '.,-_0123456789тест中文字ー\u0301\u00a0\u3000😀👍\u200d<|>s/") + ["<s>", "</s>", "'s", "'re", " \n"]
    strings += ["".join(chance.choice(alphabet) for _ in range(chance.randrange(1, 60))) for _ in range(60)]
    blobs = [text.encode("utf-8") for text in strings]
    blobs += [  # not UTF-8: lone and overlong bytes, cut sequences, surrogates, above U+10FFFF
        b"\xff", b"a\x80b", b"\xc3", b"\xc3(", b"\xe2\x82", b"\xe2\x82x", b"\xf0\x9f\x98", b"\xf0\x9f\x98 x", b"\xc0\xaf", b"\xe0\x80\x80",
        b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80", b"ok \xfe\xff \xe4\xb8\xe4\xb8\xad", b"\xf0\x80\x80\x41", b"\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41",
    ]  # fmt: skip
    return blobs


def fnv1a_bytes(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


def fnv1a(ids):
    """64-bit FNV-1a over the ids as little-endian 32-bit words."""
    return fnv1a_bytes(b"".join(int(i).to_bytes(4, "little") for i in ids))


class Reference:
    """encode(text) with what goes around a text by default, decode(ids, skip)."""

    def __init__(self, encode, decode, plain, bos=None, eos=None):
        self.encode, self.decode, self.plain, self.bos, self.eos = encode, decode, plain, bos, eos


def of_tokenizers(tokenizer, bos=None, eos=None):
    return Reference(
        lambda text: tokenizer.encode(text).ids,
        lambda ids, skip: tokenizer.decode(ids, skip_special_tokens=skip),
        lambda text: tokenizer.encode(text, add_special_tokens=False).ids,
        bos if bos is None else tokenizer.token_to_id(bos),
        eos if eos is None else tokenizer.token_to_id(eos),
    )


def hard_entry(reference, blobs):
    texts = [blob.decode("utf-8", errors="replace") for blob in blobs]
    ids = [reference.encode(text) for text in texts]
    return {
        "bos": reference.bos,
        "eos": reference.eos,
        "ids": ids,
        "decoded": [fnv1a_bytes(reference.decode(i, False).encode()) for i in ids],
        "decoded_skip": [fnv1a_bytes(reference.decode(i, True).encode()) for i in ids],
        "plain": [fnv1a(reference.plain(text)) for text in texts],
    }


# ---- tokenizers that are trained here ----


def train(pre_tokenizer, normalizer, text, size=600, **bpe):
    tokenizer = Tokenizer(models.BPE(**bpe))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    if pre_tokenizer is not None:
        tokenizer.pre_tokenizer = pre_tokenizer
    special = bpe.pop("special", [])
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(text.split("\n\n") if "\n\n" in text else [text], trainer)
    return tokenizer


def add_flagged_tokens(tokenizer):
    """Tokens with every flag: the file then has to say what they mean."""
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tokenizer.add_tokens(
        [
            AddedToken("[M]", lstrip=True, rstrip=True),
            AddedToken("wordone", single_word=True),
            AddedToken("n\u00e9e", normalized=True),
            AddedToken("    ", normalized=True),
            AddedToken("        ", normalized=True),
            AddedToken("<s>", normalized=False, lstrip=True, special=True),
        ]
    )


def split_then_bytes(pattern):
    return pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )


def small_json_tokenizers(text):
    """name -> tokenizers.Tokenizer"""
    out = {}
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)

    gpt2 = train(byte_level, None, text)
    gpt2.decoder = decoders.ByteLevel()
    gpt2.post_processor = processors.ByteLevel(trim_offsets=False)
    add_flagged_tokens(gpt2)
    out["gpt2"] = gpt2

    llama3 = train(split_then_bytes(LLAMA3), None, text)
    llama3.decoder = decoders.ByteLevel()
    state = json.loads(llama3.to_str())
    state["model"]["ignore_merges"] = True
    # A token that no merge makes: only ignore_merges gives it.
    state["model"]["vocab"]["Ġunreachable"] = len(state["model"]["vocab"])
    state["model"]["vocab"]["unreachable"] = len(state["model"]["vocab"])
    llama3 = Tokenizer.from_str(json.dumps(state))
    llama3.add_special_tokens(["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"])
    llama3.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", llama3.token_to_id("<|begin_of_text|>"))]
            ),
        ]
    )
    out["llama3"] = llama3

    qwen2 = train(split_then_bytes(QWEN2), normalizers.NFC(), text)
    qwen2.decoder = decoders.ByteLevel()
    add_flagged_tokens(qwen2)
    out["qwen2"] = qwen2

    neox = train(pre_tokenizers.ByteLevel(add_prefix_space=True), normalizers.NFC(), text)
    neox.decoder = decoders.ByteLevel()
    neox.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
    neox.add_special_tokens(["<|endoftext|>", "<|padding|>"])
    neox.add_tokens([AddedToken(" " * n, normalized=True) for n in range(24, 1, -1)])
    out["neox"] = neox

    # SentencePiece's manner with byte fallback, as Llama 2's tokenizer.json has it.
    bytes_first = [f"<0x{b:02X}>" for b in range(256)]
    base = Tokenizer(models.BPE())
    base.pre_tokenizer = pre_tokenizers.Metaspace()
    base.train_from_iterator(text.split("\n"), trainers.BpeTrainer(vocab_size=400, show_progress=False, limit_alphabet=60))
    state = json.loads(base.to_str())["model"]
    names = ["<unk>", "<s>", "</s>"] + bytes_first
    names += [t for t, _ in sorted(state["vocab"].items(), key=lambda item: item[1]) if t not in names]
    llama2 = Tokenizer(
        models.BPE(
            vocab={t: i for i, t in enumerate(names)},
            merges=[tuple(m) for m in state["merges"]],
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    llama2.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    llama2.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    llama2.add_special_tokens([AddedToken(t, normalized=False) for t in ("<unk>", "<s>", "</s>")])
    llama2.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    out["llama2"] = llama2

    # The same as Transformers 5 builds it, and a variant that cuts at the metaspaces, without byte fallback.
    modern = Tokenizer.from_str(llama2.to_str())
    modern.normalizer = normalizers.Sequence([])
    modern.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    out["llama2-metaspace"] = modern
    unknown = Tokenizer(models.BPE(vocab=json.loads(llama2.to_str())["model"]["vocab"], merges=[tuple(m) for m in state["merges"]], unk_token="<unk>", fuse_unk=True))
    unknown.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    unknown.decoder = decoders.Metaspace(prepend_scheme="always")
    unknown.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 1))
    out["unknown"] = unknown
    nothing = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate("abcde")} | {"ab": 5, "cd": 6, "abcd": 7}, merges=[("a", "b"), ("c", "d"), ("ab", "cd")]))
    nothing.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase(), normalizers.Replace(Regex(r"\s+"), " ")])
    nothing.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=False), pre_tokenizers.Split(",", "merged_with_next")])
    nothing.decoder = decoders.Fuse()
    out["nothing"] = nothing
    return out


def write_vocab_merges(tokenizer, folder, **files):
    folder.mkdir(parents=True)
    model = json.loads(tokenizer.to_str())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in model["merges"]))
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content, indent=1, ensure_ascii=False))


def legacy_llama(model_file):
    """What Transformers 4's LlamaTokenizerFast makes of a tokenizer.model, and what the tokenizer.json files of Llama 2
    and Mistral checkpoints hold: the converter's steps with its own functions (Transformers 5 builds another one)."""
    proto = import_protobuf().ModelProto()
    proto.ParseFromString(pathlib.Path(model_file).read_bytes())
    vocabulary = {piece.piece: i for i, piece in enumerate(proto.pieces)}
    merges = generate_merges(vocabulary, [(piece.piece, piece.score) for piece in proto.pieces])
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.add_special_tokens([AddedToken(t, normalized=False) for t in ("<unk>", "<s>", "</s>")])
    tokenizer.add_tokens([AddedToken(p.piece, normalized=False) for p in proto.pieces if p.type == 4])
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


def lone_sentencepiece(folder):
    """What Transformers 5 makes of a tokenizer.model without a tokenizer_config.json, with the BOS that Transformers 4 and
    llama.cpp add (5 adds none): SentencePiece's own ids, but that special tokens are recognised in text."""
    tokenizer = AutoTokenizer.from_pretrained(folder).backend_tokenizer
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


def llama3_tiktoken(model_file):
    """Transformers' conversion, and beside it tiktoken itself to compare with."""
    tokenizer = TikTokenConverter(str(model_file), pattern=LLAMA3, extra_special_tokens=LLAMA3_SPECIAL).converted()
    begin = tokenizer.token_to_id("<|begin_of_text|>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", begin)]
    )
    ranks = load_tiktoken_bpe(str(model_file))
    special = {name: len(ranks) + i for i, name in enumerate(LLAMA3_SPECIAL)}
    return tokenizer, tiktoken.Encoding("llama3", pat_str=LLAMA3, mergeable_ranks=ranks, special_tokens=special)


def compare(name, a, b, texts):
    """Says where two libraries differ; both are made by others, so this is only printed."""
    different = [text for text in texts if a(text) != b(text)]
    print(f"  {name}: {len(different)} of {len(texts)} differ", [text[:40] for text in different[:8]])


def opt_reference(vocab, merges, folder):
    """OPT: GPT-2's splitting, </s> as BOS, EOS and unknown, put in front of every text."""
    shutil.copy(vocab, folder / "vocab.json")
    shutil.copy(merges, folder / "merges.txt")
    slow = GPT2Tokenizer.from_pretrained(
        folder, bos_token="</s>", eos_token="</s>", unk_token="</s>", pad_token="<pad>", add_bos_token=True
    )
    return of_tokenizers(slow.backend_tokenizer, "</s>", "</s>")


def write_small(blobs):
    text = training_text()
    folder = OUT / "small"
    shutil.rmtree(folder, ignore_errors=True)
    references = {}
    tokenizers_by_name = small_json_tokenizers(text)
    bos = {"llama3": ("<|begin_of_text|>", None), "llama2": ("<s>", None), "llama2-metaspace": ("<s>", None), "unknown": ("<s>", None)}
    for name, tokenizer in tokenizers_by_name.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "tokenizer.json").write_text(tokenizer.to_str())
        references[name] = of_tokenizers(tokenizer, *bos.get(name, (None, None)))

    # vocab.json and merges.txt, with the files beside them, as Transformers reads them.
    trained = train(pre_tokenizers.ByteLevel(add_prefix_space=False), None, text, 500)
    state = json.loads(trained.to_str())
    names = ["<s>", "<pad>", "</s>", "<unk>"] + [t for t, _ in sorted(state["model"]["vocab"].items(), key=lambda item: item[1])]
    state["model"]["vocab"] = {t: i for i, t in enumerate(names)}
    opt = Tokenizer.from_str(json.dumps(state))
    config = {
        "tokenizer_class": "GPT2Tokenizer",
        "add_bos_token": True,
        "add_prefix_space": False,
        **{role: {"__type": "AddedToken", "content": "</s>", "lstrip": False, "normalized": True, "rstrip": False, "single_word": False} for role in ("bos_token", "eos_token", "unk_token")},
        "pad_token": {"__type": "AddedToken", "content": "<pad>", "lstrip": False, "normalized": True, "rstrip": False, "single_word": False},
    }
    write_vocab_merges(opt, folder / "opt-files", tokenizer_config=config)
    references["opt-files"] = of_tokenizers(GPT2Tokenizer.from_pretrained(folder / "opt-files").backend_tokenizer, "</s>", "</s>")

    trained = train(split_then_bytes(QWEN2), normalizers.NFC(), text, 500)
    size = trained.get_vocab_size()
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    config = {
        "tokenizer_class": "Qwen2Tokenizer",
        "add_prefix_space": False,
        "added_tokens_decoder": {str(size + i): {"content": t, **flags} for i, t in enumerate(tokens)},
        "additional_special_tokens": tokens[1:],
        "bos_token": None,
        "eos_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
        "unk_token": None,
    }
    write_vocab_merges(trained, folder / "qwen2-files", tokenizer_config=config)
    references["qwen2-files"] = of_tokenizers(Qwen2Tokenizer.from_pretrained(folder / "qwen2-files").backend_tokenizer, None, "<|endoftext|>")

    # SentencePiece.
    target = folder / "sentencepiece"
    target.mkdir()
    with tempfile.TemporaryDirectory() as scratch:
        corpus = pathlib.Path(scratch) / "text"
        corpus.write_text(text)
        sentencepiece.SentencePieceTrainer.train(
            input=str(corpus), model_prefix=str(pathlib.Path(scratch) / "m"), model_type="bpe", vocab_size=700, byte_fallback=True,
            character_coverage=0.99, normalization_rule_name="identity", remove_extra_whitespaces=False, split_digits=True,
            allow_whitespace_only_pieces=True, num_threads=1, minloglevel=2, user_defined_symbols=["[M]"],
        )  # fmt: skip
        proto = import_protobuf().ModelProto()
        proto.ParseFromString((pathlib.Path(scratch) / "m.model").read_bytes())
        proto.trainer_spec.ClearField("input")  # paths of the machine that ran this
        proto.trainer_spec.ClearField("model_prefix")
        (target / "tokenizer.model").write_bytes(proto.SerializeToString())
    references["sentencepiece"] = of_tokenizers(lone_sentencepiece(target), "<s>", "</s>")
    # Transformers' class for Llama, with and without what it calls legacy.
    for name, legacy in (("sentencepiece-llama", {}), ("sentencepiece-legacy", {"legacy": True})):
        (folder / name).mkdir()
        shutil.copy(target / "tokenizer.model", folder / name)
        config = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "add_bos_token": True}
        (folder / name / "tokenizer_config.json").write_text(json.dumps(config | legacy, indent=1))
        references[name] = of_tokenizers(AutoTokenizer.from_pretrained(folder / name).backend_tokenizer, "<s>", "</s>")
    texts = [blob.decode("utf-8", errors="replace") for blob in blobs]
    library = sentencepiece.SentencePieceProcessor(model_file=str(target / "tokenizer.model"))
    compare("small sentencepiece: converted against the library", references["sentencepiece"].plain, library.encode, texts + text.split("\n"))

    # tiktoken's text: ranks are ids, single bytes first.
    target = folder / "tiktoken"
    target.mkdir()
    state = json.loads(tokenizers_by_name["llama3"].to_str())["model"]
    decode_byte = {c: b for b, c in zip(*byte_alphabet())}
    lines = [bytes([b]) for b in range(256)]
    for left, right in state["merges"]:
        token = bytes(decode_byte[c] for c in left + right)
        if token not in lines:
            lines.append(token)
    (target / "tokenizer.model").write_text("".join(f"{base64.b64encode(t).decode()} {i}\n" for i, t in enumerate(lines)))
    converted, direct = llama3_tiktoken(target / "tokenizer.model")
    references["tiktoken"] = of_tokenizers(converted, "<|begin_of_text|>", "<|end_of_text|>")
    compare("small tiktoken: converted against tiktoken", references["tiktoken"].plain, lambda t: direct.encode(t, allowed_special="all"), texts)

    out = {name: hard_entry(reference, blobs) for name, reference in references.items()}
    for name, reference in references.items():
        out[name]["text"] = {"count": len(reference.encode(text)), "hash": fnv1a(reference.encode(text))}
    (OUT / "training.txt").write_text(text)
    write_json(OUT / "small.json", out)


# ---- the constructions of families ----

QWEN35 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
ENDING = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
O200K = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{ENDING}|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{ENDING}|\p{{N}}{{1,3}}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEKKEN = O200K.replace(ENDING, "").replace(r"\p{N}{1,3}", r"\p{N}")


def family_tokenizers(text):
    """name -> (tokenizers.Tokenizer, tokenizer_config.json, model type)"""
    out = {}
    plain = {"tokenizer_class": "PreTrainedTokenizerFast"}
    gpt2 = {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": False, "eos_token": "<|endoftext|>"}

    def byte_level(name, pre_tokenizer, config, model_type, normalizer=None, special=("<|endoftext|>",), begins=None, **model):
        tokenizer = train(pre_tokenizer, normalizer, text, 400)
        tokenizer.decoder = decoders.ByteLevel()
        state = json.loads(tokenizer.to_str())
        state["model"] |= model
        tokenizer = Tokenizer.from_str(json.dumps(state))
        tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in special])
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
        if begins:
            around = processors.TemplateProcessing(single=f"{begins} $A", special_tokens=[(begins, tokenizer.token_to_id(begins))])
            tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), around])
        out[name] = (tokenizer, config, model_type)

    def everything_else(pattern):
        """As converters of tiktoken's files write an expression that matches everything."""
        split = pre_tokenizers.Split(Regex(pattern), "removed", invert=True)
        return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])

    digits = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    chat = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
    byte_level("smollm3", split_then_bytes(LLAMA3), plain, "smollm3", special=("<|begin_of_text|>", *chat), ignore_merges=True)
    byte_level("olmo2", everything_else(LLAMA3), gpt2, "olmo2", special=("<|endoftext|>", "<|pad|>"))
    byte_level("granite", digits, gpt2, "granite", special=("<|end_of_text|>", "<|endoftext|>", "<|start_of_role|>"))
    byte_level("phi4", everything_else(LLAMA3), gpt2, "phi3", special=chat)
    byte_level("phi4-mini", split_then_bytes(O200K), gpt2, "phi3", special=chat)
    byte_level("gpt-oss", split_then_bytes(O200K), plain, "gpt_oss", special=("<|startoftext|>", "<|return|>", "<|channel|>"), ignore_merges=True)
    byte_level("tekken", split_then_bytes(TEKKEN), {"tokenizer_class": "LlamaTokenizer", "legacy": True}, "mistral3",
               special=("<unk>", "<s>", "</s>", "[INST]", "[/INST]"), begins="<s>", ignore_merges=True)  # fmt: skip
    byte_level("qwen3-moe", split_then_bytes(QWEN2), {"tokenizer_class": "Qwen2Tokenizer"}, "qwen3_moe", normalizers.NFC(), chat)
    # The class in the file is another one than the one for the model's type, which counts.
    byte_level("qwen3.5", split_then_bytes(QWEN35), {"tokenizer_class": "Qwen2Tokenizer"}, "qwen3_5", normalizers.NFC(), chat)
    byte_level("qwen3.5-moe", split_then_bytes(QWEN35), {"tokenizer_class": "TokenizersBackend"}, "qwen3_5_moe", normalizers.NFC(), chat)
    byte_level("lfm2", split_then_bytes(LLAMA3), plain, "lfm2", special=("<|pad|>", "<|startoftext|>", *chat), begins="<|startoftext|>", ignore_merges=True)
    byte_level("neox", pre_tokenizers.ByteLevel(add_prefix_space=False), {"tokenizer_class": "GPTNeoXTokenizer"}, "gpt_neox", normalizers.NFC(), ("<|endoftext|>", "<|padding|>"))
    out["neox"][0].add_tokens([AddedToken(" " * n, normalized=True) for n in range(24, 1, -1)])
    byte_level("olmoe", pre_tokenizers.ByteLevel(add_prefix_space=False), {"tokenizer_class": "GPTNeoXTokenizer"}, "olmoe", normalizers.NFC(), ("<|endoftext|>", "<|padding|>"))

    # SentencePiece's manner: Gemma's, whose merges know runs of blanks and line feeds, and Phi-3's.
    base = Tokenizer(models.BPE())
    base.pre_tokenizer = pre_tokenizers.Metaspace()
    base.train_from_iterator(text.split("\n"), trainers.BpeTrainer(vocab_size=220, show_progress=False, limit_alphabet=60))
    state = json.loads(base.to_str())["model"]
    trained = [t for t, _ in sorted(state["vocab"].items(), key=lambda item: item[1])]
    bytes_of = [f"<0x{b:02X}>" for b in range(256)]

    def sentence_piece(first, last):
        names = first + bytes_of + [t for t in trained if t not in first] + last
        merges = [tuple(m) for m in state["merges"]]
        return Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(names)}, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))

    gemma = sentence_piece(["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>", "<unused0>"], ["\n", "\n\n", "▁▁", "▁▁▁▁"])
    gemma.normalizer = normalizers.Replace(" ", "▁")
    gemma.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    gemma.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    gemma.add_special_tokens([AddedToken(t, normalized=False) for t in ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>")])
    gemma.add_tokens([AddedToken(t, normalized=False) for t in ("<unused0>", "\n", "\n\n", "▁▁", "▁▁▁▁")])
    gemma.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 2)])
    config = {"tokenizer_class": "GemmaTokenizer", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>", "pad_token": "<pad>", "add_bos_token": True}
    out["gemma2"] = (gemma, config, "gemma2")
    out["gemma3"] = (gemma, config, "gemma3")
    out["gemma4"] = (gemma, config, "gemma4")

    phi3 = sentence_piece(["<unk>", "<s>", "</s>"], ["<|endoftext|>", "<|assistant|>", "<|end|>"])
    phi3.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    phi3.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    phi3.add_special_tokens([AddedToken(t, normalized=False) for t in ("<unk>", "<s>")] + [AddedToken("</s>", normalized=False, rstrip=True)])
    phi3.add_special_tokens([AddedToken("<|endoftext|>", normalized=False)] + [AddedToken(t, normalized=False, rstrip=True) for t in ("<|assistant|>", "<|end|>")])
    phi3.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
    out["phi3"] = (phi3, {"tokenizer_class": "LlamaTokenizer", "legacy": False, "add_bos_token": False, "bos_token": "<s>", "eos_token": "<|endoftext|>"}, "phi3")
    mixtral = Tokenizer.from_str(phi3.to_str())
    mixtral.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    out["mixtral"] = (mixtral, {"tokenizer_class": "LlamaTokenizer", "legacy": True, "bos_token": "<s>", "eos_token": "</s>"}, "mixtral")
    return out


def write_families(blobs):
    text = training_text()
    texts = [blob.decode("utf-8", errors="replace") for blob in blobs]
    folder = OUT / "families"
    shutil.rmtree(folder, ignore_errors=True)
    references = {}
    for name, (tokenizer, config, model_type) in family_tokenizers(text).items():
        (folder / name).mkdir(parents=True)
        (folder / name / "tokenizer.json").write_text(json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, separators=(",", ":")))
        (folder / name / "tokenizer_config.json").write_text(json.dumps(config) + "\n")
        (folder / name / "config.json").write_text(json.dumps({"model_type": model_type}) + "\n")
        auto = AutoTokenizer.from_pretrained(folder / name)
        own = auto.backend_tokenizer
        ids = [own.encode(t).ids for t in texts]
        references[name] = {
            "class": type(auto).__name__,
            "ids": [fnv1a(i) for i in ids],
            "decoded": [fnv1a_bytes(own.decode(i, skip_special_tokens=False).encode()) for i in ids],
            "text": {"count": len(own.encode(text).ids), "hash": fnv1a(own.encode(text).ids)},
        }
        print(f"  {name}: {references[name]['class']}, {len(own.encode(text).ids)} tokens")
        compare(f"{name}: against the file alone", lambda t: own.encode(t).ids, lambda t: tokenizer.encode(t).ids, texts)
    write_json(OUT / "families.json", references)


def write_classes(blobs):
    """Ids of the hard strings when tokenizer_config.json names a class and config.json a model type beside a tokenizer.json:
    Transformers 5 rebuilds some classes from the vocabulary and the merges alone."""
    texts = [blob.decode("utf-8", errors="replace") for blob in blobs]
    cases = []
    for name in ("gpt2", "qwen2", "llama2", "llama2-metaspace"):
        for class_name in ("GPT2Tokenizer", "Qwen2Tokenizer", "LlamaTokenizerFast", "PreTrainedTokenizerFast", None):
            # A class for byte-level vocabularies makes no sense with one of SentencePiece's.
            metaspaces = name.startswith("llama2")
            if metaspaces and class_name in ("GPT2Tokenizer", "Qwen2Tokenizer"):
                continue
            for model_type in ("llama", "mistral") if metaspaces else ("llama", "mistral", "qwen2", "qwen3", "opt"):
                for legacy in (None, True) if class_name == "LlamaTokenizerFast" and model_type == "llama" else (None,):
                    cases.append({"tokenizer": name, "class": class_name, "model_type": model_type, "legacy": legacy})
    out = []
    for case in cases:
        with tempfile.TemporaryDirectory() as scratch:
            folder = pathlib.Path(scratch)
            shutil.copy(OUT / "small" / case["tokenizer"] / "tokenizer.json", folder)
            (folder / "config.json").write_text(json.dumps({"model_type": case["model_type"]}))
            config = {"tokenizer_class": case["class"], "legacy": case["legacy"]}
            (folder / "tokenizer_config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
            tokenizer = AutoTokenizer.from_pretrained(folder).backend_tokenizer
            ids = [i for text in texts for i in tokenizer.encode(text, add_special_tokens=False).ids]
            out.append(case | {"count": len(ids), "hash": fnv1a(ids)})
    write_json(OUT / "classes.json", out)


def byte_alphabet():
    printable = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    others = [b for b in range(256) if b not in printable]
    return printable + others, [chr(b) for b in printable] + [chr(256 + i) for i in range(len(others))]


def write_pieces():
    """Every behaviour of Split, with a literal and with an expression."""
    out = []
    texts = ["--a-b--c-", "a", "-", "--", "a--", "--a", "aé-ü--", "a b  c\td ", "x1y22z333"]
    for pattern in ("-", " ", "é"):
        for behaviour in ("removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"):
            for invert in (False, True):
                for regex in (False, True):
                    split = pre_tokenizers.Split(Regex(pattern) if regex else pattern, behaviour, invert=invert)
                    pieces = [[piece for piece, _ in split.pre_tokenize_str(text)] for text in texts]
                    out.append({"split": json.loads(split.__getstate__()), "pieces": pieces})
    for expression in (r"\p{N}{1,3}", r"\s+", r"[^\s\p{L}]", r"\w+", r"\W", r"\d", r"[\w']+|\S", r"(?<!a)-", r"a$|^-", r"(?>a|ab)c|\x{e9}", r"\u00fc|\t"):
        split = pre_tokenizers.Split(Regex(expression), "isolated")
        out.append({"split": json.loads(split.__getstate__()), "pieces": [[p for p, _ in split.pre_tokenize_str(t)] for t in texts]})
    write_json(OUT / "pieces.json", {"texts": texts, "cases": out})


def write_unicode():
    """What the characters are to `tokenizers`: count and hash (ids' way) of the code points that match an expression, hash
    of the normal forms of every code point, alone and among marks."""
    points = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    classes = {}
    for expression in (r"\p{L}", r"\p{N}", r"\p{M}", r"\p{P}", r"\p{S}", r"\p{Lu}", r"\p{Ll}", r"\s", r"\S", r"\d", r"\w", r"\W", r"[^\s\p{L}\p{N}]", r"(?i:s)", r"(?i:k)"):
        split = pre_tokenizers.Split(Regex(expression), "removed", invert=True)
        # Between line feeds, so that neighbours do not matter.
        found = [c for c in points if c != 10 and any(p != "\n" for p, _ in split.pre_tokenize_str("\n" + chr(c)))]
        classes[expression] = {"count": len(found), "hash": fnv1a(found)}
    forms = {}
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        normalize = getattr(normalizers, form)().normalize_str
        forms[form] = fnv1a_bytes("".join(normalize(chr(c)) + normalize("a\u0315" + chr(c) + "\u0323") for c in points).encode())
    lower = normalizers.Lowercase().normalize_str
    forms["Lowercase"] = fnv1a_bytes("".join(lower(chr(c)) for c in points if c < 0x1C80).encode())
    write_json(OUT / "unicode.json", {"classes": classes, "forms": forms})


def write_json(path, content):
    path.write_text(json.dumps(content, ensure_ascii=True, separators=(",", ":")) + "\n")
    print(path.relative_to(ROOT), path.stat().st_size, "bytes")


def write_real(shared, blobs):
    references = {}
    tokenizers_folder = shared / "tokenizers"
    scratch = tempfile.TemporaryDirectory()
    references["tokenizers/opt"] = opt_reference(
        tokenizers_folder / "opt/gpt2-vocab.json", tokenizers_folder / "opt/gpt2-merges.txt", pathlib.Path(scratch.name)
    )
    references["tokenizers/llama2"] = of_tokenizers(legacy_llama(tokenizers_folder / "llama2/tokenizer.model"), "<s>", "</s>")
    converted, direct = llama3_tiktoken(tokenizers_folder / "llama3/tokenizer.model")
    references["tokenizers/llama3"] = of_tokenizers(converted, "<|begin_of_text|>", "<|end_of_text|>")
    references["tokenizers/qwen2"] = of_tokenizers(
        AutoTokenizer.from_pretrained(tokenizers_folder / "qwen2").backend_tokenizer, None, "<|endoftext|>"
    )
    references["tokenizers/pythia"] = of_tokenizers(Tokenizer.from_file(str(tokenizers_folder / "pythia/tokenizer.json")))
    for model in sorted((shared / "models").glob("wiki-*")):
        references[f"models/{model.name}"] = of_tokenizers(
            AutoTokenizer.from_pretrained(model).backend_tokenizer, "<|endoftext|>", "<|endoftext|>"
        )

    wikitext = (shared / "data/wikitext2-test.raw").read_bytes().decode("utf-8", errors="replace")
    documents = [json.loads(line)["text"] for line in (shared / "data/c4-train-1000.jsonl").read_text().splitlines()]
    hard = [blob.decode("utf-8", errors="replace") for blob in blobs]
    out = {}
    for name, reference in references.items():
        print(name, flush=True)
        entry = hard_entry(reference, blobs)
        ids = reference.encode(wikitext)
        entry["wikitext"] = {"count": len(ids), "hash": fnv1a(ids)}
        ids = [i for document in documents for i in reference.encode(document)]
        entry["c4"] = {"count": len(ids), "hash": fnv1a(ids)}
        out[name] = entry
    samples = hard + documents + wikitext.split("\n")
    library = sentencepiece.SentencePieceProcessor(model_file=str(tokenizers_folder / "llama2/tokenizer.model"))
    compare("llama2: converted against sentencepiece", references["tokenizers/llama2"].plain, library.encode, samples)
    # Transformers 5 leaves out the blank in front of a text that begins with one, and after special tokens.
    modern = LlamaTokenizer.from_pretrained(tokenizers_folder / "llama2").backend_tokenizer
    compare("llama2: converted against transformers 5", references["tokenizers/llama2"].plain, lambda t: modern.encode(t, add_special_tokens=False).ids, samples)
    compare("llama3: converted against tiktoken", references["tokenizers/llama3"].plain, lambda t: direct.encode(t, allowed_special="all"), samples)
    write_json(OUT / "real.json", out)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--families", action="store_true", help="families/ and families.json alone")
    parser.add_argument("--shared", type=pathlib.Path, help="folder with tokenizers/, models/ and data/")
    arguments = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    blobs = hard_strings()
    if arguments.families:
        return write_families(blobs)
    write_json(OUT / "hard.json", [base64.b64encode(blob).decode() for blob in blobs])
    write_pieces()
    write_unicode()
    write_small(blobs)
    write_classes(blobs)
    write_families(blobs)
    if arguments.shared:
        write_real(arguments.shared, blobs)


if __name__ == "__main__":
    main()
