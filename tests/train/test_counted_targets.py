"""``count_targets``: which positions have counts in their targets, how much, and when it is off."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
import torch

from fastvocab.model import chunked_loss
from fastvocab.model.counts import NONE, Counts
from fastvocab.train import evaluation
from fastvocab.train.data import Data, pad
from tests.train.conftest import same
from tests.train.test_evaluation import LOOKS

BEGIN = 0


def _data() -> Data:
    counts = Counts([[BEGIN, 1, 2, 3], [BEGIN, 1, 2, 2]], 5)
    return Data(None, {}, pad, str, "block", counts=counts, begin=BEGIN)


def test_replay_and_the_beginning_of_a_document_keep_their_own_tokens_as_targets() -> None:
    ids = torch.tensor([[BEGIN, 1, 2, BEGIN, 3], [BEGIN, 4, 4, 4, 4]])
    found = _data().targets(ids, torch.tensor([True, False]), 0.5)
    assert found.share.view(2, 4).tolist() == [[0.5, 0.5, 0.0, 0.5], [0.0] * 4]
    assert found.contexts.view(2, 4, 2)[0].tolist() == [[NONE, BEGIN], [BEGIN, 1], [1, 2], [NONE, BEGIN]]


def test_counts_change_what_is_learnt_and_0_is_plain_training(
    train: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []
    targets = Data.targets

    def noted(self: Data, ids: Any, new_language: Any, share: float) -> Any:
        asked.append(share)
        return targets(self, ids, new_language, share)

    monkeypatch.setattr(Data, "targets", noted)
    settings = ("steps=4", "embeddings=new_rows", "evaluations=0")
    plain = train("tied", *settings, "count_targets=0", name="plain")
    assert not asked and "counted_tokens" not in plain.figures["data"]
    counted = train("tied", *settings, "count_targets=0.8", name="counted")
    assert asked == pytest.approx([0.8, 0.6, 0.4, 0.2]), "unwatched it falls to 0 towards the end"
    assert counted.figures["data"]["counted_tokens"] > 0
    assert not same(plain.tensors(), counted.tensors())
    base = train("plain", "steps=1", "embeddings=frozen", "evaluations=0", name="base")
    assert len(asked) == 5, "a model without new tokens has counts of its own tokens"
    assert base.figures["data"]["counted_tokens"] > 0


def test_nothing_is_counted_for_a_model_whose_loss_cannot_use_it(
    train: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(chunked_loss, "_PLAIN", set())  # as for a model with a soft cap on its logits
    done = train("tied", "steps=1", "embeddings=full", "evaluations=0")
    assert "counted_tokens" not in done.figures["data"]
    assert "so counts are left out" in " ".join(capsys.readouterr().err.split())


def test_counts_teach_until_the_model_has_caught_up(train: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    targets, nats = Data.targets, Counts.nats

    def noted(self: Data, ids: Any, new_language: Any, share: float) -> Any:
        asked.append(share)
        return targets(self, ids, new_language, share)

    monkeypatch.setattr(Data, "targets", noted)
    settings = (*LOOKS, "embeddings=new_rows", "count_targets=0.8", "save_steps=1", "keep_saves=99")
    done = train("tied", *settings, name="behind")
    assert len(done.looks) == 4 and len({look["counts_bits_per_byte"] for look in done.looks}) == 1
    assert all(1.05 * look["counts_bits_per_byte"] < look["target_bits_per_byte"] for look in done.looks)
    assert asked == pytest.approx([0.8] * 8), "an untrained model knows less than counts"
    asked.clear()
    looks = 0

    def worse_in_time(self: Counts, rows: Any) -> float:
        nonlocal looks
        looks += 1
        return (100 if looks > 3 else 1) * nats(self, rows)

    monkeypatch.setattr(Counts, "nats", worse_in_time)
    ahead = train("tied", *settings, name="ahead")
    assert asked == pytest.approx([0.8, 0.8, *[0] * 6]), (
        "from the first evaluation on, after three early looks"
    )
    asked.clear()
    for step in range(5, 9):
        shutil.rmtree(ahead.save(step), ignore_errors=True)
    again = train("tied", *settings, name="ahead")
    assert asked == [0] * 4 and same(again.tensors(), ahead.tensors())


def test_a_model_that_knows_more_from_the_start_is_not_taught_by_counts(
    train: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = (*LOOKS, "evaluations=1", "embeddings=new_rows", "save_steps=1", "keep_saves=99")
    asked: list[float] = []
    targets, nats = Data.targets, Counts.nats
    monkeypatch.setattr(Data, "targets", lambda *given: asked.append(given[-1]) or targets(*given))
    monkeypatch.setattr(Counts, "nats", lambda self, rows: 100 * nats(self, rows))
    done = train("tied", *settings, "count_targets=0.8", name="counted")
    assert asked == [0.0] * 8
    plain = train("tied", *settings, "count_targets=0", name="plain")
    assert [entry["loss"] for entry in done.steps] == pytest.approx(
        [entry["loss"] for entry in plain.steps], abs=1e-4
    )
    # what a look found is in the save: gone on from there, before any evaluation, the training is the same
    for step in range(2, 9):
        shutil.rmtree(done.save(step), ignore_errors=True)
    asked.clear()
    again = train("tied", *settings, "count_targets=0.8", name="counted")
    assert asked == [0.0] * 7 and same(again.tensors(), done.tensors())


@pytest.mark.parametrize(("model", "left"), [(2.0, 1.0), (1.05, 1.0), (1.025, 0.5), (1.0, 0.0), (0.5, 0.0)])
def test_what_is_left_of_the_counts(model: float, left: float) -> None:
    assert evaluation.lead(1.4 * model, 1.4) == pytest.approx(left)


def test_bits_of_counts_are_those_of_their_probabilities() -> None:
    counts = Counts([[BEGIN, 1, 2, 3], [BEGIN, 1, 2, 2]], 5)
    row = [BEGIN, 1, 2, 4]
    contexts = torch.tensor([[NONE, BEGIN], [BEGIN, 1], [1, 2]])
    by_hand = sum(
        torch.log(counts.probability(contexts[i : i + 1], torch.tensor([token])))
        for i, token in enumerate(row[1:])
    )
    assert counts.nats([row, [BEGIN]]) == pytest.approx(-float(by_hand))
