"""How long a stage trains, and how its learning rates rise and fall."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from fastvocab import processes
from fastvocab.config.models import TrainSection
from fastvocab.errors import ConfigError
from fastvocab.model import backend

FLOOR = 0.1  # the learning rate falls to this share of its peak (arXiv 2403.08763 re-decays to a tenth)


@dataclass
class Budget:
    """How long to train: steps, minutes, whichever comes first; and how far along we are.

    A broken run goes on as if it had not been, bit by bit on a CPU, where steps alone (or tokens, which become
    steps) limit it. With minutes the rate follows the clock, and no two runs have the same.

    Attributes:
        steps: the last step there can be.
        minutes: of training, over all sessions of a broken run.
        spent: seconds trained in earlier sessions.
        schedule: how the rates fall, ``cosine`` or ``linear``.
        agreed: with several processes, the seconds that count for all: the main one's, after the step before.
    """

    steps: int
    minutes: float | None
    spent: float = 0.0
    started: float = field(default_factory=time.monotonic)
    schedule: str = "cosine"
    agreed: float | None = None

    def seconds(self) -> float:
        """Seconds trained so far."""
        return self.own_seconds() if self.agreed is None else self.agreed

    def own_seconds(self) -> float:
        """The same by this process's clock."""
        return self.spent + time.monotonic() - self.started

    @contextmanager
    def stopped_clock(self) -> Iterator[None]:
        """What is done inside does not count as training."""
        before = time.monotonic()
        try:
            yield
        finally:
            self.started += time.monotonic() - before

    def fraction(self, step: int) -> float:
        """Share of the training that is over, 0 to 1."""
        by_time = self.seconds() / (60 * self.minutes) if self.minutes else 0.0
        return min(1.0, max(step / self.steps, by_time))

    def rate(self, step: int, warmup: float, *, start: float = 0.0) -> float:
        """Learning rate as a share of its peak: linear warm-up, then a cosine down to `FLOOR`, or a line to 0.

        Args:
            warmup: share of the training that the rise takes.
            start: share of the training after which it begins; the rate is 0 before.
        """
        at = self.fraction(step) - start
        if at < 0:
            return 0.0
        if at < warmup:
            return max(at / warmup, 0.02)  # not 0: the first step would be a step for nothing
        progress = (at - warmup) / max(1e-9, 1 - start - warmup)
        if self.schedule == "linear":
            return max(0.0, 1 - progress)
        return FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * progress))


def batch_size(section: TrainSection, device: str | None = None) -> int:
    """Sequences in one forward pass: as set, else 2 on a CPU and 8 on a GPU.

    Args:
        device: as `backend.device` names it; None: that of this machine.
    """
    return section.batch or (2 if (device or backend.device()) == "cpu" else 8)


def shares(section: TrainSection, stage: str) -> tuple[int, int]:
    """(sequences in a forward pass, passes in a step) of one process.

    A step is the same for any number of processes, ``batch * accumulate`` sequences: they divide its forward passes
    among them, or where these cannot be divided, each pass.

    Raises:
        ConfigError: neither can be.
    """
    batch, passes, among = batch_size(section), section.accumulate, processes.count()
    if passes % among == 0:
        return batch, passes // among
    if batch % among == 0:
        return batch // among, passes
    raise ConfigError(
        f"{stage}.batch is {batch} and {stage}.accumulate {passes}, with {among} processes",
        rule="a step's forward passes, or the sequences of each, are divided evenly among the processes",
        fix=f"{stage}.accumulate={among * max(1, round(passes / among))}",
    )


def recomputes(section: TrainSection, device: str | None = None) -> bool:
    """Gradient checkpointing: as set, else on a GPU and not on a CPU."""
    if section.gradient_checkpointing is not None:
        return section.gradient_checkpointing
    return (device or backend.device()) != "cpu"


def steps_for(section: TrainSection, *, length: float | None, rows: int | None) -> int | None:
    """Optimizer steps that ``section`` allows, None where only minutes limit it and ``rows`` is unknown.

    Args:
        length: tokens of one sequence (an average where they differ), None where it is not known.
        rows: sequences in the data; without any limit, one pass.
    """
    each = batch_size(section) * section.accumulate
    limits = []
    if section.steps is not None:
        limits.append(section.steps)
    if section.tokens is not None and length is not None:
        limits.append(math.ceil(section.tokens / (each * length)))
    if not limits and section.minutes is None and section.tokens is None and rows is not None:
        limits.append(math.ceil(rows / each))
    return min(limits) if limits else None
