"""What a proof is, and what the proofs share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fastvocab.tokenizer import byte_level, sentencepiece_base
from fastvocab.tokenizer.base import Base, Kind
from fastvocab.tokenizer.measure import encode_all

#: Counterexamples kept for each proof.
EXAMPLES = 5


@dataclass
class Proof:
    """One proof: its name, whether it holds, and figures with the first counterexamples."""

    name: str
    passed: bool
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Texts:
    """What the proofs are run on.

    Attributes:
        replay: lines of the base's own languages.
        heldout: lines of the target language.
    """

    replay: list[str] = field(default_factory=list)
    heldout: list[str] = field(default_factory=list)


def new_ids(base: Base, extended: Base) -> dict[str, int]:
    """Spelling to id of the tokens that ``extended`` has and ``base`` has not, in id order."""
    known = base.vocab.keys() | base.added.keys()
    added = {token: i for token, i in (extended.vocab | extended.added).items() if token not in known}
    return dict(sorted(added.items(), key=lambda item: item[1]))


def described(base: Base, tokens: list[str]) -> list[tuple[str | None, list[int]]]:
    """Text (None for a byte fragment) and base ids of each spelling."""
    module = byte_level if base.kind is Kind.BYTE_LEVEL else sentencepiece_base
    return module.describe(base, tokens)


def differences(base: Base, extended: Base, lines: list[str]) -> list[str]:
    """The lines that the two tokenize differently."""
    before, after = encode_all(base.tokenizer, lines), encode_all(extended.tokenizer, lines)
    return [line for line, a, b in zip(lines, before, after) if a != b]
