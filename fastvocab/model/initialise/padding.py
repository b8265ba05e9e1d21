"""Rows that no token has: far below all others, so that nothing samples them."""

from __future__ import annotations

from typing import Any

from fastvocab.model import load
from fastvocab.model.initialise.calibration import direction, states
from fastvocab.model.logits import transform_of

#: Nats that padding rows are pushed down by where a context measures 1.
_SILENCE = 100.0


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
    contexts = states(model, drawn)
    common = direction(contexts, contexts[:0])
    strength = _SILENCE if float((contexts @ common).min()) > 0.2 else 0.0
    head = model.get_output_embeddings().weight
    with torch.no_grad():
        for weight in load.embedding_weights(model).values():
            weight[padding.start : padding.stop] = weight[:tokens].float().mean(0).to(weight.dtype)
        head[padding.start : padding.stop] -= (strength * common).to(head)
        logits = transform_of(model).capped(contexts @ head.detach().float().cpu().T)
    best = logits[:, : padding.start].amax(1) - logits[:, padding.start : padding.stop].amax(1)
    return {"rows": len(padding), "margin": float(best.min())}
