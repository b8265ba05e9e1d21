"""A bounded sample of text of any length."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterable, Iterator

#: Characters. Documents are drawn in chunks: one that is a whole book must not be the sample.
_CHUNK = 1 << 16


def sample(documents: Iterable[str], max_bytes: int, seed: int) -> tuple[list[str], int, int]:
    """At most ``max_bytes`` (UTF-8) of the documents, drawn evenly in one pass.

    Each document draws a random key and the smallest keys stay, so memory is bounded by ``max_bytes``
    whatever the size of the corpus. Documents are drawn in chunks of 64 k characters, cut at a space.

    Returns:
        the sample in the order of the corpus; how many documents there were, and how many bytes.
    """
    draw = random.Random(seed)
    heap: list[tuple[float, int, str, int]] = []
    kept = total = count = order = 0
    for document in documents:
        count += 1
        for chunk in _chunks(document):
            order += 1
            size = len(chunk.encode("utf-8", "replace"))
            total += size
            kept += size
            heapq.heappush(heap, (-draw.random(), order, chunk, size))
            while kept > max_bytes and len(heap) > 1:
                kept -= heapq.heappop(heap)[3]
    return [chunk for _, _, chunk, _ in sorted(heap, key=lambda item: item[1])], count, total


def _chunks(document: str) -> Iterator[str]:
    while len(document) > _CHUNK:
        cut = document.rfind(" ", _CHUNK // 2, _CHUNK)
        cut = cut if cut > 0 else _CHUNK
        yield document[:cut]
        document = document[cut:]
    yield document
