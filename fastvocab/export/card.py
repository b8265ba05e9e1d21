"""The model card: README.md of an exported folder, made from the records of its run.

Nothing of the machine goes into it: no paths, and no setting that is not named here.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from fastvocab import console, facts, outcome, table
from fastvocab.export import front_matter
from fastvocab.facts import Records
from fastvocab.numbers import count, duration, number, size
from fastvocab.run import Record

_TEMPLATES = ("chat_template.jinja", "chat_template.json")
_SETTINGS = "tokenizer_config.json"


def card(records: Records) -> str:
    """The model card as Markdown with YAML front matter that the Hub accepts.

    Args:
        records: finished stages by name. The export stage may be missing: the card is written inside it.

    Returns:
        Text of README.md.
    """
    sections = [
        front_matter.text(records),
        f"# {_title(records)}",
        " ".join(map(_escape, table.sentences(records))),
        _measured(records),
        _control(records),
        _how_to_use(_has_template(records)),
        _replies(records),
        _making(records),
        _data(records),
        _limits(records),
        _versions(records),
    ]
    return console.hide_secrets("\n\n".join(filter(None, sections)) + "\n")


def card_of_checkpoint(folder: Path, manifest: dict[str, Any], figures: dict[str, Any]) -> str:
    """The card of a checkpoint that belongs to no run: what its manifest knows, and what is not known.

    Args:
        folder: the exported model, which tells whether there is a chat template.
        manifest: of the checkpoint.
        figures: of `fastvocab.model.checkpoint.merge`.
    """
    records = {manifest["stage"]: Record(folder, {"base": manifest["base"], "figures": {}})}
    base, vocabulary = facts.base(records), manifest["vocabulary"]
    name = _escape(base.title) if base else "A model"
    sections = [
        front_matter.text(records),
        f"# {name}, vocabulary extended",
        f"{name} with {count(vocabulary['tokens'])} tokens; its embedding matrix had "
        f"{count(vocabulary['base_rows'])} rows and has {count(vocabulary['rows'])}.",
        _how_to_use(_template_in(folder)),
        _making_of_checkpoint(records, manifest, figures),
        _limits_of_checkpoint(records, manifest),
    ]
    return console.hide_secrets("\n\n".join(sections) + "\n")


def _making_of_checkpoint(records: Records, manifest: dict[str, Any], figures: dict[str, Any]) -> str:
    items = [
        f"**Extension**: {count(e['stop'] - e['first'])} tokens, new rows started by `{e['init']}`."
        for e in manifest["extensions"]
        if e["stop"] > e["first"]
    ]
    items += [
        f"**Training** after `{entry['stage']}`: {count(entry['tokens_after'])} tokens."
        for entry in manifest["lineage"]
        if number(entry, "tokens_after")
    ]
    if lora := manifest["lora"]:
        items.append(f"**Adapter**: LoRA of rank {lora['r']}, merged in.")
    dtype, parameters = figures["dtype"], count(figures["parameters"])
    items.append(f"**Export**: {parameters} parameters in {dtype}, {count(figures['rows'])} rows.")
    return "## How it was made\n\n" + "\n".join(f"- {item}" for item in items) + "\n\n" + _made_with(records)


def _limits_of_checkpoint(records: Records, manifest: dict[str, Any]) -> str:
    items = [
        "The checkpoint does not record the text that it was trained on, and nothing was measured on this model."
    ]
    if manifest["stage"] == "extend":
        items.append("The newest rows have not been trained: the model does not write the new language yet.")
    return "## Limits\n\n" + "\n".join(f"- {item}" for item in [*items, *_not_known(records)])


def _title(records: Records) -> str:
    base, language = facts.base(records), facts.language(records)
    name = _escape(base.title) if base else "A model"
    kind = facts.recipe(records)
    if kind == "special_tokens":
        return (
            f"{name} with the tokens {', '.join(_escape(str(t['token'])) for t in facts.named(records)[:6])}"
        )
    if kind == "item_tokens":
        return f"{name}, recommending {count(facts.items(records).get('items', 0))} items"
    return f"{name}, vocabulary extended for {language or 'a new language'}"


def _measured(records: Records) -> str:
    columns, rows = table.table(records)
    if not rows:
        return ""
    lines = [
        "| | " + " | ".join(map(_cell, columns)) + " | |",
        "|---|" + "---:|" * len(columns) + "---|",
        *("| " + " | ".join(map(_cell, (row.label, *row.cells, row.note))) + " |" for row in rows),
    ]
    if facts.recipe(records) != "new_language":
        legend = (
            "Columns are the points at which it was measured: `base` is the model before; `extend` has new rows and no "
            "training; then the trained model; `control`, where it is there, is the same training without the tokens."
        )
        return "## Before and after\n\n" + "\n".join(lines) + "\n\n" + legend
    legend = (
        "Columns are the points at which it was measured: `base` is the model before; `extend` has new rows "
        "and no training; then after continual pretraining (`pretrain`) and instruction tuning, or what came in its "
        "place (`instruct`), where they were done; `control` and `plain`, where they are there, are other models, "
        "trained for the same time without new tokens and in the plain way. A decode step makes one token. Bits per "
        "byte compare models with different tokenizers: the same text, each piece scored after a BOS."
    )
    return "## Before and after\n\n" + "\n".join(lines) + "\n\n" + legend


def _control(records: Records) -> str:
    columns, rows = outcome.table(records)
    if not columns:
        return ""
    lines = [
        "| | " + " | ".join(map(_cell, columns)) + " |",
        "|---|" + "---:|" * len(columns),
        *("| " + " | ".join(map(_cell, (label, *cells))) + " |" for label, cells in rows),
    ]
    said = " ".join(map(_escape, outcome.sentences(records)))
    return f"## What the extension gained\n\n{said}\n\n" + "\n".join(lines)


def _how_to_use(template: bool) -> str:
    load = (
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        'folder = "."  # this folder, or the name of this model on the Hub\n'
        "tokenizer = AutoTokenizer.from_pretrained(folder)\n"
        'model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")\n'
    )
    if template:
        ask = (
            'messages = [{"role": "user", "content": "..."}]\n'
            "inputs = tokenizer.apply_chat_template(\n"
            '    messages, add_generation_prompt=True, return_tensors="pt", return_dict=True\n)\n'
        )
        note = "The folder has a chat template."
    else:
        ask = 'inputs = tokenizer("...", return_tensors="pt")\n'
        note = "There is no chat template: the model continues text."
    answer = (
        "output = model.generate(**inputs, max_new_tokens=100)\n"
        'print(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))\n'
    )
    return (
        f"## How to use it\n\n```python\n{load}{ask}{answer}```\n\n{note} It is an ordinary merged model: "
        "no adapter, no code of its own, and nothing of fastvocab or Unsloth is needed to run it."
    )


def _replies(records: Records) -> str:
    layout = facts.setting(records, "instruct", "reply")
    if not isinstance(layout, str):
        return ""
    return (
        f"## Replies\n\nReplies are laid out as `{layout.replace('`', '')}`. The tokenizer knows it "
        "(`response_template`), so that transformers takes a reply apart:\n\n```python\n"
        'prompt = tokenizer.decode(inputs["input_ids"][0])\n'
        'reply = tokenizer.decode(output[0, inputs["input_ids"].shape[1] :])\n'
        "print(tokenizer.parse_response(reply, prefix=prompt))\n```"
    )


def _has_template(records: Records) -> bool:
    """Whether the newest stage with a tokenizer left a chat template, as a file or in its configuration."""
    for name in ("export", "instruct", "pretrain", "extend", "tokenizer"):
        if name in records:
            record = records[name]
            outputs = {str(o["path"]).rpartition("/")[2] for o in record.data.get("outputs") or ()}
            if outputs & set(_TEMPLATES) or _template_in(record.folder):
                return True
            if (record.folder / _SETTINGS).is_file():
                return False
    return False


def _template_in(folder: Path) -> bool:
    if any((folder / name).is_file() for name in _TEMPLATES):
        return True
    config = folder / _SETTINGS
    return config.is_file() and bool(json.loads(config.read_text(encoding="utf-8")).get("chat_template"))


def _making(records: Records) -> str:
    items = []
    rows = facts.vocabulary(records)
    if {"base_tokens", "tokens"} <= rows.keys():
        init = facts.figures(records, "extend").get("init")
        start = f"; new rows started by `{init}`" if isinstance(init, str) else ""
        items.append(
            f"**Vocabulary**: {count(rows['tokens'] - rows['base_tokens'])} tokens "
            + ("added to" if facts.named(records) else "merged into")
            + f" the base tokenizer{start}."
        )
    if held := [label for label, holds in facts.proofs(records) if holds]:
        items.append(f"**Proved of the tokenizer**: {'; '.join(held)}.")
    for stage, label in (("pretrain", "Continual pretraining"), ("instruct", "Instruction tuning")):
        if stage in records:
            items.append(f"**{label}**: {_trained(records, stage)}.")
    if (chat := facts.chat_vector(records)) is not None:
        items[-1] = (
            f"**Chat vector**: the difference between {_escape(chat.hub or chat.title)} and the base was added, "
            f"without training. Fingerprint of that model: `{chat.fingerprint}`."
        )
    found = facts.figures(records, "export")
    if number(found, "parameters") is not None:
        dtype = found.get("dtype")
        items.append(
            f"**Export**: adapters merged, {count(found['parameters'])} parameters"
            + (f" in {dtype}" if dtype else "")
            + (f", {count(found['rows'])} rows" if number(found, "rows") is not None else "")
            + (
                f"; rounding moved a logit by at most {found['rounding']:.3g} on the probe"
                if number(found, "rounding") is not None
                else ""
            )
            + "."
        )
    listed = "\n".join(f"- {item}" for item in items) + ("\n\n" if items else "")
    return "## How it was made\n\n" + listed + _made_with(records)


def _made_with(records: Records) -> str:
    made = "Made with fastvocab, on top of [Unsloth](https://github.com/unslothai/unsloth)."
    base = facts.base(records)
    if base and base.fingerprint:
        made += f" Fingerprint of the base: `{base.fingerprint}`" + (
            f", commit `{base.commit}`." if base.commit else "."
        )
    root = facts.root(records)
    if root != base and root is not None:
        tokens = facts.tokens_before(records)  # of one that was adopted nothing is known
        trained = f", trained on {count(tokens)} tokens" if tokens else ""
        made += (
            f" That base is a checkpoint of fastvocab itself{trained}; "
            f"it stands on {_escape(root.hub or root.title)}, fingerprint `{root.fingerprint}`."
        )
    return made


def _trained(records: Records, stage: str) -> str:
    found = facts.figures(records, stage)
    lora = found.get("lora") or (found.get("settings") or {}).get("lora") or {}
    parts = [
        f"{count(value)} {unit}"
        for key, unit in (
            ("steps", "steps"),
            ("tokens", "tokens"),
            ("trainable_parameters", "trainable parameters"),
        )
        if (value := number(found, key)) is not None
    ]
    if (seconds := number(found, "seconds_training")) is not None:
        parts.append(
            f"{duration(seconds)} on {_escape(str(records[stage].data.get('device') or 'one device'))}"
        )
    if (rank := number(lora, "r")) is not None:
        parts.append(f"LoRA of rank {rank:.0f}")
    embeddings = (found.get("settings") or {}).get("embeddings")
    rows_rate = "new_rows_learning_rate" if embeddings == "new_rows" else "embedding_learning_rate"
    rates = [number(found, "settings", key) for key in ("learning_rate", rows_rate)]
    if rates[0] is not None:
        parts.append(f"learning rate {rates[0]:g}")
    if embeddings == "frozen":
        parts.append("embedding rows frozen")
    elif embeddings in ("full", "new_rows") and rates[1] is not None:
        which = "all" if embeddings == "full" else "new"
        parts.append(f"{which} embedding rows at {rates[1]:g}")
    first, last = number(found, "loss_first"), number(found, "loss_last")
    if first is not None and last is not None:
        parts.append(f"training loss {first:.3f} to {last:.3f}")
    return ", ".join(parts) or "done"


def _data(records: Records) -> str:
    rows = []
    for source in facts.sources(records):
        name = _cell(f"{source.name} {source.version or ''}".strip())
        link = (
            f"[{name}]({source.url})"
            if source.url and re.fullmatch(r"https://[^\s()<>]+", source.url)
            else name
        )
        rows.append(f"| {_cell(source.role)} | {link} | {_cell(source.licence or 'not recorded')} | "
                    f"{_cell(source.citation or '')} |")  # fmt: skip
    if not rows:
        return ""
    kept = [
        f"{_escape(label)}: {count(units['documents'])} documents, {size(units['bytes'])}"
        for label, units in facts.splits(records)
    ]
    text = "## Data\n\n| used as | source | licence | citation |\n|---|---|---|---|\n" + "\n".join(rows)
    return text + (f"\n\nAfter cleaning: {'; '.join(kept)}." if kept else "")


def _limits(records: Records) -> str:
    items = []
    tokens = sum(number(facts.figures(records, stage), "tokens") or 0 for stage in ("pretrain", "instruct"))
    if facts.recipe(records) != "new_language":
        items = [
            f"It was trained on {count(tokens)} tokens of one kind of data; what it forgot of anything else was not "
            "measured.",
            "Measured on held-out data of the same sources; other data may differ.",
        ]
        return "## Limits\n\n" + "\n".join(f"- {item}" for item in [*items, *_not_known(records)])
    if tokens:
        before = facts.tokens_before(records)
        items.append(
            f"It was trained on {count(tokens)} tokens"
            + (f", after {count(before)} of its base's training" if before else " in all")
            + ", against the billions or trillions that a "
            "language is usually learnt from. Expect fewer tokens and faster decoding; expect no more than "
            "the base knows, and mistakes in the new language."
        )
    else:
        items.append("The new rows have not been trained: the model does not write the new language yet.")
    measured = facts.points(records)
    if measured:
        last = [*facts.line(records).values()][-1]
        scored, documents = (number(last, "target", name) for name in ("bytes", "documents"))
        known = [f"{count(scored)} bytes of the new language"] if scored else []
        known += [f"from {count(documents)} documents"] if documents else []
        items.append(
            "Measured on held-out text"
            + (f" ({' '.join(known)})" if known else "")
            + ": tokens per word, bits per byte, decode steps. It is a small sample of the same sources; "
            "other text may differ."
        )
        if documents and (last.get("target") or {}).get("too_few_documents"):
            items.append("These are too few documents for the intervals to be trusted.")
        if not any(number(p, "original", "bits_per_byte") is not None for p in measured.values()):
            items.append("What was forgotten of the original language was not measured.")
        if "control" not in measured:
            items.append(
                "There was no control run: the same training without new tokens may reach other bits per "
                "byte."
            )
    else:
        items.append("Nothing was measured after training.")
    return "## Limits\n\n" + "\n".join(f"- {item}" for item in [*items, *_not_known(records)])


def _not_known(records: Records) -> list[str]:
    items = ["Not measured: whether answers are true, safe or free of bias; any benchmark of abilities."]
    base = facts.root(records)
    if base is None or not base.licence:
        items.append("The licence of the base model was not recorded here; it holds for this model as well.")
    if (chat := facts.chat_vector(records)) is not None:
        items.append(
            f"The licence of {_escape(chat.hub or chat.title)}, whose skills were added, holds for it as well."
        )
    return items


def _versions(records: Records) -> str:
    versions: dict[str, str] = {}
    for record in records.values():
        versions |= record.data.get("versions") or {}
    if not versions:
        return ""
    return "## Versions\n\n" + ", ".join(f"{_escape(k)} {_escape(v)}" for k, v in versions.items())


def _escape(text: str) -> str:
    """``text`` that means itself in Markdown: no HTML, links or emphasis, and on one line."""
    text = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]#|$~])", r"\\\1", text)


_cell = _escape
