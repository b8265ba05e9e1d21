"""How many tokens a training will read and how long it takes: a range, and where it comes from."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache
from typing import Any

from fastvocab.config.models import PretrainSection, TrainSection
from fastvocab.model import speed
from fastvocab.plan.device import Device
from fastvocab.plan.sizes import Sizes
from fastvocab.train.budget import batch_size, recomputes

#: What training reaches of a GPU's data sheet, between a small model with short steps and a large one.
_OF_SHEET = (0.08, 0.45)
#: ... and as a multiple of numpy's float32 products on a CPU, which know no bfloat16: 2.5 measured (2 cores, AVX-512).
_OF_NUMPY = (0.6, 6.0)
#: Another model, or a machine that is busy, may be so much off what a training before had.
_OF_REMEMBERED = (0.6, 1.5)
#: Bytes of text that a token has after an extension, at least and at most (UTF-8; Latin has fewer than Georgian).
_BYTES_PER_TOKEN = (3.0, 9.0)


@dataclass(frozen=True)
class Rate:
    """Tokens a second, from ``low`` to ``high``, and what says so; None where nothing is known."""

    low: float
    high: float
    source: str


def rate(sizes: Sizes, device: Device, *, checkpointing: bool, measured: float | None = None) -> Rate | None:
    """The rate of training.

    Args:
        measured: tokens a second of steps that were just taken with these settings.
    """
    if measured is not None:
        return Rate(measured * 0.85, measured * 1.15, "measured just now")
    flops, (low, high), source = _flops(device)
    if flops is None:
        return None
    # recomputing is another forward pass
    operations = (speed.OPERATIONS + (2 if checkpointing else 0)) * through(sizes)
    return Rate(low * flops / operations, high * flops / operations, source)


def through(sizes: Sizes) -> int:
    """Parameters that a token goes through: linear layers, adapters and the head."""
    adapter = 0 if sizes.own_layers else sizes.lora
    return sizes.base.linear_parameters + adapter + sizes.rows * sizes.base.width


def _flops(device: Device) -> tuple[float | None, tuple[float, float], str]:
    known = None if device.given else speed.remembered(device.name)
    if known is not None:
        return known, _OF_REMEMBERED, "estimated from the last training on this machine"
    if device.kind == "cpu":
        return _numpy_flops(), _OF_NUMPY, "estimated from this CPU's float32 products"
    return device.flops, _OF_SHEET, "estimated from the GPU's data sheet"


@cache
def _numpy_flops() -> float:
    """Operations a second of float32 products, measured for 0.15 s."""
    import numpy as np

    size = 768
    a = np.ones((size, size), np.float32)
    a @ a
    start, done = time.perf_counter(), 0
    while (seconds := time.perf_counter() - start) < 0.15:
        a @ a
        done += 1
    return 2 * size**3 * done / seconds


def of_stage(section: TrainSection, device: Device, found: Rate | None, *, text_bytes: int) -> dict[str, Any]:
    """``{tokens: [low, high] | None, seconds: [low, high] | None, limit}`` of a stage.

    Args:
        text_bytes: of its training text, for one pass where nothing else limits it; 0 where it is not known.
    """
    kind = "cpu" if device.kind == "cpu" else "cuda"
    length = section.block if isinstance(section, PretrainSection) else None
    limits: list[tuple[str, float, float]] = []
    if section.tokens is not None:
        limits.append(("tokens", section.tokens, section.tokens))
    if section.steps is not None:
        rows = section.steps * batch_size(section, kind) * section.accumulate
        longest = length or section.max_length  # type: ignore[attr-defined]
        # conversations may be a tenth of the longest one
        limits.append(("steps", rows * (length or longest / 10), rows * longest))
    if not limits and section.minutes is None:
        if not text_bytes:
            return {"tokens": None, "seconds": None, "limit": "one pass over the text"}
        low, high = (text_bytes / each for each in reversed(_BYTES_PER_TOKEN))
        replay = 1 / (1 - section.replay) if isinstance(section, PretrainSection) else 1.0
        limits.append(("one pass over the text", low, high * replay))
    tokens = min((limit[1:] for limit in limits), default=None)
    seconds = None
    if tokens and found:
        seconds = (tokens[0] / found.high, tokens[1] / found.low)
    if section.minutes is not None:
        most = 60.0 * section.minutes
        by_clock = (found.low * most, found.high * most) if found else None
        if tokens is None:
            limits.append(("minutes", 0.0, 0.0))
            tokens, seconds = by_clock, (most, most)
        elif seconds:
            seconds = (min(seconds[0], most), min(seconds[1], most))
            tokens = (min(tokens[0], by_clock[0]), min(tokens[1], by_clock[1])) if by_clock else tokens
    return {
        "tokens": [int(n) for n in tokens] if tokens else None,
        "seconds": [round(s, 1) for s in seconds] if seconds else None,
        "limit": " or ".join(name for name, *_ in limits),
    }


def checkpointing(section: TrainSection, device: Device) -> bool:
    """Whether a stage recomputes its activations on a device."""
    return recomputes(section, "cpu" if device.kind == "cpu" else "cuda")
