"""What is shown of an extended tokenizer: one sentence as both cut it, and the new tokens that occur most."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import regex

from fastvocab.tokenizer.measure import encode_all
from fastvocab.unicode import UNSPACED, dominant_scripts, letter_scripts

if TYPE_CHECKING:
    from tokenizers import Tokenizer

#: Ends of sentences: of Latin and its neighbours, CJK, Arabic, Devanagari, Ethiopic, Armenian, Burmese, Tibetan.
_ENDS = regex.compile(r"(?<=[.!?…。！？؟۔।॥።՞։။།])\s*(?=\P{Ll})")
#: Characters of a sentence of medium length, where words are spaced and where they are not.
_LENGTHS, _LENGTHS_UNSPACED = (60, 140), (25, 70)
#: Sentences that one is chosen from; tokens that are listed.
_CANDIDATES, _LISTED = 400, 30


def shown(
    base: Tokenizer, extended: Tokenizer, lines: list[str], new: Mapping[int, str | None]
) -> dict[str, Any]:
    """What held-out text shows of both tokenizers.

    Args:
        lines: of the held-out text.
        new: text of each new token by its id, None for a part of a character.

    Returns:
        ``sentence``: its ``text``, and ``base`` and ``extended`` as `pieces`; None without any text. It is the
        sentence whose gain is nearest to that of all candidates, neither the best nor the worst.
        ``frequent``: (text, how often) of the new tokens that occur most in ``lines``, most first.
    """
    counts: Counter[int] = Counter()
    for ids in encode_all(extended, lines):
        counts.update(ids)
    frequent = [[new[i], number] for i, number in counts.most_common() if new.get(i)]
    return {"sentence": _sentence(base, extended, lines), "frequent": frequent[:_LISTED]}


def pieces(tokenizer: Tokenizer, text: str) -> list[tuple[str, int]]:
    """``text`` as a tokenizer cuts it: (what stands there, how many tokens it is).

    Tokens that share a character, such as each of its bytes, are one piece of several tokens. Put together the pieces
    are the text, and their numbers come to its tokens.
    """
    spans: list[list[int]] = []  # where each ends, and its tokens
    for start, end in tokenizer.encode(text, add_special_tokens=False).offsets:
        if spans and (start < spans[-1][0] or end <= spans[-1][0] or not spans[-1][0]):
            spans[-1] = [max(end, spans[-1][0]), spans[-1][1] + 1]
        else:
            spans.append([end, 1])
    if not spans:
        return []
    spans[-1][0] = len(text)  # spaces at the end that no token stands for
    starts = [0, *(end for end, _ in spans)]
    return [(text[start:end], tokens) for start, (end, tokens) in zip(starts, spans)]


def _sentence(base: Tokenizer, extended: Tokenizer, lines: list[str]) -> dict[str, Any] | None:
    found = _candidates(lines)
    if not found:
        return None
    sizes = [[len(ids) for ids in encode_all(tokenizer, found)] for tokenizer in (base, extended)]
    usual = sum(sizes[1]) / max(1, sum(sizes[0]))
    apart = [abs(after / max(1, before) - usual) for before, after in zip(*sizes)]
    text = found[apart.index(min(apart))]
    # lists, as they come back from JSON
    return {
        "text": text,
        "base": [list(piece) for piece in pieces(base, text)],
        "extended": [list(piece) for piece in pieces(extended, text)],
    }


def _candidates(lines: list[str]) -> list[str]:
    """Sentences of medium length, spread over the text; where there are none, the openings of its lines."""
    scripts = dominant_scripts(sum((letter_scripts(line) for line in lines[:2000]), letter_scripts("")))
    least, most = _LENGTHS_UNSPACED if scripts & UNSPACED else _LENGTHS
    every = [part.strip() for line in lines for part in _ENDS.split(line)]
    found = [part for part in every if least <= len(part) <= most]
    if not found:
        found = [_opening(line, most) for line in lines if line.strip()]
    return found[:: max(1, len(found) // _CANDIDATES)][:_CANDIDATES]


def _opening(line: str, most: int) -> str:
    line = line.strip()
    cut = line.rfind(" ", most // 2, most) if len(line) > most else -1
    return line[: cut if cut > 0 else most]
