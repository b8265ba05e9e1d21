"""Histories as rows of tokens that a model is trained on, each as long as a block allows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fastvocab.errors import ConfigError
from fastvocab.items import interactions
from fastvocab.items.mapping import MAPPING, ItemTokens
from fastvocab.model import text
from fastvocab.train.data import IGNORED
from fastvocab.train.sequences import Row, Sequences


def sequences(corpus: Path, tokenizer: Path, checkpoint_folder: Path, block: int) -> Sequences:
    """Training rows of all histories, and the validation items as held-out ones.

    A history is cut into pieces that fill a block, counted from its end; each begins with the token that begins a
    document, and every item in it is predicted from those before. A held-out row has a loss on the validation item
    alone.

    Raises:
        ConfigError: a block has no room for two items.
    """
    data, mapping = interactions.read(corpus), ItemTokens.read(tokenizer / MAPPING)
    tok = text.tokenizer(checkpoint_folder)
    ids, begin = mapping.ids(tok), text.bos_id(tok)
    most = room(block, mapping.levels)
    rows: list[Row] = []
    origins: list[str] = []
    for user, history in zip(data.users, data.histories):
        for piece in _pieces(history, most):
            row = [begin, *ids[piece].flatten().tolist()]
            rows.append({"input_ids": row, "labels": list(row)})
            origins.append(f"interactions of user {user}")
    heldout: list[Row] = []
    for history, item in zip(data.histories, data.valid):
        row = [begin, *ids[[*history[-(most - 1) :], item]].flatten().tolist()]
        labels = [IGNORED] * (len(row) - mapping.levels) + row[-mapping.levels :]
        heldout.append({"input_ids": row, "labels": labels})
    return Sequences(rows, heldout, origins)


def room(block: int, levels: int) -> int:
    """Items in a block after its first token.

    Raises:
        ConfigError: fewer than two.
    """
    most = (block - 1) // levels
    if most < 2:
        raise ConfigError(
            f"pretrain.block is {block}, and an item is {levels} tokens",
            rule="a block has room for two items at least",
            fix=f"pretrain.block={1 + 2 * levels} or more",
        )
    return most


def _pieces(history: list[int], most: int) -> Iterator[list[int]]:
    first = len(history) % most
    starts_at = [0] * bool(first) + list(range(first, len(history), most))
    for start, stop in zip(starts_at, [*starts_at[1:], len(history)]):
        yield history[start:stop]
