"""What a method of starting rows may look at."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from fastvocab.model import text
from fastvocab.model.new_tokens import NewTokens

#: Text of each language that methods may read, at most. In bytes: 6,000 tokens cannot tell 8,000 frequencies apart.
TEXT_BYTES = 4_000_000


@dataclass(frozen=True)
class Task:
    """New rows to be started.

    Attributes:
        new: the new tokens.
        base_tokenizer: the base's own; a method never changes it.
        tokenizer: the extended one.
        seed: of methods that draw; drawn on the CPU, so that machines agree.
        target, original: text of the new and of the original language, in pieces of at most 2 kB.
        calibration_bytes: of text of the new language, and half as much of the original, for `calibration.calibrate`.
        reference: the token whose row ``clone`` takes.
        descriptions: text of a new token -> what it means.
        rows: gives the rows of the new tokens for a matrix (rows, width), where they come with the tokens.
    """

    new: NewTokens
    base_tokenizer: Any
    tokenizer: Any
    seed: int = 0
    target: Sequence[str] = ()
    original: Sequence[str] = ()
    calibration_bytes: int = 40_000
    reference: str = ""
    descriptions: Mapping[str, str] = field(default_factory=dict)
    rows: Callable[[Any, Task], Any] | None = None

    def pieces(self, given: Sequence[str], share: float = 1.0) -> list[list[int]]:
        """Token ids of ``calibration_bytes`` of a text, or of a share of that many, BOS first.

        From all over it: its beginning may be one document, of one author.
        """
        drawn = random.Random(self.seed).sample(given, len(given))
        return list(text.pieces(self.tokenizer, drawn, limit=round(share * self.calibration_bytes)))

    @cached_property
    def old_ids(self) -> list[int]:
        """Ids that the base has tokens for: neither padding nor gaps."""
        return sorted(set(self.base_tokenizer.get_vocab().values()))


#: Sets the new rows of every matrix of a model in place and returns notes for the record; all else stays as it is.
Method = Callable[[Any, Task], dict[str, Any]]
