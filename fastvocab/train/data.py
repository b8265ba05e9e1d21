"""What a stage trains on, and in which order it is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from fastvocab.model.counts import Counts, Mixture, contexts

#: Label of a position without loss.
IGNORED = -100


@dataclass(frozen=True)
class Data:
    """Rows to train on.

    Attributes:
        dataset: a `datasets.Dataset` of ``input_ids`` and what else ``collate`` reads.
        figures: for the record.
        collate: rows of a batch -> tensors.
        origin: number of a row -> where it comes from, for a person (file and lines).
        kind: what a row is called: block, conversation.
        text_bytes: (rows,) bytes of new-language text in each row; None where they are not counted.
        counts: of the new language's text, for the targets of rows whose ``new_language`` is true.
        begin: id that each document begins with.
        heldout: rows of the same kind that are measured on the way (`fastvocab.train.replies`).
    """

    dataset: Any
    figures: dict[str, Any]
    collate: Callable[[list[dict[str, Any]]], dict[str, Any]]
    origin: Callable[[int], str]
    kind: str
    text_bytes: np.ndarray | None = None
    counts: Counts | None = None
    begin: int = 0
    heldout: Sequence[dict[str, list[int]]] = ()

    def targets(self, ids: Any, new_language: Any, share: float) -> Mixture:
        """What a batch of blocks is trained towards.

        Args:
            ids: (batch, length).
            new_language: (batch,) bool; replay has its own next tokens alone as targets.
            share: of the counts in the others' targets.
        """
        assert self.counts is not None, "targets are of data that has counts"
        ids = ids.cpu()
        shares = share * new_language.cpu().float()[:, None].repeat(1, ids.shape[1] - 1)
        shares[ids[:, 1:] == self.begin] = 0.0  # that a document follows is nothing that was counted
        return Mixture(self.counts, contexts(ids, self.begin, self.counts.order), shares.flatten())


@dataclass(frozen=True)
class Order:
    """Which rows each optimizer step reads, the same for any number of processes.

    Epoch e (from 0) is the permutation that torch draws from seed + e, as accelerate's ``SeedableRandomSampler`` has
    it. An epoch's last batch, and its last step, may be short.

    Attributes:
        rows: in the data.
        batch: rows of one forward pass.
        accumulate: forward passes of one step, over all processes.
        seed: of the run.
    """

    rows: int
    batch: int
    accumulate: int
    seed: int
    _epochs: dict[int, list[int]] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def steps_per_epoch(self) -> int:
        """Optimizer steps that read every row once."""
        return -(-self.rows // (self.batch * self.accumulate))

    def batches(self, step: int) -> list[list[int]]:
        """Numbers of the rows that ``step`` (the first is 1) reads, by forward pass."""
        epoch, within = divmod(step - 1, self.steps_per_epoch)
        if epoch not in self._epochs:
            import torch

            self._epochs.clear()  # 8 bytes a row: one epoch at a time
            generator = torch.Generator().manual_seed(self.seed + epoch)
            self._epochs[epoch] = torch.randperm(self.rows, generator=generator).tolist()
        size = self.batch * self.accumulate
        read = self._epochs[epoch][within * size : (within + 1) * size]
        return [read[i : i + self.batch] for i in range(0, len(read), self.batch)]


class Batches:
    """The batches of one process, epoch by epoch, as torch's ``DataLoader`` takes them (``batch_sampler``).

    Pass k of a step is its batches k n to k n + n - 1, one for each of n processes: together they read what a single
    process would. Where an epoch ends with fewer batches than processes, the others are given `NOTHING`.

    Args:
        order: which rows a step reads.
        process: number of this process, of ``among``.
    """

    def __init__(self, order: Order, process: int = 0, among: int = 1) -> None:
        self._order, self._process, self._among = order, process, among
        self._epoch = 0

    @property
    def batch_sampler(self) -> Batches:
        """Itself: the trainer looks here for `set_epoch`, whether it skips batches first or not."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Read epoch ``epoch`` next."""
        self._epoch = epoch

    def __len__(self) -> int:
        return -(-self._order.rows // (self._order.batch * self._among))

    def __iter__(self) -> Iterator[list[int]]:
        first = self._epoch * self._order.steps_per_epoch + 1
        for step in range(first, first + self._order.steps_per_epoch):
            batches = self._order.batches(step)
            for start in range(0, len(batches), self._among):
                mine = batches[start : start + self._among]
                yield mine[self._process] if self._process < len(mine) else [NOTHING]


#: In place of a row's number: a row that has no loss, so that all processes take as many forward passes.
NOTHING = -1


class Rows:
    """A `datasets.Dataset` by row number, where `NOTHING` is a row too."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, number: int) -> dict[str, Any]:
        return self._dataset[max(number, 0)] | {"is_nothing": number == NOTHING}


def without_nothing(
    collate: Callable[[list[dict[str, Any]]], dict[str, Any]],
) -> Callable[..., dict[str, Any]]:
    """``collate``, with the labels of a batch of `NOTHING` taken away."""

    def collated(rows: list[dict[str, Any]]) -> dict[str, Any]:
        nothing = [row.pop("is_nothing") for row in rows]
        batch = collate(rows)
        if any(nothing):
            batch["labels"][:] = IGNORED
        return batch

    return collated


def pad(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Rows of a batch as tensors (batch, length), padded at the right: no attention there, and no loss.

    Needs no pad token, which many base tokenizers lack.
    """
    import torch

    width = max(len(row["input_ids"]) for row in rows)
    fill = {"input_ids": 0, "attention_mask": 0, "labels": -100}
    return {
        name: torch.tensor([row[name] + [empty] * (width - len(row[name])) for row in rows])
        for name, empty in fill.items()
    }
