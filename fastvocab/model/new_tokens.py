"""The tokens that a tokenizer gained, as the tokenizer stage lists them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fastvocab.errors import ModelError


@dataclass(frozen=True)
class NewTokens:
    """Tokens of one extension, in id order.

    Attributes:
        ids: new ones; or those of reserved tokens of the base, whose place they took.
        spellings: in the vocabulary.
        base_ids: what the base reads in their place.
        texts: what they decode to; None for a byte fragment.
        inits: how each row starts, where that was said of it: ``clone:TOKEN``, ``description:TEXT``, ``subtokens``.
        replaced: the base's reserved token that each took the place of, None where it has a row of its own.
    """

    ids: range
    spellings: list[str]
    base_ids: list[list[int]]
    texts: list[str | None]
    inits: Sequence[str | None] = ()
    replaced: Sequence[str | None] = ()

    def one(self, place: int) -> NewTokens:
        """The token at ``place`` alone."""
        i = self.ids[place]
        return NewTokens(
            range(i, i + 1), [self.spellings[place]], [self.base_ids[place]], [self.texts[place]]
        )

    @property
    def own(self) -> dict[int, str]:
        """How rows start that were given a way of their own, by place."""
        return {place: init for place, init in enumerate(self.inits) if init}

    @property
    def reuses(self) -> bool:
        """Have they taken the places of reserved tokens, so that no row is added?"""
        return any(self.replaced)

    @classmethod
    def read(cls, tokenizer_folder: Path) -> NewTokens:
        """From ``new_tokens.jsonl`` of the tokenizer stage (ids in order, without a gap).

        There is none in it where tokens were named that the base had already.

        Raises:
            ModelError: not there, or not what that stage writes.
        """
        path = tokenizer_folder / "new_tokens.jsonl"
        if _all_were_there(tokenizer_folder):
            return cls(range(0), [], [], [])
        try:
            rows = [json.loads(line) for line in path.read_text(encoding="utf-8").rstrip("\n").split("\n")]
            ids = [row["id"] for row in rows]
            found = cls(
                range(ids[0], ids[-1] + 1),
                [r["token"] for r in rows],
                [r["base_ids"] for r in rows],
                [r.get("text") for r in rows],
                [r.get("init") for r in rows],
                [r.get("replaces") for r in rows],
            )
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise ModelError(
                f"{path} is no list of new tokens: {type(error).__name__}: {error}",
                rule="one JSON object a line with id, token, base_ids",
                fix="make it with fastvocab tokenizer merge",
            ) from error
        if ids != list(found.ids):
            raise ModelError(f"{path}: the ids of the new tokens do not follow one another")
        if empty := [token for token, pieces in zip(found.spellings, found.base_ids) if not pieces]:
            raise ModelError(
                f"{path}: {len(empty)} tokens have no base_ids, such as {empty[0]!r}",
                rule="a row starts from what the base reads in its place, at least one token",
            )
        return found

    def check(self, before: dict[str, int], after: dict[str, int]) -> None:
        """Refuse a tokenizer that was made for another base: its rows would be laid over live ones.

        Args:
            before, after: vocabularies (token to id) of the base and of the extended tokenizer.

        Raises:
            ModelError: an old id is among the new ones, has another token, or is gone.
        """
        places = {i for i, name in zip(self.ids, self.replaced) if name is not None and before.get(name) == i}
        old, kept = set(before.values()) - places, set(after.values()) - set(self.ids)
        taken, moved = old & set(self.ids), [t for t, i in before.items() if after.get(t, i) != i]
        if taken or moved or old != kept:
            example = f"id {min(taken or old ^ kept)}" if taken or not moved else repr(moved[0])
            raise ModelError(
                f"the tokenizer was made for another base: {len(taken)} of its new ids are the base's own, "
                f"{len(moved)} tokens have other ids, {len(old ^ kept)} ids are in one of the two alone, "
                f"such as {example}",
                rule="an extended tokenizer keeps every id of its base, and its new ids are beyond them",
                fix="merge again with this base: fastvocab tokenizer merge --base BASE ...",
            )


def _all_were_there(folder: Path) -> bool:
    """Was every token that was named one of the base's already?"""
    try:
        named = json.loads((folder / "merge.json").read_text(encoding="utf-8")).get("named")
    except (OSError, ValueError, AttributeError):
        return False
    return (
        bool(named)
        and all(one.get("was_there") for one in named)
        and not (folder / "new_tokens.jsonl").stat().st_size
    )
