"""Text to compare two tokenizers on: random Unicode, runs of spaces, scripts mixed with what joins letters.

Everything is drawn from fixed seeds, so a result can be repeated.
"""

from __future__ import annotations

import random
import unicodedata
from functools import lru_cache

from fastvocab.tokenizer import samples

_LONG = 20_000  # characters of the long lines
_SPACES = 70  # runs of spaces up to this length: beyond twice the longest piece of any base (32 in Gemma)

_BIDI = "\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_JOINERS = "\u200c\u200d\u2060\ufe0e\ufe0f\u034f\u00ad"
_CONTROLS = "\x00\x01\x07\x08\x0b\x0c\x1b\x1c\x1f\x7f\x85\u2028\u2029\ufeff\ufffd\ufffe\uffff"
_EMOJI = "👩👨👧🏽🏳🏴🌈❤👍🇺🇦🇬🇪🧑🚀1️⃣"


@lru_cache(maxsize=1)
def _marks() -> str:
    return "".join(c for c in samples.assigned() if unicodedata.category(c) in ("Mn", "Mc"))


@lru_cache(maxsize=4)
def random_unicode(count: int = 300, seed: int = 0) -> tuple[str, ...]:
    """Random strings of all that Unicode has but surrogates.

    In turn: the whole code space (half of it from the BMP), letters under combining marks, both writing
    directions with bidi marks, private use, controls with NUL, emoji with joiners; and two lines of 20,000
    characters, one of them a single word.
    """
    draw = random.Random(seed)

    def point() -> str:
        while True:
            code = draw.randrange(0x10000 if draw.random() < 0.5 else 0x110000)
            if not 0xD800 <= code < 0xE000:
                return chr(code)

    def private() -> str:
        ranges = ((0xE000, 0xF8FF), (0xF0000, 0xFFFFD), (0x100000, 0x10FFFD))
        return chr(draw.randint(*draw.choice(ranges)))

    marks = _marks()
    letters = "aeiouоиаіабшקרשابتथरठあ가ꮳ𞤀"
    parts = (
        point,
        point,
        point,
        lambda: draw.choice(letters) + "".join(draw.choices(marks, k=draw.randint(1, 5))),
        lambda: draw.choice("abאבجح12 .") + draw.choice(("", *_BIDI)),
        lambda: private() + draw.choice(("", " ", "a")),
        lambda: draw.choice(_CONTROLS) + draw.choice(("", " ", "a", "\t", "\r\n")),
        lambda: draw.choice(_EMOJI) + draw.choice(("", *_JOINERS)),
    )
    lines = ["".join(parts[n % len(parts)]() for _ in range(draw.randint(1, 40))) for n in range(count)]
    long = "".join(point() for _ in range(_LONG))
    return (*lines, long, "".join(draw.choices("abcdefghij", k=_LONG)))


def spaces() -> list[str]:
    """Runs of spaces of each length, alone, before, after and between words, and mixed with line breaks."""
    draw = random.Random(0)
    runs = [" " * length for length in range(_SPACES)]
    lines = [*runs, *(f"{run}x" for run in runs), *(f"the{run}end{run}" for run in runs)]
    atoms = [" ", "  ", "▁", "\t", "\n", "\r\n", "\u00a0", "a", " the", "--", "1", "."]
    lines += ["".join(draw.choices(atoms, k=draw.randint(1, 24))) for _ in range(300)]
    return lines


def mixed(scripts: frozenset[str]) -> list[str]:
    """For each script but ``scripts``: its letters with joiners, foreign marks and apostrophes between.

    A pattern that is widened for one script's marks and joiners must not reach into another's words.
    """
    draw = random.Random(0)
    lines = []
    between = (
        "\u200d",
        "\u200c",
        "\u0301",
        "\u0323\u0302",
        "'",
        "’",
        "ʼ",
        "-",
        "·",
        "\u00ad",
        "_",
        "1",
        "'s ",
    )
    for line in samples.other_scripts(scripts, seed=1):
        chars = [char for char in line if char != " "]
        words = ("".join(draw.choices(chars, k=2)) + sign + draw.choice(chars) for sign in between)
        lines.append(" ".join(words))
    return [*lines, *_JOINED]


#: Emoji sequences, and English with signs that other scripts put between letters.
_JOINED = (
    "👩‍👩‍👧‍👦 👩🏽‍🚀👨🏿‍🦱 🏳️‍🌈🏴‍☠️ 🇺🇦🇬🇪 1️⃣#️⃣ ❤️‍🔥 x👍🏽y",
    "rock’n’roll o’clock don't 'tis dogs' l’été aujourd'hui it's'nt",
    "e\u0301te\u0301 nai\u0308ve a\u0300\u0301\u0302b x\u0338 \u0301alone 1\u0303 \u20dd",
    "soft\u00adhyphen zero\u200bwidth no\u2060break join\u200der non\u200cjoiner \u200d \u200c",
)


def lone_surrogates() -> list[str]:
    """Strings that are no text: Python allows them, UTF-8 does not."""
    return ["\ud800", "a\udfffb", "\udc00\ud800", "x" * 50 + "\udbff"]


def every(pieces: list[str], most: int = 4000) -> list[str]:
    """At most ``most`` of the pieces as texts, evenly spread."""
    step = max(1, -(-len(pieces) // most))
    return [piece.replace("▁", " ") for piece in pieces[::step]]
