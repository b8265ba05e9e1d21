"""How the files inside a package are read: one `Reader` for each package of `fastvocab.corpus.packages`.

A reader is given the package's folder and what stands after ``package:NAME/``, and knows nothing of the rest.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from fastvocab.corpus.arithmetic import problems
from fastvocab.corpus.items import Display, Document, Row, names
from fastvocab.errors import DataError

PREFIX = "package:"
INSTALL = "pip install 'fastvocab[demo]'"
#: A title and the line under it, in as many characters.
_TITLE = re.compile(r"^(\S.*)\n(={3,}|-{3,}|\*{3,}|~{3,}|\^{3,})\n", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Reader:
    """How one package is read; ``root`` is its folder, ``part`` what stands after its name ("" if nothing).

    Attributes:
        check: ``(root, part)``, refuses a part that is not there with a `DataError`.
        size: ``(root, part)``, bytes of what will be read.
        read: ``(root, part, display)``, `Document`s or `Row`s, as the package's record says.
        parts: has the package parts? Without them nothing may stand after its name.
    """

    check: Callable[[Path, str], object]
    size: Callable[[Path, str], int]
    read: Callable[[Path, str, Display | None], Iterator[Any]]
    parts: bool = True


def _ua_gec_files(root: Path) -> list[tuple[str, Path]]:
    """``(document id, file)``, one annotator for each document.

    The second annotator corrects the same text again, so a document would come twice, nearly the same: 1,875
    of the 2,081 files are kept. The first annotator's is taken, and the second's where there is no other.
    """
    folder = root / "data" / "gec-fluency"
    chosen: dict[str, Path] = {}
    for file in sorted(folder.glob("*/target/*.txt"), key=lambda path: path.name):
        chosen.setdefault(file.name.split(".")[0], file)
    if not chosen:
        raise DataError(
            f"the package ua-gec holds no texts in {folder}", fix=INSTALL + " (it pins the release)"
        )
    return list(chosen.items())


def _ua_gec(root: Path, _: str, display: Display | None) -> Iterator[Document]:
    for key, file in _ua_gec_files(root):
        data = file.read_bytes()
        if display:
            display(len(data))
        yield Document(data.decode("utf-8"), f"{PREFIX}ua-gec/{key}")


def _pydoc_topics() -> list[tuple[str, str]]:
    from pydoc_data.topics import topics

    return sorted(topics.items())


def _sections(text: str) -> Iterator[str]:
    """The sections of a topic, each a title and what stands under it.

    Topics are chapters of up to 62 kB, and of their 208 sections 37 are in another topic as well, word for word: as
    whole documents one is held out while another that has it is trained on. As sections they are duplicates and go.
    """
    titles = [m for m in _TITLE.finditer(text) if len(m[1]) == len(m[2])]
    bounds = [(0, "", 0), *((m.start(), f"{m[1]}\n", m.end()) for m in titles), (len(text), "", len(text))]
    for (_, title, start), (end, *_) in pairwise(bounds):
        if section := (title + text[start:end]).strip():
            yield section


def _pydoc(_root: Path, _part: str, display: Display | None) -> Iterator[Document]:
    for key, text in _pydoc_topics():
        if display:
            display(len(text.encode()))
        for number, section in enumerate(_sections(text)):
            yield Document(section, f"{PREFIX}pydoc-topics/{key}" + (f"#{number}" if number else ""))


def _chatterbot_files(root: Path, part: str) -> list[Path]:
    data = root / "data"
    files = sorted((data / part).glob("*.yml")) if part and "/" not in part and part != ".." else []
    if not files:
        have = sorted(path.name for path in data.iterdir() if path.is_dir())
        raise DataError(
            f"{PREFIX}chatterbot-corpus has no language {part!r}{_nearest(part, have)}",
            fix=f"write {PREFIX}chatterbot-corpus/LANGUAGE with one of: {names(have, 40)}",
        )
    return files


def _nearest(part: str, have: list[str]) -> str:
    near = difflib.get_close_matches(part, have, 1)
    return f"; nearest: {near[0]}" if near else ""


def _chatterbot(root: Path, part: str, display: Display | None) -> Iterator[Row]:
    from fastvocab.corpus.formats import yaml_rows

    for file in _chatterbot_files(root, part):
        yield from yaml_rows(file, f"{PREFIX}chatterbot-corpus/{part}/{file.name}", display)


#: What recbole ships with, in its "atomic files": columns by tabs, a header of ``name:type``.
_RECBOLE = {"ml-100k": "ml-100k.inter", "ml-100k/items": "ml-100k.item"}


def _recbole_file(root: Path, part: str) -> Path:
    if part not in _RECBOLE:
        what = f"no data set {part!r}" if part else "several data sets"
        raise DataError(
            f"{PREFIX}recbole has {what}{_nearest(part, list(_RECBOLE))}",
            fix="write one of: " + names([f"{PREFIX}recbole/{known}" for known in _RECBOLE]),
        )
    file = root / "dataset_example" / "ml-100k" / _RECBOLE[part]
    if not file.is_file():
        raise DataError(
            f"the package recbole has no {file.name} in {file.parent}",
            fix="pip install --no-deps recbole==1.2.1",
        )
    return file


def _recbole(root: Path, part: str, display: Display | None) -> Iterator[Row]:
    """Rows of an atomic file: fields of the type float are numbers, all others are strings."""
    from fastvocab.corpus import streams
    from fastvocab.corpus.sources import Source

    header: list[tuple[str, str]] = []
    for number, line in streams.lines(streams.text(Source("file", str(_recbole_file(root, part))), display)):
        cells = line.split("\t")  # no quoting: a title may have a quote in it
        if not header:
            header = [(name, kind) for name, _, kind in (cell.partition(":") for cell in cells)]
        elif line:
            yield Row(
                {
                    name: _number(cell) if kind == "float" else cell
                    for (name, kind), cell in zip(header, cells)
                },
                f"{PREFIX}recbole/{part}:{number}",
            )


def _number(cell: str) -> float | int | str:
    try:
        value = float(cell)
    except ValueError:
        return cell
    return int(value) if value.is_integer() else value


def _own_part(_: Path, part: str) -> None:
    if part != "arithmetic":
        raise DataError(f"{PREFIX}fastvocab has no part {part!r}", fix=f"write {PREFIX}fastvocab/arithmetic")


def _own_rows(root: Path, part: str, display: Display | None) -> Iterator[Row]:
    """Rows that this package writes itself (`fastvocab.corpus.arithmetic`)."""
    _own_part(root, part)
    for number, fields in enumerate(problems()):
        if display:
            display(sum(len(value) for value in fields.values()))
        yield Row(fields, f"{PREFIX}fastvocab/{part}#{number}")


READERS = {
    "fastvocab": Reader(
        _own_part,
        lambda root, part: sum(len(value) for fields in problems() for value in fields.values()),
        _own_rows,
    ),
    "ua-gec": Reader(
        lambda root, part: None,
        lambda root, part: sum(file.stat().st_size for _, file in _ua_gec_files(root)),
        _ua_gec,
        parts=False,
    ),
    "pydoc-topics": Reader(
        lambda root, part: None,
        lambda root, part: sum(len(text.encode()) for _, text in _pydoc_topics()),
        _pydoc,
        parts=False,
    ),
    "chatterbot-corpus": Reader(
        _chatterbot_files,
        lambda root, part: sum(file.stat().st_size for file in _chatterbot_files(root, part)),
        _chatterbot,
    ),
    "recbole": Reader(_recbole_file, lambda root, part: _recbole_file(root, part).stat().st_size, _recbole),
}
