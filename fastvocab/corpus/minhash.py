"""Near-duplicates: documents that share most of their pieces, found by MinHash in constant memory.

A document is the set of its pieces of `PIECE` characters, over its letters, marks and digits alone, case folded.
Two documents are as similar as these sets' Jaccard index, the share of all their pieces that both have. A
signature of `HASHES` minima (Broder 1997) estimates it, with a standard error of 0.035 at a similarity of 0.8. A
document is dropped if a document that was kept before it is so similar; so the first one in the order of the
sources stays, and a chain of small changes (A like B, B like C) loses only what is like something that stays.

Characters and not words, because words need another tokenizer for each language, and spaces are no border
everywhere. In texts of twenty messages of which one was replaced, five-word pieces between spaces give a median
similarity of 0.86 in Hebrew and 0.81 in Georgian, but 0.73 in Thai, Khmer and Chinese; five characters give 0.87
to 0.92 in all twelve languages tried. Unrelated texts are up to 0.15 with five characters, 0.31 with three. Of 204
essays of ua-gec that two people corrected, the median is 0.81 with five characters, 0.54 with five words.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import regex

from fastvocab.corpus.seen import table_full, temporary_table
from fastvocab.errors import ConfigError, DependencyError

Signature = bytes  #: `HASHES` minima of 16 bits, little-endian

#: Characters of a piece.
PIECE = 5

#: Minima of a signature. 256 would take a quarter of the error off again, for twice the time.
HASHES = 128

#: Bytes of one minimum that are kept (b-bit minwise hashing, Li and Koenig 2010): two that differ agree in 16 bits
#: once in 65,536 times, and a document takes 256 bytes instead of 1,024.
_KEPT = "<u2"
_BYTES = 2 * HASHES

#: Two documents as similar as the threshold are compared at all with at least this probability.
_FOUND = 0.99

#: Documents that a band's value is remembered of. More share one only where thousands of pages are made from
#: one template and yet differ by more than the threshold; without a limit their number squared would be compared.
_CROWD = 100

#: Pieces hashed at once. datatrove's matrix of them by `HASHES` took 1.4 ms for 2,276 pieces in fifths of them
#: and 3.9 ms whole, and a document of a million characters would be a gigabyte.
_CHUNK = 512

_BETWEEN = regex.compile(r"[^\p{L}\p{M}\p{N}]+")


def check_threshold(threshold: float | None) -> None:
    """Refuse what is no threshold, and one that needs what is not installed.

    Raises:
        ConfigError: below 0.5 or above 1.
        DependencyError: datatrove is not installed.
    """
    if threshold is None:
        return
    if not 0.5 <= threshold <= 1:
        raise ConfigError(
            f"near_duplicates is {threshold}",
            rule="a similarity from 0.5 (half of all pieces are common) to 1",
            fix="near_duplicates=0.8",
        )
    require_extra("corpus.near_duplicates")


def require_extra(setting: str) -> None:
    """Raise the `DependencyError` of ``setting`` unless the extra ``scale`` is installed."""
    if missing := [name for name in ("datatrove", "xxhash") if find_spec(name) is None]:
        raise DependencyError(
            f"{setting} needs {' and '.join(missing)}, which is not installed",
            fix="pip install 'fastvocab[scale]'",
        )


def pieces(text: str) -> Iterator[bytes]:
    """The pieces of a text, with repetitions, each in UTF-32; a text that is shorter than one is one piece."""
    plain = _BETWEEN.sub("", text.casefold()).encode("utf-32-le")
    return (plain[i : i + 4 * PIECE] for i in range(0, max(1, len(plain) - 4 * PIECE + 1), 4))


class Signer:
    """Makes signatures, with datatrove's MinHash (the extra ``scale``)."""

    def __init__(self) -> None:
        import xxhash
        from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature
        from datatrove.utils.word_tokenizers import WordTokenizer

        class Unused(WordTokenizer):  # any of its own is one more package; pieces are made above
            word_tokenize = sent_tokenize = span_tokenize = NotImplemented

        config = MinhashConfig(num_buckets=1, hashes_per_bucket=HASHES)
        self._minima = MinhashDedupSignature(".", config, language=Unused()).get_signature
        self._hash = xxhash.xxh3_64_intdigest

    def __call__(self, text: str) -> bytes:
        """The signature of a cleaned text, the same on every machine."""
        import numpy as np

        hashed = np.fromiter(map(self._hash, pieces(text)), np.uint64).reshape(-1, 1)
        minima = [self._minima(hashed[at : at + _CHUNK])[0] for at in range(0, len(hashed), _CHUNK)]
        return np.asarray(minima, np.uint64).min(axis=0).astype(_KEPT).tobytes()


