"""Sections into one HTML file that needs no network: the frame, the style sheets, and what no page may hold.

Corpus text and samples are not to be trusted: the templates escape everything, and only our own SVG and style
sheets are exempt.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

from fastvocab import console
from fastvocab.numbers import count, duration, size

#: What HTML has no place for, and lone surrogates, which UTF-8 has none for.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff\ud800-\udfff]")
_STYLES = ("style.css", "sections.css")

_GENERATOR = "fastvocab report ({})"
_HEAD = 4096

#: A template below ``templates/`` and what it shows as ``part``.
Section = tuple[str, Mapping[str, Any]]


def html(title: str, sections: Sequence[Section], *, kind: str = "run") -> str:
    """A whole page.

    Args:
        title: of the window.
        sections: in order.
        kind: what it is about, by which `is_ours` knows it again.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("fastvocab.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(count=count, size=size, duration=duration)
    folder = resources("fastvocab.report")
    style = "\n".join(folder.joinpath(name).read_text(encoding="utf-8").strip() for name in _STYLES)
    text = environment.get_template("frame.jinja").render(
        title=title, generator=_GENERATOR.format(kind), style=Markup(style), sections=list(sections)
    )
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", console.hide_secrets(text))


def is_ours(path: Path, kind: str) -> bool:
    """Is a file a page of this kind that we wrote?"""
    with path.open("rb") as file:
        head = file.read(_HEAD).decode("utf-8", "replace")
    return f'<meta name="generator" content="{_GENERATOR.format(kind)}">' in head
