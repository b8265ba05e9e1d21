"""Rows of token ids that come ready to be trained on, whoever made them: ``input_ids`` and ``labels``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastvocab import console
from fastvocab.errors import DataError
from fastvocab.train.data import IGNORED, Data, pad

Row = dict[str, list[int]]


@dataclass(frozen=True)
class Sequences:
    """Rows for training.

    Attributes:
        rows: each ``{"input_ids", "labels"}`` of equal lengths; labels are those of the ids themselves, `IGNORED` where
            there is no loss.
        heldout: rows of the same kind that are measured on the way.
        origins: where each row comes from, for a person.
    """

    rows: Sequence[Row]
    heldout: Sequence[Row] = ()
    origins: Sequence[str] = ()

    def data(self) -> Data:
        """As the trainer takes them.

        Raises:
            DataError: no row has anything to learn.
        """
        from datasets import Dataset

        kept = [number for number, row in enumerate(self.rows) if _learnt(row)]
        if not kept:
            raise DataError(
                f"none of {len(self.rows)} sequences has a token to learn", fix="give more or longer ones"
            )
        rows = [_masked(self.rows[number]) for number in kept]
        figures: dict[str, Any] = {
            "rows": len(rows),
            "heldout_rows": len(self.heldout),
            "tokens": sum(len(row["input_ids"]) for row in rows),
            "loss_tokens": sum(map(_learnt, rows)),
        }
        console.say(f"  {figures['rows']:,} sequences, {figures['loss_tokens']:,} tokens with a loss")

        def origin(row: int) -> str:
            return self.origins[kept[row]] if self.origins else f"sequence {kept[row] + 1}"

        heldout = [_masked(row) for row in self.heldout if _learnt(row)]
        return Data(
            Dataset.from_list(rows), figures, collate=pad, origin=origin, kind="sequence", heldout=heldout
        )


def _learnt(row: Row) -> int:
    # the first token of a row is predicted by nothing
    return sum(label != IGNORED for label in row["labels"][1:])


def _masked(row: Row) -> Row:
    assert len(row["input_ids"]) == len(row["labels"]), "a label for each token"
    return {**row, "attention_mask": [1] * len(row["input_ids"])}
