"""Bits per byte, matched by bytes: the one number that compares models with different tokenizers.

Held-out text is cut into pieces by bytes, never by tokens; each is scored after a BOS, and the nats of all its
tokens are summed and divided by ln 2 and by its bytes. A loss or perplexity per token says nothing across
tokenizers.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from fastvocab.errors import DataError
from fastvocab.evaluate import intervals
from fastvocab.model import text
from fastvocab.model.nats import nats as log_losses
from fastvocab.tokenizer.measure import WORD
from fastvocab.unicode import UNSPACED, dominant_scripts, letter_scripts

#: Text that pieces are drawn from, as a multiple of what is scored: reading on would cost more than it tells.
_POOL = 20
#: Documents that it should at least come from: a longer one counts as this share of what is scored.
_LEAST = 20


class Pieces(NamedTuple):
    """Text to score, in pieces, and which document each is from."""

    texts: list[str]
    documents: list[int]

    @property
    def bytes(self) -> int:
        """Their size in UTF-8."""
        return sum(len(piece.encode("utf-8")) for piece in self.texts)


@dataclass(frozen=True)
class Score:
    """What a model makes of some pieces.

    Attributes:
        figures: for the record (`score`).
        nats: -log p of each document's pieces, (documents,).
    """

    figures: dict[str, Any]
    nats: list[float]


def choose(documents: Iterable[str], *, size: int, limit: int, seed: int) -> Pieces:
    """Pieces of at most ``size`` bytes from as many documents as there are, ``limit`` bytes together.

    One of each document, drawn from all of it, then a second of each, and so on: what is known of a language is known
    by the number of its documents. Of essays, in pieces of 1 kB, 16 kB from the beginning are six documents, drawn
    piece by piece 11, this way 20; of eight chapters of a manual, one of them of 39 kB, 6 kB are one, this way eight.
    """
    draw = random.Random(seed)
    found: list[list[str]] = []
    read = pool = 0
    for document in documents:
        parts = list(text.cut(document, size))
        read += len(document)
        pool += min(len(document), max(size, limit // _LEAST))
        found.append(parts)
        if pool >= _POOL * limit or read >= _LEAST * _POOL * limit:
            break
    # (turn, random, document, place): the turn at which a document's piece is taken
    order = []
    for number, parts in enumerate(found):
        places = draw.sample(range(len(parts)), len(parts))
        order += [(turn, draw.random(), number, place) for turn, place in enumerate(places)]
    total, drawn = 0, []
    for _, _, number, place in sorted(order):
        if total >= limit:
            break
        drawn.append((number, place))
        total += len(found[number][place].encode("utf-8"))
    drawn.sort()
    owners = {number: i for i, number in enumerate(dict.fromkeys(number for number, _ in drawn))}
    return Pieces([found[number][place] for number, place in drawn], [owners[number] for number, _ in drawn])


def score(model: Any, tok: Any, pieces: Pieces, *, new_ids: range = range(0), seed: int = 0) -> Score:
    """Score ``pieces`` with a causal LM.

    Matrix products run in bfloat16 on CPUs that have it, as in training; sums are float64.

    Args:
        new_ids: the tokens that were added, whose use is counted.
        seed: of the interval.

    Returns:
        A `Score` with the figures ``bits_per_byte``, ``interval`` (95%, over documents), ``documents``,
        ``too_few_documents`` (for the interval to mean anything), ``bytes``, ``tokens`` (without BOS: the decode
        steps that the text would take), ``tokens_per_word`` (None in scripts without spaces),
        ``tokens_per_character``, ``bytes_per_token``, ``pieces``, and with ``new_ids`` also ``new_tokens``:
        ``count``, ``used`` (how many of them occur), ``used_share``, ``share_of_tokens``.

    Raises:
        DataError: if there is no text.
    """
    size = pieces.bytes
    if not size:
        raise DataError(
            "there is no held-out text to measure on", fix="give more text, or a larger corpus.heldout"
        )
    start = text.bos_id(tok)
    rows = [[start, *ids] for ids in text.encode(tok, pieces.texts)]
    count = max(pieces.documents) + 1
    nats, sizes = [0.0] * count, [0] * count
    for document, piece, found in zip(pieces.documents, pieces.texts, log_losses(model, rows)):
        nats[document] += found
        sizes[document] += len(piece.encode("utf-8"))
    tokens = sum(len(row) - 1 for row in rows)
    low, high = intervals.ratio(nats, sizes, seed=seed)
    spaced = not dominant_scripts(sum((letter_scripts(p) for p in pieces.texts), Counter())) & UNSPACED
    words = sum(len(WORD.findall(piece)) for piece in pieces.texts)
    figures: dict[str, Any] = {
        "bits_per_byte": sum(nats) / math.log(2) / size,
        "interval": [low / math.log(2), high / math.log(2)],
        "documents": count,
        "too_few_documents": not intervals.is_meaningful(count),
        "bytes": size,
        "tokens": tokens,
        "tokens_per_word": tokens / max(1, words) if spaced else None,
        "tokens_per_character": tokens / sum(map(len, pieces.texts)),
        "bytes_per_token": size / max(1, tokens),
        "pieces": len(pieces.texts),
    }
    if new_ids:
        used = Counter(i for row in rows for i in row[1:] if i in new_ids)
        figures["new_tokens"] = {
            "count": len(new_ids),
            "used": len(used),
            "used_share": len(used) / len(new_ids),
            "share_of_tokens": used.total() / max(1, tokens),
        }
    return Score(figures, nats)
