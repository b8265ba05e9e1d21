"""Grow a merge list: give each wanted piece a path of merges that really fires.

A piece is encoded with everything that exists so far; if it comes out as two tokens, their merge is appended
and it is one. In BPE nothing else can happen inside a piece than what happens when it stands alone, as long
as no merge crosses its edges, and later merges come later: so the piece stays reachable. Pieces that come
out as more than two tokens first get intermediates, which are tokens too. Measured on Ukrainian with
SmolLM2 (8,000 new tokens, tokens per word): pieces that need no intermediate alone 1.85, at most one 1.71,
two or any number 1.68; so they are not limited. A fresh SentencePiece model of 8,000 pieces gives 1.66.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise

from fastvocab.tokenizer.bpe import encode

#: Why a candidate was passed over; keys of `Grown.rejected`.
EXISTS = "already in the base"
CUT = "cut by the pre-tokenizer"
OUTSIDE = "could fire outside the target script"
COSTLY = "needs more intermediates than there is room for"
NORMALISED = "changed by the normaliser"
FORMS = "the two forms of the base would disagree"


@dataclass
class Grown:
    """New tokens and merges, in the order in which they are appended.

    Attributes:
        tokens: new spellings in id order.
        merges: pairs in order of priority; a single character of a SentencePiece base needs none.
        intermediates: new tokens that no piece asked for.
        rejected: how many candidates were passed over, by reason.
    """

    tokens: list[str] = field(default_factory=list)
    merges: list[tuple[str, str]] = field(default_factory=list)
    intermediates: set[str] = field(default_factory=set)
    rejected: Counter[str] = field(default_factory=Counter)


class Grower:
    """Appends merges to a base, piece by piece.

    Args:
        vocab: spellings that exist (model vocabulary and added tokens).
        rank_of: the priority of merging two neighbours in the current state.
        learn: appends a merge, after all others.
        forget: takes the last appended merge back.
        allows: whether a token with this spelling may be the result of a merge.
        whole: whether a spelling is whole characters.
        limit: how many new tokens there may be.
    """

    def __init__(
        self,
        *,
        vocab: Iterable[str],
        rank_of: Callable[[str, str], float | None],
        learn: Callable[[str, str], None],
        forget: Callable[[str, str], None],
        allows: Callable[[str], bool],
        limit: int,
        whole: Callable[[str], bool] = lambda spelling: True,
    ) -> None:
        self._have = set(vocab)
        self._rank_of, self._learn, self._forget, self._allows = rank_of, learn, forget, allows
        self._limit = limit
        self._whole = whole
        self.grown = Grown()

    @property
    def room(self) -> int:
        """How many tokens may still be added."""
        return self._limit - len(self.grown.tokens)

    def has(self, spelling: str) -> bool:
        """True if this spelling is a token already."""
        return spelling in self._have

    def add_symbol(self, spelling: str) -> None:
        """Add a token that is a symbol by itself and needs no merge."""
        self._have.add(spelling)
        self.grown.tokens.append(spelling)

    def add(self, spelling: str, wanted: dict[str, int]) -> str | None:
        """Make ``spelling`` one token; return the reason if it is passed over.

        Args:
            spelling: the piece, one character for each symbol.
            wanted: pieces that are candidates themselves, with their place in the order.
        """
        merges: list[tuple[str, str]] = []
        reason: str | None = None
        while True:
            parts = encode(spelling, self._rank_of)
            if len(parts) == 1:
                break
            pair = self._choose(parts, wanted)
            if pair is None:
                reason = OUTSIDE
                break
            merges.append(pair)
            self._learn(*pair)
        new = [a + b for a, b in merges if a + b not in self._have]
        extra = [token for token in new if token != spelling and token not in wanted]
        if reason is None and len(new) > self.room:
            reason = COSTLY
        if reason is not None:
            for pair in reversed(merges):
                self._forget(*pair)
            return reason
        self._have.update(new)
        self.grown.tokens += new
        self.grown.merges += merges
        self.grown.intermediates.update(extra)
        return None

    def _choose(self, parts: list[str], wanted: dict[str, int]) -> tuple[str, str] | None:
        """The neighbours to merge: into a token that exists, else a wanted one, else any that is allowed,
        whole characters before fragments of them."""
        best: tuple[tuple[int, int], tuple[str, str]] | None = None
        for index, (a, b) in enumerate(pairwise(parts)):
            joined = a + b
            if not self._allows(joined):
                continue
            if len(parts) > 2 and joined in self._have:
                key = (0, index)
            elif joined in wanted:
                key = (1, wanted[joined])
            else:
                key = (2 if self._whole(joined) else 3, index)
            if best is None or key < best[0]:
                best = (key, (a, b))
        return best[1] if best else None
