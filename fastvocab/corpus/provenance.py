"""What a corpus was read from, as a record keeps it: so that a change is noticed, and a copy is known again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastvocab import files
from fastvocab.corpus import packages
from fastvocab.corpus.sources import resolve
from fastvocab.errors import DataError


def describe(sources: str | Sequence[str]) -> list[dict[str, Any]]:
    """``{path, bytes, sha256}`` of each file, package or Hub dataset that ``sources`` means.

    A package goes by its name and version. A Hub dataset goes by its name: that it has changed there is not
    noticed, give ``@split`` and a fixed revision of your own copy if it matters.

    Raises:
        DataError: if a source is not there.
    """
    out: list[dict[str, Any]] = []
    for source in resolve(sources):
        if source.kind == "file":
            paths = [Path(source.name)]
        elif source.kind == "disk":
            paths = sorted(Path(source.name).rglob("*.arrow"))
        else:
            name = source.name
            if source.kind == "package":
                name = f"{name}=={packages.package_info(name)['version']}"
            identity = f"{name}:{source.config}:{source.split}"
            digest = hashlib.sha256(identity.encode()).hexdigest()
            out.append({"path": name, "bytes": source.bytes or 0, "sha256": digest})
            continue
        for path in paths:
            try:
                size, digest = path.stat().st_size, files.sha256_remembered(path)
            except OSError as error:
                raise DataError(f"{path} cannot be read: {error.strerror}") from None
            out.append({"path": str(path), "bytes": size, "sha256": digest})
    return out
