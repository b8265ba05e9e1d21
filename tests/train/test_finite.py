"""A loss or a gradient that is not finite stops training before the update, and says which text it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from fastvocab.errors import TrainingError
from fastvocab.model import backend, checkpoint, text
from fastvocab.train.data import Order
from tests.train.conftest import RARE, RARE_LINE, Material, same


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A model that has ``value`` for the embedding of one token, in training."""

    def poison(token: int, value: float, *, backward: bool = False) -> None:
        original = checkpoint.load

        def loaded(*args: Any, **kwargs: Any) -> Any:
            model, tok = original(*args, **kwargs)

            hit = torch.zeros(1)

            def spoil(module: Any, given: Any, out: Any) -> Any:
                nonlocal hit
                hit = (given[0] == token)[..., None] & module.training
                return out if backward else torch.where(hit, value, out)

            def spoil_gradient(module: Any, given: Any, out: Any) -> None:
                place = hit
                if place.any():
                    out.register_hook(lambda gradient: torch.where(place, value, gradient))

            model.get_input_embeddings().register_forward_hook(spoil)
            if backward:
                model.get_base_model().model.layers[0].register_forward_hook(spoil_gradient)
            return model, tok

        monkeypatch.setattr(checkpoint, "load", loaded)

    return poison


def _rare(material: Material) -> int:
    """The first of the tokens that `RARE` is, in no other document's ids."""
    tok = text.tokenizer(material.extend["untied"])
    documents = text.encode(tok, list(text.documents(material.corpus / "train.jsonl")))
    token = text.encode(tok, [RARE])[0][0]
    assert [line for line, ids in enumerate(documents, 1) if token in ids] == [RARE_LINE]
    return token


def _holds_the_rare_line(said: str) -> bool:
    """Is the rare token's line in one of the spans of lines that are named?"""
    named = said.split("(")[1].split(")")[0].split("; ")
    spans = [part.removeprefix("train.jsonl line").lstrip("s ").split(" to ") for part in named]
    return any(int(span[0]) <= RARE_LINE <= int(span[-1]) for span in spans)


@pytest.mark.parametrize(("value", "backward"), [(float("nan"), False), (float("inf"), True)])
@pytest.mark.parametrize("mode", ["full", "new_rows"])
def test_training_stops_before_the_update_and_names_the_document(
    mode: str, value: float, backward: bool, train: Any, material: Material, poisoned: Any
) -> None:
    settings = (f"embeddings={mode}", "steps=8", "replay=0", "save_steps=1", "keep_saves=99", "evaluations=0")
    token = _rare(material)
    whole = train("untied", *settings, name="healthy")
    poisoned(token, value, backward=backward)
    with pytest.raises(TrainingError) as stopped:
        train("untied", *settings, name="poisoned")
    said = str(stopped.value)
    what = "the norm of the gradient is" if backward else "the loss is nan"
    assert what in said and "lower pretrain.learning_rate" in said
    step = int(said.split(" at step ")[1].split(",")[0])
    named = [int(n) for n in said.split("in block ")[1].split(" (")[0].split(", ")]
    assert sorted(named) == sorted(i for batch in Order(16, 2, 1, 3).batches(step) for i in batch)
    assert _holds_the_rare_line(said)
    # the last save is that of the step before, as good as in the training without a fault
    saves = whole.saves.parent.parent / "poisoned" / "saves"
    assert step > 1 and sorted(saves.iterdir())[-1].name == f"step-{step - 1:08d}"
    assert f"the save of step {step - 1} is kept" in said
    other = type(whole)(whole.folder, saves, {})
    assert same(other.tensors(step - 1), whole.tensors(step - 1))


def test_within_accumulation_it_is_the_one_batch_that_is_named(
    train: Any, material: Material, poisoned: Any
) -> None:
    token = _rare(material)
    poisoned(token, float("nan"))
    with pytest.raises(TrainingError) as stopped:
        train("untied", "embeddings=frozen", "steps=4", "replay=0", "batch=1", "accumulate=4")
    said = str(stopped.value)
    assert "there is no save yet" in said, "no save was asked for"
    (row,) = (int(n) for n in said.split("in block ")[1].split(" (")[0].split(", "))
    step = int(said.split(" at step ")[1].split(",")[0])
    assert [row] in Order(16, 1, 4, 3).batches(step)
    assert _holds_the_rare_line(said), "of the four blocks of the step it is the one with the text"


def test_a_gradient_scaler_may_overflow(train: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """float16 training looks for its scale by overflowing; the scaler passes over such a step itself."""
    from fastvocab.train import trainer

    made = trainer._class()
    asked = object.__new__(made)
    asked.accelerator = type("A", (), {"scaler": object()})()
    monkeypatch.setattr(
        backend.unsloth().UnslothTrainer, "_get_grad_norm", lambda self, model, grad_norm: grad_norm
    )
    assert asked._get_grad_norm(None, grad_norm=float("inf")) == float("inf")
