"""Head rows fitted to counts: against the optimum that a library's optimizer finds on dense matrices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from fastvocab.model import checkpoint, initialise, load, text
from fastvocab.model.counts import Counts, contexts
from fastvocab.model.initialise import counted
from fastvocab.model.initialise.calibration import states
from fastvocab.model.new_tokens import NewTokens
from tests.conftest import english, sentences
from tests.model.test_initialise import KINDS, of, snapshot


def _problem(made: Any) -> tuple[Any, Any, Counts, list[list[int]], list[list[int]]]:
    model, tok = checkpoint.load(made.extend)
    target, original = (list(text.pieces(tok, t, limit=3000)) for t in (sentences(80), english(3)))
    return model, NewTokens.read(made.tokenizer).ids, Counts(target, text.rows(tok)), target, original


@pytest.mark.parametrize("kind", KINDS)
def test_fitted_rows_come_near_the_optimum_and_no_other_row_moves(kind: str, make: Any, request: Any) -> None:
    made = make(request.getfixturevalue(kind))
    model, ids, counts, target, _ = _problem(made)
    hidden = states(model, target)
    head = model.get_output_embeddings().weight.detach().clone()
    before = torch.cat([contexts(torch.tensor([piece]), piece[0], counts.order) for piece in target])
    wanted = torch.stack(
        [counts.probability(before, torch.full((len(before),), i)) for i in range(len(counts.unigram))], 1
    )

    def cross_entropy(rows: torch.Tensor) -> torch.Tensor:
        logits = hidden @ torch.cat([head[: ids.start], rows, head[ids.stop :]]).T
        return functional.cross_entropy(logits, functional.pad(wanted, (0, len(head) - wanted.shape[1])))

    rows = torch.nn.Parameter(head[ids.start : ids.stop].clone())
    start = cross_entropy(rows).item()
    best = torch.optim.LBFGS([rows], lr=0.5, max_iter=30, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        best.zero_grad()
        loss = cross_entropy(rows)
        loss.backward()
        return loss

    best.step(closure)
    optimum = cross_entropy(rows).item()

    weights = snapshot(model)
    figures = counted.fit(model, counts, target, hidden, torch.zeros(0, 64), ids, steps=100)
    after = load.embedding_weights(model)
    for part, weight in weights.items():
        moved = (after[part] != weight).any(1).nonzero()[:, 0]
        assert part == ("embed_tokens" if load.is_tied(model) else "lm_head") or not len(moved)
        assert not len(moved) or (ids.start <= moved.min() and moved.max() < ids.stop)
    reached = float(cross_entropy(model.get_output_embeddings().weight.detach()[ids.start : ids.stop]))
    assert optimum <= reached + 1e-6
    assert start - reached > 0.3 * (start - optimum) > 0, (start, reached, optimum)
    # the recorded figures are the same but for what the old rows' targets add
    assert figures["cross_entropy_before"] - figures["cross_entropy_after"] == pytest.approx(
        start - reached, abs=0.02
    )


def test_new_tokens_stay_unlikely_in_the_original_language(make: Any, tied_llama: Path) -> None:
    model, ids, counts, target, original = _problem(make(tied_llama))

    def mass() -> float:
        logits = states(model, original) @ model.get_output_embeddings().weight.detach().T
        return float(logits.softmax(-1)[:, ids.start : ids.stop].sum(1).mean())

    counted.fit(model, counts, target, states(model, target), states(model, original), ids)
    held = mass()
    model, ids, *_ = _problem(make(tied_llama))
    counted.fit(model, counts, target, states(model, target), torch.zeros(0, 64), ids)
    assert held < mass()


def test_the_method_reads_its_text_and_says_what_it_found(make: Any, untied_llama: Path) -> None:
    model, task = of(make(untied_llama))
    notes = initialise.METHODS["counted"](model, task)
    assert notes["cross_entropy_after"] < notes["cross_entropy_before"]
    assert notes["counted_tokens"] > notes["positions"] > 0 < notes["share"]
