"""Running text of many languages: the message catalogues that scripts/bench_material.py reads from packages."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from fastvocab.errors import DataError

_FILE = Path(__file__).parents[1] / "scripts" / "bench_material.py"


@cache
def _material() -> Any:
    spec = importlib.util.spec_from_file_location("bench_material", _FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def _lines(language: str) -> tuple[str, ...]:
    try:
        return tuple(dict.fromkeys(_material().messages(language)))
    except DataError as error:
        pytest.skip(error.message)


def lines(language: str) -> list[str]:
    """Lines of ``language`` (``hi``, ``ta``, ...), no two alike, always the same and in the same order."""
    return list(_lines(language))
