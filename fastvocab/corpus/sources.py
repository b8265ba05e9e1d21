"""What a person may write for a source of text, found on disk and named.

Everything that is wrong is reported in one error, with the nearest names that exist.
"""

from __future__ import annotations

import difflib
import glob
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fastvocab.corpus import packages
from fastvocab.corpus.items import names
from fastvocab.errors import DataError, DependencyError

HUB = "hf:"
_FORMATS = {
    ".txt": "text", ".text": "text", ".md": "text", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json",
    ".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".yml": "yaml", ".yaml": "yaml",
}  # fmt: skip
_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
READABLE = ".txt .md .text .jsonl .ndjson .json .csv .tsv (each also .gz or .zst), .parquet"
# org/name:config@split; a config may hold dots and slashes are only in the name
_HUB_NAME = re.compile(r"(?P<name>[^:@\s]+)(?::(?P<config>[^@\s]+))?(?:@(?P<split>\S+))?")


@dataclass(frozen=True, slots=True)
class Source:
    """One thing to open.

    Attributes:
        kind: ``file``; ``disk`` (a folder of ``datasets.save_to_disk``); ``hub``; ``package``.
        name: a path as the person wrote it, a Hub name, or ``package:NAME``; it starts every message.
        config: of a Hub dataset.
        split: of a Hub dataset or a saved ``DatasetDict``.
    """

    kind: Literal["file", "disk", "hub", "package"]
    name: str
    config: str | None = None
    split: str | None = None

    @property
    def format(self) -> str | None:
        """``text``, ``jsonl``, ``json``, ``csv``, ``parquet``, ``yaml``; None where the suffix is unknown."""
        return _FORMATS.get(_suffixes(self.name)[0])

    @property
    def compression(self) -> str | None:
        """``gzip``, ``zstd`` or None."""
        return _COMPRESSIONS.get(_suffixes(self.name)[1])

    @property
    def bytes(self) -> int | None:
        """Size on disk; None for a Hub dataset, whose size is unknown before it is read."""
        if self.kind == "hub":
            return None
        if self.kind == "package":
            return packages.package_bytes(self.name)
        path = Path(self.name)
        if self.kind == "disk":
            return sum(file.stat().st_size for file in _arrow_folder(path, self.split).glob("*.arrow"))
        return path.stat().st_size


def _arrow_folder(path: Path, split: str | None) -> Path:
    return path / split if split else path


def _suffixes(name: str) -> tuple[str, str]:
    path = Path(name)
    last = path.suffix.lower()
    if last in _COMPRESSIONS:
        return Path(path.stem).suffix.lower(), last
    return last, ""


def resolve(sources: str | Sequence[str]) -> list[Source]:
    """Find everything that ``sources`` names, in the order given; what comes twice is read once.

    Args:
        sources: one or several of: a path; a glob (``**`` descends); a folder (all readable files below it,
            sorted, hidden ones left out); a folder written by ``datasets.save_to_disk`` (with ``@split`` if
            it holds several); ``hf:org/name``, ``hf:org/name:config@split``; ``package:NAME``.

    Raises:
        DataError: anything missing, empty or of an unknown kind; all of it in one error.
        DependencyError: nothing else is wrong than a package that is not installed.
    """
    given = [sources] if isinstance(sources, str) else list(sources)
    if not given:
        raise DataError(
            "no source of text is given", fix="corpus.train=FILE, for instance corpus.train='data/*.txt'"
        )
    found: dict[tuple[str, str | None, str | None], Source] = {}
    wrong: list[str] = []
    fixes: list[str] = []
    missing_packages: list[DependencyError] = []
    for text in given:
        try:
            for source in _resolve_one(text):
                name = os.path.realpath(source.name) if source.kind in ("file", "disk") else source.name
                found.setdefault((name, source.config, source.split), source)
        except DataError as error:
            wrong.append(error.message)
            fixes += [error.fix] if error.fix and error.fix not in fixes else []
        except DependencyError as error:
            missing_packages.append(error)
    if missing_packages and not wrong:
        raise DependencyError("; ".join(e.message for e in missing_packages), fix=missing_packages[0].fix)
    wrong += [error.message for error in missing_packages]
    if not wrong and all(source.kind == "file" and source.bytes == 0 for source in found.values()):
        count = f"the {len(found)} files hold" if len(found) > 1 else "the file holds"
        wrong = [f"{count} nothing (0 bytes): {names([s.name for s in found.values()], 5)}"]
        fixes = ["name files that have text in them"]
    if wrong:
        head = (
            wrong[0] if len(wrong) == 1 else f"{len(wrong)} sources cannot be read:\n  " + "\n  ".join(wrong)
        )
        raise DataError(head, fix="; ".join(fixes) or None)
    return list(found.values())


