"""Documents packed into blocks of one length, beforehand: no padding, BOS before and EOS after each document.

Unsloth turns TRL's packing off on a CPU. A document that ends inside a block is followed by the next one, and
attention reaches back across the border: the CPU backend has no mask for it.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from fastvocab import console
from fastvocab.errors import DataError
from fastvocab.model import text


def pack(texts: Iterable[str], tok: Any, *, block: int, out: Path, limit: int | None = None) -> np.ndarray:
    """Tokenize and pack into ``out`` (.npy), 256 documents in memory at a time.

    Args:
        block: tokens in a block.
        limit: stop after so many blocks.

    Returns:
        (blocks, block) int32, mapped from the file. The last, unfilled block is left out.
    """
    begin, end = text.bos_id(tok), tok.eos_token_id
    raw = out.with_suffix(".raw")
    count, rest = 0, np.zeros(0, np.int32)
    with raw.open("wb") as file:
        for batch in _batches(texts, 256):
            ids: list[int] = rest.tolist()
            for document in text.encode(tok, batch):
                ids.append(begin)
                ids += document
                if end is not None and end != begin:
                    ids.append(end)
            whole = len(ids) // block
            if limit is not None:
                whole = min(whole, limit - count)
            np.asarray(ids[: whole * block], np.int32).tofile(file)
            count += whole
            rest = np.asarray(ids[whole * block :], np.int32)
            if count == limit:
                break
    # the header last: a .npy that is there is whole
    array = np.memmap(raw, np.int32, "r", shape=(count, block)) if count else np.zeros((0, block), np.int32)
    np.save(out, array)
    raw.unlink()
    return np.load(out, mmap_mode="r")


def mix(
    target: np.ndarray, replay: np.ndarray | None, share: float, *, needed: int | None
) -> tuple[Any, dict[str, Any]]:
    """A `datasets.Dataset` of ``input_ids``, ``labels``, ``attention_mask`` with ``share`` of replay blocks.

    It is held in memory, 8 bytes a token: 0.8 GB for 100 million tokens. Not made by `Dataset.from_generator`: that
    leaves a file in the cache of `datasets`, neither flushed nor checked, which a later run would train on unseen.

    Args:
        target, replay: (blocks, block).
        share: of replay among all blocks; shorter replay text is repeated.
        needed: blocks that the whole training will read, if known.

    Returns:
        (dataset, figures). Which block comes when is the trainer's seeded sampler's affair.
    """
    import pyarrow as pa
    from datasets import Dataset

    count = len(target) if needed is None else min(len(target), max(1, round(needed * (1 - share))))
    extra = round(count * share / (1 - share)) if replay is not None and len(replay) else 0
    block = target.shape[1]
    parts = [np.asarray(target[:count])]
    if extra and replay is not None:
        parts.append(replay[np.arange(extra) % len(replay)])
    ids = np.concatenate(parts)

    def column(values: np.ndarray) -> Any:
        return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), block)

    blocks = column(ids)  # one buffer for both
    table = pa.table({"input_ids": blocks, "labels": blocks, "attention_mask": column(np.ones_like(ids))})
    # a name of its own: without one `datasets` pickles the table to hash it, eight times its size in memory
    dataset = Dataset(table, fingerprint=uuid.uuid4().hex[:16])
    return dataset, {
        "blocks": count,
        "replay_blocks": extra,
        "replay_repeats": extra / len(replay) if extra and replay is not None else 0.0,
        "block": block,
    }


def prepare(
    corpus: Path, tok: Any, *, block: int, replay_share: float, needed: int | None, work: Path
) -> tuple[Any, dict[str, Any]]:
    """The training blocks of a corpus folder (``train.jsonl``, ``replay.jsonl``).

    Raises:
        DataError: if the corpus does not fill one block.
    """
    work.mkdir(parents=True, exist_ok=True)
    target = pack(
        text.documents(corpus / "train.jsonl"), tok, block=block, out=work / "target.npy", limit=needed
    )
    if not len(target):
        raise DataError(
            f"the training text does not fill one block of {block} tokens",
            fix="give more text, or a shorter pretrain.block",
        )
    replay = None
    path = corpus / "replay.jsonl"
    if replay_share and (not path.is_file() or not path.stat().st_size):
        console.warn(
            "no replay text (corpus.replay): expect the model to lose some of what it knew; share set to 0"
        )
        replay_share = 0.0
    elif replay_share:
        wanted = None if needed is None else max(1, round(needed * replay_share))
        replay = pack(text.documents(path), tok, block=block, out=work / "replay.npy", limit=wanted)
    dataset, figures = mix(target, replay, replay_share, needed=needed)
    for name in ("target.npy", "replay.npy"):
        (work / name).unlink(missing_ok=True)
    return dataset, figures


def _batches(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    iterator = iter(texts)
    while batch := list(islice(iterator, size)):
        yield batch
