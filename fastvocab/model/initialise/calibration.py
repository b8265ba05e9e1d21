"""Head rows that know how frequent their tokens are: the means' rows plus a multiple of one direction each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from fastvocab.errors import ModelError
from fastvocab.model import backend, text
from fastvocab.model.initialise.means import subtokens
from fastvocab.model.initialise.task import TEXT_BYTES, Task
from fastvocab.model.logits import Transform, transform_of
from fastvocab.model.nats import batches, padded

#: In one forward pass for hidden states. Each pass casts all weights anew; there are no logits, so 4,096 fit.
_TOKENS = 4096
#: Contexts over which the new tokens' share is brought to that of the text.
_PLACES = 500


def calibrated(model: Any, task: Task) -> dict[str, Any]:
    """Rows from their sub-tokens (`means.subtokens`), then head rows that know each token's frequency (`calibrate`).

    The start is the plain mean in tied and untied models alike: from ``asymmetric`` the same calibration ended at
    1.745 bits per byte instead of 1.729 (SmolLM2-135M, tied, Ukrainian, 8,000 tokens, untrained). The method is ours.

    Raises:
        ModelError: no text of the new language was given.
    """
    return begun(model, task).notes


class Begun(NamedTuple):
    """What ``calibrated`` found on its way.

    Attributes:
        notes: for the record.
        target: pieces of the new language, as ids.
        hidden: `states` of them, by rows that are their sub-tokens' means.
        other: `states` of the original language, which stay the same.
        documents: ids of all text of the new language that may be read.
    """

    notes: dict[str, Any]
    target: list[list[int]]
    hidden: Any
    other: Any
    documents: list[list[int]]


def begun(model: Any, task: Task) -> Begun:
    """Do what ``calibrated`` does, and keep what others go on with."""
    check("calibrated", task)
    subtokens(model, task)
    target = task.pieces(task.target)
    # 20 kB of English are 4,500 contexts, for as many second moments as a state has numbers
    hidden, other = states(model, target), states(model, task.pieces(task.original, 0.5))
    documents = list(text.pieces(task.tokenizer, task.target, limit=TEXT_BYTES))  # 2 s
    counts = count(documents, len(model.get_output_embeddings().weight))
    notes = calibrate(model, hidden, other, task.new.ids, counts)
    return Begun(notes, target, hidden, other, documents)


def check(init: str, task: Task) -> None:
    """Raises ModelError where there is no text for the method ``init`` to read."""
    if not task.target:
        raise ModelError(
            f"init {init} reads text of the new language, and none was given",
            rule="frequencies come from text",
            fix="give text, or choose subtokens",
        )


def calibrate(
    model: Any,
    hidden: Any,
    other: Any,
    new_ids: range,
    counts: Any,
    *,
    ridge: float = 1e-3,
) -> dict[str, float]:
    """Prior calibration: give each new head row its token's frequency, in closed form.

    Over final hidden states of target text, H_t (n, width), and of original-language text, H_o (m, width),

        u = (H_t'H_t / n + H_o'H_o / m + lambda I)^-1 mean(H_t)

    is a direction along which target contexts measure about 1 and others about 0. Each new row gets the
    multiple of u that brings its mean logit in target contexts to its smoothed log frequency plus a constant;
    the constant is found by bisection so that the new tokens together get the share of probability that they
    have of the text, under the soft cap of a model that has one (`fastvocab.model.logits`). Nothing is trained.
    Measured on SmolLM2-135M, Ukrainian, 8,000 tokens: 2.116 -> 1.825 held-out bits per byte, English unchanged.

    Args:
        model: a causal LM, extended, rows at their sub-token means; the head (tied or not) is changed in place.
        hidden: (n, width) `states` of target-language pieces, extended tokenizer, BOS first.
        other: (m, width) the same of the original language.
        new_ids: the new tokens.
        counts: (rows,) how often each id occurs in the target language, from more text than is read here:
            40 kB have 6,000 tokens, too few to tell 8,000 frequencies apart.
        ridge: lambda as a share of the mean diagonal.

    Returns:
        ``share`` of the new tokens among the text's, ``before`` and ``after``: the probability they get.
    """
    import torch

    head = model.get_output_embeddings().weight
    n = len(hidden)
    mean = hidden.mean(0)
    along_target = direction(hidden, other, ridge)

    counts = counts.float()
    mine = counts[new_ids.start : new_ids.stop]
    share = float(mine.sum() / counts.sum())
    # half an occurrence for what the text happens not to show: log 0 would forbid the token for good
    log_frequency = torch.log((mine + 0.5) / (mine + 0.5).sum())

    rows = head.detach()[new_ids.start : new_ids.stop].float().cpu()
    along = hidden @ along_target  # (n,)
    needed = log_frequency - rows @ mean
    few = slice(None, None, max(1, n // _PLACES))
    mass = _NewMass(head.detach().float().cpu(), new_ids, hidden[few], along[few], transform_of(model))
    before = mass.at(torch.zeros(len(new_ids)))
    if not 0 < share < 1:
        return {"share": share, "before": before, "after": before}
    low, high = -60.0, 60.0
    for _ in range(20):  # to 1e-4 nats
        constant = (low + high) / 2
        if mass.at((needed + constant) / along.mean()) < share:
            low = constant
        else:
            high = constant
    multiples = (needed + (low + high) / 2) / along.mean()
    with torch.no_grad():
        update = rows + multiples[:, None] * along_target[None, :]
        head[new_ids.start : new_ids.stop] = update.to(head.dtype).to(head.device)
    return {"share": share, "before": before, "after": mass.at(multiples)}


def direction(wanted: Any, others: Any, ridge: float = 1e-3) -> Any:
    """(width,): along it, states ``wanted`` (n, width) measure about 1 and ``others`` (m, width) about 0."""
    import torch

    moment = wanted.T @ wanted / len(wanted)
    if len(others):
        moment += others.T @ others / len(others)
    moment += ridge * moment.diagonal().mean() * torch.eye(wanted.shape[1])
    return torch.linalg.solve(moment, wanted.mean(0))


class _NewMass:
    """Mean probability of all new tokens together, as a function of their rows' multiples of the direction."""

    def __init__(self, head: Any, new_ids: range, hidden: Any, along: Any, transform: Transform) -> None:
        import torch

        old = torch.cat([head[: new_ids.start], head[new_ids.stop :]])
        # in chunks: 1,500 contexts x 128,000 rows would be 0.8 GB at once
        self._old = torch.cat(
            [torch.logsumexp(transform.capped(part @ old.T), -1) for part in hidden.split(256)]
        )
        self._new = hidden @ head[new_ids.start : new_ids.stop].T
        self._along, self._transform = along, transform

    def at(self, multiples: Any) -> float:
        import torch

        logits = self._new + self._along[:, None] * multiples[None, :]
        new = torch.logsumexp(self._transform.capped(logits), -1)
        return float(torch.sigmoid(new - self._old).mean())


