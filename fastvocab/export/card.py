"""The model card: README.md of an exported folder, made from the records of its run.

Nothing of the machine goes into it: no paths, and no setting that is not named here. What the model was made of and
what it cannot do is in `fastvocab.export.card_sections`.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastvocab import console, facts, outcome, table
from fastvocab.export import front_matter
from fastvocab.export.card_sections import data, escape, limits, made_with, making, not_known, versions
from fastvocab.facts import Records
from fastvocab.numbers import count, number
from fastvocab.run import Record

_TEMPLATES = ("chat_template.jinja", "chat_template.json")
_SETTINGS = "tokenizer_config.json"


def card(records: Records, *, gguf: Sequence[str] = ()) -> str:
    """The model card as Markdown with YAML front matter that the Hub accepts.

    Args:
        records: finished stages by name. The export stage may be missing: the card is written inside it.
        gguf: names of GGUF files beside it.

    Returns:
        Text of README.md.
    """
    sections = [
        front_matter.text(records, gguf=bool(gguf)),
        f"# {_title(records)}",
        " ".join(map(escape, table.sentences(records))),
        _measured(records),
        _control(records),
        _how_to_use(_has_template(records)),
        _gguf(gguf),
        _replies(records),
        making(records),
        data(records),
        limits(records),
        versions(records),
    ]
    return console.hide_secrets("\n\n".join(filter(None, sections)) + "\n")


def card_of_checkpoint(
    folder: Path, manifest: dict[str, Any], figures: dict[str, Any], *, gguf: Sequence[str] = ()
) -> str:
    """The card of a checkpoint that belongs to no run: what its manifest knows, and what is not known.

    Args:
        folder: the exported model, which tells whether there is a chat template.
        manifest: of the checkpoint.
        figures: of `fastvocab.model.checkpoint.merge`.
        gguf: names of GGUF files beside it.
    """
    records = {manifest["stage"]: Record(folder, {"base": manifest["base"], "figures": {}})}
    base, vocabulary = facts.base(records), manifest["vocabulary"]
    name = escape(base.title) if base else "A model"
    sections = [
        front_matter.text(records, gguf=bool(gguf)),
        f"# {name}, vocabulary extended",
        f"{name} with {count(vocabulary['tokens'])} tokens; its embedding matrix had "
        f"{count(vocabulary['base_rows'])} rows and has {count(vocabulary['rows'])}.",
        _how_to_use(template_in(folder)),
        _gguf(gguf),
        _making_of_checkpoint(records, manifest, figures),
        _limits_of_checkpoint(records, manifest),
    ]
    return console.hide_secrets("\n\n".join(filter(None, sections)) + "\n")


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
    return "## How it was made\n\n" + "\n".join(f"- {item}" for item in items) + "\n\n" + made_with(records)


def _limits_of_checkpoint(records: Records, manifest: dict[str, Any]) -> str:
    items = [
        "The checkpoint does not record the text that it was trained on, and nothing was measured on this model."
    ]
    if manifest["stage"] == "extend":
        items.append("The newest rows have not been trained: the model does not write the new language yet.")
    return "## Limits\n\n" + "\n".join(f"- {item}" for item in [*items, *not_known(records)])


def _title(records: Records) -> str:
    base, language = facts.base(records), facts.language(records)
    name = escape(base.title) if base else "A model"
    kind = facts.recipe(records)
    if kind == "special_tokens":
        return (
            f"{name} with the tokens {', '.join(escape(str(t['token'])) for t in facts.named(records)[:6])}"
        )
    if kind == "item_tokens":
        return f"{name}, recommending {count(facts.items(records).get('items', 0))} items"
    return f"{name}, vocabulary extended for {language or 'a new language'}"


def _measured(records: Records) -> str:
    columns, rows = table.table(records)
    if not rows:
        return ""
    lines = [
        "| | " + " | ".join(map(escape, columns)) + " | |",
        "|---|" + "---:|" * len(columns) + "---|",
        *("| " + " | ".join(map(escape, (row.label, *row.cells, row.note))) + " |" for row in rows),
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
        "| | " + " | ".join(map(escape, columns)) + " |",
        "|---|" + "---:|" * len(columns),
        *("| " + " | ".join(map(escape, (label, *cells))) + " |" for label, cells in rows),
    ]
    said = " ".join(map(escape, outcome.sentences(records)))
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


def _gguf(names: Sequence[str]) -> str:
    if not names:
        return ""
    commands = "\n".join(f"llama-cli -m {shlex.quote(name)}" for name in names)
    return (
        f"## GGUF\n\nFor llama.cpp and what is built on it (Ollama, LM Studio):\n\n```sh\n{commands}\n```\n\n"
        "Its tokenizer was read back, and gives the ids that the model was trained on."
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
            if outputs & set(_TEMPLATES) or template_in(record.folder):
                return True
            if (record.folder / _SETTINGS).is_file():
                return False
    return False


def template_in(folder: Path) -> bool:
    """Is there a chat template, as a file or in the tokenizer's configuration?"""
    if any((folder / name).is_file() for name in _TEMPLATES):
        return True
    config = folder / _SETTINGS
    return config.is_file() and bool(json.loads(config.read_text(encoding="utf-8")).get("chat_template"))
