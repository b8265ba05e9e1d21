"""Several processes of one run: ``accelerate launch --num_processes 2 -m fastvocab.recipes.new_language ...``.

The main process (rank 0) works, speaks and writes alone; the others take part in training, and wait otherwise. What
they must know they are told over a group of their own (gloo, on the CPU: it works beside NCCL), which waits as long as
a stage takes. With one process everything here is a no-op.
"""

from __future__ import annotations

import os
import re
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

from fastvocab.errors import ResourceError

T = TypeVar("T")

#: Longer than any stage: the default of torch (30 minutes) would end a run whose tokenizer takes an hour.
_PATIENCE = timedelta(days=30)
#: What gloo and NCCL say when another process has ended.
_LOST = re.compile(r"gloo|nccl|connection (was )?(closed|reset|refused)|broken pipe|socket", re.IGNORECASE)


def count() -> int:
    """How many processes there are, 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE") or 1)


def index() -> int:
    """Number of this one, 0 for the main process."""
    return int(os.environ.get("RANK") or 0)


def several() -> bool:
    """Is there more than one?"""
    return count() > 1


def is_main() -> bool:
    """True on the process that may write and speak (rank 0, or the only one)."""
    return index() == 0


def start() -> None:
    """Join the others; nothing happens where there are none. Imports torch."""
    if several():
        _group()


@cache
def _group() -> Any:
    from accelerate import PartialState
    from torch import distributed

    PartialState(timeout=_PATIENCE)
    return distributed.new_group(backend="gloo", timeout=_PATIENCE)


def leave() -> None:
    """Part from the others when all is done; nothing happens where there are none.

    Threads of gloo that still run while the interpreter ends may abort it ("terminate called without an active
    exception", seen once), and the launcher then takes a finished run for a failed one.
    """
    if several():
        from torch import distributed

        distributed.destroy_process_group()


def share(value: T) -> T:
    """The main process's ``value``, on all of them; each has to call it."""
    if not several():
        return value
    from torch import distributed

    box = [value if is_main() else None]
    _guard(lambda: distributed.broadcast_object_list(box, src=0, group=_group()))
    return box[0]  # type: ignore[return-value]


def gather(value: T) -> list[T]:
    """Every process's ``value`` in order, on all of them; each has to call it."""
    if not several():
        return [value]
    from torch import distributed

    found: list[Any] = [None] * count()
    _guard(lambda: distributed.all_gather_object(found, value, group=_group()))
    return found


def _guard(work: Any) -> None:
    try:
        work()
    except RuntimeError as error:
        if (told := lost(error)) is None:
            raise
        raise told from error


def lost(error: BaseException) -> ResourceError | None:
    """What to tell a person of an error that another process's end has caused; None for any other error."""
    if not several() or not _LOST.search(str(error)):
        return None
    return ResourceError(
        f"another of the {count()} processes of this run has ended",
        rule="they train together or not at all; saves that were made are kept",
        fix="look what it says above, then type the same command again, with any number of processes",
    )
