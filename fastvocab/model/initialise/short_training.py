"""What the short trainings of new rows have in common: batches that a seed decides, and a model left as it was."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from fastvocab.model import text
from fastvocab.model.initialise.task import TEXT_BYTES, Task


@contextmanager
def frozen(model: Any) -> Iterator[None]:
    """Nothing of the model trains but what is opened inside; then flags and modes are as they were."""
    flags = [(p, p.requires_grad) for p in model.parameters()]
    # a resized head is in another mode than the rest
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.requires_grad_(False)
        yield
    finally:
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
        for module, mode in modes:
            module.training = mode


def batches(task: Task, pieces: Sequence[str], shape: tuple[int, int, int]) -> Any:
    """Ids of shape (steps, batch, length) from text in an order that the seed decides, a BOS before each piece."""
    import torch

    generator = torch.Generator().manual_seed(task.seed)
    order = torch.randperm(len(pieces), generator=generator).tolist()
    needed = shape[0] * shape[1] * shape[2]
    ids: list[int] = []
    while len(ids) < needed:  # of little text more than once
        for place in order:
            ids += next(text.pieces(task.tokenizer, [pieces[place]], limit=TEXT_BYTES))
            if len(ids) >= needed:
                break
    return torch.tensor(ids[:needed]).view(shape)
