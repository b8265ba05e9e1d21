"""Find the new tokens: by either method, or by both and the better one; as many as asked, or as many as pay."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Literal

from fastvocab.console import warn
from fastvocab.errors import DataError
from fastvocab.tokenizer import merge
from fastvocab.tokenizer.base import Base
from fastvocab.tokenizer.continued import continue_bpe
from fastvocab.tokenizer.grow import Grown
from fastvocab.tokenizer.guard import Guard
from fastvocab.tokenizer.prune import Pruned, count_fires, grow_pruned, truncate
from fastvocab.tokenizer.size import MOST, STEP, Choice, Cost, Curve, choose, draw_curve
from fastvocab.tokenizer.spelling import count_parts
from fastvocab.tokenizer.train import Algorithm, train_sentencepiece
from fastvocab.tokenizer.words import Cut, Words

Method = Literal["continued", "sentencepiece"]
METHODS: tuple[Method, ...] = ("continued", "sentencepiece")

#: Pieces trained for each new token wanted. Some exist in the base, and with a Latin-script target most
#: pieces are all-ASCII and dropped, so that case trains more: the trainers take little longer.
_SPARE, _SPARE_LATIN, _SPARE_AT_LEAST = 1.5, 4.0, 500
#: Where those were not enough three times as many are trained, up to this many (Llama-3 has a quarter of the
#: common pieces of Ukrainian).
_MOST_PIECES = 200_000
#: How many tokens are grown to find the size that pays: the next where it is not among them. Whole steps of
#: `choose`, so that none is judged by a part.
_LIMITS = [8 * STEP, 16 * STEP, MOST]


@dataclass(frozen=True)
class Request:
    """What is looked for.

    Attributes:
        words: words of the training sample.
        heldout: words of held-out text, with their counts.
        guard: which merges may be added.
        new_tokens: how many; None for as many as pay.
        method: one of the two, or None for the better one.
        algorithm: of SentencePiece.
        cost: of the base model, for as many as pay.
        training_tokens: the training budget, likewise.
        threads: for training.
    """

    words: Words
    heldout: Counter[str]
    guard: Guard
    new_tokens: int | None
    method: Method | None = None
    algorithm: Algorithm = "bpe"
    cost: Cost | None = None
    training_tokens: int | None = None
    threads: int = 2


@dataclass(frozen=True)
class Found:
    """What one method found.

    Attributes:
        method: which.
        pieces: how many pieces it learnt; ascii_only: of them without a target character.
        pruned: the new tokens, all that fire.
        curve: tokens of held-out words by the number of new ones.
        choice: how many to take, and why.
        seconds: for training and growing.
        fires: how often each token to take occurs in the training words; of the best method alone.
    """

    method: Method
    pieces: int
    ascii_only: int
    pruned: Pruned
    curve: Curve
    choice: Choice
    seconds: float
    fires: Counter[str] = field(default_factory=Counter)

    @property
    def grown(self) -> Grown:
        """The tokens to take."""
        return truncate(self.pruned.grown, self.choice.size)

    def heldout(self, size: int) -> float:
        """Tokens for each held-out word (or character, `Words.unit`) with ``size`` new tokens."""
        return round(self.curve.at(size) / self.curve.words, 4)


def find(base: Base, request: Request, out: Path) -> list[Found]:
    """Look for new tokens by each method asked for; the best first, by held-out tokens at the same size.

    Args:
        base: the base, with the pre-tokenizer that the extended one will have.
        request: what is looked for.
        out: folder for sentencepiece.model, where that is trained.
    """
    methods = [request.method] if request.method else METHODS
    cut = cache(merge.cutter(base))  # each word is asked for several times
    parts = count_parts(request.words.counts, cut, request.guard)
    found = []
    for method in methods:
        try:
            found.append(_by(method, base, cut, parts, request, out))
        except DataError as error:  # one method may find something where the other finds nothing
            if method == methods[-1] and not found:
                raise
            warn(f"{method} found nothing: {error.message}")
    sizes = [one.choice.size for one in found]
    common = max(sizes) if request.new_tokens else max(1, min(sizes))  # one that found nothing is no better
    best, *others = sorted(found, key=lambda one: one.curve.at(common))
    return [replace(best, fires=count_fires(base, best.grown, parts)), *others]


def _learn(
    method: Method, base: Base, cut: Cut, request: Request, parts: Counter[str], pieces: int, out: Path
) -> list[str]:
    words = request.words
    if method == "continued":
        return continue_bpe(base, parts, pieces=pieces, longest=words.longest, guard=request.guard)
    return train_sentencepiece(
        words,
        out / "sentencepiece.model",
        pieces=pieces,
        algorithm=request.algorithm,
        threads=request.threads,
        cut=cut,
    )


def _grow(base: Base, wanted: list[str], guard: Guard, size: int) -> Grown:
    return merge.grow(base, wanted, limit=size, guard=guard)


def _by(method: Method, base: Base, cut: Cut, parts: Counter[str], request: Request, out: Path) -> Found:
    started = time.perf_counter()
    words, guard = request.words, request.guard
    # as many as pay are mostly few: with 32,768 grown at once Thai on SmolLM2 took 42 s, so 11
    limits = [request.new_tokens] if request.new_tokens else _LIMITS
    spare = _SPARE_LATIN if "Latn" in words.scripts else _SPARE
    # no text of so many characters has more pairs; the trainers set memory aside for all that is asked
    possible = sum(map(len, parts)) + _SPARE_AT_LEAST
    asked = min(int(limits[-1] * spare) + _SPARE_AT_LEAST, possible)
    held, units = count_parts(request.heldout, cut, guard), words.units(request.heldout)
    while True:
        learnt = _learn(method, base, cut, request, parts, asked, out)
        wanted, ascii_only = merge.candidates(learnt, words.chars, guard)
        for limit in limits:
            pruned = grow_pruned(base, parts, partial(_grow, base, wanted, guard), limit)
            curve = draw_curve(base, pruned.grown, held, units)
            choice = _choose(pruned, curve, request)
            if choice.size < limit:  # more do not pay, or there are no more
                break
        if (
            choice.size == limit
            or choice.size < len(pruned.grown.tokens)
            or len(learnt) < 0.9 * asked
            or asked >= min(_MOST_PIECES, possible)
        ):
            break  # enough, or the text holds no more
        asked = min(3 * asked, possible)
    seconds = round(time.perf_counter() - started, 2)
    return Found(method, len(learnt), ascii_only, pruned, curve, choice, seconds)


def _choose(pruned: Pruned, curve: Curve, request: Request) -> Choice:
    tokens, words = pruned.grown.tokens, request.words
    if request.new_tokens:
        given = len(tokens)
        return Choice(given, "as asked" if given == request.new_tokens else "the text supports no more")
    return choose(
        curve,
        [pruned.fires[token] for token in tokens],
        sample_words=words.units(words.counts),
        cost=request.cost,
        training_tokens=request.training_tokens,
        passes=words.total_bytes / max(words.bytes, 1),
    )
