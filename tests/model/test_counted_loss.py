"""Counts as targets of training: the gradient of the mixture, the value of the plain loss, in every mode."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from fastvocab.model import chunked_loss, load
from fastvocab.model.counts import NONE, Counts, Mixture, contexts
from tests.model.test_new_rows import NEW, _batch, _opened

BEGIN = 510


def _counted(ids: torch.Tensor, rows: int, share: float) -> Mixture:
    generator = torch.Generator().manual_seed(1)
    texts = [[BEGIN, *torch.randint(500, 560, (60,), generator=generator).tolist()] for _ in range(40)]
    texts += [[BEGIN, *row] for row in ids.tolist()]
    counts = Counts(texts, rows, order=3)
    positions = contexts(ids, BEGIN, 3)
    shares = torch.full((len(positions),), share)
    shares[::7] = 0  # where they do not apply
    return Mixture(counts, positions, shares)


def _dense(counted: Mixture, labels: torch.Tensor, rows: int) -> torch.Tensor:
    """(positions, rows) of the same targets, one number at a time."""
    out = torch.zeros(len(labels), rows)
    for token in range(rows):
        out[:, token] = counted.share * counted.counts.probability(
            counted.contexts, torch.full((len(labels),), token)
        )
    return out + (1 - counted.share)[:, None] * functional.one_hot(labels.clamp(min=0), rows)


@pytest.mark.parametrize("mode", ["new_rows", "full", "frozen"])
@pytest.mark.parametrize("kind", ["tied_llama", "untied_llama"])
def test_the_gradient_is_that_of_the_mixture_and_the_value_the_plain_loss(
    kind: str, mode: str, request: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunked_loss, "CHUNK", 16 * 700)
    monkeypatch.setattr(chunked_loss, "SLICE", 5 * 700)
    base: Path = request.getfixturevalue(kind)
    batch = _batch()
    ours, reference = _opened(base, mode), _opened(base, "full")
    if mode != "new_rows":
        assert chunked_loss.open_loss(ours)
    rows = ours.get_input_embeddings().weight.shape[0]
    counted = _counted(batch["input_ids"], rows, 0.7)
    value = ours(**batch, counted=counted).loss
    value.backward()

    monkeypatch.setenv("UNSLOTH_RETURN_LOGITS", "1")
    plain = reference(**batch)
    assert value.item() == pytest.approx(plain.loss.item(), abs=2e-6)
    labels = batch["labels"][:, 1:].flatten()
    keep = labels != -100
    dense = _dense(counted, labels, rows)[keep]
    logits = plain.logits[:, :-1].flatten(0, 1)[keep]
    functional.cross_entropy(logits, dense).backward()
    adapters = [{n: p.grad for n, p in m.named_parameters() if "lora_" in n} for m in (reference, ours)]
    assert adapters[0].keys() == adapters[1].keys()
    for name, gradient in adapters[0].items():
        torch.testing.assert_close(adapters[1][name], gradient, rtol=1e-4, atol=1e-7)
    expected = load.embedding_weights(reference)
    if mode == "frozen":
        assert not any(w.requires_grad for w in load.embedding_weights(ours).values())
    for part, weight in expected.items():
        if mode == "new_rows":
            mine = load.trained_rows(ours)[part].grad
            torch.testing.assert_close(mine, weight.grad[NEW.start : NEW.stop], rtol=1e-4, atol=1e-7)
        elif mode == "full":
            found = load.embedding_weights(ours)[part].grad
            torch.testing.assert_close(found, weight.grad, rtol=1e-4, atol=1e-7)


def test_tokens_without_a_row_are_left_out_of_the_targets() -> None:
    """An added [PAD] of a tokenizer that is longer than its model's matrix: it is in no text."""
    counts = Counts([[0, 1, 2, 3, 1, 2]], 7)
    mixture = Mixture(counts, torch.tensor([[NONE, 0], [1, 2]]), torch.tensor([0.5, 1.0]))
    found = torch.zeros(2, 5)
    mixture.subtract(found, torch.tensor([[1], [3]]), 0)
    torch.testing.assert_close(-found, _dense(mixture, torch.tensor([1, 3]), 7)[:, :5])


def test_a_model_that_transforms_its_logits_is_left_alone(
    tied_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunked_loss, "_PLAIN", set())
    assert not chunked_loss.open_loss(_opened(tied_llama, "full"))
