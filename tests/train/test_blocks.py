"""The training blocks: what is in them, and that nothing of them is left elsewhere."""

from __future__ import annotations

from pathlib import Path

import datasets
import numpy as np
import pytest

from fastvocab.train import blocks


def test_blocks_of_both_kinds_are_in_one_dataset_and_short_replay_is_repeated() -> None:
    target = np.arange(9 * 4, dtype=np.int32).reshape(9, 4)
    replay = -np.arange(2 * 4, dtype=np.int32).reshape(2, 4)
    dataset, figures = blocks.mix(target, replay, 0.25, needed=None)
    assert dataset["input_ids"][:9] == target.tolist() and dataset["labels"][:] == dataset["input_ids"][:]
    assert dataset["input_ids"][9:] == [replay[0].tolist(), replay[1].tolist(), replay[0].tolist()]
    assert dataset[10] == {
        "input_ids": replay[1].tolist(),
        "labels": replay[1].tolist(),
        "attention_mask": [1] * 4,
    }
    assert figures == {"blocks": 9, "replay_blocks": 3, "replay_repeats": 1.5, "block": 4}


def test_no_more_blocks_are_taken_than_training_reads() -> None:
    target = np.arange(100 * 4, dtype=np.int32).reshape(100, 4)
    dataset, figures = blocks.mix(target, None, 0.0, needed=7)
    assert len(dataset) == figures["blocks"] == 7 and figures["replay_blocks"] == 0


def test_no_cache_is_left_that_a_later_run_would_train_on_unseen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    dataset, _ = blocks.mix(np.ones((5, 4), np.int32), None, 0.0, needed=None)
    assert dataset.cache_files == [] and list(tmp_path.iterdir()) == []
