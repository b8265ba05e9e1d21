"""Recommendations from a finished run, for a history of items."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from fastvocab.errors import CheckpointError, ConfigError, DataError
from fastvocab.items import interactions
from fastvocab.items.decoding import recommend
from fastvocab.items.mapping import MAPPING, ItemTokens
from fastvocab.items.sequences import room
from fastvocab.items.trie import Trie
from fastvocab.model import checkpoint, text
from fastvocab.run import last_checkpoint, read_records


def next_items(
    run: Path,
    history: Sequence[str],
    *,
    count: int = 10,
    beams: int | None = None,
    bar_seen: bool = True,
    base: str | None = None,
) -> list[dict[str, Any]]:
    """What the model of a run recommends after a history.

    Args:
        run: folder of a run of the recipe item_tokens.
        history: ids of items, the newest last.
        beams: width of the search; None for twice ``count``, or all items where these are fewer.
        bar_seen: never what is in the history.
        base: where the base model lies now, if not where the run has it.

    Returns:
        ``{"item", "text", "score"}`` each, best first; the score is the log-probability of its tokens, in nats.

    Raises:
        CheckpointError: no such run.
        DataError: an item that is not in the catalogue, or no history.
    """
    records = read_records(run)
    if not {"corpus", "tokenizer"} <= records.keys() or not (records["tokenizer"].folder / MAPPING).is_file():
        raise CheckpointError(
            f"{run} is no run of items: there is no {MAPPING}", fix="use the recipe item_tokens"
        )
    mapping = ItemTokens.read(records["tokenizer"].folder / MAPPING)
    data = interactions.read(records["corpus"].folder)
    rows = {item: row for row, item in enumerate(mapping.items)}
    if unknown := [item for item in history if item not in rows]:
        near = get_close_matches(unknown[0], mapping.items, 3, 0.6)
        raise DataError(
            f"{', '.join(unknown[:5])}: no such item among {len(mapping.items):,}",
            fix=f"there is: {', '.join(near)}"
            if near
            else f"an item is named by its id, such as {mapping.items[0]}",
        )
    if not history:
        raise DataError("an empty history", fix="name the items that the user took, the newest last")
    if beams is not None and beams < count:
        raise ConfigError(
            f"{beams} beams for {count} items",
            rule="a beam search gives no more items than it has beams",
            fix=f"--beams {count} or more",
        )
    model, tok = checkpoint.load(last_checkpoint(run), base=base)
    ids, begin = mapping.ids(tok), text.bos_id(tok)
    seen = [rows[item] for item in history]
    block = (records["pretrain"].data["config"] if "pretrain" in records else {}).get("block", 256)
    prompt = [begin, *ids[seen[-(room(block, mapping.levels) - 1) :]].flatten().tolist()]
    found = recommend(
        model, [prompt], Trie.build(ids), count=count,
        num_beams=max(count, min(beams or 2 * count, len(mapping.items))),
        seen=[set(seen)] if bar_seen else None,
        pad_id=tok.pad_token_id if tok.pad_token_id is not None else begin,
    )[0]  # fmt: skip
    return [{"item": mapping.items[o.row], "text": data.texts[o.row], "score": o.score} for o in found]
