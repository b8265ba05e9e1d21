"""``auto``: a short training of the new rows alone, from each of a few starts, says which is best.

The loss before training mispredicts the ranking, some 50 steps get it right (reports in the field). All methods see
the same batches in the same order, and are compared on text that is in none of them and that no method has read.

Each method costs its own start, 12,800 tokens of training with all but the new rows frozen, and 32 kB of reading: of
SmolLM2-135M with 8,000 new tokens some 100 CPU seconds (30 were measured for 10 steps and the reading). More text or a
larger corpus costs no more. The winner then starts anew from all the text.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from fastvocab import console
from fastvocab.errors import ModelError
from fastvocab.model import backend, load, new_rows, text
from fastvocab.model.initialise.short_training import batches, frozen
from fastvocab.model.initialise.task import TEXT_BYTES, Method, Task
from fastvocab.model.nats import nats

#: Those that can win in a run for a language (of the baselines ``mean`` is no match: 2.740 bits per byte untrained).
CANDIDATES = ("counted", "calibrated", "asymmetric", "subtokens")
STEPS = 50
_BATCH, _LENGTH = 2, 128
#: A tenth of what the rows get in pretraining, whose batches are larger. On 256 tokens a higher one is mostly noise and
#: undoes the better start (SmolLM2-135M, Ukrainian, 8,000 tokens; calibrated and subtokens, from 1.729 and 1.969 bits
#: per byte: at 1e-3 to 1.914 and 1.858, the wrong way round; at 3e-4 to 1.778 and 1.829; at 1e-4 to 1.736 and 1.897).
_RATE = 1e-4
#: Steps over which the rate rises; from then on it falls to 0.
_WARMUP = 5
#: Held-out text, in pieces of `_PIECE` bytes.
_HELDOUT_BYTES, _PIECE = 16_000, 1024
#: Text below which the comparison says nothing.
_LEAST_BYTES = 20_000
#: float16 has no gradients below 6e-8; Adam's steps do not depend on the scale.
_SCALE = 1024.0


def check(task: Task) -> None:
    """Raises ModelError where there is too little text to train and compare on."""
    size = sum(len(piece.encode()) for piece in task.target)
    if size < _LEAST_BYTES:
        raise ModelError(
            f"init auto has {size:,} bytes of text of the new language to try methods on",
            rule=f"at least {_LEAST_BYTES:,}",
            fix="give more text, or name a method, such as subtokens",
        )


def rank(model: Any, task: Task, methods: Mapping[str, Method]) -> dict[str, Any]:
    """Train from each start for a while; the model is bit by bit as before afterwards.

    Args:
        methods: the table of all; `CANDIDATES` of them are tried, and ``description`` where there are any.

    Returns:
        ``methods``: method, ``before`` and ``after`` the training (bits per byte, None where not finite), ``seconds``,
        best first; ``steps``, ``tokens``, ``learning_rate`` of each training; ``heldout_bytes``.

    Raises:
        ModelError: too little text, or no loss was finite.
    """
    check(task)
    training, heldout = split(task.target)
    given = batches(task, training, (STEPS, _BATCH, _LENGTH))
    names = [*CANDIDATES, *(["description"] if task.descriptions else [])]
    tried = replace(task, target=training)
    table = []
    weights, ids = load.embedding_weights(model), task.new.ids
    kept = {part: weight[ids.start : ids.stop].detach().clone() for part, weight in weights.items()}
    try:
        with frozen(model):
            for name in names:
                began = time.monotonic()
                methods[name](model, tried)
                before, after = _probe(model, task, given, heldout)
                table.append(
                    {"method": name, "before": before, "after": after, "seconds": time.monotonic() - began}
                )
                console.say(f"  {name:12} {_shown(before)} -> {_shown(after)} bits per byte")
    finally:
        for part, weight in weights.items():
            weight.data[ids.start : ids.stop] = kept[part]
    table.sort(key=lambda row: math.inf if row["after"] is None else row["after"])
    if table[0]["after"] is None:
        raise ModelError("init auto: the loss is not finite from any start", fix="check the base model")
    return {
        "methods": table,
        "steps": STEPS,
        "tokens": given.numel(),
        "learning_rate": _RATE,
        "heldout_bytes": sum(len(piece.encode()) for piece in heldout),
    }


def split(pieces: Sequence[str]) -> tuple[list[str], list[str]]:
    """(training, held-out): every fourth piece, or fewer of much text, until `_HELDOUT_BYTES` are held out."""
    every, total = max(4, len(pieces) // 16), 0
    training, heldout = [], []
    for place, piece in enumerate(pieces):
        if place % every == 3 and total < _HELDOUT_BYTES:
            total += len(piece.encode())
            heldout += list(text.cut(piece, _PIECE))
        else:
            training.append(piece)
    return training, heldout


def _probe(
    model: Any, task: Task, given: Sequence[Any], heldout: Sequence[str]
) -> tuple[float | None, float | None]:
    """Bits per byte of held-out text before and after training the new rows on the batches."""
    import torch

    close = new_rows.open_rows(model, task.new.ids)
    try:
        before = _bits(model, task.tokenizer, heldout)
        rows = list(load.trained_rows(model).values())
        optimizer = torch.optim.AdamW(rows, lr=_RATE, weight_decay=0.0)
        model.train()
        torch.manual_seed(task.seed)  # for the dropout of an adapter, where the base is a checkpoint
        for step, batch in enumerate(given):
            for group in optimizer.param_groups:
                group["lr"] = _RATE * min((step + 1) / _WARMUP, 1 - step / STEPS)
            batch = batch.to(rows[0].device)
            with backend.autocast():
                loss = model(input_ids=batch, labels=batch, use_cache=False).loss
            (_SCALE * loss).backward()
            for part in rows:
                part.grad /= _SCALE
            optimizer.step()
            optimizer.zero_grad()
        return before, _bits(model, task.tokenizer, heldout)
    finally:
        close()


def _bits(model: Any, tokenizer: Any, pieces: Sequence[str]) -> float | None:
    """Bits per byte, each piece after a BOS; None where not finite."""
    rows = [next(text.pieces(tokenizer, [piece], limit=TEXT_BYTES)) for piece in pieces]
    found = sum(nats(model, rows)) / math.log(2) / sum(len(piece.encode()) for piece in pieces)
    return found if math.isfinite(found) else None


def _shown(bits: float | None) -> str:
    return "not finite" if bits is None else f"{bits:.3f}"
