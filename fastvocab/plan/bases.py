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
    return _found(
        config.model.base, lambda name: reference.resolve(name, fetch=fetch), absent_is_none=not fetch
    )


def find_chat(config: Config, *, fetch: bool) -> Base | None:
    """The model of ``instruct.chat_vector``; None where none is named, or as in `find_base`."""
    name, key = config.instruct.chat_vector, "instruct.chat_vector"
    if name is None:
        return None
    return _found(name, lambda name: reference.resolve(name, fetch=fetch), absent_is_none=not fetch, key=key)


def glance(config: Config) -> Base | None:
    """The base model as its config.json tells of it (`reference.glance`); None if nothing of it is here."""
    return _found(config.model.base, reference.glance, absent_is_none=True)


def _found(
    name: str, find: Callable[[str], Base], *, absent_is_none: bool, key: str = "model.base"
) -> Base | None:
    _check_mistyped(name, key)
    try:
        return find(name)
    except ModelError as error:
        if absent_is_none and ("not built yet" in str(error) or "Hub" in str(error)):
            return None
        message, fix = (text and text.replace("model.base", key) for text in (error.message, error.fix))
        raise ModelError(message or "", rule=error.rule, fix=fix) from error


def _check_mistyped(name: str, key: str) -> None:
    """``runs/x`` looks like a name on the Hub. Where there is a folder ``runs``, it is none."""
    path = Path(name)
    if name.startswith((".", "/", "~", "package:")) or name.count("/") != 1 or "@" in name or path.exists():
        return
    if path.parent.is_dir():
        near = get_close_matches(path.name, [p.name for p in path.parent.iterdir() if p.is_dir()], 1)
        hint = f"did you mean {path.parent / near[0]}?" if near else "check the path"
        raise ModelError(
            f"{key}: there is no {path.name} in the folder {path.parent}",
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
