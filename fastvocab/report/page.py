"""``report.html``: what a run made and what was measured, on one page that needs no network.

Corpus text and samples are not to be trusted: the template escapes everything, and only our own SVG is
exempt. The page depends on the run folder alone, so that writing it again gives the same bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from importlib.resources import files as resources
from io import StringIO
from pathlib import Path
from typing import Any

from fastvocab import console, facts, files, outcome, table
from fastvocab.config import STAGES
from fastvocab.facts import Records
from fastvocab.numbers import count, duration, is_number, joined, number, size
from fastvocab.report import plots
from fastvocab.run import read_records

NAME = "report.html"
#: What HTML has no place for, and lone surrogates, which UTF-8 has none for.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff\ud800-\udfff]")
#: Named tokens that are shown one by one.
_NAMED = 40
_PURPOSE = {"pretrain": "Continual pretraining", "instruct": "Instruction tuning"}
_RATES = {
    "learning_rate": "adapters",
    "embedding_learning_rate": "embedding rows",
    "new_rows_learning_rate": "new rows",
}
#: Points whose name does not say what they are.
_POINT = {"base": "before", "extend": "untrained", "control": "no new tokens", "plain": "plain way"}


def write(run_folder: Path) -> Path:
    """Write ``report.html`` into a run folder, of whatever is finished.

    Args:
        run_folder: ``runs/NAME``.

    Returns:
        Path of the page.

    Raises:
        CheckpointError: if no stage of it is finished, or a record is damaged.
    """
    path = run_folder / NAME
    config = run_folder / "config.yaml"
    text = config.read_text(encoding="utf-8") if config.is_file() else None
    files.write_text(path, html(read_records(run_folder), run_folder.resolve().name, config=text))
    return path


def html(records: Records, name: str, *, config: str | None = None) -> str:
    """The page as a string.

    Args:
        records: finished stages by name.
        name: of the run.
        config: text of ``config.yaml``; without it the settings in the records are shown.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(count=count, size=size, duration=duration)
    template = environment.from_string(
        resources(__package__).joinpath("page.html.jinja").read_text(encoding="utf-8")
    )
    columns, rows = table.table(records)
    text = template.render(
        name=name,
        sentences=table.sentences(records),
        unfinished=facts.unfinished(records),
        columns=[(column, _POINT.get(column, "")) for column in columns],
        own=sum(column not in facts.OTHER_WAYS for column in columns),
        rows=rows,
        control=_control(records, Markup),
        vocabulary=_vocabulary(records, Markup),
        named=_named(records),
        corpus=_corpus(records),
        training=[t for stage in _PURPOSE if (t := _training(records, stage, Markup))],
        samples=_samples(records),
        environment=_environment(records),
        base=facts.base(records),
        chat=facts.chat_vector(records),
        lineage=_lineage(records),
        sources=facts.sources(records),
        config=config or _settings(records),
    )
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", console.hide_secrets(text))


def _vocabulary(records: Records, markup: Callable[[str], str]) -> dict[str, Any] | None:
    """The bar figure, and what the tokenizer stage proved."""
    gain = facts.fertility(records)
    if gain is None:
        return None
    groups = [(facts.language(records) or "new language", gain.before, gain.after)]
    key = f"tokens_per_{gain.unit}"
    original = [number(p, "original", key) for p in facts.line(records).values()]
    if len(original) > 1 and original[0] and original[-1]:
        groups.append(("original", original[0], original[-1]))
    label = "; ".join(f"{name}: {before:.2f} before, {after:.2f} after" for name, before, after in groups)
    return {
        "unit": gain.unit,
        "svg": markup(plots.bars("fertility", groups)),
        "label": f"Tokens per {gain.unit}. {label}",
        "facts": facts.tokenizer(records),
        "fewer": figures.get("fewer_because") if (figures := facts.figures(records, "tokenizer")) else None,
        "proofs": facts.proofs(records),
    }


