"""The points of a line, one model in memory at a time: the base, then each checkpoint."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastvocab import console
from fastvocab.model import backend, checkpoint, manifest
from fastvocab.model.reference import Base


@dataclass
class Point:
    """A model to be measured, good until the next one is asked for.

    Attributes:
        name: ``base``, or the stage.
        model: ready to be read (`backend.reading`).
        tokenizer: its own.
        new_ids: what the last extension added; empty for the base.
        started: `time.monotonic` before it was loaded.
    """

    name: str
    model: Any
    tokenizer: Any
    new_ids: range
    started: float

    def seconds(self) -> float:
        """Since it was begun with."""
        return round(time.monotonic() - self.started, 2)


def each(
    base: Base,
    points: Mapping[str, Path],
    *,
    block: int = 2048,
    of_base: bool = True,
    load_in_4bit: bool = False,
    seed: int = 3407,
) -> Iterator[Point]:
    """The base and each checkpoint, in order.

    Args:
        points: checkpoint folders by stage, in order.
        of_base: whether the base comes first.
        block: the longest sequence that they will read: unsloth's GPU classes cut at what they were loaded for.
    """
    with console.progress() as display:
        begun: dict[str, Path | None] = {**({"base": None} if of_base else {}), **points}
        task = display.add_task("evaluate", total=len(begun), note="")
        for name, path in begun.items():
            started = time.monotonic()
            display.update(task, note=name)
            if path is None:
                model, tok = checkpoint.on_base(base, load_in_4bit=load_in_4bit, block=block, seed=seed)
            else:
                model, tok = checkpoint.load(path, block=block, seed=seed)
            new_ids = range(0) if path is None else manifest.new_ids(manifest.peek(path))
            with backend.reading(model) as model:
                yield Point(name, model, tok, new_ids, started)
            display.advance(task)
            del model
            gc.collect()
