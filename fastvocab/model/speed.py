"""A rough rate of training on this machine, before there is a model to measure; and the rate that trainings had."""

from __future__ import annotations

import os
import time
from functools import cache
from pathlib import Path

from fastvocab import files

#: Training reaches this share of the rate of a bare matrix product. On 2 cores with AMX: 180 tokens/s of a
#: 135M model with LoRA and full embeddings are 145 of 720 GFLOP/s.
_SHARE = 0.2
_SIZE = 1024
_SECONDS = 0.3


@cache
def matmul_flops() -> float:
    """Operations a second of bfloat16 (float16 on older GPUs) products of 1024 x 1024, measured for 0.3 s."""
    import torch

    from fastvocab.model import backend

    where = backend.device()
    kind = torch.float16 if backend.dtype_name() == "float16" else torch.bfloat16
    a = torch.randn(_SIZE, _SIZE, device=where).to(kind)
    wait = torch.cuda.synchronize if where.startswith("cuda") else (lambda: None)
    (a @ a).sum().item()
    start, done = time.perf_counter(), 0
    while (seconds := time.perf_counter() - start) < _SECONDS:
        for _ in range(1 if where == "cpu" else 100):
            a @ a
        wait()
        done += 1 if where == "cpu" else 100
    return 2 * _SIZE**3 * done / seconds


def tokens_per_second(parameters: int) -> float:
    """An estimate, good to a factor of two: forward and backward cost six operations a parameter and token."""
    return _SHARE * matmul_flops() / (6 * parameters)


#: A model and a training too small say nothing of the machine: what a step takes besides products prevails.
_LEAST_PARAMETERS, _LEAST_SECONDS = 50_000_000, 20.0
#: Operations a parameter and token where base weights are frozen: forward two, backward two for the inputs.
OPERATIONS = 4


def _store() -> Path:
    return files.cache_folder() / "rates.json"


def remember(device: str, *, tokens: int, seconds: float, parameters: int) -> None:
    """Keep what a training reached on this machine, for later plans.

    Args:
        device: whose rate it is.
        parameters: that each token goes through, head included.
    """
    if parameters >= _LEAST_PARAMETERS and seconds >= _LEAST_SECONDS and tokens:
        files.update_cache(_store(), {device: OPERATIONS * parameters * tokens / seconds})


def remembered(device: str) -> float | None:
    """Operations a second of the last training on this machine (`remember`), None where there was none."""
    found = files.read_cache(_store()).get(device)
    return float(found) if isinstance(found, int | float) and found > 0 else None


def cpu_name() -> str:
    """What this machine is called where rates are kept, if it trains without a GPU."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"CPU, {cores} cores"
