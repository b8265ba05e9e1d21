"""What the control came to, in words and as a table; the same for console, report and model card.

It is said as it was measured, also where the extension lost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastvocab import facts
from fastvocab.facts import Records
from fastvocab.numbers import ABSENT, count, duration, number, size

#: The arms as people are told of them, in order.
ARMS = {"extended": "extended", "control": "without new tokens", "plain": "the plain way"}


def verdict(records: Records) -> str | None:
    """Extended or not, at equal time: one sentence. None where there was no control."""
    found = _found(records)
    if found is None:
        return None
    ours, other = (number(found, "arms", name, "target", "bits_per_byte") for name in ("extended", "control"))
    ratio = number(found, "compared", "control", "ratio")
    if ours is None or other is None or ratio is None:
        return None
    time = duration(number(found, "seconds") or 0.0)
    where = f"At equal time ({time}, preparation counted in)"
    interval = _interval(found, "control")
    if ratio < 1:
        said = (
            f"{where} the extended model takes {1 - ratio:.1%} fewer bits per byte than the same model trained "
            f"without new tokens: {ours:.3f} against {other:.3f}{interval}"
        )
    elif ratio > 1:
        said = (
            f"{where} the model without new tokens is better by {1 - 1 / ratio:.1%}: {other:.3f} bits per byte "
            f"against {ours:.3f} of the extended one{interval}"
        )
    else:
        said = f"{where} the extended model and the one without new tokens have the same {ours:.3f} bits per byte"
    return f"{said}. {_crossover(found, ratio)}"


def sentences(records: Records) -> list[str]:
    """`verdict`, the plain way, equal text, speed of decoding, and what the figures cannot tell."""
    found, first = _found(records), verdict(records)
    if found is None or first is None:
        return []
    out = [first]
    arms = found["arms"]
    ours = number(arms, "extended", "target", "bits_per_byte")
    plain, ratio = (
        number(arms, "plain", "target", "bits_per_byte"),
        number(found, "compared", "plain", "ratio"),
    )
    if plain is not None and ratio is not None:
        change = f"{1 - ratio:.1%} fewer" if ratio < 1 else f"{ratio - 1:.1%} more"
        out.append(
            f"The plain way (the same pieces as added tokens, started at the mean, with unsloth's published settings "
            f"for continued pretraining) comes to {plain:.3f} in the same time; the extended model takes {change} "
            f"than that, {ours:.3f}{_interval(found, 'plain')}."
        )
    rows = [
        row for row in found.get("equal_bytes") or () if number(row, "control") is not None and row["bytes"]
    ]
    if rows and number(rows[-1], "extended") is not None:
        row = rows[-1]
        read = [size(number(arms, name, "bytes") or 0.0) for name in ("extended", "control")]
        out.append(
            f"In that time the extended model read {read[0]} of the new language, the one without new tokens "
            f"{read[1]}. After the same {size(row['bytes'])} they stood at {row['extended']:.3f} and "
            f"{row['control']:.3f} bits per byte."
        )
    steps = [number(arms, name, "decode_steps") for name in ("extended", "control")]
    if steps[0] and steps[1]:
        out.append(
            f"The held-out text takes {count(steps[0])} decode steps with the new tokens and {count(steps[1])} "
            "without them."
        )
    if number(arms, "extended", "target", "documents") and arms["extended"]["target"]["too_few_documents"]:
        out.append(
            f"The held-out text comes from {count(arms['extended']['target']['documents'])} documents: too few for "
            "these intervals to mean much."
        )
    return out


def table(records: Records) -> tuple[list[str], list[tuple[str, tuple[str, ...]]]]:
    """The three arms beside each other: (columns, rows of label and cells); both empty without a control."""
    found = _found(records)
    if found is None:
        return [], []
    names = [name for name in ARMS if name in found["arms"]]

    def row(label: str, form: Callable[[float], str], *keys: str) -> tuple[str, tuple[str, ...]]:
        values = [number(found, "arms", name, *keys) for name in names]
        return label, tuple(ABSENT if value is None else form(value) for value in values)

    reached = [number(found, "reaches_control_seconds", name) for name in names]
    prepared = [_prepared(found.get("preparation") or {}, name) for name in names]
    rows = [
        row("bits per byte, new language", "{:.3f}".format, "target", "bits_per_byte"),
        ("95% interval over documents", tuple(_span(found, name) for name in names)),
        row("bits per byte, original language", "{:.3f}".format, "original"),
        row("change of the original language", "{:+.1f}%".format, "forgetting_percent", "percent"),
        (
            "reaches the control's final value",
            tuple("not reached" if value is None else duration(value) for value in reached),
        ),
        ("of the time, preparation", tuple(map(duration, prepared))),
        row("text of the new language read", size, "bytes"),
        row("of it, each second of training", size, "bytes_per_second"),
        row("tokens", count, "tokens"),
        row("tokens per second", count, "tokens_per_second"),
        row("peak memory", size, "peak_memory_bytes"),
        row("decode steps for the held-out text", count, "decode_steps"),
        row("decode time, a measured step times these", duration, "decode_seconds"),
    ]
    return [ARMS[name] for name in names], [r for r in rows if any(cell != ABSENT for cell in r[1])]


def curves(records: Records) -> dict[str, list[tuple[float, float]]]:
    """(minutes, bits per byte of the new language) of each arm, by its name for people."""
    found = _found(records)
    if found is None:
        return {}
    out = {}
    for name, label in ARMS.items():
        marks = (found["arms"].get(name) or {}).get("curve") or ()
        points = [(number(m, "seconds"), number(m, "target")) for m in marks]
        kept = [(x / 60, y) for x, y in points if x is not None and y is not None]
        if kept:
            out[label] = kept
    return out


def _found(records: Records) -> Mapping[str, Any] | None:
    found = facts.figures(records, "evaluate").get("control")
    return found if isinstance(found, Mapping) and isinstance(found.get("arms"), Mapping) else None


def _interval(found: Mapping[str, Any], name: str) -> str:
    """The paired interval of the change against an arm, and whether it says anything."""
    low, high = number(found, "compared", name, "low"), number(found, "compared", name, "high")
    if low is None or high is None:
        return ""
    close = "; the difference may be chance" if low <= 1 <= high else ""
    return f" (95%: {low - 1:+.1%} to {high - 1:+.1%}{close})"


def _crossover(found: Mapping[str, Any], ratio: float) -> str:
    place = number(found, "crossover_seconds")
    if place is None:
        # the curves are of other held-out text than the final figures, so that a narrow lead may be in one alone
        return "Crossover not reached." if ratio >= 1 else "The curves measured on the way did not cross."
    if ratio > 1:
        last = (found.get("equal_time") or [{}])[-1]
        ours, other = number(last, "extended"), number(last, "control")
        if ours is not None and other is not None and ours <= other:
            return (
                "On the smaller text that is measured on the way the extended one came below it after "
                f"{duration(place)}, and was still below it at the end."
            )
        return f"The extended one was ahead after {duration(place)}, and fell behind again."
    begins = number((found["arms"]["extended"].get("curve") or [{}])[0], "seconds")
    if begins is not None and place <= begins:
        return f"It was ahead from the first moment at which it could be measured, after {duration(place)}."
    return f"It came below it after {duration(place)}."


def _span(found: Mapping[str, Any], name: str) -> str:
    ends = (found["arms"][name].get("target") or {}).get("interval")
    return f"{ends[0]:.3f} to {ends[1]:.3f}" if ends else ABSENT


def _prepared(preparation: Mapping[str, Any], name: str) -> float:
    value = preparation.get(name) or 0.0
    return float(sum(value.values())) if isinstance(value, Mapping) else float(value)
