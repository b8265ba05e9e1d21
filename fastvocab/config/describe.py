"""The keys of a configuration, described by their own docstrings: for ``--help`` and for the JSON schema."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from fastvocab.config.models import Config


def rows(model: type[BaseModel] = Config, prefix: str = "") -> list[tuple[str, Any, str]]:
    """(dotted key, default, help) of every key, in order."""
    out: list[tuple[str, Any, str]] = []
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            out += rows(kind, f"{prefix}{name}.")
        else:
            out.append((prefix + name, field.default, field.description or ""))
    return out


def value(config: Config, key: str) -> Any:
    """The value of a dotted key."""
    found: Any = config
    for part in key.split("."):
        found = getattr(found, part)
    return found


def text(idle: Sequence[str] = ()) -> str:
    """One paragraph a key, as typer's help wants it (blank lines keep paragraphs apart).

    Args:
        idle: keys, or beginnings of keys, that a recipe does not read.
    """
    lines = []
    for key, default, help_text in rows():
        if key.startswith(tuple(idle)):
            continue
        shown = "" if default is None or default == () else f" [{_plain(default)}]"
        lines.append(f"{key}{shown}: {help_text}")
    return "Keys (key=value):\n\n" + "\n\n".join(lines)


def _plain(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return (
        str(value).lower()
        if isinstance(value, bool)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )
