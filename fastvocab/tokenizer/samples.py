"""Text of other scripts, code, emoji and odd spacing, on which an extension must change nothing."""

from __future__ import annotations

import random
import sys
import unicodedata
from collections import defaultdict
from functools import lru_cache

from fontTools.unicodedata import Scripts

from fastvocab.unicode import NEUTRAL

_CODE = (
    "def f(x: int) -> str:\n    return f'{x!r:>10}'  # done",
    "for (int i = 0; i < n; ++i) { sum += a[i] * b[i]; }",
    "SELECT name, COUNT(*) FROM users WHERE age >= 18 GROUP BY name;",
    '{"key": [1, 2.5e-3, null, true], "nested": {"a": "b"}}',
    "<div class=\"x\"><a href='https://example.org/?q=1&r=2'>link</a></div>",
    '\tif err != nil {\n\t\treturn nil, fmt.Errorf("read %s: %w", path, err)\n\t}',
    "x = np.einsum('bld,dk->blk', h, w); assert x.shape == (b, l, k)",
    "#!/bin/sh\nset -eu\nfind . -name '*.py' | xargs wc -l | sort -rn | head",
)
_ENGLISH = (
    "The quick brown fox jumps over the lazy dog.",
    "She didn't say what they'd've done; it's 5 o'clock (or so).",
    "Café owners naïvely gave their résumés to the fiancée from São Paulo.",
    "In 2024, 3,141,592 people paid $1,000.50 — about 20% more than in 1999.",
    "“Quotes”, ‘quotes’, dashes – and — and ellipses… plus § 5 ¶ 2 © ® ™ ° ± µ × ÷ ½.",
    "ALL CAPS, camelCase, snake_case, kebab-case, e-mail@example.com, www.example.com",
)
_OTHER = (
    "0123456789 12 345 6789 0x1F 1e-9 3.14159 ½ ² ³ ١٢٣ 一二三",
    "😀😃👍🏽👩‍👩‍👧‍👦🇺🇦🇬🇪🏳️‍🌈 ❤️ ☺ ✓ → ∞ ≤ ≠ ∑ ∫ √ € £ ¥ ₿ ₴",
    "   leading, trailing   and   inner   spaces   ",
    "tabs\tand\nnewlines\r\nand\n\n\nmore\u00a0no-break\u2003em\u200bzero\ufeffbom",
    "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~",
    "«»„“”‚‘’‹›·•…‰′″‾⁄№",
    "a\u0000b\u0001c\u007fd\ue000e\U000f0000f",
)

_WORDS_PER_SCRIPT = 12


@lru_cache(maxsize=1)
def _by_script() -> dict[str, list[str]]:
    """Every assigned character (without surrogates and private use) by Unicode script."""
    table: dict[str, list[str]] = defaultdict(list)
    for first, stop, name in zip(Scripts.RANGES, [*Scripts.RANGES[1:], sys.maxunicode + 1], Scripts.VALUES):
        if name != "Zzzz":
            chars = map(chr, range(first, stop))
            table[name] += (char for char in chars if unicodedata.category(char) not in ("Cn", "Cs", "Co"))
    return {name: chars for name, chars in table.items() if chars}  # fontTools may know a later Unicode


def built_in() -> list[str]:
    """Code, English with loan words, digits, emoji, punctuation, spacing, control characters."""
    return [*_CODE, *_ENGLISH, *_OTHER]


def other_scripts(scripts: frozenset[str], seed: int = 0) -> list[str]:
    """A line of made-up words in each Unicode script that is not among ``scripts``."""
    draw = random.Random(seed)
    lines = []
    for name, chars in sorted(_by_script().items()):
        if name in scripts or name in NEUTRAL:
            continue
        words = ["".join(draw.choices(chars, k=draw.randint(2, 8))) for _ in range(_WORDS_PER_SCRIPT)]
        lines.append(" ".join(words))
    return lines


def assigned() -> list[str]:
    """Assigned characters without surrogates and private use, about 57,000.

    All of them but ideographs and Hangul syllables, of which every fifth: 5 is prime to 64, so each first and
    each last byte of their UTF-8 is there. With all 145,000 the proofs took 5 s instead of 1 s.
    """
    table = _by_script()
    return [char for name in table for char in table[name][:: 5 if name in ("Hani", "Hang") else 1]]
