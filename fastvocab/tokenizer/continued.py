"""Find new tokens by continuing the base's own BPE over a corpus.

Each word is spelt as the base spells it, one private character for each of its tokens, and the tokenizers
library's trainer learns merges over those characters (BPE training as in arXiv:1508.07909, begun where the
base stopped). The pieces know what the base already has, so none is spent on what it spells well.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

from fastvocab.tokenizer.base import Base
from fastvocab.tokenizer.bpe import to_text
from fastvocab.tokenizer.guard import Guard
from fastvocab.tokenizer.spelling import base_ids, token_bytes

_PRIVATE = 0x10000  # first of the characters that stand for units: beyond the BMP, none of them a space


def continue_bpe(base: Base, parts: Counter[str], *, pieces: int, longest: int, guard: Guard) -> list[str]:
    """Texts (a space is a space) of the next merges of ``base``, in the order learnt.

    Units are the base's tokens; those that end inside a character are taken together up to its end, since
    how bytes become characters is the merging's business. Two units without a target character are never
    merged, so that no piece is without one.

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
        max_token_length=longest,  # in units, each at least one character: longer texts are dropped below
        show_progress=False,
    )
    tokenizer.train_from_iterator(_repeat(runs), trainer)
    learnt = json.loads(tokenizer.to_str())["model"]["merges"]
    texts = ("".join(names[ord(char) - _PRIVATE] for char in left + right) for left, right in learnt)
    return [text for text in dict.fromkeys(texts) if len(text) <= longest]


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
    target: dict[str, bool] = {}

    def keep(run: str, number: int) -> None:
        if len(run) > 1:
            runs[run] += number

    for number, ids in zip(parts.values(), base_ids(base, list(parts))):
        run, before, pending = "", True, b""
        for i in ids:
            pending += raw[i]
            unit = to_text(pending)
            if unit is None:
                continue
            pending = b""
            if unit not in target:
                target[unit] = guard.has_target(unit)
                index[unit] = len(index)
            if not (target[unit] or before):
                keep(run, number)
                run = ""
            run += chr(_PRIVATE + index[unit])
            before = target[unit]
        keep(run, number)
    return runs, list(index)
