"""Where new rows start: from their old sub-tokens, and from how often they occur.

``subtokens`` is the mean of the rows of the tokens that the base read in the same place (Hewitt 2021 for the
mean as such; arXiv 2407.05841 and 2608.03494 compare the variants). ``calibrated`` adds what the mean lacks:
head rows that know how frequent their tokens are (`calibrate`). ``mean`` is what ``add_new_tokens`` leaves:
every new row the same, the usual way and the weak one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from fastvocab.model import load

#: Nats that padding rows are pushed down by where a context measures 1.
_SILENCE = 100.0


def subtoken_mean(weight: Any, first: int, base_ids: Sequence[Sequence[int]]) -> None:
    """Set ``weight[first + i]`` to the mean of ``weight[base_ids[i]]``, in place.

    Args:
        weight: (rows, width), already resized.
        first: id of the first new token.
        base_ids: for each new token, in id order, the ids that the base reads in its place.
    """
    import torch

    flat = torch.tensor([i for ids in base_ids for i in ids], device=weight.device)
    counts = torch.tensor([len(ids) for ids in base_ids], device=weight.device)
    owner = torch.repeat_interleave(torch.arange(len(base_ids), device=weight.device), counts)
    with torch.no_grad():
        sums = torch.zeros(len(base_ids), weight.shape[1], dtype=torch.float32, device=weight.device)
        sums.index_add_(0, owner, weight[flat].float())
        weight[first : first + len(base_ids)] = (sums / counts[:, None]).to(weight.dtype)


def calibrate(
    model: Any,
    target: Sequence[Sequence[int]],
    original: Sequence[Sequence[int]],
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
    have of the text. Nothing is trained. Measured on SmolLM2-135M, Ukrainian, 8,000 tokens: 2.116 -> 1.825
    held-out bits per byte, English unchanged.

    Args:
        model: a causal LM, extended, rows at their sub-token means; the head (tied or not) is changed in place.
        target: token ids of target-language pieces, extended tokenizer, BOS first.
        original: the same of the original language.
        new_ids: the new tokens.
        counts: (rows,) how often each id occurs in the target language, from more text than is read here:
            40 kB have 6,000 tokens, too few to tell 8,000 frequencies apart.
        ridge: lambda as a share of the mean diagonal.

    Returns:
        ``share`` of the new tokens among the text's, ``before`` and ``after``: the probability they get.
    """
    import torch

    head = model.get_output_embeddings().weight
    hidden, other = _states(model, target), _states(model, original)
    n = len(hidden)
    mean = hidden.mean(0)
    direction = _direction(hidden, other, ridge)

    counts = counts.float()
    mine = counts[new_ids.start : new_ids.stop]
    share = float(mine.sum() / counts.sum())
    # half an occurrence for what the text happens not to show: log 0 would forbid the token for good
    log_frequency = torch.log((mine + 0.5) / (mine + 0.5).sum())

    rows = head.detach()[new_ids.start : new_ids.stop].float().cpu()
    along = hidden @ direction  # (n,)
    needed = log_frequency - rows @ mean
    mass = _NewMass(
        head.detach().float().cpu(), new_ids, hidden[:: max(1, n // 1500)], along[:: max(1, n // 1500)]
    )
    before = mass.at(torch.zeros(len(new_ids)))
    if not 0 < share < 1:
        return {"share": share, "before": before, "after": before}
    low, high = -60.0, 60.0
    for _ in range(30):
        constant = (low + high) / 2
        if mass.at((needed + constant) / along.mean()) < share:
            low = constant
        else:
            high = constant
    multiples = (needed + (low + high) / 2) / along.mean()
    with torch.no_grad():
        update = rows + multiples[:, None] * direction[None, :]
        head[new_ids.start : new_ids.stop] = update.to(head.dtype).to(head.device)
    return {"share": share, "before": before, "after": mass.at(multiples)}


def _direction(wanted: Any, others: Any, ridge: float = 1e-3) -> Any:
    """(width,): along it, states ``wanted`` (n, width) measure about 1 and ``others`` (m, width) about 0."""
    import torch

    moment = wanted.T @ wanted / len(wanted)
    if len(others):
        moment += others.T @ others / len(others)
    moment += ridge * moment.diagonal().mean() * torch.eye(wanted.shape[1])
    return torch.linalg.solve(moment, wanted.mean(0))


def silence(model: Any, padding: range, tokens: int, *, seed: int) -> dict[str, float]:
    """Give rows that no token has logits far below all others, so that nothing samples them.

    Each head row is the mean of all tokens' rows less `_SILENCE` times the direction along which every context
    measures about 1 (on SmolLM2-135M at least 0.3 in 4,000 contexts of two languages that it was not fitted on).
    A model without such a direction, such as one of random weights, gets the mean alone: by Jensen's inequality no
    such row is likelier than 1 / tokens. Programs that read generation_config.json are told the ids as well
    (`text.suppress_unused`); this is for those that do not (vLLM samples from all rows of the matrix).

    Args:
        padding: the rows; those of a tied matrix are set as a whole, they are never looked up.
        tokens: ids that the contexts to measure on are drawn from.

    Returns:
        ``rows``, and ``margin``: by how much the likeliest of them stays below the likeliest token in the worst of
        the contexts that were measured (nats).
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    length = min(256, model.config.get_text_config().max_position_embeddings)
    drawn = torch.randint(0, tokens, (8, length), generator=generator).tolist()
    states = _states(model, drawn)
    direction = _direction(states, states[:0])
    strength = _SILENCE if float((states @ direction).min()) > 0.2 else 0.0
    head = model.get_output_embeddings().weight
    with torch.no_grad():
        for weight in load.embedding_weights(model).values():
            weight[padding.start : padding.stop] = weight[:tokens].float().mean(0).to(weight.dtype)
        head[padding.start : padding.stop] -= (strength * direction).to(head)
        logits = states @ head.detach().float().cpu().T
    best = logits[:, : padding.start].amax(1) - logits[:, padding.start : padding.stop].amax(1)
    return {"rows": len(padding), "margin": float(best.min())}


class _NewMass:
    """Mean probability of all new tokens together, as a function of their rows' multiples of the direction."""

    def __init__(self, head: Any, new_ids: range, hidden: Any, along: Any) -> None:
        import torch

        old = torch.cat([head[: new_ids.start], head[new_ids.stop :]])
        # in chunks: 1,500 contexts x 128,000 rows would be 0.8 GB at once
        self._old = torch.cat([torch.logsumexp(part @ old.T, -1) for part in hidden.split(256)])
        self._new = hidden @ head[new_ids.start : new_ids.stop].T
        self._along = along

    def at(self, multiples: Any) -> float:
        import torch

        new = torch.logsumexp(self._new + self._along[:, None] * multiples[None, :], -1)
        return float(torch.sigmoid(new - self._old).mean())


def count(pieces: Iterable[Sequence[int]], rows: int) -> Any:
    """How often each id occurs in ``pieces``, their BOS not counted: (rows,) int64."""
    import torch

    total = torch.zeros(rows, dtype=torch.long)
    for ids in pieces:
        total += torch.bincount(torch.tensor(ids[1:], dtype=torch.long), minlength=rows)
    return total


def _states(model: Any, pieces: Sequence[Sequence[int]]) -> Any:
    """Final hidden states before each token, (n, width) float32 on the CPU."""
    import torch

    states = []
    model.eval()
    with torch.inference_mode(), load.autocast():
        for ids in pieces:
            if len(ids) < 2:
                continue
            batch = torch.tensor([ids], device=model.get_input_embeddings().weight.device)
            hidden = model.get_decoder()(input_ids=batch, use_cache=False).last_hidden_state[0, :-1]
            states.append(hidden.float().cpu())
    if not states:
        return torch.zeros(0, model.config.get_text_config().hidden_size)
    return torch.cat(states).clone()


def spread(weight: Any, new_ids: range) -> dict[str, float]:
    """Norms of old and new rows, for the record: rows much longer or shorter than the old ones train badly."""
    norms = weight.detach().float().norm(dim=1).cpu().numpy()
    new = norms[new_ids.start : new_ids.stop]
    return {"old_norm": float(np.mean(norms[: new_ids.start])), "new_norm": float(np.mean(new))}
