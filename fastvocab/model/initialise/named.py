"""Rows from what a person names: a reference token to clone, or a description of each new token."""

from __future__ import annotations

import json
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from fastvocab.errors import ConfigError, ModelError
from fastvocab.model import load, text
from fastvocab.model.initialise.means import mean_rows, put, subtokens
from fastvocab.model.initialise.task import Task


def clone(model: Any, task: Task) -> dict[str, Any]:
    """Each new row is the row of one named token of the base, in both matrices.

    Where that token has probability p, it and its n clones get p / (1 + n p) each: of p near 1 four clones leave a
    fifth each. For tags that stand where a tag of the base stood; no paper is known to us.

    Raises:
        ModelError: the base has no such token.
    """
    token = reference_id(task)
    for weight in load.embedding_weights(model).values():
        put(weight, task.new.ids, weight[token].detach().clone().expand(len(task.new.ids), -1))
    return {"reference": task.reference, "reference_id": token}


def reference_id(task: Task) -> int:
    """Id of the token to clone, named as the vocabulary spells it or as text that is one token.

    Raises:
        ModelError: the base has no such token, with the nearest that it has.
    """
    vocabulary: dict[str, int] = task.base_tokenizer.get_vocab()
    if task.reference in vocabulary:
        return vocabulary[task.reference]
    pieces = text.encode(task.base_tokenizer, [task.reference])[0]
    if len(pieces) == 1:
        return int(pieces[0])
    near = get_close_matches(task.reference, vocabulary, 3, 0.5)
    raise ModelError(
        f"clone:{task.reference}: the base reads this as {len(pieces)} tokens",
        rule="the reference is one token of the base, as its vocabulary spells it or as text",
        fix=f"there is: {', '.join(near)}" if near else "choose a token of the base's tokenizer.json",
    )


def description(model: Any, task: Task) -> dict[str, Any]:
    """Mean of the rows of the tokens of a text that says what the new token means, in both matrices.

    The practice for special tokens, which have no spelling that the base could read; no paper is known to us. A new
    token without a description starts from its sub-tokens.

    Raises:
        ModelError: no descriptions, empty ones, or descriptions of tokens that are not new.
    """
    found = described(task)
    notes = subtokens(model, task)
    first = task.new.ids.start
    pieces = text.encode(task.base_tokenizer, list(found.values()))
    for weight in load.embedding_weights(model).values():
        rows = mean_rows(weight, pieces).to(weight.dtype)
        for place, row in zip(found, rows):
            put(weight, range(first + place, first + place + 1), row)
    return notes | {"described": len(found), "fallback": len(task.new.ids) - len(found)}


def given(model: Any, task: Task) -> dict[str, Any]:
    """Rows that come with the tokens: whoever made the tokens knows where they start."""
    assert task.rows is not None, "checked before the model was loaded"
    for weight in load.embedding_weights(model).values():
        put(weight, task.new.ids, task.rows(weight, task))
    return {}


def described(task: Task) -> dict[int, str]:
    """Description by the place of its token among the new ones.

    A key names a token by its text, exactly or without the spaces around (``мова`` is for `` мова`` too).

    Raises:
        ModelError: as `description`.
    """
    names = [text or spelling for text, spelling in zip(task.new.texts, task.new.spellings)]
    known = {*names, *(name.strip() for name in names)}
    if strange := [name for name in task.descriptions if name not in known]:
        shown = ", ".join(map(repr, strange[:5])) + (", ..." if len(strange) > 5 else "")
        near = get_close_matches(strange[0], known, 3, 0.5)
        raise ModelError(
            f"extend.descriptions: {len(strange)} tokens are not new: {shown}",
            rule="a description is for a token that the tokenizer gained, named by its text",
            fix=f"there is: {', '.join(near)}" if near else "see new_tokens.jsonl in the tokenizer's folder",
        )
    found = {}
    for place, name in enumerate(names):
        said = task.descriptions.get(name, task.descriptions.get(name.strip()))
        if said is not None:
            found[place] = said
    if not found:
        raise ModelError(
            "init description, and no new token has a description",
            fix="give a JSON file of them: extend.descriptions=FILE",
        )
    return found


def read_descriptions(file: Path | str) -> Mapping[str, str]:
    """A JSON file ``{token text: description}``.

    Raises:
        ConfigError: not there, not JSON, or something else than texts in it.
    """
    path = Path(file).expanduser()
    rule = "a JSON object: the token's text and what it means, both strings that are not blank"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"extend.descriptions: {path}: {error.strerror}", rule=rule) from None
    except ValueError as error:
        raise ConfigError(f"extend.descriptions: {path}: {error}", rule=rule) from None
    if not isinstance(found, dict):
        raise ConfigError(f"extend.descriptions: {path} holds a {type(found).__name__}", rule=rule)
    if odd := [key for key, said in found.items() if not isinstance(said, str) or not said.strip()]:
        raise ConfigError(
            f"extend.descriptions: {path}: no description of {', '.join(map(repr, odd[:5]))}", rule=rule
        )
    return found