def rows_of_a_band(threshold: float) -> int:
    """How many hashes two documents must have in common, side by side, to be compared.

    The most (fewest false alarms) by which those as similar as ``threshold`` are found with `_FOUND`.
    """
    return max(
        (r for r in range(1, HASHES + 1) if 1 - (1 - threshold**r) ** (HASHES // r) >= _FOUND), default=1
    )


class Near:
    """The signatures of what was kept, in a temporary SQLite table: 64 MB of memory however many there are.

    On disk a document takes 0.65 kB at a threshold of 0.8, 1 kB at 0.5.

    Args:
        threshold: similarity from which a document counts as a near-duplicate, 0.5 to 1.
    """

    def __init__(self, threshold: float) -> None:
        self._least = threshold * HASHES - 1e-9
        width = rows_of_a_band(threshold) * 2
        self._bands = list(pairwise(range(0, _BYTES + 1, width)))
        self._count = 0
        self._table: sqlite3.Connection | None = None

    def add(self, signature: bytes) -> bool:
        """Add a document; False, and nothing is added, if one that was added before is too similar.

        Raises:
            ResourceError: the disk of temporary files is full.
        """
        try:
            return self._add(signature)
        except sqlite3.OperationalError as error:
            raise table_full(error, "1 kB") from error

    def _add(self, signature: bytes) -> bool:
        table = self._table = self._table or _opened()
        open_bands, shared = list[int](), Counter[int]()
        for key in self._keys(signature):
            found = table.execute(
                "SELECT document FROM band WHERE key = ? ORDER BY document LIMIT ?", (key, _CROWD)
            ).fetchall()
            shared.update(document for (document,) in found)
            if len(found) < _CROWD:
                open_bands.append(key)
        for document, _ in shared.most_common():  # most in common first
            (other,) = table.execute(
                "SELECT hashes FROM signature WHERE document = ?", (document,)
            ).fetchone()
            if equal(signature, other) >= self._least:
                return False
        self._count += 1
        table.execute("INSERT INTO signature VALUES (?, ?)", (self._count, signature))
        table.executemany("INSERT INTO band VALUES (?, ?)", ((key, self._count) for key in open_bands))
        return True

    def _keys(self, signature: bytes) -> list[int]:
        import xxhash

        # SQLite's integers are signed; the band's number is the seed, so that bands do not meet
        return [
            xxhash.xxh3_64_intdigest(signature[start:end], seed=number) - (1 << 63)
            for number, (start, end) in enumerate(self._bands)
        ]


def equal(one: bytes, other: bytes) -> int:
    """How many of `HASHES` minima two signatures have in common; their share estimates the similarity."""
    import numpy as np

    def numbers(signature: bytes) -> Any:
        return np.frombuffer(signature, _KEPT)

    return int(np.count_nonzero(numbers(one) == numbers(other)))


def _opened() -> sqlite3.Connection:
    return temporary_table(
        "CREATE TABLE band (key INTEGER, document INTEGER, PRIMARY KEY (key, document)) WITHOUT ROWID",
        "CREATE TABLE signature (document INTEGER PRIMARY KEY, hashes BLOB)",
    )
