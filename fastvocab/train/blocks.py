"""Documents packed into blocks of one length, beforehand: no padding, BOS before and EOS after each document.

Unsloth turns TRL's packing off on a CPU. A document that ends inside a block is followed by the next one. On a CPU
attention stays within a document: blocks come without an attention mask and with positions that begin anew at each
document, from which transformers makes a mask of causal blocks (``find_packed_sequence_indices``). The mask costs
about 5% of a step's CPU time (SmolLM2-135M, 2 x 512 tokens: 0.38 s of 7 in the attention kernels).

On a GPU attention reaches back across the border. Unsloth 2026.10.9 takes borders there as ``packed_seq_lengths`` of
a batch that is flattened to one row, and as positions of a batch of one row alone (``LlamaModel_fast_forward``);
positions of several rows would be used for the rotary embedding and not for the mask (tests/gpu/test_gpu_classes.py).
One row it is not made here: without xformers and flash attention its mask is as long and as wide as the whole batch,
and what those two make of it nobody has measured (scripts/gpu_check.py does). The figure ``documents_apart`` says
which it was.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from fastvocab import console
from fastvocab.errors import DataError
from fastvocab.model import backend, text
from fastvocab.model.counts import Counts, order_for
from fastvocab.train.data import Data


@dataclass(frozen=True)
class Packed:
    """Blocks of one file.

    Attributes:
        ids: (blocks, block) int32.
        lines: (blocks, 2) first and last line of the file that a block has text of, from 1.
        bytes: (blocks,) of text; a document that lies in several blocks counts in each by its tokens there.
    """

    ids: np.ndarray
    lines: np.ndarray
    bytes: np.ndarray


class _Ledger:
    """Which documents lie in which block, as packing goes along."""

    def __init__(self, block: int) -> None:
        self.block, self.position, self.line = block, 0, 0
        self.lines: list[list[int]] = []
        self.bytes: list[int] = []

    def add(self, tokens: int, size: int) -> None:
        """The next document, of ``tokens`` with its marks and ``size`` bytes."""
        self.line += 1
        start, stop = self.position, self.position + tokens
        for block in range(start // self.block, -(-stop // self.block)):
            if block == len(self.lines):
                self.lines.append([self.line, self.line])
                self.bytes.append(0)
            first, last = max(start, block * self.block), min(stop, (block + 1) * self.block)
            self.lines[block][1] = self.line
            self.bytes[block] += size * (last - start) // tokens - size * (first - start) // tokens
        self.position = stop


def pack(texts: Iterable[str], tok: Any, *, block: int, out: Path, limit: int | None = None) -> Packed:
    """Tokenize and pack into ``out`` (.npy), 256 documents in memory at a time.

    Args:
        block: tokens in a block.
        limit: stop after so many blocks.

    Returns:
        The blocks, ids mapped from the file. The last, unfilled block is left out.
    """
    begin, end = text.bos_id(tok), tok.eos_token_id
    raw = out.with_suffix(".raw")
    count, rest = 0, np.zeros(0, np.int32)
    ledger = _Ledger(block)
    with raw.open("wb") as file:
        for batch in _batches(texts, 256):
            ids: list[int] = rest.tolist()
            for document, written in zip(text.encode(tok, batch), batch):
                before = len(ids)
                ids.append(begin)
                ids += document
                if end is not None and end != begin:
                    ids.append(end)
                ledger.add(len(ids) - before, len(written.encode("utf-8")))
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
    lines = np.asarray(ledger.lines[:count], np.int64).reshape(count, 2)
    return Packed(np.load(out, mmap_mode="r"), lines, np.asarray(ledger.bytes[:count], np.int64))


def mix(
    target: Packed,
    replay: Packed | None,
    share: float,
    *,
    needed: int | None,
    collate: Callable[[list[dict[str, Any]]], dict[str, Any]],
) -> Data:
    """The blocks of both kinds, target first, with ``share`` of replay.

    They are held in memory, 4 bytes a token: 0.4 GB for 100 million tokens. Not made by `Dataset.from_generator`:
    that leaves a file in the cache of `datasets`, neither flushed nor checked, which a later run would train on unseen.

    Args:
        share: of replay among all blocks; shorter replay text is repeated.
        needed: blocks that the whole training will read, if known.

    Returns:
        `Data`; the figure ``sha256`` is that of all ids in order (int32, little endian). Which block comes when is
        the trainer's seeded sampler's affair (`fastvocab.train.data.Order`).
    """
    import pyarrow as pa
    from datasets import Dataset

    length = len(target.ids)
    count = length if needed is None else min(length, max(1, round(needed * (1 - share))))
    extra = round(count * share / (1 - share)) if replay is not None and len(replay.ids) else 0
    block = target.ids.shape[1]
    parts, lines, sizes = [np.asarray(target.ids[:count])], [target.lines[:count]], [target.bytes[:count]]
    if extra and replay is not None:
        again = np.arange(extra) % len(replay.ids)
        parts.append(replay.ids[again])
        lines.append(replay.lines[again])
        sizes.append(np.zeros(extra, np.int64))  # not of the new language
    ids, places = np.concatenate(parts), np.concatenate(lines)
    column = pa.FixedSizeListArray.from_arrays(pa.array(ids.reshape(-1)), block)
    table = pa.table({"input_ids": column, "new_language": pa.array(np.arange(len(ids)) < count)})

    def origin(row: int) -> str:
        first, last = places[row]
        name = "train.jsonl" if row < count else "replay.jsonl"
        return f"{name} line {first}" if first == last else f"{name} lines {first} to {last}"

    figures = {
        "blocks": count,
        "replay_blocks": extra,
        "replay_repeats": extra / len(replay.ids) if extra and replay is not None else 0.0,
        "block": block,
        "bytes": int(target.bytes[:count].sum()),
        "sha256": hashlib.sha256(ids.astype("<i4", copy=False)).hexdigest(),
    }
    # a name of its own: without one `datasets` pickles the table to hash it, eight times its size in memory
    dataset = Dataset(table, fingerprint=uuid.uuid4().hex[:16])
    return Data(dataset, figures, collate, origin, "block", text_bytes=np.concatenate(sizes))


def positions(ids: np.ndarray, begin: int) -> np.ndarray:
    """Positions that begin anew at each ``begin``, and at the start of a block: (batch, block) int64."""
    places = np.broadcast_to(np.arange(ids.shape[1]), ids.shape)
    starts = np.where(ids == begin, places, 0)
    return places - np.maximum.accumulate(starts, axis=1)


def collate_apart(begin: int) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
    """Makes batches of blocks whose documents do not see each other (on a CPU; see the module)."""

    def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
        import torch

        ids = np.asarray([row["input_ids"] for row in rows], np.int64)
        given = torch.from_numpy(ids)
        return {
            "input_ids": given,
            "labels": given.clone(),
            "position_ids": torch.from_numpy(positions(ids, begin)),
            "new_language": torch.tensor([row["new_language"] for row in rows]),
        }

    return collate


def collate_whole(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Batches of blocks as plain rows of tokens."""
    import torch

    given = torch.tensor([row["input_ids"] for row in rows])
    return {
        "input_ids": given,
        "labels": given.clone(),
        "attention_mask": torch.ones_like(given),
        "new_language": torch.tensor([row["new_language"] for row in rows]),
    }


