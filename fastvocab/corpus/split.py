"""Held out or not: decided by what a document says, and by nothing else.

A document's position is the first 64 bits of the sha256 of its cleaned text, as a number from 0 to 1. It is
held out where that is below the share. There is no seed. So at a given share neither more data nor another
order nor another layout of files moves a document across, on any machine; and a larger share only ever moves
documents out of the training split.

A corpus of a few hundred documents may have too few below the share to measure anything by. `widened` then
doubles the share until there are `ENOUGH`, or until it would pass `WIDEST`; further only while there are none
at all. This still depends on the texts alone, and as more data can only narrow it, documents move from
held-out to training, never one that was trained on into held-out. Who wants not even that names the share
(say ``heldout=0.2``) from the beginning. The one exception: a corpus whose every document would be held out,
which happens with one or two of them, is not split at all.
"""

from __future__ import annotations

import hashlib
import heapq
from dataclasses import dataclass, field

from fastvocab.errors import ConfigError

_ONE = 1 << 64

#: So many held-out documents are wanted.
ENOUGH = 8

#: But no larger share of a small corpus than this for having that many.
WIDEST = 1 / 3


def key(text: bytes) -> int:
    """The first 64 bits of the sha256 of a cleaned text in UTF-8."""
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big")


def held_out(text: str, share: float) -> bool:
    """Does the cleaned ``text`` belong to the held-out split of ``share`` (0 to 1) of the documents?"""
    return key_held_out(key(text.encode("utf-8")), share)


def key_held_out(document: int, share: float) -> bool:
    """`held_out` for a document whose `key` is known."""
    return document < share * _ONE


def check_share(share: float) -> None:
    """Refuse a share that is none.

    Raises:
        ConfigError: below 0 or above 0.5.
    """
    if not 0 <= share <= 0.5:
        raise ConfigError(
            f"heldout is {share}", rule="a share from 0 (nothing held out) to 0.5", fix="heldout=0.02"
        )


@dataclass
class Positions:
    """What must be known of all the documents for `widened`, in constant memory."""

    documents: int = 0
    lowest: list[int] = field(default_factory=list)  # a heap of negated keys: the `ENOUGH` smallest
    highest: int = 0

    def add(self, document: int) -> None:
        """Take note of one more document's key."""
        self.documents += 1
        self.highest = max(self.highest, document)
        (heapq.heappush if len(self.lowest) < ENOUGH else heapq.heappushpop)(self.lowest, -document)

    def widened(self, share: float) -> float:
        """The share used where ``share`` is asked for (see the module); 0 if nothing can be held out."""
        if not share or not self.documents:
            return share
        lowest = sorted(-document for document in self.lowest)
        while share * 2 <= WIDEST and not (len(lowest) == ENOUGH and key_held_out(lowest[-1], share)):
            share *= 2
        while not key_held_out(lowest[0], share):
            share = min(1.0, share * 2)
        return 0.0 if key_held_out(self.highest, share) else share
