"""Folders and files that are either there whole or not there at all.

Every folder that a stage leaves is written beside its place, flushed to disk, and renamed. A kill at any
moment leaves the previous state or the new one; `recover` finishes a replacement that was cut in the middle.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastvocab.errors import CheckpointError, ResourceError

_NEW, _OLD = ".new-", ".old-"


def fsync_folder(folder: Path) -> None:
    """Flush a folder's own entries to disk (a rename is safe only after this)."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:  # some network and FUSE file systems (Colab's Drive) refuse to flush a folder
        pass
    finally:
        os.close(descriptor)


def _fsync_tree(folder: Path) -> None:
    for root, _, names in os.walk(folder):
        for name in names:
            with (Path(root) / name).open("rb") as file:
                os.fsync(file.fileno())
        fsync_folder(Path(root))


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty sibling folder; on success it takes the place of ``path``, on any error it is removed.

    Whoever fills it writes the manifest last. An older ``path`` stays until the new one is on disk.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}{_NEW}{uuid.uuid4().hex[:8]}")
    new.mkdir()
    try:
        yield new
        _fsync_tree(new)
        _replace_folder(new, path)
    except OSError as error:
        shutil.rmtree(new, ignore_errors=True)
        raise _disk_error(error, path) from error
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise


def _replace_folder(new: Path, path: Path) -> None:
    old = path.with_name(f".{path.name}{_OLD}{uuid.uuid4().hex[:8]}")
    if path.exists():
        path.rename(old)
    new.rename(path)
    fsync_folder(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def recover(parent: Path) -> list[Path]:
    """Clean up after a kill: put back a folder whose replacement never arrived, remove the unfinished.

    Only safe while no other process writes in ``parent`` (the run lock sees to it). Returns what was put back.
    """
    restored = []
    for entry in sorted(parent.glob(f".*{_OLD}*")):
        target = parent / entry.name[1:].rsplit(_OLD, 1)[0]
        if target.exists():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.rename(target)
            restored.append(target)
    for entry in parent.glob(f".*{_NEW}*"):
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
    return restored


def remove_folder(folder: Path) -> None:
    """Remove a folder and what is in it, if it is there."""
    if folder.exists():
        shutil.rmtree(folder)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically (temporary sibling, flush, rename)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}{_NEW}{uuid.uuid4().hex[:8]}")
    try:
        with new.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
        fsync_folder(path.parent)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise _disk_error(error, path) from error


def write_json(path: Path, data: Any) -> None:
    """Write JSON atomically, readable by people: indented, UTF-8, no NaN."""
    write_text(path, json.dumps(data, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON; a damaged file is a `CheckpointError` that names it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path} is not there", fix="run the stage that writes it again") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path} is damaged: {error}", fix="remove its folder and run again") from None


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file's bytes, read in chunks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_folder() -> Path:
    """Where things made once are kept: ``$FASTVOCAB_CACHE``, else ``$XDG_CACHE_HOME/fastvocab``."""
    if chosen := os.environ.get("FASTVOCAB_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fastvocab"


def sha256_remembered(path: Path) -> str:
    """`sha256_file`, remembered between runs by path, size and modification time.

    For inputs alone (base weights, corpora: 16 GB take 12 s at each look); what we wrote is always read again.
    """
    state = path.stat()
    key = f"{path.resolve()}|{state.st_size}|{state.st_mtime_ns}"
    store = cache_folder() / "sha256.json"
    try:
        known = json.loads(store.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        known = {}
    if key not in known:
        known[key] = sha256_file(path)
        if state.st_size > 10_000_000:  # small files are read faster than remembered
            write_text(store, json.dumps(known))
    return known[key]


def describe(folder: Path, *, skip: frozenset[str] = frozenset()) -> list[dict[str, Any]]:
    """``{path, bytes, sha256}`` of every file below ``folder`` (paths relative, POSIX, sorted)."""
    entries = []
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = file.relative_to(folder).as_posix()
        if name not in skip:
            entries.append({"path": name, "bytes": file.stat().st_size, "sha256": sha256_file(file)})
    return entries


def verify(folder: Path, entries: list[dict[str, Any]]) -> list[str]:
    """What is wrong with the files that ``describe`` listed: missing, of another size, or changed."""
    faults = []
    for entry in entries:
        file = inside(folder, entry["path"])
        if not file.is_file():
            faults.append(f"{entry['path']} is missing")
        elif file.stat().st_size != entry["bytes"]:
            faults.append(f"{entry['path']} has {file.stat().st_size} bytes instead of {entry['bytes']}")
        elif sha256_file(file) != entry["sha256"]:
            faults.append(f"{entry['path']} has changed (sha256 differs)")
    return faults


def inside(folder: Path, name: str) -> Path:
    """``folder / name``, refused where the name or a link would lead out of the folder."""
    path = folder / name
    if Path(name).is_absolute() or not path.resolve().is_relative_to(folder.resolve()):
        raise CheckpointError(f"{name!r} in {folder} leads out of the folder", rule="names stay inside")
    return path


def require_space(folder: Path, needed: int, what: str) -> None:
    """Refuse work that the disk has no room for, before it starts."""
    probe = folder
    while not probe.exists():
        probe = probe.parent
    free = shutil.disk_usage(probe).free
    if free < needed:
        raise ResourceError(
            f"{what} needs {needed / 1e9:.2f} GB in {folder}, {free / 1e9:.2f} GB are free",
            fix="free some space, or choose another disk with runs=DIR",
        )


def _disk_error(error: OSError, path: Path) -> BaseException:
    import errno

    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ResourceError(
            f"the disk is full while writing {path}", fix="free some space and run the same command again"
        )
    named = Path(str(error.filename)) if error.filename else path
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM) and named.is_relative_to(path.parent):
        return ResourceError(
            f"cannot write {path}: {error.strerror}", fix="choose a folder that you may write"
        )
    return error
