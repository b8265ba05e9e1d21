"""The two trainings: figures, and curves from their logs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from fastvocab import facts
from fastvocab.facts import Records
from fastvocab.numbers import count, duration, is_number, joined, number, size
from fastvocab.report import jsonl, plots
from fastvocab.report.sections.texts import by_prompt
from fastvocab.report.svg import Drawing, drawn

Log = list[dict[str, Any]]

PURPOSE = {"pretrain": "Continual pretraining", "instruct": "Instruction tuning"}
_RATES = {
    "learning_rate": "adapters",
    "embedding_learning_rate": "embedding rows",
    "new_rows_learning_rate": "new rows",
}
BITS = {"target_bits_per_byte": "new language", "original_bits_per_byte": "original language"}
#: What was measured, its label, and how it is written.
_FACTS: list[tuple[str, str, Callable[[float], str]]] = [
    ("steps", "steps", count),
    ("tokens", "tokens", count),
    ("bytes", "text of the new language", size),
    ("seconds_training", "time in training", duration),
    ("seconds_evaluating", "measuring on the way", duration),
    ("tokens_per_second", "tokens per second", count),
    ("trainable_parameters", "trainable parameters", count),
    ("peak_memory_bytes", "peak memory", size),
    ("loss_first", "loss, first step", "{:.3f}".format),
    ("loss_last", "loss, last step", "{:.3f}".format),
]
#: Rates of single steps jump with the lengths of their texts: the curve has so many points at most.
_WINDOWS = 60
#: Seconds from which on an axis of time is in minutes.
_IN_MINUTES = 180.0


def section(records: Records) -> dict[str, Any] | None:
    """Each training that there was."""
    stages = [found for stage in PURPOSE if (found := _training(records, stage))]
    return {"stages": stages} if stages else None


def _training(records: Records, stage: str) -> dict[str, Any] | None:
    if stage not in records or "chat_vector" in records[stage].figures:
        return None
    found = records[stage].figures
    log = jsonl.every(records[stage].folder / "log.jsonl")
    drawings = [
        _loss(stage, log),
        *_looks(stage, log),
        _rates(stage, log),
        _throughput(stage, log),
        _memory(stage, log),
    ]
    return {
        "stage": stage,
        "title": PURPOSE[stage],
        "facts": [
            (label, form(value)) for key, label, form in _FACTS if (value := number(found, key)) is not None
        ],
        "drawings": [drawing for drawing in drawings if drawing is not None],
        "replies": _replies(log, facts.language(records)),
    }


def _loss(stage: str, log: Log) -> Drawing | None:
    loss = curve(log, "loss", "loss of each step")
    if not loss.points:
        return None
    (_, first), (_, last) = loss.points[0], loss.points[-1]
    label = f"Loss over {count(len(loss.points))} logged steps, from {first:.3f} to {last:.3f}"
    return drawn(plots.lines(f"loss-{stage}", [loss], xlabel="step", smooth=True), label, "Nats per token.")


def _looks(stage: str, log: Log) -> list[Drawing]:
    """What was measured of held-out text on the way, over tokens and over time; over steps where neither is known."""
    replies = bool(curve(log, "heldout_loss", "").points)
    what = "replies" if stage == "instruct" else "histories"
    keys = {"heldout_loss": f"held-out {what}"} if replies else BITS
    out: list[Drawing] = []
    time, scale = _time(log)
    for x, xlabel, by in (("tokens", "tokens", 1.0), ("seconds", time, scale), ("step", "step", 1.0)):
        if x == "step" and out:
            break
        curves = [
            line for key, label in keys.items() if (line := curve(log, key, label, x=x, scale=by)).points
        ]
        if not curves:
            continue
        ends = joined(f"{line.points[-1][1]:.3f} in the {line.label}" for line in curves)
        over = {"tokens": "over tokens trained on", "seconds": "over time", "step": "on the way"}[x]
        label = f"Bits per byte {over}, of held-out text; at the end: {ends}"
        if replies:
            label = (
                f"Loss of held-out {what} {over}, in nats a token; at the end: {curves[0].points[-1][1]:.3f}"
            )
        svg = plots.lines(f"looks-{x}-{stage}", curves, xlabel=xlabel, marked=True)
        out.append(drawn(svg, label))
    return out


def _rates(stage: str, log: Log) -> Drawing | None:
    rates = [line for key, label in _RATES.items() if (line := curve(log, key, label)).points]
    if not rates:
        return None
    highest = joined(f"{max(y for _, y in line.points):.1e} for the {line.label}" for line in rates)
    svg = plots.lines(f"rates-{stage}", rates, xlabel="step", scientific=True)
    return drawn(svg, f"Learning rate over steps; highest: {highest}")


def _throughput(stage: str, log: Log) -> Drawing | None:
    """Tokens per second, from one logged moment to a later one."""
    moments = [
        (x, y) for entry in log if "loss" in entry and is_number(x := entry.get("seconds"))
        and is_number(y := entry.get("tokens"))
    ]  # fmt: skip
    stride = -(-len(moments) // _WINDOWS) or 1
    chosen = [*moments[::stride], *([moments[-1]] if moments and (len(moments) - 1) % stride else [])]
    time, scale = _time(log)
    points = [
        (later / scale, (b - a) / (later - earlier))
        for (earlier, a), (later, b) in pairwise(chosen)
        if later > earlier and b >= a
    ]
    if len(points) < 2:
        return None
    middle = sorted(y for _, y in points)[len(points) // 2]
    svg = plots.lines(
        f"speed-{stage}",
        [plots.Line("tokens per second", points)],
        xlabel=time,
        from_zero=True,
        marked=len(points) < 8,
    )
    over = f", over {stride} steps each" if stride > 1 else ""
    return drawn(svg, f"Tokens per second over time{over}; the median is {count(middle)}")


def _memory(stage: str, log: Log) -> Drawing | None:
    time, scale = _time(log)
    held = curve(log, "memory_bytes", "memory", x="seconds", scale=scale)
    points = [(x, y / 1e9) for x, y in held.points]
    if len(points) < 2:
        return None
    most = max(y for _, y in held.points)
    svg = plots.lines(f"memory-{stage}", [plots.Line("memory", points)], xlabel=time, from_zero=True)
    note = (
        "Of the GPU, as torch holds it; without one, of the process. Between two logged steps it may be more."
    )
    return drawn(svg, f"Memory in GB over time; at most {size(most)} after a step", note)


def _time(log: Log) -> tuple[str, float]:
    """What an axis of time is called, and how many seconds its unit has."""
    last = max((entry["seconds"] for entry in log if is_number(entry.get("seconds"))), default=0.0)
    return ("minutes", 60.0) if last >= _IN_MINUTES else ("seconds", 1.0)


def curve(log: Log, key: str, label: str, *, x: str = "step", scale: float = 1.0) -> plots.Line:
    numbers: Sequence[tuple[Any, Any]] = [(entry.get(x), entry.get(key)) for entry in log]
    return plots.Line(label, [(a / scale, b) for a, b in numbers if is_number(a) and is_number(b)])


def _replies(log: Log, language: str | None) -> list[dict[str, Any]]:
    """What was replied on the way, as generations are shown, the steps in place of the points."""
    said = [
        (f"step {entry.get('step')}", "", sample["prompt"], str(sample.get("text") or ""))
        for entry in log
        for sample in entry.get("samples") or ()
        if isinstance(sample, Mapping) and isinstance(sample.get("prompt"), str)
    ]
    return by_prompt(said, language)
