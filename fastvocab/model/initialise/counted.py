"""Head rows that know what follows what: fitted to the corpus's own counts, with nothing trained beneath them.

`calibration.calibrated` tells each row how frequent its token is. Over the final hidden states of some text the rows
can be told more: that their logits shall give, at each place, the distribution that the counts of the whole corpus
have for it (`fastvocab.model.counts`). With the states and the old rows fixed this is a convex problem in the new
rows alone: one pass over some 40 kB of text, then products of (positions, width) by (width, new rows).

SmolLM2-135M, 8,000 Ukrainian tokens, held-out bits per byte with nothing trained: 1.810 calibrated, 1.725 counted
(1.669 where the head is a matrix of its own), English unchanged (0.973, 0.974). Trained on 16,000 tokens from there
against 26,000 from ``calibrated``, counts as targets in both: 1.625 and 1.690.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from fastvocab import console
from fastvocab.model import backend, text
from fastvocab.model.counts import Counts, contexts
from fastvocab.model.initialise.calibration import begun
from fastvocab.model.initialise.task import Task
from fastvocab.model.logits import transform_of

#: Steps, and positions that each reads. More fit the text that is read better and other text worse (Ukrainian, 20 kB
#: read: 1.843 bits per byte after 100 steps, 1.823 after 50, 1.822 after 25).
_STEPS, _BATCH = 25, 512
#: Adam's step as a share of the rows' typical weight (SmolLM2: 0.12, so 3e-3; 1e-2 fits better and does worse tied).
_STEP = 0.025
#: How much a context of the original language counts against one of the new: there new tokens shall stay unlikely.
_ORIGINAL = 0.3
#: So many of these contexts at most: each is multiplied with all old rows beforehand (10,000: 4 s).
_OTHERS = 4096


def counted(model: Any, task: Task) -> dict[str, Any]:
    """``calibrated``, then head rows fitted to the counts of the text.

    Where a model caps its logits (Gemma 2) the fit, which is convex without, is left out with a warning.

    Raises:
        ModelError: no text of the new language was given.
    """
    found = begun(model, task)
    if (cap := transform_of(model).cap) is not None:
        console.warn(
            f"extend.init=counted: this architecture caps its logits at {cap:g}, which the fit to counts does not "
            "know; rows start as by init=calibrated"
        )
        return found.notes
    counts = Counts(found.documents, text.rows(task.tokenizer))
    return {
        **found.notes,
        "counted_tokens": counts.tokens,
        **fit(model, counts, found.target, found.hidden, found.other, task.new.ids),
    }


def fit(
    model: Any,
    counts: Counts,
    target: Sequence[Sequence[int]],
    hidden: Any,
    other: Any,
    new_ids: range,
    *,
    steps: int = _STEPS,
) -> dict[str, float]:
    """Fit the new rows of the head to ``counts`` by cross entropy, in place.

    Of a tied pair the rows are those that the model reads as well; it is the larger part that is kept of the gain.

    Args:
        model: a causal LM, extended, its new rows started.
        target: token ids of pieces of text of the new language, BOS first.
        hidden: (positions, width) `calibration.states` of them.
        other: the same of text in the original language.
        new_ids: the new tokens.
        steps: of Adam.

    Returns:
        ``cross_entropy_before`` and ``_after``: nats a token of the target text against the counts, by the fitted
        states, up to a constant.
    """
    import torch

    head = model.get_output_embeddings().weight.detach()
    if not len(hidden):
        return {}
    wanted = _wanted(hidden, counts, target, target[0][0], new_ids).to(head.device)
    other = other[:: max(1, -(-len(other) // _OTHERS))]
    # where the head is: on a GPU this is a second, and for a model of 8 billion on two cores it would be minutes
    hidden, other = hidden.to(head.device), other.to(head.device)
    rows = head[new_ids.start : new_ids.stop].float()
    sides = [
        (hidden, _old_mass(hidden, head, new_ids), 1.0),
        (other, _old_mass(other, head, new_ids), _ORIGINAL),
    ]
    generator = torch.Generator().manual_seed(0)
    parameter = torch.nn.Parameter(rows.clone())
    optimizer = torch.optim.Adam([parameter], betas=(0.9, 0.99), eps=1e-10)
    peak = _STEP * float(rows.pow(2).mean().sqrt())
    before = _objective(rows, sides[0], wanted)
    for step in range(steps):
        gradient = -wanted
        for state, old_mass, weight in sides:
            if not len(state):
                continue
            size = _BATCH if state is hidden else _BATCH // 4
            batch = torch.randint(0, len(state), (size,), generator=generator)
            _, likely = _new_mass(state[batch], rows, old_mass[batch])
            gradient = gradient + weight / len(batch) * _product(likely.T, state[batch])
        parameter.grad = gradient
        for group in optimizer.param_groups:
            group["lr"] = peak * 0.5 * (1 + math.cos(math.pi * step / steps))
        optimizer.step()
        rows = parameter.data
    head[new_ids.start : new_ids.stop] = rows.to(head.dtype)
    return {
        "cross_entropy_before": before,
        "cross_entropy_after": _objective(rows, sides[0], wanted),
        "positions": len(hidden),
    }


def _wanted(hidden: Any, counts: Counts, pieces: Sequence[Sequence[int]], begin: int, new_ids: range) -> Any:
    """(new, width): mean over positions of the counts' probability of each new token, times the state."""
    import torch

    before = torch.cat([contexts(torch.tensor([ids]), begin, counts.order) for ids in pieces if len(ids) > 1])
    total = torch.zeros(len(new_ids), hidden.shape[1])
    rest = torch.zeros(hidden.shape[1])
    for places in torch.arange(len(hidden)).split(4096):
        found = counts.targets(before[places])
        new = (found.token >= new_ids.start) & (found.token < new_ids.stop)
        at = torch.stack([found.token[new] - new_ids.start, found.position[new]])
        total += (
            torch.sparse_coo_tensor(at, found.mass[new], (len(new_ids), len(places)), check_invariants=False)
            @ hidden[places]
        )
        rest += found.rest @ hidden[places]
    total += counts.unigram[new_ids.start : new_ids.stop, None] * rest
    return total / len(hidden)


def _old_mass(hidden: Any, head: Any, new_ids: range) -> Any:
    """(positions,): log of the sum of exponentials of all old logits."""
    import torch

    parts = []
    for part in hidden.split(512):  # 16,000 positions x 128,000 rows would be 8 GB at once
        logits = _product(part, head.T)
        logits[:, new_ids.start : new_ids.stop] = -torch.inf
        parts.append(torch.logsumexp(logits, -1))
    return torch.cat(parts) if parts else hidden[:, 0]


def _new_mass(hidden: Any, rows: Any, old_mass: Any) -> tuple[Any, Any]:
    """((positions,) log of all mass, (positions, new) probabilities)."""
    import torch

    logits = _product(hidden, rows.T)
    total = torch.logaddexp(old_mass, torch.logsumexp(logits, -1))
    return total, logits.sub_(total[:, None]).exp_()


def _product(left: Any, right: Any) -> Any:
    """Matrix product as autocast makes it (bfloat16 where the CPU has it), in float32 again."""
    with backend.autocast():
        return (left.to(right.dtype) @ right).float()


def _objective(rows: Any, side: tuple[Any, Any, float], wanted: Any) -> float:
    hidden, old_mass, _ = side
    few = slice(None, None, max(1, len(hidden) // 2048))
    total, _ = _new_mass(hidden[few], rows, old_mass[few])
    return float(total.mean() - (rows * wanted).sum())
