"""Find new tokens by continuing the base's own BPE over a corpus.

Each word is spelt as the base spells it, one private character for each of its tokens, and the tokenizers
library's trainer learns merges over those characters (BPE training as in arXiv:1508.07909, begun where the
base stopped). The pieces know what the base already has, so none is spent on what it spells well.
"""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Iterator

from fastvocab.tokenizer.base import Base
from fastvocab.tokenizer.bpe import to_text
from fastvocab.tokenizer.guard import Guard
from fastvocab.tokenizer.spelling import merge_all, token_bytes
from fastvocab.tokenizer.words import BEHIND

_PRIVATE = 0x10000  # first of the characters that stand for units: beyond the BMP, none of them a space


def continue_bpe(base: Base, parts: Counter[str], *, pieces: int, longest: int, guard: Guard) -> list[str]:
    """Texts (a space is a space) of the next merges of ``base``, in the order learnt.

    Units are the base's tokens; where some begin or end inside a character, single characters, since how
    bytes become characters is the merging's business (taken together up to the next border they cost 2% on
    Korean with SmolLM2). Two units without a target character are not
    merged, but in Latin script: words such as "nghiệp" are ASCII for the most part, and a piece of it that is
    all ASCII is dropped later.

    Args:
        base: the base tokenizer.
        parts: parts of words, as the base cuts them, with their counts.
        pieces: merges wanted; fewer are given if the text holds fewer.
        longest: length of the longest piece, in characters.
        guard: tells target characters.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    runs, names = _runs(base, parts, guard)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(
        vocab_size=len(names) + pieces,
        min_frequency=2,
        max_token_length=longest + 1,  # exclusive, in units of at least a character: more is dropped below
        show_progress=False,
    )
    tokenizer.train_from_iterator(_repeat(runs), trainer)
    learnt = json.loads(tokenizer.to_str())["model"]["merges"]
    texts = ("".join(names[ord(char) - _PRIVATE] for char in left + right) for left, right in learnt)
    return [text for text in dict.fromkeys(texts) if len(text) <= longest][:pieces]


def _repeat(runs: Counter[str]) -> Iterator[str]:
    """Each run as often as it occurs: the trainer counts for itself."""
    for run, number in sorted(runs.items()):
        while number > 0:
            yield " ".join([run] * min(number, 1000))
            number -= 1000


def _runs(base: Base, parts: Counter[str], guard: Guard) -> tuple[Counter[str], list[str]]:
    """Runs of units as private characters with their counts; and the text of each unit."""
    raw = {i: token_bytes(base.kind, token) for token, i in base.vocab.items()}
    runs: Counter[str] = Counter()
    index: dict[str, int] = {}
    target: dict[str, bool | None] = {}
    latin = "Latn" in guard.scripts

    def keep(run: str, number: int) -> None:
        if len(run) > 1:
            runs[run] += number

    for number, ids in zip(parts.values(), merge_all(base, parts)):
        run, before = "", True
        for unit in _units([raw[i] for i in ids]):
            if unit not in target:
                index[unit] = len(index)
                target[unit] = guard.has_target(unit) or (None if _goes_on(unit) else False)
            now = target[unit]
            if now is None:  # a mark counts as the letter that it stands on
                now = before
            if not (now or before or latin):
                keep(run, number)
                run = ""
            run += chr(_PRIVATE + index[unit])
            before = now
        keep(run, number)
    return runs, list(index)


def _units(tokens: list[bytes]) -> Iterator[str]:
    """Tokens that are whole characters, and the single characters of those that are not."""
    pending = b""
    for raw in tokens:
        text = to_text(pending + raw)
        if text is None:
            pending += raw
        elif pending:
            yield from text
            pending = b""
        else:
            yield text


def _goes_on(unit: str) -> bool:
    """True for marks and joiners alone, which belong to no one script."""
    return all(unicodedata.category(char)[0] == "M" or char in BEHIND for char in unit)
