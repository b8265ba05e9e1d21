"""A rough rate of training on this machine, before there is a model to measure."""

from __future__ import annotations

import time
from functools import cache

#: Training reaches this share of the rate of a bare matrix product. On 2 cores with AMX: 180 tokens/s of a
#: 135M model with LoRA and full embeddings are 145 of 720 GFLOP/s.
_SHARE = 0.2
_SIZE = 1024
_SECONDS = 0.3


@cache
def matmul_flops() -> float:
    """Operations a second of bfloat16 (float16 on older GPUs) products of 1024 x 1024, measured for 0.3 s."""
    import torch

    from fastvocab.model import load

    where = load.device()
    kind = torch.float16 if load.dtype_name() == "float16" else torch.bfloat16
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