def _named(records: Records) -> dict[str, Any] | None:
    """Tokens that were added by name, the first of them, and what was proved of them."""
    tokens = facts.named(records)
    if not tokens:
        return None
    init = facts.figures(records, "extend").get("init")
    rows = [
        {
            "token": str(one["token"]),
            "id": count(one["id"]),
            "before": count(one["pieces_before"]),
            "kind": "was there" if one.get("was_there") else "special" if one.get("special") else "plain",
            "init": "" if one.get("was_there") else str(one.get("init") or init or ""),
            "replaces": str(one.get("replaces") or ""),
        }
        for one in tokens[:_NAMED]
    ]
    known = facts.items(records)
    return {
        "rows": rows,
        "more": len(tokens) - len(rows),
        "proofs": facts.proofs(records) if facts.recipe(records) != "new_language" else [],
        "codes": [
            {**{key: count(level[key]) for key in ("used", "of")}, "commonest": f"{level['commonest']:.1%}"}
            for level in known.get("usage") or ()
        ],
    }


def _control(records: Records, markup: Callable[[str], str]) -> dict[str, Any] | None:
    """The arms beside each other: sentences, table and curves."""
    columns, rows = outcome.table(records)
    if not columns:
        return None
    curves = [plots.Line(label, points) for label, points in outcome.curves(records).items()]
    ends = joined(f"{line.label} {line.points[-1][1]:.3f}" for line in curves)
    return {
        "sentences": outcome.sentences(records),
        "columns": columns,
        "rows": rows,
        "svg": markup(plots.lines("control", curves, xlabel="minutes", marked=True)) if curves else None,
        "label": f"Bits per byte over time, preparation counted in; at the end: {ends}",
    }


def _corpus(records: Records) -> dict[str, Any] | None:
    splits, dropped = facts.splits(records), facts.dropped(records)
    if not splits and not dropped:
        return None
    return {"splits": splits, "dropped": dropped}


