"""Exact duplicates among any number of documents, in constant memory."""

from __future__ import annotations

import sqlite3

from fastvocab.errors import ResourceError

#: Keys held in a Python set before they move to a temporary SQLite table. Measured on 2 cores: the set takes
#: 80 bytes and 0.5 us a key (160 MB here), the table 5 us a key at 2 million and 7 us at 8 million, with 70
#: MB of cache whatever its size. A table from the start would cost small corpora ten times the time for
#: nothing.
IN_MEMORY = 2_000_000

_CACHE_KB = 64_000


class Seen:
    """A set of 64-bit keys that spills to disk.

    Two different documents share a key with a chance of n * n / 2**65: 1 in 3,700 for a hundred million
    documents, and then one of them is lost.

    Args:
        in_memory: number of keys up to which no file is used.
    """

    def __init__(self, in_memory: int = IN_MEMORY) -> None:
        self._limit = in_memory
        self._keys: set[int] = set()
        self._table: sqlite3.Connection | None = None

    def add(self, key: int) -> bool:
        """Add a key of 0 to 2**64 - 1; False if it was there already.

        Raises:
            ResourceError: the disk of temporary files is full.
        """
        if self._table is None:
            if key in self._keys:
                return False
            self._keys.add(key)
            if len(self._keys) > self._limit:
                self._spill()
            return True
        try:
            # SQLite's integers are signed
            cursor = self._table.execute("INSERT OR IGNORE INTO seen VALUES (?)", (key - (1 << 63),))
        except sqlite3.OperationalError as error:
            raise table_full(error) from error
        return cursor.rowcount == 1

    def _spill(self) -> None:
        try:
            table = temporary_table("CREATE TABLE seen (key INTEGER PRIMARY KEY)")
            table.executemany(
                "INSERT INTO seen VALUES (?)", ((key - (1 << 63),) for key in sorted(self._keys))
            )
        except sqlite3.OperationalError as error:
            raise table_full(error) from error
        self._keys.clear()
        self._table = table


def temporary_table(*made: str) -> sqlite3.Connection:
    """A database in a temporary file, with the tables that ``made`` creates, and one transaction begun.

    "" is a file that SQLite removes by itself, also after a crash; nothing in it need survive one.
    """
    table = sqlite3.connect("", isolation_level=None)
    table.execute("PRAGMA journal_mode = OFF")
    table.execute("PRAGMA synchronous = OFF")
    table.execute(f"PRAGMA cache_size = -{_CACHE_KB}")
    for statement in made:
        table.execute(statement)
    table.execute("BEGIN")
    return table


def table_full(error: sqlite3.OperationalError, size: str = "16 bytes") -> ResourceError:
    """The user's error behind one of a temporary table that takes ``size`` for each document."""
    return ResourceError(
        f"the table for finding duplicates cannot be written: {error}",
        fix=f"free some space, or set SQLITE_TMPDIR to a folder on a larger disk ({size} a document)",
    )
