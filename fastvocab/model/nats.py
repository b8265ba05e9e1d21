"""How surprised a causal LM is by rows of token ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from fastvocab.model import backend, load
from fastvocab.model.logits import transform_of

#: Tokens in one forward pass, padding counted.
_BATCH_TOKENS = 1024
#: Logits that are held at a time. All 1,024 x 57,152 at once took 5.2 s for 2,665 tokens, in 0.6 GB; a few hundred
#: tokens' at a time 3.8 s, with the same sum (SmolLM2-135M, 2 cores); of 256,000 rows they would be 2.6 GB.
CHUNK = 2**24


def nats(
    model: Any, rows: Sequence[Sequence[int]], counted: Sequence[Sequence[bool]] | None = None
) -> list[float]:
    """-log p of each row of ids after its first, in the order given, in inference mode of the model.

    Matrix products run in bfloat16 on CPUs that have it, as in training; sums are float64. The random states and
    the mode (training or not) of every module are as they were afterwards: a training that was measured on the way
    goes on as one that was not.

    Args:
        counted: of each row, which of its ids count; None for all.
    """
    import torch

    found, device = [0.0] * len(rows), model.get_input_embeddings().weight.device
    modes = {module: module.training for module in model.modules()}
    model.eval()
    decoder, head, transform = model.get_decoder(), model.get_output_embeddings(), transform_of(model)
    dtype, step = load.live(head).dtype, max(1, CHUNK // len(load.live(head)))
    # not inference_mode: what a library keeps from here (masks, rotary tables) may be used in training next
    with torch.random.fork_rng(enabled=True), torch.no_grad(), backend.autocast():
        for indices in batches(rows):
            ids, mask = (part.to(device) for part in padded([rows[i] for i in indices]))
            hidden = decoder(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
            if counted is not None:
                mask, _ = (part.to(device) for part in padded([counted[i] for i in indices]))
            places = mask[:, 1:].nonzero()  # (n, 2): row, and position before a token that counts
            for some in places.split(step):
                row, position = some.unbind(1)
                logits = transform.capped(head(hidden[row, position].to(dtype)).float() * transform.scale)
                picked = logits.gather(-1, ids[row, position + 1, None])[:, 0]
                lost = (torch.logsumexp(logits, -1) - picked).double()
                for place, value in zip(row.tolist(), lost.tolist()):
                    found[indices[place]] += value
    for module, training in modes.items():
        module.training = training
    return found


def batches(rows: Sequence[Sequence[int]], tokens: int = _BATCH_TOKENS) -> Iterator[list[int]]:
    """Indices of rows of like length together, the longest first, so that padding costs little; ``tokens`` at most."""
    batch: list[int] = []
    for index in sorted(range(len(rows)), key=lambda i: len(rows[i]), reverse=True):
        if batch and (len(batch) + 1) * len(rows[batch[0]]) > tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def padded(rows: Sequence[Sequence[int]]) -> tuple[Any, Any]:
    """Ids and mask, both (rows, longest), with zeros at the right."""
    import torch

    ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = torch.tensor(row)
        mask[place, : len(row)] = 1
    return ids, mask
