"""Folders and files that are either there whole or not there at all.

Every folder that a stage leaves is written beside its place, flushed to disk, and renamed. A kill at any
moment leaves the previous state or the new one; `recover` finishes a replacement that was cut in the middle.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fastvocab.errors import CheckpointError, FastvocabError, ResourceError

_NEW, _OLD = ".new-", ".old-"
#: Names that `atomic_folder` and `write_text` give: nobody else's hidden file is cleaned up.
_OURS = re.compile(r"\.(?P<target>.+)(?P<kind>\.new-|\.old-)[0-9a-f]{8}")
#: The disk's own refusals, which the person at the keyboard can mend.
_FULL = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM)
_BROKEN = (errno.EIO, errno.ESTALE, errno.ENXIO, errno.ENODEV)


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
    new = path.with_name(f".{path.name}{_NEW}{uuid.uuid4().hex[:8]}")
    try:
        _make_folders(path.parent)
        new.mkdir()
        yield new
        _fsync_tree(new)
        _replace_folder(new, path)
    except Exception as error:
        full = _is_full(error, path.parent)  # asked before the unfinished folder gives its space back
        shutil.rmtree(new, ignore_errors=True)
        if full:
            raise _full_disk(path) from error
        if isinstance(error, OSError):
            raise _disk_error(error, path) from error
        raise
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise


def _make_folders(folder: Path) -> None:
    """``mkdir -p``, with each new entry flushed: after a power cut a flushed folder in a lost one would be lost."""
    if not folder.is_dir():
        _make_folders(folder.parent)
        folder.mkdir(exist_ok=True)
        fsync_folder(folder.parent)


def _replace_folder(new: Path, path: Path) -> None:
    old = path.with_name(f".{path.name}{_OLD}{uuid.uuid4().hex[:8]}")
    try:
        if path.exists():
            path.rename(old)
        new.rename(path)
    except BaseException:  # a full folder, or a signal between the two
        if old.exists() and not path.exists():
            old.rename(path)
        raise
    fsync_folder(path.parent)  # before the old one goes: else a power cut could leave neither
    shutil.rmtree(old, ignore_errors=True)


def recover(parent: Path) -> list[Path]:
    """Clean up after a kill: put back a folder whose replacement never arrived, remove the unfinished.

    Only safe while no other process writes in ``parent`` (the run lock sees to it). Returns what was put back.

    Raises:
        ResourceError: if the folder may not be written.
    """
    restored: list[Path] = []
    if not parent.is_dir():
        return restored
    ours = [(entry, found) for entry in sorted(parent.iterdir()) if (found := _OURS.fullmatch(entry.name))]
    for entry, found in ours:
        target = parent / found["target"]
        if found["kind"] == _OLD and not target.exists():
            try:
                entry.rename(target)
            except OSError as error:
                raise _disk_error(error, target) from error
            restored.append(target)
        elif entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            with suppress(OSError):  # left over, and in nobody's way
                entry.unlink(missing_ok=True)
    if restored:
        fsync_folder(parent)
    return restored


def remove_folder(folder: Path) -> None:
    """Remove a folder and what is in it, if it is there; of a link, the link alone.

    Raises:
        ResourceError: if it may not be removed.
    """
    try:
        if folder.is_symlink() or folder.is_file():
            folder.unlink()
        elif folder.exists():
            shutil.rmtree(folder)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise _disk_error(error, folder) from error


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically (temporary sibling, flush, rename)."""
    new = path.with_name(f".{path.name}{_NEW}{uuid.uuid4().hex[:8]}")
    try:
        _make_folders(path.parent)
        with new.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
        fsync_folder(path.parent)
    except BaseException as error:
        with suppress(OSError):
            new.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _disk_error(error, path) from error
        raise


def write_json(path: Path, data: Any) -> None:
    """Write JSON atomically, readable by people: indented, UTF-8, no NaN."""
    write_text(path, json.dumps(data, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON; a file that is damaged is a `CheckpointError`, one that may not be read a `ResourceError`."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path} is not there", fix="run the stage that writes it again") from None
    except OSError as error:
        raise ResourceError(f"{path} cannot be read: {error.strerror}", fix="see who may read it") from None
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


def read_cache(store: Path) -> dict[str, Any]:
    """A JSON object of the cache folder; empty where there is none, or none that can be read."""
    try:
        known = json.loads(store.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def update_cache(store: Path, more: dict[str, Any]) -> None:
    """Add to a JSON object of the cache folder. A cache that cannot be written is done without."""
    with suppress(OSError, ResourceError):
        write_text(store, json.dumps(read_cache(store) | more))


def sha256_remembered(path: Path) -> str:
    """`sha256_file`, remembered between runs by path, size and times.

    For inputs alone (base weights, corpora: 16 GB take 12 s at each look); what we wrote is always read again.
    """
    state = path.stat()
    key = f"{path.resolve()}|{state.st_size}|{state.st_mtime_ns}|{state.st_ctime_ns}"
    # ctime: an archive unpacked over the file brings the old mtime along
    store = cache_folder() / "sha256.json"
    if isinstance(known := read_cache(store).get(key), str):
        return known
    found = sha256_file(path)
    if state.st_size > 10_000_000:  # small files are read faster than remembered
        update_cache(store, {key: found})
    return found


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


def _is_full(error: BaseException, folder: Path) -> bool:
    """Was it a full disk that stopped a write?

    safetensors and torch have errors of their own for it: the one ends in "(os error 28)", the other says
    "unexpected pos 576 vs 534" or "iostream error" (torch 2.14) and is known only by the disk that has no room now.
    """
    at: BaseException | None = error
    while at is not None:
        if isinstance(at, OSError) and at.errno in _FULL:
            return True
        if isinstance(at, FastvocabError):
            return False
        if any(f"os error {number})" in str(at) for number in _FULL):
            return True
        at = at.__cause__ or at.__context__
    return isinstance(error, RuntimeError) and not _has_room(folder)


def _has_room(folder: Path) -> bool:
    probe = (
        folder / f".room{_NEW}{uuid.uuid4().hex[:8]}"
    )  # asked by writing: free space says nothing of a quota
    try:
        probe.write_bytes(bytes(65_536))
    except OSError as error:
        return error.errno not in _FULL
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)
    return True


def _full_disk(path: Path) -> ResourceError:
    return ResourceError(
        f"the disk is full while writing {path}",
        rule="what was there before is whole",
        fix="free some space and run the same command again",
    )


def _disk_error(error: OSError, path: Path) -> BaseException:
    """The user's error behind ``error`` met while writing ``path``; ``error`` itself where it is none."""
    if error.errno in _FULL:
        return _full_disk(path)
    named = Path(str(error.filename)) if error.filename else path
    # only of what we write: a source that may not be read is its reader's to explain
    if not (named.is_relative_to(path.parent) or path.is_relative_to(named)):
        return error
    if error.errno in _FORBIDDEN:
        return ResourceError(
            f"cannot write {path}: {error.strerror}", fix="choose a folder that you may write"
        )
    if error.errno in _BROKEN:
        return ResourceError(
            f"cannot write {path}: {error.strerror}",
            rule="the drive, or the way to it, fails",
            fix="check it, or choose another disk with runs=DIR; then run the same command again",
        )
    return error