def count(pieces: Iterable[Sequence[int]], rows: int) -> Any:
    """How often each id occurs in ``pieces``, their BOS not counted: (rows,) int64."""
    import torch

    total = torch.zeros(rows, dtype=torch.long)
    for ids in pieces:
        total += torch.bincount(torch.tensor(ids[1:], dtype=torch.long), minlength=rows)
    return total


def states(model: Any, pieces: Sequence[Sequence[int]]) -> Any:
    """Final hidden states before each token, piece after piece: (n, width) float32 on the CPU.

    Times the scale of the logits where a model has one: states @ head.T are logits.
    """
    import torch

    pieces = [ids for ids in pieces if len(ids) > 1]
    found: list[Any] = [None] * len(pieces)
    device = model.get_input_embeddings().weight.device
    model.eval()
    with torch.inference_mode(), backend.autocast():
        for indices in batches(pieces, _TOKENS):
            ids, mask = (part.to(device) for part in padded([pieces[i] for i in indices]))
            hidden = model.get_decoder()(input_ids=ids, attention_mask=mask, use_cache=False)
            for place, index in enumerate(indices):
                found[index] = hidden.last_hidden_state[place, : len(pieces[index]) - 1].float().cpu()
    if not found:
        return torch.zeros(0, model.config.get_text_config().hidden_size)
    return torch.cat(found) * transform_of(model).scale
