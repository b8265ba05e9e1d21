"""Which of the pre-tokenizers that llama.cpp knows by name (`fastvocab.llama_cpp`) cuts text as a given tokenizer does.

llama.cpp's own converter finds the name by a hash of ids on one text; here the ids on the whole probe must be equal.
The name of the model says nothing: a base's regex may have been repaired (`fastvocab.tokenizer.pretokenizer`), and then
no name may fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastvocab.llama_cpp import KNOWN, Named

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from fastvocab.tokenizer.base import Base

_BATCH = 1024
#: Texts that each is tried on first; those of all scripts and of spaces come first.
_SOME = 1500

#: A text, its ids by the tokenizer, and by llama.cpp.
Row = tuple[str, list[int], list[int]]


@dataclass(frozen=True)
class Fit:
    """How a named pre-tokenizer fits.

    Attributes:
        named: which.
        lines: probe texts.
        unequal: how many of them have other ids; 0 if it fits.
        example: the shortest text with other ids, with ids by the tokenizer and by llama.cpp; None where there is none.
    """

    named: Named
    lines: int
    unequal: int
    example: Row | None


def choose(base: Base, lines: Sequence[str], odd: Sequence[str] = ()) -> Fit:
    """The named pre-tokenizer with which llama.cpp gives the ids of ``base``, else the closest.

    Of several that give them it is the one with the fewest differences in ``odd``, and then the one that cuts most
    texts where ``base`` does (SmolLM2 has no merges of digits: whether they are cut apart does not matter).

    Args:
        base: a byte-level tokenizer.
        lines: texts that have to come out equal; that its normaliser leaves as they are (llama.cpp has none).
        odd: texts that nobody writes, likewise.
    """
    plain: dict[bool, Tokenizer] = {}

    def try_on(named: Named, texts: Sequence[str], ours: Sequence[list[int]]) -> list[Row]:
        if named.ignore_merges not in plain:
            plain[named.ignore_merges] = without_pre_tokenizer(base, ignore_merges=named.ignore_merges)
        tokenizer = plain[named.ignore_merges]
        tokenizer.pre_tokenizer = named.step
        return [row for row in zip(texts, ours, encode_all(tokenizer, texts)) if row[1] != row[2]]

    ours, ours_odd = encode_all(base.tokenizer, lines), encode_all(base.tokenizer, odd)
    some = lines[:_SOME]
    own = base.cutting.pre_tokenizer
    cuts = [own.pre_tokenize_str(line) for line in some]
    apart: dict[Named, tuple[int, int]] = {}
    for named in KNOWN.values():
        if not try_on(named, some, ours) and not try_on(named, lines, ours):
            cut = sum(named.step.pre_tokenize_str(line) != parts for line, parts in zip(some, cuts))
            apart[named] = len(try_on(named, odd, ours_odd)), cut
            if not any(apart[named]):
                break
    if apart:
        return Fit(min(apart, key=apart.__getitem__), len(lines), 0, None)
    wrong = {named: try_on(named, lines, ours) for named in KNOWN.values()}
    closest = min(wrong, key=lambda named: len(wrong[named]))
    return Fit(closest, len(lines), len(wrong[closest]), min(wrong[closest], key=lambda row: len(row[0])))


def without_pre_tokenizer(base: Base, *, ignore_merges: bool) -> Tokenizer:
    """The base's tokens and merges, its added tokens too, with neither normaliser nor pre-tokenizer."""
    from fastvocab.tokenizer.base import load_spec

    model = base.spec["model"] | {"ignore_merges": ignore_merges}
    return load_spec(base.spec | {"model": model, "normalizer": None, "pre_tokenizer": None}, base.folder)


def encode_all(tokenizer: Tokenizer, lines: Sequence[str]) -> list[list[int]]:
    """Ids of each text, without special tokens around it."""
    ids: list[list[int]] = []
    for start in range(0, len(lines), _BATCH):
        batch = list(lines[start : start + _BATCH])
        ids += [encoding.ids for encoding in tokenizer.encode_batch_fast(batch, add_special_tokens=False)]
    return ids
