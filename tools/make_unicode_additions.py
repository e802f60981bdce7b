#!/usr/bin/env python3
"""Writes src/knapsaq/text/unicode_additions.inc: where the Unicode of Hugging Face's tokenizers differs from that of the
libraries that Knapsaq uses.

Two tables, both asked of the `tokenizers` library itself:
- code points that its regular expressions (Oniguruma) know and Unicode 14 (PCRE2 10.42, Debian 12) does not, each range
  with a stand-in of Unicode 13 or older that has the same general category and the same length in UTF-8;
- code points that its normal forms (an older Unicode) leave alone although newer tables do not.

Usage: python tools/make_unicode_additions.py   (needs tokenizers, and a Python whose unicodedata is version 14)
"""

import pathlib
import unicodedata

from tokenizers import Regex, normalizers, pre_tokenizers

CATEGORIES = "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf".split()
CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
UTF8_LENGTH = lambda c: len(chr(c).encode())


def matched(pattern):
    split = pre_tokenizers.Split(Regex(pattern), "removed", invert=True)
    found = set()
    for i in range(0, len(CODE_POINTS), 4096):
        text = "".join(map(chr, CODE_POINTS[i : i + 4096]))
        for piece, _ in split.pre_tokenize_str(text):
            found.update(map(ord, piece))
    return found


def ranges(values):
    """[(first, last, value)] of a dict from code point to value."""
    out = []
    for c in sorted(values):
        if out and out[-1][1] == c - 1 and out[-1][2] == values[c]:
            out[-1] = (out[-1][0], c, values[c])
        else:
            out.append((c, c, values[c]))
    return out


def stand_in(category, length, code_point):
    if category == "Lo" and code_point >= 0x30000:
        return 0x20000  # an ideograph for ideographs
    # Planes 1.. first for four bytes; skip Latin-1, whose characters have special roles in many expressions.
    for c in CODE_POINTS:
        if c > 0x2FF and UTF8_LENGTH(c) == length and unicodedata.category(chr(c)) == category and c not in barriers:
            return c
    raise SystemExit(f"no stand-in for {category} of {length} bytes ({code_point:#x})")


barriers = set()
forms = {form: getattr(normalizers, form)().normalize_str for form in ("NFC", "NFD", "NFKC", "NFKD")}
for c in CODE_POINTS:
    for form, normalize in forms.items():
        # Between marks of the classes 232 and 220: shows a decomposition as well as an unknown combining class.
        for text in (chr(c), "a\u0315" + chr(c) + "\u0323"):
            if normalize(text) != unicodedata.normalize(form, text):
                barriers.add(c)

assert unicodedata.unidata_version == "14.0.0", "the additions are counted from Unicode 14"
additions = {}
for category in CATEGORIES:
    for c in matched(rf"\p{{{category}}}"):
        if unicodedata.category(chr(c)) == "Cn":
            additions[c] = stand_in(category, UTF8_LENGTH(c), c)
        elif unicodedata.category(chr(c)) != category:
            print(f"U+{c:04X}: {unicodedata.category(chr(c))} became {category}")

lines = ["// Written by tools/make_unicode_additions.py; do not edit.", ""]
lines += ["constexpr Addition kAdditions[] = {"]
lines += [f"    {{0x{a:04X}, 0x{b:04X}, 0x{s:04X}}}," for a, b, s in ranges(additions)]
lines += ["};", "", "constexpr Barrier kBarriers[] = {"]
lines += [f"    {{0x{a:04X}, 0x{b:04X}}}," for a, b, _ in ranges({c: 0 for c in barriers | set(additions)})]
lines += ["};", ""]
target = pathlib.Path(__file__).resolve().parent.parent / "src/knapsaq/text/unicode_additions.inc"
target.write_text("\n".join(lines))
print(len(additions), "additions,", len(barriers), "barriers ->", target.name)