def prepare(
    corpus: Path,
    tok: Any,
    *,
    block: int,
    replay_share: float,
    needed: int | None,
    work: Path,
    counted: bool = False,
) -> Data:
    """The training blocks of a corpus folder (``train.jsonl``, ``replay.jsonl``).

    Args:
        counted: also count what follows what, in ``train.jsonl`` (its first `fastvocab.model.counts.MOST` tokens).

    Raises:
        DataError: if the corpus does not fill one block.
    """
    work.mkdir(parents=True, exist_ok=True)
    target = pack(
        text.documents(corpus / "train.jsonl"), tok, block=block, out=work / "target.npy", limit=needed
    )
    if not len(target.ids):
        raise DataError(
            f"the training text does not fill one block of {block} tokens",
            fix="give more text, or a shorter pretrain.block",
        )
    replay = None
    path = corpus / "replay.jsonl"
    if replay_share and (not path.is_file() or not path.stat().st_size):
        console.warn(
            "no replay text (corpus.replay): nothing holds what the model knew, and nothing measures how much of it "
            "goes. Usual is a share of 0.05 to 0.3 (arXiv 2403.08763); without one, pretrain.embeddings=new_rows and "
            "low learning rates lose least"
        )
        replay_share = 0.0
    elif replay_share:
        wanted = None if needed is None else max(1, round(needed * replay_share))
        replay = pack(text.documents(path), tok, block=block, out=work / "replay.npy", limit=wanted)
        if not len(replay.ids):
            console.warn(
                f"corpus.replay: all of it does not fill one block of {block} tokens, so none is trained on: give more "
                "text, or a shorter pretrain.block"
            )
    apart = backend.device() == "cpu"
    collate = collate_apart(text.bos_id(tok)) if apart else collate_whole
    data = mix(target, replay, replay_share, needed=needed, collate=collate)
    for name in ("target.npy", "replay.npy"):
        (work / name).unlink(missing_ok=True)
    data.figures["documents_apart"] = apart
    if not counted:
        return data
    began = time.monotonic()
    order = order_for(float(target.bytes.sum()) / target.ids.size)
    counts = Counts(_documents(corpus / "train.jsonl", tok), text.rows(tok), order=order)
    data.figures["counted_order"] = order
    data.figures["counted_tokens"] = counts.tokens
    data.figures["seconds_counting"] = round(time.monotonic() - began, 2)
    return replace(data, counts=counts, begin=text.bos_id(tok))


def _documents(path: Path, tok: Any) -> Iterator[list[int]]:
    """Token ids of each document, as they are packed."""
    begin, end = text.bos_id(tok), tok.eos_token_id
    close = [end] if end is not None and end != begin else []
    for batch in _batches(text.documents(path), 256):
        for document in text.encode(tok, batch):
            yield [begin, *document, *close]


def _batches(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    iterator = iter(texts)
    while batch := list(islice(iterator, size)):
        yield batch
