"""The base model that a plan is about, whether or not it could be loaded here."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from fastvocab.config import Config
from fastvocab.errors import FastvocabError, ModelError
from fastvocab.model import reference
from fastvocab.model.reference import Base


def find_base(config: Config, *, fetch: bool) -> Base | None:
    """The base model; None if it is not on this machine and must not be fetched (a plan of a run that is there)."""
    return _found(config, lambda name: reference.resolve(name, fetch=fetch), absent_is_none=not fetch)


def glance(config: Config) -> Base | None:
    """The base model as its config.json tells of it (`reference.glance`); None if nothing of it is here."""
    return _found(config, reference.glance, absent_is_none=True)


def _found(config: Config, find: Callable[[str], Base], *, absent_is_none: bool) -> Base | None:
    _check_mistyped(config.model.base)
    try:
        return find(config.model.base)
    except ModelError as error:
        if not absent_is_none or not ("not built yet" in str(error) or "Hub" in str(error)):
            raise
        return None


def _check_mistyped(name: str) -> None:
    """``runs/x`` looks like a name on the Hub. Where there is a folder ``runs``, it is none."""
    path = Path(name)
    if name.startswith((".", "/", "~", "package:")) or name.count("/") != 1 or "@" in name or path.exists():
        return
    if path.parent.is_dir():
        near = get_close_matches(path.name, [p.name for p in path.parent.iterdir() if p.is_dir()], 1)
        hint = f"did you mean {path.parent / near[0]}?" if near else "check the path"
        raise ModelError(
            f"model.base: there is no {path.name} in the folder {path.parent}",
            fix=f"{hint} (for a model of that name on the Hub: {name}@main)",
        )


def place_of_base(wanted: dict[str, Any], base: str | None = None) -> Path | None:
    """Where the base of a checkpoint lies on this machine, without fetching anything; None if it is not here.

    Args:
        wanted: ``base`` of its manifest.
        base: where it lies now. It is checked, and remembered for every later command.

    Raises:
        FastvocabError: it is not in ``base``.
    """
    if base is not None:
        return reference.recorded(wanted, base=base).folder
    with suppress(FastvocabError):
        return reference.recorded(wanted, fetch=False).folder
    return None
