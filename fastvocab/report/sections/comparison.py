"""Several runs side by side: whether they can be compared, and the figures that matter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from fastvocab import facts
from fastvocab.numbers import ABSENT, count, duration, joined, number
from fastvocab.report.sections.compared import Compared

_LANGUAGES = {"target": "new", "original": "original"}
#: The held-out text of each language, by stage and file.
_TEXTS = {"target": "heldout.jsonl", "original": "replay_heldout.jsonl"}


def section(runs: Sequence[Compared]) -> dict[str, Any]:
    """The table, and what is to be said before it is read."""
    cells: list[tuple[str, Callable[[Compared], str]]] = [
        ("recipe", lambda run: facts.recipe(run.records)),
        ("base model", _base),
        ("new language", lambda run: facts.language(run.records) or ABSENT),
        ("new tokens", _new_tokens),
        ("tokens per word, before and after", lambda run: _fertility(run, "word")),
        ("tokens per character, before and after", lambda run: _fertility(run, "character")),
        ("bits per byte, new language, before", lambda run: _bits(run.start(), "target")),
        ("bits per byte, new language, at the end", lambda run: _bits(run.end(), "target")),
        ("bits per byte, original language, before", lambda run: _bits(run.start(), "original")),
        ("bits per byte, original language, at the end", lambda run: _bits(run.end(), "original")),
        ("change of the original language", _forgetting),
        ("decode steps for the held-out text, before", lambda run: _steps(run.start())),
        ("decode steps for the held-out text, at the end", lambda run: _steps(run.end())),
        ("well-formed replies at the end", lambda run: _share(run, "well_formed")),
        ("right answers at the end", lambda run: _share(run, "right")),
        ("recall of the next item at the end", _recall),
        ("change against the same time without new tokens", _gain),
        ("tokens trained on", _tokens),
        ("time in training", _time),
        ("time of all stages", _whole),
        ("device", _device),
        ("not finished, or left out", lambda run: ", ".join(facts.unfinished(run.records)) or ABSENT),
    ]
    rows = [(label, [cell(run) for run in runs]) for label, cell in cells]
    return {
        "runs": runs,
        "notes": notes(runs),
        "rows": [(label, found) for label, found in rows if any(one != ABSENT for one in found)],
    }


def notes(runs: Sequence[Compared]) -> list[str]:
    """What speaks against comparing them, or that nothing does."""
    out = []
    if differ := _groups(runs, lambda run: facts.recipe(run.records)):
        out.append(f"They are of different recipes ({differ}).")
    if differ := _groups(runs, lambda run: base.fingerprint if (base := facts.base(run.records)) else None):
        out.append(
            f"They stand on different base models ({differ}): compare each with its own beginning, not their ends."
        )
    for part, name in _TEXTS.items():
        measured = [run for run in runs if run.end().get(part)]
        texts = _groups(measured, lambda run, file=name: run.sha256("corpus", file))
        sizes = _groups(measured, lambda run, which=part: number(run.end(), which, "bytes"))
        if texts or sizes:
            why = (
                "is not the same" if texts else "is the same, but they were measured on different parts of it"
            )
            out.append(
                f"The held-out text of the {_LANGUAGES[part]} language {why} ({texts or sizes}): its bits per byte, "
                "tokens and decode steps are of different text and do not compare between these runs."
            )
    if differ := _groups(runs, lambda run: run.sha256("corpus", "interactions.jsonl")):
        out.append(f"Their interactions are not the same ({differ}): recommendations do not compare.")
    if out:
        return out + _machines(runs)
    known = all(run.sha256("corpus", "heldout.jsonl") and run.end().get("target") for run in runs)
    if known:
        out.append(
            "They stand on the same base and were measured on the same held-out text: their figures compare."
        )
    return out + _machines(runs)


def _machines(runs: Sequence[Compared]) -> list[str]:
    differ = _groups(runs, _device)
    return [f"They ran on different devices ({differ}): their times do not compare."] if differ else []


def _groups(runs: Iterable[Compared], of: Callable[..., Any]) -> str:
    """Which runs go together, by letter, such as ``A and B; C``; empty where all do, what is unknown left out."""
    groups: dict[Any, list[str]] = {}
    for run in runs:
        if (value := of(run)) not in (None, ABSENT):
            groups.setdefault(value, []).append(run.letter)
    return "; ".join(joined(letters) for letters in groups.values()) if len(groups) > 1 else ""


def _base(run: Compared) -> str:
    base = facts.base(run.records)
    return base.hub or base.title if base else ABSENT


def _new_tokens(run: Compared) -> str:
    known = facts.vocabulary(run.records)
    if {"tokens", "base_tokens"} <= known.keys():
        return count(known["tokens"] - known["base_tokens"])
    found = number(facts.figures(run.records, "tokenizer"), "new_tokens")
    return count(found) if found is not None else ABSENT


def _fertility(run: Compared, unit: str) -> str:
    gain = facts.fertility(run.records)
    return f"{gain.before:.2f}, {gain.after:.2f}" if gain and gain.unit == unit else ABSENT


def _bits(point: dict[str, Any], part: str) -> str:
    value = number(point, part, "bits_per_byte")
    if value is None:
        return ABSENT
    ends: Any = (point.get(part) or {}).get("interval") or ()
    return f"{value:.3f}" + (f" (95%: {ends[0]:.3f} to {ends[1]:.3f})" if len(ends) == 2 else "")


def _forgetting(run: Compared) -> str:
    value, low, high = (number(run.end(), "forgetting_percent", key) for key in ("percent", "low", "high"))
    if value is None:
        return ABSENT
    return f"{value:+.1f}%" + (
        f" (95%: {low:+.1f}% to {high:+.1f}%)" if low is not None and high is not None else ""
    )


def _steps(point: dict[str, Any]) -> str:
    value = number(point, "target", "tokens")
    return count(value) if value is not None else ABSENT


def _share(run: Compared, key: str) -> str:
    value = number(run.end(), "replies", key)
    ends: Any = (run.end().get("replies") or {}).get(f"{key}_interval") or ()
    if value is None:
        return ABSENT
    return f"{value:.0%}" + (f" (95%: {ends[0]:.0%} to {ends[1]:.0%})" if len(ends) == 2 else "")


def _recall(run: Compared) -> str:
    found = run.end().get("recommendations") or {}
    for key, value in found.items():
        if key.startswith("recall@") and (share := number(value, "value")) is not None:
            low, high = number(value, "low"), number(value, "high")
            span = f" (95%: {low:.1%} to {high:.1%})" if low is not None and high is not None else ""
            return f"{share:.1%} among {key.removeprefix('recall@')}{span}"
    return ABSENT


def _gain(run: Compared) -> str:
    found = facts.figures(run.records, "evaluate").get("control")
    ratio, low, high = (number(found, "compared", "control", key) for key in ("ratio", "low", "high"))
    if ratio is None:
        return ABSENT
    span = f" (95%: {low - 1:+.1%} to {high - 1:+.1%})" if low is not None and high is not None else ""
    return f"{ratio - 1:+.1%} bits per byte{span}"


def _sum(run: Compared, key: str) -> float | None:
    found = [number(facts.figures(run.records, stage), key) for stage in ("pretrain", "instruct")]
    return sum(value or 0.0 for value in found) if any(value is not None for value in found) else None


def _tokens(run: Compared) -> str:
    value = _sum(run, "tokens")
    return count(value) if value is not None else ABSENT


def _time(run: Compared) -> str:
    value = _sum(run, "seconds_training")
    return duration(value) if value is not None else ABSENT


def _whole(run: Compared) -> str:
    return duration(sum(number(record.data, "seconds") or 0.0 for record in run.records.values()))


def _device(run: Compared) -> str:
    """Where it was trained; before that, where its last stage ran."""
    stages = [name for name in ("pretrain", "instruct") if name in run.records] or [*run.records][-1:]
    return ", ".join(dict.fromkeys(str(run.records[name].data.get("device") or ABSENT) for name in stages))
