"""A few steps of pretraining on tokens drawn at random, for the rate and the memory that a plan can then tell."""

from __future__ import annotations

import time
from typing import Any

from fastvocab import memory
from fastvocab.config import Config
from fastvocab.model import backend, checkpoint, extend, load
from fastvocab.model.reference import Base
from fastvocab.train import cpu_kernels, loop
from fastvocab.train.budget import batch_size, recomputes
from fastvocab.train.optimizer import Groups

#: The first steps allocate and warm up; they are left out.
_WARM, _STEPS = 2, 4


def run(config: Config, base: Base, rows: int, new: int) -> dict[str, Any]:
    """Train ``base`` for a moment with the settings of ``pretrain``, plain targets and no shared parts, and forget it.

    Args:
        rows: that each embedding matrix is to have.
        new: of these at the end are new tokens'.

    Returns:
        ``tokens_per_second`` (the median step's), ``peak_memory_bytes``, ``steps``.
    """
    import torch

    from fastvocab.model import chunked_loss

    section = config.pretrain
    model, _ = checkpoint.on_base(
        base, load_in_4bit=config.model.load_in_4bit, block=section.block, seed=config.seed
    )
    has_adapter = hasattr(model, "get_base_model")
    extend.resize(model.get_base_model() if has_adapter else model, rows)
    if not has_adapter:
        model = load.add_lora(
            model,
            **section.lora.model_dump(mode="json"),
            embeddings=section.embeddings,
            new_ids=range(rows - new, rows),
            block=section.block,
            seed=config.seed,
            gradient_checkpointing=recomputes(section),
        )
    groups = Groups(model, range(rows - new, rows))
    optimizer = groups.optimizer(torch.optim.AdamW, {}, section)
    size = (batch_size(section), section.block)
    generator = torch.Generator().manual_seed(config.seed)
    model.train()
    seconds = []
    memory.reset_peak()
    with cpu_kernels.installed(model), chunked_loss.kept_lowered(model):
        for _ in range(_WARM + _STEPS):
            ids = torch.randint(0, rows, size, generator=generator).to(backend.device())
            began = time.perf_counter()
            with backend.autocast():
                value = model(input_ids=ids, labels=ids, attention_mask=torch.ones_like(ids)).loss
            value.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            float(value.detach())  # a GPU has finished when the number is here
            seconds.append(time.perf_counter() - began)
    middle = sorted(seconds[_WARM:])[_STEPS // 2]
    return {
        "tokens_per_second": round(size[0] * size[1] / middle, 1),
        "peak_memory_bytes": loop.peak_memory(),
        "steps": _WARM + _STEPS,
    }
