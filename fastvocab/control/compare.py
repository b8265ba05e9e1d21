"""The run's own line, the control and the plain way beside each other, at equal time and at equal text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fastvocab.control import curves
from fastvocab.control.arms import CONTROL, PLAIN, Arm
from fastvocab.control.curves import Mark
from fastvocab.evaluate import intervals
from fastvocab.run import Record

#: The run's own line beside the two arms.
EXTENDED = "extended"
#: Where each arm begins and ends among the points that were measured; of the plain way nothing is measured untrained.
_START = {EXTENDED: "extend", CONTROL: "base"}
_END = {EXTENDED: "pretrain", CONTROL: CONTROL, PLAIN: PLAIN}
_OF_TRAINING = ("steps", "tokens", "bytes", "tokens_per_second", "seconds_training", "trainable_parameters",
                "peak_memory_bytes", "added_tokens", "left_out", "settings")  # fmt: skip


@dataclass(frozen=True)
class Spent:
    """Seconds that the run's own line took up to its pretrained checkpoint, but for importing unsloth.

    Each arm would pay for the import if it ran by itself, and here only the first stage of the process does.

    Attributes:
        tokenizer, extend: those stages, whole.
        counting: of the pretrain stage what only this arm does before it trains. Loading, packing, measuring on the
            way and writing the checkpoint are left out, here as in the arms.
        training: inside the trainer, over all sessions.
    """

    tokenizer: float
    extend: float
    counting: float
    training: float

    @classmethod
    def of(cls, records: Mapping[str, Record]) -> Spent:
        """From the records of the run."""
        own = records["pretrain"]
        training = float(own.figures["seconds_training"])
        tokenizer, extend = (
            float(records[stage].data["seconds"]) - float(records[stage].figures.get("seconds_importing", 0))
            for stage in ("tokenizer", "extend")
        )
        return cls(tokenizer, extend, float(own.figures["data"].get("seconds_counting", 0)), training)

    @property
    def preparation(self) -> float:
        """Before training."""
        return self.tokenizer + self.extend + self.counting

    @property
    def all(self) -> float:
        """What each arm gets."""
        return self.preparation + self.training


def compare(
    spent: Spent,
    own: Arm,
    trained: Mapping[str, Arm],
    points: Mapping[str, dict[str, Any]],
    nats: Mapping[str, list[float]],
    *,
    seed: int,
) -> dict[str, Any]:
    """All three at equal time and at equal bytes of new-language text.

    Args:
        points: what was measured of each (`fastvocab.evaluate.stage.evaluate`).
        nats: of each document of the held-out text, by point.

    Returns:
        ``seconds`` (what each arm got), ``preparation`` (seconds of it, by arm), ``arms`` (by arm: steps, tokens,
        bytes, rates, memory, decode steps, final figures and the ``curve``), ``equal_time`` and ``equal_bytes``
        (rows of bits per byte of the text that is scored during training), ``crossover_seconds`` (when the
        extended model came below the control; None: never), ``reaches_control_seconds`` (when each arm came to the
        control's final value) and ``compared`` (paired ratios of the extended model's final bits per byte to those
        of the others, on all of the held-out text).
    """
    all_arms = {EXTENDED: own, **trained}
    begins = {EXTENDED: spent.preparation} | {n: a.figures["preparation"] for n, a in trained.items()}
    marks = {
        name: curve(arm, begins[name], points.get(_START.get(name, "")), points[_END[name]])
        for name, arm in all_arms.items()
    }
    final = marks[CONTROL][-1].target
    preparation: dict[str, Any] = {
        EXTENDED: {k: round(v, 2) for k, v in asdict(spent).items() if k != "training"}
    }
    return {
        "seconds": round(spent.all, 2),
        "preparation": preparation | {name: begins[name] for name in trained},
        "arms": {name: _summary(arm, points[_END[name]], marks[name]) for name, arm in all_arms.items()},
        "equal_time": curves.beside(marks, "seconds"),
        "equal_bytes": curves.beside(marks, "bytes"),
        "crossover_seconds": curves.crossover(marks[EXTENDED], marks[CONTROL]),
        "reaches_control_seconds": {name: curves.reaches(c, final) for name, c in marks.items()},
        "compared": {
            name: intervals.compared(nats[_END[EXTENDED]], nats[name], seed=seed) for name in trained
        },
    }


def evaluations(arm: Arm) -> list[dict[str, Any]]:
    """The lines of an arm's ``log.jsonl`` that are evaluations on the way, in order."""
    lines = (arm.folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [entry for entry in map(json.loads, lines) if entry.get("target_bits_per_byte") is not None]


def curve(arm: Arm, begins: float, before: dict[str, Any] | None, after: dict[str, Any]) -> list[Mark]:
    """An arm's measurements, from before its training where there is one.

    Without evaluations on the way (``pretrain.evaluations: 0``) both ends are of the final evaluation's text.

    Args:
        begins: seconds that went before its training.
        before, after: what was measured of it untrained, if it was, and trained.
    """
    found = [
        Mark(
            seconds=begins + entry["seconds"],
            bytes=entry["bytes"],
            tokens=entry["tokens"],
            target=entry["target_bits_per_byte"],
            original=entry["original_bits_per_byte"],
        )
        for entry in evaluations(arm)
    ]
    if not found:
        done = arm.figures
        found = [Mark(begins + done["seconds_training"], done["bytes"], done["tokens"], *_final(after))]
        return ([Mark(begins, 0, 0, *_final(before))] if before is not None else []) + found
    if before is not None and (value := before.get("watched_bits_per_byte")) is not None:
        found.insert(0, Mark(begins, 0, 0, value))
    return found


def _final(point: dict[str, Any]) -> tuple[float, float | None]:
    return point["target"]["bits_per_byte"], point["original"] and point["original"]["bits_per_byte"]


def _summary(arm: Arm, point: dict[str, Any], marks: list[Mark]) -> dict[str, Any]:
    """What the tables show of an arm."""
    found = arm.figures
    shown = ("bits_per_byte", "interval", "documents", "too_few_documents")
    return {
        **{name: found[name] for name in _OF_TRAINING if name in found},
        "bytes_per_second": round(found["bytes"] / max(1e-9, found["seconds_training"]), 1),
        "target": {name: point["target"][name] for name in shown},
        "original": _final(point)[1],
        "forgetting_percent": point["forgetting_percent"],
        "decode_steps": point["target"]["tokens"],
        "decode_seconds": point["decoding"]["seconds"],
        "curve": [asdict(mark) for mark in marks],
    }
