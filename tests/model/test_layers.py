"""Layers that train themselves: every weight moves, a save goes on bit by bit, an adapter may stand on top."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from fastvocab.config.models import InstructSection, NamedToken, PretrainSection
from fastvocab.errors import ConfigError, DataError, Stopped
from fastvocab.model import checkpoint, load, manifest, reference
from fastvocab.model.extend import extend
from fastvocab.tokenizer import named_stage
from fastvocab.train import callbacks
from fastvocab.train.instruct import instruct
from fastvocab.train.pretrain import pretrain
from fastvocab.train.sequences import Sequences


def rows(count: int = 24) -> Sequences:
    generator = torch.Generator().manual_seed(0)
    made = [[0, 700, 701, *torch.randint(2, 700, (13,), generator=generator).tolist()] for _ in range(count)]
    return Sequences(
        [{"input_ids": ids, "labels": list(ids)} for ids in made], origins=[f"row {n}" for n in range(count)]
    )


@pytest.fixture(scope="module", params=["tied_llama", "untied_llama"])
def start(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoint 0 with two tags."""
    folder, base = tmp_path_factory.mktemp("start"), request.getfixturevalue(request.param)
    for name in ("tokenizer", "extend"):
        (folder / name).mkdir()
    named_stage.build(base, folder / "tokenizer", [NamedToken(token="<t>"), NamedToken(token="</t>")])
    extend(folder / "extend", reference.resolve(str(base)), folder / "tokenizer", init="subtokens", seed=0)
    return folder / "extend"


def train(start: Path, out: Path, saves: Path, **changed: Any) -> dict[str, Any]:
    out.mkdir()
    settings = {"layers": "full", "steps": 6, "batch": 4, "block": 16, "learning_rate": 1e-3, "evaluations": 0,
                "count_targets": 0.0, "shared_subwords": False, "embeddings": "full"} | changed  # fmt: skip
    return pretrain(
        out,
        previous=start,
        sequences=rows(),
        section=PretrainSection(**settings),
        key="k",
        saves_folder=saves,
        seed=1,
    )


@pytest.mark.parametrize("embeddings", ["full", "new_rows", "frozen"])
def test_every_weight_of_the_layers_moves_and_of_the_matrices_what_was_asked(
    start: Path, tmp_path: Path, embeddings: str
) -> None:
    figures = train(start, tmp_path / "out", tmp_path / "saves", embeddings=embeddings)
    before, _ = checkpoint.load(start)
    after, _ = checkpoint.load(tmp_path / "out")
    old, matrices = dict(before.named_parameters()), load.embedding_weights(before).values()
    inside = {id(weight) for weight in matrices}
    layers = 0
    for name, weight in after.named_parameters():
        if id(old[name]) not in inside:
            layers += weight.numel()
            assert not torch.equal(weight, old[name]), name
    for part, weight in load.embedding_weights(after).items():
        moved = (weight != load.embedding_weights(before)[part]).any(1)
        assert moved[700:702].all() == (embeddings != "frozen")
        assert moved[:700].any() == (embeddings == "full")
    parts = len(load.embedding_weights(before))
    opened = {"full": 702 * 64 * parts, "new_rows": 2 * 64 * parts, "frozen": 0}[embeddings]
    assert figures["trainable_parameters"] == layers + opened
    assert manifest.read(tmp_path / "out")["lora"] is None


def test_losses_are_those_of_plain_transformers(start: Path, tmp_path: Path) -> None:
    """The same rows in the same order through LlamaForCausalLM and torch's AdamW."""
    from fastvocab.model import backend
    from fastvocab.train.data import Order

    constant = {
        "warmup": 0.0,
        "embedding_learning_rate": 1e-3,
        "new_rows_learning_rate": 1e-3,
        "max_grad_norm": 0.0,
    }
    train(start, tmp_path / "out", tmp_path / "saves", **constant)
    log = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    model, _ = checkpoint.load(start)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    order, data = Order(24, 4, 1, 1), rows().rows
    for entry in log:
        ids = torch.tensor(
            [data[row]["input_ids"] for batch in order.batches(entry["step"]) for row in batch]
        )
        with backend.autocast():
            loss = model(input_ids=ids, labels=ids).loss
        assert entry["loss"] == pytest.approx(loss.item(), rel=5e-3), "bfloat16 in another order"
        optimizer.zero_grad()
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = entry["learning_rate"]
        optimizer.step()


def test_a_broken_training_goes_on_bit_by_bit(
    start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(start, tmp_path / "straight", tmp_path / "saves-1")
    real = callbacks.stopper

    def stopped(budget: Any, section: Any) -> Any:
        made = real(budget, section)
        step_end = made.on_step_end

        def on_step_end(args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 3:
                made.signum = 15
            step_end(args, state, control, **kwargs)

        made.on_step_end = on_step_end
        return made

    monkeypatch.setattr(callbacks, "stopper", stopped)
    with pytest.raises(Stopped):
        train(start, tmp_path / "broken", tmp_path / "saves-2")
    monkeypatch.setattr(callbacks, "stopper", real)
    (tmp_path / "broken").rmdir()
    train(start, tmp_path / "broken", tmp_path / "saves-2")
    one, two = (checkpoint.load(tmp_path / name)[0] for name in ("straight", "broken"))
    for (name, a), b in zip(one.named_parameters(), two.parameters()):
        assert torch.equal(a, b), name


def test_an_adapter_on_top_keeps_the_layers_under_it(start: Path, tmp_path: Path) -> None:
    train(start, tmp_path / "full", tmp_path / "saves")
    said = [
        {"messages": [{"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": f"a{n}"}]}
        for n in range(8)
    ]
    (tmp_path / "tuned").mkdir()
    instruct(
        tmp_path / "tuned", previous=tmp_path / "full", rows=lambda dropped: iter(said), key="k",
        section=InstructSection(steps=2, batch=2, max_length=64, evaluations=0), saves_folder=tmp_path / "s", seed=1,
    )  # fmt: skip
    facts = manifest.read(tmp_path / "tuned")
    assert facts["layers"] is True and facts["lora"]
    under, _ = checkpoint.load(tmp_path / "full")
    tuned, _ = checkpoint.load(tmp_path / "tuned")
    found = {
        n.replace("base_model.model.", "").replace(".base_layer", ""): p for n, p in tuned.named_parameters()
    }
    for name, weight in under.named_parameters():
        assert torch.equal(weight, found[name]), name
    with pytest.raises(ConfigError, match="has an adapter"):
        checkpoint.load(tmp_path / "tuned", trainable=True, full_layers=True)
    assert checkpoint.merge(tmp_path / "tuned", tmp_path / "plain")["dtype"] == "bfloat16"


def test_sequences_without_a_token_to_learn_are_refused() -> None:
    with pytest.raises(DataError, match="none of 1 sequences"):
        Sequences([{"input_ids": [1, 2], "labels": [1, -100]}]).data()
