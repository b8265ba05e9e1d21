"""Saves inside a stage, from which the same command goes on after a break.

A save is one folder, ``step-00000120``: a checkpoint (`fastvocab.model.checkpoint`) with the trainer's state, and
``save.json`` written last: key, step, seconds, the hash of every file, and a digest of itself. A save is taken
only if it is whole, holds nothing else, and was made for the very same settings, inputs and code.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from fastvocab import console, files, sealed
from fastvocab.errors import CheckpointError

KEEP = 2  # the newest may be the one that a full disk or a failing drive has spoilt
MANIFEST = "save.json"
#: Without one of these a training would go on, but not where it stood: transformers passes over what is missing.
REQUIRED = frozenset(
    {
        "fastvocab.json",
        "rows.safetensors",
        "optimizer.pt",
        "scheduler.pt",
        "rng_state.pth",
        "trainer_state.json",
    }
)
_NAME = re.compile(r"step-(\d{8,})")
#: What file managers and cloud drives leave in a folder that was looked at; nothing reads it.
_LITTER = re.compile(r"\.DS_Store|\._.*|desktop\.ini|Thumbs\.db", re.IGNORECASE)
_SEAL = "save_sha256"
_FIELDS = {"key": str, "step": int, "seconds": (int, float), "files": list}


def path(saves: Path, step: int) -> Path:
    """Where the save of ``step`` lies."""
    return saves / f"step-{step:08d}"


def commit(folder: Path, *, key: str, step: int, seconds: float) -> None:
    """Write ``save.json`` into a save folder that is otherwise complete.

    Args:
        key: what the save is good for (`fastvocab.run.Context`).
        step: optimizer steps taken.
        seconds: trained so far, over all sessions.
    """
    facts = {"key": key, "step": step, "seconds": seconds, "files": files.describe(folder)}
    missing = REQUIRED - {entry["path"] for entry in facts["files"]}  # type: ignore[attr-defined]
    assert not missing, f"a save holds all that going on needs, {sorted(missing)} too"
    files.write_json(folder / MANIFEST, sealed.seal(facts, _SEAL))


def read(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """What ``save.json`` says, and what is wrong with the save: nothing, if it can be gone on from.

    Found are: a link or a file in place of a folder, files missing, changed, empty, swapped, linked or not listed,
    and any changed field of ``save.json`` itself.
    """
    if folder.is_symlink() or not folder.is_dir():
        return {}, [f"{folder.name} is {'a link' if folder.is_symlink() else 'a file'}, not a folder"]
    try:
        facts = files.read_json(folder / MANIFEST)
        faults = sealed.faults(facts, _SEAL, _FIELDS, MANIFEST)
        return (facts, _faults(folder, facts)) if not faults else ({}, faults)
    except (CheckpointError, OSError) as error:
        return {}, [getattr(error, "message", str(error))]
    except (KeyError, TypeError):
        return {}, [f"{MANIFEST}: files is no list of path, bytes, sha256"]


def newest(saves: Path, key: str) -> tuple[Path, dict[str, Any]] | None:
    """The newest whole save made under ``key`` and its ``save.json``; what is wrong with newer ones is said."""
    files.recover(saves)
    for folder in _folders(saves):
        facts, faults = read(folder)
        if faults:
            shown = "; ".join(faults[:3]) + (f"; and {len(faults) - 3} more" if len(faults) > 3 else "")
            console.warn(f"the save {folder.name} is passed over: {shown}")
        elif facts["key"] != key:
            # kept for now: a mistyped setting must not cost the hours that the right one has behind it
            console.say(
                f"the save {folder.name} belongs to other settings, data or another device; "
                "it is removed once this training has saves of its own"
            )
        else:
            return folder, facts
    return None


def prune(saves: Path, newest: int, *, key: str, keep: int = KEEP, best: int | None = None) -> None:
    """Remove all but ``keep`` saves, and that of step ``best``; called once that of ``newest`` is safely on disk.

    Those of later steps go first: they were passed over when this training went on from an earlier one, and
    as the highest they would be kept in place of its own. So do those of another key, and unreadable ones.
    """
    own = [folder for folder in _folders(saves) if _step(folder) <= newest and _key(folder) == key]
    kept = own[:keep] + [folder for folder in own if _step(folder) == best]
    for folder in set(_folders(saves)) - set(kept):
        files.remove_folder(folder)


def size(saves: Path) -> int:
    """Bytes that the saves in a folder take."""
    return sum(
        file.lstat().st_size for folder in _folders(saves) for file in folder.rglob("*") if file.is_file()
    )


def _step(folder: Path) -> int:
    found = _NAME.fullmatch(folder.name)
    assert found is not None
    return int(found[1])


def _folders(saves: Path) -> list[Path]:
    """By step, the highest first: by number, for names are longer from step 100,000,000 on."""
    found = [entry for entry in saves.glob("step-*") if _NAME.fullmatch(entry.name)]
    return sorted(found, key=_step, reverse=True)


def _key(folder: Path) -> str | None:
    if folder.is_symlink() or not folder.is_dir():
        return None
    try:
        facts = files.read_json(folder / MANIFEST)
    except (CheckpointError, OSError):
        return None
    return facts.get("key") if isinstance(facts, dict) else None


def _faults(folder: Path, facts: dict[str, Any]) -> list[str]:
    present = {
        (Path(root) / name).relative_to(folder).as_posix(): Path(root) / name
        for root, folders, names in os.walk(folder)
        for name in [*names, *(f for f in folders if (Path(root) / f).is_symlink())]
        if not _LITTER.fullmatch(name)
    }
    # a link may lead to a file that changes later, though its content is right today
    linked = sorted(name for name, file in present.items() if file.is_symlink())
    if linked:
        return [f"{name} is a link" for name in linked]
    listed = {entry["path"] for entry in facts["files"]}
    wrong = files.verify(folder, facts["files"])
    wrong += [f"{name} is not listed in {MANIFEST}" for name in sorted(REQUIRED - listed)]
    wrong += [
        f"{name} is there, but not in {MANIFEST}" for name in sorted(present.keys() - listed - {MANIFEST})
    ]
    if _step(folder) != facts["step"]:
        wrong.append(f"{folder.name} says in {MANIFEST} that it is of step {facts['step']}")
    return wrong
