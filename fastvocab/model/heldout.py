"""Held-out text in two parts: what training may look at on its way, and what the final figures come from.

Whoever stops training, or chooses among its saves, by some text has fitted to it, if only a little. The final
figures on the same text would be too good.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from fastvocab.model import text

#: The part that training looks at: at most so many bytes, at most so large a share of the split.
MOST_BYTES, SHARE = 48_000, 0.25
#: Of a piece that evaluations during training read, at most, and so of its tokens, before its BOS.
PIECE_BYTES = 1024


def first_watched(path: Path) -> int:
    """Number of the first document (from 0) that evaluations during training read; final ones read those before.

    They are the last documents, `MOST_BYTES` or a `SHARE` of the split, in bytes and in documents, whichever is less,
    but at least one where there are four. With fewer documents there are none: the number is that of all documents.
    """
    sizes = [len(document.encode("utf-8")) for document in text.documents(path)]
    if len(sizes) < 4:
        return len(sizes)
    room, first = min(MOST_BYTES, SHARE * sum(sizes)), len(sizes) - 1
    room -= sizes[first]
    # by bytes alone, small documents after a large one would all be here, and leave the end but one
    while len(sizes) - first < int(SHARE * len(sizes)) and sizes[first - 1] <= room:
        first -= 1
        room -= sizes[first]
    return first


def watched(path: Path, *, limit: int, size: int = PIECE_BYTES) -> tuple[list[str], bool]:
    """Pieces of at most ``size`` bytes, together at most ``limit``, for evaluations during training.

    Returns:
        (pieces, apart): False where the split is too small, and they come from what the final figures are from.
    """
    if not path.is_file():
        return [], True
    first = first_watched(path)
    count = sum(1 for _ in text.documents(path))
    apart = first < count
    documents = islice(text.documents(path), first if apart else 0, None)
    return text.byte_pieces(documents, size=size, limit=limit), apart
