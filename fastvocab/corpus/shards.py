"""The corpus stage's work on single documents, dealt out by source: what tasks make, and the stage takes up again.

A shard is one source, read and judged by itself (`clean.Cleaner.judge`). What needs all documents, their order,
exact and near-duplicates and the split, is done afterwards by the one process that has the stage, shard by shard in
the order of the sources, with the code that the built-in reader uses: so both make the same files.

A shard's file carries in its name a digest of all that decides what is in it, and is renamed to it when it is
whole. A task passes over those that are there, so a broken run goes on, also with other tasks or elsewhere.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastvocab import errors
from fastvocab.corpus.clean import Cleaner, Judged
from fastvocab.corpus.items import Display, Document
from fastvocab.corpus.packages import package_info
from fastvocab.corpus.read import Unit, source_documents
from fastvocab.corpus.sources import Source
from fastvocab.corpus.write import DROPPED_KEPT, DROPPED_LENGTH, WRITING, encode
from fastvocab.run import code_version


@dataclass(frozen=True)
class Reading:
    """How a corpus is read and cleaned: the settings of `stage.build` of the same names."""

    text_key: str = "text"
    unit: Unit = "auto"
    min_chars: int = 10
    min_script_share: float = 0.5
    near_duplicates: float | None = None

    def documents(self, source: Source, display: Display | None) -> Iterator[Document]:
        """The documents of one source."""
        return source_documents(source, self.text_key, self.unit, display)

    def cleaner(self, scripts: frozenset[str]) -> Cleaner:
        """A cleaner for target scripts; `ConfigError` or `DependencyError` where the settings allow none."""
        return Cleaner(scripts, self.min_chars, self.min_script_share, self.near_duplicates)


@dataclass(frozen=True)
class Shard:
    """One source of one part of the corpus.

    Attributes:
        scripts: target scripts of the part.
        path: where its file lies when it is whole.
    """

    source: Source
    scripts: frozenset[str]
    reading: Reading
    path: Path

    @classmethod
    def of(cls, source: Source, scripts: frozenset[str], reading: Reading, folder: Path) -> Shard:
        """The shard of ``source`` in ``folder``."""
        said = repr((code_version("corpus"), source, _state(source), sorted(scripts), reading))
        return cls(
            source, scripts, reading, folder / f"{hashlib.sha256(said.encode()).hexdigest()[:32]}.jsonl"
        )

    @property
    def failed(self) -> Path:
        """Where it lies instead if its source cannot be read to the end."""
        return self.path.with_suffix(".failed")

    def make(self) -> None:
        """Read, judge and write, unless that was done; a user's error is written down for `judged` to raise."""
        if self.path.exists():
            return
        new = self.path.with_name(f".{self.path.stem}.{uuid.uuid4().hex[:8]}")
        try:
            with new.open("w", **WRITING) as file:
                end = self._write(file)
                file.write(encode(end) + "\n")
                file.flush()
                os.fsync(file.fileno())
            new.replace(self.failed if "error" in end else self.path)
        finally:
            new.unlink(missing_ok=True)

    def _write(self, file: Any) -> dict[str, Any]:
        cleaner, read, samples = self.reading.cleaner(self.scripts), 0, Counter[str]()

        def count(size: int) -> None:
            nonlocal read
            read += size

        try:
            for document in self.reading.documents(self.source, count):
                judged = cleaner.signed(cleaner.judge(document.text))
                if judged.reason:
                    samples[judged.reason] += 1
                    wanted = samples[judged.reason] <= DROPPED_KEPT
                    judged = judged._replace(text=judged.text[:DROPPED_LENGTH] if wanted else "")
                signature = base64.b64encode(judged.signature).decode()
                file.write(encode([document.source, *judged[:-1], signature]) + "\n")
        except errors.FastvocabError as error:
            said = {"kind": type(error).__name__, "rule": error.rule, "fix": error.fix}
            return {"error": said | {"message": error.message}}
        return {"bytes": read}

    def judged(self, display: Display) -> Iterator[tuple[str, Judged]]:
        """``(where it came from, judgement)`` of each document, in the order of the source.

        Raises:
            FastvocabError: whatever the source was found guilty of, after the documents before that.
        """
        with (self.path if self.path.exists() else self.failed).open(encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                if isinstance(row, dict):
                    break
                where, *judged, signature = row
                yield where, Judged._make([*judged, base64.b64decode(signature)])
        if error := row.get("error"):
            raise getattr(errors, error["kind"])(error["message"], rule=error["rule"], fix=error["fix"])
        display(row["bytes"])


def _state(source: Source) -> object:
    """What tells a source from an earlier one of its name."""
    path = Path(source.name)
    if source.kind == "package":
        return package_info(source.name)["version"]
    paths = {"file": [path], "disk": sorted(path.rglob("*.arrow"))}.get(source.kind, [])
    return [
        (p.name, state.st_size, state.st_mtime_ns, state.st_ctime_ns) for p in paths if (state := p.stat())
    ]


class Work:
    """What a task does: the step of the datatrove pipeline. It is pickled, and imports no torch.

    Args:
        shards: all of them; task ``rank`` of ``world_size`` takes every ``world_size``-th, the largest first.
    """

    def __init__(self, shards: list[Shard]) -> None:
        self.shards = sorted(shards, key=lambda shard: -(shard.source.bytes or 0))
        self.folder = Path.cwd()

    def __call__(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        """Make the task's shards."""
        os.chdir(self.folder)  # sources go by the names that were typed there
        for shard in self.shards[rank::world_size]:
            shard.make()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.shards)} sources)"
