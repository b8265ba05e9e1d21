"""Rows as ``unsloth_zoo.tokenizer_utils.add_new_tokens`` itself starts them (version 2026.10).

It resizes a model and sets the new rows in one call. `extend.grow` makes that call for every method, because it also
does the bookkeeping; for these two its rows are left alone.
"""

from __future__ import annotations

from typing import Any, Literal

from fastvocab.model.initialise.task import Task
from fastvocab.model.new_tokens import NewTokens

Way = Literal["mean", "interpolation"]

#: By method, the argument ``method`` of the call.
WAYS: dict[str, Way] = {"unsloth_mean": "mean", "unsloth_interpolation": "interpolation"}


def unsloth_mean(model: Any, task: Task) -> dict[str, Any]:
    """The mean of all rows that are not 0, padding included, for every new token."""
    return {}


def unsloth_interpolation(model: Any, task: Task) -> dict[str, Any]:
    """Half that mean, half the mean of the rows of the tokens that the name of the new token is read as.

    ``add_new_tokens`` reads the names that it is given as text. It is given the tokens' texts, as its users do: the
    spellings of a byte-level vocabulary (``ÐŀÐ¾Ð²Ð°`` for ``мова``) would be read as Latin letters.

    Returns:
        ``spelled``: how many tokens went by their spelling, having no text of their own (fragments of characters).
    """
    given = names(task.new, task.base_tokenizer.get_vocab())
    return {"spelled": sum(name == spelling for name, spelling in zip(given, task.new.spellings))}


def names(new: NewTokens, vocabulary: dict[str, int]) -> list[str]:
    """What to call each new token: its text, or its spelling where there is none or it is taken.

    A name that is in the vocabulary or comes twice would be left out by ``add_new_tokens``, and all later ids move.
    """
    taken = set(vocabulary) | set(new.spellings)
    out = []
    for text, spelling in zip(new.texts, new.spellings):
        out.append(text if text and text not in taken else spelling)
        taken.add(out[-1])
    return out
