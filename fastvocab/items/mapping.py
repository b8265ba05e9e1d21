"""``item_tokens.json``: which tokens an item is, and which item tokens are."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastvocab import files
from fastvocab.corpus.items import names
from fastvocab.errors import CheckpointError, ModelError

SCHEMA = 1
#: The file's name, in the folder of the tokenizer stage and beside an exported model.
MAPPING = "item_tokens.json"
_LETTERS = string.ascii_lowercase


@dataclass(frozen=True, eq=False)
class ItemTokens:
    """Items and their tokens.

    Attributes:
        items: ids in the order of the catalogue; their places are row numbers.
        codes: (items, D) int64 from 0 on, all rows different.

    Raises:
        ModelError: more levels than letters.
    """

    items: tuple[str, ...]
    codes: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        assert self.codes.ndim == 2 and len(self.codes) == len(self.items) > 0, "codes for each item"
        if self.levels > len(_LETTERS):
            raise ModelError(
                f"items of {self.levels} tokens",
                rule=f"a level is a letter: {len(_LETTERS)} at most",
                fix="take fewer levels with larger codebooks",
            )
        assert self.codes.min() >= 0 and len(np.unique(self.codes, axis=0)) == len(self.items)
        assert len(set(self.items)) == len(self.items)

    @property
    def levels(self) -> int:
        """D, tokens of an item."""
        return int(self.codes.shape[1])

    @staticmethod
    def spell(level: int, code: int) -> str:
        """Text of a token: ``<a_12>`` is code 12 of the first level."""
        return f"<{_LETTERS[level]}_{code}>"

    def tokens(self) -> list[str]:
        """All tokens in use, each once, by level and then code."""
        return [self.spell(level, code) for level in range(self.levels) for code in self.used(level)]

    def used(self, level: int) -> list[int]:
        """Codes of a level that items have, in ascending order."""
        return np.unique(self.codes[:, level]).tolist()

    def of_item(self, item: str) -> list[str]:
        """The D tokens of an item.

        Raises:
            KeyError: it is not in the catalogue.
        """
        return [self.spell(level, code) for level, code in enumerate(self.codes[self._rows[item]].tolist())]

    def item_of(self, tokens: Sequence[str]) -> str:
        """The item that tokens are.

        Raises:
            KeyError: no item is these.
        """
        return self._spelt["".join(tokens)]

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {item: row for row, item in enumerate(self.items)}

    @cached_property
    def _spelt(self) -> dict[str, str]:
        return {"".join(self.of_item(item)): item for item in self.items}

    def ids(self, vocabulary: Any) -> npt.NDArray[np.int64]:
        """Token ids of each item.

        Args:
            vocabulary: a tokenizer, or ``{token: id}``.

        Returns:
            (items, D).

        Raises:
            ModelError: it lacks some of the tokens.
        """
        known: Mapping[str, int] = vocabulary if isinstance(vocabulary, Mapping) else vocabulary.get_vocab()
        if lacking := [token for token in self.tokens() if token not in known]:
            raise ModelError(
                f"the tokenizer lacks {len(lacking):,} tokens of items: {names(lacking, 5)}",
                rule="tokenizer and item_tokens.json come from one run",
                fix="take both from the same folder",
            )
        out = np.empty_like(self.codes)
        for level in range(self.levels):
            used, place = np.unique(self.codes[:, level], return_inverse=True)
            own = np.array([known[self.spell(level, code)] for code in used.tolist()], np.int64)
            out[:, level] = own[place.reshape(-1)]
        return out

    def write(self, path: Path) -> None:
        """Write the file; readable without this package: both directions are in it."""
        items = {item: self.of_item(item) for item in self.items}
        files.write_json(
            path, {"schema": SCHEMA, "levels": self.levels, "items": items, "codes": self._spelt}
        )

    @classmethod
    def read(cls, path: Path) -> ItemTokens:
        """What `write` wrote.

        Raises:
            ModelError: missing, damaged, of another schema, or at odds with itself.
        """
        try:
            found = files.read_json(path)
        except CheckpointError as error:
            raise ModelError(error.message, fix="take the folder from its run again") from None
        if isinstance(found, dict) and found.get("schema") not in (None, SCHEMA):
            raise ModelError(
                f"{path} has schema {found['schema']!r}",
                rule=f"this version reads {SCHEMA}",
                fix="update fastvocab",
            )
        if faults := _faults(found):
            listed = faults[0] if len(faults) == 1 else "\n  ".join(("", *faults))
            raise ModelError(
                f"{path} is damaged: {listed}",
                rule="an item is 'levels' tokens, no two items the same, as 'items' and 'codes' both say",
                fix="take the folder from its run again",
            )
        codes = [
            [_parsed(token, level) for level, token in enumerate(own)] for own in found["items"].values()
        ]
        return cls(tuple(found["items"]), np.array(codes, np.int64))


def _parsed(token: Any, level: int) -> int | None:
    """The code of a token of a level, or None: exactly as `ItemTokens.spell` has it."""
    if not isinstance(token, str):
        return None
    digits = token[3:-1]
    if not (digits.isascii() and digits.isdigit() and len(digits) < 19):
        return None
    return int(digits) if token == ItemTokens.spell(level, int(digits)) else None


def _faults(found: Any) -> list[str]:
    """What is wrong with the content of a file."""
    if not isinstance(found, dict):
        return ["it is no object"]
    levels, items, codes = found.get("levels"), found.get("items"), found.get("codes")
    if type(levels) is not int or not 0 < levels <= len(_LETTERS):
        return [f"'levels' is {levels!r}"]
    if not isinstance(items, dict) or not items or not isinstance(codes, dict):
        return ["'items' or 'codes' is no object, or empty"]
    faults, owners = [], dict[str, list[str]]()
    odd = [
        item
        for item, own in items.items()
        if not isinstance(own, list)
        or len(own) != levels
        or any(_parsed(token, level) is None for level, token in enumerate(own))
    ]
    if odd:
        faults.append(f"{len(odd):,} items are not {levels} tokens in the order of levels: {names(odd, 5)}")
    for item, own in items.items():
        if isinstance(own, list):
            owners.setdefault("".join(map(str, own)), []).append(item)
    if twins := [names(own, 3) for own in owners.values() if len(own) > 1]:
        faults.append(f"items with the same tokens: {'; '.join(twins[:3])}")
    apart = [spelt for spelt, own in owners.items() if len(own) == 1 and codes.get(spelt) != own[0]] + [
        spelt for spelt in codes if spelt not in owners
    ]
    if apart:
        faults.append(f"'items' and 'codes' differ in {len(apart):,} places: {names(apart, 3)}")
    return faults
