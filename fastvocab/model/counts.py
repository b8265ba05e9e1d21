"""What a corpus itself says comes next: n-gram counts of its tokens, as soft targets for training.

A short training reads a small part of its corpus, and one token is all that a place in it says. Counting reads all of
it in seconds, and says for each place a whole distribution. Ukrainian (ua-gec, 4.5 MB), held-out bits per byte of the
counts alone, by tokens of context:

    tokens                        1      2      3      4
    8,000 new ones and SmolLM2's  1.399  1.365  1.366
    SmolLM2's own                 2.003  1.644  1.454  1.430

So over the tokens of an extended vocabulary, which are nearly words, two are context enough, and over a base's
fragments it takes four (`order_for`). Trained on 37,000 of these, SmolLM2 came to 1.523 on plain targets, 1.498 with
counts as half of each and 1.508 as nine tenths (30 kB).

The estimate is interpolated absolute discounting (Ney, Essen, Kneser 1994): each count gives up a share of itself to
the shorter context, the shortest one (the token's frequency) to all tokens alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

#: Tokens in an n-gram, where tokens are nearly words.
ORDER = 3
#: Where they are not, a context is so many of them as to reach back over so many bytes, but no more than four.
#: Chosen: Ukrainian has two of the extended vocabulary's (6.0 bytes each) and four of the base's (2.2 bytes).
_REACH, _LONGEST = 9, 5
#: n-grams of each length up to `ORDER` that are counted at most: 20 million take 20 s and 2 GB on the way.
MOST = 20_000_000
#: No token stands here: the document had not begun.
NONE = -1


class Targets(NamedTuple):
    """Distributions over the next token, one for each position; sparse but for the share of the unigram.

    The probability of token x at position i is ``rest[i] * unigram[x]`` plus every ``mass`` whose ``position`` is i
    and whose ``token`` is x (the same pair may come several times, once for each length of context).

    Attributes:
        position, token: (entries,) int64.
        mass: (entries,) float32.
        rest: (positions,) float32, what is left for the unigram.
    """

    position: Any
    token: Any
    mass: Any
    rest: Any


@dataclass(frozen=True)
class _Order:
    """Contexts of one length: sorted keys, and for each the tokens that follow it."""

    keys: Any  # (contexts,) index of the context one token shorter, times rows, plus the token further back
    start: Any  # (contexts + 1,) into the next two
    token: Any  # (entries,)
    share: Any  # (entries,) discounted
    rest: Any  # (contexts,) mass that goes to the shorter context


class Counts:
    """n-gram counts of a corpus.

    Attributes:
        unigram: (rows,) float32, frequency of each token.
        order: tokens in the longest n-gram, 2 for a context of one token.
        tokens: how many were counted.
    """

    def __init__(
        self, documents: Iterable[Sequence[int]], rows: int, *, order: int = ORDER, most: int | None = None
    ) -> None:
        """Count.

        Args:
            documents: token ids, each beginning with its BOS; read until ``most`` tokens are there.
            rows: ids are below it; ``most`` times as many must fit 63 bits.
            order: 2 or more.
            most: None for `MOST`, fewer where n-grams are longer than `ORDER`, which need more memory each.
        """
        import torch

        tokens, first = _flat(documents, most or MOST * (ORDER - 1) // max(order - 1, ORDER - 1))
        self.order, self.tokens = order, len(tokens)
        self._rows = rows
        self._orders: list[_Order] = []
        place = np.arange(len(tokens))
        depth = place - np.maximum.accumulate(np.where(first, place, 0))  # tokens before it in its document
        context = np.zeros(len(tokens), np.int64)
        for length in range(1, order):
            known = depth >= length
            key = context[known] * rows + tokens[np.flatnonzero(known) - length]
            keys, index = np.unique(key, return_inverse=True)
            pairs, count = np.unique(index.astype(np.int64) * rows + tokens[known], return_counts=True)
            self._orders.append(_order(keys, pairs // rows, pairs % rows, count))
            context[known] = index
        frequency = np.bincount(tokens[depth > 0], minlength=rows)
        discount = _discount(frequency)
        kept = np.maximum(frequency - discount, 0) + discount * np.count_nonzero(frequency) / rows
        # a corpus without a single token that follows another says nothing
        self.unigram = torch.from_numpy(
            (kept / kept.sum() if kept.sum() else kept + 1 / rows).astype(np.float32)
        )

    def targets(self, contexts: Any) -> Targets:
        """What follows each context.

        Args:
            contexts: (positions, order - 1) int64, the nearest token last, `NONE` where there is none.
        """
        import torch

        positions = len(contexts)
        index = torch.zeros(positions, dtype=torch.long)
        alive = torch.ones(positions, dtype=torch.bool)
        found = []
        for length, order in enumerate(self._orders, 1):
            before = contexts[:, -length]
            key = index * self._rows + before
            index = torch.searchsorted(order.keys, key).clamp(max=max(0, len(order.keys) - 1))
            alive = alive & (before != NONE) & (order.keys[index] == key if len(order.keys) else False)
            found.append((order, index, torch.nonzero(alive)[:, 0]))
        rest = torch.ones(positions)
        parts = []
        for order, index, at in reversed(
            found
        ):  # the longest context first: it says what is left for the next
            mine = index[at]
            start, stop = order.start[mine], order.start[mine + 1]
            many = stop - start
            owner = torch.repeat_interleave(at, many)
            entry = torch.arange(len(owner)) + torch.repeat_interleave(start - many.cumsum(0) + many, many)
            parts.append((owner, order.token[entry], order.share[entry] * rest[owner]))
            rest[at] *= order.rest[mine]
        position, token, mass = (torch.cat(column) for column in zip(*parts))
        return Targets(position, token, mass, rest)

    def probability(self, contexts: Any, tokens: Any) -> Any:
        """(positions,) the probability of one token after each context."""
        found = self.targets(contexts)
        right = found.token == tokens[found.position]
        out = found.rest * self.unigram[tokens]
        return out.index_add(0, found.position[right], found.mass[right])

    def nats(self, rows: Sequence[Sequence[int]]) -> float:
        """-log p of all tokens of ``rows`` (ids, BOS first) after their first."""
        import torch

        rows = [row for row in rows if len(row) > 1]
        if not rows:
            return 0.0
        before = torch.cat([contexts(torch.tensor([row]), row[0], self.order) for row in rows])
        tokens = torch.tensor([token for row in rows for token in row[1:]])
        return float(-self.probability(before, tokens).double().log().sum())


@dataclass(frozen=True)
class Mixture:
    """Targets of a batch: each position's own next token, and in part what the counts say.

    Attributes:
        counts: of the corpus.
        contexts: (positions, order - 1), see `contexts`.
        share: (positions,) float32, how much of the target the counts are; 0 where they do not apply.
    """

    counts: Counts
    contexts: Any
    share: Any

    def only(self, keep: Any) -> Mixture:
        """The positions where ``keep`` (positions,) is true."""
        return Mixture(self.counts, self.contexts[keep], self.share[keep])

    def subtract(self, probabilities: Any, labels: Any, start: int) -> None:
        """Take the targets off a model's probabilities, in place: the gradient of cross entropy by logits.

        Args:
            probabilities: (few, rows) float32.
            labels: (few, 1) int64.
            start: the position of the first.
        """
        few, device = slice(start, start + len(probabilities)), probabilities.device
        found, share = self.counts.targets(self.contexts[few]), self.share[few]
        probabilities.scatter_add_(-1, labels, (share - 1).to(device)[:, None])
        # a matrix may be padded beyond the tokens, or lack rows for tokens that never occur (an added [PAD])
        unigram = self.counts.unigram[: probabilities.shape[1]].to(device)
        probabilities[:, : len(unigram)].addr_((found.rest * share).to(device), unigram, alpha=-1)
        flat = found.position * probabilities.shape[1] + found.token
        mass = found.mass * share[found.position]
        probabilities.view(-1).index_add_(0, flat.to(device), mass.to(device), alpha=-1)


def order_for(bytes_per_token: float) -> int:
    """How long n-grams shall be, by the size of a token in the text: 3 to 5 (see the module)."""
    return min(_LONGEST, max(ORDER, 1 + math.ceil(_REACH / bytes_per_token)))


def contexts(ids: Any, begin: int, order: int) -> Any:
    """The tokens that each prediction in a batch of blocks may look back to, within its own document.

    Args:
        ids: (batch, length) int64.
        begin: the id that each document begins with; nothing before it is seen.

    Returns:
        (batch * (length - 1), order - 1) int64, for predicting ``ids[:, 1:]``, the nearest token last.
    """
    import torch

    batch, length = ids.shape
    out = torch.full((batch, length - 1, order - 1), NONE, dtype=torch.long)
    open_ = torch.ones(batch, length - 1, dtype=torch.bool)
    for back in range(order - 1):
        before = torch.full((batch, length - 1), NONE, dtype=torch.long)
        before[:, back:] = ids[:, : max(0, length - 1 - back)]  # a row may be shorter than that
        out[:, :, order - 2 - back] = torch.where(open_, before, NONE)
        open_ &= before != begin
    return out.flatten(0, 1)


def _flat(documents: Iterable[Sequence[int]], most: int) -> tuple[np.ndarray, np.ndarray]:
    """All tokens one after another, and where documents begin."""
    parts: list[np.ndarray] = []
    total = 0
    for document in documents:
        parts.append(np.asarray(document[: most - total], np.int64))
        total += len(parts[-1])
        if total >= most:
            break
    parts = [part for part in parts if len(part)]
    first = np.zeros(total, bool)
    first[np.cumsum([0, *map(len, parts[:-1])])[: len(parts)]] = True
    return np.concatenate([np.zeros(0, np.int64), *parts]), first


def _discount(count: np.ndarray) -> float:
    """The estimate of the paper; bounded for corpora of a few lines, where it would be 0 or 1."""
    once, twice = int((count == 1).sum()), int((count == 2).sum())
    return min(0.95, max(0.5, once / max(1, once + 2 * twice)))


def _order(keys: np.ndarray, context: np.ndarray, token: np.ndarray, count: np.ndarray) -> _Order:
    import torch

    discount = _discount(count)
    total = np.bincount(context, count, minlength=len(keys))
    kinds = np.bincount(context, minlength=len(keys))
    start = np.concatenate([[0], np.cumsum(kinds)])
    share = (count - discount) / total[context]
    rest = discount * kinds / total
    columns = (keys, start, token, share.astype(np.float32), rest.astype(np.float32))
    first, second, third, fourth, fifth = map(torch.from_numpy, columns)
    return _Order(first, second, third, fourth, fifth)
