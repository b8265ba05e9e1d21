"""How a reply is laid out, ``<think>{reasoning}</think><answer>{output}</answer>``: written from fields, read back.

One text serves both ways. Training rows are written with it, and a reply is well-formed if it can be read with it. It
is kept with the tokenizer (`KEY` in tokenizer_config.json), and where transformers' ``tokenizer.parse_response`` can
read such replies too, so is the ``response_template`` that it needs for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

#: Where tokenizer_config.json has a layout.
KEY = "reply_layout"
_FIELD = re.compile(r"\{([^{}]*)\}")
#: Where the text between two fields is taken apart: after a tag that ends there.
_TAG_END = re.compile(r"(?<=>)(?=\s*\S)")


@dataclass(frozen=True)
class Layout:
    """A layout.

    Attributes:
        text: with a field in braces wherever something of a row goes.

    Raises:
        ValueError: there is no field, a name is no word or comes twice, or two fields have nothing between them.
    """

    text: str

    def __post_init__(self) -> None:
        names = self.fields
        if not names:
            raise ValueError("it has no field in braces, such as {output}")
        if odd := [name for name in names if not name.isidentifier()]:
            raise ValueError(f"{{{odd[0]}}} is no field: a name in braces is expected, such as {{output}}")
        if len(set(names)) < len(names):
            raise ValueError(
                f"{{{next(n for n in names if names.count(n) > 1)}}} is there twice: it could not be read back"
            )
        if any(not between for between in self._literals[1:-1]):
            raise ValueError("two fields with nothing between them: they could not be told apart")

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields, in order."""
        return tuple(_FIELD.findall(self.text))

    @cached_property
    def _literals(self) -> list[str]:
        """Texts around the fields: one more than there are fields."""
        return _FIELD.split(self.text)[::2]

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        parts = [_loose(self._literals[0])]
        for name, after in zip(self.fields, self._literals[1:]):
            # before mere white space a field goes as far as it can: the last line is the next field
            greedy = bool(after) and not after.strip()
            parts += [f"(?P<{name}>.*{'' if greedy else '?'})", _loose(after)]
        return re.compile("".join(parts), re.DOTALL)

    def write(self, fields: Mapping[str, str]) -> str:
        """The reply that says ``fields``."""
        return _FIELD.sub(lambda found: fields[found[1]], self.text)

    def read(self, reply: str) -> dict[str, str] | None:
        """The fields of a reply, without the spaces around them; None where it is not well-formed.

        Well-formed is a reply that is the layout from its first to its last character (white space aside), each field
        with something in it, and no part of the layout in a field.
        """
        found = self._pattern.fullmatch(reply.strip())
        if found is None:
            return None
        fields = {name: value.strip() for name, value in found.groupdict().items()}
        marks = [mark for literal in self._literals for mark in _marks(literal)]
        if any(not value or any(mark in value for mark in marks) for value in fields.values()):
            return None
        return fields

    def without(self, marks: Iterable[str]) -> Layout:
        """The same without certain texts in it; fields that would touch are set apart by a line break."""
        literals = list(self._literals)
        for mark in sorted(marks, key=len, reverse=True):
            literals = [literal.replace(mark, "") for literal in literals]
        between = [literal or "\n" for literal in literals[1:-1]]
        return Layout(_joined(self.fields, [literals[0], *between, literals[-1]]))

    def response_template(self, anchor: str) -> dict[str, Any]:
        """The layout as transformers' ``response_template`` (5.17, ``utils/chat_parsing``).

        Args:
            anchor: what a prompt has before the reply, such as ``<|im_start|>assistant\\n``; not empty.
        """
        opens, closes = [self._literals[0]], []
        for between in self._literals[1:-1]:
            close, begin = _taken_apart(between)
            closes.append(close)
            opens.append(begin)
        closes.append(self._literals[-1])
        fields: dict[str, Any] = {}
        for name, begin, close in zip(self.fields, opens, closes):
            entry = {"open": begin, "close": close, "optional": False}
            fields[name] = {key: value for key, value in entry.items() if value != ""}
        return {"version": 1, "defaults": {"role": "assistant"}, "start_anchor": anchor, "fields": fields}


def _joined(fields: Iterable[str], literals: list[str]) -> str:
    return literals[0] + "".join(f"{{{name}}}{after}" for name, after in zip(fields, literals[1:]))


def _taken_apart(between: str) -> tuple[str, str]:
    """A text between two fields as the end of one and the beginning of the other; neither is empty, if it can be."""
    place = _TAG_END.search(between)
    at = place.start() if place else max(1, len(between) // 2)
    return between[:at], between[at:]


def _loose(literal: str) -> str:
    """A pattern of a text that lets white space around its parts differ: models write line breaks of their own."""
    parts = [re.escape(part) for part in _marks(literal)]
    if not parts:
        return r"\s*\n\s*" if "\n" in literal else r"\s+" if literal else r"\s*"
    return r"\s*" + r"\s*".join(parts) + r"\s*"


def _marks(literal: str) -> list[str]:
    """The parts of a text that are no white space, tags apart from each other."""
    return [part for piece in _TAG_END.split(literal) for part in piece.split()]