def _training(records: Records, stage: str, markup: Callable[[str], str]) -> dict[str, Any] | None:
    if stage not in records or "chat_vector" in records[stage].figures:
        return None
    found = records[stage].figures
    log = _read_log(records[stage].folder / "log.jsonl")
    loss = _curve(log, "loss", "loss of each step")
    rates = [line for key, label in _RATES.items() if (line := _curve(log, key, label)).points]
    looks = [
        line
        for key, label in (
            ("target_bits_per_byte", "new language"),
            ("original_bits_per_byte", "original language"),
        )
        if (line := _curve(log, key, label)).points
    ]
    looks_label = "Bits per byte on the way, of held-out text; at the end: " + joined(
        f"{line.points[-1][1]:.3f} in the {line.label}" for line in looks
    )
    if (replies := _curve(log, "heldout_loss", "held-out replies")).points:
        looks = [replies]
        looks_label = (
            f"Loss of held-out replies on the way, in nats a token; at the end: {replies.points[-1][1]:.3f}"
        )
    shown: list[tuple[str, str, Callable[[float], str]]] = [
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
    return {
        "stage": stage,
        "title": _PURPOSE[stage],
        "facts": [
            (label, form(value)) for key, label, form in shown if (value := number(found, key)) is not None
        ],
        "replies": _replies(log, facts.language(records)),
        "loss": markup(plots.lines(f"loss-{stage}", [loss], xlabel="step", smooth=True))
        if loss.points
        else None,
        "loss_label": f"Loss over {len(loss.points)} logged steps, from {loss.points[0][1]:.3f} "
        f"to {loss.points[-1][1]:.3f}"
        if loss.points
        else "",
        "looks": markup(plots.lines(f"looks-{stage}", looks, xlabel="step", marked=True)) if looks else None,
        "looks_label": looks_label,
        "rates": markup(plots.lines(f"rates-{stage}", rates, xlabel="step", scientific=True))
        if rates
        else None,
        "rates_label": "Learning rate over steps; highest: "
        + joined(f"{max(y for _, y in line.points):.1e} for the {line.label}" for line in rates),
    }


def _replies(log: list[dict[str, Any]], language: str | None) -> list[dict[str, Any]]:
    """What was replied on the way, as `_samples` has it, the steps in place of the points."""
    found = [
        (f"step {entry.get('step')}", sample)
        for entry in log
        for sample in entry.get("samples") or ()
        if isinstance(sample, Mapping) and isinstance(sample.get("prompt"), str)
    ]
    return _prompts([(step, "", one["prompt"], str(one.get("text") or "")) for step, one in found], language)


def _curve(log: list[dict[str, Any]], key: str, label: str) -> plots.Line:
    numbers = [(entry.get("step"), entry.get(key)) for entry in log]
    return plots.Line(label, [(x, y) for x, y in numbers if is_number(x) and is_number(y)])


def _read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a log that are JSON objects; a line that a kill cut short is passed over."""
    entries = []
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue
            if isinstance(entry, dict):
                entries.append(entry)
    return entries


def _samples(records: Records) -> list[dict[str, Any]]:
    """What each point wrote to each prompt, prompts in the order in which they were given."""
    said = [
        (point, _POINT.get(point, ""), sample["prompt"], str(sample.get("text") or ""))
        for point, found in facts.points(records).items()
        for sample in found.get("samples") or ()
        if isinstance(sample, Mapping) and isinstance(sample.get("prompt"), str)
    ]
    return _prompts(said, facts.language(records))


def _prompts(said: list[tuple[str, str, str, str]], language: str | None) -> list[dict[str, Any]]:
    """(who, what that is, prompt, text) by prompt, the prompt itself left out of the text."""
    prompts: dict[str, list[tuple[str, str, str, str | None]]] = {}
    for who, gloss, prompt, text in said:
        alone = text.removeprefix(prompt)
        prompts.setdefault(prompt, []).append((who, gloss, alone, _lang(alone, language)))
    return [
        {"prompt": prompt, "lang": _lang(prompt, language), "texts": texts}
        for prompt, texts in prompts.items()
    ]


def _lang(text: str, language: str | None) -> str | None:
    """The new language's code for text in its script, so that the browser picks its glyphs (Han, Cyrillic).

    Latin letters tell nothing: the text may as well be in the original language.
    """
    from fastvocab.unicode import dominant_scripts, language_scripts, letter_scripts

    if language is None:
        return None
    scripts = dominant_scripts(letter_scripts(text))
    return language if scripts & (language_scripts(language) - {"Latn"}) else None


def _environment(records: Records) -> dict[str, Any]:
    stages = [
        {
            "name": name,
            "device": str(record.data.get("device") or table.ABSENT),
            "seconds": duration(value)
            if (value := number(record.data, "seconds")) is not None
            else table.ABSENT,
            "ended": str(record.data.get("ended") or ""),
        }
        for name, record in records.items()
    ]
    versions: dict[
        str, dict[str, None]
    ] = {}  # a dictionary for an ordered set: stages may differ in versions
    for record in records.values():
        for package, version in (record.data.get("versions") or {}).items():
            versions.setdefault(str(package), {})[str(version)] = None
    last = [*records.values()][-1].data
    total = sum(number(record.data, "seconds") or 0.0 for record in records.values())
    return {
        "stages": stages,
        "total": duration(total),
        "versions": {package: ", then ".join(found) for package, found in versions.items()},
        "system": (last.get("machine") or {}).get("system"),
        "cores": (last.get("machine") or {}).get("cores"),
        "seed": last.get("seed"),
        "git": last.get("git"),
        "code": last.get("code"),
    }


def _lineage(records: Records) -> list[dict[str, str]]:
    """The checkpoints that lie in the run folder, each with the digest of its manifest."""
    out = []
    for stage in STAGES:
        manifest = records[stage].folder / "fastvocab.json" if stage in records else None
        if manifest is not None and manifest.is_file():
            tokens = number(records[stage].figures, "tokens") if stage in _PURPOSE else None
            trained = f"{count(tokens)} tokens" if tokens else ""
            out.append({"stage": stage, "digest": files.sha256_file(manifest), "trained": trained})
    return out


def _settings(records: Records) -> str:
    from ruamel.yaml import YAML

    out = StringIO()
    yaml = YAML(pure=True)
    yaml.allow_unicode = True
    yaml.width = 4096
    yaml.dump({name: record.data.get("config") or {} for name, record in records.items()}, out)
    return out.getvalue()
