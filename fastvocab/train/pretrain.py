"""The ``pretrain`` stage: continual pretraining on packed blocks of the corpus, with replay."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from fastvocab.config.models import PretrainSection
from fastvocab.train import blocks, loop, stage


def pretrain(
    folder: Path,
    *,
    previous: Path,
    corpus: Path,
    section: PretrainSection,
    key: str,
    saves_folder: Path,
    seed: int,
    track: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Train the checkpoint ``previous`` on ``corpus`` (train.jsonl, replay.jsonl) and write the new one to ``folder``.

    Returns:
        Figures of `stage.train`, ``data`` with the number of blocks.
    """
    steps = loop.steps_for(section, length=section.block, rows=None)
    needed = None if steps is None else math.ceil(steps * loop.batch_size(section) * section.accumulate)

    def prepare(tokenizer: Any, work: Path) -> tuple[Any, dict[str, Any]]:
        return blocks.prepare(
            corpus, tokenizer, block=section.block, replay_share=section.replay, needed=needed, work=work
        )

    return stage.train(
        folder, stage="pretrain", previous=previous, section=section,
        lora=section.lora.model_dump(mode="json"), prepare=prepare, block=section.block,
        key=key, saves_folder=saves_folder, seed=seed, track=track,
    )  # fmt: skip
