"""``init: auto``: a fair comparison that leaves no trace in the model."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastvocab.errors import ModelError
from fastvocab.model import backend, checkpoint, initialise, load, new_rows, reference, text
from fastvocab.model.extend import extend
from fastvocab.model.initialise import choose, means
from fastvocab.model.initialise.task import Task
from tests.conftest import english, sentences
from tests.model.test_extend_model import georgian
from tests.model.test_initialise import KINDS, of, snapshot


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "STEPS", 12)


def trace(model) -> dict[str, object]:
    """All that the probe could leave behind, but for values."""
    found: dict[str, object] = {name: p.requires_grad for name, p in model.named_parameters()}
    for name, module in model.named_modules():
        hooks = (module._state_dict_hooks, module._state_dict_pre_hooks)
        kept = sorted(k for k in vars(module) if k != "_unsloth_cache")
        found[f"{name}:"] = (type(module), module.training, kept, *map(len, hooks))
    return found


@pytest.mark.parametrize(("kind", "dtype"), zip(KINDS, (torch.bfloat16, torch.float32)))
def test_a_probe_leaves_the_model_as_it_was(kind: str, dtype: torch.dtype, make, request) -> None:
    model, task = of(make(request.getfixturevalue(kind)))
    model.to(dtype)
    next(model.parameters()).requires_grad_(False)
    before = {name: t.clone() for name, t in model.state_dict().items()}
    state = trace(model)
    found = choose.rank(model, task, initialise.METHODS)
    assert trace(model) == state
    after = model.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(after[n], before[n]) for n in before)
    json.dumps(found, allow_nan=False)
    assert {row["method"] for row in found["methods"]} == {*choose.CANDIDATES, "description"}
    bits = [row["after"] for row in found["methods"]]
    assert bits == sorted(bits)
    assert all(row["after"] < row["before"] for row in found["methods"]), "it has trained"
    assert found["steps"] == 12 and found["tokens"] == 12 * 256


def test_a_probe_is_the_same_each_time_and_depends_on_the_start_alone(make, tied_llama: Path) -> None:
    model, task = of(make(tied_llama))
    first, again = (choose.rank(model, task, initialise.METHODS)["methods"] for _ in range(2))
    figures = [[(r["method"], r["before"], r["after"]) for r in rows] for rows in (first, again)]
    assert figures[0] == figures[1]
    twins = {**initialise.METHODS, "calibrated": means.subtokens}
    rows = {r["method"]: r for r in choose.rank(model, task, twins)["methods"]}
    assert rows["calibrated"]["after"] == rows["subtokens"]["after"]


def test_bits_per_byte_are_transformers_loss_by_bytes(make, tied_llama: Path) -> None:
    model, task = of(make(tied_llama))
    means.subtokens(model, task)
    piece = sentences(3)[0]
    ids = torch.tensor([[text.bos_id(task.tokenizer), *text.encode(task.tokenizer, [piece])[0]]])
    model.eval()
    with torch.no_grad(), backend.autocast():
        nats = float(model(input_ids=ids, labels=ids).loss) * (ids.shape[1] - 1)
    assert choose._bits(model, task.tokenizer, [piece]) == pytest.approx(
        nats / math.log(2) / len(piece.encode()), rel=1e-3
    )


@given(st.lists(st.integers(1, 2048), min_size=10, max_size=400))
def test_held_out_text_is_in_no_training_text(sizes: list[int]) -> None:
    pieces = [f"{place:05}".ljust(size, "x") for place, size in enumerate(sizes)]
    training, heldout = choose.split(pieces)
    own = {p[:5] for p in heldout if p[:5].isdigit()}
    assert own and not own & {p[:5] for p in training}
    assert len("".join(training)) + len("".join(heldout)) == len("".join(pieces))
    assert len("".join(heldout)) <= choose._HELDOUT_BYTES + 2048
    assert len(training) >= len(pieces) / 2


def test_methods_read_no_text_that_they_are_compared_on(make, tied_llama: Path) -> None:
    model, task = of(make(tied_llama))
    seen: list[Task] = []

    def spy(model, given: Task) -> dict:
        seen.append(given)
        return means.subtokens(model, given)

    choose.rank(model, task, dict.fromkeys(initialise.METHODS, spy))
    heldout = choose.split(task.target)[1]
    assert len(seen) == len(choose.CANDIDATES) + 1 == 5
    for given_task in seen:
        assert not any(part in piece for piece in given_task.target for part in heldout)


def test_a_start_that_breaks_the_model_comes_last(make, tied_llama: Path) -> None:
    model, task = of(make(tied_llama))

    def broken(model, task: Task) -> dict:
        for weight in load.embedding_weights(model).values():
            weight.data[task.new.ids.start : task.new.ids.stop] = torch.nan
        return {}

    before = snapshot(model)
    rows = choose.rank(model, task, {**initialise.METHODS, "calibrated": broken})["methods"]
    assert rows[-1]["method"] == "calibrated" and rows[-1]["after"] is None
    assert rows[0]["after"] is not None
    with pytest.raises(ModelError, match="not finite from any start"):
        choose.rank(model, task, dict.fromkeys(initialise.METHODS, broken))
    assert all(torch.equal(rows, snapshot(model)[part]) for part, rows in before.items())


def test_too_little_text_is_refused(make, tied_llama: Path) -> None:
    with pytest.raises(ModelError, match=r"init auto has 4,624 bytes") as error:
        extend(
            Path("nowhere"), reference.resolve(str(tied_llama)), make(tied_llama).tokenizer, init="auto", seed=1,
            target_text=[sentences(100)[0], "x" * 4400],
        )  # fmt: skip
    assert "at least 20,000" in str(error.value)


@pytest.mark.parametrize("kind", KINDS)
def test_auto_is_the_winner_and_says_so(kind: str, make, request, tmp_path: Path) -> None:
    made = make(request.getfixturevalue(kind))
    given = {
        "target_text": made.corpus / "train.jsonl", "original_text": made.corpus / "replay.jsonl", "seed": 5,
        "calibration_bytes": 10_000,
    }  # fmt: skip
    base = reference.resolve(str(made.base))
    for name in ("auto", "named"):
        (tmp_path / name).mkdir()
    figures = extend(tmp_path / "auto", base, made.tokenizer, init="auto", **given)
    winner = figures["probe"]["methods"][0]["method"]
    facts = checkpoint.read(tmp_path / "auto")
    assert figures["init"] == facts["init"] == facts["extensions"][-1]["init"] == winner != "auto"
    again = extend(tmp_path / "named", base, made.tokenizer, init=winner, **given)
    assert again["initialise"] == figures["initialise"]
    assert (tmp_path / "auto" / "rows.safetensors").read_bytes() == (
        tmp_path / "named" / "rows.safetensors"
    ).read_bytes()


def test_auto_on_a_checkpoint_keeps_its_rows_and_its_adapter(make, tied_llama: Path, tmp_path: Path) -> None:
    first = make(tied_llama)
    second = make(first.pretrain, "new_rows", texts=georgian(), script="Geor")
    figures = extend(
        tmp_path, reference.resolve(str(first.pretrain)), second.tokenizer, init="auto", seed=2,
        target_text=georgian() * 3, original_text=english(5),
    )  # fmt: skip
    manifest = checkpoint.read(tmp_path)
    assert [e["init"] for e in manifest["extensions"]] == ["calibrated", figures["init"]]
    before, old = checkpoint.load(first.pretrain)
    after, _ = checkpoint.load(tmp_path)
    ids = torch.tensor([old("Мова народу and English").input_ids])
    with torch.inference_mode():
        assert torch.equal(after(input_ids=ids).logits[..., :800], before(input_ids=ids).logits)


def test_opened_rows_can_be_closed_again(make, tied_llama: Path) -> None:
    model, task = of(make(tied_llama))
    model.to(torch.bfloat16)
    state = trace(model)
    close = new_rows.open_rows(model, task.new.ids)
    (rows,) = load.trained_rows(model).values()
    with torch.no_grad():
        rows.fill_(0.25)
    close()
    assert not load.trained_rows(model) and (model.get_input_embeddings().weight[700:800] == 0.25).all()
    assert trace(model) == state
