"""Where new rows start.

================================  ==============================================================================
``counted``                       ``calibrated``, then what follows what in the text, up to 4 MB (`counted`)
``calibrated``                    a start from the base's rows, then the frequency of each token (`calibration`)
``distilled``                     ``calibrated``, then to read as the model read the old spelling (`distilled`)
``subtokens``, ``asymmetric``     from the rows of what the base read in the same place (`means`)
``clone:TOKEN``, ``description``  from the rows of a token or a text that a person names (`named`)
``mean``, ``noisy_mean``, ``random``      the weak baselines (`means`)
``unsloth_mean``, ``unsloth_interpolation``   as ``add_new_tokens`` leaves them (`unsloth_own`)
``item_text``, ``item_centroid``  of item tokens, from what comes with them (`fastvocab.items.starts`)
``auto``                          whichever of a few trains best over 50 steps (`choose`)
================================  ==============================================================================

A token that was given a way of its own (``clone:TOKEN``, ``description:TEXT``, ``subtokens``) is started by that.

Rows are worked out in float32 and written in the matrix's dtype; a head of its own gets rows as well. Old rows and
padding are never touched.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from fastvocab.errors import ModelError
from fastvocab.model.initialise import calibration, choose, counted, distilled, means, named, unsloth_own
from fastvocab.model.initialise.calibration import calibrate, count
from fastvocab.model.initialise.means import subtoken_mean
from fastvocab.model.initialise.padding import silence
from fastvocab.model.initialise.task import Method, Task
from fastvocab.model.new_tokens import NewTokens

__all__ = [
    "METHODS",
    "Method",
    "Task",
    "calibrate",
    "check",
    "count",
    "reads_text",
    "references",
    "silence",
    "spread",
    "start",
    "subtoken_mean",
]

#: By the name in ``extend.init``; ``clone`` is written with its token there, ``clone:TOKEN``.
METHODS: dict[str, Method] = {
    "counted": counted.counted,
    "calibrated": calibration.calibrated,
    "distilled": distilled.distilled,
    "subtokens": means.subtokens,
    "asymmetric": means.asymmetric,
    "clone": named.clone,
    "description": named.description,
    "mean": means.mean,
    "noisy_mean": means.noisy_mean,
    "random": means.random,
    "unsloth_mean": unsloth_own.unsloth_mean,
    "unsloth_interpolation": unsloth_own.unsloth_interpolation,
}
#: Those of tokens that bring their rows along.
_GIVEN = ("item_text", "item_centroid")

#: Methods that read text of the new language.
_OF_TEXT = ("counted", "calibrated", "distilled")


def reads_text(init: str) -> bool:
    """Whether a start as ``extend.init`` names it depends on text."""
    return init in (*_OF_TEXT, "auto")


def check(init: str, task: Task) -> None:
    """What can be refused before a model is loaded.

    Raises:
        ModelError: no such method, no text where it is read, no such token, no fitting description.
    """
    if init == "auto":
        choose.check(task)
    elif init in _OF_TEXT:
        calibration.check(init, task)
    elif init == "clone":
        named.reference_id(task)
    elif init in _GIVEN:
        if task.rows is None:
            raise ModelError(
                f"init {init}", rule="it is for the tokens of items", fix="use the recipe item_tokens"
            )
    elif init not in METHODS:
        raise ModelError(f"init {init!r}", rule=f"one of auto, {', '.join(METHODS)}")
    if (init == "description" and not all(task.new.inits or [None])) or task.descriptions:
        named.described(task)
    wrong = []
    for method, own in _own(task):
        try:
            if method == "clone":
                named.reference_id(own)
        except ModelError as error:
            wrong.append(error)
    if wrong:
        first = wrong[0]
        raise ModelError("; ".join(error.message for error in wrong), rule=first.rule, fix=first.fix)


def start(init: str, model: Any, task: Task) -> dict[str, Any]:
    """Start the new rows of a model, in place.

    Args:
        init: a key of `METHODS`, or ``auto``.
        model: grown (`extend.grow`), by the way of `unsloth_own.WAYS` where the method has one.

    Returns:
        ``init``, the method that was taken (never ``auto``); ``initialise``, its notes; and after ``auto`` the
        table of the ``probe``.
    """
    figures: dict[str, Any] = {}
    if not task.new.ids:
        return {"init": "none", "initialise": {}}
    if all(own := task.new.inits or [None]):  # nothing is left for it
        figures["init"] = ", ".join(dict.fromkeys(str(one) for one in own))
        figures["initialise"] = _start_own(model, task)
        return figures
    if init == "auto":
        figures["probe"] = choose.rank(model, task, METHODS)
        init = figures["probe"]["methods"][0]["method"]
    figures["initialise"] = (named.given if init in _GIVEN else METHODS[init])(model, task)
    figures["init"] = f"clone:{task.reference}" if init == "clone" else init
    if task.new.own:
        figures["initialise"] |= _start_own(model, task)
    return figures


def _own(task: Task) -> Iterator[tuple[str, Task]]:
    """Method and task of each token that was given a way of its own."""
    for place, init in task.new.own.items():
        method, _, said = init.partition(":")
        alone = replace(task, new=task.new.one(place), reference=said, descriptions={})
        if method == "description":
            alone = replace(alone, descriptions={alone.new.texts[0] or alone.new.spellings[0]: said})
        yield method, alone


def _start_own(model: Any, task: Task) -> dict[str, Any]:
    for method, alone in _own(task):
        METHODS[method](model, alone)
    names = task.new.spellings
    return {"own": {names[place]: init for place, init in task.new.own.items()}}


def references(new: NewTokens, base_tokenizer: Any) -> list[int | None]:
    """Of each new token the base's token whose row it was cloned from, as an id; None for another start."""
    task = Task(new, base_tokenizer, base_tokenizer)
    out: list[int | None] = [None] * len(new.ids)
    for place, (method, own) in zip(new.own, _own(task)):
        if method == "clone":
            out[place] = named.reference_id(own)
    return out


def spread(weight: Any, new_ids: range) -> dict[str, float]:
    """Norms of old and new rows, for the record: rows much longer or shorter than the old ones train badly."""
    norms = weight.detach().float().norm(dim=1).cpu()
    new = norms[new_ids.start : new_ids.stop]
    return {"old_norm": float(norms[: new_ids.start].mean()), "new_norm": float(new.mean())}
