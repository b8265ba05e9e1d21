"""New rows distilled from the model itself, reading the same text in the old spelling.

Before the extension the model read each new token as several old ones, and by the last of them it knew what it had
read. That is what the new row shall tell it at once: for some text the model reads the old spelling (the teacher, no
gradient) and the new one (the student), and the new input rows are trained until the last hidden states agree at each
token's end. Likelihood gives a row one number a token, this gives it one for each of the state's dimensions. The idea
is token distillation's (arXiv 2505.20133); the calibration before and after it is ours.

It costs `_STEPS` forward and backward passes of 256 tokens and as many forward passes of the same text in the old
spelling, some times as long, beside the two readings of ``calibrated`` and one more for the frequencies, which are off
once the states have moved.

SmolLM2-135M, 8,000 Ukrainian tokens, 12,622 held-out bytes, bits per byte with nothing else trained (one seed): 1.786
calibrated, 1.774 distilled, 1.735 counted, 1.718 distilled and the head then fitted as by ``counted``. The distillation
took 154 s of one core of a busy machine (10,160 tokens, 28,288 of the old spelling), which pretraining could have had.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from fastvocab.errors import ModelError
from fastvocab.model import backend, load, new_rows, text
from fastvocab.model.initialise import calibration
from fastvocab.model.initialise.short_training import batches, frozen
from fastvocab.model.initialise.task import Task
from fastvocab.model.new_tokens import NewTokens

#: Steps, rows that each reads, and tokens of a row after its BOS.
_STEPS, _BATCH, _LENGTH = 40, 2, 127
#: Adam's first step as a share of the rows' typical weight; it falls to 0 in a straight line.
_RATE = 0.025
#: The first and the last loss are means over so many steps: each step has text of its own.
_FEW = 5
#: float16 has no gradients below 6e-8; Adam's steps do not depend on the scale.
_SCALE = 1024.0


def distilled(model: Any, task: Task) -> dict[str, Any]:
    """``calibrated``, the input rows then distilled, the head's rows calibrated again.

    Of a tied pair the distilled rows are the head's as well; a head of its own keeps its calibrated rows but for the
    second calibration.

    Returns:
        ``steps``, ``tokens`` of the new spelling and ``old_tokens`` of the old one, ``loss_first`` and ``loss_last``
        (`distil`), and the figures of the last calibration.

    Raises:
        ModelError: no text of the new language was given, or the loss is not finite.
    """
    calibration.check("distilled", task)
    with frozen(model):
        found = calibration.begun(model, task)
        given = batches(task, task.target, (_STEPS, _BATCH, _LENGTH))
        notes = distil(model, task.new, given, begin=text.bos_id(task.tokenizer))
        counts = calibration.count(found.documents, len(model.get_output_embeddings().weight))
        hidden = calibration.states(model, found.target)
        return {**notes, **calibration.calibrate(model, hidden, found.other, task.new.ids, counts)}


def distil(model: Any, new: NewTokens, given: Any, *, begin: int, rate: float = _RATE) -> dict[str, Any]:
    """Train the new input rows until states at token ends are those of the old spelling, in place.

    The loss is the mean squared error of the last hidden states, as a share of the teacher's mean square: 0 where both
    spellings read the same, 1 where the student knows nothing.

    Args:
        model: a causal LM, extended, all of it frozen (`short_training.frozen`), its new rows started.
        given: (steps, batch, length) ids in the new spelling; ``begin`` is put before each row.
        rate: Adam's first step as a share of the rows' typical weight.

    Raises:
        ModelError: the loss is not finite.
    """
    import torch

    model.eval()  # an adapter's dropout would set student and teacher apart
    close = new_rows.open_rows(model, new.ids)
    try:
        rows = load.trained_rows(model)["embed_tokens"]
        optimizer = torch.optim.AdamW([rows], weight_decay=0.0)
        peak = rate * float(load.embedding_weights(model)["embed_tokens"][:8192].float().pow(2).mean().sqrt())
        losses, old_tokens = [], 0
        for step, batch in enumerate(given):
            student = [[begin, *ids] for ids in batch.tolist()]
            teacher = [old_spelling(ids, new) for ids in student]
            old_tokens += sum(len(ids) for ids, _ in teacher)
            loss = _loss(model, student, teacher)
            losses.append(float(loss.detach()))
            if not math.isfinite(losses[-1]):
                raise ModelError(
                    f"init distilled: the loss is {losses[-1]} at step {step}", fix="check the base model"
                )
            for group in optimizer.param_groups:
                group["lr"] = peak * (1 - step / len(given))
            (_SCALE * loss).backward()
            optimizer.step()
            optimizer.zero_grad()
    finally:
        close()
    few = min(_FEW, len(losses))
    return {
        "steps": len(losses),
        "tokens": given.numel(),
        "old_tokens": old_tokens,
        "loss_first": sum(losses[:few]) / few,
        "loss_last": sum(losses[-few:]) / few,
    }


def old_spelling(ids: Sequence[int], new: NewTokens) -> tuple[list[int], list[int]]:
    """(the ids that the base reads in place of ``ids``, the index in them of the last of each token's)."""
    out: list[int] = []
    ends = []
    for i in ids:
        out += new.base_ids[i - new.ids.start] if i in new.ids else [i]
        ends.append(len(out) - 1)
    return out, ends


def _loss(model: Any, student: list[list[int]], teacher: list[tuple[list[int], list[int]]]) -> Any:
    import torch

    longest = getattr(model.config.get_text_config(), "max_position_embeddings", None) or math.inf
    with torch.no_grad():
        wanted = _states(model, [ids for ids, _ in teacher])
    found = _states(model, student)
    difference = square = torch.zeros((), device=found.device)
    for mine, theirs, (_, ends) in zip(found, wanted, teacher):
        # beyond the positions that the base knows the teacher would be none
        at = torch.tensor([end for end in ends if end < longest], device=theirs.device)
        difference = difference + (mine[: len(at)] - theirs[at]).pow(2).sum()
        square = square + theirs[at].pow(2).sum()
    return difference / square


def _states(model: Any, rows: list[list[int]]) -> Any:
    """Last hidden states (rows, longest, width) in float32; what is behind a shorter row's end is padding."""
    import torch

    longest = max(map(len, rows))
    # no mask: attention is causal, so what comes behind changes nothing
    ids = torch.tensor([[*row, *[row[0]] * (longest - len(row))] for row in rows])
    ids = ids.to(model.get_input_embeddings().weight.device)
    with backend.autocast():
        return model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state.float()
