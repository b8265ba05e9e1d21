"""The tokenizer: what it gained at which size, what its new tokens are, and what was proved of it."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable
from typing import Any

from fastvocab import facts
from fastvocab.facts import Records
from fastvocab.numbers import count, is_number, number
from fastvocab.report import jsonl, plots
from fastvocab.report.sections.texts import lang
from fastvocab.report.svg import Drawing, drawn
from fastvocab.unicode import dominant_scripts, letter_scripts

#: Columns of the histogram: lengths up to this one, and all that are longer together.
_LENGTHS = 12
_LONGEST, _FREQUENT = 24, 30
#: Scripts whose letters join.
_CURSIVE = frozenset({"Arab", "Syrc", "Mong", "Nkoo", "Mand", "Adlm", "Rohg", "Phag", "Sogd"})
#: Pieces of the sentence that are shown; a record from elsewhere may hold anything.
_PIECES = 600


def section(records: Records) -> dict[str, Any] | None:
    """What the tokenizer stage measured and proved; None where no text tells."""
    gain = facts.fertility(records)
    if gain is None:
        return None
    groups = [(facts.language(records) or "new language", gain.before, gain.after)]
    key = f"tokens_per_{gain.unit}"
    original = [number(p, "original", key) for p in facts.line(records).values()]
    if len(original) > 1 and original[0] and original[-1]:
        groups.append(("original", original[0], original[-1]))
    label = "; ".join(f"{name}: {before:.2f} before, {after:.2f} after" for name, before, after in groups)
    figures = facts.figures(records, "tokenizer")
    tokens = _new_tokens(records)
    language = facts.language(records)
    return {
        "unit": gain.unit,
        "gain": drawn(
            plots.bars("fertility", groups),
            f"Tokens per {gain.unit}. {label}",
            "On held-out text, before and after. Fewer is better.",
        ),
        "sizes": _sizes(figures),
        "facts": facts.tokenizer(records),
        "fewer": figures.get("fewer_because"),
        "lengths": _lengths(tokens),
        "longest": _tokens(sorted(tokens, key=lambda text: -len(text.strip()))[:_LONGEST], language),
        "frequent": _frequent(figures, language),
        "sentence": _sentence(figures, language),
        "proofs": facts.proofs(records),
    }


def _sizes(figures: dict[str, Any]) -> Drawing | None:
    """Tokens for a held-out word by the number of new tokens, and the number that was taken."""
    curves = []
    methods = [one for one in figures.get("methods") or () if isinstance(one, dict)]
    for one in methods:
        pairs = [(int(n), value) for n, value in (one.get("curve") or {}).items() if str(n).isdecimal()]
        points = sorted((float(n), value) for n, value in pairs if is_number(value))
        if len(points) > 1:
            curves.append(plots.Line(f"found by {one.get('method')}", points))
    if not curves:
        return None
    taken = next((one for one in methods if one.get("method") == figures.get("method")), {})
    size, value = number(figures, "new_tokens"), number(taken, "tokens_per_unit")
    unit = taken.get("unit") or "word"
    chosen = (size, value, f"{count(size)} taken") if size and value else None
    label = f"Tokens of a held-out {unit} alone by the number of new tokens" + (
        f": {curves[0].points[0][1]:.2f} without any, {value:.2f} with the {count(size)} that were taken"
        if chosen and size and value
        else ""
    )
    why = str(taken.get("size_because") or "")
    svg = plots.lines("sizes", curves[:3], xlabel="new tokens", marked=True, from_zero=True, chosen=chosen)
    return drawn(svg, label, f"Why so many: {why}. Punctuation is left out here." if why else "")


def _new_tokens(records: Records) -> list[str]:
    """Texts of the tokens that were learnt; those added by name are a section of their own."""
    if "tokenizer" not in records:
        return []
    rows = jsonl.every(records["tokenizer"].folder / "new_tokens.jsonl")
    return [row["text"] for row in rows if isinstance(row.get("text"), str) and "special" not in row]


def _lengths(tokens: list[str]) -> Drawing | None:
    if not tokens:
        return None
    sizes = Counter(min(len(text.strip()), _LENGTHS) for text in tokens)
    columns = [(str(n), sizes[n]) for n in range(min(sizes), max(sizes) + 1)]
    if max(sizes) == _LENGTHS:
        columns[-1] = (f"{_LENGTHS}+", columns[-1][1])
    middle = sorted(len(text.strip()) for text in tokens)[len(tokens) // 2]
    label = (
        f"New tokens by length in characters, the space before a word left out; half have {middle} or fewer"
    )
    return drawn(plots.histogram("lengths", columns, xlabel="characters"), label)


def _frequent(figures: dict[str, Any], language: str | None) -> list[dict[str, Any]]:
    found = [
        (pair[0], pair[1])
        for pair in figures.get("frequent") or ()
        if isinstance(pair, (list, tuple))
        and len(pair) == 2
        and isinstance(pair[0], str)
        and is_number(pair[1])
    ][:_FREQUENT]
    shown = _tokens([text for text, _ in found], language)
    return [token | {"count": count(often)} for token, (_, often) in zip(shown, found)]


def _tokens(texts: Iterable[str], language: str | None) -> list[dict[str, Any]]:
    return [
        {
            "space": text[:1] == " ",
            "text": _visible(text.strip(" ") or text),
            "lang": lang(text, language),
            "count": "",
        }
        for text in texts
    ]


def _visible(text: str) -> str:
    """The text, or its code points where nothing of it could be seen."""
    if any(unicodedata.category(char)[0] in "LNPS" for char in text):
        return text
    return " ".join(f"U+{ord(char):04X}" for char in text)


def _sentence(figures: dict[str, Any], language: str | None) -> dict[str, Any] | None:
    """One sentence as both tokenizers cut it."""
    found = figures.get("sentence")
    if not isinstance(found, dict) or not isinstance(found.get("text"), str):
        return None
    cuts = []
    for key, label in (("base", "before"), ("extended", "after")):
        pieces = [
            (piece[0], int(piece[1]))
            for piece in found.get(key) or ()
            if isinstance(piece, (list, tuple)) and len(piece) == 2 and isinstance(piece[0], str)
            and is_number(piece[1])
        ]  # fmt: skip
        if pieces:
            cuts.append(
                {"label": label, "tokens": count(sum(n for _, n in pieces)), "pieces": pieces[:_PIECES],
                 "shared": any(n > 1 for _, n in pieces)}
            )  # fmt: skip
    if not cuts:
        return None
    return {"cuts": cuts, "lang": lang(found["text"], language), "apart": not _is_joined(found["text"], cuts)}


def _is_joined(text: str, cuts: list[dict[str, Any]]) -> bool:
    """Would room between the boxes tear letters from each other, or marks from their letters?"""
    marks = {unicodedata.category(piece[0]) for cut in cuts for piece, _ in cut["pieces"] if piece}
    return bool(dominant_scripts(letter_scripts(text)) & _CURSIVE or marks & {"Mn", "Mc", "Me", "Cf"})
