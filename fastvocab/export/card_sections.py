"""Sections of the model card: how a model was made, from what data, and what is not known of it."""

from __future__ import annotations

import re

from fastvocab import facts
from fastvocab.facts import Records
from fastvocab.numbers import count, duration, number, size


def making(records: Records) -> str:
    """What was added, proved, trained and exported, as a list."""
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
            f"**Chat vector**: the difference between {escape(chat.hub or chat.title)} and the base was added, "
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
    return "## How it was made\n\n" + listed + made_with(records)


def made_with(records: Records) -> str:
    """The tools, and the base by its fingerprint."""
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
            f"it stands on {escape(root.hub or root.title)}, fingerprint `{root.fingerprint}`."
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
            f"{duration(seconds)} on {escape(str(records[stage].data.get('device') or 'one device'))}"
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


def data(records: Records) -> str:
    """Sources with their licences, and how much was kept; empty where none is known."""
    rows = []
    for source in facts.sources(records):
        name = escape(f"{source.name} {source.version or ''}".strip())
        link = (
            f"[{name}]({source.url})"
            if source.url and re.fullmatch(r"https://[^\s()<>]+", source.url)
            else name
        )
        rows.append(f"| {escape(source.role)} | {link} | {escape(source.licence or 'not recorded')} | "
                    f"{escape(source.citation or '')} |")  # fmt: skip
    if not rows:
        return ""
    kept = [
        f"{escape(label)}: {count(units['documents'])} documents, {size(units['bytes'])}"
        for label, units in facts.splits(records)
    ]
    text = "## Data\n\n| used as | source | licence | citation |\n|---|---|---|---|\n" + "\n".join(rows)
    return text + (f"\n\nAfter cleaning: {'; '.join(kept)}." if kept else "")


def limits(records: Records) -> str:
    """What to expect and what not, by what was trained and measured."""
    items = []
    tokens = sum(number(facts.figures(records, stage), "tokens") or 0 for stage in ("pretrain", "instruct"))
    if facts.recipe(records) != "new_language":
        items = [
            f"It was trained on {count(tokens)} tokens of one kind of data; what it forgot of anything else was not "
            "measured.",
            "Measured on held-out data of the same sources; other data may differ.",
        ]
        return "## Limits\n\n" + "\n".join(f"- {item}" for item in [*items, *not_known(records)])
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
    return "## Limits\n\n" + "\n".join(f"- {item}" for item in [*items, *not_known(records)])


def not_known(records: Records) -> list[str]:
    """Limits of every model: what nobody measured, licences that nobody recorded."""
    items = ["Not measured: whether answers are true, safe or free of bias; any benchmark of abilities."]
    base = facts.root(records)
    if base is None or not base.licence:
        items.append("The licence of the base model was not recorded here; it holds for this model as well.")
    if (chat := facts.chat_vector(records)) is not None:
        items.append(
            f"The licence of {escape(chat.hub or chat.title)}, whose skills were added, holds for it as well."
        )
    return items


def versions(records: Records) -> str:
    """Versions of the packages; empty where no record has them."""
    found: dict[str, str] = {}
    for record in records.values():
        found |= record.data.get("versions") or {}
    if not found:
        return ""
    return "## Versions\n\n" + ", ".join(f"{escape(k)} {escape(v)}" for k, v in found.items())


def escape(text: str) -> str:
    """``text`` that means itself in Markdown: no HTML, links or emphasis, and on one line."""
    text = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]#|$~])", r"\\\1", text)
