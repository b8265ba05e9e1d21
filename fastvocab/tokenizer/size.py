"""How many new tokens: the curve of held-out tokens against vocabulary size, and where it stops paying.

One training gives the whole curve. A merge list cut off at k tokens merges as the whole list does until it
would need the first merge beyond k, so each merge that encoding the held-out words with the whole list
applies is credited to the size from which on it is there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from fastvocab.architecture import Architecture
from fastvocab.errors import ModelError
from fastvocab.tokenizer.base import Base, Kind
from fastvocab.tokenizer.grow import Grown
from fastvocab.tokenizer.spelling import merge_all, spell

#: `new_tokens: auto` looks no further.
MOST = 32_768
#: The size is found to this many tokens; a thousand more is what has to pay.
STEP = 1000
#: A thousand more tokens must take off at least this share of the held-out tokens, whatever they cost.
LEAST_GAIN = 0.01
#: ... and each of them must be seen this often in training, on average.
LEAST_SEEN = 2.0
#: Distinct held-out words that the curve is drawn on.
_MOST_PARTS = 20_000


@dataclass(frozen=True)
class Cost:
    """What a token costs in a model, from its config.json.

    Attributes:
        body: parameters of all layers without embeddings: multiply-adds of a token there.
        width: of an embedding row; rows: of the base; matrices: 1 if input and output are tied, else 2.
    """

    body: int
    width: int
    rows: int
    matrices: int

    def of_token(self, new: int) -> int:
        """Multiply-adds for a token, logits included, with ``new`` more rows."""
        return self.body + (self.rows + new) * self.width

    def describe(self, new: int) -> dict[str, Any]:
        """What ``new`` rows cost: parameters, memory (2 bytes each; 16 in training: float32 with gradient and
        Adam's two moments), and the share of a token's multiply-adds that logits take, before and after."""
        parameters = new * self.width * self.matrices
        return {
            "parameters": parameters,
            "megabytes": round(2 * parameters / 1e6, 1),
            "megabytes_in_training": round(16 * parameters / 1e6, 1),
            "logits_share_before": round(self.rows * self.width / self.of_token(0), 4),
            "logits_share_after": round((self.rows + new) * self.width / self.of_token(new), 4),
        }

    @classmethod
    def read(cls, config: dict[str, Any]) -> Cost | None:
        """The cost by a Llama-family config.json; None if it lacks a size."""
        try:
            found = Architecture.read(config)
        except ModelError:
            return None
        return cls(found.linear_parameters, found.width, found.rows, found.matrices)


@dataclass(frozen=True)
class Curve:
    """Tokens of held-out words by the number of new tokens.

    Attributes:
        tokens: ``tokens[k]`` tokens with the first k new ones, k from 0 on.
        words: how many words they are, or characters in scripts without spaces.
    """

    tokens: list[int]
    words: int

    def at(self, size: int) -> int:
        """Tokens with the first ``size`` new ones, or with all if there are fewer."""
        return self.tokens[min(size, len(self.tokens) - 1)]


def draw_curve(base: Base, grown: Grown, parts: Counter[str], words: int) -> Curve:
    """The curve on held-out words.

    Args:
        base: the base tokenizer.
        grown: all new tokens.
        parts: parts of held-out words, as the base cuts them, with their counts.
        words: how many words (or characters) these are.
    """
    rank = _ranks(base, grown)
    places = {token: place + 1 for place, token in enumerate(grown.tokens)}
    chosen = dict(sorted(parts.items())[:: max(1, len(parts) // _MOST_PARTS)])
    saved = [0] * (len(grown.tokens) + 1)
    total = 0
    for number, symbols in zip(chosen.values(), _symbols(base, list(chosen))):
        for symbol in symbols:
            # a character that a SentencePiece base lacks is bytes in it, until it is a token itself
            missing = base.kind is not Kind.BYTE_LEVEL and symbol not in base.vocab
            size = len(symbol.encode("utf-8")) if missing else 1
            total += number * size
            if missing and symbol in places:
                saved[places[symbol]] += number * (size - 1)
        for size in _sizes(symbols, rank):
            saved[size] += number
    tokens_at = []
    for number in saved:
        total -= number
        tokens_at.append(total)
    return Curve(tokens_at, max(1, round(words * sum(chosen.values()) / max(1, sum(parts.values())))))


def _symbols(base: Base, parts: list[str]) -> Iterator[list[str]]:
    """What new merges begin with: the base's tokens, or characters, which a SentencePiece base may lack."""
    if base.kind is not Kind.BYTE_LEVEL:
        yield from (list(spell(base.kind, part)) for part in parts)
        return
    names = {i: token for token, i in base.vocab.items()}
    yield from ([names[i] for i in ids] for ids in merge_all(base, parts))


_Ranks = dict[tuple[str, str], tuple[int, int]]


def _ranks(base: Base, grown: Grown) -> _Ranks:
    """For each merge its place in the list, and with how many new tokens it is there (0: from the start)."""
    ranks: _Ranks = {pair: (place, 0) for place, pair in enumerate(base.merges)}
    sizes = {token: place + 1 for place, token in enumerate(grown.tokens)}
    size = 0
    for place, (a, b) in enumerate(grown.merges, len(ranks)):
        size = max(size, sizes.get(a + b, 0))
        ranks[a, b] = (place, size)
    return ranks


def _sizes(tokens: list[str], rank: _Ranks) -> list[int]:
    """With how many new tokens each merge that ``tokens`` go through is made."""
    found: list[int] = []
    size = 0
    while True:
        best = min(
            ((*rank[pair], place) for place, pair in enumerate(pairwise(tokens)) if pair in rank),
            default=None,
        )
        if best is None:
            return found
        place = best[2]
        size = max(size, best[1])
        found.append(size)
        tokens[place : place + 2] = [tokens[place] + tokens[place + 1]]


@dataclass(frozen=True)
class Choice:
    """A size and why it was taken."""

    size: int
    reason: str


def choose(
    curve: Curve,
    fires: list[int],
    *,
    sample_words: int,
    cost: Cost | None = None,
    training_tokens: int | None = None,
    passes: float = 1.0,
) -> Choice:
    """The size after which a thousand more tokens stop paying; the first thousand are always taken.

    They pay while they (1) take off a larger share of the held-out tokens than they add to the cost of a
    token (multiply-adds, logits over more rows), and at least 1%; and (2) are each seen at least twice in
    training, on average: a row that training hardly touches stays where it was initialised.

    Args:
        curve: held-out tokens by size.
        fires: for each new token, in order, how often it occurs in the training sample.
        sample_words: words (or characters) of the training sample.
        cost: of the base model; None leaves rule (1) with the 1% alone.
        training_tokens: the budget of training, where one is set.
        passes: without a budget, how often training goes over a text of the sample's size.
    """
    most = len(curve.tokens) - 1
    size = 0
    while size < most:
        step = min(STEP, most - size)
        gain = (1 - curve.at(size + step) / max(curve.at(size), 1)) * STEP / step
        price = LEAST_GAIN
        if cost is not None:
            price = max(price, STEP * cost.width / cost.of_token(size))
        if size and gain < price:
            return Choice(
                size,
                f"{STEP:,} more would take off {gain:.2%} of the held-out tokens; they must take off {price:.2%}",
            )
        if training_tokens:
            passes = training_tokens / (sample_words * curve.at(size) / curve.words)
        seen = passes * sum(fires[size : size + step]) / step
        if size and seen < LEAST_SEEN:
            return Choice(size, f"each of the next {step:,} would be seen {seen:.1f} times in training")
        size += step
    return Choice(most, "no more are looked at" if most >= MOST else "the text supports no more")
