"""Writing the splits of the corpus stage, and drawing its progress."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

from fastvocab import console
from fastvocab.corpus import split
from fastvocab.corpus.sources import Source

# surrogates are written as \udXXX, which is how JSON spells them; only samples of dropped text have any
WRITING: dict[str, Any] = {
    "encoding": "utf-8",
    "errors": "backslashreplace",
    "newline": "\n",
    "buffering": 1 << 20,
}


#: Dropped documents of each reason that are kept for looking at, and how much of each, in characters.
DROPPED_KEPT, DROPPED_LENGTH = 50, 200

# json.dumps makes a new encoder at each call
encode = json.JSONEncoder(ensure_ascii=False).encode


class Meter:
    """Draws the progress of reading, in MB on disk."""

    def __init__(self, bars: Any) -> None:
        self.bytes = 0
        self.documents = 0
        self._bars, self._task, self._drawn, self._first, self._began = bars, None, 0, 0, 0.0

    def start(self, what: str, found: list[Source]) -> None:
        """Begin a bar for what is read from ``found``; none if that is nothing."""
        sizes = [source.bytes for source in found]
        total = None if None in sizes else sum(size or 0 for size in sizes) / 1e6
        self._task = self._bars.add_task(what, total=total, note="", visible=bool(found))
        self._drawn, self._began, self.documents, self._first = self.bytes, time.monotonic(), 0, self.bytes

    def __call__(self, count: int) -> None:
        self.bytes += count
        if self.bytes - self._drawn >= 1 << 20:
            rate = (self.bytes - self._first) / 1e6 / max(time.monotonic() - self._began, 1e-3)
            note = f"{rate:.1f} MB/s, {self.documents:,} documents"
            self._bars.update(self._task, advance=(self.bytes - self._drawn) / 1e6, note=note)
            self._drawn = self.bytes


class Part:
    """The two files of one part of the corpus, training and held-out."""

    def __init__(self, folder: Path, name: str, heldout_name: str, share: float) -> None:
        self.share = share
        self.name = name
        self._names = (name, heldout_name)
        self._paths = (folder / f"{name}.jsonl", folder / f"{heldout_name}.jsonl")
        self._files = [path.open("w", **WRITING) for path in self._paths]
        self._positions = split.Positions()
        self._tallies: list[Counter[str]] = [Counter(), Counter()]

    def add(self, text: str, key: int, size: int) -> None:
        """Write one document, of ``size`` bytes in UTF-8, where its key belongs."""
        self._positions.add(key)
        self._put(text, key, size)

    def _put(self, text: str, key: int, size: int) -> None:
        which = int(split.key_held_out(key, self.share))
        self._files[which].write(encode({"text": text}) + "\n")
        tally = self._tallies[which]
        tally["documents"] += 1
        tally["characters"] += len(text)
        tally["bytes"] += size

    def finish(self) -> None:
        """Close the files; where too few documents were held out, split once more at a larger share."""
        self.close()
        asked, self.share = self.share, self._positions.widened(self.share)
        if self.share == asked or not self._positions.documents:
            return
        kept = [path.with_suffix(".first") for path in self._paths]
        for path, first in zip(self._paths, kept):
            path.rename(first)
        self._files = [path.open("w", **WRITING) for path in self._paths]
        self._tallies = [Counter(), Counter()]
        for first in kept:
            with first.open(encoding="utf-8") as lines:
                for line in lines:
                    text = json.loads(line)["text"]
                    data = text.encode("utf-8")
                    self._put(text, split.key(data), len(data))
            first.unlink()
        self.close()
        self._tell(asked)

    def _tell(self, asked: float) -> None:
        count, name = self._positions.documents, self.name
        if not self.share:
            console.warn(
                f"{name}: too few documents ({count}) to hold any out: nothing to measure unseen text by;"
                " corpus.unit=line or blank_line makes more of them"
            )
            return
        console.warn(
            f"{name}: {asked:.1%} of {count:,} documents measure too little, {self.share:.1%} are held out"
            + (f"; heldout={self.share:.3g} keeps it so when the corpus grows" if name == "train" else "")
        )

    def close(self) -> None:
        """Close both files."""
        for file in self._files:
            file.close()

    def figures(self) -> dict[str, dict[str, int]]:
        """Documents, characters and bytes of each of the two files."""
        units = ("documents", "characters", "bytes")
        return {
            name: {unit: tally[unit] for unit in units} for name, tally in zip(self._names, self._tallies)
        }
