"""Which token can come next in an item: a prefix trie in arrays, and views of it with some items left out.

Every item of a catalogue is a row of as many tokens, all rows different. The distinct prefixes of one length, in
lexicographic order, are the nodes of a level; a node's children lie side by side in the next level, so that a level
is two arrays of 32-bit integers: the last token of each node, and where each node's children begin.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastvocab.errors import DataError

Ids = npt.NDArray[np.int32]


class DeadPrefix(AssertionError):
    """No item begins with these tokens: whoever asked has left the trie, which is a bug of theirs.

    An empty answer instead would end a constrained search in nothing, or in any token at all.
    """

    def __init__(self, prefix: Sequence[int], said: str = "no item begins with the tokens") -> None:
        self.prefix = tuple(int(token) for token in prefix)
        super().__init__(f"{said} {self.prefix}")


class Trie:
    """The prefixes of all items, made by `Trie.build`.

    A million items of four tokens take 20 MB and are built in 0.3 to 0.7 s, 70 MB at the peak; dictionaries in each
    other take ten times as long and twenty times as much (``scripts/bench_trie.py``).
    """

    def __init__(self, tokens: list[Ids], starts: list[Ids], rows: Ids) -> None:
        self._tokens, self._starts, self._rows = tokens, starts, rows
        for array in (*tokens, *starts, rows):
            array.flags.writeable = False  # children() gives out views
        self._places = np.empty_like(rows)
        self._places[rows] = np.arange(len(rows), dtype=np.int32)
        # bisect reads a memoryview in half the time of an array, whose elements are objects of NumPy
        self._levels = [(own.data, first.data) for own, first in zip(tokens, starts)]

    @classmethod
    def build(cls, codes: npt.NDArray[Any]) -> Trie:
        """The trie of a catalogue.

        Args:
            codes: (items, tokens of an item) token ids.

        Raises:
            DataError: no items, two items with the same tokens, or numbers that are no token ids.
        """
        ids = _checked(codes)
        items, depth = ids.shape
        order = np.lexsort(ids.T[::-1])
        differs = np.zeros(items, bool)  # from the item before, in one of the tokens so far
        differs[0] = True
        tokens, starts = [], []
        above = np.zeros(1, np.int64)  # first item of each node, a level up
        for level in range(depth):
            column = ids[order, level]
            differs[1:] |= column[1:] != column[:-1]
            first = np.flatnonzero(differs)
            tokens.append(column[first])
            starts.append(np.searchsorted(first, np.append(above, items)).astype(np.int32))
            above = first
        if len(above) < items:
            _refuse_twins(ids, order, differs)
        return cls(tokens, starts, order.astype(np.int32))

    @property
    def depth(self) -> int:
        """Tokens of an item."""
        return len(self._tokens)

    def __len__(self) -> int:
        return len(self._rows)

    def children(self, prefix: Sequence[int]) -> Ids:
        """Tokens that can follow.

        Args:
            prefix: the first tokens of an item, none to all but one.

        Returns:
            (at least one,) ids in ascending order, not to be written to.

        Raises:
            DeadPrefix: no item begins so, or nothing follows because the item is whole.
        """
        _, start, end = self._span(prefix)
        return self._tokens[len(prefix)][start:end]

    def item(self, codes: Sequence[int]) -> int:
        """The row of the item with exactly these tokens.

        Raises:
            DeadPrefix: there is none.
        """
        if len(codes) != self.depth:
            raise DeadPrefix(codes, f"an item is {self.depth} tokens, not the {len(codes)} of")
        return int(self._rows[self._node(codes)])

    def barring(self, rows: Iterable[int]) -> BarredTrie:
        """A view in which these items do not exist, such as those a user has had; the trie itself stays.

        Args:
            rows: rows of the codes that the trie was built of; some may come twice.

        Raises:
            DataError: no item is left.
            IndexError: there is no such row.
        """
        return BarredTrie(self, rows)

    def _node(self, prefix: Sequence[int]) -> int:
        """Position of a prefix within its level."""
        node = 0
        for token, (tokens, starts) in zip(prefix, self._levels):
            end = starts[node + 1]
            node = bisect_left(tokens, token, starts[node], end)
            if node == end or tokens[node] != token:
                raise DeadPrefix(prefix)
        return node

    def _span(self, prefix: Sequence[int]) -> tuple[int, int, int]:
        """(position of a prefix, where its children begin, where they end)."""
        if len(prefix) >= len(self._levels):
            raise DeadPrefix(prefix, f"nothing follows the {self.depth} tokens of an item, as in")
        node, starts = self._node(prefix), self._levels[len(prefix)][1]
        return node, starts[node], starts[node + 1]


class BarredTrie:
    """A trie without some of its items; made by `Trie.barring`.

    It holds the nodes that are gone, by the node above them, and the trie: 100 items out of a million are barred in
    0.1 ms.
    """

    def __init__(self, trie: Trie, rows: Iterable[int]) -> None:
        self._trie = trie
        barred = np.unique(np.fromiter(rows, np.int64))
        if len(barred) and not 0 <= barred[0] <= barred[-1] < len(trie):
            raise IndexError(f"rows {barred[0]} to {barred[-1]} are barred, of items 0 to {len(trie) - 1}")
        self._barred = frozenset(barred.tolist())
        if len(self._barred) == len(trie):
            raise DataError(
                f"all {len(trie)} items are barred",
                rule="something must be left to recommend",
                fix="bar fewer items, or leave out who has had all of them",
            )
        self._gone: list[dict[int, list[int]]] = [{} for _ in range(trie.depth)]
        gone = np.sort(trie._places[barred]).tolist()
        for level in reversed(range(trie.depth)):
            starts, below = trie._levels[level][1], self._gone[level]
            # of the same type, or NumPy casts a million starts to look up a hundred
            nodes = np.array(gone, np.int32)
            above = np.searchsorted(trie._starts[level], nodes, side="right") - 1
            for parent, child in zip(above.tolist(), gone):
                below.setdefault(parent, []).append(child)
            gone = [node for node, lost in below.items() if len(lost) == starts[node + 1] - starts[node]]
            if not gone:
                break

    @property
    def depth(self) -> int:
        """Tokens of an item."""
        return self._trie.depth

    def __len__(self) -> int:
        return len(self._trie) - len(self._barred)

    def children(self, prefix: Sequence[int]) -> Ids:
        """As `Trie.children`, of the items that are left."""
        node, start, end = self._trie._span(prefix)
        tokens = self._trie._tokens[len(prefix)][start:end]
        gone = self._gone[len(prefix)].get(node)
        if gone is None:
            return tokens
        if len(gone) == end - start:
            raise DeadPrefix(prefix, "only barred items begin with the tokens")
        left = np.ones(end - start, bool)
        left[[child - start for child in gone]] = False
        return tokens[left]

    def item(self, codes: Sequence[int]) -> int:
        """As `Trie.item`, of the items that are left."""
        row = self._trie.item(codes)
        if row in self._barred:
            raise DeadPrefix(codes, f"item {row} is barred, with the tokens")
        return row


def _checked(codes: npt.NDArray[Any]) -> Ids:
    """Codes as 32-bit integers."""
    if codes.ndim != 2 or not np.issubdtype(codes.dtype, np.integer):
        raise DataError(
            f"codes of shape {codes.shape} and type {codes.dtype}",
            rule="codes are a table of integers, (items, tokens of an item)",
            fix="give each item a row of as many token ids",
        )
    if not codes.size:
        raise DataError(
            f"codes of shape {codes.shape}: an empty trie",
            rule="a catalogue has at least one item, and an item at least one token",
            fix="look at what the catalogue was read from",
        )
    low, high = int(codes.min()), int(codes.max())
    if low < 0 or high > np.iinfo(np.int32).max:
        row = int(np.flatnonzero(((codes < 0) | (codes > np.iinfo(np.int32).max)).any(axis=1))[0])
        raise DataError(
            f"item {row} has the tokens {tuple(codes[row].tolist())}",
            rule="a token id is 0 to 2,147,483,647",
            fix="give the ids that the tokenizer has for the item's tokens",
        )
    return codes.astype(np.int32)


def _refuse_twins(ids: Ids, order: npt.NDArray[np.int64], differs: npt.NDArray[np.bool_]) -> None:
    """Name the first two rows that are equal; equal ones lie side by side, in the order of rows."""
    second = order[~differs]
    at = int(np.flatnonzero(~differs)[second.argmin()])
    raise DataError(
        f"{len(second)} of {len(ids)} items have the tokens of an item before them: "
        f"rows {order[at - 1]} and {order[at]}, both {tuple(ids[order[at]].tolist())}",
        rule="no two items have the same tokens",
        fix="tell them apart by one more token, counted from 0 within the items that agree in the others",
    )
