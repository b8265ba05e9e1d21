"""Drop new tokens that never fire, and make up for them from the next candidates.

A token may be learnt and then always be swallowed by later merges, or never be formed since older merges go
before it. Where other tokens are built from it, it stays as a step on their way; where nothing is, its row
would never be trained.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

from fastvocab.tokenizer.base import Base
from fastvocab.tokenizer.grow import Grown
from fastvocab.tokenizer.spelling import merge_all

#: How much more is grown than asked for, so that something is left to make up with.
_MORE, _MORE_AT_LEAST = 1.1, 32
_ROUNDS = 4
#: How often a merged token must occur in the training words: what was seen once was not learnt. SentencePiece
#: goes on to pairs seen once: of 2,000 pieces from 38 kB of Lao, 1,281 never fired.
LEAST_FIRES = 2


@dataclass(frozen=True)
class Pruned:
    """New tokens without those that never fire.

    Attributes:
        grown: what is left.
        fires: how often each new token occurs in the training words as they are encoded now.
        dropped: tokens that never fired.
    """

    grown: Grown
    fires: Counter[str]
    dropped: int


def grow_pruned(base: Base, parts: Counter[str], grow: Callable[[int], Grown], limit: int) -> Pruned:
    """Grow until ``limit`` tokens are left that fire or serve, or more candidates leave no more of them.

    Args:
        base: the base tokenizer.
        parts: parts of the training words with their counts.
        grow: gives at most so many new tokens, always in the same order.
        limit: tokens wanted.
    """
    asked = max(int(limit * _MORE), limit + _MORE_AT_LEAST)
    before = 0
    for _ in range(_ROUNDS):
        grown = grow(asked)
        fires = count_fires(base, grown, parts)
        kept = drop_silent(grown, fires)
        dropped = len(grown.tokens) - len(kept.tokens)
        had, before = before, len(kept.tokens)
        if len(grown.tokens) < asked or before >= limit or before <= had:
            break  # the candidates ran out, or enough, or more of them add nothing
        asked += 2 * (limit - before) + _MORE_AT_LEAST
    return Pruned(truncate(kept, limit), fires, dropped)


def count_fires(base: Base, grown: Grown, parts: Counter[str]) -> Counter[str]:
    """How often each new token is in the encoded parts."""
    by_id: Counter[int] = Counter()
    for number, ids in zip(parts.values(), merge_all(base, parts, grown)):
        for i in ids:
            if i >= base.next_id:
                by_id[i] += number
    return Counter({t: n for place, t in enumerate(grown.tokens) if (n := by_id[base.next_id + place])})


def drop_silent(grown: Grown, fires: Counter[str]) -> Grown:
    """``grown`` without tokens that hardly fire and do not serve: children before parents, so chains go whole.

    Where no merge uses a token, it stays wherever it is formed: if it does not fire, it is never formed, and
    taking its merge away changes nothing. Where it fires once, its two parts fire instead.
    """
    fires = Counter(fires)
    serves = Counter(part for pair in grown.merges for part in pair)
    by_product: dict[str, list[tuple[str, str]]] = {}
    for a, b in grown.merges:
        by_product.setdefault(a + b, []).append((a, b))
    silent: set[str] = set()
    for token in reversed(grown.tokens):
        pairs = by_product.get(token, ())
        if serves[token] or fires[token] >= (LEAST_FIRES if pairs else 1):
            continue
        silent.add(token)
        for a, b in pairs:
            serves.subtract((a, b))
            fires[a] += fires[token]
            fires[b] += fires[token]
    return replace(
        grown,
        tokens=[token for token in grown.tokens if token not in silent],
        merges=[(a, b) for a, b in grown.merges if a + b not in silent],
        intermediates=grown.intermediates - silent,
    )


def truncate(grown: Grown, limit: int) -> Grown:
    """The first ``limit`` tokens and the merges that lead to them.

    What a later token would have swallowed fires itself then, so nothing falls silent by it.
    """
    if len(grown.tokens) <= limit:
        return grown
    late = set(grown.tokens[limit:])
    end = next((place for place, (a, b) in enumerate(grown.merges) if a + b in late), len(grown.merges))
    return replace(
        grown,
        tokens=grown.tokens[:limit],
        merges=grown.merges[:end],
        intermediates=grown.intermediates - late,
    )
