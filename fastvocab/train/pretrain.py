"""The ``pretrain`` stage: continual pretraining on packed blocks of the corpus, with replay."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from fastvocab import console
from fastvocab.config.models import PretrainSection
from fastvocab.errors import ConfigError
from fastvocab.train import blocks, budget, evaluation, stage
from fastvocab.train.data import Data
from fastvocab.train.sequences import Sequences
from fastvocab.train.trackers import Tracking


def pretrain(
    folder: Path,
    *,
    previous: Path,
    corpus: Path | None = None,
    sequences: Sequences | None = None,
    section: PretrainSection,
    key: str,
    saves_folder: Path,
    seed: int,
    track: Tracking | None = None,
) -> dict[str, Any]:
    """Train the checkpoint ``previous`` on ``corpus`` (train.jsonl, replay.jsonl) and write the new one to ``folder``.

    Its heldout.jsonl and replay_heldout.jsonl are for evaluations on the way (`fastvocab.train.evaluation`).

    Args:
        sequences: rows of token ids in place of a corpus; on the way the loss of the held-out ones is measured.

    Returns:
        Figures of `stage.train`; ``data`` tells of the blocks, ``evaluated_apart`` whether the evaluations on the way
        read other text than the final ones do (None where there were to be none).

    Raises:
        ConfigError: a patience without evaluations.
    """
    if section.patience is not None and not section.evaluations:
        raise ConfigError(
            f"pretrain.patience is {section.patience}, and pretrain.evaluations is 0",
            rule="training stops early by what its evaluations find",
            fix="pretrain.evaluations=8, or leave pretrain.patience out",
        )
    steps = budget.steps_for(section, length=section.block, rows=None)
    needed = None if steps is None else math.ceil(steps * budget.batch_size(section) * section.accumulate)

    def prepare(model: Any, tokenizer: Any, work: Path) -> Data:
        from fastvocab.model import chunked_loss  # torch, which the light commands do without

        counted = section.count_targets > 0
        if counted and not chunked_loss.open_loss(model):
            console.warn(
                "pretrain.count_targets: this architecture changes its logits, so counts are left out"
            )
            counted = False
        return blocks.prepare(
            text,
            tokenizer,
            block=section.block,
            replay_share=section.replay,
            needed=needed,
            work=work,
            counted=counted,
        )

    if sequences is not None:
        given = sequences
        figures = stage.train(
            folder, stage="pretrain", previous=previous, section=section,
            lora=section.lora.model_dump(mode="json"), prepare=lambda *_: given.data(), block=section.block,
            key=key, saves_folder=saves_folder, seed=seed, track=track,
        )  # fmt: skip
        return {**figures, "evaluated_apart": True if given.heldout else None}
    assert corpus is not None, "a corpus, or sequences"
    text = corpus
    watched = evaluation.read(text, section)
    figures = stage.train(
        folder, stage="pretrain", previous=previous, section=section,
        lora=section.lora.model_dump(mode="json"), prepare=prepare, block=section.block,
        key=key, saves_folder=saves_folder, seed=seed, track=track, watched=watched,
    )  # fmt: skip
    return {**figures, "evaluated_apart": watched.apart if watched else None}
