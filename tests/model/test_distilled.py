"""Rows distilled from the old spelling: where both spellings are compared, and what comes of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fastvocab.errors import ModelError
from fastvocab.model import backend, initialise, load, text
from fastvocab.model.initialise import calibration, distilled
from fastvocab.model.initialise.short_training import batches, frozen
from fastvocab.model.new_tokens import NewTokens
from tests.conftest import english, sentences
from tests.model.test_initialise import KINDS, grown, of, snapshot, words
from tests.model.test_initialise_choose import trace


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distilled, "_STEPS", 25)


def test_both_spellings_end_each_token_at_the_same_place_of_the_text(make: Any, tied_llama: Path) -> None:
    own, extended, new = _tokenizers(make(tied_llama))
    met = 0
    for line in [*sentences(20), *english(2), "x\tмова 🙂 народ\n"]:
        (ids,) = text.encode(extended, [line])
        old, ends = distilled.old_spelling(ids, new)
        met += sum(i in new.ids for i in ids)
        assert max(old) < new.ids.start and ends[-1] == len(old) - 1 and len(ends) == len(ids)
        assert own.decode(old) == extended.decode(ids) == line
        for place, end in enumerate(ends):
            # a character may be cut by a token's end: both show its half in the same way, then
            assert own.decode(old[: end + 1]) == extended.decode(ids[: place + 1])
    assert met > 100


@pytest.mark.parametrize("kind", KINDS)
def test_states_are_compared_at_the_ends_of_tokens(kind: str, make: Any, request: Any) -> None:
    """Against one row at a time, without padding, position by position."""
    model, task = of(make(request.getfixturevalue(kind)))
    calibration.calibrated(model, task)
    rows = [[0, *ids] for ids in text.encode(task.tokenizer, sentences(3))]
    rows = [row[: min(map(len, rows))] for row in rows]
    teacher = [distilled.old_spelling(row, task.new) for row in rows]
    assert len({len(old) for old, _ in teacher}) > 1, "one of them is padded"
    difference = square = 0.0
    model.eval()
    with torch.no_grad(), backend.autocast():
        for row, (old, ends) in zip(rows, teacher):
            mine, theirs = (
                model(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states[-1][0].double()
                for ids in (row, old)
            )
            for place, end in enumerate(ends):
                difference += float((mine[place] - theirs[end]).square().sum())
                square += float(theirs[end].square().sum())
    with torch.no_grad():
        found = float(distilled._loss(model, rows, teacher))
    assert found == pytest.approx(difference / square, rel=0.02)
    assert found > 0.05


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_falls_and_the_rest_of_the_model_is_as_it_was(kind: str, make: Any, request: Any) -> None:
    model, task = of(make(request.getfixturevalue(kind)))
    next(model.parameters()).requires_grad_(False)
    before = {name: t.clone() for name, t in model.state_dict().items()}
    state = trace(model)
    notes = distilled.distilled(model, task)
    assert trace(model) == state
    assert notes["steps"] == 25 and notes["tokens"] == 25 * 2 * 127 < notes["old_tokens"]
    assert notes["loss_last"] < 0.95 * notes["loss_first"]
    assert notes["after"] == pytest.approx(notes["share"], abs=0.02)
    matrices = {"model.embed_tokens.weight", "lm_head.weight"}
    for name, weight in model.state_dict().items():
        kept = torch.ones(len(weight), dtype=torch.bool)
        if name in matrices:
            kept[700:800] = False
            assert (weight[700:800] != before[name][700:800]).any(1).all()
        assert torch.equal(weight[kept], before[name][kept]), name


def test_rows_are_the_seeds(make: Any, tied_llama: Path) -> None:
    model, task = of(make(tied_llama))
    found = []
    for seed in (4, 4, 5):
        distilled.distilled(model, replace(task, seed=seed))
        found.append(snapshot(model)["embed_tokens"])
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


def test_a_head_of_its_own_differs_by_the_calibration_alone(make: Any, untied_llama: Path) -> None:
    model, task = of(make(untied_llama))
    calibration.calibrated(model, task)
    plain = snapshot(model)
    with frozen(model):
        given = batches(task, task.target, (25, 2, 127))
        distilled.distil(model, task.new, given, begin=0)
    after = snapshot(model)
    assert torch.equal(after["lm_head"], plain["lm_head"])
    assert not torch.equal(after["embed_tokens"], plain["embed_tokens"])
    distilled.distilled(model, task)
    again = snapshot(model)
    assert torch.equal(again["embed_tokens"], after["embed_tokens"])
    # along one direction, each row by a multiple of its own
    singular = torch.linalg.svdvals((again["lm_head"] - plain["lm_head"])[700:800])
    assert singular[1] < 1e-3 * singular[0]


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_that_are_old_ones_again_are_found_out(kind: str, request: Any) -> None:
    base = request.getfixturevalue(kind)
    doubles = [90, 200, 300, 310, 320, 400, 410, 500]
    found = words(base, [f"x{i}" for i in doubles])
    new = NewTokens(found.ids, found.spellings, [[i] for i in doubles], found.texts)
    model, _ = grown(base, new)
    generator = torch.Generator().manual_seed(0)
    rows = model.get_input_embeddings().weight.data
    rows[700:708] = rows[:700].std() * torch.randn(8, rows.shape[1], generator=generator)
    given = torch.randint(700, 708, (150, 2, 32), generator=generator)
    assert torch.cosine_similarity(rows[700:708], rows[doubles]).max() < 0.5
    with frozen(model):
        notes = distilled.distil(model, new, given, begin=0, rate=0.1)
    assert notes["loss_first"] > 0.5 and notes["loss_last"] < 0.02
    assert torch.cosine_similarity(rows[700:708], rows[doubles]).min() > 0.9


def test_positions_beyond_what_the_base_knows_are_left_out(make: Any, tied_llama: Path) -> None:
    model, task = of(make(tied_llama))
    calibration.calibrated(model, task)
    row = [0, *[i for ids in text.encode(task.tokenizer, sentences(12)) for i in ids][:127]]
    teacher = distilled.old_spelling(row, task.new)
    inside = sum(end < 256 for end in teacher[1])
    assert inside < len(row), "the tiny model knows 256 positions"
    with torch.no_grad():
        whole = distilled._loss(model, [row], [teacher])
        short = distilled._loss(model, [row[:inside]], [distilled.old_spelling(row[:inside], task.new)])
    assert float(whole) == pytest.approx(float(short), rel=0.02)


def test_a_broken_model_is_refused_and_left_closed(make: Any, tied_llama: Path) -> None:
    model, task = of(make(tied_llama))
    calibration.calibrated(model, task)
    state = trace(model)
    load.embedding_weights(model)["embed_tokens"].data[0] = torch.nan
    with pytest.raises(ModelError, match="init distilled: the loss is nan at step 0"), frozen(model):
        distilled.distil(model, task.new, batches(task, task.target, (3, 2, 20)), begin=0)
    assert trace(model) == state


def test_text_is_asked_for(make: Any, tied_llama: Path) -> None:
    _, task = of(make(tied_llama))
    with pytest.raises(ModelError, match="init distilled reads text of the new language"):
        initialise.check("distilled", replace(task, target=()))


def _tokenizers(made: Any) -> tuple[Any, Any, NewTokens]:
    return text.tokenizer(made.base), text.tokenizer(made.tokenizer), NewTokens.read(made.tokenizer)
