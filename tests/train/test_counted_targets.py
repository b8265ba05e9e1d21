"""``count_targets``: which positions have counts in their targets, how much, and when it is off."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fastvocab.model.counts import NONE, Counts
from fastvocab.train.data import Data, pad
from tests.train.conftest import same

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
    settings = ("steps=4", "embeddings=new_rows")
    plain = train("tied", *settings, "count_targets=0", name="plain")
    assert not asked and "counted_tokens" not in plain.figures["data"]
    counted = train("tied", *settings, "count_targets=0.8", name="counted")
    assert asked == pytest.approx([0.8, 0.6, 0.4, 0.2]), "it falls to 0 towards the end"
    assert counted.figures["data"]["counted_tokens"] > 0
    assert not same(plain.tensors(), counted.tensors())
    train("plain", "steps=1", "embeddings=full", name="base")
    assert len(asked) == 4, "a model without new tokens is trained plainly"
