"""``evaluate`` with ``evaluate.control``: both other arms trained, all three measured, and put beside each other."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastvocab import console, files
from fastvocab.config.models import PretrainSection
from fastvocab.control import arms
from fastvocab.control.arms import CONTROL, PLAIN, Arm
from fastvocab.control.compare import Spent, compare, evaluations
from fastvocab.evaluate.stage import evaluate
from fastvocab.model import heldout
from fastvocab.model.reference import Base
from fastvocab.run import Record


def evaluate_with_control(
    folder: Path,
    *,
    base: Base,
    points: dict[str, Path],
    corpus: Path,
    tokenizer: Path,
    records: Mapping[str, Record],
    pretrain: PretrainSection,
    key: str,
    saves: Path,
    load_in_4bit: bool,
    seed: int,
    **measured: Any,
) -> dict[str, Any]:
    """`fastvocab.evaluate.stage.evaluate` with the points ``control`` and ``plain``, and ``control.json``.

    Args:
        points: of the run's own line, ``pretrain`` among them.
        tokenizer: folder of the tokenizer stage.
        records: of the stages before.
        pretrain: the section that the run's own pretraining used.
        key, saves: of the stage; finished arms wait under ``saves`` until the stage is done.
        measured: the rest goes on to the evaluation.

    Returns:
        Its figures, with `compare`'s as ``control``.
    """
    spent, own = Spent.of(records), Arm(points["pretrain"], dict(records["pretrain"].figures))
    if records["pretrain"].data.get("machine") != {"system": platform.platform(), "cores": os.cpu_count()}:
        console.warn(
            "pretraining ran on another machine than this: equal time on both is not equal work; for a comparison "
            "that holds run all of it here (--fresh)"
        )
    # all arms read on the way what the run's own evaluations read
    looks = evaluations(own)
    watched = heldout.watched(corpus / "heldout.jsonl", limit=looks[0]["target_bytes"])[0] if looks else []
    trained = {
        name: arms.train(
            name, base=base, tokenizer=tokenizer, corpus=corpus, section=pretrain, seconds=spent.all,
            watched_bytes=looks[0]["evaluation_bytes"] if looks else None,
            key=key, saves=saves / name, seed=seed, load_in_4bit=load_in_4bit,
        )
        for name in (CONTROL, PLAIN)
    }  # fmt: skip
    figures = evaluate(
        folder,
        base=base,
        points=points | {name: arm.folder for name, arm in trained.items()},
        corpus=corpus,
        watched=watched,
        load_in_4bit=load_in_4bit,
        seed=seed,
        **measured,
    )
    nats = files.read_json(folder / "evaluation.json")["nats_of_documents"]["target"]
    figures["control"] = compare(spent, own, trained, figures["points"], nats, seed=seed)
    files.write_json(folder / "control.json", figures["control"])
    return figures
