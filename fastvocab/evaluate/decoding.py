"""How long the held-out text would take to decode: the measured time of one step, times the steps."""

from __future__ import annotations

import time
from itertools import pairwise
from statistics import median
from typing import Any

from fastvocab.model import backend, text

#: Steps that are timed, after as many that are not as caches and clocks need to settle.
STEPS, _SETTLE = 20, 4
#: Tokens of context before them; the pieces that are scored have about as many on average.
CONTEXT = 128


def measure(model: Any, tok: Any, document: str, tokens: int) -> dict[str, float]:
    """Time a decoding step with the KV cache, one sequence at a time.

    Args:
        model: adapters merged in as in an export (`backend.reading`): a step of a model with open adapters would be
            slower than one of the base for a reason that goes away with the merge.
        document: its first tokens are the context.
        tokens: of the text that the figure is for, so many steps.

    Returns:
        ``step_seconds`` (median), ``measured_steps``, ``context_tokens``, ``steps`` and ``seconds``: their product,
        an extrapolation.
    """
    import torch
    from transformers import StoppingCriteriaList

    longest = model.config.get_text_config().max_position_embeddings
    wanted = STEPS + _SETTLE
    ids = [text.bos_id(tok), *text.encode(tok, [document])[0]][: max(1, min(CONTEXT, longest - wanted - 1))]
    steps = max(2, min(wanted, longest - len(ids) - 1))
    clock: list[float] = []

    def tick(input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        clock.append(time.perf_counter())
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)

    context = torch.tensor([ids], device=model.get_input_embeddings().weight.device)
    with backend.generating(model), torch.inference_mode():
        model.generate(
            input_ids=context,
            attention_mask=torch.ones_like(context),
            min_new_tokens=steps,
            max_new_tokens=steps,
            do_sample=False,
            pad_token_id=tok.pad_token_id if tok.pad_token_id is not None else text.bos_id(tok),
            stopping_criteria=StoppingCriteriaList([tick]),
        )
    # the first token comes out of reading the context, not out of a step
    timed = [after - before for before, after in pairwise(clock)]
    timed = timed[_SETTLE:] if len(timed) > 2 * _SETTLE else timed
    each = median(timed)
    return {
        "step_seconds": each,
        "measured_steps": len(timed),
        "context_tokens": len(ids),
        "steps": tokens,
        "seconds": each * tokens,
    }
