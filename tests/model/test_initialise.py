"""New rows against the definition written out by hand, and against what calibration promises."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fastvocab.model import checkpoint, initialise, load, reference, text
from fastvocab.model.extend import NewTokens
from tests.conftest import english, sentences


def test_subtoken_means_equal_a_loop(tied_llama: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(50, 8, generator=generator)
    base_ids = [[1, 2, 3], [4], [0, 0, 7, 9, 11]]
    expected = weight.clone()
    for i, ids in enumerate(base_ids):
        expected[40 + i] = torch.stack([weight[j] for j in ids]).mean(0)
    initialise.subtoken_mean(weight, 40, base_ids)
    torch.testing.assert_close(weight, expected)


@pytest.mark.parametrize("kind", ["tied_llama", "untied_llama"])
def test_calibration_gives_new_tokens_their_share_and_leaves_old_rows(kind: str, make, request) -> None:
    made = make(request.getfixturevalue(kind))
    base = reference.resolve(str(made.base))
    new = NewTokens.read(made.tokenizer)
    from fastvocab.model.extend import grow

    model, own = load.base_model(base, load_in_4bit=False, block=64, seed=0)
    grow(model, own, new.ids, new.spellings)
    for weight in load.embedding_weights(model).values():
        initialise.subtoken_mean(weight, new.ids.start, new.base_ids)
    before = model.get_output_embeddings().weight.detach().clone()
    tok = text.tokenizer(made.tokenizer)
    pieces = [list(text.pieces(tok, texts, limit=8000, size=150)) for texts in (sentences(60), english(3))]
    counts = initialise.count(pieces[0], len(before))
    figures = initialise.calibrate(model, *pieces, new.ids, counts)
    after = model.get_output_embeddings().weight.detach()
    assert torch.equal(before[: new.ids.start], after[: new.ids.start])
    assert figures["after"] == pytest.approx(figures["share"], abs=0.01)
    assert abs(figures["before"] - figures["share"]) > 0.05, "nothing was there to calibrate"
    # the update has rank one: every row moved along the same direction
    update = after[new.ids.start :] - before[new.ids.start :]
    singular = torch.linalg.svdvals(update.float())
    assert singular[1] < 1e-3 * singular[0]


def test_a_text_without_new_tokens_leaves_the_rows_alone(make, tied_llama: Path) -> None:
    made = make(tied_llama)
    model, tok = checkpoint.load(made.extend)
    before = model.get_output_embeddings().weight.detach().clone()
    pieces = list(text.pieces(tok, english(2), limit=3000, size=150))
    counts = initialise.count(pieces, len(before))
    figures = initialise.calibrate(model, pieces, [], NewTokens.read(made.tokenizer).ids, counts)
    assert figures["share"] == 0
    assert torch.equal(before, model.get_output_embeddings().weight)
