"""Models that change their logits behind the head: rows start by what the model itself answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from fastvocab.model import initialise
from fastvocab.model.initialise import means
from fastvocab.model.initialise.calibration import begun, states
from fastvocab.model.logits import transform_of
from fastvocab.model.nats import nats
from tests.model.test_initialise import of

#: Strong enough that a start which ignores them misses.
CHANGED: dict[str, dict[str, Any]] = {
    "Granite": {"logits_scaling": 4.0},
    "Cohere": {"logit_scale": 0.25},
    "Gemma2": {"final_logit_softcapping": 6.0, "head_dim": 16, "query_pre_attn_scalar": 16},
}


@pytest.fixture(params=CHANGED)
def changed(request: pytest.FixtureRequest, tied_llama: Path, make: Any) -> tuple[Any, Any, str]:
    """(a tiny model of another family on the same tokenizer, its task, the family), rows at their sub-token means."""
    made = make(tied_llama)
    _, task = of(made)
    name = request.param
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(
        vocab_size=832, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=2100, bos_token_id=0, eos_token_id=1, pad_token_id=1,
        tie_word_embeddings=False, **CHANGED[name],
    )  # fmt: skip
    model = getattr(transformers, f"{name}ForCausalLM")(config).eval()
    with torch.no_grad():  # so that logits differ at all: random rows of 0.02 give nearly even ones
        model.get_output_embeddings().weight.mul_(10)
    means.subtokens(model, task)
    return model, task, name


def _logits(model: Any, pieces: list[list[int]]) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([model(torch.tensor([ids])).logits[0, :-1] for ids in pieces])


def test_states_times_the_head_are_the_models_logits(changed: tuple[Any, Any, str]) -> None:
    model, task, _ = changed
    pieces = task.pieces(task.target)[:2]
    mine = states(model, pieces) @ model.get_output_embeddings().weight.detach().T
    found = transform_of(model).capped(mine)
    # sums in another order, or bfloat16 products where the CPU has them
    torch.testing.assert_close(found, _logits(model, pieces), atol=0.05, rtol=0.05)


def test_nats_are_those_of_the_models_own_logits(
    changed: tuple[Any, Any, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted a few logits at a time, from the states in front of the head."""
    model, task, _ = changed
    pieces = [ids[: 8 + 5 * n] for n, ids in enumerate(task.pieces(task.target)[:4])]
    monkeypatch.setattr("fastvocab.model.nats.CHUNK", 832 * 3)
    counted = [[n % 3 != 1 for n in range(len(ids))] for ids in pieces]
    for chosen in (None, counted):
        for ids, keep, found in zip(pieces, counted, nats(model, pieces, chosen), strict=True):
            each = torch.nn.functional.cross_entropy(
                _logits(model, [ids]), torch.tensor(ids[1:]), reduction="none"
            )
            wanted = each if chosen is None else each[torch.tensor(keep[1:])]
            assert found == pytest.approx(float(wanted.double().sum()), rel=0.02), "bfloat16 products"


def test_new_tokens_get_their_share_of_the_models_own_probability(changed: tuple[Any, Any, str]) -> None:
    model, task, _ = changed
    notes = begun(model, task).notes
    own = _logits(model, task.pieces(task.target)).softmax(-1)[:, task.new.ids.start : task.new.ids.stop]
    assert float(own.sum(1).mean()) == pytest.approx(notes["share"], abs=0.03)
    assert abs(notes["before"] - notes["share"]) > 0.1, "nothing was there to calibrate"


def test_the_fit_to_counts_lowers_the_models_own_loss_or_is_left_out_aloud(
    changed: tuple[Any, Any, str], capsys: pytest.CaptureFixture[str]
) -> None:
    model, task, name = changed
    pieces = task.pieces(task.target)
    begun(model, task)
    calibrated, rows = sum(nats(model, pieces)), model.get_output_embeddings().weight.detach().clone()
    notes = initialise.METHODS["counted"](model, task)
    if name == "Gemma2":
        assert "caps its logits at 6" in capsys.readouterr().err and "counted_tokens" not in notes
        assert torch.allclose(model.get_output_embeddings().weight, rows, atol=1e-5)
    else:
        assert sum(nats(model, pieces)) < calibrated - 0.01 * abs(calibrated)
        assert notes["cross_entropy_after"] < notes["cross_entropy_before"]
