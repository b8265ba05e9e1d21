"""Saves inside a stage, from which the same command goes on after a break.

A save is one folder, ``step-000120``: a checkpoint (`fastvocab.model.checkpoint`) with the trainer's state, and
``save.json`` written last with the hash of every file. A save is taken only if it is whole and was made for the
very same settings, inputs and code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastvocab import console, files
from fastvocab.errors import CheckpointError

KEEP = 2  # the newest may be the one that a full disk or a failing drive has spoilt


def commit(folder: Path, **facts: Any) -> None:
    """Write ``save.json`` into a save folder that is otherwise complete."""
    files.write_json(folder / "save.json", {**facts, "files": files.describe(folder)})


def newest(saves: Path, key: str) -> tuple[Path, dict[str, Any]] | None:
    """The newest whole save made under ``key``; what is wrong with newer ones is said."""
    files.recover(saves) if saves.is_dir() else None
    for folder in sorted(saves.glob("step-*"), reverse=True):
        try:
            facts = files.read_json(folder / "save.json")
            faults = files.verify(folder, facts["files"])
        except (CheckpointError, KeyError, TypeError) as error:
            faults, facts = [str(error)], {}
        if faults:
            console.warn(f"the save {folder.name} is passed over: {'; '.join(faults[:3])}")
        elif facts["key"] != key:
            # it must go: pruning keeps the highest steps, and would keep this one instead of the new run's
            console.say(
                f"the save {folder.name} belongs to other settings, data or another device; it is removed"
            )
            files.remove_folder(folder)
        else:
            return folder, facts
    return None


def prune(saves: Path) -> None:
    """Remove all but the newest `KEEP`; called only after the newest is safely on disk."""
    for folder in sorted(saves.glob("step-*"), reverse=True)[KEEP:]:
        files.remove_folder(folder)
