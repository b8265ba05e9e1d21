"""Evaluation of tags: what they are to the model before and after, and what the same training without them comes to.

The control is the base, trained by `fastvocab.train.instruct` on the same conversations in the same order for as many
steps, its replies written without the tags (`Layout.without`): the same reasoning, then the same answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from fastvocab import console
from fastvocab.config.models import EvaluateSection, InstructSection, LoraSection
from fastvocab.control import arms
from fastvocab.control.arms import CONTROL, Arm
from fastvocab.evaluate.replies import Questions, rendered
from fastvocab.evaluate.stage import evaluate
from fastvocab.evaluate.tags import Probabilities, Tags
from fastvocab.layout import Layout
from fastvocab.model import initialise, text
from fastvocab.model.new_tokens import NewTokens
from fastvocab.model.reference import Base
from fastvocab.train.instruct import instruct

Conversations = Callable[[], Iterable[Mapping[str, Any]]]


def evaluate_tags(
    folder: Path,
    *,
    base: Base,
    points: dict[str, Path],
    section: EvaluateSection,
    tokenizer: Path,
    layout: Layout | None,
    rows: Conversations,
    heldout: Conversations,
    replay: Conversations,
    named: Sequence[str],
    init: str,
    tuned: InstructSection,
    lora: LoraSection,
    steps: int,
    key: str,
    saves: Path,
    load_in_4bit: bool,
    seed: int,
) -> dict[str, Any]:
    """`fastvocab.evaluate.stage.evaluate` of a line that was given tags.

    Args:
        points: of the line, ``instruct`` the last.
        tokenizer: folder of the tokenizer stage.
        layout: of replies; None where there is none, and so nothing to be read back.
        rows, heldout, replay: give conversations; the last those in the language that is kept.
        named: the tags, those that the base had already among them.
        init: how rows start that were not given a way of their own.
        tuned, lora: what instruction tuning was done with, for so many ``steps``.
        key, saves: of the stage; a finished control waits under ``saves`` until the stage is done.
    """
    tok = text.tokenizer(points["instruct"])
    asked = [row["messages"] for row in islice(heldout(), section.questions)]
    if not asked and section.questions:
        console.warn(
            "no conversation is held out, of so few: how replies are laid out is not measured, and nothing is "
            "compared; give more of them"
        )
    new = NewTokens.read(tokenizer)
    measured: dict[str, Any] = {}
    if new.ids and asked:
        tags = _tags(new, text.tokenizer(base.tokenizer_folder), init)
        measured["tags"] = Probabilities(tags, rendered(tok, asked))
    if layout is not None and asked:
        measured["replies"] = Questions.of(asked, layout, section.reply_tokens, tok)
    figures: dict[str, Any] = {}
    if section.control and layout is not None and asked:
        plain = layout.without(named)
        arm = _control(
            base, layout, plain, rows=rows, replay=replay, tuned=tuned, lora=lora, steps=steps, key=key,
            saves=saves / CONTROL, load_in_4bit=load_in_4bit, seed=seed,
        )  # fmt: skip
        points, measured = points | {CONTROL: arm.folder}, measured | {"untagged": plain}
        figures["untagged"] = {"layout": plain.text, "steps": arm.figures["steps"]}
    return figures | evaluate(
        folder, base=base, points=points, section=section, load_in_4bit=load_in_4bit, seed=seed, **measured
    )


def _tags(new: NewTokens, own: Any, init: str) -> Tags:
    started = replace(new, inits=[one or init for one in new.inits])
    return Tags(new.ids, new.spellings, new.base_ids, initialise.references(started, own))


def _control(
    base: Base,
    layout: Layout,
    plain: Layout,
    *,
    rows: Conversations,
    replay: Conversations,
    tuned: InstructSection,
    lora: LoraSection,
    steps: int,
    key: str,
    saves: Path,
    load_in_4bit: bool,
    seed: int,
) -> Arm:
    changed: dict[str, Any] = {
        "steps": steps,
        "minutes": None,
        "tokens": None,
        "reply": plain.text,
        "evaluations": 0,
    }
    if tuned.embeddings == "new_rows":  # there are none
        changed["embeddings"] = "frozen"
    section = tuned.model_copy(update=changed)

    def untagged() -> Iterable[dict[str, Any]]:
        for row in rows():
            *before, reply = row["messages"]
            fields = layout.read(reply["content"])
            assert fields is not None, "rows that are not laid out so are left out"
            yield {"messages": [*before, {**reply, "content": plain.write(fields)}]}

    def make(folder: Path) -> dict[str, Any]:
        return arms.without_tokens(folder, base, load_in_4bit=load_in_4bit, seed=seed)

    def fit(folder: Path, start: Path, steps_folder: Path, _: dict[str, Any]) -> dict[str, Any]:
        console.say(f"  {CONTROL}: {steps} steps without the tags", style="bold")
        return instruct(
            folder, previous=start, rows=lambda dropped: untagged(), section=section, lora=lora,
            replay=lambda dropped: (dict(row) for row in replay()),
            key=f"{key}:{CONTROL}", saves_folder=steps_folder, seed=seed,
        )  # fmt: skip

    return arms.kept(CONTROL, saves, key, make, fit)