def total_bytes(sources: str | Sequence[str]) -> int | None:
    """Bytes on disk of all the sources together, as `documents` will report them; None if any is on a hub.

    Raises:
        DataError, DependencyError: as `resolve` does.
    """
    sizes = [source.bytes for source in resolve(sources)]
    return None if None in sizes else sum(size or 0 for size in sizes)


def _resolve_one(text: str) -> list[Source]:
    text = text.strip()
    if text.startswith(packages.PREFIX):
        return [Source("package", packages.check(text))]
    if text.startswith(HUB):
        return [_hub(text)]
    path = Path(text).expanduser()
    if not text:
        raise DataError("a source is an empty string", fix="give a path, a glob, hf:org/name or package:NAME")
    if path.is_dir():
        return list(_folder(path))
    if path.exists():
        if not path.is_file():
            raise DataError(
                f"{text} is neither a file nor a folder (a pipe or a device)", fix="write it to a file"
            )
        return [Source("file", str(path))]
    if glob.has_magic(text):
        return _glob(text, path)
    folder, at, split = str(path).rpartition("@")
    if at and Path(folder).is_dir() and is_saved_dataset(Path(folder)):
        return [_saved(Path(folder), split)]
    raise _missing(text, path)


def _hub(text: str) -> Source:
    match = _HUB_NAME.fullmatch(text.removeprefix(HUB))
    if not match:
        raise DataError(
            f"{text} is no Hub dataset",
            fix="write hf:org/name, hf:org/name:config or hf:org/name:config@split",
        )
    return Source("hub", match["name"], match["config"], match["split"])


def is_saved_dataset(path: Path) -> bool:
    """Is the folder one that ``datasets.save_to_disk`` wrote?"""
    return (path / "dataset_dict.json").is_file() or (path / "state.json").is_file()


def _saved(path: Path, split: str | None) -> Source:
    if not (path / "dataset_dict.json").is_file():
        if split:
            raise DataError(f"{path} holds a single dataset, no split {split!r}", fix=f"write {path}")
        return Source("disk", str(path))
    splits = sorted(entry.name for entry in path.iterdir() if is_saved_dataset(entry))
    if split is None:
        split = "train" if "train" in splits else splits[0] if len(splits) == 1 else None
    if split not in splits:
        which = f"no split {split!r}" if split else "several splits"
        raise DataError(f"{path} has {which}: {names(splits)}", fix=f"write {path}@SPLIT")
    return Source("disk", str(path), split=split)


def _folder(path: Path) -> Iterator[Source]:
    if is_saved_dataset(path):
        yield _saved(path, None)
        return
    others, some = [], False
    for root, folders, files in os.walk(path):
        here = Path(root)
        saved = {name for name in folders if is_saved_dataset(here / name)}
        for name in sorted(saved):
            some = True
            yield _saved(here / name, None)
        # in place, so that os.walk descends in this order and nowhere else
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in saved)
        for name in sorted(files):
            source = Source("file", str(here / name))
            if not name.startswith(".") and source.format:
                some = True
                yield source
            else:
                others.append(name)
    if not some:
        what = f"; it has {names(others, 5)}" if others else ", it is empty"
        raise DataError(
            f"the folder {path} holds no file that can be read{what}", fix=f"readable: {READABLE}"
        )


def _glob(text: str, path: Path) -> list[Source]:
    matches = [Path(name) for name in _expand(path)]
    # an unknown suffix is meant where the pattern names it (data/*.uk), not where it says * for everything
    every = text.endswith("*")
    files = [
        source
        for match in matches
        if match.is_file() and ((source := Source("file", str(match))).format or not every)
    ]
    if files:
        return files
    folders = [match for match in matches if match.is_dir()]
    if folders:
        return [source for folder in folders for source in _folder(folder)]
    parent = next(map(Path, _expand(path.parent)), None)
    have = names(_listing(parent), 5) if parent and parent.is_dir() else None
    raise DataError(
        f"the pattern {text} matches no file that can be read (looked in {Path.cwd()})"
        + (f"; {parent} holds {have}" if have else ""),
        fix=f"readable: {READABLE}",
    )


def _expand(path: Path) -> list[str]:
    return sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207 (Path.glob refuses absolute patterns)


def _listing(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def _missing(text: str, path: Path) -> DataError:
    parent = path
    while not parent.exists():
        parent, child = parent.parent, parent.name
    near: list[str] = []
    if parent.is_dir():
        near = [str(parent / name) for name in difflib.get_close_matches(child, _listing(parent), 3, 0.5)]
    message = f"{text} is not there (looked in {Path.cwd()})"
    if near:
        message += f"; nearest: {names(near)}"
    hub = re.fullmatch(r"[\w.-]+/[\w.-]+", text) and not _FORMATS.get(_suffixes(text)[0])
    return DataError(
        message,
        fix=f"check the path; a dataset on the Hub is written {HUB}{text}" if hub else "check the path",
    )
